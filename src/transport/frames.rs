//! A WebSocket's messages, with the library that frames them out of sight.
//!
//! The one file that knows tungstenite, and the place where a library with permessage-deflate would go. No extension is
//! offered; fragments, masking, pings and the close handshake are dealt with here, and the rest of the transport sees
//! whole text and binary messages.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite;
use tungstenite::Message;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::error::{Error, Failure, lower_first};
use super::hint;
use super::input::{Input, Next};
use super::output::{Outgoing, Output};
use crate::engineio::Phase;

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
    output: Output,
    library: WebSocketContext,
    max_message: usize,
    /// So much waits to be written that no message is taken.
    blocked: bool,
    /// A frame of the library is still to be written.
    owing: bool,
    closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// `read` is what the handshake had read beyond its end; `max_message` bounds incoming messages, in bytes.
    pub(super) fn new(stream: S, read: &[u8], max_message: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message));
        Self {
            stream,
            input: Input::new(read, max_message),
            output: Output::new(),
            library: WebSocketContext::new(Role::Client, Some(config)),
            max_message,
            blocked: false,
            owing: false,
            closing: false,
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
            Message::Ping(_) => {
                self.owing = true;
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
    pub(super) fn start_send(&mut self, cx: &mut Context<'_>, message: Outgoing<'_>) -> Result<(), Error> {
        if self.closing || !self.library.can_write() {
            return Err(lost(""));
        }
        self.output.push(message).map_err(|error| self.failed(error.into()))?;
        if self.output.is_full() {
            match self.output.poll_write(cx, &mut self.stream) {
                Poll::Ready(written) => written.map_err(|error| self.failed(error.into()))?,
                Poll::Pending => self.blocked = true,
            }
        }
        Ok(())
    }

    /// Ready when all messages taken are with the system.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            // It has to wait while there is much before its frame.
            let waits =
                self.owing && self.with_library(cx, |library, stream| library.flush(stream))?.is_pending();
            let flushed = ready!(self.output.poll_flush(cx, &mut self.stream));
            flushed.map_err(|error| self.failed(error.into()))?;
            (self.blocked, self.owing) = (false, waits);
            if !waits {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Sends a close frame without code, once; go on with `poll_next` for the answer.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.closing {
            return self.poll_flush(cx);
        }
        self.closing = true;
        self.owing = true;
        if let Poll::Ready(Err(error)) = self.with_library(cx, |library, stream| library.close(stream, None))
        {
            return Poll::Ready(Err(error));
        }
        self.poll_flush(cx)
    }

    /// Pending when the stream was not ready, or when the library has read what it was to read.
    fn with_library<T>(
        &mut self,
        cx: &mut Context<'_>,
        work: impl FnOnce(&mut WebSocketContext, &mut Blocking<'_, '_, S>) -> tungstenite::Result<T>,
    ) -> Poll<Result<T, Error>> {
        let mut stream =
            Blocking { stream: &mut self.stream, input: &mut self.input, output: &mut self.output, cx };
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

/// The stream as the library wants it. It has one task, so whatever is not ready wakes that.
struct Blocking<'a, 'cx, S> {
    stream: &'a mut S,
    input: &'a mut Input,
    output: &'a mut Output,
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

impl<S> io::Write for Blocking<'_, '_, S> {
    /// Puts a frame of the library in line.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.output.push_frame(bytes) { Ok(bytes.len()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Whatever is in line goes out with the next [`Frames::poll_flush`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
