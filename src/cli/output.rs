//! stdout and stderr: never a panic, however they end.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;

use anstream::AutoStream;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

use super::text::visible;

/// Columns where nobody can say how many there are.
const COLUMNS: usize = 80;

/// Buffered stdout; call [`Output::flush`] before waiting for anything.
pub(super) struct Output {
    writer: BufWriter<Box<dyn Write>>,
}

impl Output {
    /// Bytes as they are given.
    pub(super) fn raw() -> Self {
        Self { writer: BufWriter::new(Box::new(io::stdout())) }
    }

    /// Styled text; styles are left out where stdout is no terminal or the user wants none (`NO_COLOR`).
    pub(super) fn styled() -> Self {
        Self { writer: BufWriter::new(Box::new(AutoStream::auto(io::stdout()))) }
    }

    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())?;
        self.writer.write_all(b"\n")
    }

    /// JSON from elsewhere: to the byte for programs, and on a terminal with what people cannot see escaped.
    pub(super) fn json(&mut self, text: &str) -> io::Result<()> {
        if is_terminal() { self.line(&visible(text)) } else { self.line(text) }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Prints one line and is done.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut output = Output::raw();
    output.line(text)?;
    output.flush()
}

/// Prints JSON from elsewhere as one line.
pub(super) fn print_json(text: &str) -> io::Result<()> {
    let mut output = Output::raw();
    output.json(text)?;
    output.flush()
}

/// Says something on stderr.
pub(super) fn note(message: impl Display) {
    let text = message.to_string();
    let mut stderr = io::stderr().lock();
    for (number, line) in text.lines().enumerate() {
        let prefix = if number == 0 { "siod: " } else { "      " };
        // There is nowhere left to say that stderr is gone.
        let _ = writeln!(stderr, "{prefix}{}", visible(line));
    }
}

/// Whether a person looks at stdout, through something that understands cursor movements.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The terminal's columns and rows; 80 and no limit where there is none.
pub(super) fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (COLUMNS, usize::MAX),
    }
}

/// Waits until whoever reads stdout is gone; forever where that cannot be told.
///
/// A program that only listens would otherwise notice with the next notification, which may never come.
pub(super) async fn closed() {
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    // Nothing is written through this one, so it may stay in blocking mode; the mode is shared with other processes.
    if let Ok(stdout) = stdout.and_then(|stdout| Sender::from_file_unchecked(stdout.into()))
        && stdout.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}
