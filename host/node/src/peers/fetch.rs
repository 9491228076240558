//! The fetch of one model: first the list of its files, then those, piece by piece: what to ask next, and what of an
//! answer is believed.
//!
//! Pure. One answer is on its way at a time, so that requests share the link. Nothing the other host says moves a byte
//! outside the files that it listed, and the list is held to the offer; that a file is the one it should be is for its
//! digest to say.

use super::roster::Offer;
use crate::models::{PIECE_BYTES_MAX, check_list};
use bps_types::Nanos;
use bps_wire::{ListWanted, Message, ModelFile, ModelList, ModelPart, ModelWanted};
use bytes::Bytes;

/// An answer that has not come within this time is asked for again: over 1 Mbit/s a piece takes two seconds.
const PATIENCE: Nanos = Nanos::from_secs(10);
/// Over a link so slow that answers come later, they are waited for longer, up to this: else each would come twice, and what
/// comes twice makes the next one later.
const PATIENCE_MAX: Nanos = Nanos::from_secs(30);
/// As often as one thing is asked for.
const ASKS_MAX: u32 = 5;
/// In each such span so much must have come, some 80 kbit/s: who gives byte by byte is as one who does not answer.
const SPAN: Nanos = Nanos::from_secs(50);
const SPAN_BYTES_MIN: u64 = 2 * PIECE_BYTES_MAX as u64;

/// A fetch under way.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    offer: Offer,
    /// In the order of the list; none before there is one.
    files: Option<Vec<Coming>>,
    /// Since when an answer is on its way.
    asked: Option<Nanos>,
    /// How often it was asked for.
    asks: u32,
    /// How long an answer is waited for.
    patience: Nanos,
    /// Since when is counted what comes.
    span: Option<Nanos>,
    /// That, in bytes; a whole answer counts as a whole piece, so that small files over a long way are not too slow.
    span_bytes: u64,
}

/// A file that is listed.
#[derive(Clone, Debug)]
struct Coming {
    file: ModelFile,
    have: u64,
}

/// What is to be done with a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Keep these bytes of this file.
    Piece { file: ModelFile, offset: u64, data: Bytes },
    /// It is none that was asked for: an answer to a question asked twice, or to nobody's.
    Ignored,
}

impl Fetch {
    pub(super) fn new(offer: Offer) -> Self {
        Self { offer, files: None, asked: None, asks: 0, patience: PATIENCE, span: None, span_bytes: 0 }
    }

    pub(super) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Bytes that have come, of all files.
    pub(super) fn have(&self) -> u64 {
        self.files.iter().flatten().map(|coming| coming.have).sum()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.files.as_ref().is_some_and(|files| files.iter().all(Coming::is_complete))
    }

    /// What to ask for now, if anything.
    ///
    /// # Errors
    /// Where the other host does not answer, or too slowly.
    pub(super) fn next(&mut self, now: Nanos) -> Result<Option<Message>, String> {
        let waits = self.asked.is_some_and(|at| now.since(at) < self.patience);
        if waits || self.is_complete() {
            return Ok(None);
        }
        if self.asks == ASKS_MAX {
            return Err(format!("no answer, {ASKS_MAX} times"));
        }
        if now.since(*self.span.get_or_insert(now)) >= SPAN {
            if self.span_bytes < SPAN_BYTES_MIN {
                return Err(format!("it comes too slowly: not {SPAN_BYTES_MIN} bytes within {SPAN}"));
            }
            (self.span, self.span_bytes) = (Some(now), 0);
        }
        self.asks += 1;
        self.asked = Some(now);
        let digest = self.offer.digest;
        Ok(Some(match self.current() {
            None => Message::ListWanted(ListWanted { digest }),
            Some(Coming { file, have }) => {
                let bytes = (file.bytes - *have).min(u64::from(PIECE_BYTES_MAX)) as u32;
                Message::ModelWanted(ModelWanted { digest, file: file.digest, offset: *have, bytes })
            }
        }))
    }

    /// The question could not be sent: it is asked again at the next opportunity, and does not count.
    pub(super) fn not_sent(&mut self) {
        self.asked = None;
        self.asks = self.asks.saturating_sub(1);
        (self.span, self.span_bytes) = (None, 0);
    }

    /// Looks at a list of the host that was asked; true where it can be gone on with, false where nobody wants it.
    ///
    /// # Errors
    /// Where its files cannot be taken, or are not what was offered.
    pub(super) fn takes_list(&self, list: &ModelList) -> Result<bool, String> {
        if list.digest != self.offer.digest || self.asked.is_none() || self.files.is_some() {
            return Ok(false);
        }
        let (offered, listed) = (self.offer.file_bytes, check_list(list)?);
        if listed != offered {
            return Err(format!("it was offered with {offered} bytes, and its files have {listed}"));
        }
        Ok(true)
    }

    /// Goes on with the files of a list, where of each so many bytes are there already.
    pub(super) fn go_on(&mut self, files: Vec<ModelFile>, have: Vec<u64>) {
        self.files = Some(files.into_iter().zip(have).map(|(file, have)| Coming { file, have }).collect());
        (self.asked, self.asks) = (None, 0);
        (self.span, self.span_bytes) = (None, 0);
    }

    /// Takes a piece from the host that was asked.
    ///
    /// # Errors
    /// Where it contradicts the list; nothing of this fetch is to be believed then.
    pub(super) fn take(&mut self, part: ModelPart) -> Result<Taken, String> {
        let (digest, is_awaited) = (self.offer.digest, self.asked.is_some());
        let Some(coming) = self.current_mut() else { return Ok(Taken::Ignored) };
        // Over a slow link it was asked for twice and comes twice: the way works.
        let is_again = (part.digest, part.file) == (digest, coming.file.digest) && part.offset < coming.have;
        let is_it = (part.digest, part.file, part.offset) == (digest, coming.file.digest, coming.have);
        if !is_it || !is_awaited {
            self.span_bytes += if is_again { part.data.len() as u64 } else { 0 };
            return Ok(Taken::Ignored);
        }
        let (length, left) = (part.data.len() as u64, coming.file.bytes - coming.have);
        let whole = left.min(u64::from(PIECE_BYTES_MAX));
        if length == 0 || length > whole {
            return Err(format!("{}: a piece of {length} bytes, where {left} are left", coming.file.name));
        }
        let (file, offset) = (coming.file.clone(), coming.have);
        coming.have += length;
        if self.asks > 1 {
            self.patience = (self.patience + self.patience).min(PATIENCE_MAX);
        }
        (self.asked, self.asks) = (None, 0);
        self.span_bytes += if length == whole { u64::from(PIECE_BYTES_MAX) } else { length };
        Ok(Taken::Piece { file, offset, data: part.data })
    }

    /// The first file that is not whole.
    fn current(&self) -> Option<&Coming> {
        self.files.iter().flatten().find(|coming| !coming.is_complete())
    }

    fn current_mut(&mut self) -> Option<&mut Coming> {
        self.files.iter_mut().flatten().find(|coming| !coming.is_complete())
    }
}

impl Coming {
    fn is_complete(&self) -> bool {
        self.have == self.file.bytes
    }
}

#[cfg(test)]
mod tests;
