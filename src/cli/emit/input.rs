//! Lines of JSON from stdin, each the arguments of one event.

use std::io::{self, BufRead, Read};
use std::thread;

use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::super::exit::Failure;
use super::super::values::Json;

/// Longest line taken.
const MAX_LINE: u64 = 64 << 20;

/// Lines read ahead.
const AHEAD: usize = 16;

/// The lines of stdin, read by a thread of their own: reading a terminal or a pipe blocks.
pub(super) struct Input {
    lines: mpsc::Receiver<Result<(u64, Json), Failure>>,
}

impl Input {
    /// Starts reading. The thread ends with stdin, at the first bad line, or when this is dropped; one that waits for
    /// stdin then lasts as long as the process.
    pub(super) fn stdin() -> Result<Self, Failure> {
        let (sender, lines) = mpsc::channel(AHEAD);
        let read = move || read(io::stdin().lock(), |line| sender.blocking_send(line).is_ok());
        thread::Builder::new().name("stdin".into()).spawn(read).map_err(Failure::Runtime)?;
        Ok(Self { lines })
    }

    /// The next line's number, from 1, and its arguments, a JSON array. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Json)>, Failure> {
        self.lines.recv().await.transpose()
    }
}

/// Gives away one line after the other, as long as somebody takes them.
fn read(mut input: impl BufRead, mut give: impl FnMut(Result<(u64, Json), Failure>) -> bool) {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let item = match input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Err(error) => Err(Failure::Input(error)),
            Ok(0) => return,
            Ok(_) if line.trim_ascii().is_empty() => continue,
            Ok(taken) if taken as u64 == MAX_LINE => {
                Err(Failure::Usage(format!("line {number} of stdin is longer than {} MiB", MAX_LINE >> 20)))
            }
            Ok(_) => match args(&line) {
                Ok(args) => Ok((number, args)),
                Err(error) => Err(Failure::Usage(format!("line {number} of stdin is {error}"))),
            },
        };
        let last = item.is_err();
        if !give(item) || last {
            return;
        }
    }
}

/// A line's arguments: the array that it is, or an array of what it is.
fn args(line: &[u8]) -> Result<Json, String> {
    let text = str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let value: Json = serde_json::from_str(text).map_err(|error| {
        // serde_json counts lines too, and this is but one.
        let text = error.to_string();
        let words = text.split_once(" at line ").map_or(text.as_str(), |(words, _)| words);
        format!("no JSON: {words} at column {}", error.column())
    })?;
    if value.get().starts_with('[') {
        return Ok(value);
    }
    RawValue::from_string(format!("[{}]", value.get())).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that comes of an input: the number and the arguments of each line, or the text of the failure.
    fn lines(input: &str) -> Vec<(u64, String)> {
        let mut lines = Vec::new();
        read(input.as_bytes(), |line| {
            lines.push(match line {
                Ok((number, args)) => (number, args.get().to_owned()),
                Err(failure) => (0, failure.to_string()),
            });
            true
        });
        lines
    }

    #[test]
    fn each_line_is_one_events_arguments() {
        for (input, expected) in [
            ("", &[][..]),
            ("1\n", &[(1, "[1]")]),
            ("[1,2]\r\n\n  \n {\"a\": 1.50} ", &[(1, "[1,2]"), (4, "[{\"a\": 1.50}]")]),
            ("[]\n\"x\"\n", &[(1, "[]"), (2, "[\"x\"]")]),
            ("1\nhello\n2\n", &[(1, "[1]"), (0, "line 2 of stdin is no JSON: expected value at column 1")]),
        ] {
            let lines = lines(input);
            let lines: Vec<_> = lines.iter().map(|(number, text)| (*number, text.as_str())).collect();
            assert_eq!(lines, expected, "{input:?}");
        }
    }

    #[test]
    fn stops_when_nobody_takes_more() {
        let mut taken = 0;
        read(&b"1\n2\n3\n"[..], |_| {
            taken += 1;
            taken < 2
        });
        assert_eq!(taken, 2);
    }
}
