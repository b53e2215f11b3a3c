//! A scripted Socket.IO server that speaks literal packets.
//!
//! It accepts everything and decides nothing: each request waits until the test takes it and says what becomes of
//! it. HTTP is read and written by hand here, WebSocket frames by tungstenite; our own codec has no part in it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::within;

/// A handshake that offers no upgrade and leaves the heartbeat to servers that are meant to have one.
pub const OPEN: &str =
    r#"0{"sid":"engine-1","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

/// The same, with the upgrade to a WebSocket on offer.
pub const OPEN_WITH_UPGRADE: &str = r#"0{"sid":"engine-1","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

/// The server. When a test fails, what it received and sent is printed.
pub struct Upstream {
    address: SocketAddr,
    websockets: UnboundedReceiver<Handshake>,
    gets: UnboundedReceiver<Exchange>,
    posts: UnboundedReceiver<Exchange>,
    /// Packets of POST bodies not yet asked for, oldest first.
    packets: VecDeque<String>,
    refusing: Arc<AtomicBool>,
    transcript: Transcript,
    _acceptor: JoinSet<()>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (to_websockets, websockets) = unbounded_channel();
        let (to_gets, gets) = unbounded_channel();
        let (to_posts, posts) = unbounded_channel();
        let refusing = Arc::new(AtomicBool::new(false));
        let transcript = Transcript::default();
        let queues = Queues {
            websockets: to_websockets,
            gets: to_gets,
            posts: to_posts,
        };
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(
            listener,
            queues,
            Arc::clone(&refusing),
            transcript.clone(),
        ));
        let packets = VecDeque::new();
        Self {
            address,
            websockets,
            gets,
            posts,
            packets,
            refusing,
            transcript,
            _acceptor: acceptor,
        }
    }

    /// `http://127.0.0.1:port`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on every new connection is reset at once, or (`false`) served again.
    pub fn refuse_connections(&self, refuse: bool) {
        self.refusing.store(refuse, Ordering::SeqCst);
    }

    /// The next request for a WebSocket, not yet answered.
    pub async fn handshake(&mut self) -> Handshake {
        within("a WebSocket request", self.websockets.recv())
            .await
            .expect("the acceptor runs")
    }

    /// The next request for a WebSocket, accepted.
    pub async fn accept_ws(&mut self) -> Ws {
        self.handshake().await.accept().await
    }

    /// The next WebSocket, opened by the server and joined to `/`.
    pub async fn joined(&mut self) -> Ws {
        let mut ws = self.accept_ws().await;
        ws.send(OPEN).await;
        ws.expect("40").await;
        ws.send(r#"40{"sid":"socket-1"}"#).await;
        ws
    }

    /// The next GET for polling; the daemon waits until it is answered.
    pub async fn get(&mut self) -> Exchange {
        within("a GET", self.gets.recv())
            .await
            .expect("the acceptor runs")
    }

    /// The next POST; the daemon waits until it is answered.
    pub async fn post(&mut self) -> Exchange {
        within("a POST", self.posts.recv())
            .await
            .expect("the acceptor runs")
    }

    /// The next GET or POST.
    pub async fn exchange(&mut self) -> Exchange {
        let either = async {
            tokio::select! {
                get = self.gets.recv() => get,
                post = self.posts.recv() => post,
            }
        };
        within("a GET or POST", either).await.expect("the acceptor runs")
    }

    /// The next packet that comes by POST must be `packet`. A client may put several into one body; each body is
    /// answered with `ok` as it is read.
    pub async fn expect_posted(&mut self, packet: &str) {
        if self.packets.is_empty() {
            let post = self.post().await;
            self.packets.extend(post.packets());
            post.ok();
        }
        let found = self.packets.pop_front().unwrap_or_default();
        assert_eq!(found, packet, "the next packet in a POST");
    }

    /// Whether a request for a WebSocket waits that no one has taken.
    pub fn has_handshake(&self) -> bool {
        !self.websockets.is_empty()
    }

    /// Whether a GET or POST waits that no one has taken.
    pub fn has_unanswered_polling(&self) -> bool {
        !self.gets.is_empty() || !self.posts.is_empty()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- upstream\n{}", self.transcript.text());
        }
    }
}

