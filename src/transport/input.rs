//! What was read of a WebSocket and not yet taken: whole messages as slices, and the rest for the library.
//!
//! Nearly all that servers send are messages of one frame, of which nothing has to be done but to find their end. All
//! else, from fragments and control frames to what breaks the protocol, goes to the library byte by byte, a frame at a
//! time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use super::frames::Incoming;

/// What a read asks for at least, in bytes: at first and when little comes, and under load.
const ROOM: usize = 4 * 1024;
const MAX_ROOM: usize = 64 * 1024;
/// Between the two.
const STEP: usize = 4;

/// The bit of the last frame of a message, and that of a mask.
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Opcodes, and the first byte of whole messages.
const OPCODE: u8 = 0x0f;
const FIRST_CONTROL: u8 = 8;
const TEXT: u8 = FINAL | 1;
const BINARY: u8 = FINAL | 2;

/// What comes next.
pub(super) enum Next {
    /// A message.
    Message(Incoming),
    /// A frame that is the library's to read.
    Other,
    /// Nothing that is whole; this many bytes more would help at least.
    Missing(usize),
}

/// Bytes of a connection, in order. No memory is held while there are none.
pub(super) struct Input {
    bytes: BytesMut,
    room: usize,
    /// Longest message, in bytes.
    max_message: usize,
    /// What is left of the frame that the library reads.
    passing: usize,
    /// A message whose last fragment has not come yet is with the library.
    fragmented: bool,
}

impl Input {
    /// `read` has been read already.
    pub(super) fn new(read: &[u8], max_message: usize) -> Self {
        Self { bytes: read.into(), room: ROOM, max_message, passing: 0, fragmented: false }
    }

    /// Takes the next message, if it is one frame without anything special and all of it is there.
    pub(super) fn next(&mut self) -> Next {
        if self.passing > 0 {
            return Next::Other;
        }
        let Some(frame) = FrameStart::parse(&self.bytes) else {
            return Next::Missing(1);
        };
        let is_plain = matches!(frame.first, TEXT | BINARY) && !frame.masked && !self.fragmented;
        let length = usize::try_from(frame.length).ok().filter(|length| *length <= self.max_message);
        let Some(length) = length.filter(|_| is_plain) else {
            self.pass(&frame);
            return Next::Other;
        };
        let there = self.bytes.len() - frame.head;
        if there < length {
            return Next::Missing(length - there);
        }
        self.bytes.advance(frame.head);
        let payload = self.bytes.split_to(length).freeze();
        if length > MAX_ROOM {
            // What follows must not keep the memory of a large message.
            self.bytes = BytesMut::from(&self.bytes[..]);
        }
        Next::Message(if frame.first == TEXT { Incoming::Text(payload) } else { Incoming::Binary(payload) })
    }

    /// The library has taken all of the frame that it was given.
    pub(super) fn is_passed(&self) -> bool {
        self.passing == 0
    }

    /// For the library: bytes of its frame that are there already, 0 where none are.
    pub(super) fn give(&mut self, out: &mut [u8]) -> usize {
        let count = out.len().min(self.passing).min(self.bytes.len());
        self.bytes.copy_to_slice(&mut out[..count]);
        self.passing -= count;
        count
    }

    /// Reads once, and at least as much as is `missing` if that is there; 0 is the end.
    pub(super) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        missing: usize,
    ) -> Poll<io::Result<usize>> {
        // Within a large message, room for what is missing of it is enough.
        let room = if self.bytes.len() > MAX_ROOM { 0 } else { self.room };
        self.bytes.reserve(missing.max(room));
        let Poll::Ready(count) = poll_read_buf(Pin::new(stream), cx, &mut self.bytes)? else {
            self.room = (self.room / STEP).max(ROOM);
            if self.bytes.is_empty() && self.room == ROOM {
                self.bytes = BytesMut::new();
            }
            return Poll::Pending;
        };
        if count >= self.room {
            self.room = (self.room * STEP).min(MAX_ROOM);
        }
        Poll::Ready(Ok(count))
    }

    fn pass(&mut self, frame: &FrameStart) {
        if frame.first & OPCODE < FIRST_CONTROL {
            self.fragmented = frame.first & FINAL == 0;
        }
        // One that is too long is refused by its head already.
        self.passing = usize::try_from(frame.length).unwrap_or(usize::MAX).saturating_add(frame.head);
    }
}

/// The head of a frame.
struct FrameStart {
    first: u8,
    masked: bool,
    /// Length of the head, and of what it stands before.
    head: usize,
    length: u64,
}

impl FrameStart {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let &[first, second, ref rest @ ..] = bytes else { return None };
        let (length, extended) = match second & !MASKED {
            126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
            127 => (u64::from_be_bytes(*rest.first_chunk()?), 8),
            short => (u64::from(short), 0),
        };
        let masked = second & MASKED != 0;
        let head = 2 + extended + if masked { 4 } else { 0 };
        (bytes.len() >= head).then_some(Self { first, masked, head, length })
    }
}
