//! The body of the OPEN packet.

use std::time::Duration;

/// What the server says of itself when a session opens (section 1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The session's id; whoever knows it can join the session, so it is shown to nobody.
    pub sid: String,
    /// Transports the server would let the session move to, unknown ones included.
    pub upgrades: Vec<String>,
    /// Time between two pings of the server.
    pub ping_interval: Duration,
    /// How much later than `ping_interval` a ping may come.
    pub ping_timeout: Duration,
    /// Largest POST body in bytes; absent on older servers.
    pub max_payload: Option<usize>,
}

/// A handshake that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("bad handshake: {0}")]
pub struct HandshakeError(pub(super) String);
