//! Damaged and hostile frames are refused; a frame that is cut short is waited for, never believed.

mod sample;

use bps_types::{DataType, Packed};
use bps_wire::*;
use bytes::Bytes;
use sample::{LIMITS, bytes_of, one_of_each};

fn read(mut bytes: &[u8]) -> Result<Option<Message>, WireError> {
    FrameReader::new(LIMITS).feed(&mut bytes)
}

#[test]
fn every_flipped_bit_is_noticed() {
    for message in one_of_each() {
        let mut bytes = bytes_of(&encode(&message, &LIMITS).expect("keeps the bounds"));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes).is_err(), "{message:?} with bit {bit} flipped");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(read(&bytes), Ok(Some(message)));
    }
}

#[test]
fn every_truncation_waits() {
    for message in one_of_each() {
        let bytes = bytes_of(&encode(&message, &LIMITS).expect("keeps the bounds"));
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), Ok(None), "{message:?} cut to {length} bytes");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_hello_is_noticed_and_every_truncation() {
    let hello = Hello { versions: (1, 1), name: "edge".into(), software: "bps 0.1.0".into(), frame_bytes_max: 1 << 26 };
    let mut bytes = encode_hello(&hello).expect("keeps the bounds");
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_hello(&bytes).is_err(), "bit {bit} flipped");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    (0..bytes.len()).for_each(|length| assert!(decode_hello(&bytes[..length]).is_err(), "cut to {length} bytes"));
}

/// A header as a hostile peer would make it: every checksum fits.
fn header_with(change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let encoded = encode(&Message::Recall { dispatch: 1 }, &LIMITS).expect("keeps the bounds");
    let mut header = encoded.header;
    change(&mut header);
    header.to_bytes().to_vec()
}

#[test]
fn declared_lengths_are_bounded_before_anything_is_allocated() {
    let cases = [
        header_with(|h| (h.kind, h.payload_bytes) = (Kind::Execute, u64::MAX)),
        header_with(|h| (h.kind, h.payload_bytes) = (Kind::Execute, LIMITS.frame_bytes_max)),
        header_with(|h| h.body_bytes = u32::MAX),
        header_with(|h| h.body_bytes = (32 << 10) + 1),
        header_with(|h| (h.kind, h.id, h.body_bytes) = (Kind::Advert, 0, (4 << 20) + 1)),
    ];
    for bytes in cases {
        assert!(matches!(read(&bytes), Err(WireError::TooLarge { .. })));
    }
}

#[test]
fn what_a_kind_does_not_use_is_zero() {
    let cases = [
        header_with(|h| h.payload_bytes = 1),
        header_with(|h| h.stage = 1),
        header_with(|h| h.trace.flags = 1),
        header_with(|h| h.kind = Kind::Bye),
    ];
    for bytes in cases {
        assert!(matches!(read(&bytes), Err(WireError::NotZero { .. })), "{:?}", read(&bytes));
    }
}

