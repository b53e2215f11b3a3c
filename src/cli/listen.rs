//! `siod listen`: notifications as they come, across restarts of the daemon.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::exit::{Exit, Failure};
use super::output::{self, Output, note};
use super::pretty;
use super::resume::{Position, Positions, Subscribed};
use super::values::Object;
use crate::client::{Answer, Client, Incoming, Kind, Lost, Notification, Refusal, RequestId};

/// The first and the longest wait before attaching again.
const DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Prints notifications as they come
#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal the lines are short and coloured. In a pipe, and with --raw, they are the lines of the local API to the \
byte, so 'seq' tells a program whether it missed any.

When the daemon goes away, siod listen attaches again by itself. A connection it has heard of goes on exactly where it \
was: nothing is left out that the daemon still has, and nothing comes twice; what it no longer has is told on stderr. \
A restarted daemon gives all that it has retained since its start. With a wildcard, a connection that was first opened \
while siod listen was away is heard from then on.

Examples:
  siod listen
  siod listen chat --event message --no-lifecycle
  siod listen 'chat*' --last 10
  siod listen chat --event done --no-lifecycle --count 1 | jq .params.args")]
pub(super) struct Listen {
    /// The connections: a name, or a pattern with * and ?
    #[arg(default_value = "*", hide_default_value = true)]
    pattern: String,
    #[command(flatten)]
    filter: Filter,
    /// First print up to N retained notifications of each connection
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// End after N events and lifecycle notifications
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print the API's lines on a terminal too
    #[arg(long)]
    raw: bool,
}

#[derive(Debug, Default, Args)]
struct Filter {
    /// Only these events: a name, or a pattern with * and ?; may be given several times
    #[arg(long = "event", value_name = "P")]
    events: Vec<String>,
    /// Only events, not what happens to the connection
    #[arg(long)]
    no_lifecycle: bool,
}

impl Listen {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let mut listening = Listening::new(socket, self.pattern, self.raw);
        listening.filter = self.filter;
        listening.last = self.last;
        listening.left = self.count;
        listening.run().await
    }
}

/// One run of listening, over as many attachments as it takes.
pub(super) struct Listening {
    socket: PathBuf,
    pattern: String,
    filter: Filter,
    last: Option<u64>,
    /// How many more notifications to print; absent: no end.
    left: Option<u64>,
    /// The params of `open`, where every attachment has to open its connection first.
    open: Option<Object>,
    positions: Positions,
    /// The run of the daemon that we are attached to.
    stream: String,
    printer: Printer,
    /// The subscription has stood at least once.
    begun: bool,
    /// It stood, and does not now.
    away: bool,
    delay: Duration,
}

/// How one attachment ended.
enum End {
    Counted,
    Lost(Lost),
    Refused(Refusal),
}

/// A request that is on its way.
enum Asked {
    Hello,
    /// Go on with this connection where we were. `only`: nothing else is listened to.
    Resume {
        name: String,
        only: bool,
    },
    /// Everything that matches, from now on or with the last few.
    Start,
}

impl Listening {
    fn new(socket: &Path, pattern: String, raw: bool) -> Self {
        Self {
            socket: socket.to_owned(),
            pattern,
            filter: Filter::default(),
            last: None,
            left: None,
            open: None,
            positions: Positions::default(),
            stream: String::new(),
            printer: Printer::new(raw),
            begun: false,
            away: false,
            delay: DELAY.0,
        }
    }

    /// Opens the connection `name` and listens to it, for as long as it listens.
    pub(super) fn opened(socket: &Path, name: String, params: Object) -> Self {
        Self { open: Some(params), ..Self::new(socket, name, false) }
    }

    /// Listens until the count is reached or nobody reads stdout any more.
    pub(super) async fn run(mut self) -> Result<Exit, Failure> {
        tokio::select! {
            result = self.listen() => result,
            () = output::closed() => Ok(Exit::Done),
        }
    }

    async fn listen(&mut self) -> Result<Exit, Failure> {
        loop {
            match Client::connect(&self.socket).await {
                Ok(mut client) => match self.attend(&mut client).await? {
                    End::Counted => return Ok(Exit::Done),
                    End::Refused(refusal) if self.begun && passes(&refusal) => self.leave(&refusal),
                    End::Refused(refusal) => return Err(refusal.into()),
                    End::Lost(lost) if self.begun && !is_final(&lost) => self.leave(&lost),
                    End::Lost(lost) => return Err(lost.into()),
                },
                Err(_) if self.begun => {}
                Err(source) => {
                    return Err(Failure::NoDaemon { socket: self.socket.clone(), source });
                }
            }
            tokio::time::sleep(self.delay).await;
            self.delay = (self.delay * 2).min(DELAY.1);
        }
    }

    fn leave(&mut self, why: &dyn std::fmt::Display) {
        if !self.away {
            note(format_args!("{why}; attaching again"));
        }
        self.away = true;
    }

