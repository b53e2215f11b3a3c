//! Where lines lie.

use std::ops::Range;

use bytes::Bytes;

use super::Kind;
use super::reading::{LineView, Whole};

/// A line's place, in the order in which each takes least.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Bytes of all lines up to this one, ever.
    pub(super) end: u64,
    pub(super) name_len: u32,
    /// What stands before the name is of the envelope, and short.
    pub(super) name_start: u16,
    pub(super) kind: Kind,
}

impl Line {
    /// Where its name stands in it.
    pub(super) fn name(&self) -> Range<usize> {
        let start = usize::from(self.name_start);
        start..start + self.name_len as usize
    }
}

/// Sealed lines that lie beside each other.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    /// The number of the line after its last.
    pub(super) end: u64,
    /// Bytes of all lines before this segment, ever.
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
    pub(super) only_events: bool,
}

impl Segment {
    /// What lies between these two places among all bytes ever.
    pub(super) fn range(&self, start: u64, end: u64) -> Range<usize> {
        let place = |at: u64| usize::try_from(at.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        place(start)..place(end).min(self.bytes.len())
    }

    pub(super) fn is_known(&self, whole: Whole) -> bool {
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
    pub(super) bytes: Bytes,
    /// Bytes of all lines before these, ever.
    pub(super) offset: u64,
    pub(super) lines: Vec<Line>,
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

/// The line that begins at this place among all bytes ever.
pub(super) fn view<'a>(segment: &'a Segment, seq: u64, start: u64, line: &Line) -> LineView<'a> {
    let text = segment.bytes.get(segment.range(start, line.end)).unwrap_or_default();
    LineView { seq, kind: line.kind, name: text.get(line.name()).unwrap_or_default() }
}
