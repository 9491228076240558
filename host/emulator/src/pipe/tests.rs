//! The link in virtual time.

use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;

/// 8 Mbit/s: a kilobyte a millisecond.
fn conditions() -> Conditions {
    Conditions { rate: Some(8e6), delay: Nanos(10 * MS), queue_bytes: 5_000, ..Conditions::default() }
}

/// Runs the pipe to its end; what arrived and when.
fn drain<T>(pipe: &mut Pipe<T>) -> Vec<(u64, T)> {
    let mut arrived = Vec::new();
    while let Some(at) = pipe.next_at() {
        while let Some(packet) = pipe.take(at) {
            arrived.push((at.0 / MS, packet));
        }
    }
    arrived
}

#[test]
fn packets_are_sent_one_after_another_and_travel() {
    let mut pipe = Pipe::new(conditions(), 0);
    for number in 0..3 {
        pipe.offer(Nanos::ZERO, 1_000, number).unwrap();
    }
    assert_eq!(drain(&mut pipe), [(11, 0), (12, 1), (13, 2)]);
    // An idle link begins at once.
    pipe.offer(Nanos(100 * MS), 2_000, 9).unwrap();
    assert_eq!(drain(&mut pipe), [(112, 9)]);
    assert_eq!(pipe.counts().delivered_bytes, 5_000);
}

#[test]
fn a_full_queue_drops_what_comes_and_an_empty_one_takes_anything() {
    let mut pipe = Pipe::new(conditions(), 0);
    pipe.offer(Nanos::ZERO, 9_000, 0).unwrap();
    assert_eq!(pipe.offer(Nanos::ZERO, 1, 1), Err(Refused::Full));
    assert!(!pipe.has_room(Nanos(8 * MS), 1));
    assert!(pipe.has_room(Nanos(9 * MS), 1));
    assert_eq!(drain(&mut pipe), [(19, 0)]);
    assert_eq!(pipe.counts().overflowed, 1);
}

#[test]
fn a_new_rate_holds_for_what_waits() {
    let mut pipe = Pipe::new(conditions(), 0);
    for number in 0..3 {
        pipe.offer(Nanos::ZERO, 1_000, number).unwrap();
    }
    // Half of the second packet is sent when the link becomes ten times as slow: 5 ms for its rest, 10 for the third.
    pipe.set(Nanos(3 * MS / 2), Conditions { rate: Some(8e5), ..conditions() });
    assert_eq!(drain(&mut pipe), [(11, 0), (16, 1), (26, 2)]);
}

#[test]
fn a_shorter_delay_does_not_reorder() {
    let mut pipe = Pipe::new(conditions(), 0);
    pipe.offer(Nanos::ZERO, 1_000, 0).unwrap();
    pipe.set(Nanos(MS), Conditions { delay: Nanos(MS), ..conditions() });
    pipe.offer(Nanos(MS), 1_000, 1).unwrap();
    assert_eq!(drain(&mut pipe), [(11, 0), (11, 1)]);
}

#[test]
fn an_outage_loses_what_is_under_way() {
    let mut pipe = Pipe::new(conditions(), 0);
    pipe.offer(Nanos::ZERO, 1_000, 0).unwrap();
    pipe.offer(Nanos::ZERO, 1_000, 1).unwrap();
    pipe.set(Nanos(3 * MS / 2), Conditions { up: false, ..conditions() });
    assert_eq!(pipe.offer(Nanos(2 * MS), 1_000, 2), Err(Refused::Down));
    assert_eq!(pipe.next_at(), None);
    pipe.set(Nanos(5 * MS), conditions());
    pipe.offer(Nanos(5 * MS), 1_000, 3).unwrap();
    assert_eq!(drain(&mut pipe), [(16, 3)]);
    assert_eq!((pipe.counts().cut_off, pipe.queued_bytes()), (3, 0));
}

/// Which of many packets are lost.
fn losses(loss: Loss, seed: u64) -> Vec<bool> {
    let mut pipe = Pipe::new(Conditions { loss, ..Conditions::default() }, seed);
    let mut lost = vec![true; 50_000];
    for number in 0..lost.len() {
        pipe.offer(Nanos(number as u64), 1, number).unwrap();
        if let Some(arrived) = pipe.take(Nanos(number as u64)) {
            lost[arrived] = false;
        }
    }
    lost
}

fn share(lost: &[bool]) -> f64 {
    lost.iter().filter(|l| **l).count() as f64 / lost.len() as f64
}

/// Lost packets per run of lost packets.
fn burst(lost: &[bool]) -> f64 {
    let runs = lost.windows(2).filter(|w| w == &[false, true]).count().max(1);
    lost.iter().filter(|l| **l).count() as f64 / runs as f64
}

#[test]
fn losses_have_their_share_and_their_bursts() {
    let random = losses(Loss::Random(0.05), 3);
    assert!((0.045..0.055).contains(&share(&random)), "{}", share(&random));
    assert!(burst(&random) < 1.2, "{}", burst(&random));
    let bursts = Loss::Bursts { enter: 0.005, leave: 0.095, lost: 1.0 };
    let lost = losses(bursts, 3);
    assert!((0.04..0.06).contains(&share(&lost)), "{}", share(&lost));
    assert!((8.0..14.0).contains(&burst(&lost)), "{}", burst(&lost));
}

#[test]
fn a_seed_is_a_sequence() {
    let loss = Loss::Random(0.3);
    assert_eq!(losses(loss, 1), losses(loss, 1));
    assert_ne!(losses(loss, 1), losses(loss, 2));
}

proptest! {
    /// Whatever happens to the link: nothing arrives twice, out of order or before its delay, and every packet is
    /// accounted for.
    #[test]
    fn packets_are_conserved(steps in prop::collection::vec((0u64..20, 0u8..6, 1u64..3_000), 1..200)) {
        let mut pipe = Pipe::new(conditions(), 7);
        let (mut now, mut offered, mut arrived) = (0, 0u64, Vec::new());
        for (pause, what, size) in steps {
            now += pause * MS / 4;
            match what {
                0 => pipe.set(Nanos(now), Conditions { up: size % 2 == 0, ..*pipe.conditions() }),
                1 => pipe.set(Nanos(now), Conditions { rate: Some(size as f64 * 1e4), ..*pipe.conditions() }),
                2 => pipe.set(Nanos(now), Conditions { loss: Loss::Random(0.5), ..*pipe.conditions() }),
                _ => {
                    let _ = pipe.offer(Nanos(now), size, (offered, now));
                    offered += 1;
                }
            }
            while let Some((number, at)) = pipe.take(Nanos(now)) {
                prop_assert!(now >= at + 10 * MS);
                arrived.push(number);
            }
        }
        arrived.extend(drain(&mut pipe).into_iter().map(|(_, (number, _))| number));
        prop_assert!(arrived.windows(2).all(|w| w[0] < w[1]));
        let counts = pipe.counts();
        prop_assert_eq!(counts.delivered, arrived.len() as u64);
        prop_assert_eq!(counts.delivered + counts.lost + counts.overflowed + counts.cut_off, offered);
    }
}
