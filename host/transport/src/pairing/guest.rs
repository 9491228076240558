//! The side that dials, with the code that the other one shows.

use super::code::{Code, random};
use super::exchange::{GuestSide, Next};
use super::message::{About, hear, say};
use super::{Own, Paired, PairingError, Terms, limited, other_side};
use crate::identity::Identity;
use crate::peers::PeerStore;
use crate::tls::{ANY_NAME, pairing_client_config};
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Pairs with the host that shows `code`: `host` is its name or address, an IPv6 one without brackets; `port` is where
/// it waits.
///
/// # Errors
/// Where it cannot be reached, refuses, or does not know the code; then neither side keeps the other, except that a
/// connection lost at the very end can leave this host kept there and not here. Pairing again puts that right.
pub async fn join(
    identity: Identity,
    store: PeerStore,
    terms: Terms,
    host: &str,
    port: u16,
    code: Code,
) -> Result<Paired, PairingError> {
    terms.check()?;
    limited(exchange(Own { identity, store, terms }, host, port, code)).await
}

async fn exchange(own: Own, host: &str, port: u16, code: Code) -> Result<Paired, PairingError> {
    let address = address(host, port);
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|source| PairingError::Connect { address: address.clone(), source })?;
    let connector = TlsConnector::from(Arc::new(pairing_client_config(&own.identity)?));
    let name = ServerName::try_from(ANY_NAME).map_err(|e| PairingError::Carrier(io::Error::other(e)))?;
    let mut carrier =
        connector.connect(name, stream).await.map_err(|source| PairingError::NoPairing { address, source })?;
    let key = other_side(carrier.get_ref().1)?;
    let (mut side, hello) = GuestSide::new(About::of(&own.terms), code, key, own.identity.key(), random()?);
    say(&mut carrier, &hello).await?;
    loop {
        let message = hear(&mut carrier).await?;
        match side.hear(message) {
            Next::Say(message) => say(&mut carrier, &message).await?,
            Next::Keep(about) => {
                let granted = about.grants;
                let address = about.peer_port.map(|port| self::address(host, port));
                let peer = own.store.put(own.terms.peer(key, about, address))?;
                if let Err(error) = carrier.shutdown().await {
                    tracing::debug!(%error, "the connection did not close in order");
                }
                return Ok(Paired { peer, granted });
            }
            Next::Refused(refusal) => return Err(PairingError::Refused(refusal)),
            Next::NotProven => return Err(PairingError::NotProven),
            Next::Refuse(_) | Next::Unexpected => return Err(PairingError::OutOfTurn),
        }
    }
}

/// As it is dialled; an IPv6 host gets its brackets.
fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
