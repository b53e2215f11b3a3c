//! One Socket.IO packet: header, JSON payload, attachments.

use bytes::Bytes;
use bytestring::ByteString;

/// Names that no application may emit or receive (section 3.7).
pub const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// An event's name as JSON text: a string with its quotes and escapes as upstream wrote them, or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub(super) ByteString);

/// Arguments of an event or an ack: comma-separated JSON values (no brackets around them), never a raw newline.
///
/// Binary leaves stand as `{"_placeholder":true,"num":N}` and index `attachments`; without attachments such an
/// object is plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    pub(super) json: ByteString,
    pub(super) attachments: Vec<Bytes>,
}

/// What a packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Join (client: the auth object) or joined (server: an object with `sid`).
    Connect(Option<ByteString>),
    /// Leave, or kicked.
    Disconnect,
    /// An event; `id` asks for an ack.
    Event {
        /// The ack's id, where one is asked for.
        id: Option<u64>,
        /// The event's name.
        name: Name,
        /// All other arguments.
        args: Args,
    },
    /// The answer to an event with an id.
    Ack {
        /// The id of the event; absent ones are answers to nothing.
        id: Option<u64>,
        /// All arguments.
        args: Args,
    },
    /// The server refuses the namespace: an object or a string, JSON text.
    ConnectError(Option<ByteString>),
}

/// A packet and the namespace it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// `/` or `/name`.
    pub namespace: ByteString,
    /// What it says.
    pub body: Body,
}
