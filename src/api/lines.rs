//! One JSON value per line, bounded in length.

use std::ops::Range;

use memchr::memchr;

/// What a consumer's bytes hold next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line without its end; never blank.
    Text(&'a [u8]),
    /// One that was too long and is not kept.
    TooLarge,
}

/// Cuts bytes into lines. Holds one line at the most beside what was added last, and of one that is too long nothing.
#[derive(Debug)]
pub(super) struct Lines {
    max: usize,
    buffer: Vec<u8>,
    /// Where the line begins that comes next.
    start: usize,
    /// How far no newline was found.
    scanned: usize,
    /// Throwing away up to the next newline.
    discarding: bool,
}

impl Lines {
    /// Lines of `max` bytes at the most, their end not counted.
    pub(super) fn new(max: usize) -> Self {
        Self { max, buffer: Vec::new(), start: 0, scanned: 0, discarding: false }
    }

    /// The next bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line.
    pub(super) fn next(&mut self) -> Option<Line<'_>> {
        loop {
            let Some(length) = memchr(b'\n', &self.buffer[self.scanned..]) else {
                return self.incomplete();
            };
            let end = self.scanned + length;
            let line = self.trimmed(self.start..end);
            (self.start, self.scanned) = (end + 1, end + 1);
            if std::mem::take(&mut self.discarding) || self.is_blank(&line) {
                continue;
            }
            return Some(self.judge(line));
        }
    }

    /// The rest, when no more bytes come.
    pub(super) fn finish(&mut self) -> Option<Line<'_>> {
        let end = self.buffer.len();
        let rest = self.trimmed(self.start..end);
        (self.start, self.scanned) = (end, end);
        (!std::mem::take(&mut self.discarding) && !self.is_blank(&rest)).then(|| self.judge(rest))
    }

    /// Keeps no more memory than the line takes that is yet to be whole. To be called when there is no whole one.
    pub(super) fn shrink(&mut self) {
        self.buffer.drain(..self.start);
        self.scanned -= std::mem::take(&mut self.start);
        // One that grows is not copied for each piece of it.
        if self.buffer.len() < self.buffer.capacity() / 2 {
            self.buffer.shrink_to_fit();
        }
    }

    fn incomplete(&mut self) -> Option<Line<'_>> {
        self.scanned = self.buffer.len();
        // A carriage return before the newline is not part of the line.
        if self.discarding || self.buffer.len() - self.start > self.max + 1 {
            self.buffer.clear();
            (self.start, self.scanned) = (0, 0);
            if !std::mem::replace(&mut self.discarding, true) {
                return Some(Line::TooLarge);
            }
        }
        None
    }

    /// A line without what may stand before its newline.
    fn trimmed(&self, line: Range<usize>) -> Range<usize> {
        let returns = self.buffer[line.clone()].ends_with(b"\r");
        line.start..line.end - usize::from(returns)
    }

    fn is_blank(&self, line: &Range<usize>) -> bool {
        line.len() <= self.max && self.buffer[line.clone()].iter().all(u8::is_ascii_whitespace)
    }

    fn judge(&self, line: Range<usize>) -> Line<'_> {
        if line.len() > self.max { Line::TooLarge } else { Line::Text(&self.buffer[line]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(max: usize, chunks: &[&str]) -> Vec<String> {
        let mut lines = Lines::new(max);
        let mut found = Vec::new();
        let mut note = |line: Line<'_>| match line {
            Line::Text(text) => found.push(String::from_utf8_lossy(text).into_owned()),
            Line::TooLarge => found.push("!".into()),
        };
        for chunk in chunks {
            lines.add(chunk.as_bytes());
            while let Some(line) = lines.next() {
                note(line);
            }
            lines.shrink();
            assert!(lines.buffer.len() <= max + 1, "more than a line is held");
        }
        if let Some(line) = lines.finish() {
            note(line);
        }
        found
    }

    #[test]
    fn bytes_become_lines() {
        for (max, chunks, expected) in [
            (9, &["a\nb\n"][..], &["a", "b"][..]),
            (9, &["a\r\nb\r\n"], &["a", "b"]),
            (9, &["\n\r\n  \n\ta\n"], &["\ta"]),
            (9, &["a", "b", "\n", "c"], &["ab", "c"]),
            (9, &["a\r"], &["a"]),
            (9, &[""], &[]),
            (3, &["abc\nabcd\nabc\r\n"], &["abc", "!", "abc"]),
            (3, &["abcd", "efgh", "ij\nk\n"], &["abcd"; 0]),
            (3, &["abcdefgh"], &["!"]),
            (3, &["abcde", "fgh"], &["!"]),
            (3, &["abc", "\r", "\nx\n"], &["abc", "x"]),
            (3, &["   \r\n    \n"], &["!"]),
        ] {
            let expected: Vec<_> =
                if expected.is_empty() && chunks.len() == 3 { vec!["!", "k"] } else { expected.to_vec() };
            assert_eq!(lines(max, chunks), expected, "{chunks:?}");
        }
    }

    #[test]
    fn what_is_kept_between_two_reads_is_the_rest_of_a_line() {
        let mut lines = Lines::new(1 << 20);
        lines.add(&b"some line\n".repeat(1000));
        lines.add(b"rest");
        while lines.next().is_some() {}
        lines.shrink();
        assert_eq!((lines.buffer.as_slice(), lines.buffer.capacity()), (&b"rest"[..], 4));
        lines.add(b"\n");
        assert_eq!(lines.next(), Some(Line::Text(b"rest")));
        assert_eq!(lines.next(), None);
        lines.shrink();
        assert_eq!(lines.buffer.capacity(), 0);
    }
}
