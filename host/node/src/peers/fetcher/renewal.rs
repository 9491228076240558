//! Fetched models whose calibration is another one by now where they came from.
//!
//! The files that are here already are gone on with, so that only the calibration comes. Meanwhile the model does not
//! serve; whoever wants it executed hears so from the advert and does it elsewhere.

use super::{Fetch, Fetcher, blocking};
use crate::peers::roster::Offer;
use bps_types::Nanos;

impl Fetcher {
    /// A model that its origin, and nobody else, says to have another calibration for. Each calibration is tried once: one
    /// that cannot be used here would be fetched for ever.
    pub(super) fn renewal(&self, offers: &[Offer], now: Nanos) -> Option<Offer> {
        let is_news = |offer: &&Offer| {
            let Some(model) = self.peers.models.of_digest(&offer.digest).filter(|model| model.fetched) else {
                return false;
            };
            let is_other = offer.calibration != [0; 32] && offer.calibration != model.calibration_digest();
            let is_origin = self.origins.get(&offer.digest) == Some(&offer.peer.to_string());
            is_other
                && is_origin
                && self.renewed.get(&offer.digest) != Some(&offer.calibration)
                && self.rested(offer, now)
        };
        offers.iter().find(is_news).cloned()
    }

    /// Lets go of the model and begins to fetch it again from what is here of it.
    pub(super) async fn renew(&mut self, offer: Offer) {
        tracing::info!(model = offer.name, peer = offer.peer_name, "a model has another calibration now");
        self.renewed.insert(offer.digest, offer.calibration);
        self.peers.models.dismiss_fetched(&offer.digest).await;
        self.peers.wake();
        let (shelf, digest) = (self.shelf.clone(), offer.digest);
        if let Err(reason) = blocking(move || shelf.reopen(&digest)).await.and_then(|result| result) {
            return self.set_back(&offer, &reason);
        }
        self.active = Some(Fetch::new(offer));
    }
}
