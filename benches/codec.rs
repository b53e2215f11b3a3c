//! What one message costs on its way through, without IO: from a WebSocket's text to the line in the ring, and from a
//! program's line to the WebSocket's text.

use std::hint::black_box;

use bytes::BytesMut;
use bytestring::ByteString;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use siod::api::message::{Emit, Request};
use siod::engineio::{self, Frame, Revision};
use siod::hub::notice::{Encoder, Head};
use siod::json;
use siod::socketio::{Args, Body, Decoder, Name, Packet, Parser};

const LIMIT: usize = 16 * 1024 * 1024;

/// What travels: short and long text, and a tree of values, which is the most work to check.
fn payloads() -> [(&'static str, String); 4] {
    let record =
        r#"{"id":9007199254740993,"price":12.50,"tags":["a","b",null],"open":true,"note":"\u00e9t\n"}"#;
    let tree = format!("[{}]", [record; 12].join(","));
    let text = |length: usize| format!("\"{}\"", "x".repeat(length));
    [
        ("text 100 B", text(100)),
        ("text 1 KiB", text(1024)),
        ("text 16 KiB", text(16 * 1024)),
        ("tree 1 KiB", tree),
    ]
}

fn websocket_text(payload: &str) -> ByteString {
    format!(r#"42["message",{payload}]"#).into()
}

fn decode_engineio(text: ByteString) -> engineio::Message {
    match Revision::V4.decode_frame(Frame::Text(text)) {
        Ok(engineio::Packet::Message(message)) => message,
        other => panic!("a message packet was expected, not {other:?}"),
    }
}

fn decode_socketio(decoder: &mut Decoder, message: engineio::Message) -> Packet {
    decoder.decode(message).expect("the packet is valid").expect("the packet is whole")
}

fn event(packet: Packet) -> (Name, Args) {
    match packet.body {
        Body::Event { name, args, .. } => (name, args),
        other => panic!("an event was expected, not {other:?}"),
    }
}

/// As nearly all events go: looked at where they were read, and nothing is owned before the line.
fn pass_on(decoder: &Decoder, frame: &[u8], encoder: &Encoder, head: &mut Head, line: &mut BytesMut) {
    let text = engineio::Packet::message_text(frame).expect("the frame is a message packet");
    let header = decoder.plain_header(text).expect("the packet is an event");
    let event = decoder.plain_event(&header).expect("the event is valid");
    encoder.event(head, line, 123_456, event.name, event.args(), event.id);
}

fn encode(packet: &Packet) -> Frame {
    let mut messages = Vec::with_capacity(1);
    packet.encode(Parser::Json, &mut messages);
    let message = messages.pop().expect("a packet is at least one message");
    Revision::V4.encode_frame(&engineio::Packet::Message(message))
}

/// As `api::dispatch` does it where a request is not the usual emit, save that nobody looks the connection up.
fn packet_of_line(line: &[u8]) -> Packet {
    let request = Request::parse(line).expect("the line is a request");
    let emit: Emit<'_> = request.params().expect("the parameters are those of emit");
    let args = emit.args.map_or("[]", serde_json::value::RawValue::get);
    let args = Args::from_consumer(args, emit.binary, 10).expect("the arguments are an array");
    let body = Body::Event { id: emit.ack.then_some(7), name: Name::new(&emit.event), args };
    Packet { namespace: ByteString::from_static("/"), body }
}

fn upstream_to_line(c: &mut Criterion) {
    let mut group = c.benchmark_group("receive");
    for (label, payload) in payloads() {
        let text = websocket_text(&payload);
        let message = decode_engineio(text.clone());
        let mut decoder = Decoder::new(Parser::Json, 10, LIMIT);
        let (name, args) = event(decode_socketio(&mut decoder, message.clone()));
        assert_eq!(args.json(), payload);
        let encoder = Encoder::new("chat");

        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("engineio decode", label), |b| {
            b.iter(|| decode_engineio(black_box(text.clone())));
        });
        group.bench_function(BenchmarkId::new("socketio decode", label), |b| {
            b.iter(|| decode_socketio(&mut decoder, black_box(message.clone())));
        });
        group.bench_function(BenchmarkId::new("validate", label), |b| {
            b.iter(|| json::validate(black_box(&payload)));
        });
        group.bench_function(BenchmarkId::new("notification", label), |b| {
            let mut head = Head::default();
            let mut line = BytesMut::with_capacity(encoder.event_size(name.view(), args.view()));
            b.iter(|| {
                line.clear();
                encoder.event(&mut head, &mut line, black_box(123_456), name.view(), args.view(), None)
            });
        });
        group.bench_function(BenchmarkId::new("text to notification", label), |b| {
            let mut head = Head::default();
            let mut line = BytesMut::with_capacity(encoder.event_size(name.view(), args.view()));
            b.iter(|| {
                line.clear();
                pass_on(&decoder, black_box(text.as_bytes()), &encoder, &mut head, &mut line);
            });
        });
    }
    group.finish();
}

fn line_to_upstream(c: &mut Criterion) {
    let mut group = c.benchmark_group("send");
    for (label, payload) in payloads() {
        let params = format!(r#"{{"connection":"chat","event":"message","args":[{payload}],"ack":true}}"#);
        let line = format!(r#"{{"jsonrpc":"2.0","id":41,"method":"emit","params":{params}}}"#);
        let packet = packet_of_line(line.as_bytes());
        let expected = format!(r#"427["message",{payload}]"#);
        assert_eq!(encode(&packet), Frame::Text(expected.into()));

        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_function(BenchmarkId::new("request to packet", label), |b| {
            b.iter(|| packet_of_line(black_box(line.as_bytes())));
        });
        group.bench_function(BenchmarkId::new("socketio and engineio encode", label), |b| {
            b.iter(|| encode(black_box(&packet)));
        });
    }
    group.finish();
}

criterion_group!(benches, upstream_to_line, line_to_upstream);
criterion_main!(benches);
