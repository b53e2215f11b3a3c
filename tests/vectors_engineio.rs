//! The Engine.IO 4 codec against what the official JavaScript packages encode and decode.
//!
//! The files are read from `tests/vectors/`, or from the folder named by `SIOD_VECTORS`.

use std::collections::VecDeque;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use siod::engineio::{DecodeError, Frame, Handshake, Message, Packet, payload};

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
    invalid: Vec<Invalid>,
    quirks: Vec<Quirk>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: Kind,
    transport: String,
    op: Op,
    encoded: Vec<Data>,
    decoded: Vec<PacketVector>,
}

#[derive(Deserialize)]
struct Invalid {
    name: String,
    kind: Kind,
    encoded: Vec<Data>,
    official: Refused,
}

#[derive(Deserialize)]
struct Refused {
    packets_before_error: Vec<PacketVector>,
}

#[derive(Deserialize)]
struct Quirk {
    name: String,
    kind: Kind,
    encoded: Vec<Data>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Packet,
    Payload,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Op {
    Both,
    Decode,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Data {
    Text(String),
    Base64(String),
}

#[derive(Deserialize)]
struct PacketVector {
    #[serde(rename = "type")]
    kind: String,
    data: Option<Data>,
}

#[test]
fn cases_decode_and_encode() {
    let vectors = vectors();
    assert!(vectors.cases.len() > 40, "only {} cases", vectors.cases.len());
    for case in &vectors.cases {
        let expected: Vec<_> = case.decoded.iter().map(packet).collect();
        assert_eq!(decode(case.kind, &case.encoded), (expected.clone(), None), "decode: {}", case.name);
        for packet in &expected {
            if let Packet::Open(json) = packet {
                Handshake::parse(json).unwrap_or_else(|error| panic!("{}: {error}", case.name));
            }
        }
        if case.op == Op::Both {
            assert_eq!(encode(case, &expected), frame(&case.encoded), "encode: {}", case.name);
        }
    }
}

#[test]
fn invalid_input_is_refused_after_the_packets_before_it() {
    let vectors = vectors();
    assert!(vectors.invalid.len() > 10, "only {} cases", vectors.invalid.len());
    for case in &vectors.invalid {
        let (packets, error) = decode(case.kind, &case.encoded);
        let expected: Vec<_> = case.official.packets_before_error.iter().map(packet).collect();
        assert_eq!(packets, expected, "{}", case.name);
        assert!(error.is_some(), "{} was taken", case.name);
    }
}

/// Where the official decoder is lenient, ours may refuse, but only what can be refused.
#[test]
fn quirks_are_taken_or_refused_as_base64() {
    for case in &vectors().quirks {
        let (packets, error) = decode(case.kind, &case.encoded);
        assert!(
            matches!((packets.len(), error), (1, None) | (0, Some(DecodeError::Base64))),
            "{}: {packets:?}",
            case.name
        );
    }
}

fn decode(kind: Kind, encoded: &[Data]) -> (Vec<Packet>, Option<DecodeError>) {
    match (kind, frame(encoded)) {
        (Kind::Packet, Frame::Binary(bytes)) => (vec![Packet::decode_binary(bytes)], None),
        (Kind::Packet, Frame::Text(text)) => match Packet::decode_text(text) {
            Ok(packet) => (vec![packet], None),
            Err(error) => (vec![], Some(error)),
        },
        (Kind::Payload, Frame::Binary(body)) => collect(body),
        (Kind::Payload, Frame::Text(body)) => collect(body.into_bytes()),
    }
}

fn collect(body: Bytes) -> (Vec<Packet>, Option<DecodeError>) {
    let mut packets = Vec::new();
    for packet in payload::decode(body) {
        match packet {
            Ok(packet) => packets.push(packet),
            Err(error) => return (packets, Some(error)),
        }
    }
    (packets, None)
}

fn encode(case: &Case, packets: &[Packet]) -> Frame {
    if case.kind == Kind::Payload {
        let body = payload::encode(packets);
        let mut queue = VecDeque::from(packets.to_vec());
        assert_eq!(
            payload::take_body(&mut queue, Some(body.len())).as_deref(),
            Some(&*body),
            "{}",
            case.name
        );
        return Frame::Text(body.into());
    }
    let [packet] = packets else { panic!("{}: one packet was expected", case.name) };
    if case.transport == "websocket" {
        return packet.encode();
    }
    let mut text = String::new();
    packet.encode_into(&mut text);
    Frame::Text(text.into())
}

fn packet(vector: &PacketVector) -> Packet {
    let text = || match &vector.data {
        Some(Data::Text(text)) => text.as_str().into(),
        Some(Data::Base64(_)) => panic!("binary data on {}", vector.kind),
        None => "".into(),
    };
    match vector.kind.as_str() {
        "open" => Packet::Open(text()),
        "close" => Packet::Close,
        "ping" => Packet::Ping(text()),
        "pong" => Packet::Pong(text()),
        "message" => match &vector.data {
            Some(Data::Base64(base64)) => Packet::decode_binary(bytes(base64)),
            Some(Data::Text(_)) | None => Packet::Message(Message::Text(text())),
        },
        "upgrade" => Packet::Upgrade,
        "noop" => Packet::Noop,
        other => panic!("unknown packet type {other}"),
    }
}

fn frame(encoded: &[Data]) -> Frame {
    match encoded {
        [Data::Text(text)] => Frame::Text(text.as_str().into()),
        [Data::Base64(base64)] => Frame::Binary(bytes(base64)),
        _ => panic!("exactly one frame was expected"),
    }
}

fn bytes(base64: &str) -> Bytes {
    BASE64_STANDARD.decode(base64).expect("the vectors hold padded base64").into()
}

fn vectors() -> Vectors {
    let folder = std::env::var_os("SIOD_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"), PathBuf::from);
    let path = folder.join("engineio_v4.json");
    let json = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
