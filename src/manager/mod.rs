//! One upstream connection, kept alive.

pub mod backoff;

use std::path::PathBuf;
use std::time::Duration;

use bytestring::ByteString;

use crate::engineio::TransportKind;
use crate::transport;

/// What makes a Manager: connections whose settings are equal can share one.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where and how to connect.
    pub transport: transport::Settings,
    /// Transports in the order in which they are tried; the first opens the session.
    pub transports: Vec<TransportKind>,
    /// Try the next transport within the same attempt when one cannot be opened.
    pub try_all_transports: bool,
    /// Move from polling to WebSocket when the server offers it.
    pub upgrade: bool,
    /// Start on WebSocket when the last one in this process worked.
    pub remember_upgrade: bool,
    /// Come back after a failure or loss.
    pub reconnection: bool,
    /// Attempts before giving up; absent: no limit.
    pub reconnection_attempts: Option<u32>,
    /// The delay between attempts.
    pub backoff: backoff::Settings,
    /// One connection attempt, from the first packet to the Engine.IO handshake; also the wait for a CONNECT answer.
    pub timeout: Duration,
    /// Up this long, a connection lets the delay's exponent start over.
    pub stable_after: Duration,
}

/// What makes one Socket on a Manager.
#[derive(Clone, Debug, PartialEq)]
pub struct SocketSettings {
    /// `/` or `/name`, with the trailing slash the URL had.
    pub namespace: ByteString,
    /// Who we are.
    pub auth: Auth,
    /// Timeout of emits with ack that name none.
    pub ack_timeout: Option<Duration>,
    /// Bytes of events that may wait while not connected.
    pub send_buffer: usize,
    /// Attachments an emit may have.
    pub max_attachments: usize,
}

/// Where the CONNECT packet's auth object comes from.
#[derive(Clone, PartialEq)]
pub enum Auth {
    /// No auth.
    None,
    /// A JSON object, minified.
    Fixed(ByteString),
    /// A file holding a JSON object, read again at every CONNECT.
    File(PathBuf),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Fixed(_) => f.write_str("Fixed(***)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}
