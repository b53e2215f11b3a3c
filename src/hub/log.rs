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

/// Which cursor.
pub type CursorId = usize;

#[derive(Debug)]
struct Cursor {
    next: u64,
    stalled: bool,
    /// Since when it holds the ring up, and where it stood then.
    holds: Option<(Instant, u64, u64)>,
}

/// A line's place, in the order in which each takes least.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Bytes of all lines up to this one, ever.
    end: u64,
    name_len: u32,
    /// What stands before the name is of the envelope, and short.
    name_start: u16,
    kind: Kind,
}

/// Whether so many have so much more room than they need that it is worth to take it from them.
pub(super) fn is_sparse(len: usize, capacity: usize) -> bool {
    capacity > 64 && len < capacity / 4
}

/// Sealed lines that lie beside each other.
#[derive(Debug)]
struct Segment {
    first: u64,
    /// The number of the line after its last.
    end: u64,
    /// Bytes of all lines before this segment, ever.
    offset: u64,
    bytes: Bytes,
    only_events: bool,
}

impl Segment {
    /// What lies between these two places among all bytes ever.
    fn range(&self, start: u64, end: u64) -> Range<usize> {
        let place = |at: u64| usize::try_from(at.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        place(start)..place(end).min(self.bytes.len())
    }

    fn is_known(&self, whole: Whole) -> bool {
        match whole {
            Whole::Nothing => false,
            Whole::Events => self.only_events,
            Whole::Everything => true,
        }
    }
}

/// Retained lines that lie beside each other.
#[derive(Debug)]
pub struct Run {
    bytes: Bytes,
    /// Bytes of all lines before these, ever.
    offset: u64,
    lines: Vec<Line>,
}

impl Run {
    /// Each line with its newline, what it is about, and where its name stands.
    pub fn lines(&self) -> impl Iterator<Item = (&[u8], Kind, Range<usize>)> {
        let mut start = self.offset;
        self.lines.iter().map(move |line| {
            let place = |at: u64| usize::try_from(at - self.offset).unwrap_or(usize::MAX);
            let text = self.bytes.get(place(start)..place(line.end)).unwrap_or_default();
            start = line.end;
            (text, line.kind, line.name())
        })
    }
}

impl Line {
    /// Where its name stands in it.
    fn name(&self) -> Range<usize> {
        let start = usize::from(self.name_start);
        start..start + self.name_len as usize
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
    /// All retained ones, the first with the number `first`.
    lines: VecDeque<Line>,
    segments: VecDeque<Segment>,
    /// The segment being written; readers see it once sealed.
    tail: BytesMut,
    tail_first: u64,
    tail_offset: u64,
    tail_only_events: bool,
    /// A chunk whose lines are gone, for the next ones.
    spare: Option<BytesMut>,
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
    /// No healthy cursor stands before this line.
    floor: u64,
    /// Healthy cursors that stand there. With none left there may be a higher floor.
    holders: usize,
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
            lines: VecDeque::new(),
            segments: VecDeque::new(),
            tail: BytesMut::new(),
            tail_first: 1,
            tail_offset: 0,
            tail_only_events: true,
            spare: None,
            first: 1,
            next: 1,
            visible: 1,
            evicted: 0,
            written: 0,
            largest: 0,
            cursors: Slab::new(),
            newly_stalled: Vec::new(),
            floor: 1,
            holders: 0,
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
        Self { first: next, next, tail_first: next, visible: next, floor: next, ..self }
    }

    /// Bytes of all lines ever.
    pub fn written(&self) -> u64 {
        self.written
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
        self.spare = None;
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
        self.spare = None;
    }

