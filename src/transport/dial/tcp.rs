//! From a name and a port to a TCP connection that notices when its peer is gone.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpStream, lookup_host};
use tracing::debug;

use super::race::{interleaved, race};
use crate::engineio::Phase;
use crate::transport::error::{Failure, lower_first};
use crate::transport::step::{Step, Watch};

/// Idle time after which the system asks the peer whether it is still there. An open session is never idle for longer
/// than the server's `pingInterval` (25 s by default), so these questions are for connections between two requests and
/// for sessions whose heartbeat rests while programs catch up. Short enough for home routers, which forget what is idle
/// after a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Time between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Questions without an answer before the connection is given up: all in all as long as `USER_TIMEOUT`.
const KEEPALIVE_COUNT: u32 = 3;
/// How long what was sent, or asked, may stay unacknowledged. Without it the system repeats itself for a quarter of an
/// hour. The session's heartbeat (45 s with the server's defaults) judges an open session earlier; this one is for
/// whatever has no heartbeat: the handshakes, the last words, a session that rests.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_mins(1);
/// Addresses named in one error.
const NAMED: usize = 4;

/// Resolves the name, now and not from memory, and connects to the first of its addresses that answers.
pub(super) async fn connect(host: &str, port: u16, watch: &dyn Watch) -> Result<TcpStream, Failure> {
    let addresses = resolve(host, port, watch).await?;
    let connected = race(addresses, |address| async move {
        watch.step(&Step::Connecting { address });
        TcpStream::connect(address).await.map(|stream| (stream, address)).map_err(|error| {
            watch.step(&Step::Unreachable { address, error: &error });
            (address, error)
        })
    });
    let (stream, address) = connected.await.map_err(|failures| unreachable(&failures))?;
    watch.step(&Step::Connected { address, local: stream.local_addr().ok() });
    if let Err(error) = configure(&stream) {
        // It works without, only worse.
        debug!(%error, "a socket option cannot be set");
    }
    Ok(stream)
}

/// All addresses of a name, in the order in which they are to be tried; at least one.
pub(super) async fn resolve(host: &str, port: u16, watch: &dyn Watch) -> Result<Vec<SocketAddr>, Failure> {
    let cannot = |why: &str| Failure::new(Phase::Dns, format!("cannot resolve {host}: {why}"));
    watch.step(&Step::Resolving { host });
    let found = lookup_host((host, port)).await.map_err(|error| {
        let error = error.to_string();
        cannot(error.strip_prefix("failed to lookup address information: ").unwrap_or(&error))
    })?;
    let addresses = interleaved(found);
    if addresses.is_empty() {
        return Err(cannot("the name has no address"));
    }
    watch.step(&Step::Resolved { host, addresses: &addresses });
    Ok(addresses)
}

/// A single address speaks for itself; several are named, each with its own error.
fn unreachable(failures: &[(SocketAddr, io::Error)]) -> Failure {
    let mut detail = String::new();
    if let [(_, error)] = failures {
        detail = lower_first(&error.to_string());
    } else {
        for (address, error) in failures.iter().take(NAMED) {
            let comma = if detail.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(detail, "{comma}{address}: {}", lower_first(&error.to_string()));
        }
        if let Some(more) = failures.len().checked_sub(NAMED).filter(|more| *more > 0) {
            let _ = write!(detail, ", and {more} more addresses");
        }
    }
    Failure::new(Phase::Tcp, detail)
}

fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    // OpenBSD has one setting of these for the whole system.
    {
        sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT)?;
    }
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(stream, u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_dead_peer_will_be_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let stream = connect("127.0.0.1", port, &|_: &Step<'_>| {}).await.expect("a connection");
        assert!(stream.nodelay().expect("an option"));
        assert!(sockopt::socket_keepalive(&stream).expect("an option"));
        assert_eq!(sockopt::tcp_keepidle(&stream), Ok(KEEPALIVE_IDLE));
        assert_eq!(sockopt::tcp_keepintvl(&stream), Ok(KEEPALIVE_INTERVAL));
        assert_eq!(sockopt::tcp_keepcnt(&stream), Ok(KEEPALIVE_COUNT));
        assert_eq!(sockopt::tcp_user_timeout(&stream), Ok(60_000));
    }

    #[tokio::test]
    async fn a_name_with_several_addresses_works_if_one_of_them_does() {
        // The same port of both families of loopback, of which one has a listener.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let stream = connect("localhost", port, &|_: &Step<'_>| {}).await.expect("a connection");
        assert!(stream.peer_addr().expect("an address").is_ipv4());
    }

    #[test]
    fn several_addresses_tell_their_errors() {
        let refused = || io::Error::from_raw_os_error(111);
        let failures = |count: u16| -> Vec<_> {
            (1..=count).map(|port| (SocketAddr::from(([127, 0, 0, 1], port)), refused())).collect()
        };
        let one = "connection refused (os error 111)";
        for (count, detail) in [
            (1, one.to_owned()),
            (2, format!("127.0.0.1:1: {one}, 127.0.0.1:2: {one}")),
            (
                6,
                format!(
                    "127.0.0.1:1: {one}, 127.0.0.1:2: {one}, 127.0.0.1:3: {one}, 127.0.0.1:4: {one}, and 2 more addresses"
                ),
            ),
        ] {
            assert_eq!(unreachable(&failures(count)).detail, detail);
        }
    }
}
