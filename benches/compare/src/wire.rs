//! What the fast server, the splice relay and the load generator have in common: WebSocket frames in a buffer, bytes
//! that wait for a socket, and the forms of the packets and lines that travel.

use std::io::{self, Read, Write};
use std::ops::Range;

use nix::sys::epoll::EpollFlags;
use nix::time::{ClockId, clock_gettime};

/// How much is read in one go of a flood.
pub(crate) const READ: usize = 256 * 1024;
/// How much is read in one go where requests come.
pub(crate) const READ_REQUESTS: usize = 16 * 1024;

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;

/// Begins an event's packet; then come the number, the time, the text and `EVENT_END`.
pub(crate) const EVENT: &[u8] = br#"42["n","#;
pub(crate) const EVENT_END: &[u8] = br#""]"#;

/// Begins a line that says an event; the seq follows.
pub(crate) const NOTICE: &[u8] = br#"{"jsonrpc":"2.0","method":"event","params":{"connection":"c","seq":"#;

/// Nanoseconds of a clock that all processes of the machine share.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(|time| (time.tv_sec(), time.tv_nsec()));
    let (seconds, nanoseconds) = now.unwrap_or_default();
    u64::try_from(seconds).unwrap_or(0) * 1_000_000_000 + u64::try_from(nanoseconds).unwrap_or(0)
}

pub(crate) fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The number that `bytes` begins with, and what follows it.
pub(crate) fn split_number(bytes: &[u8]) -> (u64, &[u8]) {
    let (mut number, mut at) = (0_u64, 0);
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        at += 1;
    }
    (number, &bytes[at..])
}

/// A frame in a buffer.
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) payload: Range<usize>,
}

/// The frame that `bytes` begins with, once it is whole.
pub(crate) fn frame(bytes: &[u8]) -> Option<Frame> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (length, at) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let (mask, at) =
        if second & 0x80 == 0 { (None, at) } else { (Some(bytes.get(at..at + 4)?.try_into().ok()?), at + 4) };
    (bytes.len() >= at + length).then(|| Frame { opcode: first & 0x0f, mask, payload: at..at + length })
}

/// Masks, or takes the mask off.
pub(crate) fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(eight) = <[u8; 8]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// Begins a frame of `length` bytes.
pub(crate) fn push_header(out: &mut Vec<u8>, opcode: u8, length: usize, mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    if let Ok(short @ 0..=125) = u8::try_from(length) {
        out.push(masked | short);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(masked | 0x7e);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(masked | 0x7f);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
    if let Some(key) = mask {
        out.extend_from_slice(&key);
    }
}

/// A whole frame, from several parts.
pub(crate) fn push_frame(out: &mut Vec<u8>, key: Option<[u8; 4]>, parts: &[&[u8]]) {
    push_header(out, TEXT, parts.iter().map(|part| part.len()).sum(), key);
    let start = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    if let Some(key) = key {
        mask(&mut out[start..], key);
    }
}

/// Bytes that were read and not yet taken. Grows with what must be whole before it can be taken.
pub(crate) struct Inbox {
    read: usize,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// Reads at least half of `read` in one go, if that is there.
    pub(crate) fn new(read: usize) -> Self {
        Self { read, bytes: Vec::new(), start: 0, end: 0 }
    }

    /// Reads once, as much as there is room for: 0 is the end, none means that there is nothing now.
    pub(crate) fn fill(&mut self, stream: &mut impl Read) -> io::Result<Option<usize>> {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.len() - self.end < self.read / 2 {
            self.bytes.resize(self.end + self.read, 0);
        }
        match stream.read(&mut self.bytes[self.end..]) {
            Ok(count) => {
                self.end += count;
                Ok(Some(count))
            }
            Err(error) if is_later(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn take(&mut self, count: usize) {
        self.start += count;
    }

    /// The next whole frame with its mask taken off: opcode and payload. The frame is taken with the next call.
    pub(crate) fn next_frame(&mut self) -> Option<(u8, &[u8])> {
        let frame = frame(self.bytes())?;
        let range = self.start + frame.payload.start..self.start + frame.payload.end;
        self.start = range.end;
        let payload = &mut self.bytes[range];
        if let Some(key) = frame.mask {
            mask(payload, key);
        }
        Some((frame.opcode, payload))
    }
}

/// Bytes on their way out.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Writes until all is out or the socket takes no more.
    pub(crate) fn flush(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while !self.is_empty() {
            match stream.write(&self.bytes[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.sent = 0;
        Ok(())
    }

    /// What is to be waited for.
    pub(crate) fn interest(&self) -> EpollFlags {
        if self.is_empty() { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT }
    }
}

pub(crate) fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_come_back() {
        for length in [0, 1, 7, 125, 126, 65_535, 65_536] {
            for key in [None, Some([1, 2, 3, 4])] {
                let payload: Vec<u8> = (0..length).map(|i: usize| i.to_le_bytes()[0]).collect();
                let mut bytes = Vec::new();
                push_frame(&mut bytes, key, &[&payload[..length / 2], &payload[length / 2..]]);
                assert!(frame(&bytes[..bytes.len() - 1]).is_none());
                bytes.push(0);
                let mut inbox = Inbox::new(2 * bytes.len());
                assert_eq!(inbox.fill(&mut &bytes[..]).unwrap(), Some(bytes.len()));
                assert_eq!(inbox.next_frame(), Some((TEXT, &payload[..])));
                assert_eq!(inbox.bytes(), [0]);
            }
        }
    }

    #[test]
    fn numbers_are_split_off() {
        assert_eq!(split_number(b"120,7"), (120, &b",7"[..]));
        assert_eq!(split_number(b"x"), (0, &b"x"[..]));
    }
}
