//! What a socket is told so that tensors and heartbeats share it well.

use socket2::SockRef;
use tokio::net::TcpStream;

/// Bytes the kernel takes beyond what it has sent: enough to keep it busy, little enough that what is urgent is not
/// stuck behind it and that a recalled frame is not already gone.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// Sets what the system allows. None of it is needed for correctness, so what is refused is only logged.
pub(super) fn tune(stream: &TcpStream) {
    let tell = |what: &str, result: std::io::Result<()>| {
        if let Err(error) = result {
            tracing::debug!(what, %error, "a socket option is not available");
        }
    };
    tell("TCP_NODELAY", stream.set_nodelay(true));
    let socket = SockRef::from(stream);
    #[cfg(target_os = "linux")]
    {
        tell("TCP_NOTSENT_LOWAT", socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX));
        // The default, cubic, falls to a fraction of the rate where packets are lost.
        tell("TCP_CONGESTION", socket.set_tcp_congestion(b"bbr"));
    }
    #[cfg(not(target_os = "linux"))]
    drop(socket);
}
