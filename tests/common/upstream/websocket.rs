//! The WebSocket side: the request that waits for its answer, and what it becomes.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::http::Request;
use super::{Transcript, reset, shorten, within};

/// A request for a WebSocket that waits for its answer.
pub struct Handshake {
    pub request: Request,
    pub(super) stream: TcpStream,
    /// Bytes that came behind the request.
    pub(super) rest: Vec<u8>,
    pub(super) transcript: Transcript,
}

impl Handshake {
    pub async fn accept(self) -> Ws {
        self.accept_with("").await
    }

    /// As [`accept`](Self::accept), with further header lines, each ended by CRLF.
    pub async fn accept_with(mut self, headers: &str) -> Ws {
        let key = self.request.header("sec-websocket-key").expect("a WebSocket request has a key");
        let accept = derive_accept_key(key.as_bytes());
        let protocol = match self.request.header("sec-websocket-protocol") {
            Some(offered) => {
                format!("Sec-WebSocket-Protocol: {}\r\n", offered.split(',').next().unwrap_or(offered).trim())
            }
            None => String::new(),
        };
        self.write(&format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n{protocol}{headers}\r\n"
        ))
        .await;
        let Self { request, stream, rest, transcript } = self;
        let stream = WebSocketStream::from_partially_read(stream, rest, Role::Server, None).await;
        Ws { request, stream, transcript }
    }

    /// Answers with a status and closes.
    pub async fn refuse(mut self, status: u16) {
        self.write(&format!("HTTP/1.1 {status} Scripted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
            .await;
    }

    /// Writes bytes of the test's choice; the connection stays open until this is dropped.
    pub async fn write(&mut self, text: &str) {
        self.transcript.add(&format!("< {}", text.escape_debug()));
        self.stream.write_all(text.as_bytes()).await.expect("the client reads");
    }

    /// Closes the connection without an answer.
    pub async fn hang_up(mut self) {
        self.stream.shutdown().await.expect("the client is there");
    }

    /// Resets the connection.
    pub fn reset(self) {
        reset(&self.stream);
    }
}

/// An accepted WebSocket.
pub struct Ws {
    pub request: Request,
    stream: WebSocketStream<TcpStream>,
    transcript: Transcript,
}

impl Ws {
    pub async fn send(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.send_message(Message::binary(Bytes::copy_from_slice(bytes))).await;
    }

    /// Queues a text without waiting until it is written; [`flush`](Self::flush) writes what is queued.
    pub async fn feed(&mut self, text: &str) {
        within("the client to read", self.stream.feed(Message::text(text))).await.expect("the client reads");
    }

    pub async fn flush(&mut self) {
        within("the client to read", self.stream.flush()).await.expect("the client reads");
    }

    /// The next message must be this text.
    pub async fn expect(&mut self, text: &str) {
        let found = self.receive().await;
        assert_eq!(found, Some(Message::text(text)), "the next message of the client");
    }

    /// The next message must be these bytes.
    pub async fn expect_binary(&mut self, bytes: &[u8]) {
        let found = self.receive().await;
        assert_eq!(
            found,
            Some(Message::binary(Bytes::copy_from_slice(bytes))),
            "the next message of the client"
        );
    }

    /// The client must close, with or without a close frame, and without a further message.
    pub async fn expect_closed(&mut self) {
        let found = self.receive().await;
        assert_eq!(found, None, "the client closes");
    }

    /// The next text of the client, none when it closes instead.
    pub async fn next_text_or_end(&mut self) -> Option<String> {
        match self.receive().await {
            Some(Message::Text(text)) => Some(text.to_string()),
            None => None,
            Some(other) => panic!("expected a text, found {other:?}"),
        }
    }

    /// Sends a close frame and waits for the client's.
    pub async fn close(mut self, code: u16) {
        self.transcript.add(&format!("< ws close {code}"));
        let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
        self.stream.close(Some(frame)).await.expect("the client reads");
        while self.receive().await.is_some() {}
    }

    /// Closes the TCP connection without a close frame.
    pub async fn hang_up(self) {
        self.transcript.add("< tcp end");
        let mut stream = self.stream.into_inner();
        stream.shutdown().await.expect("the client is there");
    }

    /// Resets the TCP connection.
    pub fn reset(self) {
        self.transcript.add("< tcp reset");
        reset(self.stream.get_ref());
    }

    /// Writes bytes where a frame belongs.
    pub async fn write_raw(&mut self, bytes: &[u8]) {
        self.transcript.add(&format!("< raw {}", bytes.escape_ascii()));
        self.stream.get_mut().write_all(bytes).await.expect("the client reads");
    }

    async fn send_message(&mut self, message: Message) {
        self.transcript.add(&format!("< ws {}", shown(&message)));
        within("the client to read", self.stream.send(message)).await.expect("the client reads");
    }

    async fn receive(&mut self) -> Option<Message> {
        loop {
            let message = match within("a message of the client", self.stream.next()).await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(
                    Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::Protocol(_) | Error::Io(_)),
                )
                | None => {
                    self.transcript.add("> ws closed");
                    return None;
                }
                Some(message) => message.expect("the client keeps to the WebSocket protocol"),
            };
            self.transcript.add(&format!("> ws {}", shown(&message)));
            return Some(message);
        }
    }
}

fn shown(message: &Message) -> String {
    match message {
        Message::Text(text) => shorten(text),
        Message::Binary(bytes) => format!("binary {}", shorten(&format!("{bytes:02x?}"))),
        other => format!("{other:?}"),
    }
}
