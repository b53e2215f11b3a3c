//! What is known of a failure: for the event that tells of it, and for what follows.

use std::borrow::Cow;
use std::time::Duration;

/// What is known of a failure beyond its reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// In the words of the official client where it has some.
    pub message: String,
    /// WebSocket close code or HTTP status.
    pub code: Option<u16>,
    /// What lies beneath: the OS error, the start of an answer's body.
    pub description: Option<String>,
    /// The step at which it happened.
    pub phase: Option<Phase>,
    /// What a person can do about it, where that is known.
    pub hint: Option<Cow<'static, str>>,
    /// The server asked not to be bothered again before this time is over (RFC 9110, section 10.2.3).
    pub retry_after: Option<Duration>,
}

impl Details {
    /// A message alone.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }
}

/// The step at which something failed, in the order in which a connection comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Looking up the host's addresses.
    Dns,
    /// Connecting to one of them.
    Tcp,
    /// What a proxy was asked for.
    Proxy,
    /// The TLS handshake, certificates included.
    Tls,
    /// A request, its answer, or the WebSocket handshake.
    Http,
    /// What travels afterwards: packets and WebSocket messages.
    Engine,
    /// The auth object could not be had.
    Auth,
    /// The namespace could not be joined.
    Namespace,
}

impl Phase {
    /// Its name as consumers read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Engine => "engine",
            Self::Auth => "auth",
            Self::Namespace => "namespace",
        }
    }
}
