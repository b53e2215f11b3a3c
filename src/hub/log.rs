//! The ring of encoded lines: a line is encoded once, and whoever reads is a cursor into it.
//!
//! Lines are numbered from 1 without a hole. They lie in shared segments, so that a reader takes many as one slice.
//! A cursor that is healthy is never overrun: the ring is then full, and its owner stops reading upstream until the
//! cursor moves on, or counts as stalled. This file reads no clock.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use slab::Slab;

/// A stalled consumer takes less than this part of the ring in the time it has.
const STALL_PART: u64 = 16;

/// The part of the ring that a portion is.
const PORTION: usize = 32;

/// Lines that may be kept beyond the ring's size because they cannot wait for room, beside a sixteenth of the ring; their
/// bytes may be as many as the ring's.
const RESERVE: usize = 16;

/// How much one connection remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Lines at the most; at least 1.
    pub events: usize,
    /// Bytes of lines at the most; one line may go beyond.
    pub bytes: usize,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event of the server.
    Event,
    /// A lifecycle event.
    Lifecycle,
}

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

/// Which cursor.
pub type CursorId = usize;

#[derive(Debug)]
struct Cursor {
    next: u64,
    stalled: bool,
    /// Since when it holds the ring up, and where it stood then.
    holds: Option<(Instant, u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    end: u32,
    name_start: u32,
    name_len: u32,
    kind: Kind,
}

#[derive(Clone, Debug)]
struct Segment {
    first: u64,
    /// Bytes of all lines before this segment, ever.
    offset: u64,
    bytes: Bytes,
    lines: Vec<Line>,
}

impl Segment {
    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.lines[index - 1].end as usize }
    }

    fn end(&self) -> u64 {
        self.first + self.lines.len() as u64
    }

    fn view(&self, index: usize) -> LineView<'_> {
        let line = &self.lines[index];
        let at = self.start(index) + line.name_start as usize;
        let name = self.bytes.get(at..at + line.name_len as usize).unwrap_or_default();
        LineView { seq: self.first + index as u64, kind: line.kind, name }
    }
}

/// Retained lines that lie beside each other.
#[derive(Debug)]
pub struct Run {
    segment: Segment,
    from: usize,
}

impl Run {
    /// Each line with its newline, what it is about, and where its name stands.
    pub fn lines(&self) -> impl Iterator<Item = (&[u8], Kind, Range<usize>)> {
        (self.from..self.segment.lines.len()).map(|index| {
            let Line { end, name_start, name_len, kind } = self.segment.lines[index];
            let text = self.segment.bytes.get(self.segment.start(index)..end as usize).unwrap_or_default();
            let name = name_start as usize..(name_start + name_len) as usize;
            (text, kind, name)
        })
    }
}

/// The ring.
#[derive(Debug)]
pub struct Log {
    settings: Settings,
    stall: Duration,
    /// Cursors are not waited for.
    lossy: bool,
    /// No more than this part of the ring is read in one go.
    portions: Option<usize>,
    chunk: usize,
    segments: VecDeque<Segment>,
    /// The segment being written; readers see it once sealed.
    tail: BytesMut,
    tail_lines: Vec<Line>,
    tail_offset: u64,
    /// The oldest retained line.
    first: u64,
    /// The number of the next line.
    next: u64,
    /// Lines before this one are gone for whoever comes new.
    visible: u64,
    /// Bytes of all lines before `first`, ever.
    evicted: u64,
    written: u64,
    /// Bytes of the largest line ever; one may lie beyond the ring's size.
    largest: u64,
    cursors: Slab<Cursor>,
    newly_stalled: Vec<CursorId>,
    /// No healthy cursor stands before this line. May be too low, never too high.
    floor: u64,
}

impl Log {
    /// An empty ring that overruns whoever is slow, and always has room.
    pub fn lossy(settings: Settings) -> Self {
        Self { lossy: true, ..Self::new(settings, Duration::ZERO) }
    }

    /// An empty ring; a cursor that holds it up for `stall` without moving on counts as stalled.
    pub fn new(settings: Settings, stall: Duration) -> Self {
        Self {
            lossy: false,
            portions: None,
            chunk: chunk(&settings),
            settings,
            stall,
            segments: VecDeque::new(),
            tail: BytesMut::new(),
            tail_lines: Vec::new(),
            tail_offset: 0,
            first: 1,
            next: 1,
            visible: 1,
            evicted: 0,
            written: 0,
            largest: 0,
            cursors: Slab::new(),
            newly_stalled: Vec::new(),
            floor: 1,
        }
    }

