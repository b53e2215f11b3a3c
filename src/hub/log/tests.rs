//! The rules of the ring, one by one.

use std::time::Instant;

use bytes::Bytes;

use super::*;

mod model;

const STALL: Duration = Duration::from_secs(1);
const ALL: fn(LineView<'_>) -> bool = |_| true;

#[test]
fn lines_are_read_in_order_and_once() {
    let mut log = ring(100, 10_000);
    assert_eq!((log.head(), log.oldest()), (0, 1));
    let cursor = log.attach(1);
    assert_eq!(read(&mut log, cursor), (Read::AtHead(0), String::new()));
    append(&mut log, 3);
    assert_eq!((log.head(), log.oldest(), log.behind(cursor)), (3, 1, 3));
    assert_eq!(read(&mut log, cursor), (Read::AtHead(3), lines(1..=3)));
    assert_eq!(read(&mut log, cursor), (Read::AtHead(0), String::new()));
    append(&mut log, 1);
    assert_eq!(read(&mut log, cursor), (Read::AtHead(1), lines(4..=4)));
    assert_eq!((log.behind(cursor), log.position(cursor)), (0, 5));
}

#[test]
fn neighbours_are_one_slice_and_what_is_not_wanted_is_left_out() {
    type Want = fn(LineView<'_>) -> bool;
    let rows: [(Want, &[&[u64]]); 6] = [
        (ALL, &[&[1, 2, 3, 4, 5, 6]]),
        (|_| false, &[]),
        (|line| line.seq % 2 == 0, &[&[2], &[4], &[6]]),
        (|line| line.seq != 3, &[&[1, 2], &[4, 5, 6]]),
        (|line| line.kind == Kind::Lifecycle, &[&[3], &[6]]),
        (|line| line.name == b"\"n1\"", &[&[1], &[4]]),
    ];
    for (row, (want, slices)) in rows.into_iter().enumerate() {
        let mut log = ring(100, 10_000);
        for seq in 1..=6_u64 {
            let kind = if seq % 3 == 0 { Kind::Lifecycle } else { Kind::Event };
            put(&mut log, kind, &format!("n{}", seq % 3), 0);
        }
        let cursor = log.attach(1);
        let mut out = Vec::new();
        let taken = slices.iter().map(|slice| slice.len()).sum();
        assert_eq!(log.read(cursor, u64::MAX, usize::MAX, want, &mut out), Read::AtHead(taken));
        let seqs: Vec<Vec<u64>> = out.iter().map(seqs).collect();
        assert_eq!(seqs, slices, "row {row}");
    }
}

/// A reader of whom something is known.
struct Known(Whole);

impl Want for Known {
    fn whole(&self, from: u64) -> Whole {
        assert!(from > 0);
        self.0
    }

    fn wants(&self, line: LineView<'_>) -> bool {
        assert_ne!(self.0, Whole::Everything, "no line need be looked at");
        line.kind == Kind::Event
    }
}

#[test]
fn what_is_known_to_be_wanted_is_read_as_if_it_were_looked_at() {
    let line = lines(1..=1).len();
    for lifecycles in [&[][..], &[4], &[1, 9], &[3, 4, 5]] {
        for seals in [&[][..], &[3], &[3, 4, 8]] {
            for (until, max_bytes) in [
                (u64::MAX, usize::MAX),
                (5, usize::MAX),
                (u64::MAX, 1),
                (u64::MAX, 2 * line),
                (7, 2 * line + 1),
            ] {
                let read = |known: Whole, only_events: bool| {
                    let mut log = ring(100, 10_000);
                    for seq in 1..=9_u64 {
                        let is_event = !lifecycles.contains(&seq);
                        put(&mut log, if is_event { Kind::Event } else { Kind::Lifecycle }, "e", 0);
                        if seals.contains(&seq) {
                            log.seal();
                        }
                    }
                    let cursor = log.attach(1);
                    let mut reads = Vec::new();
                    loop {
                        let mut out = Vec::new();
                        let read = match known {
                            Whole::Nothing => {
                                let want = |line: LineView<'_>| !only_events || line.kind == Kind::Event;
                                log.read(cursor, until, max_bytes, want, &mut out)
                            }
                            known => log.read(cursor, until, max_bytes, Known(known), &mut out),
                        };
                        reads.push((read, out, log.position(cursor)));
                        if let Read::AtHead(_) = read {
                            return reads;
                        }
                    }
                };
                assert_eq!(read(Whole::Everything, false), read(Whole::Nothing, false));
                assert_eq!(read(Whole::Events, true), read(Whole::Nothing, true));
            }
        }
    }
}

#[test]
fn neighbours_are_one_slice_in_a_full_ring_too() {
    let mut log = ring(10, 10_000);
    let cursor = log.attach(1);
    append(&mut log, 10);
    read(&mut log, cursor);
    append(&mut log, 8);
    let mut out = Vec::new();
    assert_eq!(log.read(cursor, u64::MAX, usize::MAX, ALL, &mut out), Read::AtHead(8));
    assert_eq!(out.iter().map(seqs).collect::<Vec<_>>(), [(11..=18).collect::<Vec<_>>()]);
}

#[test]
fn a_full_ring_goes_on_in_the_memory_it_has() {
    let mut log = ring(1000, 8 * 1024);
    let reused = |log: &mut Log| {
        let padding = 1000;
        put(log, Kind::Event, "e", padding);
        log.seal();
        log.spare.as_ref().map(|spare| (spare.len(), spare.capacity() >= log.chunk))
    };
    let reused: Vec<_> = (0..50).filter_map(|_| reused(&mut log)).collect();
    assert!(reused.len() > 5, "{reused:?}");
    assert!(reused.iter().all(|spare| *spare == (0, true)), "{reused:?}");
    log.forget();
    assert!(log.spare.is_none());
}

#[test]
fn in_portions_no_more_than_a_part_is_read() {
    let line = lines(1..=1).len();
    for (events, bytes, portion) in [(320, 1 << 20, 10), (33, 1 << 20, 1), (1000, 32 * 4 * line, 4)] {
        let mut log = Log::new(Settings { events, bytes }, STALL).in_portions();
        let cursor = log.attach(1);
        append(&mut log, 12);
        let mut out = Vec::new();
        assert_eq!(log.read(cursor, u64::MAX, usize::MAX, ALL, &mut out), Read::Lines(portion));
        assert_eq!(log.position(cursor), 1 + portion as u64);
    }
}

#[test]
fn what_a_limited_reader_missed_ends_at_its_limit() {
    let mut log = Log::lossy(Settings { events: 4, bytes: 10_000 });
    let cursor = log.attach(1);
    append(&mut log, 10);
    let mut out = Vec::new();
    let mut read = || log.read(cursor, 4, usize::MAX, ALL, &mut out);
    assert_eq!(read(), Read::Missed { count: 4, next: 7 }, "lines 5 and 6 are none of its business");
    assert_eq!(read(), Read::AtHead(0));
}

#[test]
fn a_read_ends_where_it_is_told_to() {
    let line = lines(1..=1).len();
    for (until, max_bytes, found, rest) in [
        (u64::MAX, line, Read::Lines(1), 2),
        (u64::MAX, line + 1, Read::Lines(2), 3),
        (u64::MAX, 5 * line, Read::AtHead(5), 6),
        (3, usize::MAX, Read::AtHead(3), 4),
        (3, line, Read::Lines(1), 2),
        (1, line, Read::AtHead(1), 2),
        (0, usize::MAX, Read::AtHead(0), 1),
    ] {
        let mut log = ring(100, 10_000);
        append(&mut log, 5);
        let cursor = log.attach(1);
        let read = log.read(cursor, until, max_bytes, ALL, &mut Vec::new());
        assert_eq!((read, log.position(cursor)), (found, rest), "until {until}, {max_bytes} bytes");
    }
}

#[test]
fn a_full_ring_drops_its_oldest_lines() {
    let line = lines(1..=1).len();
    for (events, bytes, kept) in [
        (4, 10_000, 4),
        (1, 10_000, 1),
        (100, 3 * line, 3),
        (100, 3 * line + line - 1, 3),
        (100, 1, 1),
        (100, 0, 1),
    ] {
        let mut log = ring(events, bytes);
        append(&mut log, 9);
        assert_eq!((log.head(), log.oldest()), (9, 10 - kept), "{events} lines, {bytes} bytes");
        let cursor = log.attach(log.oldest());
        assert_eq!(read(&mut log, cursor), (read_at_head(kept), lines(10 - kept..=9)));
    }
}

#[test]
fn a_line_larger_than_the_ring_stays_until_the_next() {
    let mut log = ring(100, 1000);
    append(&mut log, 2);
    put(&mut log, Kind::Event, "big", 50_000);
    assert_eq!((log.oldest(), log.head()), (3, 3));
    append(&mut log, 1);
    assert_eq!((log.oldest(), log.head()), (4, 4));
}

#[test]
fn an_overrun_cursor_is_told_exactly_what_it_missed() {
    let mut log = Log::lossy(Settings { events: 4, bytes: 10_000 });
    let cursor = log.attach(1);
    append(&mut log, 10);
    assert!(log.is_overrun(cursor));
    assert_eq!(log.room(Instant::now()), None, "a lossy ring waits for nobody");
    assert_eq!(read(&mut log, cursor), (Read::Missed { count: 6, next: 7 }, String::new()));
    assert!(!log.is_overrun(cursor));
    assert_eq!(read(&mut log, cursor), (Read::AtHead(4), lines(7..=10)));
}

#[test]
fn a_full_ring_has_room_when_nobody_needs_its_oldest_line() {
    let now = Instant::now();
    for (events, bytes) in [(4, 10_000), (1, 10_000), (100, 40), (100, 1), (100, 0)] {
        let mut log = ring(events, bytes);
        let cursor = log.attach(1);
        for seq in 1..=20 {
            assert_eq!(log.room(now), None, "line {seq} of {events} lines, {bytes} bytes");
            append(&mut log, 1);
            assert_eq!(read(&mut log, cursor), (Read::AtHead(1), lines(seq..=seq)));
        }
    }
}

#[test]
fn whoever_holds_the_ring_up_has_a_second_for_a_sixteenth_of_it() {
    // Of 32 lines a sixteenth is two. What is taken meanwhile; whether it counts as stalled at 1 s.
    for (takes, stalls) in [(0, true), (1, true), (2, false), (3, false), (32, false)] {
        let mut held = Held::full_ring(32, 1 << 20);
        held.takes(takes);
        held.fill(500);
        assert_eq!(held.stalls(1000), stalls, "after {takes} lines");
    }
}

#[test]
fn a_sixteenth_may_be_one_of_bytes() {
    // Twenty lines of 100 bytes fill the ring long before it has 4096 lines.
    for (takes, stalls) in [(0, true), (1, true), (2, false), (20, false)] {
        let mut held = Held::full_ring(4096, 2000);
        assert_eq!(held.log.head(), 20);
        held.takes(takes);
        held.fill(500);
        assert_eq!(held.stalls(1000), stalls, "after {takes} lines");
    }
}

#[test]
fn each_second_counts_anew() {
    let mut held = Held::full_ring(32, 1 << 20);
    for second in 0..5 {
        held.takes(2);
        held.fill(second * 1000 + 900);
        assert!(!held.stalls((second + 1) * 1000), "second {second}");
    }
    assert_eq!(held.room(5999), Some(6000));
    assert!(held.stalls(6000));
}

#[test]
fn a_stalled_cursor_is_overrun_until_it_has_caught_up() {
    let mut held = Held::full_ring(32, 1 << 20);
    assert!(held.stalls(1000));
    assert!(held.log.take_newly_stalled().is_empty(), "told once");
    append(&mut held.log, 8);
    let missed = held.read(usize::MAX);
    assert_eq!(missed, Read::Missed { count: 8, next: 9 });

    // Reading some of it is not enough to be waited for again.
    held.takes(31);
    append(&mut held.log, 40);
    assert_eq!(held.room(5000), None);
    assert_eq!(held.read(usize::MAX), Read::Missed { count: 80 - 32 - 39, next: 49 });

    assert_eq!(held.read(usize::MAX), Read::AtHead(32));
    append(&mut held.log, 32);
    assert_eq!(held.room(6000), Some(7000), "it is waited for again");
}

#[test]
fn one_stalled_cursor_does_not_take_another_with_it() {
    let mut held = Held::full_ring(32, 1 << 20);
    let other = held.log.attach(1);
    held.takes_with(other, 4);
    assert!(held.stalls(1000), "the first one only");
    held.fill(1000);
    assert_eq!(held.room(1000), Some(2000));
    assert_eq!(held.log.read(other, u64::MAX, 1, ALL, &mut Vec::new()), Read::Lines(1));
    assert!(held.log.is_overrun(held.cursor));
}

#[test]
fn detaching_makes_room() {
    let mut held = Held::full_ring(32, 1 << 20);
    assert_eq!(held.room(1), Some(1000));
    held.log.detach(held.cursor);
    assert_eq!(held.room(2), None);
    assert_eq!(held.log.read(held.cursor, u64::MAX, 100, ALL, &mut Vec::new()), Read::AtHead(0));
}

#[test]
fn lifecycle_lines_need_no_room_but_have_a_limit() {
    let mut log = ring(160, 1 << 20);
    let cursor = log.attach(1);
    append(&mut log, 160);
    for _ in 0..26 {
        put(&mut log, Kind::Lifecycle, "connect_error", 0);
    }
    assert!(!log.is_overrun(cursor), "a sixteenth and 16 more");
    put(&mut log, Kind::Lifecycle, "connect_error", 0);
    assert!(log.is_overrun(cursor));

    // Large ones, such as a refusal with all that the server added to it.
    let mut log = ring(16_384, 10_000);
    log.attach(1);
    for _ in 0..100 {
        put(&mut log, Kind::Lifecycle, "connect_error", 5000);
        assert!(log.retained_bytes() < 30_000, "{} bytes", log.retained_bytes());
    }
}

#[test]
fn forgetting_hides_the_past_from_newcomers_only() {
    let mut log = ring(100, 10_000);
    let cursor = log.attach(1);
    append(&mut log, 5);
    log.forget();
    assert_eq!((log.head(), log.oldest()), (5, 6));
    assert_eq!((log.count(1, ALL), log.last(3, ALL)), (0, 6));
    append(&mut log, 1);
    assert_eq!((log.count(1, ALL), log.last(3, ALL)), (1, 6));
    assert_eq!(read(&mut log, cursor), (Read::AtHead(6), lines(1..=6)));
    assert_eq!(log.first, 6, "then it is gone");
    log.forget();
    assert_eq!((log.first, log.retained_bytes()), (7, 0));
}

#[test]
fn another_size_holds_from_now_on() {
    let mut log = ring(100, 10_000);
    append(&mut log, 50);
    log.resize(Settings { events: 10, bytes: 10_000 });
    assert_eq!(log.oldest(), 41);
    log.resize(Settings { events: 20, bytes: 10_000 });
    append(&mut log, 20);
    assert_eq!(log.oldest(), 51);
}

#[test]
fn counting_from_the_end_and_from_a_line() {
    let mut log = ring(6, 10_000);
    for seq in 1..=9_u64 {
        put(&mut log, Kind::Event, if seq % 2 == 0 { "even" } else { "odd" }, 0);
    }
    // Lines 4 to 9 are retained.
    let even = |line: LineView<'_>| line.name == b"\"even\"";
    for (n, all, evens) in [(0, 10, 10), (1, 9, 8), (2, 8, 6), (3, 7, 4), (4, 6, 4), (6, 4, 4), (99, 4, 4)] {
        assert_eq!((log.last(n, ALL), log.last(n, even)), (all, evens), "the last {n}");
    }
    for (start, all, evens) in [(0, 6, 3), (4, 6, 3), (5, 5, 2), (9, 1, 0), (10, 0, 0), (99, 0, 0)] {
        assert_eq!((log.count(start, ALL), log.count(start, even)), (all, evens), "from {start}");
    }
    assert_eq!(log.last(5, |_| false), 10);
}

/// A ring that is full, and the cursor at its tail that keeps it so since 0 ms.
struct Held {
    start: Instant,
    log: Log,
    cursor: CursorId,
}

impl Held {
    fn full_ring(events: usize, bytes: usize) -> Self {
        let mut log = ring(events, bytes);
        let cursor = log.attach(1);
        let mut held = Self { start: Instant::now(), log, cursor };
        held.fill(0);
        held
    }

    fn room(&mut self, milliseconds: u64) -> Option<u64> {
        let until = self.log.room(self.start + Duration::from_millis(milliseconds))?;
        Some(u64::try_from((until - self.start).as_millis()).unwrap())
    }

    /// Appends lines of 100 bytes as long as there is room at that time.
    fn fill(&mut self, milliseconds: u64) {
        while self.room(milliseconds).is_none() {
            let padding = 95 - self.log.next.to_string().len();
            put(&mut self.log, Kind::Event, "e", padding);
        }
    }

    fn takes(&mut self, lines: u64) {
        self.takes_with(self.cursor, lines);
    }

    fn takes_with(&mut self, cursor: CursorId, lines: u64) {
        for _ in 0..lines {
            self.log.read(cursor, u64::MAX, 1, ALL, &mut Vec::new());
        }
    }

    fn read(&mut self, max_bytes: usize) -> Read {
        self.log.read(self.cursor, u64::MAX, max_bytes, ALL, &mut Vec::new())
    }

    /// Whether the cursor counts as stalled when room is asked for then.
    fn stalls(&mut self, milliseconds: u64) -> bool {
        let room = self.room(milliseconds);
        let stalled = self.log.take_newly_stalled();
        assert_eq!(room.is_none(), !stalled.is_empty(), "room is what a stalled one leaves behind");
        stalled.contains(&self.cursor)
    }
}

fn ring(events: usize, bytes: usize) -> Log {
    Log::new(Settings { events, bytes }, STALL)
}

/// `SEQ "NAME"`, spaces, a newline.
fn text(seq: u64, name: &str, padding: usize) -> String {
    format!("{seq} \"{name}\"{}\n", " ".repeat(padding))
}

fn put(log: &mut Log, kind: Kind, name: &str, padding: usize) -> String {
    let line = text(log.next, name, padding);
    log.append(kind, line.len(), |seq, out| {
        let start = out.len() + seq.to_string().len() + 1;
        out.extend_from_slice(line.as_bytes());
        start..start + name.len() + 2
    });
    line
}

fn append(log: &mut Log, lines: u64) {
    for _ in 0..lines {
        put(log, Kind::Event, "e", 0);
    }
}

fn lines(seqs: impl IntoIterator<Item = u64>) -> String {
    seqs.into_iter().map(|seq| text(seq, "e", 0)).collect()
}

fn seqs(slice: &Bytes) -> Vec<u64> {
    let text = std::str::from_utf8(slice).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
}

fn read(log: &mut Log, cursor: CursorId) -> (Read, String) {
    let mut out = Vec::new();
    let read = log.read(cursor, u64::MAX, usize::MAX, ALL, &mut out);
    (read, out.iter().map(|slice| std::str::from_utf8(slice).unwrap()).collect())
}

fn read_at_head(lines: u64) -> Read {
    Read::AtHead(usize::try_from(lines).unwrap())
}
