//! A WebSocket's messages, with the library that frames them out of sight.
//!
//! The one file that knows tungstenite, and the place where a library with permessage-deflate would go. No extension is
//! offered; fragments, masking, pings and the close handshake are dealt with here, and the rest of the transport sees
//! whole text and binary messages.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite;
use tungstenite::Message;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::frame::Frame as WebSocketFrame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::error::{Error, Failure, lower_first};
use super::hint;
use super::input::{Input, Next, rest};
use crate::engineio::{Frame, Phase};

/// Gathered before a write, in bytes.
const WRITE: usize = 16 * 1024;
/// With so many bytes to be written a pong waits, and gives its place to the next.
const PONGS: usize = 2 * WRITE;
/// So many bytes at once, and as many are likely to follow: the memory for them is kept.
const MANY: usize = 1024;
/// Memory for more than this is not kept in any case.
const LARGE: usize = 4 * WRITE;
/// Frames that complete no message, in a row, before everybody else has a turn.
const OTHERS: usize = 256;
/// Longest head of a frame.
const HEAD: usize = 14;
/// The library's own buffer of what it reads, in bytes.
const READ: usize = 512;
/// Codes of RFC 6455, section 7.4.1, for a close frame without code and for an end without close frame.
const NO_STATUS: u16 = 1005;
const ABNORMAL: u16 = 1006;

/// A message as it came.
pub(super) enum Incoming {
    /// Text, which has yet to be looked at for UTF-8 where it is decoded.
    Text(Bytes),
    Binary(Bytes),
}

/// What came, and may be here still.
pub(super) enum Front {
    /// Text messages, of which [`Frames::take_texts`] and [`Frames::take`] have the first.
    Texts,
    /// A message that was not to be left where it lay.
    Message(Incoming),
}

/// Text and binary messages over a connection whose WebSocket handshake is done. After an error it is of no more use.
pub(super) struct Frames<S> {
    stream: S,
    input: Input,
    library: WebSocketContext,
    max_message: usize,
    /// The library has taken a message that it could not write.
    blocked: bool,
    /// It has yet to write a frame of its own.
    owing: bool,
    closing: bool,
    /// Bytes given to be written since there was nothing left to write, and the most that this has been with this
    /// library: it keeps the memory.
    taken: usize,
    held: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// `read` is what the handshake had read beyond its end; `max_message` bounds incoming messages, in bytes.
    pub(super) fn new(stream: S, read: &[u8], max_message: usize) -> Self {
        Self {
            stream,
            input: Input::new(read, max_message),
            library: library(max_message),
            max_message,
            blocked: false,
            owing: false,
            closing: false,
            taken: 0,
            held: 0,
        }
    }

