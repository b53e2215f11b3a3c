//! HTTP by hand: a request, and the GET or POST that waits for its answer.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// One HTTP request.
pub struct Request {
    pub method: String,
    /// Path and query as they were sent.
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The target must be `expected`; query parameters may come in any order, and `t`, which is never the same
    /// twice, is left out of the comparison.
    pub fn expect_path(&self, expected: &str) {
        let parts = |target: &str| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let mut query: Vec<_> =
                query.split('&').filter(|pair| !pair.starts_with("t=")).map(str::to_owned).collect();
            query.sort();
            (path.to_owned(), query)
        };
        assert_eq!(parts(&self.target), parts(expected), "the target of a {} request", self.method);
    }
}

/// A GET or POST that waits for its answer.
pub struct Exchange {
    pub request: Request,
    pub(super) answer: oneshot::Sender<Answer>,
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

pub enum Answer {
    Whole(String),
    HangUp,
    Endless,
}

/// Reads one request; `buffer` keeps what came behind it.
pub async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
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
    let mut request = Request { method, target, headers, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |value| value.parse().expect("a length"));
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
