//! How much a host holds at once: requests and bytes of input, over all models.
//!
//! The scheduler bounds each model's queue; this bounds what is on its way there, what waits and what runs together, and
//! with it the dispatcher's channel.

use crate::ServeError;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Notify;

/// The account of what is held.
pub(crate) struct Admission {
    requests_max: usize,
    bytes_max: usize,
    held: Mutex<Held>,
    emptied: Notify,
}

#[derive(Default)]
struct Held {
    requests: usize,
    bytes: usize,
}

/// The right to be held; given back when dropped.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Admission {
    pub(crate) fn new(requests_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { requests_max, bytes_max, held: Mutex::default(), emptied: Notify::new() })
    }

    /// Takes a request of this size in, or refuses it at once.
    pub(crate) fn admit(self: &Arc<Self>, bytes: usize) -> Result<Permit, ServeError> {
        let mut held = self.held.lock();
        if held.requests >= self.requests_max {
            return Err(ServeError::Unavailable(format!("this host holds {} requests, its most", held.requests)));
        }
        let total = held.bytes.saturating_add(bytes);
        if total > self.bytes_max {
            return Err(ServeError::Unavailable(format!("this host holds {} bytes of input already", held.bytes)));
        }
        held.requests += 1;
        held.bytes = total;
        Ok(Permit { admission: self.clone(), bytes })
    }

    /// Ends when nothing is held.
    pub(crate) async fn wait_empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.held.lock().requests == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.admission.held.lock();
        held.requests -= 1;
        held.bytes -= self.bytes;
        if held.requests == 0 {
            self.admission.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_at_its_bounds_and_takes_again_after() {
        let admission = Admission::new(2, 100);
        let first = admission.admit(60).unwrap();
        assert!(matches!(admission.admit(41), Err(ServeError::Unavailable(_))), "bytes");
        let second = admission.admit(40).unwrap();
        assert!(matches!(admission.admit(0), Err(ServeError::Unavailable(_))), "requests");
        drop(first);
        let third = admission.admit(60).unwrap();
        let waiter = tokio::spawn({
            let admission = admission.clone();
            async move { admission.wait_empty().await }
        });
        drop((second, third));
        waiter.await.unwrap();
        assert!(admission.admit(100).is_ok());
    }
}
