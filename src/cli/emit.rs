//! `siod emit`: one event from the arguments, or one for each line of stdin.

mod input;

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::attach;
use super::exit::{Exit, Failure};
use super::output::{Output, note};
use super::values::{self, Json};
use crate::client::{self, Answer, Args, Client, EmitStatus, Emitted, Error, Incoming, RequestId};
use input::Input;

/// Events of stdin that wait for the daemon's answer at the most.
const IN_FLIGHT: usize = 256;

/// Bytes of events that may wait for the socket before more of stdin is read.
const UNSENT: usize = 1 << 20;

/// Emits an event
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each ARG is JSON where it parses, and else a string. With --stdin each line is one event: a JSON array holds its \
arguments, anything else is its only argument; empty lines are passed over. The first line that is no JSON (exit 2) or \
that the daemon refuses (exit 1) ends it, and stderr names it; up to 256 lines after a refused one may have gone out.

Examples:
  siod emit chat message hello
  siod emit chat move 3 '{\"x\":1}' null
  siod emit chat login '{\"user\":\"me\"}' --ack --timeout 5s
  seq 1000000 | siod emit chat number --stdin")]
pub(super) struct Emit {
    /// The connection's name
    connection: String,
    /// The event's name
    event: String,
    /// Its arguments
    #[arg(allow_negative_numbers = true)]
    args: Vec<String>,
    /// Wait for the server's answer and print its arguments, one JSON array a line
    #[arg(long)]
    ack: bool,
    /// How long the answer may take: 500ms, 5s, 2m, or milliseconds [default: the connection's `ack_timeout`]
    #[arg(long, value_name = "D", value_parser = values::milliseconds)]
    timeout: Option<u64>,
    /// Drop it if it cannot be written now
    #[arg(long)]
    volatile: bool,
    /// One event for each line of JSON from stdin
    #[arg(long, conflicts_with = "args")]
    stdin: bool,
}

impl Emit {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let mut client = attach(socket).await?;
        let mut tally = Tally::default();
        if self.stdin {
            let result = self.stream(&mut client, &mut tally).await;
            tally.report(&self.connection);
            result?;
        } else {
            let args: Vec<Json> = self.args.iter().map(|arg| values::json_or_string(arg)).collect();
            let emit = self.params(args);
            if self.ack {
                let mut output = Output::raw();
                tally.answered(client.ask(emit).await, &mut output)?;
                output.flush()?;
            } else {
                tally.count(client.emit(emit).await?);
            }
            tally.report(&self.connection);
        }
        Ok(Exit::Done)
    }

    fn params(&self, args: impl Serialize) -> client::Emit<'_> {
        let mut emit = client::Emit::new(&self.connection, &self.event).args(args);
        if self.ack {
            emit = emit.ack();
        }
        if let Some(timeout) = self.timeout {
            emit = emit.timeout(Duration::from_millis(timeout));
        }
        if self.volatile { emit.volatile() } else { emit }
    }

    /// Emits what stdin brings. Reads no further while too much is on its way, so memory stays bounded and a slow
    /// server slows the writer of stdin down.
    async fn stream(&self, client: &mut Client, tally: &mut Tally) -> Result<(), Failure> {
        let mut input = Input::stdin()?;
        let mut flight = Flight::default();
        let mut output = Output::raw();
        let mut end = None;
        while end.is_none() || !flight.0.is_empty() {
            let room = end.is_none() && flight.0.len() < IN_FLIGHT && client.unsent() < UNSENT;
            tokio::select! {
                line = input.next(), if room => match line {
                    Ok(Some((number, args))) => {
                        let id = client.request("emit", self.params(args))?;
                        flight.0.push_back(Sent { id, line: number, answer: None });
                    }
                    Ok(None) => end = Some(Ok(())),
                    // What went out before is still answered.
                    Err(failure) => end = Some(Err(failure)),
                },
                incoming = client.next() => if let Incoming::Answer(answer) = incoming? {
                    for (line, answer) in flight.land(answer)? {
                        let counted = if self.ack {
                            tally.answered(answer.into_args(), &mut output)
                        } else {
                            answer.read().map(|emitted| tally.count(emitted)).map_err(Failure::from)
                        };
                        if let Err(failure) = counted {
                            output.flush()?;
                            return Err(match failure {
                                Failure::Refused(refusal) => Failure::RefusedLine { line, refusal },
                                other => other,
                            });
                        }
                    }
                    if !client.has_next() {
                        output.flush()?;
                    }
                },
            }
        }
        output.flush()?;
        end.unwrap_or(Ok(()))
    }
}