    /// What whoever comes new would find, in order. The bytes are shared.
    pub fn runs(&mut self) -> Vec<Run> {
        self.seal();
        let oldest = self.oldest();
        let visible = self.segments.iter().filter(|segment| segment.end > oldest);
        let run = |segment: &Segment| {
            let from = segment.first.max(oldest);
            let (start, end) = (self.start_of(from), self.start_of(segment.end));
            let lines = self.lines.range(self.index(from)..self.index(segment.end)).copied().collect();
            Run { bytes: segment.bytes.slice(segment.range(start, end)), offset: start, lines }
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
        let mut chunk = None;
        if size > self.chunk / 2 {
            // A large line gets a buffer of its own and leaves the rest of the chunk to others.
            self.seal();
            chunk = Some(std::mem::replace(&mut self.tail, BytesMut::with_capacity(size)));
        } else if self.tail.capacity() - self.tail.len() < size {
            self.seal();
            let spare = self.spare.take();
            self.tail = spare.unwrap_or_else(|| BytesMut::with_capacity(self.chunk));
        }
        self.write(kind, write);
        if let Some(chunk) = chunk {
            self.seal();
            self.tail = chunk;
        }
        self.evict();
    }

    #[inline]
    fn write(&mut self, kind: Kind, write: impl FnOnce(u64, &mut BytesMut) -> Range<usize>) {
        let start = self.tail.len();
        let name = write(self.next, &mut self.tail);
        let size = (self.tail.len() - start) as u64;
        self.written += size;
        self.largest = self.largest.max(size);
        self.next += 1;
        self.tail_only_events &= kind == Kind::Event;
        self.lines.push_back(Line {
            end: self.written,
            name_len: u32::try_from(name.len()).unwrap_or(u32::MAX),
            name_start: u16::try_from(name.start - start).unwrap_or(u16::MAX),
            kind,
        });
    }

    /// Lets readers see what was appended.
    pub fn seal(&mut self) {
        if self.tail_first == self.next {
            return;
        }
        self.segments.push_back(Segment {
            first: self.tail_first,
            end: self.next,
            offset: self.tail_offset,
            bytes: self.tail.split().freeze(),
            only_events: std::mem::replace(&mut self.tail_only_events, true),
        });
        (self.tail_first, self.tail_offset) = (self.next, self.written);
    }

    /// A new cursor, which takes line `next` first.
    pub fn attach(&mut self, next: u64) -> CursorId {
        if next < self.floor {
            (self.floor, self.holders) = (next, 0);
        }
        self.holders += usize::from(next == self.floor);
        self.cursors.insert(Cursor { next, stalled: false, holds: None })
    }

    /// The cursor is gone.
    pub fn detach(&mut self, id: CursorId) {
        if let Some(cursor) = self.cursors.try_remove(id) {
            self.holders -= usize::from(!cursor.stalled && cursor.next == self.floor);
        }
        self.evict();
    }

    /// Gives the memory back that many cursors took who are gone.
    pub fn tidy(&mut self) {
        if is_sparse(self.cursors.len(), self.cursors.capacity()) {
            self.cursors.shrink_to_fit();
        }
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

    /// The cursor moves on to this line, and where that is the end has caught up.
    fn advance(&mut self, id: CursorId, next: u64) {
        let Some(cursor) = self.cursors.get_mut(id) else { return };
        let held = !cursor.stalled && cursor.next == self.floor;
        cursor.next = next;
        if next >= self.next {
            cursor.stalled = false;
            cursor.holds = None;
        }
        let holds = !cursor.stalled && next == self.floor;
        self.holders = self.holders + usize::from(holds) - usize::from(held);
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

    /// Whether a line can be appended without overrunning a healthy cursor; else when to ask again at the latest.
    /// The asking is what makes a cursor count as stalled.
    pub fn room(&mut self, now: Instant) -> Option<Instant> {
        loop {
            self.evict();
            if self.is_full() {
                self.raise_floor();
            }
            // The next line may push the oldest out, if that is one that nobody needs.
            if self.has_room() {
                return None;
            }
            let (until, stalled) = self.judge_holders(now);
            if !stalled {
                return until;
            }
        }
    }

    /// Whether [`Log::room`] is known to find room. Where this says no, it may yet.
    pub fn has_room(&self) -> bool {
        self.lossy || !self.is_full() || self.first < self.floor
    }

    /// Whether those for whom [`Log::room`] found none have moved on.
    pub fn may_have_room(&self) -> bool {
        self.holders == 0 || self.has_room()
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
            let offset = self.start_of(cursor.next);
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
                self.holders -= usize::from(cursor.stalled && next == self.floor);
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

    /// Where this line, retained or the next, has its place among those retained.
    fn index(&self, seq: u64) -> usize {
        usize::try_from(seq.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.lines.len())
    }

    /// Bytes of all lines before this one, ever.
    fn start_of(&self, seq: u64) -> u64 {
        match self.index(seq).checked_sub(1) {
            None => self.evicted,
            Some(before) => self.lines.get(before).map_or(self.written, |line| line.end),
        }
    }

    fn count_retained(&self) -> usize {
        usize::try_from(self.next - self.first).unwrap_or(usize::MAX)
    }

    fn retained_bytes(&self) -> u64 {
        self.written - self.evicted
    }

    /// Finds out where the floor is, when nobody stands there any more.
    fn raise_floor(&mut self) {
        if self.holders > 0 || self.first < self.floor {
            return;
        }
        self.floor = self.next;
        for (_, cursor) in self.cursors.iter().filter(|(_, cursor)| !cursor.stalled) {
            if cursor.next < self.floor {
                (self.floor, self.holders) = (cursor.next, 0);
            }
            self.holders += usize::from(cursor.next == self.floor);
        }
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
            self.raise_floor();
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
        // Only where it must be, or each line of a full ring would lie by itself.
        if self.first >= self.tail_first {
            self.seal();
        }
        let Some(line) = self.lines.pop_front() else { return };
        self.evicted = line.end;
        self.first += 1;
        if let Some(segment) = self.segments.pop_front_if(|segment| segment.end <= self.first)
            && self.spare.is_none()
            && let Ok(mut chunk) = segment.bytes.try_into_mut()
        {
            // Nobody reads the last piece of a chunk any more: the next lines may have its memory.
            chunk.clear();
            if chunk.try_reclaim(self.chunk) && chunk.capacity() <= 2 * self.chunk {
                self.spare = Some(chunk);
            }
        }
    }
}

/// The line that begins at this place among all bytes ever.
fn view<'a>(segment: &'a Segment, seq: u64, start: u64, line: &Line) -> LineView<'a> {
    let text = segment.bytes.get(segment.range(start, line.end)).unwrap_or_default();
    LineView { seq, kind: line.kind, name: text.get(line.name()).unwrap_or_default() }
}

/// How many bytes of lines lie beside each other.
fn chunk(settings: &Settings) -> usize {
    (settings.bytes / 64).clamp(4 * 1024, 64 * 1024)
}

#[cfg(test)]
mod tests;
