//! The two revisions of Engine.IO that servers speak, and where the packets of one look different from the other's.

use std::collections::VecDeque;
use std::iter::FusedIterator;

use bytes::Bytes;
use bytestring::ByteString;

use super::packet::{DecodeError, Frame, Packet};
use super::{Details, Phase, packet_v3, payload, payload_v3};

/// What to do when revision 4 was spoken to a server of revision 3.
pub const SET_ENGINE_3: &str = "the server is older than Socket.IO 3: set engine = 3";
/// What to do when revision 3 was spoken to a server of revision 4.
pub const SET_ENGINE_4: &str =
    "the server does not speak to clients of Socket.IO 2: set engine = 4 (or allowEIO3 on the server)";

/// A revision of Engine.IO; Socket.IO protocol 4 travels on revision 3, protocol 5 on revision 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Revision {
    /// Socket.IO 1 and 2: the client sends the heartbeat.
    V3,
    /// Socket.IO 3 and 4: the server sends the heartbeat.
    #[default]
    V4,
}

impl Revision {
    /// As the query parameter `EIO` and the option `engine` say it.
    pub fn number(self) -> u8 {
        match self {
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }

    /// Reads a WebSocket text message that may still turn out not to be text.
    pub fn decode_bytes(self, text: Bytes) -> Result<Packet, DecodeError> {
        match self {
            Self::V4 => Packet::decode_bytes(text),
            Self::V3 => {
                ByteString::try_from(text).map_err(|_| DecodeError::Utf8).and_then(packet_v3::decode_text)
            }
        }
    }

    /// The text of a WebSocket message where it lies, if it needs no other reading; see [`Packet::message_text`].
    pub fn message_text(self, bytes: &[u8]) -> Option<&str> {
        match self {
            Self::V4 => Packet::message_text(bytes),
            Self::V3 => None,
        }
    }

    /// Reads one WebSocket message.
    pub fn decode_frame(self, frame: Frame) -> Result<Packet, DecodeError> {
        match (self, frame) {
            (Self::V4, Frame::Text(text)) => Packet::decode_text(text),
            (Self::V4, Frame::Binary(bytes)) => Ok(Packet::decode_binary(bytes)),
            (Self::V3, Frame::Text(text)) => packet_v3::decode_text(text),
            (Self::V3, Frame::Binary(bytes)) => Ok(packet_v3::decode_binary(&bytes)),
        }
    }

    /// The packet as one WebSocket message.
    pub fn encode_frame(self, packet: &Packet) -> Frame {
        match self {
            Self::V3 => packet_v3::encode(packet),
            Self::V4 => packet.encode(),
        }
    }

    /// The packets of a polling body, in order. The first bad one is yielded as the error and ends the iteration.
    pub fn decode_body(self, body: Bytes) -> Packets {
        match self {
            Self::V3 => Packets::V3(payload_v3::decode(body)),
            Self::V4 => Packets::V4(payload::decode(body)),
        }
    }

    /// A polling body of what is queued; see [`payload::take_body`].
    pub fn take_body(self, queue: &mut VecDeque<Packet>, max_payload: Option<usize>) -> Option<String> {
        match self {
            Self::V3 => payload_v3::take_body(queue, max_payload),
            Self::V4 => payload::take_body(queue, max_payload),
        }
    }

    /// Bytes of the packet in a polling body, exactly.
    pub fn size_in_body(self, packet: &Packet) -> usize {
        match self {
            Self::V3 => payload_v3::size(packet),
            Self::V4 => packet.payload_size(),
        }
    }

    /// Bytes between this many packets of one body.
    pub fn separators(self, packets: usize) -> usize {
        match self {
            Self::V3 => 0,
            Self::V4 => packets.saturating_sub(1),
        }
    }

    /// The revision whose handshake begins this body, if it is one.
    ///
    /// Servers before Socket.IO 3 answer in their own way whatever they are asked, and parts of that are valid packets
    /// of revision 4; so who expects a handshake asks here first.
    pub fn of_handshake(body: &[u8]) -> Option<Self> {
        if body.starts_with(b"0{") {
            return Some(Self::V4);
        }
        payload_v3::first_element(body).filter(|element| element.starts_with(b"0{")).map(|_| Self::V3)
    }

    /// What to do about a session that could not be opened in this revision, if it failed as it does when the server
    /// speaks only the other.
    ///
    /// A server of revision 4 refuses revision 3 with a text over HTTP; asked for a WebSocket it writes that text, head
    /// and all, where frames should be (Socket.IO 4), or says nothing at all (3).
    pub fn mismatch(self, failure: &Details) -> Option<&'static str> {
        let description = failure.description.as_deref().unwrap_or_default();
        let answered_in = |other: Self| description == DecodeError::OtherRevision(other).to_string();
        match self {
            Self::V4 => answered_in(Self::V3).then_some(SET_ENGINE_3),
            Self::V3 => {
                let refused = description.contains("Unsupported protocol version");
                let is_opened = failure.phase == Some(Phase::Engine);
                let broke = is_opened && matches!(failure.message.as_str(), "websocket error" | "timeout");
                (answered_in(Self::V4) || refused || broke).then_some(SET_ENGINE_4)
            }
        }
    }
}

