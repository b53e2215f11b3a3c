//! A siod that says what the test says, a byte at a time.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::common::transcript::compare;
use crate::common::within;

pub(crate) struct Siod {
    folder: TempDir,
    listener: UnixListener,
    program: Option<BufReader<UnixStream>>,
}

fn socket(folder: &TempDir) -> PathBuf {
    folder.path().join("siod.sock")
}

impl Siod {
    pub(crate) fn bind() -> Self {
        Self::bind_in(tempfile::tempdir().expect("a folder"))
    }

    fn bind_in(folder: TempDir) -> Self {
        let listener = UnixListener::bind(socket(&folder)).expect("a socket in the test's own folder");
        Self { folder, listener, program: None }
    }

    pub(crate) fn path(&self) -> PathBuf {
        socket(&self.folder)
    }

    /// The program attaches, and subscribes from this position.
    pub(crate) async fn attached(&mut self, after: &str) {
        let (stream, _) = within("the program to attach", self.listener.accept()).await.expect("it listens");
        self.program = Some(BufReader::new(stream));
        self.reads(&format!(
            r#"{{"id":1,"method":"subscribe","params":{{"connection":"chat","after":{after}}}}}"#
        ))
        .await;
    }

    /// The program's next line must be `literal` (see `common::transcript`).
    pub(crate) async fn reads(&mut self, literal: &str) {
        let mut line = String::new();
        let program = self.program.as_mut().expect("it is attached");
        within(literal, program.read_line(&mut line)).await.expect("it writes UTF-8");
        assert!(line.ends_with('\n'), "the program left instead of {literal}");
        if let Err(difference) = compare(literal, line.trim_end()) {
            panic!("{difference}\nexpected: {literal}\n   found: {line}");
        }
    }

    pub(crate) async fn writes(&mut self, line: &str) {
        self.writes_bytes(format!("{line}\n").as_bytes()).await;
    }

    /// Writes this and no newline, and closes.
    pub(crate) async fn ends_within(&mut self, part: &str) {
        self.writes_bytes(part.as_bytes()).await;
        self.program = None;
    }

    /// Closes, is not there any more, and listens anew.
    pub(crate) fn moves_away(self) -> Self {
        let Self { folder, listener, program } = self;
        drop((program, listener));
        std::fs::remove_file(socket(&folder)).expect("the socket's file");
        Self::bind_in(folder)
    }

    async fn writes_bytes(&mut self, bytes: &[u8]) {
        let program = self.program.as_mut().expect("it is attached");
        for byte in bytes {
            within("the program to read", program.write_all(&[*byte])).await.expect("it reads");
        }
    }
}
