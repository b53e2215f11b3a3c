//! One notification: its line as it came, and the few members that every reader needs.

use std::borrow::Cow;

use bytestring::ByteString;
use serde::Deserialize;

use super::Lost;

/// What kind of thing happened: the notification's `method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The server emitted an event.
    Event,
    /// The connection itself changed.
    Lifecycle,
    /// Notifications were lost because this program was too slow.
    Lagged,
    /// Some program emitted an event.
    Outgoing,
    /// The daemon is about to close the attachment.
    Goodbye,
    /// A method that this client does not know.
    Other,
}

impl Kind {
    pub(super) fn of(method: &str) -> Self {
        match method {
            "event" => Self::Event,
            "lifecycle" => Self::Lifecycle,
            "lagged" => Self::Lagged,
            "outgoing" => Self::Outgoing,
            "goodbye" => Self::Goodbye,
            _ => Self::Other,
        }
    }
}

/// One notification of the daemon. Cheap to clone: the text is shared.
#[derive(Clone, Debug)]
pub struct Notification {
    line: ByteString,
    params: ByteString,
    kind: Kind,
    connection: Option<String>,
    seq: Option<u64>,
}

impl Notification {
    pub(super) fn new(line: ByteString, kind: Kind, params: ByteString) -> Result<Self, Lost> {
        #[derive(Default, Deserialize)]
        struct Head {
            connection: Option<String>,
            seq: Option<u64>,
        }
        let Head { connection, seq } = match kind {
            Kind::Other => Head::default(),
            _ => serde_json::from_str(&params).map_err(|error| Lost::Protocol(error.to_string()))?,
        };
        Ok(Self { line, params, kind, connection, seq })
    }

    /// What kind of thing happened.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The whole message as the daemon wrote it, to the byte, without the newline.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The `params` as the daemon wrote them.
    pub fn params(&self) -> &str {
        &self.params
    }

    /// The `params` as a type of the caller's, which can borrow from this notification.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> serde_json::Result<T> {
        serde_json::from_str(&self.params)
    }

    /// The connection it belongs to; `goodbye` belongs to none.
    pub fn connection(&self) -> Option<&str> {
        self.connection.as_deref()
    }

    /// Its place in the connection's sequence. Events and lifecycle notifications have one; it only means something
    /// together with the `stream` that the daemon names when it answers `subscribe`.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }

    /// The reason, where this is a `goodbye`.
    pub fn goodbye(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Goodbye<'a> {
            #[serde(borrow, default)]
            reason: Cow<'a, str>,
        }
        match self.kind {
            Kind::Goodbye => {
                Some(self.read().map_or_else(|_| String::new(), |Goodbye { reason }| reason.into()))
            }
            _ => None,
        }
    }
}