/// Events on their way, in the order of their lines.
#[derive(Default)]
struct Flight(VecDeque<Sent>);

struct Sent {
    id: RequestId,
    line: u64,
    answer: Option<Answer>,
}

impl Flight {
    /// Takes an answer, and gives all that are next in the order of the lines.
    fn land(&mut self, answer: Answer) -> Result<Vec<(u64, Answer)>, Failure> {
        match answer.id {
            Some(id) => {
                if let Some(sent) = self.0.iter_mut().find(|sent| sent.id == id) {
                    sent.answer = Some(answer);
                }
            }
            // It does not say which line; some line it was.
            None => drop(answer.result?),
        }
        let mut landed = Vec::new();
        while let Some(Sent { answer: Some(_), .. }) = self.0.front() {
            if let Some(Sent { line, answer: Some(answer), .. }) = self.0.pop_front() {
                landed.push((line, answer));
            }
        }
        Ok(landed)
    }
}

/// How events left.
#[derive(Default)]
struct Tally {
    buffered: u64,
    dropped: u64,
    /// The last that did not go out left a connection that does not come up by itself.
    inactive: bool,
}

impl Tally {
    /// Counts one event.
    fn count(&mut self, emitted: Emitted) {
        match emitted.status {
            EmitStatus::Buffered => self.buffered += 1,
            EmitStatus::Dropped => self.dropped += 1,
            _ => return,
        }
        self.inactive = !emitted.active;
    }

    /// Prints the server's answer, or counts an event that will have none.
    fn answered(&mut self, answer: Result<Args, Error>, output: &mut Output) -> Result<(), Failure> {
        match answer {
            Ok(args) => Ok(output.json(args.json())?),
            Err(Error::Dropped { active }) => {
                self.dropped += 1;
                self.inactive = !active;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn report(&self, connection: &str) {
        if let Some(text) = self.text(connection) {
            note(text);
        }
    }

    /// What the user should know about events that have not gone out.
    fn text(&self, connection: &str) -> Option<String> {
        let events = |count: u64| {
            if count == 1 { "the event was".into() } else { format!("{count} events were") }
        };
        let (what, then) = match (self.buffered, self.dropped) {
            (0, 0) => return None,
            (0, dropped) => (format!("{} dropped", events(dropped)), ""),
            (1, 0) => ("the event was buffered".to_owned(), ", and it goes out on the next connect"),
            (buffered, 0) => {
                (format!("{buffered} events were buffered"), ", and they go out on the next connect")
            }
            (buffered, dropped) => (format!("{} buffered, {dropped} dropped", events(buffered)), ""),
        };
        Some(if self.inactive {
            format!(
                "{what}: {connection} is not connected and does not come up by itself; run 'siod connect {connection}'"
            )
        } else {
            format!("{what}: {connection} is not connected{then}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_go_out_is_told() {
        for (buffered, dropped, inactive, expected) in [
            (0, 0, false, None),
            (
                1,
                0,
                false,
                Some("the event was buffered: chat is not connected, and it goes out on the next connect"),
            ),
            (
                5,
                0,
                true,
                Some(
                    "5 events were buffered: chat is not connected and does not come up by itself; run 'siod connect chat'",
                ),
            ),
            (0, 1, false, Some("the event was dropped: chat is not connected")),
            (2, 3, false, Some("2 events were buffered, 3 dropped: chat is not connected")),
        ] {
            let tally = Tally { buffered, dropped, inactive };
            assert_eq!(tally.text("chat").as_deref(), expected);
        }
    }
}
