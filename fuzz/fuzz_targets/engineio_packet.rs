//! One WebSocket message, as text and as binary, in both revisions: what is read can be written, and reads the same again.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use siod::engineio::{DecodeError, Frame, Handshake, Message, Packet, Revision};

static BEGINNINGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let frames = ["engineio_v3", "engineio_v4"].into_iter().flat_map(siod_fuzz::vectors).flatten();
    frames.map(|frame| siod_fuzz::bytes(&frame).to_vec()).collect()
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    siod_fuzz::mutate(data, size, max_size, seed, &BEGINNINGS)
});

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    for revision in [Revision::V3, Revision::V4] {
        binary(revision, &bytes);
        text(revision, &bytes);
    }
});

fn binary(revision: Revision, bytes: &Bytes) {
    let packet = revision.decode_frame(Frame::Binary(bytes.clone())).expect("no binary message is wrong");
    comes_back(revision, &packet);
}

fn text(revision: Revision, bytes: &Bytes) {
    let decoded = match ByteString::try_from(bytes.clone()) {
        Ok(text) => revision.decode_frame(Frame::Text(text)),
        Err(_) => Err(DecodeError::Utf8),
    };
    assert_eq!(revision.decode_bytes(bytes.clone()), decoded, "whether it is text shows sooner or later");
    if let Some(text) = revision.message_text(bytes) {
        assert_eq!(decoded, Ok(Packet::Message(Message::Text(text.into()))));
    }
    let Ok(packet) = decoded else { return };
    comes_back(revision, &packet);
    if let Packet::Open(body) = &packet
        && let Ok(handshake) = Handshake::parse(body)
    {
        is_bounded(&handshake);
    }
}

fn comes_back(revision: Revision, packet: &Packet) {
    let again = revision.decode_frame(revision.encode_frame(packet));
    assert_eq!(again.as_ref(), Ok(packet), "{revision:?}");
}

fn is_bounded(handshake: &Handshake) {
    let bounds = Duration::from_millis(1)..=Duration::from_hours(24);
    assert!(bounds.contains(&handshake.ping_interval) && bounds.contains(&handshake.ping_timeout));
    assert!((1..=128).contains(&handshake.sid.len()) && handshake.sid.is_ascii());
    assert_ne!(handshake.max_payload, Some(0));
}
