//! Reading request bodies under limits: of one body, of all bodies together, and of time.

use crate::problem::Problem;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// The common room is counted in pieces of this size; a started piece counts whole.
const PIECE_BYTES: usize = 64 << 10;

/// Limits of request bodies, and the room they share. Clones share the room.
#[derive(Clone, Debug)]
pub(crate) struct BodyLimits {
    body_bytes_max: usize,
    idle: Duration,
    total: Duration,
    room: Arc<Semaphore>,
}

/// Takes in, for this long, what a client sends of a body that is refused: one that still sends when its connection is
/// closed often never sees why.
const REFUSED_BODY_TIME: Duration = Duration::from_secs(5);

/// A body, and the room it takes for as long as this lives.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl BodyLimits {
    /// One body takes at most `body_bytes_max`, all of them at most `all_bytes_max`; a body may pause for `idle` and
    /// take `total` in all.
    pub(crate) fn new(body_bytes_max: usize, all_bytes_max: usize, idle: Duration, total: Duration) -> Self {
        let pieces = all_bytes_max.div_ceil(PIECE_BYTES).min(Semaphore::MAX_PERMITS);
        Self { body_bytes_max, idle, total, room: Arc::new(Semaphore::new(pieces)) }
    }

    /// Reads a body to its end.
    pub(crate) async fn read(&self, mut body: Body) -> Result<Received, Problem> {
        let until = Instant::now() + self.total;
        let mut bytes = BytesMut::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        loop {
            let wait_until = until.min(Instant::now() + self.idle);
            let Ok(frame) = timeout_at(wait_until, body.frame()).await else {
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"));
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| self.unreadable(&error))?;
            let Ok(data) = frame.into_data() else { continue }; // trailers
            if data.len() > self.body_bytes_max - bytes.len() {
                return Err(self.too_large());
            }
            let pieces = (bytes.len() + data.len()).div_ceil(PIECE_BYTES);
            self.take_room(&mut room, pieces)?;
            bytes.extend_from_slice(&data);
        }
        Ok(Received { bytes: bytes.freeze(), room })
    }

    /// Refuses a body whose declared length is too much. What is not far too much is received first, for the sake of
    /// clients that read no answer while they send; those that asked before sending are answered at once.
    pub(crate) async fn check_declared(State(limits): State<Self>, request: Request, next: Next) -> Response {
        let number = |v: &HeaderValue| v.to_str().ok()?.parse::<usize>().ok();
        let declared = request.headers().get(header::CONTENT_LENGTH).and_then(number).unwrap_or(0);
        if declared <= limits.body_bytes_max {
            return next.run(request).await;
        }
        if declared / 4 <= limits.body_bytes_max && !request.headers().contains_key(header::EXPECT) {
            let mut body = request.into_body();
            let all = async { while let Some(Ok(_)) = body.frame().await {} };
            let _ = tokio::time::timeout(REFUSED_BODY_TIME, all).await; // refused either way
        }
        limits.too_large().into_response()
    }

    fn take_room(&self, room: &mut Option<OwnedSemaphorePermit>, pieces: usize) -> Result<(), Problem> {
        let held = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = u32::try_from(pieces.saturating_sub(held)).unwrap_or(u32::MAX);
        if missing == 0 {
            return Ok(());
        }
        let full = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many bytes of requests at once: try again");
        let more = self.room.clone().try_acquire_many_owned(missing).map_err(full)?;
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        Ok(())
    }

    fn too_large(&self) -> Problem {
        let words = format!("the body is larger than {} bytes", self.body_bytes_max);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, words)
    }

    // Either the client stopped, or what it sent does not decompress, or a limit on compressed bytes struck.
    fn unreadable(&self, error: &axum::Error) -> Problem {
        let mut cause: Option<&dyn Error> = Some(error);
        let mut words = error.to_string();
        while let Some(error) = cause {
            if error.is::<LengthLimitError>() {
                return self.too_large();
            }
            words = error.to_string();
            cause = error.source();
        }
        Problem::bad_request(format!("the body cannot be read: {words}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(body_bytes_max: usize, all_bytes_max: usize) -> BodyLimits {
        BodyLimits::new(body_bytes_max, all_bytes_max, Duration::from_secs(60), Duration::from_secs(60))
    }

    #[tokio::test]
    async fn one_body_has_a_limit() {
        let limits = limits(4, 1 << 20);
        assert_eq!(limits.read(Body::from("1234")).await.unwrap().bytes, "1234");
        let problem = limits.read(Body::from("12345")).await.unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.error.as_str()), (413, "the body is larger than 4 bytes"));
    }

    #[tokio::test]
    async fn bodies_share_room_and_give_it_back() {
        let limits = limits(1 << 20, 2 * PIECE_BYTES);
        let first = limits.read(Body::from(vec![0; PIECE_BYTES + 1])).await.unwrap();
        assert_eq!(limits.read(Body::from("x")).await.unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(limits.read(Body::empty()).await.unwrap().room.is_none());
        drop(first);
        assert_eq!(limits.read(Body::from(vec![0; 2 * PIECE_BYTES])).await.unwrap().bytes.len(), 2 * PIECE_BYTES);
    }
}
