//! Several packets in one polling body, as revision 3 frames them: each with its length in front.
//!
//! A text body is `6:4hello2:4a`, lengths in UTF-16 code units. With binary data in it a server may send a binary body
//! instead, unless the handshake asked for base64 (`b64=1`), as ours does: a byte 0 (text) or 1 (binary), the length
//! in bytes as digits of value 0 to 9, the byte 255, the packet. It is read here and never written.

use std::collections::VecDeque;
use std::iter::FusedIterator;

use bytes::Bytes;
use bytestring::ByteString;

use super::packet::{DecodeError, Packet};
use super::{packet_v3, payload};

/// The packets of a body, in order. The first bad one is yielded as the error and ends the iteration. Elements of
/// length 0 are skipped, so there may be none.
pub fn decode(body: Bytes) -> Packets {
    Packets(match body.first() {
        None => Rest::Bad(DecodeError::Empty),
        // No element of a binary body is looked at before the whole is known to hang together.
        Some(0 | 1) if !hangs_together(&body) => Rest::Bad(DecodeError::Length),
        Some(0 | 1) => Rest::Binary(body),
        Some(_) => ByteString::try_from(body).map_or(Rest::Bad(DecodeError::Utf8), Rest::Text),
    })
}

/// Iterator made by [`decode`]. Data are slices of the body.
#[derive(Clone, Debug)]
pub struct Packets(Rest);

#[derive(Clone, Debug)]
enum Rest {
    Text(ByteString),
    Binary(Bytes),
    Bad(DecodeError),
    Done,
}

impl Iterator for Packets {
    type Item = Result<Packet, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let packet = match std::mem::replace(&mut self.0, Rest::Done) {
            Rest::Text(text) => self.next_text(text)?,
            Rest::Binary(body) if body.is_empty() => return None,
            Rest::Binary(body) => self.next_binary(&body),
            Rest::Bad(error) => Err(error),
            Rest::Done => return None,
        };
        if packet.is_err() {
            self.0 = Rest::Done;
        }
        Some(packet)
    }
}

impl FusedIterator for Packets {}

impl Packets {
    fn next_text(&mut self, mut text: ByteString) -> Option<Result<Packet, DecodeError>> {
        while !text.is_empty() {
            let Some((element, rest)) = split_text(&text) else { return Some(Err(DecodeError::Length)) };
            let (element, rest) = (text.slice_ref(element), text.slice_ref(rest));
            if element.is_empty() {
                text = rest;
                continue;
            }
            self.0 = Rest::Text(rest);
            return Some(packet_v3::decode_text(element));
        }
        None
    }

    fn next_binary(&mut self, body: &Bytes) -> Result<Packet, DecodeError> {
        let (is_text, element, rest) = split_binary(body).ok_or(DecodeError::Length)?;
        let element = body.slice_ref(element);
        self.0 = Rest::Binary(body.slice_ref(rest));
        if is_text {
            ByteString::try_from(element).map_err(|_| DecodeError::Utf8).and_then(packet_v3::decode_text)
        } else {
            Ok(packet_v3::decode_binary(&element))
        }
    }
}

/// What the first length of a body announces, as far as it is there.
pub(super) fn first_element(body: &[u8]) -> Option<&[u8]> {
    match body.first()? {
        0 | 1 => split_binary(body).map(|(_, element, _)| element),
        _ => {
            let digits = body.iter().take_while(|byte| byte.is_ascii_digit()).count();
            body[digits..].strip_prefix(b":").filter(|_| digits > 0)
        }
    }
}

/// The first element of a text body without its length, and what follows it.
fn split_text(body: &str) -> Option<(&str, &str)> {
    let (length, rest) = body.split_once(':')?;
    if !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    rest.split_at_checked(bytes_of_units(rest, length.parse().ok()?)?)
}

/// How many bytes the first `units` UTF-16 code units of a text take; none if the text is shorter, or if the last of
/// them is half a character.
fn bytes_of_units(text: &str, units: usize) -> Option<usize> {
    // In ASCII, which most of it is, a unit is a byte.
    if text.as_bytes().get(..units)?.is_ascii() {
        return Some(units);
    }
    let mut missing = units;
    for (at, character) in text.char_indices() {
        if missing == 0 {
            return Some(at);
        }
        missing = missing.checked_sub(character.len_utf16())?;
    }
    (missing == 0).then_some(text.len())
}

