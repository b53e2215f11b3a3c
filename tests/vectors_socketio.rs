//! The codec against packets recorded from the official parsers of Socket.IO protocols 5 and 4, both ways.
//!
//! `SIOD_VECTORS` names another folder with files of the same format.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytestring::ByteString;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use siod::engineio::{Message, Revision};
use siod::json;
use siod::socketio::{Args, Body, DecodeError, Decoder, Name, Packet, Parser};

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
    invalid: Vec<Invalid>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    op: Op,
    encoded: Vec<Frame>,
    decoded: Decoded,
    input: Option<Box<RawValue>>,
    #[serde(default)]
    text_exact: bool,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Op {
    Both,
    Decode,
    Encode,
}

#[derive(Deserialize)]
struct Invalid {
    name: String,
    encoded: Vec<Frame>,
    official: Official,
}

#[derive(Deserialize)]
struct Official {
    error: String,
    at_frame: usize,
    packets_before_error: Vec<Decoded>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Frame {
    Text(String),
    Base64(String),
}

#[derive(Deserialize)]
struct Decoded {
    #[serde(rename = "type")]
    kind: u8,
    nsp: String,
    id: Option<u64>,
    data: Option<Box<RawValue>>,
}

#[test]
fn valid_packets_decode() {
    let mut checked = 0;
    for (revision, case) in cases(|vectors| vectors.cases) {
        if case.op == Op::Encode {
            continue;
        }
        let mut decoder = Decoder::new(Parser::Json, 10, 1 << 20).with_revision(revision);
        let results: Result<Vec<_>, DecodeError> =
            case.encoded.iter().map(|frame| decoder.decode(frame.message())).collect();
        let mut packets = results.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let last = packets.pop().flatten().unwrap_or_else(|| panic!("{}: no packet", case.name));
        assert!(packets.iter().all(Option::is_none), "{}: a packet before the last frame", case.name);
        assert!(!decoder.is_waiting(), "{}: still waiting", case.name);
        assert_packet(&case.name, &last, &case.decoded);
        checked += 1;
    }
    assert!(checked > 0);
}

#[test]
fn packets_encode() {
    let mut checked = 0;
    for (_, case) in cases(|vectors| vectors.cases) {
        if case.op == Op::Decode {
            continue;
        }
        let data = case.input.as_ref().or(case.decoded.data.as_ref());
        let packet = case.decoded.packet(data.map(|data| data.get()));
        let mut messages = Vec::new();
        packet.encode(Parser::Json, &mut messages);
        let expected: Vec<_> = case.encoded.iter().map(Frame::message).collect();
        if case.text_exact {
            assert_eq!(messages, expected, "{}", case.name);
        } else {
            assert_eq!(messages[1..], expected[1..], "{}", case.name);
            let [(header, payload), (expected_header, expected_payload)] =
                [&messages[0], &expected[0]].map(split_payload);
            assert_eq!(header, expected_header, "{}", case.name);
            assert!(same(&payload, &expected_payload), "{}: {payload} is not {expected_payload}", case.name);
        }
        checked += 1;
    }
    assert!(checked > 0);
}

#[test]
fn invalid_packets_are_refused_with_the_official_words() {
    for (revision, Invalid { name, encoded, official }) in cases(|vectors| vectors.invalid) {
        let mut decoder = Decoder::new(Parser::Json, 10, 1 << 20).with_revision(revision);
        let mut before = official.packets_before_error.iter();
        for frame in &encoded[..official.at_frame] {
            let result = decoder.decode(frame.message()).unwrap_or_else(|error| panic!("{name}: {error}"));
            if let Some(packet) = result {
                assert_packet(&name, &packet, before.next().expect("no more packets before the error"));
            }
        }
        assert!(before.next().is_none(), "{name}: fewer packets before the error");
        let error = decoder.decode(encoded[official.at_frame].message()).expect_err(&name).to_string();
        // In protocol 4 an unknown type is no exception but a packet that says so.
        let expected = official.error.strip_prefix("parser error: ").unwrap_or(&official.error);
        assert_eq!(error, expected, "{name}");
    }
}

/// `packet` says what `expected` does, comparing JSON by value.
fn assert_packet(name: &str, packet: &Packet, expected: &Decoded) {
    let mut data = Vec::new();
    let (kind, id) = match &packet.body {
        Body::Connect(payload) => {
            data.extend_from_slice(payload.as_deref().unwrap_or_default().as_bytes());
            (0, None)
        }
        Body::Disconnect => (1, None),
        Body::Event { id, name, args } => {
            let mut array = Vec::new();
            args.write_array(&mut array);
            data.push(b'[');
            data.extend_from_slice(name.as_json().as_bytes());
            data.extend_from_slice(if args.is_empty() { b"" } else { b"," });
            data.extend_from_slice(&array[1..]);
            (2, *id)
        }
        Body::Ack { id, args } => {
            args.write_array(&mut data);
            (3, *id)
        }
        Body::ConnectError(payload) => {
            data.extend_from_slice(payload.as_deref().unwrap_or_default().as_bytes());
            (4, None)
        }
    };
    assert_eq!(
        (kind, packet.namespace.as_ref(), id),
        (expected.kind(), expected.nsp.as_str(), expected.id),
        "{name}"
    );
    let data = String::from_utf8(data).unwrap();
    match &expected.data {
        // `null` and no data read alike here.
        None => assert!(matches!(data.as_str(), "" | "null"), "{name}: {data}"),
        Some(expected) => {
            let expected = consumer_form(expected.get());
            let [ours, theirs] = [&data, &expected].map(|text| serde_json::from_str(text).unwrap());
            assert!(same(&ours, &theirs), "{name}: {data} is not {expected}");
        }
    }
}

impl Decoded {
    /// The decoder of protocol 4 leaves the types of what has attachments as they are on the wire.
    fn kind(&self) -> u8 {
        match self.kind {
            5 => 2,
            6 => 3,
            kind => kind,
        }
    }

