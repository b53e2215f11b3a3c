//! The messages of one session through the decoder, and past it by the short cuts for plain events and answers.
//!
//! The first byte of an input says by which rules. Of JSON the messages stand between bytes 0x1E, each a text, or binary
//! behind a byte 1; of MessagePack there is one, for one is a whole packet.

#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use bytestring::ByteString;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use siod::engineio::{Frame, Message, Revision};
use siod::json;
use siod::socketio::{ArgsView, Body, DecodeError, Decoder, Packet, Parser};

const MAX_ATTACHMENTS: usize = 3;
const MAX_PAYLOAD: usize = 1000;

const MSGPACK: u8 = 1;
const OLD: u8 = 2;
const LENIENT: u8 = 4;

static BEGINNINGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let rules = [("socketio_v5", 0), ("socketio_v4", OLD)];
    let json = rules.into_iter().flat_map(|(name, rules)| {
        siod_fuzz::vectors(name).into_iter().map(move |frames| {
            let mut input = vec![rules];
            for (at, frame) in frames.iter().enumerate() {
                let before: &[u8] = if at > 0 { b"\x1e" } else { b"" };
                let mark: &[u8] = if matches!(frame, Frame::Binary(_)) { b"\x01" } else { b"" };
                input.extend([before, mark, siod_fuzz::bytes(frame)].concat());
            }
            input
        })
    });
    let all: Vec<_> = json.collect();
    let msgpack = all.iter().filter_map(|input| as_msgpack(input)).collect();
    [all, msgpack].concat()
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    siod_fuzz::mutate(data, size, max_size, seed, &BEGINNINGS)
});

fuzz_target!(|data: &[u8]| {
    let Some((rules, rest)) = data.split_first() else { return };
    let rules = Rules(*rules);
    let mut decoder = rules.decoder(MAX_PAYLOAD);
    for message in rules.messages(rest) {
        let decoded = match &message {
            Message::Text(text) => by_all_ways(&mut decoder, text),
            Message::Binary(_) => decoder.decode(message),
        };
        match decoded {
            Ok(Some(packet)) => {
                assert!(!decoder.is_waiting(), "it has all its attachments");
                is_bounded(rules, &packet);
                comes_back(rules, &packet);
            }
            Ok(None) => assert!(decoder.is_waiting()),
            Err(_) => assert!(!decoder.is_waiting(), "what was wrong is forgotten"),
        }
    }
});

/// The rules of one session.
#[derive(Clone, Copy)]
struct Rules(u8);

impl Rules {
    fn has(self, rule: u8) -> bool {
        self.0 & rule != 0
    }

    fn parser(self) -> Parser {
        if self.has(MSGPACK) { Parser::Msgpack } else { Parser::Json }
    }

    fn decoder(self, max_payload: usize) -> Decoder {
        let revision = if self.has(OLD) { Revision::V3 } else { Revision::V4 };
        let decoder = Decoder::new(self.parser(), MAX_ATTACHMENTS, max_payload).with_revision(revision);
        if self.has(LENIENT) { decoder.with_payload_on_disconnect() } else { decoder }
    }

    fn messages(self, input: &[u8]) -> Vec<Message> {
        if self.has(MSGPACK) {
            return vec![Message::Binary(Bytes::copy_from_slice(input))];
        }
        let message = |part: &[u8]| match (part, std::str::from_utf8(part)) {
            ([1, bytes @ ..], _) | (bytes, Err(_)) => Message::Binary(Bytes::copy_from_slice(bytes)),
            (_, Ok(text)) => Message::Text(text.into()),
        };
        input.split(|byte| *byte == 0x1e).map(message).collect()
    }
}

/// A text through the decoder, whose verdict the short cuts share wherever they have one.
fn by_all_ways(decoder: &mut Decoder, text: &ByteString) -> Result<Option<Packet>, DecodeError> {
    let quick = event(decoder, text).or_else(|| answer(decoder, text).map(Ok));
    let verdict = decoder.decode(Message::Text(text.clone()));
    let plain = match &verdict {
        // What answers nothing is left to the decoder.
        Ok(Some(Packet { body: Body::Ack { id: None, .. }, .. }) | None) | Err(_) => None,
        Ok(Some(packet)) => Plain::of(packet),
    };
    match quick {
        Some(Err(error)) => assert_eq!(verdict, Err(error)),
        Some(Ok(quick)) => assert_eq!(plain, Some(quick)),
        None => assert_eq!(plain, None, "a short cut takes every plain event and answer: {text:?}"),
    }
    verdict
}