    /// Lets a reader take a small part of the ring at a time. One whose socket is full is then seen to move on, twice at
    /// least, in the time in which it would have to take twice as much so as not to count as stalled.
    #[must_use]
    pub fn in_portions(self) -> Self {
        Self { portions: Some(PORTION), ..self }
    }

    /// Lets the first line of an empty ring have this number.
    #[must_use]
    pub fn starting_at(self, next: u64) -> Self {
        Self { first: next, next, visible: next, floor: next, ..self }
    }

    /// The number of the newest line, 0 before the first.
    pub fn head(&self) -> u64 {
        self.next - 1
    }

    /// The oldest retained line for whoever is attached.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The oldest retained line for whoever comes new; `head() + 1` when there is none.
    pub fn oldest(&self) -> u64 {
        self.first.max(self.visible)
    }

    /// Another size from now on.
    pub fn resize(&mut self, settings: Settings) {
        self.chunk = chunk(&settings);
        self.settings = settings;
        self.evict();
    }

    /// Another time for cursors from now on.
    pub fn set_stall(&mut self, stall: Duration) {
        self.stall = stall;
    }

    /// Whoever comes new finds nothing before the next line; who is attached still gets what it has not taken.
    pub fn forget(&mut self) {
        self.seal();
        self.visible = self.next;
        self.evict();
    }

    /// What whoever comes new would find, in order. The bytes are shared.
    pub fn runs(&mut self) -> Vec<Run> {
        self.seal();
        let oldest = self.oldest();
        let visible = self.segments.iter().filter(|segment| segment.end() > oldest);
        let run = |segment: &Segment| {
            let from = usize::try_from(oldest.saturating_sub(segment.first)).unwrap_or(usize::MAX);
            Run { segment: segment.clone(), from }
        };
        visible.map(run).collect()
    }

    /// Appends a line that another ring had under this number.
    pub fn push(&mut self, text: &[u8], kind: Kind, name: Range<usize>) {
        self.append(kind, text.len(), |_, out| {
            let start = out.len();
            out.extend_from_slice(text);
            start + name.start..start + name.end
        });
    }

    /// Appends a line of about `size` bytes: `write` gets its number, adds it with its newline to what is there, and
    /// gives the place of the name's JSON string in it.
    pub fn append(
        &mut self,
        kind: Kind,
        size: usize,
        write: impl FnOnce(u64, &mut BytesMut) -> Range<usize>,
    ) {
        if size > self.chunk / 2 {
            // A large line gets a buffer of its own and leaves the rest of the chunk to others.
            self.seal();
            let chunk = std::mem::replace(&mut self.tail, BytesMut::with_capacity(size));
            self.write(kind, write);
            self.seal();
            self.tail = chunk;
        } else {
            if self.tail.capacity() - self.tail.len() < size {
                self.seal();
                self.tail = BytesMut::with_capacity(self.chunk);
            }
            self.write(kind, write);
        }
        self.evict();
    }

    fn write(&mut self, kind: Kind, write: impl FnOnce(u64, &mut BytesMut) -> Range<usize>) {
        let start = self.tail.len();
        let name = write(self.next, &mut self.tail);
        let size = (self.tail.len() - start) as u64;
        self.written += size;
        self.largest = self.largest.max(size);
        self.next += 1;
        let to_u32 = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.tail_lines.push(Line {
            end: to_u32(self.tail.len()),
            name_start: to_u32(name.start - start),
            name_len: to_u32(name.len()),
            kind,
        });
    }

