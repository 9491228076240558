//! The fetch of one model's file, piece by piece: what to ask next, and what of an answer is believed.
//!
//! Pure. One piece is on its way at a time, so that requests share the link. Nothing the other host says moves a byte
//! outside the file it offered; that the whole is the file it should be is for its digest to say.

use super::roster::Offer;
use crate::models::PIECE_BYTES_MAX;
use bps_types::Nanos;
use bps_wire::{ModelPart, ModelWanted};
use bytes::Bytes;

/// A piece that has not come within this time is asked for again: over 1 Mbit/s it takes two seconds.
const PATIENCE: Nanos = Nanos::from_secs(10);
/// As often as one piece is asked for.
const ASKS_MAX: u32 = 5;
/// As large as a `model.toml` may be.
pub(super) const MANIFEST_BYTES_MAX: usize = 64 << 10;

/// A fetch under way.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    offer: Offer,
    have: u64,
    /// Since when a piece is on its way.
    asked: Option<Nanos>,
    /// How often it was asked for.
    asks: u32,
}

/// What is to be done with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Keep these bytes; with the first ones comes `model.toml`.
    Piece { offset: u64, data: Bytes, manifest: Option<String> },
    /// It is none that was asked for: an answer to a question asked twice, or to nobody's.
    Ignored,
}

impl Fetch {
    /// Goes on where an earlier attempt has left `have` bytes.
    pub(super) fn new(offer: Offer, have: u64) -> Self {
        Self { offer, have, asked: None, asks: 0 }
    }

    pub(super) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Bytes that have come.
    pub(super) fn have(&self) -> u64 {
        self.have
    }

    pub(super) fn is_complete(&self) -> bool {
        self.have == self.offer.file_bytes
    }

    /// What to ask for now, if anything.
    ///
    /// # Errors
    /// Where the other host does not answer.
    pub(super) fn next(&mut self, now: Nanos) -> Result<Option<ModelWanted>, String> {
        let waits = self.asked.is_some_and(|at| now.since(at) < PATIENCE);
        if waits || self.is_complete() {
            return Ok(None);
        }
        if self.asks == ASKS_MAX {
            return Err(format!("no answer, {ASKS_MAX} times"));
        }
        self.asks += 1;
        self.asked = Some(now);
        let left = self.offer.file_bytes - self.have;
        let bytes = left.min(u64::from(PIECE_BYTES_MAX)) as u32;
        Ok(Some(ModelWanted { digest: self.offer.digest, offset: self.have, bytes }))
    }

    /// The question could not be sent: it is asked again at the next opportunity, and does not count.
    pub(super) fn not_sent(&mut self) {
        self.asked = None;
        self.asks = self.asks.saturating_sub(1);
    }

