//! Fetched models whose calibration is another one by now where they came from.
//!
//! The files that are here already are gone on with, so that only the calibration comes; the model serves meanwhile, and is
//! replaced once all that is new is there.

use super::Fetcher;
use crate::peers::roster::Offer;
use bps_types::Nanos;

/// So many times as long as it takes to have and to load a model again, it is left as it is: a peer that never makes up its
/// mind costs no more than that.
const REST_TIMES: u64 = 10;

/// How a model was last fetched again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    /// Each is tried once: one that cannot be used here would be fetched for ever.
    calibration: [u8; 32],
    begun: Nanos,
    rests_until: Nanos,
}

impl Fetcher {
    /// A model that its origin, and nobody else, says to have another calibration for.
    pub(super) fn renewal(&mut self, offers: &[Offer], now: Nanos) -> Option<Offer> {
        let is_due = |offer: &&Offer| {
            let Some(model) = self.peers.models.of_digest(&offer.digest).filter(|model| model.fetched) else {
                return false;
            };
            let last = self.renewals.get(&offer.digest);
            offer.calibration != [0; 32]
                && offer.calibration != model.calibration_digest()
                && self.origins.get(&offer.digest) == Some(&offer.peer.to_string())
                && last.is_none_or(|last| last.calibration != offer.calibration && last.rests_until <= now)
                && self.rested(offer, now)
        };
        let offer = offers.iter().find(is_due).cloned()?;
        tracing::info!(model = offer.name, peer = offer.peer_name, "a model has another calibration now");
        let renewal = Renewal { calibration: offer.calibration, begun: now, rests_until: now };
        self.renewals.insert(offer.digest, renewal);
        Some(offer)
    }

    /// A model is served that may have been one to renew.
    pub(super) fn renewed(&mut self, digest: &[u8; 32], now: Nanos) {
        if let Some(renewal) = self.renewals.get_mut(digest) {
            renewal.rests_until = now + Nanos(now.since(renewal.begun).0.saturating_mul(REST_TIMES));
        }
    }
}