    /// One attachment, from its first request to its end.
    async fn attend(&mut self, client: &mut Client) -> Result<End, Failure> {
        let mut asked = HashMap::new();
        self.printer.replaying = 0;
        asked.insert(
            client.request("hello", Hello { client: "siod listen" }).map_err(Failure::Answer)?,
            Asked::Hello,
        );
        match self.open(client).await {
            Ok(()) => {}
            Err(Failure::Refused(refusal)) => return Ok(End::Refused(refusal)),
            Err(Failure::Lost(lost)) => return Ok(End::Lost(lost)),
            Err(other) => return Err(other),
        }
        self.subscribe(client, &mut asked)?;
        loop {
            if !client.has_next() {
                self.printer.output.flush()?;
            }
            match client.next().await {
                Ok(Incoming::Answer(Answer { id, result })) => {
                    let asked = id.and_then(|id| asked.remove(&id)).unwrap_or(Asked::Start);
                    match result {
                        Ok(result) if !matches!(asked, Asked::Hello) => {
                            self.subscribed(
                                asked,
                                serde_json::from_str(result.get()).map_err(Failure::Answer)?,
                            );
                        }
                        Err(refusal) => match asked {
                            Asked::Resume { name, only: false } => self.positions.forget(&name),
                            Asked::Resume { .. } | Asked::Start => return Ok(End::Refused(refusal)),
                            Asked::Hello => {}
                        },
                        Ok(_) => {}
                    }
                }
                Ok(Incoming::Notification(notification)) => {
                    if self.print(&notification)? {
                        return Ok(End::Counted);
                    }
                }
                Err(lost) => {
                    self.printer.output.flush()?;
                    return Ok(End::Lost(lost));
                }
            }
        }
    }

    /// Opens the connection, where that is ours to do, and remembers from where it is to be heard.
    async fn open(&mut self, client: &mut Client) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Opened {
            created: bool,
            connection: Snapshot,
        }
        #[derive(Deserialize)]
        struct Snapshot {
            seq: u64,
            oldest_seq: u64,
            stream: String,
        }
        let Some(params) = &self.open else { return Ok(()) };
        let result = client.call("open", params).await?;
        let Opened { created, connection } = serde_json::from_str(result.get()).map_err(Failure::Answer)?;
        if self.positions.of(&self.pattern).is_none() {
            // All that the ring of a new connection holds is about this opening.
            let seq = if created { connection.oldest_seq.saturating_sub(1) } else { connection.seq };
            self.positions.set(&self.pattern, Position { stream: connection.stream, seq });
        }
        Ok(())
    }

    /// Asks for everything known from where it was, then for the rest. In this order nothing live comes twice: a new
    /// subscription replays what another one has had, but a live notification is written once.
    fn subscribe(&self, client: &mut Client, asked: &mut HashMap<RequestId, Asked>) -> Result<(), Failure> {
        let plain = !self.pattern.contains(['*', '?', '[', ']']);
        for name in self.positions.names() {
            let params = self.subscription(&name, None, self.positions.of(&name));
            let id = client.request("subscribe", params).map_err(Failure::Answer)?;
            asked.insert(id, Asked::Resume { name, only: plain });
        }
        if !plain || self.positions.of(&self.pattern).is_none() {
            let last = if self.begun { None } else { self.last };
            let params = self.subscription(&self.pattern, last, None);
            asked.insert(client.request("subscribe", params).map_err(Failure::Answer)?, Asked::Start);
        }
        Ok(())
    }

    fn subscription<'a>(
        &'a self,
        connection: &'a str,
        last: Option<u64>,
        after: Option<&'a Position>,
    ) -> Subscription<'a> {
        let events = Some(self.filter.events.as_slice()).filter(|events| !events.is_empty());
        Subscription { connection, events, lifecycle: self.filter.no_lifecycle.then_some(false), last, after }
    }

    fn subscribed(&mut self, asked: Asked, answer: Subscribed) {
        self.stream.clone_from(&answer.stream);
        self.printer.replaying += answer.replayed;
        let main = match asked {
            Asked::Resume { name, only } => {
                if let Some(missed) = answer.missed.filter(|&missed| missed > 0) {
                    note(format_args!("{name}: up to {missed} notifications were lost meanwhile"));
                }
                self.positions.resumed(answer);
                only
            }
            Asked::Start | Asked::Hello => {
                self.positions.started(answer);
                true
            }
        };
        if main {
            if self.away {
                note("attached again");
            }
            (self.begun, self.away, self.delay) = (true, false, DELAY.0);
        }
    }

    /// Prints, and says whether it was the last.
    fn print(&mut self, notification: &Notification) -> io::Result<bool> {
        self.printer.print(notification)?;
        self.positions.heard(notification, &self.stream);
        if let (Some(left), Kind::Event | Kind::Lifecycle) = (&mut self.left, notification.kind()) {
            *left -= 1;
            if *left == 0 {
                self.printer.output.flush()?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a refusal may be another one a little later, while a restarted daemon is still being set up.
fn passes(refusal: &Refusal) -> bool {
    matches!(refusal.kind().as_str(), "unknown_connection" | "shutting_down")
}

/// Whether attaching again would end the same way.
fn is_final(lost: &Lost) -> bool {
    match lost {
        Lost::Goodbye(reason) => reason == "forbidden" || reason == "protocol_error",
        Lost::Protocol(_) => true,
        Lost::Closed | Lost::Io(_) => false,
    }
}

#[derive(Serialize)]
struct Hello {
    client: &'static str,
}

#[derive(Serialize)]
struct Subscription<'a> {
    connection: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifecycle: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a Position>,
}

/// Lines for programs or for people.
struct Printer {
    output: Output,
    /// The zone in which people read times; absent: lines for programs.
    zone: Option<TimeZone>,
    /// Replayed notifications still to come.
    replaying: u64,
}

impl Printer {
    fn new(raw: bool) -> Self {
        if raw || !output::is_terminal() {
            Self { output: Output::raw(), zone: None, replaying: 0 }
        } else {
            Self { output: Output::styled(), zone: Some(TimeZone::system()), replaying: 0 }
        }
    }

    fn print(&mut self, notification: &Notification) -> io::Result<()> {
        let Some(zone) = &self.zone else {
            return self.output.line(notification.line());
        };
        let now = if self.replaying > 0 { None } else { Some(Timestamp::now()) };
        self.replaying = self.replaying.saturating_sub(1);
        self.output.line(&pretty::render(notification, now, zone, output::size().0))
    }
}
