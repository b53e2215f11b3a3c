//! What the ring costs: a line appended, and read by one cursor up to a thousand, with and without filters.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use siod::hub::log::{CursorId, Kind, LineView, Log, Read, Settings};
use siod::hub::notice::{Encoder, Head};
use siod::hub::subscription::{Filter, LifecycleFilter, Pattern};
use siod::socketio::{Args, Name};

const HISTORY: Settings = Settings { events: 16_384, bytes: 8 * 1024 * 1024 };
/// Lines that come in one go, as from one read of the WebSocket.
const BATCH: u64 = 128;
/// What a consumer takes with one write.
const PORTION: usize = 256 * 1024;

struct Writer {
    encoder: Encoder,
    name: Name,
    args: Args,
}

impl Writer {
    fn new(length: usize) -> Self {
        let args = Args::from_array(format!("[\"{}\"]", "x".repeat(length)).into()).expect("an array");
        Self { encoder: Encoder::new("chat"), name: Name::new("message"), args }
    }

    fn append(&self, log: &mut Log) {
        let size = self.encoder.event_size(self.name.view(), self.args.view());
        log.append(Kind::Event, size, |seq, out: &mut BytesMut| {
            self.encoder.event(&mut Head::default(), out, seq, self.name.view(), self.args.view(), None)
        });
    }
}

/// A ring with this many cursors at its head.
fn ring(cursors: usize) -> (Log, Vec<CursorId>) {
    let mut log = Log::new(HISTORY, Duration::from_secs(1)).in_portions();
    let cursors = (0..cursors).map(|_| log.attach(1)).collect();
    (log, cursors)
}

fn read_to_head(
    log: &mut Log,
    id: CursorId,
    want: impl Fn(LineView<'_>) -> bool,
    out: &mut Vec<Bytes>,
) -> usize {
    let mut taken = 0;
    loop {
        match log.read(id, u64::MAX, PORTION, &want, out) {
            Read::Lines(lines) => taken += lines,
            Read::AtHead(lines) => return taken + lines,
            Read::Missed { .. } => panic!("a healthy cursor is never overrun"),
        }
    }
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring append");
    group.throughput(Throughput::Elements(1));
    for length in [100, 1024, 16 * 1024] {
        let writer = Writer::new(length);
        let (mut log, _) = ring(0);
        group.bench_function(BenchmarkId::from_parameter(length), |b| b.iter(|| writer.append(&mut log)));
    }
    group.finish();
}

/// The time of the daemon's own order of things: a batch comes, room is asked for, and everybody takes it.
fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring batch and read");
    let writer = Writer::new(100);
    for cursors in [1, 100, 1000] {
        let (mut log, ids) = ring(cursors);
        let (mut out, now) = (Vec::new(), Instant::now());
        let mut turn = || {
            for _ in 0..BATCH {
                assert!(log.room(now).is_none(), "everybody is at the head");
                writer.append(&mut log);
            }
            for id in &ids {
                out.clear();
                assert_eq!(read_to_head(&mut log, *id, |_| true, &mut out) as u64, BATCH);
            }
        };
        group.throughput(Throughput::Elements(BATCH * cursors as u64));
        group.bench_function(BenchmarkId::from_parameter(cursors), |b| b.iter(&mut turn));
    }
    group.finish();
}

fn filters(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring read filtered");
    let events = |patterns: &[&str]| Filter {
        events: Some(patterns.iter().copied().map(Pattern::new).collect()),
        lifecycle: LifecycleFilter::Names(BTreeSet::from(["connect".to_owned()])),
        outgoing: false,
    };
    let everything = Filter { events: None, lifecycle: LifecycleFilter::All, outgoing: false };
    for (label, filter, expected) in [
        ("everything", everything, BATCH),
        ("plain name", events(&["message"]), BATCH),
        ("prefix", events(&["mess*"]), BATCH),
        ("eight patterns", events(&["a*", "b*", "c*", "*d", "*e", "f?", "g", "*age"]), BATCH),
        ("nothing", events(&["other"]), 0),
    ] {
        let writer = Writer::new(100);
        group.throughput(Throughput::Elements(BATCH));
        group.bench_function(BenchmarkId::from_parameter(label), |b| {
            let prepare = || {
                let (mut log, ids) = ring(1);
                (0..BATCH).for_each(|_| writer.append(&mut log));
                log.seal();
                (log, ids[0], Vec::new())
            };
            let read = |(mut log, id, mut out): (Log, CursorId, Vec<Bytes>)| {
                let taken = read_to_head(&mut log, id, |line| filter.wants(black_box(line)), &mut out);
                assert_eq!(taken as u64, expected);
                (log, out)
            };
            b.iter_batched(prepare, read, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, append, fan_out, filters);
criterion_main!(benches);
