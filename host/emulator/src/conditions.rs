//! How a link is at one moment.

use bps_types::Nanos;
use serde::{Deserialize, Serialize};

/// How one direction of a link is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Bits per second; none: as fast as the machine.
    pub rate: Option<f64>,
    /// One way, nanoseconds.
    pub delay: Nanos,
    /// What does not arrive.
    pub loss: Loss,
    /// Bytes that may wait for the rate; what comes on top is dropped, or in a stream has to wait outside.
    pub queue_bytes: u64,
    /// False: nothing passes, and what was under way is lost.
    pub up: bool,
}

/// Which packets are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each by itself with this probability.
    Random(f64),
    /// In bursts, after Gilbert and Elliott: the link is good (nothing is lost) or bad, and may change with every packet.
    Bursts {
        /// Probability that a good link turns bad.
        enter: f64,
        /// Probability that a bad link turns good; its inverse is a burst's mean length in packets.
        leave: f64,
        /// Probability that a packet is lost while the link is bad.
        lost: f64,
    },
}

impl Loss {
    /// The share that is lost in the long run.
    pub fn mean(&self) -> f64 {
        match *self {
            Self::None => 0.0,
            Self::Random(p) => p,
            Self::Bursts { enter, .. } if enter <= 0.0 => 0.0,
            Self::Bursts { enter, leave, lost } => lost * enter / (enter + leave),
        }
    }
}

impl Default for Conditions {
    /// No limit, no delay, no loss.
    fn default() -> Self {
        Self { rate: None, delay: Nanos::ZERO, loss: Loss::None, queue_bytes: Self::QUEUE_BYTES_MIN, up: true }
    }
}

impl Conditions {
    /// Smallest queue that [`Self::link`] gives: some forty full packets.
    pub const QUEUE_BYTES_MIN: u64 = 64 << 10;
    /// Time that a full queue of [`Self::link`] takes at the link's rate, where this is more.
    const QUEUE_TIME: f64 = 0.05;

    /// A link of this rate and round trip, with a queue of 50 ms, or of one round trip where that is longer.
    pub fn link(rate: Option<f64>, rtt: Nanos) -> Self {
        let bytes_per_second = rate.unwrap_or(1e9) / 8.0;
        let queue = bytes_per_second * rtt.as_secs_f64().max(Self::QUEUE_TIME);
        let queue_bytes = (queue as u64).max(Self::QUEUE_BYTES_MIN);
        Self { rate, delay: Nanos(rtt.0 / 2), loss: Loss::None, queue_bytes, up: true }
    }

    /// Time that this many bytes take at the rate.
    pub(crate) fn transmission(&self, bytes: u64) -> Nanos {
        match self.rate {
            Some(bits) if bits > 0.0 => Nanos((bytes as f64 * 8e9 / bits).round() as u64),
            _ => Nanos::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_a_queue_that_fits() {
        let slow = Conditions::link(Some(1e6), Nanos::from_millis(1));
        assert_eq!((slow.delay, slow.queue_bytes), (Nanos::from_micros(500), Conditions::QUEUE_BYTES_MIN));
        let long = Conditions::link(Some(1e8), Nanos::from_millis(200));
        assert_eq!(long.queue_bytes, 2_500_000);
        assert_eq!(Conditions::link(Some(1e8), Nanos::ZERO).queue_bytes, 625_000);
    }

    #[test]
    fn mean_losses() {
        assert_eq!((Loss::None.mean(), Loss::Random(0.1).mean()), (0.0, 0.1));
        let bursts = Loss::Bursts { enter: 0.01, leave: 0.09, lost: 0.5 };
        assert!((bursts.mean() - 0.05).abs() < 1e-12);
        assert_eq!(Loss::Bursts { enter: 0.0, leave: 0.0, lost: 1.0 }.mean(), 0.0);
    }
}
