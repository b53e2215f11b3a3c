//! One packet and its text and binary forms.

use bytes::Bytes;
use bytestring::ByteString;

/// What a `message` packet carries; the only packet that can be binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text, without the packet type's digit.
    Text(ByteString),
    /// Bytes as they are.
    Binary(Bytes),
}

/// One Engine.IO packet. Data on `close`, `upgrade` and `noop` has no meaning and is dropped when decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// The handshake, a JSON object.
    Open(ByteString),
    /// The end of a polling session.
    Close,
    /// Heartbeat of the server, or the upgrade's probe.
    Ping(ByteString),
    /// Answer to a ping.
    Pong(ByteString),
    /// What the layer above exchanges.
    Message(Message),
    /// The client's word that it has moved to this WebSocket.
    Upgrade,
    /// Nothing; ends a pending GET.
    Noop,
}

/// One WebSocket message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A text message.
    Text(ByteString),
    /// A binary message.
    Binary(Bytes),
}

/// A packet that no Engine.IO 4 peer may send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing where a packet was expected.
    #[error("empty packet")]
    Empty,
    /// The first character is none of `0` to `6` and `b`.
    #[error("unknown packet type '{}'", .0.escape_default())]
    UnknownType(char),
    /// A polling body's binary packet that is no base64.
    #[error("binary packet is not base64")]
    Base64,
    /// A polling body that is no UTF-8.
    #[error("payload is not UTF-8")]
    Utf8,
}
