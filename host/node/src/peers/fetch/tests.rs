use super::*;
use bps_wire::HostKey;
use std::collections::VecDeque;

/// Two whole pieces and a rest.
const ONNX_BYTES: u64 = 600_000;
const DATA_BYTES: u64 = 300_000;

fn offer() -> Offer {
    Offer {
        peer: HostKey([1; 32]),
        peer_name: "origin".into(),
        digest: [7; 32],
        cut_list: [8; 32],
        calibration: [0; 32],
        name: "net".into(),
        file_bytes: ONNX_BYTES + DATA_BYTES,
    }
}

fn list() -> ModelList {
    let file = |name: &str, bytes, number| ModelFile { name: name.into(), bytes, digest: [number; 32] };
    let files = vec![file("model.onnx", ONNX_BYTES, 1), file("w.bin", DATA_BYTES, 2)];
    ModelList { digest: [7; 32], manifest: "batch_max = 4".into(), files }
}

/// A fetch whose list has come, and so many bytes of each file earlier.
fn listed(have: [u64; 2]) -> Fetch {
    let mut fetch = Fetch::new(offer());
    let asked = fetch.next(Nanos::ZERO).unwrap();
    assert_eq!(asked, Some(Message::ListWanted(ListWanted { digest: [7; 32] })));
    assert!(fetch.takes_list(&list()).unwrap());
    fetch.go_on(list().files, have.to_vec());
    fetch
}

fn answer(wanted: ModelWanted) -> ModelPart {
    let data = Bytes::from(vec![wanted.offset as u8; wanted.bytes as usize]);
    ModelPart { digest: wanted.digest, file: wanted.file, offset: wanted.offset, data }
}

fn ask(fetch: &mut Fetch) -> ModelWanted {
    match fetch.next(Nanos::ZERO) {
        Ok(Some(Message::ModelWanted(wanted))) => wanted,
        other => panic!("{other:?}"),
    }
}

/// The file, by the first byte of its digest, and where in it.
type Asked = (u8, u64);

#[test]
fn file_by_file_and_piece_by_piece_from_where_it_was() {
    let piece = u64::from(PIECE_BYTES_MAX);
    let from_start = [(1, 0), (1, piece), (1, 2 * piece), (2, 0), (2, piece)];
    let cases: [([u64; 2], &[Asked]); 4] = [
        ([0, 0], &from_start),
        ([300_000, 0], &[(1, 300_000), (1, 300_000 + piece), (2, 0), (2, piece)]),
        ([ONNX_BYTES, 299_999], &[(2, 299_999)]),
        ([ONNX_BYTES, DATA_BYTES], &[]),
    ];
    for (have, expected) in cases {
        let mut fetch = listed(have);
        let mut asked = vec![];
        while !fetch.is_complete() {
            let wanted = ask(&mut fetch);
            assert_eq!(fetch.next(Nanos::ZERO).unwrap(), None, "one at a time");
            let taken = fetch.take(answer(wanted)).unwrap();
            let Taken::Piece { file, offset, data } = taken else { panic!("{taken:?}") };
            assert_eq!((file.digest, offset, data.len()), (wanted.file, wanted.offset, wanted.bytes as usize));
            asked.push((wanted.file[0], wanted.offset));
        }
        assert_eq!((&asked[..], fetch.have()), (expected, ONNX_BYTES + DATA_BYTES));
        assert_eq!(fetch.next(Nanos::ZERO).unwrap(), None);
    }
}

#[test]
fn what_was_not_asked_for_is_ignored() {
    let unasked = answer(ModelWanted { digest: [7; 32], file: [1; 32], offset: 0, bytes: 10 });
    let mut fetch = Fetch::new(offer());
    assert!(!fetch.takes_list(&list()).unwrap(), "before the question");
    fetch.next(Nanos::ZERO).unwrap();
    assert_eq!(fetch.take(unasked.clone()).unwrap(), Taken::Ignored, "before the list");
    assert!(!fetch.takes_list(&ModelList { digest: [9; 32], ..list() }).unwrap());

    let mut fetch = listed([0, 0]);
    assert!(!fetch.takes_list(&list()).unwrap(), "a second list");
    assert_eq!(fetch.take(unasked.clone()).unwrap(), Taken::Ignored);
    let wanted = ask(&mut fetch);
    let strays = [
        ModelPart { digest: [9; 32], ..unasked.clone() },
        ModelPart { file: [2; 32], ..unasked.clone() },
        ModelPart { offset: 10, ..unasked },
    ];
    for stray in strays {
        assert_eq!(fetch.take(stray).unwrap(), Taken::Ignored);
    }
    fetch.take(answer(wanted)).unwrap();
    assert_eq!(fetch.take(answer(wanted)).unwrap(), Taken::Ignored, "the same piece again");
    assert_eq!(fetch.have(), u64::from(PIECE_BYTES_MAX));
}

