//! A polling body in both revisions: what is read can be written, in bodies that keep to a limit, and reads the same
//! again. The first byte of an input is the limit.

#![no_main]

use std::collections::VecDeque;
use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use siod::engineio::{Packet, Revision};

static BEGINNINGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let frames = ["engineio_v3", "engineio_v4"].into_iter().flat_map(siod_fuzz::vectors).flatten();
    frames.map(|frame| [&[20], siod_fuzz::bytes(&frame)].concat()).collect()
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    siod_fuzz::mutate(data, size, max_size, seed, &BEGINNINGS)
});

fuzz_target!(|data: &[u8]| {
    let Some((limit, body)) = data.split_first() else { return };
    let body = Bytes::copy_from_slice(body);
    for revision in [Revision::V3, Revision::V4] {
        let packets = read(revision, &body);
        if revision == Revision::V4 && is_handshake(&packets) {
            assert_eq!(Revision::of_handshake(&body), Some(revision));
        }
        for limit in [None, Some(usize::from(*limit))] {
            comes_back(revision, &packets, limit);
        }
    }
});

/// The packets up to the first that is wrong.
fn read(revision: Revision, body: &Bytes) -> Vec<Packet> {
    let mut decoded = revision.decode_body(body.clone());
    let mut packets = Vec::new();
    while let Some(packet) = decoded.next() {
        match packet {
            Ok(packet) => packets.push(packet),
            Err(_) => assert_eq!(decoded.next(), None, "an error is the end"),
        }
    }
    assert_eq!(decoded.next(), None);
    assert!(packets.len() <= body.len(), "each takes a byte at least");
    packets
}

fn is_handshake(packets: &[Packet]) -> bool {
    matches!(packets.first(), Some(Packet::Open(open)) if open.starts_with('{'))
}

fn comes_back(revision: Revision, packets: &[Packet], limit: Option<usize>) {
    let (mut queue, mut taken) = (VecDeque::from(packets.to_vec()), Vec::new());
    let size = |packets: &[Packet]| {
        let packets_size: usize = packets.iter().map(|packet| revision.size_in_body(packet)).sum();
        packets_size + revision.separators(packets.len())
    };
    while let Some(body) = revision.take_body(&mut queue, limit) {
        let some: Result<Vec<_>, _> = revision.decode_body(body.clone().into()).collect();
        let some = some.expect("our own body decodes");
        assert_eq!(body.len(), size(&some), "the size is known beforehand");
        let fits = |size| limit.is_none_or(|limit| size <= limit);
        assert!(some.len() == 1 || fits(body.len()), "{} bytes in a body of {limit:?}", body.len());
        if let Some(next) = queue.front() {
            let with_next = body.len() + revision.separators(2) + revision.size_in_body(next);
            assert!(!fits(with_next), "no body is left before it is full");
        }
        taken.extend(some);
    }
    assert_eq!(taken, packets, "{revision:?}");
}