/// The first element of a binary body without its head, whether it is text, and what follows it.
fn split_binary(body: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let (kind, rest) = body.split_first()?;
    let end = memchr::memchr(255, rest)?;
    let length = rest[..end].iter().try_fold(0_usize, |length, digit| {
        (*digit < 10).then_some(())?;
        length.checked_mul(10)?.checked_add(usize::from(*digit))
    })?;
    let (element, rest) = rest[end + 1..].split_at_checked(length)?;
    (*kind <= 1 && end > 0).then_some((*kind == 0, element, rest))
}

fn hangs_together(body: &[u8]) -> bool {
    let mut rest = body;
    while !rest.is_empty() {
        match split_binary(rest) {
            Some((_, _, after)) => rest = after,
            None => return false,
        }
    }
    true
}

/// All packets in one text body; no packets make an empty one, which no peer accepts.
pub fn encode<'a>(packets: impl IntoIterator<Item = &'a Packet>) -> String {
    let (mut body, mut element) = (String::new(), String::new());
    let mut digits = itoa::Buffer::new();
    for packet in packets {
        element.clear();
        packet_v3::encode_into(packet, &mut element);
        body.push_str(digits.format(units(&element)));
        body.push(':');
        body.push_str(&element);
    }
    body
}

/// Bytes of the packet in a text body, its length included, exactly.
pub fn size(packet: &Packet) -> usize {
    let text = packet_v3::text_size(packet);
    // All but the data is ASCII.
    let units = match packet.text() {
        Some(data) => text - data.len() + units(data),
        None => text,
    };
    units.checked_ilog10().map_or(1, |log| log as usize + 1) + 1 + text
}

/// UTF-16 code units of a text.
fn units(text: &str) -> usize {
    // A character takes one, or two where its UTF-8 has four bytes.
    let begins_character = |byte: u8| byte & 0xc0 != 0x80;
    text.bytes().map(|byte| usize::from(begins_character(byte)) + usize::from(byte >= 0xf0)).sum()
}

