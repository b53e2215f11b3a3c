//! One JSON value per line, bounded in length.

use bytes::{Bytes, BytesMut};
use memchr::memchr;

/// What a consumer's bytes hold next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line without its end; never blank.
    Text(Bytes),
    /// One that was too long and is not kept.
    TooLarge,
}

/// Cuts bytes into lines. Holds one line at the most, and of one that is too long nothing.
#[derive(Debug)]
pub(super) struct Lines {
    max: usize,
    buffer: BytesMut,
    /// How far no newline was found.
    scanned: usize,
    /// Throwing away up to the next newline.
    discarding: bool,
}

impl Lines {
    /// Lines of `max` bytes at the most, their end not counted.
    pub(super) fn new(max: usize) -> Self {
        Self { max, buffer: BytesMut::new(), scanned: 0, discarding: false }
    }

    /// Where the next bytes go.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole line.
    pub(super) fn next(&mut self) -> Option<Line> {
        loop {
            let Some(length) = memchr(b'\n', &self.buffer[self.scanned..]).map(|at| self.scanned + at) else {
                self.scanned = self.buffer.len();
                return self.incomplete();
            };
            let line = self.buffer.split_to(length + 1);
            self.scanned = 0;
            if std::mem::take(&mut self.discarding) {
                continue;
            }
            if let Some(line) = self.judge(line.freeze().slice(..length)) {
                return Some(line);
            }
        }
    }

    /// The rest, when no more bytes come.
    pub(super) fn finish(&mut self) -> Option<Line> {
        let rest = self.buffer.split().freeze();
        self.scanned = 0;
        if std::mem::take(&mut self.discarding) {
            return None;
        }
        self.judge(rest)
    }

    /// Gives memory back that a long line took.
    pub(super) fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    fn incomplete(&mut self) -> Option<Line> {
        // A carriage return before the newline is not part of the line.
        if self.discarding || self.buffer.len() > self.max + 1 {
            self.buffer.clear();
            self.scanned = 0;
            if !std::mem::replace(&mut self.discarding, true) {
                return Some(Line::TooLarge);
            }
        }
        None
    }

    fn judge(&self, line: Bytes) -> Option<Line> {
        let line = if line.last() == Some(&b'\r') { line.slice(..line.len() - 1) } else { line };
        if line.len() > self.max {
            Some(Line::TooLarge)
        } else if line.iter().all(u8::is_ascii_whitespace) {
            None
        } else {
            Some(Line::Text(line))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(max: usize, chunks: &[&str]) -> Vec<String> {
        let mut lines = Lines::new(max);
        let mut found = Vec::new();
        let mut note = |line| match line {
            Line::Text(text) => found.push(String::from_utf8_lossy(&text).into_owned()),
            Line::TooLarge => found.push("!".into()),
        };
        for chunk in chunks {
            lines.buffer().extend_from_slice(chunk.as_bytes());
            while let Some(line) = lines.next() {
                note(line);
            }
            assert!(lines.buffer().len() <= max + 1, "more than a line is held");
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
        ] {
            let expected: Vec<_> =
                if expected.is_empty() && chunks.len() == 3 { vec!["!", "k"] } else { expected.to_vec() };
            assert_eq!(lines(max, chunks), expected, "{chunks:?}");
        }
    }
}