    /// Takes an answer of the host that was asked.
    ///
    /// # Errors
    /// Where it contradicts the offer; nothing of this fetch is to be believed then.
    pub(super) fn take(&mut self, part: ModelPart) -> Result<Taken, String> {
        if part.digest != self.offer.digest || part.offset != self.have || self.asked.is_none() || self.is_complete() {
            return Ok(Taken::Ignored);
        }
        let (offered, said) = (self.offer.file_bytes, part.file_bytes);
        if said != offered {
            return Err(format!("the file was offered with {offered} bytes and now has {said}"));
        }
        let (length, left) = (part.data.len() as u64, offered - self.have);
        if length == 0 || length > left.min(u64::from(PIECE_BYTES_MAX)) {
            return Err(format!("a piece of {length} bytes, where {left} are left"));
        }
        if part.manifest.len() > MANIFEST_BYTES_MAX {
            return Err(format!("a model.toml of {} bytes", part.manifest.len()));
        }
        let offset = self.have;
        self.have += length;
        (self.asked, self.asks) = (None, 0);
        Ok(Taken::Piece { offset, data: part.data, manifest: (offset == 0).then_some(part.manifest) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_wire::HostKey;

    const FILE_BYTES: u64 = 600_000; // two whole pieces and a rest

    fn offer() -> Offer {
        Offer {
            peer: HostKey([1; 32]),
            peer_name: "origin".into(),
            digest: [7; 32],
            cut_list: [8; 32],
            name: "net".into(),
            file_bytes: FILE_BYTES,
        }
    }

    fn answer(wanted: ModelWanted) -> ModelPart {
        let data = Bytes::from(vec![wanted.offset as u8; wanted.bytes as usize]);
        let manifest = "batch_max = 4".to_owned();
        ModelPart { digest: wanted.digest, offset: wanted.offset, file_bytes: FILE_BYTES, manifest, data }
    }

    fn ask(fetch: &mut Fetch) -> ModelWanted {
        fetch.next(Nanos::ZERO).unwrap().expect("a question")
    }

    #[test]
    fn piece_by_piece_from_where_it_was() {
        for have in [0, 300_000] {
            let mut fetch = Fetch::new(offer(), have);
            let (mut offsets, mut manifests) = (vec![], 0);
            while !fetch.is_complete() {
                let wanted = ask(&mut fetch);
                assert_eq!(fetch.next(Nanos::ZERO).unwrap(), None, "one at a time");
                let taken = fetch.take(answer(wanted)).unwrap();
                let Taken::Piece { offset, data, manifest } = taken else { panic!("{taken:?}") };
                assert_eq!((offset, data.len()), (wanted.offset, wanted.bytes as usize));
                offsets.push(offset);
                manifests += usize::from(manifest.is_some());
            }
            let piece = u64::from(PIECE_BYTES_MAX);
            let expected = if have == 0 { vec![0, piece, 2 * piece] } else { vec![have, have + piece] };
            assert_eq!((offsets, manifests), (expected, usize::from(have == 0)));
            assert_eq!(fetch.next(Nanos::ZERO).unwrap(), None);
        }
    }

    #[test]
    fn what_was_not_asked_for_is_ignored() {
        let mut fetch = Fetch::new(offer(), 0);
        let unasked = answer(ModelWanted { digest: [7; 32], offset: 0, bytes: 10 });
        assert_eq!(fetch.take(unasked.clone()).unwrap(), Taken::Ignored);
        let wanted = ask(&mut fetch);
        for stray in [ModelPart { digest: [9; 32], ..unasked.clone() }, ModelPart { offset: 10, ..unasked }] {
            assert_eq!(fetch.take(stray).unwrap(), Taken::Ignored);
        }
        fetch.take(answer(wanted)).unwrap();
        assert_eq!(fetch.take(answer(wanted)).unwrap(), Taken::Ignored, "the same piece again");
        assert_eq!(fetch.have(), u64::from(PIECE_BYTES_MAX));
    }

    #[test]
    fn lies_end_it() {
        let good = |fetch: &mut Fetch| answer(ask(fetch));
        type Lie = fn(ModelPart) -> ModelPart;
        let lies: [(&str, Lie); 5] = [
            ("another size", |p| ModelPart { file_bytes: u64::MAX, ..p }),
            ("a smaller one", |p| ModelPart { file_bytes: 1, ..p }),
            ("an empty piece", |p| ModelPart { data: Bytes::new(), ..p }),
            ("a piece that is too large", |p| ModelPart { data: vec![0; PIECE_BYTES_MAX as usize + 1].into(), ..p }),
            ("a manifest without end", |p| ModelPart { manifest: "#".repeat(MANIFEST_BYTES_MAX + 1), ..p }),
        ];
        for (what, lie) in lies {
            let mut fetch = Fetch::new(offer(), 0);
            let part = lie(good(&mut fetch));
            assert!(fetch.take(part).is_err(), "{what}");
            assert_eq!(fetch.have(), 0, "{what}");
        }
        let mut at_end = Fetch::new(offer(), FILE_BYTES - 10);
        let part = ModelPart { data: vec![0; 11].into(), ..good(&mut at_end) };
        assert!(at_end.take(part).is_err(), "past the end of the file");
    }

    #[test]
    fn silence_is_asked_again_and_then_given_up() {
        let mut fetch = Fetch::new(offer(), 0);
        let mut now = Nanos::ZERO;
        for _ in 0..ASKS_MAX {
            assert!(fetch.next(now).unwrap().is_some());
            assert_eq!(fetch.next(now + Nanos::from_secs(1)).unwrap(), None);
            now += PATIENCE;
        }
        assert!(fetch.next(now).unwrap_err().contains("no answer"));
        let mut unsent = Fetch::new(offer(), 0);
        for _ in 0..3 * ASKS_MAX {
            assert!(unsent.next(Nanos::ZERO).unwrap().is_some());
            unsent.not_sent();
        }
    }
}
