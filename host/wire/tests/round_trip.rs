//! What is sent is what arrives, in whatever pieces it comes.

mod random;
mod sample;

use bps_types::Nanos;
use bps_wire::*;
use proptest::prelude::*;
use random::any_message;
use sample::{LIMITS, bytes_of, one_of_each};

proptest! {
    #[test]
    fn messages(message in any_message(), cut_every in 1usize..700) {
        let encoded = encode(&message, &LIMITS).expect("keeps the bounds");
        let bytes = bytes_of(&encoded);
        prop_assert_eq!(bytes.len() as u64, encoded.bytes());
        let mut reader = FrameReader::new(LIMITS);
        let mut arrived = None;
        for mut piece in bytes.chunks(cut_every) {
            prop_assert!(arrived.is_none(), "complete before its last byte");
            arrived = reader.feed(&mut piece).expect("not damaged");
            prop_assert!(piece.is_empty());
        }
        prop_assert_eq!(arrived, Some(message));
        prop_assert!(reader.is_between_frames());
    }

    #[test]
    fn hellos(low: u16, high: u16, name in ".{0,60}", software in ".{0,60}", frame_bytes_max: u64) {
        let hello = Hello { versions: (low, high), name, software, frame_bytes_max };
        let bytes = encode_hello(&hello).expect("keeps the bounds");
        let fixed = bytes.first_chunk().expect("as long as that");
        prop_assert_eq!(hello_bytes(fixed).expect("fits"), bytes.len());
        prop_assert_eq!(decode_hello(&bytes).expect("not damaged"), hello);
    }

    #[test]
    fn any_bytes_end_in_an_error_or_wait_for_more(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut reader = FrameReader::new(LIMITS);
        prop_assert!(!matches!(reader.feed(&mut bytes.as_slice()), Ok(Some(_))));
        prop_assert!(decode_hello(&bytes).is_err());
    }
}

#[test]
fn frames_follow_each_other() {
    let messages = one_of_each();
    let bytes: Vec<u8> =
        messages.iter().flat_map(|m| bytes_of(&encode(m, &LIMITS).expect("keeps the bounds"))).collect();
    let (mut rest, mut reader, mut arrived) = (bytes.as_slice(), FrameReader::new(LIMITS), Vec::new());
    while let Some(message) = reader.feed(&mut rest).expect("not damaged") {
        arrived.push(message);
    }
    assert_eq!(arrived, messages);
}

#[test]
fn tensors_are_shared_not_copied() {
    let message = one_of_each().into_iter().find(|m| matches!(m, Message::Execute(_))).expect("is there");
    let Message::Execute(execute) = &message else { unreachable!() };
    let encoded = encode(&message, &LIMITS).expect("keeps the bounds");
    assert_eq!(encoded.parts[1].as_ptr(), execute.tensors[0].data.as_ptr());
}

#[test]
fn a_probe_arrives_as_a_ping_with_payload() {
    let encoded = encode_probe(5, Nanos(6), 32 << 10, &LIMITS).expect("fits");
    assert!(!encoded.header.is_control() && encoded.bytes() > 32 << 10);
    let arrived = FrameReader::new(LIMITS).feed(&mut bytes_of(&encoded).as_slice());
    assert_eq!(arrived, Ok(Some(Message::Ping { token: 5, at: Nanos(6) })));
}

#[test]
fn hosts_agree_on_the_highest_common_version() {
    let hello = |versions| Hello { versions, name: "a".into(), software: "bps 9".into(), frame_bytes_max: 0 };
    assert_eq!(agree(&hello((1, 4)), &hello((3, 9))), Ok(4));
    assert_eq!(agree(&hello((2, 2)), &hello((1, 2))), Ok(2));
    let error = agree(&hello((1, 1)), &hello((2, 3))).expect_err("nothing in common");
    let text = "no protocol version in common: this host speaks 1, \"a\" (\"bps 9\") speaks 2 to 3";
    assert_eq!(error.to_string(), text);
    // A range that is upside down has nothing in common with anything.
    assert!(agree(&hello((1, 4)), &hello((4, 1))).is_err());
}