/// `body` as the body of `kind`, with checksums that fit.
fn frame_of(kind: Kind, body: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c(body);
    let mut bytes = header_with(|h| (h.kind, h.id, h.body_bytes, h.body_crc) = (kind, 0, body.len() as u32, crc));
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn bodies_are_read_to_the_end_and_not_beyond() {
    let bye = b"\x02no";
    assert_eq!(read(&frame_of(Kind::Bye, bye)), Ok(Some(Message::Bye { reason: "no".into() })));
    assert!(matches!(read(&frame_of(Kind::Bye, b"\x02no!")), Err(WireError::Trailing { bytes: 1, .. })));
    assert!(matches!(read(&frame_of(Kind::Bye, b"\x03no")), Err(WireError::Body { .. })));
    assert!(matches!(read(&frame_of(Kind::Bye, b"\x02\xff\xff")), Err(WireError::Body { .. })));
    assert!(matches!(read(&frame_of(Kind::Recall, b"\0")), Err(WireError::Trailing { .. })));
    // 2^63 devices are declared in ten bytes: the decoder runs out of bytes, not of memory.
    let many = b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
    assert!(matches!(read(&frame_of(Kind::Advert, many)), Err(WireError::Body { .. })));
}

#[test]
fn bounds_hold_for_the_sender_too() {
    let Message::Execute(execute) = one_of_each().remove(5) else { panic!("the sixth is an execute") };
    let tensor = |shape: Vec<usize>| Packed {
        codec: 0,
        rate: 0,
        data_type: DataType::Fp32,
        shape,
        data: Bytes::from_static(&[1]),
    };
    let with = |change: &dyn Fn(&mut Execute)| {
        let mut execute = execute.clone();
        change(&mut execute);
        encode(&Message::Execute(execute), &LIMITS)
    };
    assert!(with(&|_| ()).is_ok());
    assert!(with(&|e| e.route[0].until_cut = OUTPUT_CUT).is_ok());
    let stage = execute.route[0];
    let (ends, behind) = (Route { until_cut: OUTPUT_CUT, ..stage }, Route { from_cut: OUTPUT_CUT, ..stage });
    let refused: [&dyn Fn(&mut Execute); 11] = [
        &|e| e.route = vec![ends, behind],
        &|e| e.route = vec![ends, Route { until_cut: OUTPUT_CUT, ..behind }],
        &|e| e.route.clear(),
        &|e| e.route = vec![stage; ROUTE_STAGES_MAX + 1],
        &|e| e.route = vec![stage, stage],
        &|e| e.route[0].until_cut = e.route[0].from_cut,
        &|e| e.rows = 0,
        &|e| e.rows = ROWS_MAX + 1,
        &|e| e.tensors.clear(),
        &|e| e.tensors = vec![tensor(vec![1; DIMENSIONS_MAX + 1])],
        &|e| e.tensors = vec![tensor(vec![0, usize::MAX, usize::MAX])],
    ];
    for (case, change) in refused.into_iter().enumerate() {
        assert!(with(change).is_err(), "case {case}");
    }
    let bye = Message::Bye { reason: "x".repeat(REASON_BYTES_MAX + 1) };
    let too_many = WireError::TooMany { field: "bye.reason", value: 201, max: 200 };
    assert_eq!(encode(&bye, &LIMITS), Err(too_many));
    let large = with(&|e| e.tensors[0].data = vec![0; LIMITS.frame_bytes_max as usize].into());
    assert!(matches!(large, Err(WireError::TooLarge { what: "frame", .. })));
}

#[test]
fn costs_that_are_no_numbers_are_refused() {
    let Message::Advert(mut advert) = one_of_each().remove(0) else { panic!("the first is an advert") };
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        advert.models[0].tables[0].values[1] = bad;
        assert!(matches!(encode(&Message::Advert(advert.clone()), &LIMITS), Err(WireError::Field { .. })));
    }
    advert.models[0].tables[0].values = vec![1.0; 3];
    assert!(encode(&Message::Advert(advert), &LIMITS).is_err());
}

#[test]
fn lists_and_pieces_of_files_are_bounded() {
    let file = ModelFile { name: "w.bin".into(), bytes: 1, digest: [5; 32] };
    let list = |files: Vec<ModelFile>, manifest: &str| {
        Message::ModelList(ModelList { digest: [7; 32], manifest: manifest.into(), files })
    };
    let named = |bytes: usize| ModelFile { name: "n".repeat(bytes), ..file.clone() };
    let part = |offset| {
        let data = Bytes::from_static(b"ab");
        Message::ModelPart(ModelPart { digest: [7; 32], file: [5; 32], offset, data })
    };
    let largest = list(vec![named(FILE_NAME_BYTES_MAX); FILES_MAX], &"#".repeat(MANIFEST_BYTES_MAX));
    for taken in [largest, part(u64::MAX - 2)] {
        let bytes = bytes_of(&encode(&taken, &LIMITS).expect("keeps the bounds"));
        assert_eq!(read(&bytes), Ok(Some(taken)));
    }
    let refused = [
        ("model-list.files", list(vec![], "")),
        ("model-list.files", list(vec![file.clone(); FILES_MAX + 1], "")),
        ("model-list.files.name", list(vec![named(FILE_NAME_BYTES_MAX + 1)], "")),
        ("model-list.manifest", list(vec![file.clone()], &"#".repeat(MANIFEST_BYTES_MAX + 1))),
        ("model-part.offset", part(u64::MAX - 1)),
        (
            "model-wanted.bytes",
            Message::ModelWanted(ModelWanted { digest: [7; 32], file: [5; 32], offset: 0, bytes: 0 }),
        ),
    ];
    for (place, message) in refused {
        let error = encode(&message, &LIMITS).expect_err("breaks a bound").to_string();
        assert!(error.starts_with(place), "{place}: {error}");
    }
    // A body that says 2^63 files, in as few bytes: the decoder runs out of bytes, not of memory.
    let many = [&[7; 32][..], b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f"].concat();
    assert!(matches!(read(&frame_of(Kind::ModelList, &many)), Err(WireError::Body { .. })));
}

#[test]
fn a_list_of_files_waits_its_turn_like_tensors() {
    let is_control = |message: &Message| encode(message, &LIMITS).expect("keeps the bounds").header.is_control();
    for message in one_of_each() {
        let moves =
            matches!(message, Message::Execute(_) | Message::Answer(_) | Message::ModelList(_) | Message::ModelPart(_));
        assert_eq!(is_control(&message), !moves, "{message:?}");
    }
}
