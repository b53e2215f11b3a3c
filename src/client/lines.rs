//! Bytes as they come off the socket, cut into lines.

use bytes::BytesMut;
use bytestring::ByteString;

use super::error::Lost;

/// Longest line taken. Far above anything a daemon with sane limits can write; a peer that never ends its line is cut.
const MAX_LINE: usize = 256 << 20;

/// Room made for one read.
const READ: usize = 32 << 10;

/// Room kept for the next line once a longer one has passed.
const KEEP: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// Bytes at the front that are known to hold no newline.
    scanned: usize,
}

impl Lines {
    /// Where the next bytes go.
    pub(super) fn spare(&mut self) -> &mut BytesMut {
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP {
            self.buffer = BytesMut::new();
        }
        if self.buffer.capacity() - self.buffer.len() < READ / 2 {
            self.buffer.reserve(READ);
        }
        &mut self.buffer
    }

    /// Whether a line, or an error, is there to take.
    pub(super) fn has_next(&mut self) -> bool {
        self.find().is_some() || self.buffer.len() > MAX_LINE
    }

    /// The next whole line without its newline; empty ones are passed over.
    pub(super) fn next(&mut self) -> Result<Option<ByteString>, Lost> {
        while let Some(end) = self.find() {
            let mut line = self.buffer.split_to(end + 1);
            self.scanned = 0;
            line.truncate(end);
            if !line.is_empty() {
                let line = ByteString::try_from(line.freeze());
                return line.map(Some).map_err(|_| Lost::Protocol("a line is not UTF-8".into()));
            }
        }
        if self.buffer.len() > MAX_LINE {
            return Err(Lost::Protocol(format!("a line is longer than {} MiB", MAX_LINE >> 20)));
        }
        Ok(None)
    }

    fn find(&mut self) -> Option<usize> {
        let found = memchr::memchr(b'\n', &self.buffer[self.scanned..]).map(|at| self.scanned + at);
        self.scanned = found.unwrap_or(self.buffer.len());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_the_bytes_came() {
        for size in 1..=12 {
            let mut lines = Lines::default();
            let mut taken = Vec::new();
            for piece in "one\n\ntwo\nthr\u{e9}e\nfour".as_bytes().chunks(size) {
                lines.spare().extend_from_slice(piece);
                while let Some(line) = lines.next().unwrap() {
                    taken.push(line.to_string());
                }
                assert!(!lines.has_next());
            }
            assert_eq!(taken, ["one", "two", "thrée"], "in pieces of {size}");
        }
    }

    #[test]
    fn has_next_sees_what_next_gives() {
        let mut lines = Lines::default();
        lines.spare().extend_from_slice(b"a\nb\nc");
        assert!(lines.has_next());
        assert_eq!(lines.next().unwrap().unwrap(), "a");
        assert!(lines.has_next());
        assert_eq!(lines.next().unwrap().unwrap(), "b");
        assert!(!lines.has_next());
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let mut lines = Lines::default();
        lines.spare().extend_from_slice(b"\xff\n");
        assert!(matches!(lines.next(), Err(Lost::Protocol(_))));
    }
}