/// Iterator made by [`Revision::decode_body`].
#[derive(Clone, Debug)]
pub enum Packets {
    /// Of a body of revision 3.
    V3(payload_v3::Packets),
    /// Of a body of revision 4.
    V4(payload::Packets),
}

impl Default for Packets {
    fn default() -> Self {
        Self::V4(payload::Packets::default())
    }
}

impl Iterator for Packets {
    type Item = Result<Packet, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::V3(packets) => packets.next(),
            Self::V4(packets) => packets.next(),
        }
    }
}

impl FusedIterator for Packets {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_says_which_option_to_set() {
        let failure = |message: &str, description: &str, phase| Details {
            description: Some(description.to_owned()),
            phase: Some(phase),
            ..Details::new(message)
        };
        let poll = r#"HTTP 400: {"code":5,"message":"Unsupported protocol version"}"#;
        for (revision, failure, hint) in [
            (
                Revision::V4,
                failure("server error", "the server speaks Engine.IO 3", Phase::Engine),
                Some("engine = 3"),
            ),
            (
                Revision::V3,
                failure("server error", "the server speaks Engine.IO 4", Phase::Engine),
                Some("engine = 4"),
            ),
            (Revision::V3, failure("xhr poll error", poll, Phase::Http), Some("engine = 4")),
            (Revision::V3, failure("websocket error", "reserved bits", Phase::Engine), Some("engine = 4")),
            (Revision::V3, failure("websocket error", "HTTP 404", Phase::Http), None),
            (Revision::V4, failure("websocket error", "reserved bits", Phase::Engine), None),
            (Revision::V4, failure("xhr poll error", poll, Phase::Http), None),
            (Revision::V3, failure("timeout", "no handshake", Phase::Engine), Some("engine = 4")),
            (Revision::V4, failure("timeout", "no handshake", Phase::Engine), None),
            (Revision::V3, Details::new("timeout"), None),
        ] {
            let said = revision.mismatch(&failure);
            assert_eq!(said.is_some(), hint.is_some(), "{failure:?}");
            assert!(said.unwrap_or_default().contains(hint.unwrap_or_default()), "{failure:?}");
        }
    }

    #[test]
    fn a_handshake_says_its_revision() {
        for (body, revision) in [
            (r#"0{"sid":"S"}"#, Some(Revision::V4)),
            ("0{\"sid\":\"S\"}\u{1e}40", Some(Revision::V4)),
            (r#"12:0{"sid":"S"}2:40"#, Some(Revision::V3)),
            // Its first digit is a valid type of revision 4.
            (r#"112:0{"sid":"S"…"#, Some(Revision::V3)),
            ("\0\x01\x02\u{0}", None),
            ("2:40", None),
            ("40", None),
            ("", None),
            ("<html>", None),
        ] {
            assert_eq!(Revision::of_handshake(body.as_bytes()), revision, "{body:?}");
        }
        assert_eq!(Revision::of_handshake(b"\x00\x01\x02\xff0{\"sid\":\"S\"}"), Some(Revision::V3));
    }
}
