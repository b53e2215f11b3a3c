//! Several packets in one polling body: joined by the byte 0x1E, nothing before, between or after.
//!
//! JSON text holds no raw 0x1E, but a `message` packet may hold any text; what contains the separator cannot travel
//! in a polling body, and nothing here checks for it.

use std::collections::{VecDeque, vec_deque};
use std::iter::FusedIterator;

use bytes::Bytes;

use super::packet::{DecodeError, Packet};

const SEPARATOR: u8 = 0x1e;

/// The packets of a body, in order. The first bad one is yielded as the error and ends the iteration.
pub fn decode(body: Bytes) -> Packets {
    Packets { rest: Some(body) }
}

/// Iterator made by [`decode`]. Text data are slices of the body.
#[derive(Clone, Debug, Default)]
pub struct Packets {
    rest: Option<Bytes>,
}

impl Iterator for Packets {
    type Item = Result<Packet, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.rest.take()?;
        let element = match memchr::memchr(SEPARATOR, &rest) {
            Some(end) => {
                let element = rest.split_to(end);
                self.rest = Some(rest.slice(1..));
                element
            }
            None => rest,
        };
        let packet = Packet::decode_bytes(element);
        if packet.is_err() {
            self.rest = None;
        }
        Some(packet)
    }
}

impl FusedIterator for Packets {}

/// All packets in one body; no packets make an empty one, which no peer accepts.
pub fn encode<'a>(packets: impl IntoIterator<Item = &'a Packet>) -> String {
    let mut body = String::new();
    for (index, packet) in packets.into_iter().enumerate() {
        if index > 0 {
            body.push(char::from(SEPARATOR));
        }
        packet.encode_into(&mut body);
    }
    body
}

/// Takes packets off the front until the next would make the body larger than `max_payload` bytes.
///
/// A first packet is taken whatever its size: the server refuses one that is too large, and says so. Nothing queued,
/// no body.
pub fn take_body(queue: &mut VecDeque<Packet>, max_payload: Option<usize>) -> Option<String> {
    let separated = |packet: &Packet| packet.payload_size().saturating_add(1);
    // Nothing stands behind the last one.
    take_fitting(queue, max_payload.map(|most| most.saturating_add(1)), separated, |packets| encode(packets))
}

/// [`take_body`] for any framing: `size` says how much each packet adds to a body, `encode` makes it.
pub(super) fn take_fitting(
    queue: &mut VecDeque<Packet>,
    limit: Option<usize>,
    size: impl Fn(&Packet) -> usize,
    encode: impl FnOnce(vec_deque::Iter<'_, Packet>) -> String,
) -> Option<String> {
    let limit = limit.unwrap_or(usize::MAX);
    let mut body_size = size(queue.front()?);
    let mut count = 1;
    for packet in queue.iter().skip(1) {
        body_size = body_size.saturating_add(size(packet));
        if body_size > limit {
            break;
        }
        count += 1;
    }
    let body = encode(queue.range(..count));
    queue.drain(..count);
    Some(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engineio::Message;

    fn text(text: &str) -> Packet {
        Packet::Message(Message::Text(text.into()))
    }

    fn binary(bytes: &'static [u8]) -> Packet {
        Packet::decode_binary(Bytes::from_static(bytes))
    }

    #[test]
    fn packets_before_a_bad_one_are_yielded() {
        for (body, packets, error) in [
            (&b"4a\x1e2\x1ebAQID"[..], vec![text("a"), Packet::Ping("".into()), binary(&[1, 2, 3])], None),
            (b"4a\x1e4\x1e4b", vec![text("a"), text(""), text("b")], None),
            (b"4a\n", vec![text("a\n")], None),
            (b"", vec![], Some(DecodeError::Empty)),
            (b"\x1e", vec![], Some(DecodeError::Empty)),
            (b"\x1e4a", vec![], Some(DecodeError::Empty)),
            (b"4a\x1e", vec![text("a")], Some(DecodeError::Empty)),
            (b"4a\x1e\x1e4b", vec![text("a")], Some(DecodeError::Empty)),
            (b"4a\x1e9\x1e4b", vec![text("a")], Some(DecodeError::UnknownType('9'))),
            (b"4a\x1e4\xff\x1e4b", vec![text("a")], Some(DecodeError::Utf8)),
            (b"97:0{}2:40", vec![], Some(DecodeError::UnknownType('9'))),
        ] {
            let mut decoded = decode(Bytes::from_static(body));
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
        // Sizes in the text form: 3, 3, 9 (six bytes as base64 and the `b`), 3.
        let queue = [text("aa"), text("bb"), binary(b"cccccc"), text("dd")];
        for (limit, bodies) in [
            (None, &["4aa\u{1e}4bb\u{1e}bY2NjY2Nj\u{1e}4dd"][..]),
            (Some(21), &["4aa\u{1e}4bb\u{1e}bY2NjY2Nj\u{1e}4dd"]),
            (Some(20), &["4aa\u{1e}4bb\u{1e}bY2NjY2Nj", "4dd"]),
            (Some(16), &["4aa\u{1e}4bb", "bY2NjY2Nj\u{1e}4dd"]),
            (Some(12), &["4aa\u{1e}4bb", "bY2NjY2Nj", "4dd"]),
            (Some(7), &["4aa\u{1e}4bb", "bY2NjY2Nj", "4dd"]),
            (Some(6), &["4aa", "4bb", "bY2NjY2Nj", "4dd"]),
            (Some(1), &["4aa", "4bb", "bY2NjY2Nj", "4dd"]),
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
        fn any_body_is_packets_and_at_most_one_error(body: Vec<u8>) {
            let items: Vec<_> = decode(body.into()).collect();
            prop_assert!(!items.is_empty());
            prop_assert!(items[..items.len() - 1].iter().all(Result::is_ok));
        }

        #[test]
        fn splitting_loses_and_reorders_nothing(
            texts in prop::collection::vec("[^\u{1e}]{0,20}", 1..20),
            limit in 1_usize..60,
        ) {
            let packets: Vec<_> = texts.iter().map(|data| text(data)).collect();
            let mut queue = VecDeque::from(packets.clone());
            let mut decoded = Vec::new();
            while let Some(body) = take_body(&mut queue, Some(limit)) {
                let before = decoded.len();
                for packet in decode(body.clone().into()) {
                    decoded.push(packet.expect("our own body decodes"));
                }
                prop_assert!(body.len() <= limit || decoded.len() == before + 1);
            }
            prop_assert_eq!(decoded, packets);
        }
    }
}