/// One HTTP request.
pub struct Request {
    method: String,
    /// Path and query as they were sent.
    pub target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// The value of a header, its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The target must be `expected`; query parameters may come in any order, and `t`, which is never the same
    /// twice, is left out of the comparison.
    pub fn expect_path(&self, expected: &str) {
        let parts = |target: &str| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let mut query: Vec<_> = query
                .split('&')
                .filter(|pair| !pair.starts_with("t="))
                .map(str::to_owned)
                .collect();
            query.sort();
            (path.to_owned(), query)
        };
        assert_eq!(
            parts(&self.target),
            parts(expected),
            "the target of a {} request",
            self.method
        );
    }
}

/// A GET or POST that waits for its answer.
pub struct Exchange {
    pub request: Request,
    answer: oneshot::Sender<Answer>,
}

impl Exchange {
    pub fn body(&self) -> &str {
        str::from_utf8(&self.request.body).expect("polling bodies are UTF-8")
    }

    /// The packets of the body.
    pub fn packets(&self) -> impl Iterator<Item = String> {
        self.body().split('\x1e').map(str::to_owned)
    }

    pub fn is_post(&self) -> bool {
        self.request.method == "POST"
    }

    pub fn reply(self, status: u16, body: &str) {
        self.reply_with(status, "", body);
    }

    /// As [`reply`](Self::reply), with further header lines, each ended by CRLF.
    pub fn reply_with(self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Scripted\r\nContent-Type: text/plain; charset=UTF-8\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        self.answer(Answer::Whole(head + body));
    }

    pub fn ok(self) {
        self.reply(200, "ok");
    }

    /// Closes the connection without an answer.
    pub fn hang_up(self) {
        self.answer(Answer::HangUp);
    }

    /// Answers 200 with a body that never ends.
    pub fn reply_without_end(self) {
        self.answer(Answer::Endless);
    }

    fn answer(self, answer: Answer) {
        // A client that has gone by now does not hear it, which is for the test's next step to notice.
        let _gone = self.answer.send(answer);
    }
}

/// A request for a WebSocket that waits for its answer.
pub struct Handshake {
    pub request: Request,
    stream: TcpStream,
    /// Bytes that came behind the request.
    rest: Vec<u8>,
    transcript: Transcript,
}

impl Handshake {
    pub async fn accept(mut self) -> Ws {
        let key = self
            .request
            .header("sec-websocket-key")
            .expect("a WebSocket request has a key");
        let accept = derive_accept_key(key.as_bytes());
        let protocol = match self.request.header("sec-websocket-protocol") {
            Some(offered) => {
                format!(
                    "Sec-WebSocket-Protocol: {}\r\n",
                    offered.split(',').next().unwrap_or(offered).trim()
                )
            }
            None => String::new(),
        };
        self.write(&format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
        ))
        .await;
        let Self {
            request,
            stream,
            rest,
            transcript,
        } = self;
        let stream = WebSocketStream::from_partially_read(stream, rest, Role::Server, None).await;
        Ws {
            request,
            stream,
            transcript,
        }
    }

    /// Answers with a status and closes.
    pub async fn refuse(mut self, status: u16) {
        self.write(&format!(
            "HTTP/1.1 {status} Scripted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
    }

    /// Writes bytes of the test's choice; the connection stays open until this is dropped.
    pub async fn write(&mut self, text: &str) {
        self.transcript.add(&format!("< {}", text.escape_debug()));
        self.stream
            .write_all(text.as_bytes())
            .await
            .expect("the client reads");
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
        self.send_message(Message::binary(Bytes::copy_from_slice(bytes)))
            .await;
    }

    /// Queues a text without waiting until it is written; [`flush`](Self::flush) writes what is queued.
    pub async fn feed(&mut self, text: &str) {
        within("the client to read", self.stream.feed(Message::text(text)))
            .await
            .expect("the client reads");
    }

    pub async fn flush(&mut self) {
        within("the client to read", self.stream.flush())
            .await
            .expect("the client reads");
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
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: "".into(),
        };
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
        self.stream
            .get_mut()
            .write_all(bytes)
            .await
            .expect("the client reads");
    }

    async fn send_message(&mut self, message: Message) {
        self.transcript.add(&format!("< ws {}", shown(&message)));
        within("the client to read", self.stream.send(message))
            .await
            .expect("the client reads");
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

enum Answer {
    Whole(String),
    HangUp,
    Endless,
}

/// Where the acceptor puts what comes in.
#[derive(Clone)]
struct Queues {
    websockets: UnboundedSender<Handshake>,
    gets: UnboundedSender<Exchange>,
    posts: UnboundedSender<Exchange>,
}

async fn accept(listener: TcpListener, queues: Queues, refusing: Arc<AtomicBool>, transcript: Transcript) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        if refusing.load(Ordering::SeqCst) {
            transcript.add("< tcp refused");
            reset(&stream);
        } else {
            connections.spawn(serve(stream, queues.clone(), transcript.clone()));
        }
    }
}

