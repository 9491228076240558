//! What the demo does when: policies, loads, and the moment of every request, fixed before the clock starts.

use super::DemoArgs;
use crate::arrivals::{self, Load};
use crate::traffic::Shot;
use std::time::Duration;

/// The policies in their order; the host starts with the first.
pub(super) const POLICIES: [&str; 4] = ["local-only", "batching", "round-robin", "batching"];
/// From one burst to the next.
const BURST_EVERY: Duration = Duration::from_millis(500);
/// Times the steady rate while swapping, so that many swaps meet requests in the house.
const RATE_WHILE_SWAPPING: u32 = 4;

/// A part of the run: one policy under one load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Segment {
    /// Who decides; none: swapping between two policies all the time.
    pub(super) policy: Option<&'static str>,
    /// What comes.
    pub(super) load: Load,
    /// When it begins, since the start of the run.
    pub(super) begins: Duration,
    /// How long it lasts.
    pub(super) span: Duration,
}

impl Segment {
    /// The load in a word.
    pub(super) fn load_name(&self) -> &'static str {
        match (self.policy, self.load) {
            (None, _) => "swapping",
            (_, Load::Poisson { .. }) => "steady",
            (_, Load::Bursts { .. }) => "bursts",
        }
    }

    /// When it ends.
    pub(super) fn ends(&self) -> Duration {
        self.begins + self.span
    }
}

/// Each policy under both loads, then the swaps.
pub(super) fn segments(args: &DemoArgs) -> Vec<Segment> {
    let span = Duration::from_secs(args.seconds.into());
    let steady = Load::Poisson { rate: args.rate.into() };
    let bursts = Load::Bursts { size: args.burst, every: BURST_EVERY };
    let each = POLICIES.into_iter().flat_map(|p| [(Some(p), steady), (Some(p), bursts)]);
    let dense = Load::Poisson { rate: (args.rate * RATE_WHILE_SWAPPING).into() };
    let all = each.chain([(None, dense)]);
    all.zip(0u32..).map(|((policy, load), i)| Segment { policy, load, begins: span * i, span }).collect()
}

/// Every request of the run, in order.
pub(super) fn shots(segments: &[Segment], seed: u64) -> Vec<Shot> {
    let of = |(number, segment): (usize, &Segment)| {
        let times = arrivals::schedule(segment.load, segment.span, seed.wrapping_add(number as u64));
        let begins = segment.begins;
        times.into_iter().map(move |at| Shot { at: begins + at, segment: number })
    };
    segments.iter().enumerate().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_is_seamless_and_short() {
        let segments = segments(&DemoArgs::default());
        assert_eq!(segments.len(), 2 * POLICIES.len() + 1);
        for pair in segments.windows(2) {
            assert_eq!(pair[0].ends(), pair[1].begins);
        }
        assert!(segments.last().unwrap().ends() <= Duration::from_secs(30), "start and end need time too");
    }

    #[test]
    fn shots_are_ordered_and_in_their_segment() {
        let segments = segments(&DemoArgs::default());
        let shots = shots(&segments, 7);
        assert!(shots.is_sorted_by_key(|s| s.at));
        for shot in &shots {
            let segment = &segments[shot.segment];
            assert!((segment.begins..segment.ends()).contains(&shot.at));
        }
        assert!(segments.iter().enumerate().all(|(i, _)| shots.iter().any(|s| s.segment == i)));
        assert_eq!(shots, super::shots(&segments, 7));
    }
}