#[test]
fn a_list_that_is_not_what_was_offered_ends_it() {
    let with = |change: fn(&mut ModelList)| {
        let (mut fetch, mut list) = (Fetch::new(offer()), list());
        fetch.next(Nanos::ZERO).unwrap();
        change(&mut list);
        fetch.takes_list(&list).expect_err("it lies")
    };
    let sizes = "it was offered with 900000 bytes, and its files have ";
    assert_eq!(with(|l| l.files[1].bytes += 1), format!("{sizes}900001"));
    assert_eq!(with(|l| drop(l.files.pop())), format!("{sizes}600000"));
    assert!(with(|l| l.files[1].bytes = u64::MAX).contains("\"w.bin\""), "no sum that wraps");
    assert!(with(|l| l.files[1].name = "../w.bin".into()).contains("\"../w.bin\""));
}

#[test]
fn pieces_that_cannot_be_end_it() {
    type Lie = fn(ModelPart) -> ModelPart;
    let lies: [(&str, Lie); 2] = [
        ("an empty piece", |p| ModelPart { data: Bytes::new(), ..p }),
        ("a piece that is too large", |p| ModelPart { data: vec![0; PIECE_BYTES_MAX as usize + 1].into(), ..p }),
    ];
    for (what, lie) in lies {
        let mut fetch = listed([0, 0]);
        let part = lie(answer(ask(&mut fetch)));
        assert!(fetch.take(part).unwrap_err().starts_with("model.onnx: "), "{what}");
        assert_eq!(fetch.have(), 0, "{what}");
    }
    let mut at_end = listed([ONNX_BYTES, DATA_BYTES - 10]);
    let part = ModelPart { data: vec![0; 11].into(), ..answer(ask(&mut at_end)) };
    assert_eq!(at_end.take(part).unwrap_err(), "w.bin: a piece of 11 bytes, where 10 are left");
}

#[test]
fn silence_is_asked_again_and_then_given_up() {
    for mut fetch in [Fetch::new(offer()), listed([0, 0])] {
        let mut now = Nanos::ZERO;
        for _ in 0..ASKS_MAX {
            assert!(fetch.next(now).unwrap().is_some());
            assert_eq!(fetch.next(now + Nanos::from_secs(1)).unwrap(), None);
            now += PATIENCE;
        }
        assert!(fetch.next(now).unwrap_err().contains("no answer"));
    }
    let mut unsent = Fetch::new(offer());
    for _ in 0..3 * ASKS_MAX {
        assert!(unsent.next(Nanos::ZERO).unwrap().is_some());
        unsent.not_sent();
    }
}

/// Answers every question so much later, with so many bytes at most; how many seconds that goes on, and why it ends.
fn given(every: Nanos, bytes: u32, fetch: &mut Fetch) -> (f64, Option<String>) {
    let mut now = Nanos::ZERO;
    while !fetch.is_complete() {
        let wanted = match fetch.next(now) {
            Ok(Some(Message::ModelWanted(wanted))) => wanted,
            Ok(other) => panic!("{other:?}"),
            Err(reason) => return (now.as_secs_f64(), Some(reason)),
        };
        now += every;
        let part = answer(ModelWanted { bytes: wanted.bytes.min(bytes), ..wanted });
        assert!(matches!(fetch.take(part).unwrap(), Taken::Piece { .. }));
    }
    (now.as_secs_f64(), None)
}

#[test]
fn who_gives_byte_by_byte_is_given_up() {
    let (almost, second) = (Nanos::from_millis(9_900), Nanos::from_secs(1));
    for (every, bytes) in [(almost, 1), (almost, PIECE_BYTES_MAX / 4), (second, 1_000)] {
        let (seconds, reason) = given(every, bytes, &mut listed([0, 0]));
        assert!(reason.is_some_and(|reason| reason.contains("too slowly")), "{bytes} bytes");
        assert!((50.0..60.0).contains(&seconds), "{seconds} s");
    }
    // Small pieces, but often; and large ones that take long.
    for (every, bytes) in [(second, 12_000), (almost, PIECE_BYTES_MAX)] {
        assert_eq!(given(every, bytes, &mut listed([0, 0])).1, None);
    }
}

#[test]
fn many_small_files_over_a_long_way_are_not_too_slow() {
    let file = |number| ModelFile { name: format!("{number}.bin"), bytes: 10, digest: [number; 32] };
    let mut fetch = Fetch::new(offer());
    fetch.go_on((0..100).map(file).collect(), vec![0; 100]);
    assert_eq!(given(Nanos::from_secs(1), PIECE_BYTES_MAX, &mut fetch), (100.0, None));
}

#[test]
fn a_link_that_takes_longer_for_a_piece_than_patience_lasts_is_not_too_slow() {
    let (mut fetch, mut now) = (listed([0, 0]), Nanos::ZERO);
    // What is asked for again comes again, behind the first answer.
    let (mut on_their_way, mut comes) = (VecDeque::new(), Nanos::ZERO);
    let mut twice = 0;
    while !fetch.is_complete() {
        if let Some(Message::ModelWanted(wanted)) = fetch.next(now).expect("it goes on") {
            comes = comes.max(now) + Nanos::from_secs(14);
            on_their_way.push_back((comes, answer(wanted)));
        }
        now += Nanos::from_secs(1);
        while on_their_way.front().is_some_and(|(at, _)| *at <= now) {
            let (_, part) = on_their_way.pop_front().expect("there is one");
            twice += u32::from(fetch.take(part).unwrap() == Taken::Ignored);
        }
    }
    assert!(twice > 0, "else nothing was asked for twice");
}
