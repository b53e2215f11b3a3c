//! One Socket.IO packet and how it is written: `51-/chat,7["name",...]`, then its attachments.

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use super::{Args, Name, msgpack};
use crate::engineio::Message;

/// How packets are written; both sides must use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Parser {
    /// The default parser: JSON text, binary beside it.
    Json,
    /// `socket.io-msgpack-parser`: one binary message each.
    Msgpack,
}

impl Parser {
    /// Its name as options have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Msgpack => "msgpack",
        }
    }
}

/// A packet and the namespace it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// `/` or `/name`.
    pub namespace: ByteString,
    /// What it says.
    pub body: Body,
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

impl Packet {
    /// Appends the packet's messages: with JSON its text, then its attachments. They must reach the transport with
    /// nothing between them.
    pub fn encode(&self, parser: Parser, out: &mut Vec<Message>) {
        if parser == Parser::Msgpack {
            return out.push(msgpack::encode(self));
        }
        let namespace: &str = &self.namespace;
        match &self.body {
            Body::Connect(payload) => encode_plain('0', namespace, payload.as_deref(), out),
            Body::Disconnect => encode_plain('1', namespace, None, out),
            Body::Event { id, name, args } => encode_event(namespace, *id, name, args, out),
            Body::Ack { id, args } => encode_ack(namespace, *id, args, out),
            Body::ConnectError(payload) => encode_plain('4', namespace, payload.as_deref(), out),
        }
    }
}

/// Appends the messages of an event as [`Packet::encode`] does.
pub(super) fn encode_emit(
    parser: Parser,
    namespace: &ByteString,
    id: Option<u64>,
    (name, args): (&Name, &Args),
    out: &mut Vec<Message>,
) {
    match parser {
        Parser::Json => encode_event(namespace, id, name, args, out),
        Parser::Msgpack => {
            let body = Body::Event { id, name: name.clone(), args: args.clone() };
            Packet { namespace: namespace.clone(), body }.encode(parser, out);
        }
    }
}

impl Body {
    /// The arguments of an event or an ack.
    pub(super) fn args_mut(&mut self) -> Option<&mut Args> {
        match self {
            Self::Event { args, .. } | Self::Ack { args, .. } => Some(args),
            Self::Connect(_) | Self::Disconnect | Self::ConnectError(_) => None,
        }
    }
}

fn encode_event(namespace: &str, id: Option<u64>, name: &Name, args: &Args, out: &mut Vec<Message>) {
    let kind = if args.has_binary() { '5' } else { '2' };
    let comma = if args.is_empty() { "" } else { "," };
    encode(kind, namespace, id, ["[", name.as_json(), comma, args.json(), "]"], args, out);
}

fn encode_ack(namespace: &str, id: Option<u64>, args: &Args, out: &mut Vec<Message>) {
    let kind = if args.has_binary() { '6' } else { '3' };
    encode(kind, namespace, id, ["[", args.json(), "]"], args, out);
}

fn encode_plain(kind: char, namespace: &str, payload: Option<&str>, out: &mut Vec<Message>) {
    encode(kind, namespace, None, [payload.unwrap_or_default()], &Args::default(), out);
}

fn encode<const N: usize>(
    kind: char,
    namespace: &str,
    id: Option<u64>,
    payload: [&str; N],
    args: &Args,
    out: &mut Vec<Message>,
) {
    let (mut count_buffer, mut id_buffer) = (itoa::Buffer::new(), itoa::Buffer::new());
    let count = match args.attachments().len() {
        0 => ["", ""],
        count => [count_buffer.format(count), "-"],
    };
    let namespace = if namespace == "/" { ["", ""] } else { [namespace, ","] };
    let id = id.map_or("", |id| id_buffer.format(id));

    let head = [count[0], count[1], namespace[0], namespace[1], id];
    let length = |parts: &[&str]| parts.iter().map(|part| part.len()).sum::<usize>();
    let mut text = String::with_capacity(1 + length(&head) + length(&payload));
    text.push(kind);
    for part in head.into_iter().filter(|part| !part.is_empty()) {
        text.push_str(part);
    }
    for part in payload {
        text.push_str(part);
    }

    out.push(Message::Text(text.into()));
    out.extend(args.attachments().iter().cloned().map(Message::Binary));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_written() {
        let binary = Args::from_consumer(r#"[{"$binary":"AQ=="}]"#, true, 10).unwrap();
        let plain = Args::from_array("[1, {}]".into()).unwrap();
        let event = |id, args: &Args| Body::Event { id, name: Name::new("a\"b"), args: args.clone() };
        let ack = |args: &Args| Body::Ack { id: Some(12), args: args.clone() };
        let object = || Some(ByteString::from_static(r#"{"k":1}"#));
        let marked = r#"{"_placeholder":true,"num":0}"#;
        for (namespace, body, text) in [
            ("/", Body::Connect(None), "0".to_owned()),
            ("/a", Body::Connect(None), "0/a,".to_owned()),
            ("/a", Body::Connect(object()), r#"0/a,{"k":1}"#.to_owned()),
            ("/", Body::Disconnect, "1".to_owned()),
            ("/é/b?c=1", Body::Disconnect, "1/é/b?c=1,".to_owned()),
            ("/", Body::ConnectError(object()), r#"4{"k":1}"#.to_owned()),
            ("/", event(None, &Args::default()), r#"2["a\"b"]"#.to_owned()),
            ("/", event(Some(u64::MAX), &plain), r#"218446744073709551615["a\"b",1, {}]"#.to_owned()),
            ("/a", event(Some(0), &plain), r#"2/a,0["a\"b",1, {}]"#.to_owned()),
            ("/", event(None, &binary), format!(r#"51-["a\"b",{marked}]"#)),
            ("/a", event(Some(7), &binary), format!(r#"51-/a,7["a\"b",{marked}]"#)),
            ("/", ack(&Args::default()), "312[]".to_owned()),
            ("/a", ack(&plain), "3/a,12[1, {}]".to_owned()),
            ("/", ack(&binary), format!("61-12[{marked}]")),
        ] {
            let mut out = Vec::new();
            let packet = Packet { namespace: namespace.into(), body };
            packet.encode(Parser::Json, &mut out);
            assert_eq!(out[0], Message::Text(text.into()));
            let expected = match &packet.body {
                Body::Event { args, .. } | Body::Ack { args, .. } => args.attachments(),
                Body::Connect(_) | Body::Disconnect | Body::ConnectError(_) => &[],
            };
            assert_eq!(out[1..], expected.iter().cloned().map(Message::Binary).collect::<Vec<_>>());
        }
    }
}
