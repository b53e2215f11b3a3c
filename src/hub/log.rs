//! The ring of encoded lines: a line is encoded once, and whoever reads is a cursor into it.
//!
//! Lines are numbered from 1 without a hole. They lie in shared segments, so that a reader takes many as one slice.
//! A cursor that is healthy is never overrun: the ring is then full, and its owner stops reading upstream until the
//! cursor moves on, or counts as stalled. This file reads no clock.

mod holders;
mod reading;
mod segment;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::BytesMut;
use slab::Slab;

use self::holders::Cursor;
pub use self::reading::{LineView, Read, Want, Whole};
pub use self::segment::Run;
use self::segment::{Line, Segment};

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

/// Which cursor.
pub type CursorId = usize;

/// Whether so many have so much more room than they need that it is worth to take it from them.
pub(super) fn is_sparse(len: usize, capacity: usize) -> bool {
    capacity > 64 && len < capacity / 4
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

    /// Gives the memory back that many cursors took who are gone.
    pub fn tidy(&mut self) {
        if is_sparse(self.cursors.len(), self.cursors.capacity()) {
            self.cursors.shrink_to_fit();
        }
    }

    fn is_full(&self) -> bool {
        let Settings { events, bytes } = self.settings;
        let retained = self.count_retained();
        retained > 0 && (retained >= events || self.retained_bytes() >= bytes as u64)
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

/// How many bytes of lines lie beside each other.
fn chunk(settings: &Settings) -> usize {
    (settings.bytes / 64).clamp(4 * 1024, 64 * 1024)
}

#[cfg(test)]
mod tests;
