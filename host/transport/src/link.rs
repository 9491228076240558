//! The seam between sessions and carriers.

use crate::arrivals::Arrivals;
use crate::outbox::Outbox;
use bps_wire::WireError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

/// What a link runs as.
pub(crate) type Running = Pin<Box<dyn Future<Output = LinkError> + Send>>;

/// An authenticated connection to one peer on which both have said hello. It moves frames; what they mean is the
/// session's.
///
/// A carrier keeps control frames flowing while others are being written, abandons a frame that is recalled in the
/// middle, and counts every byte that arrives of frames that are no control messages.
pub(crate) trait Link: Send {
    /// Takes frames from `outbox` and hands in what arrives, until either side closes or something is wrong. When the
    /// outbox closes, its control frames are written first. Dropping the future drops the connection.
    fn run(self: Box<Self>, outbox: Arc<Outbox>, arrivals: Arc<Arrivals>) -> Running;
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// This side closed it and has written everything.
    #[error("closed")]
    Done,
    /// The carrier failed.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
    /// What arrived is no protocol of ours.
    #[error("the peer sent a bad frame: {0}")]
    Wire(#[from] WireError),
    /// What arrived breaks the carrier's rules.
    #[error("the peer broke the rules of the link: {0}")]
    Rules(&'static str),
}
