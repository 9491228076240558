//! The end of a host.

use crate::stand::{image, infer, settled, start, start_slow, until};
use bps_node::ServeError;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_under_load_finishes_what_was_taken() {
    let host = start_slow(|_| {}).await;
    let replies: Vec<_> = (0..30)
        .map(|seed| {
            let host = host.clone();
            tokio::spawn(async move { infer(&host, image(seed, 1)).await })
        })
        .collect();
    until("they are there", || host.ledger().submitted == 30).await;
    let report = host.drain().await;
    assert_eq!((report.waiting, report.running, report.ledger.answered), (0, 0, 30));
    for reply in replies {
        reply.await.unwrap().unwrap();
    }
    assert!(!host.is_ready());
    let error = infer(&host, image(1, 1)).await.unwrap_err();
    assert!(matches!(error, ServeError::Unavailable(_)), "{error:?}");
    settled(&host).await;
    assert_eq!(host.drain().await.waiting, 0, "a second drain has nothing to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_runs_out_of_time_says_what_is_left() {
    let host = start(|c| {
        c.devices = vec![crate::stand::device("cpu,slowdown=1000")];
        c.drain_timeout = Duration::from_millis(1);
    })
    .await;
    let replies: Vec<_> = (0..8)
        .map(|seed| {
            let host = host.clone();
            tokio::spawn(async move { infer(&host, image(seed, 32)).await })
        })
        .collect();
    until("they are there", || host.ledger().submitted == 8).await;
    let report = host.drain().await;
    assert!(report.ledger.holds());
    let (mut answered, mut stopped) = (0, 0);
    for reply in replies {
        match reply.await.unwrap() {
            Ok(_) => answered += 1,
            Err(ServeError::Unavailable(_)) => stopped += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(report.ledger.answered, answered);
    assert_eq!(report.waiting + report.running, stopped, "everybody hears something");
}
