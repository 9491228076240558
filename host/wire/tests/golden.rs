//! The bytes of the protocol, pinned: hosts of different builds talk to each other. A difference here is a new version.

mod sample;

use bps_wire::*;
use sample::{LIMITS, bytes_of, one_of_each};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn header_and_hello() {
    let execute = one_of_each().into_iter().find(|m| matches!(m, Message::Execute(_))).expect("is there");
    let bytes = bytes_of(&encode(&execute, &LIMITS).expect("keeps the bounds"));
    let header = concat!(
        "42505346",
        "0100",
        "06",
        "00",
        "0807060504030201",
        "0600000000000000",
        "be000000",
        "7fbcf169",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "bbbbbbbbbbbbbbbb",
        "01",
        "01",
        "0000",
        "edd63501",
    );
    assert_eq!(hex(&bytes[..HEADER_BYTES]), header);
    let hello = Hello { versions: (1, 2), name: "edge".into(), software: "bps".into(), frame_bytes_max: 1 << 26 };
    let bytes = encode_hello(&hello).expect("keeps the bounds");
    assert_eq!(
        hex(&bytes),
        concat!(
            "6270730d0a1a0a00",
            "0100",
            "0200",
            "0400",
            "0300",
            "0000000400000000",
            "65646765",
            "627073",
            "055547ac",
        )
    );
}

#[test]
fn every_kind() {
    for (message, pinned) in one_of_each().iter().zip(FRAMES) {
        let bytes = bytes_of(&encode(message, &LIMITS).expect("keeps the bounds"));
        assert_eq!(hex(&bytes[HEADER_BYTES..]), *pinned, "{message:?}");
    }
    assert_eq!(one_of_each().len(), FRAMES.len());
}

/// Body, payload and its checksum of each.
const FRAMES: &[&str] = &[
    concat!(
        "0301000367707501018080808004010707070707070707070707070707070707070707070707070707070707070707080808",
        "0808080808080808080808080808080808080808080808080808080808",
        "0909090909090909090909090909090909090909090909090909090909090909",
        "0664696769747301e8072001000100040401010202",
        "0000803f00002040010404696e743801090909090909090909090909090909090909090909090909090909090909090908",
    ),
    concat!(
        "03010001e80701018080400109090909090909090909090909090909090909090909090909090909090909090120bc3e4b80",
        "897ac09a0c",
    ),
    "0c",
    "0c0d",
    "e8070a840780f104",
    concat!(
        "0101010101010101010101010101010101010101010101010101010101010101070707070707070707070707070707070707",
        "0707070707070707070707070707080808080808080808080808080808080808080808080808080808080808080801020202",
        "02020202020202020202020202020202020202020202020202020202020103050400020180e1eb1701010101010101010101",
        "01010101010101010101010101010101010101010101010102ac029003f403060104000a02020306010203040506abfb4d4f",
    ),
    concat!(
        "01010101010101010101010101010101010101010101010101010101010101010102ac029003f40306000104000a02020306",
        "010203040506abfb4d4f",
    ),
    "000100096e6f20637265646974",
    "",
    "07070707070707070707070707070707070707070707070707070707070707078020808004",
    concat!(
        "070707070707070707070707070707070707070707070707070707070707070700640e6578706f7274203d20747275650a6f",
        "6e6e78d6d3679b",
    ),
    "07070707070707070707070707070707070707070707070707070707070707070e6e6f74206578706f727461626c65",
    "0d7368757474696e6720646f776e",
];
