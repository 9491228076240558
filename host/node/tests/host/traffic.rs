//! Requests that go on while something happens, and what their answers must be.

use crate::stand::{assert_close, image, infer, values};
use bps_node::{Host, InferReply, ServeError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Clients, each asking again as soon as it is answered, until told to stop.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<usize>>,
}

impl Traffic {
    /// Eight of them; `expected` is from [`expected`].
    pub(crate) fn start(host: &Host, expected: &[Vec<f32>]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |index: usize| {
            let (host, stop, expected) = (host.clone(), stop.clone(), expected.to_vec());
            tokio::spawn(async move {
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    let seed = (index + answered) % expected.len();
                    let reply: Result<InferReply, ServeError> = infer(&host, image(seed, 1)).await;
                    assert_close(&expected[seed], &values(&reply.expect("every request is answered")));
                    answered += 1;
                }
                answered
            })
        };
        Self { clients: (0..8).map(client).collect(), stop }
    }

    /// How many requests there were.
    pub(crate) async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut answered = 0;
        for client in self.clients {
            answered += client.await.expect("a client that was answered rightly");
        }
        answered
    }
}

/// What a host answers to images of one row, by their seeds.
pub(crate) async fn expected(host: &Host) -> Vec<Vec<f32>> {
    let mut all = Vec::new();
    for seed in 0..16 {
        all.push(values(&infer(host, image(seed, 1)).await.unwrap()));
    }
    all
}
