//! A client that goes away takes its request with it.

use crate::harness::{Running, host_on, json_request, until};
use bps_api::ApiConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::test]
async fn a_client_that_goes_away_cancels() {
    // Slow enough that the first execution still runs when the clients are gone.
    let server = Running::client_port(host_on("cpu,slowdown=1000").await, ApiConfig::default()).await;
    let body = json_request(8, "");
    let head = format!("POST /v2/models/digits/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all((head.clone() + &body).as_bytes()).await.unwrap();
        clients.push(client);
    }
    until("all requests arrive", || server.host.ledger().submitted == 6).await;
    assert_eq!(server.host.ledger().answered, 0, "too fast for this test");
    drop(clients);
    until("all requests are cancelled", || server.host.ledger().cancelled == 6).await;
    assert!(server.host.ledger().holds());
    server.stop().await;
}