    fn packet(&self, data: Option<&str>) -> Packet {
        let text = || data.map(ByteString::from);
        let array = consumer_form(data.unwrap_or("[]"));
        let args = |items: &str| Args::from_consumer(&format!("[{items}]"), true, 10).unwrap();
        let items = || json::array_items(&array).unwrap();
        let body = match self.kind() {
            0 => Body::Connect(text()),
            1 => Body::Disconnect,
            2 => {
                let (name, others) = json::split_first(items()).unwrap();
                Body::Event { id: self.id, name: Name::from_json(name).unwrap(), args: args(others) }
            }
            3 => Body::Ack { id: self.id, args: args(items()) },
            4 => Body::ConnectError(text()),
            kind => panic!("type {kind}"),
        };
        Packet { namespace: self.nsp.as_str().into(), body }
    }
}

impl Frame {
    fn message(&self) -> Message {
        match self {
            Self::Text(text) => Message::Text(text.as_str().into()),
            Self::Base64(text) => Message::Binary(BASE64_STANDARD.decode(text).unwrap().into()),
        }
    }
}

/// The files write binary leaves `{"$bin":…}`, local programs `{"$binary":…}`.
fn consumer_form(data: &str) -> String {
    data.replace("{\"$bin\":", "{\"$binary\":")
}

fn split_payload(message: &Message) -> (String, Value) {
    let Message::Text(text) = message else {
        panic!("the first message is binary");
    };
    let payload = text.find(['[', '{', '"']).unwrap_or(text.len());
    (text[..payload].to_owned(), serde_json::from_str(&text[payload..]).unwrap_or_default())
}

/// Equal as JavaScript sees it: `1.0` is `1`.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| same(left, right)))
        }
        _ => left == right,
    }
}

/// What `choose` takes of each file, and the revision of Engine.IO that goes with it.
fn cases<T>(choose: fn(Vectors) -> Vec<T>) -> Vec<(Revision, T)> {
    let mut cases = Vec::new();
    for (file, revision) in [("socketio_v5.json", Revision::V4), ("socketio_v4.json", Revision::V3)] {
        let chosen = choose(vectors(file));
        assert!(!chosen.is_empty(), "{file}");
        cases.extend(chosen.into_iter().map(|case| (revision, case)));
    }
    cases
}

fn vectors(file: &str) -> Vectors {
    let folder = std::env::var_os("SIOD_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"), PathBuf::from);
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}
