//! An HTTP server that a test answers for, request by request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Hands each request to the test, whichever connection it came on.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    requests: mpsc::UnboundedReceiver<Request>,
    hang_ups: mpsc::UnboundedReceiver<()>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// A request that waits for its answer.
pub(super) struct Request {
    /// Method and target.
    pub(super) line: String,
    /// Header lines, with names in lower case.
    pub(super) headers: Vec<String>,
    pub(super) body: String,
    answer: oneshot::Sender<Answer>,
}

struct Answer {
    bytes: Vec<u8>,
    hang_up: bool,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, requests) = mpsc::unbounded_channel();
        let (hung_up, hang_ups) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(stream, sender.clone(), hung_up.clone()));
            }
        });
        Self { address, requests, hang_ups, connections, _tasks: tasks }
    }

    /// The next request on any connection.
    pub(super) async fn request(&mut self) -> Request {
        self.requests.recv().await.expect("the server runs as long as the test")
    }

    /// The server has closed a connection after an answer.
    pub(super) async fn hung_up(&mut self) {
        self.hang_ups.recv().await.expect("the server runs as long as the test");
    }

    /// No request has come that the test has not seen.
    pub(super) fn assert_quiet(&mut self) {
        if let Ok(request) = self.requests.try_recv() {
            panic!("unexpected request {}", request.line);
        }
    }

    /// Connections accepted so far.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Request {
    pub(super) fn is(&self, method: &str) -> bool {
        self.line.starts_with(method)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Status 200 and a body.
    pub(super) fn ok(self, body: &str) {
        self.raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    }

    /// The same, with the connection closed right behind it.
    pub(super) fn ok_then_hang_up(self, body: &str) {
        let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.send(Answer { bytes: bytes.into(), hang_up: true });
    }

    /// Literal bytes. The connection is closed after them if they say `Connection: close`, or if they are none.
    pub(super) fn raw(self, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let hang_up =
            bytes.is_empty() || bytes.windows(17).any(|text| text.eq_ignore_ascii_case(b"connection: close"));
        self.send(Answer { bytes, hang_up });
    }

    fn send(self, answer: Answer) {
        // The client may have gone meanwhile, which is for the test to notice.
        let _ = self.answer.send(answer);
    }
}

/// Reads a request's head and body.
pub(super) async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Option<(String, Vec<String>, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("an ASCII head");
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<String> = lines
        .map(|line| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
            None => panic!("a header line is {line:?}"),
        })
        .collect();
    let length =
        headers.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((line, headers, body))
}

async fn serve(
    mut stream: TcpStream,
    requests: mpsc::UnboundedSender<Request>,
    hung_up: mpsc::UnboundedSender<()>,
) {
    while let Some((line, headers, body)) = read_request(&mut stream).await {
        let body = String::from_utf8(body).expect("a UTF-8 body");
        let (answer, answered) = oneshot::channel();
        if requests.send(Request { line, headers, body, answer }).is_err() {
            return;
        }
        // A client that hangs up instead of waiting ends the connection too.
        let answer = tokio::select! {
            answer = answered => answer,
            () = client_hangs_up(&mut stream) => return,
        };
        let Ok(answer) = answer else { return };
        if stream.write_all(&answer.bytes).await.is_err() {
            return;
        }
        if answer.hang_up {
            drop(stream);
            let _ = hung_up.send(());
            return;
        }
    }
}

async fn client_hangs_up(stream: &mut TcpStream) {
    let mut byte = [0];
    match stream.peek(&mut byte).await {
        Ok(0) | Err(_) => {}
        Ok(_) => panic!("the client pipelines requests"),
    }
}
