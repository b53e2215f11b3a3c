//! One packet and its text and binary forms.
//!
//! What the data of a packet means is for the session and the layers above to judge.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::{Buf, Bytes};
use bytestring::ByteString;

use super::Revision;

/// Standard alphabet, padded when encoding; the official decoder takes unpadded input too, so this one does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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

/// A packet that no Engine.IO peer may send.
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
    /// Text that is no UTF-8.
    #[error("payload is not UTF-8")]
    Utf8,
    /// A polling body of revision 3 whose lengths do not fit what is there.
    #[error("the length of a packet is missing or wrong")]
    Length,
    /// A handshake of another revision than the one that was asked for.
    #[error("the server speaks Engine.IO {}", .0.number())]
    OtherRevision(Revision),
}

impl Packet {
    /// Reads a WebSocket text message or one element of a polling body.
    ///
    /// Text data is a slice of `text`, not a copy: keep it only as long as the whole may stay in memory.
    #[expect(clippy::needless_pass_by_value, reason = "the packet takes over a share of the buffer")]
    pub fn decode_text(text: ByteString) -> Result<Self, DecodeError> {
        let kind = text.chars().next().ok_or(DecodeError::Empty)?;
        let data = || text.slice_ref(&text[1..]);
        match kind {
            '0' => Ok(Self::Open(data())),
            '1' => Ok(Self::Close),
            '2' => Ok(Self::Ping(data())),
            '3' => Ok(Self::Pong(data())),
            '4' => Ok(Self::Message(Message::Text(data()))),
            '5' => Ok(Self::Upgrade),
            '6' => Ok(Self::Noop),
            'b' => decode_base64(&text[1..]),
            other => Err(DecodeError::UnknownType(other)),
        }
    }

    /// [`decode_text`](Self::decode_text) for bytes of which nobody knows yet whether they are text.
    pub fn decode_bytes(mut bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.first() == Some(&b'4') {
            // The usual case: without its digit the buffer is the data.
            bytes.advance(1);
            let data = ByteString::try_from(bytes).map_err(|_| DecodeError::Utf8)?;
            return Ok(Self::Message(Message::Text(data)));
        }
        ByteString::try_from(bytes).map_err(|_| DecodeError::Utf8).and_then(Self::decode_text)
    }

    /// The text of a WebSocket message that is a `message` packet, where it lies; `None` for any other packet, and where
    /// it is no text.
    pub fn message_text(bytes: &[u8]) -> Option<&str> {
        std::str::from_utf8(bytes.strip_prefix(b"4")?).ok()
    }

    /// Reads a WebSocket binary message, which is always a `message` packet and has no type byte.
    pub fn decode_binary(bytes: Bytes) -> Self {
        Self::Message(Message::Binary(bytes))
    }

    /// The packet as one WebSocket message.
    pub fn encode(&self) -> Frame {
        if let Self::Message(Message::Binary(bytes)) = self {
            return Frame::Binary(bytes.clone());
        }
        let mut text = String::with_capacity(self.payload_size());
        self.encode_into(&mut text);
        Frame::Text(text.into())
    }

    /// Appends the text form, which is an element of a polling body: binary data becomes `b` and base64.
    pub fn encode_into(&self, out: &mut String) {
        let (kind, data) = match self {
            Self::Open(data) => ('0', data.as_ref()),
            Self::Close => ('1', ""),
            Self::Ping(data) => ('2', data.as_ref()),
            Self::Pong(data) => ('3', data.as_ref()),
            Self::Message(Message::Text(data)) => ('4', data.as_ref()),
            Self::Message(Message::Binary(bytes)) => {
                out.push('b');
                return encode_base64(bytes, out);
            }
            Self::Upgrade => ('5', ""),
            Self::Noop => ('6', ""),
        };
        out.push(kind);
        out.push_str(data);
    }

    /// Bytes of the text form, exactly; at least 1.
    pub fn payload_size(&self) -> usize {
        match self {
            Self::Message(Message::Binary(bytes)) => 1 + 4 * bytes.len().div_ceil(3),
            _ => 1 + self.text().map_or(0, |data| data.len()),
        }
    }

    /// Whether the last that waits here is a pong: it answers any number of pings, and another behind it would only
    /// let the server decide how much waits.
    pub fn ends_in_pong(queue: &VecDeque<Self>) -> bool {
        matches!(queue.back(), Some(Self::Pong(_)))
    }

