//! A WebSocket's messages, with the library that frames them out of sight.
//!
//! The one file that knows tungstenite, and the place where a library with permessage-deflate would go. No extension is
//! offered; fragments, masking, pings and the close handshake are dealt with here, and the rest of the transport sees
//! whole text and binary messages.

use std::io;
use std::task::{Context, Poll, ready};

use bytestring::ByteString;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tungstenite::Message;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::frame::Frame as WebSocketFrame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig};

use super::error::{Error, Failure, lower_first};
use super::hint;
use crate::engineio::{Frame, Phase};

/// Read at a time, and gathered before a write, in bytes.
const BUFFER: usize = 16 * 1024;
/// Codes of RFC 6455, section 7.4.1, for a close frame without code and for an end without close frame.
const NO_STATUS: u16 = 1005;
const ABNORMAL: u16 = 1006;

/// Text and binary messages over a connection whose WebSocket handshake is done.
pub(super) struct Frames<S> {
    stream: WebSocketStream<S>,
    max_message: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// `read` is what the handshake had read beyond its end; `max_message` bounds incoming messages, in bytes.
    pub(super) async fn new(stream: S, read: &[u8], max_message: usize) -> Self {
        // The write buffer is bounded by the rule of `start_send`: it holds BUFFER and one message at the most. A bound
        // in the library would refuse a message larger than it instead of sending it.
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message));
        let stream = WebSocketStream::from_partially_read(stream, read.to_vec(), Role::Client, Some(config));
        Self { stream: stream.await, max_message }
    }

    /// The next message. Pings are answered on the way. A close frame is answered and is [`Error::Closed`].
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, Error>> {
        loop {
            let message = match ready!(self.stream.poll_next_unpin(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(Err(self.failed(error))),
                None => return Poll::Ready(Err(lost(""))),
            };
            match message {
                Message::Text(text) => {
                    let text = ByteString::try_from(bytes::Bytes::from(text));
                    return Poll::Ready(
                        text.map(Frame::Text).map_err(|_| violation("text message is not UTF-8")),
                    );
                }
                Message::Binary(bytes) => return Poll::Ready(Ok(Frame::Binary(bytes))),
                Message::Close(frame) => {
                    // The answer is on its way; whether it arrives changes nothing.
                    let _ = self.stream.poll_flush_unpin(cx);
                    let (code, reason) = match frame {
                        Some(frame) => (frame.code.into(), frame.reason.as_str().into()),
                        None => (NO_STATUS, ByteString::new()),
                    };
                    return Poll::Ready(Err(Error::Closed { code, reason }));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Ready when the next message can be given to `start_send`; pending when the peer takes no more for now.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let polled = self.stream.poll_ready_unpin(cx);
        polled.map_err(|error| self.failed(error))
    }

    /// Takes one message, after `poll_ready` was ready. It goes out at the latest with the next `poll_flush`.
    pub(super) fn start_send(&mut self, frame: Frame) -> Result<(), Error> {
        let message = match frame {
            // As a frame, since the library's text type would look for UTF-8 where there can be nothing else.
            Frame::Text(text) => {
                Message::Frame(WebSocketFrame::message(text.into_bytes(), OpCode::Data(Data::Text), true))
            }
            Frame::Binary(bytes) => Message::Binary(bytes),
        };
        self.stream.start_send_unpin(message).map_err(|error| self.failed(error))
    }

    /// Ready when all messages taken are with the system.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let polled = self.stream.poll_flush_unpin(cx);
        polled.map_err(|error| self.failed(error))
    }

    /// Sends a close frame without code, once; go on with `poll_next` for the answer.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let polled = self.stream.poll_close_unpin(cx);
        polled.map_err(|error| self.failed(error))
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
