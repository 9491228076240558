use super::*;
use bps_types::{DataType, Packed};
use bps_wire::{Answer, Execute, ModelPart, Route, Trace};
use bytes::Bytes;

const OWN: HostKey = HostKey([1; 32]);

fn outbox(bytes_max: u64) -> Outbox {
    Outbox::new(OWN, Limits { frame_bytes_max: 1 << 20 }, bytes_max)
}

fn tensor(bytes: usize) -> Packed {
    let data = Bytes::from(vec![0; bytes]);
    Packed { codec: 0, rate: 0, data_type: DataType::Uint8, shape: vec![1, bytes], data }
}

fn execute(dispatch: u64, priority: u8, bytes: usize) -> Message {
    Message::Execute(Execute {
        dispatch,
        origin: OWN,
        model: [0; 32],
        cut_list: [0; 32],
        route: vec![Route { host: OWN, device: 0, from_cut: 0, until_cut: 1, codec: 0, rate: 0 }],
        rows: 1,
        budget: None,
        priority,
        trace: Trace::default(),
        reports: vec![],
        tensors: vec![tensor(bytes)],
    })
}

fn answer(dispatch: u64) -> Message {
    Message::Answer(Answer { dispatch, reports: vec![], outcome: Ok(vec![tensor(100)]) })
}

#[test]
fn answers_then_urgent_then_short_then_first_come() {
    let outbox = outbox(1 << 30);
    let part = ModelPart { digest: [0; 32], file: [1; 32], offset: 1, data: Bytes::new() };
    let long = SHORT_BYTES_MAX as usize;
    let messages = [
        Message::ModelPart(part),
        execute(1, 0, long),
        execute(2, 0, 10),
        execute(3, 0, 10),
        execute(4, 5, long),
        answer(5),
    ];
    assert!(messages.iter().all(|m| outbox.push(m).is_ok()));
    let order: Vec<u64> = std::iter::from_fn(|| outbox.take()).map(|frame| frame.encoded.header.id).collect();
    assert_eq!(order, [5, 4, 2, 3, 1, 0]);
}

#[test]
fn priorities_of_streams_order_as_places_do() {
    let place = |rank, long, sequence| Place { rank: Reverse(rank), long, sequence };
    let places = [place(257, true, 9), place(3, false, 1), place(3, true, 0), place(2, false, 0), place(0, true, 0)];
    assert!(places.is_sorted() && places.is_sorted_by(|a, b| a.priority() > b.priority()));
}

#[test]
fn the_books_balance_however_frames_end() {
    let outbox = outbox(10_000);
    let bytes = outbox.push(&execute(1, 0, 4_000)).expect("there is room");
    assert!((2..=3).all(|n| outbox.push(&execute(n, 0, 2_000)).is_ok()));
    let full = outbox.push(&execute(4, 0, 4_000));
    assert!(matches!(full, Err(SendError::Full { bytes_max: 10_000, .. })), "{full:?}");
    // One is recalled while it waits, one after 1,000 of its bytes, one too late.
    assert!(outbox.recall(3));
    let (first, second) = (outbox.take().expect("waits"), outbox.take().expect("waits"));
    assert!(outbox.recall(2) && second.ticket.is_recalled() && !second.ticket.sent());
    outbox.given_up(&second, 1_000);
    assert!(first.ticket.sent() && !outbox.recall(1));
    outbox.forget(&first.ticket);
    assert_eq!(outbox.in_flight(), bytes + 1_000);
    outbox.delivered(bytes + 400);
    assert_eq!(outbox.in_flight(), 600);
    outbox.delivered(u64::MAX);
    assert_eq!(outbox.in_flight(), 0);
    assert!(!outbox.recall(1) && !outbox.recall(2) && outbox.take().is_none());
}

#[test]
fn a_frame_larger_than_the_bound_goes_alone() {
    let outbox = outbox(1_000);
    let bytes = outbox.push(&execute(1, 0, 5_000)).expect("nothing else is in flight");
    assert!(matches!(outbox.push(&execute(2, 0, 1)), Err(SendError::Full { .. })));
    outbox.delivered(bytes);
    outbox.push(&execute(2, 0, 1)).expect("there is room again");
}

#[test]
fn control_frames_are_bounded_and_survive_closing() {
    let outbox = outbox(1_000);
    let refused = (0..2_000).filter(|n| outbox.push(&Message::Recall { dispatch: *n }).is_err()).count();
    assert_eq!(refused, 2_000 - CONTROL_FRAMES_MAX);
    outbox.close();
    assert!(matches!(outbox.push(&Message::Recall { dispatch: 0 }), Err(SendError::Down)));
    let sizes: Vec<usize> = std::iter::from_fn(|| Some(outbox.take_control(640).len()).filter(|n| *n > 0)).collect();
    assert_eq!(sizes, [vec![10; 102], vec![4]].concat());
}

#[test]
fn another_hosts_dispatch_is_not_recalled_by_number() {
    let outbox = outbox(1_000_000);
    let Message::Execute(mut passed_on) = execute(1, 0, 10) else { unreachable!() };
    passed_on.origin = HostKey([2; 32]);
    outbox.push(&Message::Execute(passed_on)).expect("there is room");
    assert!(!outbox.recall(1) && outbox.take().is_some());
}