    /// The next message.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, Error>> {
        loop {
            match ready!(self.poll_front(cx))? {
                Front::Message(message) => return Poll::Ready(Ok(message)),
                Front::Texts => {
                    if let Some(message) = self.take() {
                        return Poll::Ready(Ok(message));
                    }
                }
            }
        }
    }

    /// Waits for the next message. Pings are answered on the way. A close frame is answered and is [`Error::Closed`].
    pub(super) fn poll_front(&mut self, cx: &mut Context<'_>) -> Poll<Result<Front, Error>> {
        if self.owing
            && let Poll::Ready(flushed) = self.poll_flush(cx)
        {
            flushed?;
        }
        let mut others = 0;
        loop {
            match self.input.next() {
                Next::Text => return Poll::Ready(Ok(Front::Texts)),
                Next::Binary => {
                    if let Some(message) = self.input.take() {
                        return Poll::Ready(Ok(Front::Message(message)));
                    }
                }
                Next::Other => {
                    if let Some(message) = ready!(self.poll_other(cx))? {
                        return Poll::Ready(Ok(Front::Message(message)));
                    }
                    // A server can send control frames and fragments without end.
                    others += 1;
                    if others == OTHERS {
                        return rest(cx);
                    }
                }
                Next::Missing(missing) => match ready!(self.input.poll_fill(cx, &mut self.stream, missing)) {
                    Ok(0) => return Poll::Ready(Err(lost(""))),
                    Ok(_) => {}
                    Err(error) => return Poll::Ready(Err(self.failed(error.into()))),
                },
            }
        }
    }

    /// Lets the library read a frame; `None` when that completes no message.
    fn poll_other(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Incoming>, Error>> {
        let message = match self.with_library(cx, |library, stream| library.read(stream)) {
            Poll::Ready(message) => message?,
            Poll::Pending if self.input.is_passed() => return Poll::Ready(Ok(None)),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(match message {
            Message::Text(text) => Ok(Some(Incoming::Text(text.into()))),
            Message::Binary(bytes) => Ok(Some(Incoming::Binary(bytes))),
            Message::Close(frame) => {
                self.owing = true;
                // The answer is on its way; whether it arrives changes nothing.
                let _ = self.poll_flush(cx);
                let (code, reason) = match frame {
                    Some(frame) => (frame.code.into(), frame.reason.as_str().into()),
                    None => (NO_STATUS, ByteString::new()),
                };
                Err(Error::Closed { code, reason })
            }
            Message::Ping(data) => {
                self.owing = true;
                self.taken += HEAD + data.len();
                if let Poll::Ready(flushed) = self.poll_flush(cx) {
                    flushed?;
                }
                Ok(None)
            }
            Message::Pong(_) | Message::Frame(_) => Ok(None),
        })
    }

    /// Ready when the next message can be given to `start_send`; pending when the peer takes no more for now.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.blocked { self.poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Takes one message, after `poll_ready` was ready. It goes out at the latest with the next `poll_flush`. What
    /// waits is bounded by that: no message is taken while there is enough for a write.
    pub(super) fn start_send(&mut self, cx: &mut Context<'_>, frame: Frame) -> Result<(), Error> {
        if !self.library.can_write() {
            return Err(lost(""));
        }
        let frame = match frame {
            // The library's type for texts would look for UTF-8 where there can be nothing else.
            Frame::Text(text) => WebSocketFrame::message(text.into_bytes(), OpCode::Data(Data::Text), true),
            Frame::Binary(bytes) => WebSocketFrame::message(bytes, OpCode::Data(Data::Binary), true),
        };
        self.taken += HEAD + frame.payload().len();
        match self.with_room(cx, |library, stream| library.write(stream, Message::Frame(frame))) {
            Poll::Ready(written) => written,
            Poll::Pending => {
                self.blocked = true;
                Ok(())
            }
        }
    }

    /// Ready when all messages taken are with the system.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.with_library(cx, |library, stream| library.flush(stream)))?;
        if self.owing {
            // What had to wait for room has it now.
            ready!(self.with_library(cx, |library, stream| library.flush(stream)))?;
        }
        (self.blocked, self.owing) = (false, false);
        self.spare_memory();
        Poll::Ready(Ok(()))
    }

    /// Sends a close frame without code, once; go on with `poll_next` for the answer.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.closing {
            self.closing = true;
            if let Poll::Ready(taken) = self.with_room(cx, |library, stream| library.close(stream, None)) {
                taken?;
            }
        }
        self.poll_flush(cx)
    }

    /// Lets the library take a frame of ours, however much there is to write: its bound is for its pongs, and would
    /// refuse a message longer than that.
    fn with_room<T>(
        &mut self,
        cx: &mut Context<'_>,
        work: impl FnOnce(&mut WebSocketContext, &mut Blocking<'_, '_, S>) -> tungstenite::Result<T>,
    ) -> Poll<Result<T, Error>> {
        self.library.set_config(|config| config.max_write_buffer_size = usize::MAX);
        let done = self.with_library(cx, work);
        self.library.set_config(|config| config.max_write_buffer_size = PONGS);
        done
    }

    /// Pending when the stream was not ready, or when the library has read what it was to read.
    fn with_library<T>(
        &mut self,
        cx: &mut Context<'_>,
        work: impl FnOnce(&mut WebSocketContext, &mut Blocking<'_, '_, S>) -> tungstenite::Result<T>,
    ) -> Poll<Result<T, Error>> {
        let mut stream = Blocking { stream: &mut self.stream, input: &mut self.input, cx };
        match work(&mut self.library, &mut stream) {
            Ok(done) => Poll::Ready(Ok(done)),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(self.failed(error))),
        }
    }
}

impl<S> Frames<S> {
    /// Takes the first message of [`Front::Texts`].
    pub(super) fn take(&mut self) -> Option<Incoming> {
        self.input.take()
    }

    /// Takes text messages for as long as `take` wants them; they are not copied.
    pub(super) fn take_texts(&mut self, take: &mut dyn FnMut(&[u8]) -> bool) {
        self.input.take_texts(take);
    }

    /// Gives back the memory that the library has for what it writes, once all is written: a library that knows as much
    /// takes its place, unless it is within a message or past the end.
    fn spare_memory(&mut self) {
        let taken = mem::take(&mut self.taken);
        self.held = self.held.max(taken);
        let is_spare = self.held > LARGE || (self.held >= MANY && taken < MANY);
        if is_spare && self.input.is_between_messages() && self.library.can_write() {
            self.library = library(self.max_message);
            self.held = 0;
        }
    }

