//! A local program attached to the daemon that speaks literal lines.

use std::collections::VecDeque;
use std::path::Path;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::schema::Talk;
use super::transcript::{Captures, compare};
use super::within;

/// One attached program. When a test fails, the end of its transcript is printed. Every line that it reads has to be
/// one of the JSON Schema, and so has every request of its that is carried out.
///
/// Lines are read in one of three ways: [`expect`](Self::expect) takes the next line whatever it is,
/// [`expect_answer`](Self::expect_answer) the next answer, and [`hear`](Self::hear) the next notification; the
/// last two leave the lines of the other kind for later, since the order between the two kinds is often free.
pub struct Consumer {
    reader: BufReader<OwnedReadHalf>,
    writer: Option<OwnedWriteHalf>,
    /// Lines that were read and not yet asked for, oldest first.
    waiting: VecDeque<String>,
    /// The last lines in both directions.
    transcript: VecDeque<String>,
    talk: Talk,
}

impl Consumer {
    pub async fn attach(socket: &Path) -> Self {
        Self::on(UnixStream::connect(socket).await.expect("the daemon accepts consumers"))
    }

    /// As [`attach`](Self::attach), as another user and group, which takes root.
    pub fn attach_as(uid: u32, gid: u32, socket: &Path) -> Self {
        // The kernel notes who connects, and it knows users by thread.
        let connect = || {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            set_thread_groups(&[])?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
            std::os::unix::net::UnixStream::connect(socket)
        };
        let stream = std::thread::scope(|scope| scope.spawn(connect).join().expect("it does not panic"));
        let stream = stream.expect("root may become anybody, and the socket lets everybody in");
        stream.set_nonblocking(true).expect("sockets know it");
        Self::on(UnixStream::from_std(stream).expect("the runtime takes it"))
    }

    fn on(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        let reader = BufReader::new(reader);
        let (waiting, transcript) = (VecDeque::new(), VecDeque::new());
        Self { reader, writer: Some(writer), waiting, transcript, talk: Talk::default() }
    }

    /// Writes `line` and a newline.
    pub async fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes()).await;
    }

    /// Writes bytes as they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.note(format!("> {}", shorten(&String::from_utf8_lossy(bytes))));
        self.talk.sent(bytes);
        let writer = self.writer.as_mut().expect("the consumer has not shut its writing side");
        within("the daemon to read", writer.write_all(bytes)).await.expect("the daemon reads");
    }

    /// Shuts the writing side; what the daemon writes can still be read.
    pub fn shut_writing(&mut self) {
        self.note("> (end)".into());
        self.talk.sent_all();
        self.writer = None; // Dropping the write half shuts it down.
    }

    /// The next line in the order of arrival, without its newline; none at the end.
    pub async fn next_line(&mut self) -> Option<String> {
        match self.waiting.pop_front() {
            Some(line) => Some(line),
            None => self.read_line().await,
        }
    }

    /// The next line, whatever it is, must be `literal` (see [`super::transcript`]).
    pub async fn expect(&mut self, literal: &str) -> Captures {
        let line = self.next_line().await.unwrap_or_else(|| panic!("the daemon closed instead of {literal}"));
        assert_line(literal, &line)
    }

    /// The next answer must be `literal`.
    pub async fn expect_answer(&mut self, literal: &str) -> Captures {
        let line = self.next_of_kind(true, literal).await;
        assert_line(literal, &line)
    }

    /// The next notification must be `literal`.
    pub async fn hear(&mut self, literal: &str) -> Captures {
        let line = self.next_of_kind(false, literal).await;
        assert_line(literal, &line)
    }

    /// Sends `request`; the next answer must be `answer`.
    pub async fn call(&mut self, request: &str, answer: &str) -> Captures {
        self.send(request).await;
        self.expect_answer(answer).await
    }

    /// Sends `request` and returns the next answer.
    pub async fn request(&mut self, request: &str) -> String {
        self.send(request).await;
        self.next_of_kind(true, request).await
    }

    /// The next notification as text.
    pub async fn next_notification(&mut self) -> String {
        self.next_of_kind(false, "a notification").await
    }

    /// The daemon must close without a further line.
    pub async fn expect_end(&mut self) {
        if let Some(line) = self.next_line().await {
            panic!("expected the end, found {line}");
        }
    }

    /// Nothing of `method` may have come before the answer to a request that is sent now.
    pub async fn expect_silence(&mut self) {
        self.call(
            r#"{"id":"silence","method":"list"}"#,
            r#"{"jsonrpc":"2.0","id":"silence","result":{"connections":[…]}}"#,
        )
        .await;
        assert!(self.waiting.is_empty(), "expected nothing, found {:?}", self.waiting);
    }

    async fn next_of_kind(&mut self, answer: bool, awaited: &str) -> String {
        if let Some(at) = self.waiting.iter().position(|line| is_answer(line) == answer) {
            return self.waiting.remove(at).expect("it was just found there");
        }
        loop {
            let line =
                self.read_line().await.unwrap_or_else(|| panic!("the daemon closed instead of {awaited}"));
            if is_answer(&line) == answer {
                return line;
            }
            self.waiting.push_back(line);
        }
    }

    async fn read_line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = within("a line from the daemon", self.reader.read_until(b'\n', &mut line)).await;
        read.expect("the daemon's socket can be read");
        if line.is_empty() {
            self.note("< (end)".into());
            return None;
        }
        assert_eq!(line.pop(), Some(b'\n'), "the daemon ended within a line: {}", line.escape_ascii());
        let line = String::from_utf8(line).expect("the daemon writes UTF-8");
        self.note(format!("< {}", shorten(&line)));
        self.talk.read(&line).unwrap_or_else(|error| panic!("{}", shorten(&error)));
        Some(line)
    }
}

impl Consumer {
    /// How much of the transcript a failing test prints.
    const LINES: usize = 60;

    fn note(&mut self, line: String) {
        if self.transcript.len() == Self::LINES {
            self.transcript.pop_front();
        }
        self.transcript.push_back(line);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- consumer\n{}", self.transcript.make_contiguous().join("\n"));
        }
    }
}

/// An answer has a result or an error, a notification a method.
fn is_answer(line: &str) -> bool {
    compare(r#"{"method":…,"…":…}"#, line).is_err()
}

fn assert_line(literal: &str, line: &str) -> Captures {
    compare(literal, line)
        .unwrap_or_else(|difference| panic!("{difference}\nexpected: {literal}\n   found: {}", shorten(line)))
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(600) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.trim_end().to_owned(),
    }
}
