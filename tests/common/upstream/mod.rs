//! A scripted Socket.IO server that speaks literal packets.
//!
//! It accepts everything and decides nothing: each request waits until the test takes it and says what becomes of
//! it. HTTP is read and written by hand here, WebSocket frames by tungstenite; our own codec has no part in it.

mod http;
mod websocket;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::within;
use http::{Answer, read_request};

pub use http::Exchange;
pub use websocket::{Handshake, Ws};

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
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (to_websockets, websockets) = unbounded_channel();
        let (to_gets, gets) = unbounded_channel();
        let (to_posts, posts) = unbounded_channel();
        let refusing = Arc::new(AtomicBool::new(false));
        let transcript = Transcript::default();
        let queues = Queues { websockets: to_websockets, gets: to_gets, posts: to_posts };
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(listener, queues, Arc::clone(&refusing), transcript.clone()));
        let packets = VecDeque::new();
        Self { address, websockets, gets, posts, packets, refusing, transcript, _acceptor: acceptor }
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
        within("a WebSocket request", self.websockets.recv()).await.expect("the acceptor runs")
    }

    /// As [`handshake`](Self::handshake), whenever it comes.
    pub async fn handshake_in_time(&mut self) -> Handshake {
        self.websockets.recv().await.expect("the acceptor runs")
    }

    /// The next request for a WebSocket, accepted.
    pub async fn accept_ws(&mut self) -> Ws {
        self.handshake().await.accept().await
    }

    /// The next WebSocket, opened by the server and joined to `/`.
    pub async fn joined(&mut self) -> Ws {
        self.joined_as("40").await
    }

    /// As [`joined`](Self::joined), where the daemon says this to join.
    pub async fn joined_as(&mut self, connect: &str) -> Ws {
        let mut ws = self.accept_ws().await;
        ws.send(OPEN).await;
        ws.expect(connect).await;
        ws.send(r#"40{"sid":"socket-1"}"#).await;
        ws
    }

    /// The next GET for polling; the daemon waits until it is answered.
    pub async fn get(&mut self) -> Exchange {
        within("a GET", self.gets.recv()).await.expect("the acceptor runs")
    }

    /// The next POST; the daemon waits until it is answered.
    pub async fn post(&mut self) -> Exchange {
        within("a POST", self.posts.recv()).await.expect("the acceptor runs")
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
        if request.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
            // Nobody takes it once the test is over.
            let _over = queues.websockets.send(Handshake { request, stream, rest: buffer, transcript });
            return;
        }
        let queue = if request.method == "POST" { &queues.posts } else { &queues.gets };
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

/// Lets the drop of `stream` send a RST instead of a FIN.
fn reset(stream: &TcpStream) {
    stream.set_zero_linger().expect("a socket option of a connected socket");
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
        self.0.lock().map(|lines| Vec::from(lines.clone()).join("\n")).unwrap_or_default()
    }
}

fn shorten(text: &str) -> String {
    text.escape_debug().take(400).collect()
}