/// One TCP connection: HTTP requests one after the other, or a WebSocket.
async fn serve(mut stream: TcpStream, queues: Queues, transcript: Transcript) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        transcript.add(&format!(
            "> {} {} {}",
            request.method,
            request.target,
            shorten(&String::from_utf8_lossy(&request.body))
        ));
        if request
            .header("upgrade")
            .is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
        {
            // Nobody takes it once the test is over.
            let _over = queues.websockets.send(Handshake {
                request,
                stream,
                rest: buffer,
                transcript,
            });
            return;
        }
        let queue = if request.method == "POST" {
            &queues.posts
        } else {
            &queues.gets
        };
        let (answer, answered) = oneshot::channel();
        if queue.send(Exchange { request, answer }).is_err() {
            return;
        }
        match answered.await {
            Ok(Answer::Whole(text)) => {
                transcript.add(&format!("< {}", shorten(&text)));
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Ok(Answer::Endless) => {
                let mut chunk = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
                while stream.write_all(&chunk).await.is_ok() {
                    chunk = vec![b'4'; 64 * 1024];
                }
                return;
            }
            Ok(Answer::HangUp) | Err(_) => return,
        }
    }
}

/// Reads one request; `buffer` keeps what came behind it.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        match buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(end) => break end,
            None => more(stream, buffer).await?,
        }
    };
    let head: Vec<u8> = buffer.drain(..end + 4).collect();
    let head = String::from_utf8(head).expect("the client writes ASCII heads");
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = Request {
        method,
        target,
        headers,
        body: Vec::new(),
    };
    let length = request
        .header("content-length")
        .map_or(0, |value| value.parse().expect("a length"));
    while buffer.len() < length {
        more(stream, buffer).await?;
    }
    request.body = buffer.drain(..length).collect();
    Some(request)
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    match stream.read_buf(buffer).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(()),
    }
}

/// Lets the drop of `stream` send a RST instead of a FIN.
fn reset(stream: &TcpStream) {
    stream
        .set_zero_linger()
        .expect("a socket option of a connected socket");
}

/// What went over the wire, for reports.
#[derive(Clone, Default)]
struct Transcript(Arc<Mutex<VecDeque<String>>>);

impl Transcript {
    const LINES: usize = 100;

    fn add(&self, line: &str) {
        let Ok(mut lines) = self.0.lock() else { return };
        if lines.len() == Self::LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    fn text(&self) -> String {
        self.0
            .lock()
            .map(|lines| Vec::from(lines.clone()).join("\n"))
            .unwrap_or_default()
    }
}

fn shown(message: &Message) -> String {
    match message {
        Message::Text(text) => shorten(text),
        Message::Binary(bytes) => format!("binary {}", shorten(&format!("{bytes:02x?}"))),
        other => format!("{other:?}"),
    }
}

fn shorten(text: &str) -> String {
    text.escape_debug().take(400).collect()
}
