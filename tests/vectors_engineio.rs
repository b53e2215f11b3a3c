//! The codecs of Engine.IO 4 and 3 against what the official JavaScript packages encode and decode.
//!
//! The files are read from `tests/vectors/`, or from the folder named by `SIOD_VECTORS`.

use std::collections::VecDeque;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use siod::engineio::{DecodeError, Frame, Handshake, Message, Packet, Revision, payload, payload_v3};

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
    for (revision, case) in cases(|vectors| vectors.cases, 40) {
        let expected: Vec<_> = case.decoded.iter().map(packet).collect();
        let decoded = decode(revision, case.kind, &case.encoded);
        assert_eq!(decoded, (expected.clone(), None), "decode: {}", case.name);
        for packet in &expected {
            if let Packet::Open(json) = packet {
                Handshake::parse(json).unwrap_or_else(|error| panic!("{}: {error}", case.name));
            }
        }
        // Binary bodies and base64 on a WebSocket are read in revision 3, and never written.
        let is_written = revision == Revision::V4
            || !matches!(case.transport.as_str(), "polling_binary" | "websocket_b64");
        if case.op == Op::Both && is_written {
            assert_eq!(encode(revision, &case, &expected), frame(&case.encoded), "encode: {}", case.name);
        }
    }
}

#[test]
fn invalid_input_is_refused_after_the_packets_before_it() {
    for (revision, case) in cases(|vectors| vectors.invalid, 10) {
        let (packets, error) = decode(revision, case.kind, &case.encoded);
        let expected: Vec<_> = case.official.packets_before_error.iter().map(packet).collect();
        assert_eq!(packets, expected, "{}", case.name);
        assert!(error.is_some(), "{} was taken", case.name);
    }
}

/// Where the official decoder is lenient, ours may refuse, and whatever it takes is one packet.
#[test]
fn quirks_are_taken_or_refused() {
    for (revision, case) in cases(|vectors| vectors.quirks, 1) {
        let (packets, error) = decode(revision, case.kind, &case.encoded);
        let fits = match revision {
            Revision::V3 => match packets.as_slice() {
                [packet] => *packet == Packet::Noop && error.is_none(),
                packets => packets.is_empty() && error.is_some(),
            },
            Revision::V4 => {
                matches!((packets.len(), &error), (1, None) | (0, Some(DecodeError::Base64)))
            }
        };
        assert!(fits, "{}: {packets:?} {error:?}", case.name);
    }
}

/// What `choose` takes of each file, at least `least` of each.
fn cases<T>(choose: fn(Vectors) -> Vec<T>, least: usize) -> Vec<(Revision, T)> {
    let mut cases = Vec::new();
    for (file, revision) in [("engineio_v4.json", Revision::V4), ("engineio_v3.json", Revision::V3)] {
        let chosen = choose(vectors(file));
        assert!(chosen.len() >= least, "{file}: only {} cases", chosen.len());
        cases.extend(chosen.into_iter().map(|case| (revision, case)));
    }
    cases
}

fn decode(revision: Revision, kind: Kind, encoded: &[Data]) -> (Vec<Packet>, Option<DecodeError>) {
    match (kind, frame(encoded)) {
        (Kind::Packet, frame) => match revision.decode_frame(frame) {
            Ok(packet) => (vec![packet], None),
            Err(error) => (vec![], Some(error)),
        },
        (Kind::Payload, Frame::Binary(body)) => collect(revision, body),
        (Kind::Payload, Frame::Text(body)) => collect(revision, body.into_bytes()),
    }
}

fn collect(revision: Revision, body: Bytes) -> (Vec<Packet>, Option<DecodeError>) {
    let mut packets = Vec::new();
    for packet in revision.decode_body(body) {
        match packet {
            Ok(packet) => packets.push(packet),
            Err(error) => return (packets, Some(error)),
        }
    }
    (packets, None)
}

fn encode(revision: Revision, case: &Case, packets: &[Packet]) -> Frame {
    if case.kind == Kind::Payload {
        let body = match revision {
            Revision::V3 => payload_v3::encode(packets),
            Revision::V4 => payload::encode(packets),
        };
        let mut queue = VecDeque::from(packets.to_vec());
        let taken = revision.take_body(&mut queue, Some(body.len()));
        assert_eq!(taken.as_deref(), Some(&*body), "{}", case.name);
        return Frame::Text(body.into());
    }
    let [packet] = packets else { panic!("{}: one packet was expected", case.name) };
    if case.transport == "websocket" {
        return revision.encode_frame(packet);
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

fn vectors(file: &str) -> Vectors {
    let folder = std::env::var_os("SIOD_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"), PathBuf::from);
    let path = folder.join(file);
    let json = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
