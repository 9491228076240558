//! The first exchange on a connection: who speaks what.

use bps_wire::{HELLO_BYTES_MAX, HELLO_FIXED_BYTES, Hello, WireError, agree, decode_hello, encode_hello, hello_bytes};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why two hosts do not come to talk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    /// The connection ended first. It is how a host that does not know the other, or has a session already, refuses.
    #[error("the peer closed during the handshake; is this host paired there? ({0})")]
    Io(#[from] io::Error),
    /// Not our protocol, or no version in common.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Writes ours.
pub(crate) async fn say(stream: &mut (impl AsyncWrite + Unpin), ours: &Hello) -> Result<(), HelloError> {
    stream.write_all(&encode_hello(ours)?).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads theirs; at most [`HELLO_BYTES_MAX`] bytes.
pub(crate) async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> Result<Hello, HelloError> {
    let mut bytes = [0; HELLO_BYTES_MAX];
    stream.read_exact(&mut bytes[..HELLO_FIXED_BYTES]).await?;
    let mut fixed = [0; HELLO_FIXED_BYTES];
    fixed.copy_from_slice(&bytes[..HELLO_FIXED_BYTES]);
    let length = hello_bytes(&fixed)?;
    stream.read_exact(&mut bytes[HELLO_FIXED_BYTES..length]).await?;
    Ok(decode_hello(&bytes[..length])?)
}

/// The side that dialled: speaks first.
pub(crate) async fn introduce<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    ours: &Hello,
) -> Result<Hello, HelloError> {
    say(stream, ours).await?;
    let theirs = hear(stream).await?;
    agree(ours, &theirs)?;
    Ok(theirs)
}

/// The side that was dialled: hears the other out. Without a version in common it still says which it speaks, so that
/// both sides can tell their people.
pub(crate) async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    ours: &Hello,
) -> Result<Hello, HelloError> {
    let theirs = hear(stream).await?;
    if let Err(skew) = agree(ours, &theirs) {
        say(stream, ours).await?;
        return Err(skew.into());
    }
    Ok(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_wire::VERSIONS;

    fn hello(versions: (u16, u16), name: &str) -> Hello {
        Hello { versions, name: name.into(), software: "bps 0.1.0".into(), frame_bytes_max: 1 << 20 }
    }

    #[tokio::test]
    async fn version_skew_is_clear_on_both_sides() {
        let (mut near, mut far) = tokio::io::duplex(4_096);
        let (old, new) = (hello(VERSIONS, "edge"), hello((7, 9), "strong"));
        let (dialled, accepted) = tokio::join!(introduce(&mut near, &old), receive(&mut far, &new));
        let said = |r: Result<Hello, HelloError>| r.expect_err("nothing in common").to_string();
        let text = "no protocol version in common: this host speaks 2, \"strong\" (\"bps 0.1.0\") speaks 7 to 9";
        assert_eq!(said(dialled), text);
        let text = "no protocol version in common: this host speaks 7 to 9, \"edge\" (\"bps 0.1.0\") speaks 2";
        assert_eq!(said(accepted), text);
    }

    #[tokio::test]
    async fn both_learn_of_each_other() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let (a, b) = (hello(VERSIONS, "a"), hello((1, 3), "b"));
        let answer = async {
            let theirs = receive(&mut far, &b).await?;
            say(&mut far, &b).await?;
            Ok::<_, HelloError>(theirs)
        };
        let (dialled, accepted) = tokio::join!(introduce(&mut near, &a), answer);
        assert_eq!((dialled.expect("they agree"), accepted.expect("they agree")), (b.clone(), a.clone()));
    }

    #[tokio::test]
    async fn other_protocols_are_recognised() {
        let (mut near, mut far) = tokio::io::duplex(64);
        far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("fits");
        let error = hear(&mut near).await.expect_err("no hello");
        assert!(error.to_string().contains("not a bps host"), "{error}");
    }
}
