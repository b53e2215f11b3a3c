//! What is on its way out of a WebSocket: masked frames, one behind the other.
//!
//! Nearly all that is sent are messages, which are written here as whole frames. The library's own frames (pongs, the
//! close) come in between, as bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::AsyncWrite;

/// Gathered before a write, in bytes.
pub(super) const WRITE: usize = 16 * 1024;

/// So many bytes at once, and as many are likely to follow.
const MANY: usize = 1024;

/// First bytes of whole messages.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
/// The bit that says that a key follows, in the byte of the length.
const MASKED: u8 = 0x80;
/// Instead of a length: it follows in two bytes, or in eight.
const MEDIUM: u8 = 126;
const LONG: u8 = 127;

/// A message to send, in the pieces that it lies in.
#[derive(Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub(super) is_text: bool,
    /// What stands before the data.
    pub(super) kind: Option<u8>,
    pub(super) data: &'a [u8],
}

/// Bytes that the peer has yet to take. No memory is held while there are none, unless there were many just now.
pub(super) struct Output {
    bytes: BytesMut,
    keys: Keys,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { bytes: BytesMut::new(), keys: Keys { random: [0; KEYS], used: KEYS } }
    }

    /// Whether there is enough for a write.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= WRITE
    }

    /// Adds a message. Fails where the system has no random numbers.
    pub(super) fn push(&mut self, message: Outgoing<'_>) -> io::Result<()> {
        let Outgoing { is_text, kind, data } = message;
        let key = self.keys.next()?;
        let length = data.len() + usize::from(kind.is_some());
        self.bytes.reserve(14 + length);
        self.bytes.put_u8(if is_text { TEXT } else { BINARY });
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ ..MEDIUM), _) => self.bytes.put_u8(MASKED | short),
            (_, Ok(medium)) => {
                self.bytes.put_u8(MASKED | MEDIUM);
                self.bytes.put_u16(medium);
            }
            (_, Err(_)) => {
                self.bytes.put_u8(MASKED | LONG);
                self.bytes.put_u64(length as u64);
            }
        }
        self.bytes.put_slice(&key);
        let start = self.bytes.len();
        self.bytes.extend(kind);
        self.bytes.put_slice(data);
        mask(&mut self.bytes[start..], key);
        Ok(())
    }

    /// Adds a frame of the library; false where there is so much already that it has to wait.
    pub(super) fn push_frame(&mut self, frame: &[u8]) -> bool {
        let takes = !self.is_full();
        if takes {
            self.bytes.put_slice(frame);
        }
        takes
    }

    /// Ready when all of it is with the stream, and the stream has nothing left either.
    pub(super) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx, stream))?;
        Pin::new(stream).poll_flush(cx)
    }

    /// Ready when all of it is with the stream.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let count = self.bytes.len();
        while !self.bytes.is_empty() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, &self.bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.bytes.advance(written),
            }
        }
        if count < MANY || self.bytes.capacity() > 2 * WRITE {
            self.bytes = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// Applies a key, as RFC 6455 has it in section 5.3; once more takes it away.
fn mask(data: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let twice = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ twice).to_ne_bytes();
    }
    rest.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}

/// Bytes of random numbers that the system is asked for at a time.
const KEYS: usize = 256;

/// Keys that nobody can foretell: with those, what a program says cannot look like a request to a proxy on the way.
struct Keys {
    random: [u8; KEYS],
    used: usize,
}

impl Keys {
    fn next(&mut self) -> io::Result<[u8; 4]> {
        loop {
            if let Some(key) = self.random[self.used..].first_chunk() {
                self.used += key.len();
                return Ok(*key);
            }
            SystemRandom::new()
                .fill(&mut self.random)
                .map_err(|_| io::Error::other("the system gives no random numbers"))?;
            self.used = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::Role;
    use tokio_tungstenite::tungstenite::{Message, WebSocket};

    use super::*;

    #[test]
    fn the_library_reads_what_is_written() {
        let mut output = Output::new();
        let mut expected = Vec::new();
        for length in [0, 1, 3, 4, 7, 8, 9, 124, 125, 126, 127, 1000, 65_534, 65_535, 65_536, 100_000] {
            let data: Vec<u8> = (b'a'..=b'z').cycle().take(length).collect();
            output.push(Outgoing { is_text: true, kind: Some(b'4'), data: &data }).unwrap();
            output.push(Outgoing { is_text: false, kind: None, data: &data }).unwrap();
            expected.push(Message::text(format!("4{}", String::from_utf8_lossy(&data))));
            expected.push(Message::binary(data));
        }
        let mut server =
            WebSocket::from_raw_socket(io::Cursor::new(output.bytes.to_vec()), Role::Server, None);
        for message in expected {
            assert!(server.read().unwrap() == message, "{} bytes", message.len());
        }
    }

    #[test]
    fn no_key_comes_twice() {
        let mut keys = Keys { random: [0; KEYS], used: KEYS };
        let given: std::collections::HashSet<_> = (0..KEYS).map(|_| keys.next().unwrap()).collect();
        // Of so few, chance makes two the same once in a hundred thousand times.
        assert!(given.len() + 1 >= KEYS);
    }

    #[test]
    fn frames_of_the_library_have_a_bound() {
        let mut output = Output::new();
        let taken = (0..1000).take_while(|_| output.push_frame(&[0; 100])).count();
        assert_eq!(taken, WRITE.div_ceil(100));
    }
}
