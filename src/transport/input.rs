//! What was read of a WebSocket and not yet taken: whole messages as slices, and the rest for the library.
//!
//! Nearly all that servers send are messages of one frame, of which nothing has to be done but to find their end. All
//! else, from fragments and control frames to what breaks the protocol, goes to the library byte by byte, a frame at a
//! time.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
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
    /// A text message that is whole.
    Text,
    /// A binary one.
    Binary,
    /// A frame that is the library's to read.
    Other,
    /// Nothing that is whole; this many bytes more would help at least.
    Missing(usize),
}

/// What stands at some place.
enum Found {
    /// A message of one frame without anything special: whether it is text, where its payload begins, and where it ends.
    Message(bool, usize, usize),
    /// Any other frame.
    Other(FrameStart),
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

    /// What there is to take now.
    pub(super) fn next(&mut self) -> Next {
        if self.passing > 0 {
            return Next::Other;
        }
        match self.find(0) {
            Found::Message(true, ..) => Next::Text,
            Found::Message(false, ..) => Next::Binary,
            Found::Missing(missing) => Next::Missing(missing),
            Found::Other(frame) => {
                self.pass(&frame);
                Next::Other
            }
        }
    }

    /// Takes the message that [`Input::next`] has found, as a slice.
    pub(super) fn take(&mut self) -> Option<Incoming> {
        let Found::Message(is_text, start, end) = self.find(0) else { return None };
        self.bytes.advance(start);
        let payload = self.bytes.split_to(end - start).freeze();
        self.spare_memory(end - start);
        Some(if is_text { Incoming::Text(payload) } else { Incoming::Binary(payload) })
    }

    /// Takes the text messages that are there for as long as `take` wants them. They lie where they were read, and what
    /// it does not want stays.
    pub(super) fn take_texts(&mut self, take: &mut dyn FnMut(&[u8]) -> bool) {
        if self.passing > 0 {
            return;
        }
        let (mut taken, mut longest) = (0, 0);
        while let Found::Message(true, start, end) = self.find(taken)
            && take(&self.bytes[start..end])
        {
            taken = end;
            longest = longest.max(end - start);
        }
        self.bytes.advance(taken);
        self.spare_memory(longest);
    }

    /// What stands at this place, which is where a frame begins.
    fn find(&self, at: usize) -> Found {
        let bytes = &self.bytes[at..];
        let Some(frame) = FrameStart::parse(bytes) else { return Found::Missing(1) };
        let is_plain = matches!(frame.first, TEXT | BINARY) && !frame.masked && !self.fragmented;
        let length = usize::try_from(frame.length).ok().filter(|length| *length <= self.max_message);
        let Some(length) = length.filter(|_| is_plain) else { return Found::Other(frame) };
        let there = bytes.len() - frame.head;
        if there < length {
            return Found::Missing(length - there);
        }
        let start = at + frame.head;
        Found::Message(frame.first == TEXT, start, start + length)
    }

    /// What follows must not keep the memory of a large message.
    fn spare_memory(&mut self, length: usize) {
        if length > MAX_ROOM {
            self.bytes = BytesMut::from(&self.bytes[..]);
        }
    }

    /// The library has taken all of the frame that it was given.
    pub(super) fn is_passed(&self) -> bool {
        self.passing == 0
    }

    /// The library has not been given the beginning of anything.
    pub(super) fn is_between_messages(&self) -> bool {
        self.is_passed() && !self.fragmented
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

/// Pending until everybody else has had a turn, the system's news of sockets among them; to be woken right away would leave
/// those out.
pub(super) fn rest<T>(cx: &mut Context<'_>) -> Poll<T> {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
    Poll::Pending
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