    /// The end of the connection is the peer's doing, however it came about; what breaks the protocol is an error.
    fn failed(&self, error: tungstenite::Error) -> Error {
        use tungstenite::Error as E;
        match error {
            E::ConnectionClosed
            | E::AlreadyClosed
            | E::Protocol(ProtocolError::ResetWithoutClosingHandshake) => lost(""),
            E::Io(error) => match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
                Some(tls) => Error::WebSocket(Failure::tls(tls)),
                None if error.kind() == io::ErrorKind::UnexpectedEof => lost(""),
                None => lost(&lower_first(&error.to_string())),
            },
            E::Capacity(CapacityError::MessageTooLong { size, .. }) => {
                let detail = format!("message of {size} bytes, but max_payload is {}", self.max_message);
                Error::WebSocket(Failure::new(Phase::Engine, detail).with_hint(hint::MAX_PAYLOAD))
            }
            E::Protocol(error) => violation(&lower_first(&error.to_string())),
            other => violation(&other.to_string()),
        }
    }
}

fn library(max_message: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(WRITE)
        .max_write_buffer_size(PONGS)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message));
    WebSocketContext::new(Role::Client, Some(config))
}

/// The stream as the library wants it. It has one task, so whatever is not ready wakes that.
struct Blocking<'a, 'cx, S> {
    stream: &'a mut S,
    input: &'a mut Input,
    cx: &'a mut Context<'cx>,
}

impl<S: AsyncRead + Unpin> io::Read for Blocking<'_, '_, S> {
    /// Gives no more than the frame that is the library's to read.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.input.is_passed() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.input.give(out);
        if count > 0 {
            return Ok(count);
        }
        match self.input.poll_fill(self.cx, self.stream, 0) {
            Poll::Ready(filled) => filled.map(|_| self.input.give(out)),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncWrite + Unpin> io::Write for Blocking<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.stream).poll_write(self.cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        or_would_block(Pin::new(&mut *self.stream).poll_flush(self.cx))
    }
}

fn or_would_block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// A fresh `Sec-WebSocket-Key`.
pub(super) fn generate_key() -> String {
    tungstenite::handshake::client::generate_key()
}

/// The `Sec-WebSocket-Accept` that belongs to `key`.
pub(super) fn accept_key(key: &str) -> String {
    tungstenite::handshake::derive_accept_key(key.as_bytes())
}

fn lost(why: &str) -> Error {
    Error::Closed { code: ABNORMAL, reason: why.into() }
}

fn violation(what: &str) -> Error {
    Error::WebSocket(Failure::new(Phase::Engine, what))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// Sends a message of this length, which the peer reads.
    async fn exchange(frames: &mut Frames<DuplexStream>, peer: &mut DuplexStream, length: usize) {
        let sending = poll_fn(|cx| {
            ready!(frames.poll_ready(cx))?;
            Poll::Ready(frames.start_send(cx, Frame::Binary(vec![7; length].into())))
        });
        sending.await.expect("the peer is there");
        let mut read = vec![0; 6 + length];
        let (flushed, read) = tokio::join!(poll_fn(|cx| frames.poll_flush(cx)), peer.read_exact(&mut read));
        flushed.expect("the peer reads");
        read.expect("a message");
    }

    #[tokio::test]
    async fn memory_for_what_was_sent_is_given_back() {
        let (stream, mut peer) = duplex(1 << 20);
        let mut frames = Frames::new(stream, b"", 1 << 20);
        for (length, is_held) in
            [(9, false), (MANY, true), (WRITE, true), (MANY, true), (9, false), (LARGE, false), (9, false)]
        {
            exchange(&mut frames, &mut peer, length).await;
            assert_eq!(frames.held >= MANY, is_held, "after {length} bytes");
        }
    }

    #[tokio::test]
    async fn what_the_library_has_begun_to_read_it_reads_to_the_end() {
        let (stream, mut peer) = duplex(1 << 20);
        let mut frames = Frames::new(stream, b"", 1 << 20);
        // A message and a ping within it, each cut somewhere.
        for part in [&b"\x01\x05he"[..], b"llo\x89", b"\x04p", b"ing\x80\x02", b"!"] {
            peer.write_all(part).await.expect("there is room");
            assert!(poll_fn(|cx| Poll::Ready(frames.poll_next(cx).is_pending())).await);
            exchange(&mut frames, &mut peer, LARGE).await;
            assert!(frames.held > LARGE, "the library has a part of a message");
        }
        peer.write_all(b"!").await.expect("there is room");
        let message = poll_fn(|cx| frames.poll_next(cx)).await;
        assert!(matches!(message, Ok(Incoming::Text(text)) if text == "hello!!"));
        exchange(&mut frames, &mut peer, 9).await;
        assert_eq!(frames.held, 0);
    }
}
