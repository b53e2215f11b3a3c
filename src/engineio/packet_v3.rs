//! Where a packet of revision 3 differs from one of revision 4: binary data carries its type, as a byte in front or,
//! in base64, as a digit behind the `b`.
//!
//! Only messages are binary in practice. What else is marked so, the official decoder takes for a packet without
//! meaning, and so does this one: it reads as [`Packet::Noop`].

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::packet::{self, DecodeError, Frame, Message, Packet};

/// The type of a binary message, as the byte in front of its data.
const MESSAGE: u8 = 4;

/// Reads a WebSocket text message or one text element of a polling body. Text data is a slice of `text`.
pub(super) fn decode_text(text: ByteString) -> Result<Packet, DecodeError> {
    let Some(rest) = text.strip_prefix('b') else { return Packet::decode_text(text) };
    match rest.chars().next() {
        Some('4') => packet::decode_base64(&rest[1..]),
        Some('0'..='6') => Ok(Packet::Noop),
        Some(other) => Err(DecodeError::UnknownType(other)),
        None => Err(DecodeError::Empty),
    }
}

/// Reads a WebSocket binary message or one binary element of a polling body. The data is a slice of `bytes`.
pub(super) fn decode_binary(bytes: &Bytes) -> Packet {
    match bytes.first() {
        Some(&MESSAGE) => Packet::decode_binary(bytes.slice(1..)),
        Some(_) | None => Packet::Noop,
    }
}

/// The packet as one WebSocket message.
pub(super) fn encode(packet: &Packet) -> Frame {
    let Packet::Message(Message::Binary(data)) = packet else { return packet.encode() };
    let mut bytes = BytesMut::with_capacity(1 + data.len());
    bytes.put_u8(MESSAGE);
    bytes.put_slice(data);
    Frame::Binary(bytes.freeze())
}

/// Appends the text form, which is an element of a polling body without its length.
pub(super) fn encode_into(packet: &Packet, out: &mut String) {
    if let Packet::Message(Message::Binary(bytes)) = packet {
        out.push_str("b4");
        packet::encode_base64(bytes, out);
    } else {
        packet.encode_into(out);
    }
}

/// Bytes of the text form, exactly; at least 1.
pub(super) fn text_size(packet: &Packet) -> usize {
    let type_digit = usize::from(matches!(packet, Packet::Message(Message::Binary(_))));
    packet.payload_size() + type_digit
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::tests::packets;
    use super::*;

    #[test]
    fn binary_data_carries_its_type() {
        let binary = |bytes: &'static [u8]| Packet::decode_binary(Bytes::from_static(bytes));
        for (text, expected) in [
            ("b4AQ==", Ok(binary(b"\x01"))),
            ("b4AQ", Ok(binary(b"\x01"))),
            ("b4", Ok(binary(b""))),
            ("b4!", Err(DecodeError::Base64)),
            ("bAQ==", Err(DecodeError::UnknownType('A'))),
            ("b0AQ==", Ok(Packet::Noop)),
            ("b", Err(DecodeError::Empty)),
            ("bé", Err(DecodeError::UnknownType('é'))),
            ("4b4AQ==", Ok(Packet::Message(Message::Text("b4AQ==".into())))),
            ("", Err(DecodeError::Empty)),
            ("7", Err(DecodeError::UnknownType('7'))),
        ] {
            assert_eq!(decode_text(text.into()), expected, "{text:?}");
        }
        for (bytes, expected) in [
            (&b"\x04"[..], binary(b"")),
            (b"\x04\x04\xff", binary(b"\x04\xff")),
            (b"", Packet::Noop),
            (b"\x02\x01", Packet::Noop),
            (b"\xff", Packet::Noop),
        ] {
            assert_eq!(decode_binary(&Bytes::from_static(bytes)), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_packet_or_an_error(text in "b?[0-9]?.{0,9}") {
            let _ = decode_text(text.into());
        }

        #[test]
        fn what_is_encoded_decodes_to_the_same(packet in packets()) {
            let decoded = match encode(&packet) {
                Frame::Text(text) => decode_text(text),
                Frame::Binary(bytes) => Ok(decode_binary(&bytes)),
            };
            prop_assert_eq!(decoded, Ok(packet));
        }

        #[test]
        fn the_text_form_has_the_announced_size(packet in packets()) {
            let mut text = String::new();
            encode_into(&packet, &mut text);
            prop_assert_eq!(text.len(), text_size(&packet));
            prop_assert_eq!(decode_text(text.into()), Ok(packet));
        }
    }
}