    /// Its data, where that is text.
    pub(super) fn text(&self) -> Option<&ByteString> {
        match self {
            Self::Open(data) | Self::Ping(data) | Self::Pong(data) | Self::Message(Message::Text(data)) => {
                Some(data)
            }
            Self::Message(Message::Binary(_)) | Self::Close | Self::Upgrade | Self::Noop => None,
        }
    }
}

/// A binary message from its base64.
pub(super) fn decode_base64(text: &str) -> Result<Packet, DecodeError> {
    let bytes = BASE64.decode(text).map_err(|_| DecodeError::Base64)?;
    Ok(Packet::decode_binary(bytes.into()))
}

/// Appends the base64 of a binary message.
pub(super) fn encode_base64(bytes: &[u8], out: &mut String) {
    BASE64.encode_string(bytes, out);
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::engineio) fn packets() -> impl Strategy<Value = Packet> {
        let text = any::<String>().prop_map(ByteString::from).boxed();
        prop_oneof![
            text.clone().prop_map(Packet::Open),
            Just(Packet::Close),
            text.clone().prop_map(Packet::Ping),
            text.clone().prop_map(Packet::Pong),
            text.prop_map(|text| Packet::Message(Message::Text(text))),
            any::<Vec<u8>>().prop_map(|bytes| Packet::decode_binary(bytes.into())),
            Just(Packet::Upgrade),
            Just(Packet::Noop),
        ]
    }

    fn message(text: &str) -> Packet {
        Packet::Message(Message::Text(text.into()))
    }

    #[test]
    fn text_decodes() {
        let binary = |bytes: &'static [u8]| Packet::decode_binary(Bytes::from_static(bytes));
        for (text, expected) in [
            ("0{}", Ok(Packet::Open("{}".into()))),
            ("1", Ok(Packet::Close)),
            ("1why", Ok(Packet::Close)),
            ("2probe", Ok(Packet::Ping("probe".into()))),
            ("3", Ok(Packet::Pong("".into()))),
            ("4", Ok(message(""))),
            ("4a\u{1e}b", Ok(message("a\u{1e}b"))),
            ("5", Ok(Packet::Upgrade)),
            ("6abc", Ok(Packet::Noop)),
            ("b", Ok(binary(b""))),
            ("bAQ==", Ok(binary(b"\x01"))),
            ("bAQ", Ok(binary(b"\x01"))),
            ("b!!AQ==", Err(DecodeError::Base64)),
            ("b-_-_", Err(DecodeError::Base64)),
            ("", Err(DecodeError::Empty)),
            ("7", Err(DecodeError::UnknownType('7'))),
            ("BAQ==", Err(DecodeError::UnknownType('B'))),
            ("\u{1F600}4", Err(DecodeError::UnknownType('\u{1F600}'))),
        ] {
            assert_eq!(Packet::decode_text(text.into()), expected, "{text:?}");
        }
    }

    #[test]
    fn text_data_is_not_copied() {
        let text = ByteString::from("4hello".to_owned());
        let Ok(Packet::Message(Message::Text(data))) = Packet::decode_text(text.clone()) else {
            panic!("a message was expected");
        };
        assert_eq!(data.as_ptr(), text[1..].as_ptr());
    }

    #[test]
    fn the_error_names_an_unprintable_type_readably() {
        assert_eq!(DecodeError::UnknownType('\n').to_string(), r"unknown packet type '\n'");
    }

    proptest! {
        #[test]
        fn any_text_is_a_packet_or_an_error(text: String) {
            let _ = Packet::decode_text(text.into());
        }

        #[test]
        fn what_is_encoded_decodes_to_the_same(packet in packets()) {
            let decoded = match packet.encode() {
                Frame::Text(text) => Packet::decode_text(text),
                Frame::Binary(bytes) => Ok(Packet::decode_binary(bytes)),
            };
            prop_assert_eq!(decoded, Ok(packet));
        }

        #[test]
        fn the_text_form_has_the_announced_size(packet in packets()) {
            let mut text = String::new();
            packet.encode_into(&mut text);
            prop_assert_eq!(text.len(), packet.payload_size());
            prop_assert_eq!(Packet::decode_text(text.into()), Ok(packet));
        }
    }
}
