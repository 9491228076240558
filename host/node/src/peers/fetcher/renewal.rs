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
    begun: Nanos,
    /// The calibration that came. It is not fetched again: one that cannot be used here would be, for ever.
    came: Option<[u8; 32]>,
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
                && last.is_none_or(|last| last.came != Some(offer.calibration) && last.rests_until <= now)
                && self.rested(offer, now)
        };
        let offer = offers.iter().find(is_due).cloned()?;
        tracing::info!(model = offer.name, peer = offer.peer_name, "a model has another calibration now");
        let came = self.renewals.get(&offer.digest).and_then(|last| last.came);
        self.renewals.insert(offer.digest, Renewal { begun: now, came, rests_until: now });
        Some(offer)
    }

    /// All files of an offer have come; the model may be one that was to be renewed.
    pub(super) fn renewed(&mut self, offer: &Offer, now: Nanos) {
        if let Some(renewal) = self.renewals.get_mut(&offer.digest) {
            renewal.came = Some(offer.calibration);
            renewal.rests_until = now + Nanos(now.since(renewal.begun).0.saturating_mul(REST_TIMES));
        }
    }
}
