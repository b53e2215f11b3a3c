//! The last line of each event that late comers want to have at once, kept outside of the ring.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use bytes::Bytes;

use super::log::{Kind, LineView};
use super::subscription::Pattern;
use crate::json;

/// What a line counts beside its bytes and its event's name.
const ENTRY: usize = 128;

#[derive(Debug)]
struct Kept {
    event: String,
    line: Bytes,
    /// Where the event's name stands in the line, a JSON string.
    name: Range<usize>,
}

impl Kept {
    fn size(&self) -> usize {
        self.line.len() + self.event.len() + ENTRY
    }
}

/// The last lines of one connection, of the events that its option `sticky` names.
#[derive(Debug, Default)]
pub(super) struct Sticky {
    patterns: Vec<Pattern>,
    max_bytes: usize,
    bytes: usize,
    lines: BTreeMap<u64, Kept>,
    seqs: HashMap<String, u64>,
}

impl Sticky {
    /// Keeps lines of events whose names match, of `max_bytes` together; beyond it the oldest go.
    pub(super) fn new(patterns: &[String], max_bytes: usize) -> Self {
        let patterns = patterns.iter().map(Pattern::new).collect();
        Self { patterns, max_bytes, ..Self::default() }
    }

    /// With these lines, in order of their numbers, until it is known which are wanted.
    pub(super) fn of(lines: Vec<(u64, Bytes, Range<usize>)>) -> Self {
        let mut sticky = Self::new(&[], usize::MAX);
        for (seq, line, name) in lines {
            let event = line.get(name.clone()).and_then(|name| std::str::from_utf8(name).ok());
            if let Some(event) = event.and_then(json::unquote) {
                sticky.keep(seq, &event, line.clone(), name);
            }
        }
        sticky
    }

    /// Goes on with other patterns and another size; what they do not reach is forgotten.
    pub(super) fn reset(&mut self, patterns: &[String], max_bytes: usize) {
        let kept = std::mem::replace(self, Self::new(patterns, max_bytes));
        for (seq, Kept { event, line, name }) in kept.lines {
            if self.wants(&event) {
                self.keep(seq, &event, line, name);
            }
        }
    }

    /// All lines with their numbers, in order, and where the event's name stands in each.
    pub(super) fn all(&self) -> Vec<(u64, Bytes, Range<usize>)> {
        self.lines.iter().map(|(seq, kept)| (*seq, kept.line.clone(), kept.name.clone())).collect()
    }

    /// The number of the newest line, 0 for none.
    pub(super) fn newest(&self) -> u64 {
        self.lines.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// Nothing is ever wanted.
    pub(super) fn is_idle(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether lines of this event are kept.
    pub(super) fn wants(&self, event: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(event))
    }

    /// Keeps the line with this number, which is the highest yet, instead of the event's earlier one.
    pub(super) fn keep(&mut self, seq: u64, event: &str, line: Bytes, name: Range<usize>) {
        if let Some(earlier) = self.seqs.insert(event.to_owned(), seq) {
            self.drop_line(earlier);
        }
        let kept = Kept { event: event.to_owned(), line, name };
        self.bytes += kept.size();
        self.lines.insert(seq, kept);
        while self.bytes > self.max_bytes
            && let Some((oldest, _)) = self.lines.first_key_value()
        {
            let oldest = *oldest;
            if let Some(kept) = self.drop_line(oldest) {
                self.seqs.remove(&kept.event);
            }
        }
    }

    /// Forgets all lines: the server will say anew what holds.
    pub(super) fn forget(&mut self) {
        (self.lines, self.seqs, self.bytes) = (BTreeMap::new(), HashMap::new(), 0);
    }

    /// Forgets the lines up to this one.
    pub(super) fn forget_until(&mut self, seq: u64) {
        while let Some((first, _)) = self.lines.first_key_value()
            && *first <= seq
        {
            let first = *first;
            if let Some(kept) = self.drop_line(first) {
                self.seqs.remove(&kept.event);
            }
        }
    }

    /// The lines that are wanted, with their numbers, in order.
    pub(super) fn lines(&self, want: impl Fn(LineView<'_>) -> bool) -> Vec<(u64, Bytes)> {
        let wanted = |(seq, kept): &(&u64, &Kept)| {
            let name = kept.line.get(kept.name.clone()).unwrap_or_default();
            want(LineView { seq: **seq, kind: Kind::Event, name })
        };
        self.lines.iter().filter(wanted).map(|(seq, kept)| (*seq, kept.line.clone())).collect()
    }

    fn drop_line(&mut self, seq: u64) -> Option<Kept> {
        let kept = self.lines.remove(&seq)?;
        self.bytes -= kept.size();
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(sticky: &mut Sticky, seq: u64, event: &str, more: usize) {
        let line = format!(r#"{seq} "{event}"{}"#, ".".repeat(more));
        let start = line.find('"').unwrap();
        let name = start..start + event.len() + 2;
        sticky.keep(seq, event, line.into(), name);
    }

    fn seqs(sticky: &Sticky) -> Vec<u64> {
        sticky.lines(|_| true).into_iter().map(|(seq, _)| seq).collect()
    }

    #[test]
    fn the_last_line_of_each_event_is_kept() {
        let mut sticky = Sticky::new(&["list".into(), "info*".into()], 10_000);
        for (event, wanted) in
            [("list", true), ("lists", false), ("info", true), ("info1", true), ("", false)]
        {
            assert_eq!(sticky.wants(event), wanted, "{event}");
        }
        for (seq, event) in [(1, "list"), (2, "info1"), (3, "info2"), (5, "list"), (9, "info1")] {
            keep(&mut sticky, seq, event, 0);
        }
        assert_eq!(seqs(&sticky), [3, 5, 9]);
        let listed = sticky.lines(|line| line.name == br#""list""# && line.seq == 5);
        assert_eq!(listed, [(5, Bytes::from(r#"5 "list""#))]);
        sticky.forget_until(4);
        assert_eq!((seqs(&sticky), sticky.seqs.len()), (vec![5, 9], 2));
        sticky.forget();
        assert_eq!((seqs(&sticky), sticky.bytes), (vec![], 0));
    }

    #[test]
    fn the_oldest_make_room() {
        let mut sticky = Sticky::new(&["*".into()], 1000);
        for seq in 1..=5 {
            keep(&mut sticky, seq, &format!("e{seq}"), 150);
            assert!(sticky.bytes <= 1000);
        }
        assert_eq!(seqs(&sticky), [3, 4, 5]);
        assert_eq!(sticky.seqs.len(), 3);
        keep(&mut sticky, 6, "e4", 150);
        assert_eq!(seqs(&sticky), [3, 5, 6], "an event's own line makes room first");
        keep(&mut sticky, 7, "huge", 5000);
        assert_eq!((seqs(&sticky), sticky.bytes, sticky.seqs.len()), (vec![], 0, 0));
    }

    #[test]
    fn without_patterns_nothing_is_wanted() {
        assert!(!Sticky::new(&[], 100).wants("a"));
    }
}
