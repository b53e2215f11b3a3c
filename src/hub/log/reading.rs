//! What readers want, and how they get it: slices of the segments that hold whole lines.

use bytes::Bytes;

use super::segment::view;
use super::{CursorId, Kind, Log, Settings};

/// A line as a filter sees it.
#[derive(Clone, Copy, Debug)]
pub struct LineView<'a> {
    /// Its number.
    pub seq: u64,
    /// What it is about.
    pub kind: Kind,
    /// The event's name, a JSON string.
    pub name: &'a [u8],
}

/// Of which lines it is known, without looking at them, that a reader wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whole {
    /// Of none.
    Nothing,
    /// Of all events.
    Events,
    /// Of all.
    Everything,
}

/// What a reader wants.
pub trait Want {
    /// Of which lines from number `from` on that is known.
    fn whole(&self, from: u64) -> Whole;
    /// Whether it wants this one.
    fn wants(&self, line: LineView<'_>) -> bool;
}

impl<F: Fn(LineView<'_>) -> bool> Want for F {
    fn whole(&self, _: u64) -> Whole {
        Whole::Nothing
    }

    fn wants(&self, line: LineView<'_>) -> bool {
        self(line)
    }
}

/// What a cursor found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many lines were taken, and there may be more.
    Lines(usize),
    /// So many lines were taken, and there are no more for now.
    AtHead(usize),
    /// The ring went round: so many lines are gone, and the cursor stands at `next` now. Nothing was taken.
    Missed {
        /// Lines that are gone.
        count: u64,
        /// The oldest retained.
        next: u64,
    },
}

impl Log {
    /// Takes lines that `want` accepts, up to line `until` and about `max_bytes`, as slices that hold whole lines.
    pub fn read(
        &mut self,
        id: CursorId,
        until: u64,
        max_bytes: usize,
        want: impl Want,
        out: &mut Vec<Bytes>,
    ) -> Read {
        self.seal();
        let (first, head) = (self.first, self.head());
        let Some(from) = self.cursors.get(id).map(|cursor| cursor.next) else { return Read::AtHead(0) };
        let wanted = first.min(until.saturating_add(1));
        if from < wanted {
            self.advance(id, wanted);
            return Read::Missed { count: wanted - from, next: first };
        }
        let last = until.min(head);
        let (max_lines, max_bytes) = match self.portions {
            None => (usize::MAX, max_bytes),
            Some(part) => {
                let Settings { events, bytes } = self.settings;
                ((events / part).max(1), max_bytes.min((bytes / part).max(1)))
            }
        };
        let (taken, next) = self.take(from, last, max_lines, max_bytes, want, out);
        self.advance(id, next);
        self.evict();
        if next > last { Read::AtHead(taken) } else { Read::Lines(taken) }
    }

    /// How many lines from `next` up to `last` were taken, and which one comes then.
    fn take(
        &self,
        mut next: u64,
        last: u64,
        max_lines: usize,
        max_bytes: usize,
        want: impl Want,
        out: &mut Vec<Bytes>,
    ) -> (usize, u64) {
        let whole = want.whole(next);
        let (mut taken, mut bytes) = (0, 0);
        let at = self.segments.partition_point(|segment| segment.end <= next);
        for segment in self.segments.range(at..) {
            let end = segment.end.min(last.saturating_add(1));
            if next >= end || bytes >= max_bytes || taken >= max_lines {
                break;
            }
            if segment.is_known(whole) {
                // Up to the line that reaches what may be taken.
                let start = self.start_of(next);
                let limit = start.saturating_add((max_bytes - bytes) as u64);
                let most = self.index(end).min(self.index(next).saturating_add(max_lines - taken));
                let lines = self.lines.range(self.index(next)..most);
                let (mut count, mut stop) =
                    (lines.len(), self.lines.get(most - 1).map_or(start, |line| line.end));
                if stop > limit {
                    count = self.lines.partition_point(|line| line.end < limit) + 1 - self.index(next);
                    stop = self.lines.get(self.index(next) + count - 1).map_or(start, |line| line.end);
                }
                let range = segment.range(start, stop);
                bytes += range.len();
                taken += count;
                next += count as u64;
                out.push(segment.bytes.slice(range));
                continue;
            }
            let mut run: Option<u64> = None;
            let mut start = self.start_of(next);
            for line in self.lines.range(self.index(next)..self.index(end)) {
                if bytes >= max_bytes || taken >= max_lines {
                    break;
                }
                if want.wants(view(segment, next, start, line)) {
                    run.get_or_insert(start);
                    bytes += segment.range(start, line.end).len();
                    taken += 1;
                } else if let Some(from) = run.take() {
                    out.push(segment.bytes.slice(segment.range(from, start)));
                }
                start = line.end;
                next += 1;
            }
            if let Some(from) = run {
                out.push(segment.bytes.slice(segment.range(from, start)));
            }
        }
        (taken, next)
    }

    /// How many retained lines from `start` on `want` accepts.
    pub fn count(&mut self, start: u64, want: impl Fn(LineView<'_>) -> bool) -> u64 {
        self.seal();
        let start = start.max(self.oldest());
        self.views(start).filter(|line| want(*line)).count() as u64
    }

    /// The line from which on `want` accepts `n` retained ones at the most.
    pub fn last(&mut self, n: u64, want: impl Fn(LineView<'_>) -> bool) -> u64 {
        self.seal();
        let wanted = self.views(self.oldest()).rev().filter(|line| want(*line));
        (0..n).zip(wanted).last().map_or(self.next, |(_, line)| line.seq)
    }

    /// All sealed lines from this one on.
    fn views(&self, from: u64) -> impl DoubleEndedIterator<Item = LineView<'_>> {
        let segments = self.segments.iter().filter(move |segment| segment.end > from);
        segments.flat_map(move |segment| {
            (segment.first.max(from)..segment.end).filter_map(|seq| {
                let line = self.lines.get(self.index(seq))?;
                Some(view(segment, seq, self.start_of(seq), line))
            })
        })
    }
}
