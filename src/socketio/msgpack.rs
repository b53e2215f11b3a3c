//! Packets as `socket.io-msgpack-parser` writes them: one binary message each, a MessagePack map with the members
//! `type`, `nsp` and, where there are any, `data` and `id`.
//!
//! Values are kept between JSON text and MessagePack: integers of up to 64 bits as integers, all other numbers as
//! 64-bit floats, binary in place. What JSON has no word for reads as the official decoder and `JSON.stringify` would
//! have it: `undefined` (extension 0, one byte) is left out of an object and `null` elsewhere, as are NaN and the
//! infinities; a date (extension 0, eight bytes) or timestamp (extension -1) is an ISO string, `null` outside the years
//! -9999 to 9999; an `ArrayBuffer` (extension 0, any other form) is binary; any other extension is an array of its type
//! and its bytes. Keys become strings. Text that is no UTF-8 has U+FFFD where it is not.

mod decode;

use bytes::Bytes;
use rmp::encode::{self, ByteBuf};

use super::binary::{self, Placeholder};
use super::{Body, Packet};
use crate::engineio::Message;
use crate::json::{self, Token, Tokens};

pub(super) use decode::decode;

const CONNECT: u64 = 0;
const DISCONNECT: u64 = 1;
const EVENT: u64 = 2;
const ACK: u64 = 3;
const CONNECT_ERROR: u64 = 4;

/// The packet as one binary message.
pub(super) fn encode(packet: &Packet) -> Message {
    let (kind, id) = match &packet.body {
        Body::Connect(_) => (CONNECT, None),
        Body::Disconnect => (DISCONNECT, None),
        Body::Event { id, .. } => (EVENT, *id),
        Body::Ack { id, .. } => (ACK, *id),
        Body::ConnectError(_) => (CONNECT_ERROR, None),
    };
    let has_data = !matches!(packet.body, Body::Connect(None) | Body::Disconnect | Body::ConnectError(None));
    let mut out = Writer(ByteBuf::new());
    out.map(2 + u32::from(has_data) + u32::from(id.is_some()));
    out.text("type");
    out.integer(kind);
    out.text("nsp");
    out.text(&packet.namespace);
    if let Some(id) = id {
        out.text("id");
        out.integer(id);
    }
    if has_data {
        out.text("data");
    }
    match &packet.body {
        Body::Connect(payload) | Body::ConnectError(payload) => {
            if let Some(payload) = payload {
                out.values(&Values::new(payload, &[]));
            }
        }
        Body::Disconnect => {}
        Body::Event { name, args, .. } => {
            let values = Values::new(args.json(), args.attachments());
            out.array(values.count().saturating_add(1));
            out.values(&Values::new(name.as_json(), &[]));
            out.values(&values);
        }
        Body::Ack { args, .. } => {
            let values = Values::new(args.json(), args.attachments());
            out.array(values.count());
            out.values(&values);
        }
    }
    Message::Binary(out.0.into_vec().into())
}

/// Comma-separated JSON values, placeholders for binary ones, and how many each array and object among them holds.
struct Values<'a> {
    json: &'a str,
    attachments: &'a [Bytes],
    placeholders: Vec<Placeholder>,
    /// Of the values as a whole, then of each array and object in order.
    lengths: Vec<u32>,
}

enum Leaf<'a> {
    Token(Token<'a>),
    /// Which attachment.
    Binary(Option<usize>),
}

impl<'a> Values<'a> {
    fn new(json: &'a str, attachments: &'a [Bytes]) -> Self {
        let placeholders = if attachments.is_empty() { Vec::new() } else { binary::placeholders(json) };
        let mut values = Self { json, attachments, placeholders, lengths: Vec::new() };
        values.lengths = values.count_all();
        values
    }

    fn count(&self) -> u32 {
        self.lengths[0]
    }

    /// MessagePack says how many values follow before it says them.
    fn count_all(&self) -> Vec<u32> {
        let mut lengths = vec![0_u32];
        // What is open: which length is its own, and whether its values come after keys.
        let mut open = vec![(0, false)];
        for leaf in self.leaves() {
            let kind = match leaf {
                Leaf::Token(token) => token.kind(),
                Leaf::Binary(_) => b'b',
            };
            let Some(&(own, is_object)) = open.last() else { break };
            match kind {
                b',' => {}
                b']' | b'}' => {
                    open.pop();
                }
                b':' => lengths[own] += 1,
                kind => {
                    lengths[own] += u32::from(!is_object);
                    if matches!(kind, b'[' | b'{') {
                        open.push((lengths.len(), kind == b'{'));
                        lengths.push(0);
                    }
                }
            }
        }
        lengths
    }

    /// The tokens, but of each placeholder only that it is there.
    fn leaves(&self) -> impl Iterator<Item = Leaf<'a>> {
        let mut placeholders = self.placeholders.iter().peekable();
        Tokens::new(self.json).filter_map(move |token| {
            while placeholders.next_if(|placeholder| placeholder.span.end <= token.start).is_some() {}
            match placeholders.peek() {
                Some(Placeholder { span, num }) if span.contains(&token.start) => {
                    (span.start == token.start).then_some(Leaf::Binary(*num))
                }
                _ => Some(Leaf::Token(token)),
            }
        })
    }
}

/// Memory is all that writing could lack, so nothing here fails.
struct Writer(ByteBuf);

impl Writer {
    fn values(&mut self, values: &Values<'_>) {
        let mut lengths = values.lengths.iter().skip(1).copied();
        for leaf in values.leaves() {
            match leaf {
                Leaf::Token(token) => match token.kind() {
                    b'[' => self.array(lengths.next().unwrap_or_default()),
                    b'{' => self.map(lengths.next().unwrap_or_default()),
                    b']' | b'}' | b',' | b':' => {}
                    b'"' => self.text(&json::unquote(token.text).unwrap_or_default()),
                    b't' => self.bool(true),
                    b'f' => self.bool(false),
                    b'n' => self.nil(),
                    _ => self.number(token.text),
                },
                Leaf::Binary(num) => match num.and_then(|num| values.attachments.get(num)) {
                    Some(bytes) => {
                        let Ok(()) = encode::write_bin(&mut self.0, bytes);
                    }
                    None => self.nil(),
                },
            }
        }
    }

    fn number(&mut self, text: &str) {
        if let Ok(number) = text.parse::<u64>() {
            self.integer(number);
        } else if let Ok(number) = text.parse::<i64>() {
            let Ok(_) = encode::write_sint(&mut self.0, number);
        } else if let Ok(number) = text.parse::<f64>() {
            let Ok(()) = encode::write_f64(&mut self.0, number);
        } else {
            self.nil();
        }
    }

    fn integer(&mut self, number: u64) {
        let Ok(_) = encode::write_uint(&mut self.0, number);
    }

    fn text(&mut self, text: &str) {
        let Ok(()) = encode::write_str(&mut self.0, text);
    }

    fn array(&mut self, length: u32) {
        let Ok(_) = encode::write_array_len(&mut self.0, length);
    }

    fn map(&mut self, length: u32) {
        let Ok(_) = encode::write_map_len(&mut self.0, length);
    }

    fn bool(&mut self, value: bool) {
        let Ok(()) = encode::write_bool(&mut self.0, value);
    }

    fn nil(&mut self) {
        let Ok(()) = encode::write_nil(&mut self.0);
    }
}

#[cfg(test)]
mod tests;