/// Takes packets off the front until the next would make the body larger than `max_payload` bytes; see
/// [`payload::take_body`].
pub fn take_body(queue: &mut VecDeque<Packet>, max_payload: Option<usize>) -> Option<String> {
    payload::take_fitting(queue, max_payload, size, |packets| encode(packets))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::tests::packets;
    use super::*;
    use crate::engineio::Message;

    fn text(data: &str) -> Packet {
        Packet::Message(Message::Text(data.into()))
    }

    fn binary(bytes: &'static [u8]) -> Packet {
        Packet::decode_binary(Bytes::from_static(bytes))
    }

    #[test]
    fn bodies_decode_up_to_the_first_error() {
        for (body, packets, error) in [
            (&b"6:4hello1:6"[..], vec![text("hello"), Packet::Noop], None),
            ("4:4😀é2:4x".as_bytes(), vec![text("😀é"), text("x")], None),
            (b"0:0:2:4a0:", vec![text("a")], None),
            (b"0:", vec![], None),
            (b"002:4a", vec![text("a")], None),
            (b"", vec![], Some(DecodeError::Empty)),
            (b"2:4a5:4b", vec![text("a")], Some(DecodeError::Length)),
            (b"2:4a:4b", vec![text("a")], Some(DecodeError::Length)),
            (b"2:4a+1:4", vec![text("a")], Some(DecodeError::Length)),
            (b"2:4a2", vec![text("a")], Some(DecodeError::Length)),
            (b"99999999999999999999:4", vec![], Some(DecodeError::Length)),
            // Half a character.
            ("2:4😀".as_bytes(), vec![], Some(DecodeError::Length)),
            (b"2:4a2:4\xff", vec![], Some(DecodeError::Utf8)),
            (b"2:4a1:9", vec![text("a")], Some(DecodeError::UnknownType('9'))),
            (b"\x00\x02\xff4a\x01\x02\xff\x04\x07", vec![text("a"), binary(b"\x07")], None),
            (b"\x01\x01\x02\xff\x04aaaaaaaaaaa", vec![binary(b"aaaaaaaaaaa")], None),
            (b"\x00\x02\xff4\xff", vec![], Some(DecodeError::Utf8)),
            (b"\x00\x00\xff", vec![], Some(DecodeError::Empty)),
            // The whole is refused: lengths that are none, or that lead beyond the end.
            (b"\x00\x02\xff4a\x01\x02\x0a\xff\x04\x07", vec![], Some(DecodeError::Length)),
            (b"\x00\x02\xff4a\x02\x02\xff\x04\x07", vec![], Some(DecodeError::Length)),
            (b"\x00\x02\xff4a\x01\xff", vec![], Some(DecodeError::Length)),
            (b"\x00\x09\xff4abc", vec![], Some(DecodeError::Length)),
            (b"\x00", vec![], Some(DecodeError::Length)),
            // Neither kind of body.
            (b"\x02\x01\xff4", vec![], Some(DecodeError::Utf8)),
            (b"4hello\x1e4a", vec![], Some(DecodeError::Length)),
        ] {
            let mut decoded = decode(Bytes::from_static(body.to_vec().leak()));
            let mut seen = Vec::new();
            let ended = loop {
                match decoded.next() {
                    Some(Ok(packet)) => seen.push(packet),
                    Some(Err(error)) => break Some(error),
                    None => break None,
                }
            };
            assert_eq!((seen, ended), (packets, error), "{:?}", body.escape_ascii().to_string());
            assert_eq!(decoded.next(), None, "an error or the last packet ends the iteration");
        }
    }

    #[test]
    fn bodies_keep_to_the_servers_limit() {
        // Sizes with their lengths: 5, 6 (three bytes, two units), 13 (six bytes as base64, `b4`, two digits), 5.
        let queue = [text("aa"), text("é"), binary(b"cccccc"), text("dd")];
        for (limit, bodies) in [
            (None, &["3:4aa2:4é10:b4Y2NjY2Nj3:4dd"][..]),
            (Some(28), &["3:4aa2:4é10:b4Y2NjY2Nj3:4dd"]),
            (Some(27), &["3:4aa2:4é10:b4Y2NjY2Nj", "3:4dd"]),
            (Some(22), &["3:4aa2:4é", "10:b4Y2NjY2Nj3:4dd"]),
            (Some(1), &["3:4aa", "2:4é", "10:b4Y2NjY2Nj", "3:4dd"]),
        ] {
            let mut queue = VecDeque::from(queue.clone());
            let mut taken = Vec::new();
            while let Some(body) = take_body(&mut queue, limit) {
                taken.push(body);
            }
            assert_eq!(taken, bodies, "{limit:?}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_packets_and_at_most_one_error(body in any_body()) {
            let items: Vec<_> = decode(body.into()).collect();
            prop_assert!(items.iter().rev().skip(1).all(Result::is_ok));
        }

        #[test]
        fn what_is_encoded_decodes_to_the_same(packets in prop::collection::vec(packets(), 1..8)) {
            let body = encode(&packets);
            prop_assert_eq!(body.len(), packets.iter().map(size).sum::<usize>());
            let decoded: Result<Vec<_>, _> = decode(body.into()).collect();
            prop_assert_eq!(decoded, Ok(packets));
        }

        #[test]
        fn units_are_those_of_utf_16(text: String) {
            prop_assert_eq!(units(&text), text.encode_utf16().count());
            prop_assert_eq!(bytes_of_units(&text, units(&text)), Some(text.len()));
        }
    }

    fn any_body() -> impl Strategy<Value = Vec<u8>> {
        let text = "([0-9]{0,2}:?[0-6b]?(4[A-Z=]{0,4}|é|😀|a){0,3}){0,4}";
        let binary = prop::collection::vec(
            prop_oneof![Just(0_u8), Just(1), Just(2), Just(4), Just(255), any::<u8>()],
            0..24,
        );
        prop_oneof![text.prop_map(String::into_bytes), binary, any::<Vec<u8>>()]
    }
}
