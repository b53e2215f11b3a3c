//! The session layer, Engine.IO in its revisions 3 and 4: packets, payloads, the handshake and the life of one session.
//!
//! Nothing here does IO or reads a clock.

mod details;
mod handshake;
mod heartbeat;
mod packet;
mod packet_v3;
pub mod payload;
pub mod payload_v3;
mod revision;
mod session;

pub use details::{Details, Phase};
pub use handshake::{Handshake, HandshakeError};
pub use packet::{DecodeError, Frame, Message, Packet};
pub use revision::{Packets, Revision, SET_ENGINE_3, SET_ENGINE_4};
pub use session::{CloseReason, Event, Session, UPGRADE_TIMEOUT};

/// How the packets of a session travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Transport"))]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// HTTP long-polling: one GET that waits for packets, one POST that carries them.
    Polling,
    /// One WebSocket.
    WebSocket,
}

impl TransportKind {
    /// The name in the query string and in the handshake's `upgrades`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
        }
    }
}