/// An event or an answer, wherever its text lies.
#[derive(Debug, PartialEq)]
struct Plain {
    namespace: String,
    name: Option<String>,
    id: Option<u64>,
    args: Vec<u8>,
}

impl Plain {
    fn new(namespace: &str, name: Option<&str>, id: Option<u64>, args: ArgsView<'_>) -> Self {
        let mut array = Vec::new();
        args.write_array(&mut array);
        assert_eq!(array.len(), args.size() + 2, "nothing in it is binary");
        Self { namespace: namespace.to_owned(), name: name.map(str::to_owned), id, args: array }
    }

    fn of(packet: &Packet) -> Option<Self> {
        let namespace = &packet.namespace;
        match &packet.body {
            Body::Event { id, name, args } => {
                Some(Self::new(namespace, Some(name.as_json()), *id, args.view()))
            }
            Body::Ack { id, args } => Some(Self::new(namespace, None, *id, args.view())),
            Body::Connect(_) | Body::Disconnect | Body::ConnectError(_) => None,
        }
    }
}

fn event(decoder: &Decoder, text: &str) -> Option<Result<Plain, DecodeError>> {
    let header = decoder.plain_header(text)?;
    let event = decoder.plain_event(&header);
    Some(
        event.map(|event| Plain::new(header.namespace(), Some(event.name.as_json()), event.id, event.args())),
    )
}

fn answer(decoder: &Decoder, text: &str) -> Option<Plain> {
    let header = decoder.plain_answer_header(text)?;
    let (id, answer) = decoder.plain_answer(&header)?;
    Some(Plain::new(header.namespace(), None, Some(id), answer.args()))
}

/// What local programs get is JSON on one line, and no longer than the limit allows.
fn is_bounded(rules: Rules, packet: &Packet) {
    let json = |text: &str| {
        assert_eq!(json::validate(text), Ok(()), "{text}");
        assert!(!text.contains(['\n', '\r']), "{text:?}");
    };
    match &packet.body {
        Body::Event { args, .. } | Body::Ack { args, .. } => {
            let mut array = Vec::new();
            args.write_array(&mut array);
            json(std::str::from_utf8(&array).expect("UTF-8"));
            assert!(args.size() <= MAX_PAYLOAD, "{} bytes", args.size());
            assert!(rules.has(MSGPACK) || args.attachments().len() <= MAX_ATTACHMENTS);
            // Base64, and 14 bytes around it for what took 29 with a placeholder.
            assert!(array.len() <= 2 + MAX_PAYLOAD * 4 / 3 + 4, "{} bytes", array.len());
        }
        Body::Connect(Some(payload)) | Body::ConnectError(Some(payload)) => json(payload),
        Body::Connect(None) | Body::ConnectError(None) | Body::Disconnect => {}
    }
    if let Body::Event { name, .. } = &packet.body {
        json(name.as_json());
        assert!(rules.has(OLD) && !rules.has(MSGPACK) || !name.is_reserved(), "{name:?}");
    }
}

fn comes_back(rules: Rules, packet: &Packet) {
    let mut messages = Vec::new();
    packet.encode(rules.parser(), &mut messages);
    // Written out it may be longer than it came.
    let mut decoder = rules.decoder(usize::MAX);
    let last = messages.pop().expect("a packet has a message");
    for message in messages {
        assert_eq!(decoder.decode(message), Ok(None));
    }
    assert_eq!(decoder.decode(last), Ok(Some(packet.clone())));
}

/// The first packet of a JSON input, as an input of MessagePack.
fn as_msgpack(input: &[u8]) -> Option<Vec<u8>> {
    let (rules, rest) = input.split_first()?;
    let rules = Rules(*rules);
    let mut decoder = rules.decoder(usize::MAX);
    let packet = rules.messages(rest).into_iter().find_map(|message| decoder.decode(message).ok()?)?;
    let mut messages = Vec::new();
    packet.encode(Parser::Msgpack, &mut messages);
    match messages.pop()? {
        Message::Binary(bytes) => Some([&[rules.0 | MSGPACK], &bytes[..]].concat()),
        Message::Text(_) => None,
    }
}