    /// Lets readers see what was appended.
    pub fn seal(&mut self) {
        if self.tail_lines.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.tail_lines);
        let bytes = self.tail.split().freeze();
        let segment =
            Segment { first: self.next - lines.len() as u64, offset: self.tail_offset, bytes, lines };
        self.tail_offset = self.written;
        self.segments.push_back(segment);
    }

    /// A new cursor, which takes line `next` first.
    pub fn attach(&mut self, next: u64) -> CursorId {
        self.floor = self.floor.min(next);
        self.cursors.insert(Cursor { next, stalled: false, holds: None })
    }

    /// The cursor is gone.
    pub fn detach(&mut self, id: CursorId) {
        self.cursors.try_remove(id);
        self.evict();
    }

    /// Lines that the cursor has yet to take.
    pub fn behind(&self, id: CursorId) -> u64 {
        self.cursors.get(id).map_or(0, |cursor| self.next.saturating_sub(cursor.next))
    }

    /// Where the cursor stands.
    pub fn position(&self, id: CursorId) -> u64 {
        self.cursors.get(id).map_or(self.next, |cursor| cursor.next)
    }

    /// The cursor has been overrun and will miss lines.
    pub fn is_overrun(&self, id: CursorId) -> bool {
        self.cursors.get(id).is_some_and(|cursor| cursor.next < self.first)
    }

    /// Takes lines that `want` accepts, up to line `until` and about `max_bytes`, as slices that hold whole lines.
    pub fn read(
        &mut self,
        id: CursorId,
        until: u64,
        max_bytes: usize,
        want: impl Fn(LineView<'_>) -> bool,
        out: &mut Vec<Bytes>,
    ) -> Read {
        self.seal();
        let (first, head) = (self.first, self.head());
        let Some(cursor) = self.cursors.get_mut(id) else { return Read::AtHead(0) };
        let wanted = first.min(until.saturating_add(1));
        if cursor.next < wanted {
            let count = wanted - cursor.next;
            cursor.next = wanted;
            return Read::Missed { count, next: first };
        }
        let last = until.min(head);
        let (max_lines, max_bytes) = match self.portions {
            None => (usize::MAX, max_bytes),
            Some(part) => {
                let Settings { events, bytes } = self.settings;
                ((events / part).max(1), max_bytes.min((bytes / part).max(1)))
            }
        };
        let (mut taken, mut bytes) = (0, 0);
        let mut at = self.segments.partition_point(|segment| segment.end() <= cursor.next);
        while cursor.next <= last && bytes < max_bytes && taken < max_lines {
            let Some(segment) = self.segments.get(at) else { break };
            let from = usize::try_from(cursor.next - segment.first).unwrap_or(usize::MAX);
            let to = usize::try_from(last + 1 - segment.first).unwrap_or(usize::MAX).min(segment.lines.len());
            let mut run: Option<usize> = None;
            let mut index = from;
            while index < to && bytes < max_bytes && taken < max_lines {
                if want(segment.view(index)) {
                    run.get_or_insert(segment.start(index));
                    bytes += segment.lines[index].end as usize - segment.start(index);
                    taken += 1;
                } else if let Some(start) = run.take() {
                    out.push(segment.bytes.slice(start..segment.start(index)));
                }
                index += 1;
            }
            if let Some(start) = run {
                out.push(segment.bytes.slice(start..segment.start(index)));
            }
            cursor.next = segment.first + index as u64;
            at += 1;
        }
        let at_head = cursor.next > last;
        if cursor.next > head {
            cursor.stalled = false;
            cursor.holds = None;
        }
        self.evict();
        if at_head { Read::AtHead(taken) } else { Read::Lines(taken) }
    }

    /// How many retained lines from `start` on `want` accepts.
    pub fn count(&mut self, start: u64, want: impl Fn(LineView<'_>) -> bool) -> u64 {
        self.seal();
        let start = start.max(self.oldest());
        self.segments
            .iter()
            .flat_map(|segment| (0..segment.lines.len()).map(|index| segment.view(index)))
            .filter(|line| line.seq >= start && want(*line))
            .count() as u64
    }

    /// The line from which on `want` accepts `n` retained ones at the most.
    pub fn last(&mut self, n: u64, want: impl Fn(LineView<'_>) -> bool) -> u64 {
        self.seal();
        let (mut found, mut start) = (0, self.next);
        for segment in self.segments.iter().rev() {
            for index in (0..segment.lines.len()).rev() {
                let line = segment.view(index);
                if found == n || line.seq < self.oldest() {
                    return start;
                }
                if want(line) {
                    found += 1;
                    start = line.seq;
                }
            }
        }
        start
    }

    /// Whether a line can be appended without overrunning a healthy cursor; else when to ask again at the latest.
    /// The asking is what makes a cursor count as stalled.
    pub fn room(&mut self, now: Instant) -> Option<Instant> {
        loop {
            self.evict();
            if self.is_full() && self.first >= self.floor {
                self.floor = self.lowest();
            }
            // The next line may push the oldest out, if that is one that nobody needs.
            if self.has_room() {
                return None;
            }
            // Only sealed lines have a place of their own, which tells how many bytes a cursor has taken.
            self.seal();
            let (until, stalled) = self.judge_holders(now);
            if !stalled {
                return until;
            }
            self.floor = self.lowest();
        }
    }

    /// Whether [`Log::room`] is known to find room. Where this says no, it may yet.
    pub fn has_room(&self) -> bool {
        self.lossy || !self.is_full() || self.first < self.floor
    }

    fn is_full(&self) -> bool {
        let Settings { events, bytes } = self.settings;
        let retained = self.count_retained();
        retained > 0 && (retained >= events || self.retained_bytes() >= bytes as u64)
    }

    /// Cursors that have come to count as stalled since this was last asked.
    pub fn take_newly_stalled(&mut self) -> Vec<CursorId> {
        std::mem::take(&mut self.newly_stalled)
    }

    fn judge_holders(&mut self, now: Instant) -> (Option<Instant>, bool) {
        let (mut until, mut any_stalled) = (None, false);
        let (events, bytes) = (self.settings.events as u64, self.settings.bytes as u64);
        for at in 0..self.cursors.capacity() {
            let Some(cursor) = self.cursors.get(at) else { continue };
            if cursor.stalled || cursor.next > self.first {
                continue;
            }
            let offset = self.offset_of(cursor.next);
            let next = cursor.next;
            let holds = match cursor.holds {
                Some((since, line, start)) if now.saturating_duration_since(since) >= self.stall => {
                    let lines = next.saturating_sub(line);
                    let taken = offset.saturating_sub(start);
                    let moves = lines * STALL_PART >= events || taken * STALL_PART >= bytes;
                    moves.then_some((now, next, offset))
                }
                Some(holds) => Some(holds),
                None => Some((now, next, offset)),
            };
            if let Some(cursor) = self.cursors.get_mut(at) {
                cursor.holds = holds;
                cursor.stalled = holds.is_none();
            }
            if let Some((since, ..)) = holds {
                let ends = since + self.stall;
                until = Some(until.map_or(ends, |until: Instant| until.min(ends)));
            } else {
                any_stalled = true;
                self.newly_stalled.push(at);
            }
        }
        (until, any_stalled)
    }

    fn offset_of(&self, seq: u64) -> u64 {
        let at = self.segments.partition_point(|segment| segment.end() <= seq);
        self.segments.get(at).map_or(self.written, |segment| {
            let index = usize::try_from(seq.saturating_sub(segment.first)).unwrap_or(usize::MAX);
            segment.offset + segment.start(index.min(segment.lines.len())) as u64
        })
    }

    fn count_retained(&self) -> usize {
        usize::try_from(self.next - self.first).unwrap_or(usize::MAX)
    }

    fn retained_bytes(&self) -> u64 {
        self.written - self.evicted
    }

    fn lowest(&self) -> u64 {
        let healthy = self.cursors.iter().filter(|(_, cursor)| !cursor.stalled);
        healthy.map(|(_, cursor)| cursor.next).min().unwrap_or(self.next)
    }

    /// Drops lines that are too many, as far as nobody healthy needs them.
    fn evict(&mut self) {
        loop {
            let bytes = self.settings.bytes as u64;
            let too_many = self.count_retained() > self.settings.events
                || self.retained_bytes() > bytes
                || self.first < self.visible;
            if !too_many || self.count_retained() == 0 {
                return;
            }
            if self.first >= self.floor {
                self.floor = self.lowest();
            }
            let reserve = self.settings.events / 16 + RESERVE;
            let forced = self.count_retained() > self.settings.events + reserve
                || self.retained_bytes() > bytes.saturating_mul(2).saturating_add(self.largest);
            // The newest line stays, however large.
            let only_one = self.count_retained() == 1 && self.first >= self.visible;
            if only_one || (self.first >= self.floor && !forced && !self.lossy) {
                return;
            }
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        self.seal();
        let Some(segment) = self.segments.front() else { return };
        let index = usize::try_from(self.first - segment.first).unwrap_or(usize::MAX);
        self.evicted = segment.offset + segment.start(index + 1) as u64;
        self.first += 1;
        if self.first >= segment.end() {
            self.segments.pop_front();
        }
    }
}

/// How many bytes of lines lie beside each other.
fn chunk(settings: &Settings) -> usize {
    (settings.bytes / 64).clamp(4 * 1024, 64 * 1024)
}

#[cfg(test)]
mod tests;
