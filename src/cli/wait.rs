//! `siod wait`: until a connection is up, or an event comes.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep_until};

use super::exit::{Exit, Failure};
use super::output::{self, note};
use super::printer::{Printer, heard};
use super::values;
use crate::client::{Client, ErrorKind, Hello, Kind, Listener, News, Snapshot, Subscribe};

/// How long the daemon may take to say how the connection stands, however short the time for the rest is.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// How long a connection that was closed may take to be there again: a reload closes all that it changes before it opens
/// the first of them.
const REOPENED: Duration = Duration::from_secs(1);

/// Waits until a connection is up, or for an event
#[derive(Debug, Args)]
#[command(after_help = "\
Without --event it prints nothing and ends when the connection is ready: joined, and its login script gone through where \
it has one. With --event it prints the first event that matches and comes from now on, as 'siod listen' does.

Exits 3 when the time is over, and at once when the connection is down and does not come up by itself: after a refusal, \
a disconnect or its end (unless it is opened again within a second), or before its first 'siod connect'. A connection that the daemon does not know is an error \
(exit 1). When the daemon goes away meanwhile, siod wait attaches again and waits on, for the connection too.

Examples:
  siod wait chat && siod emit chat say hello
  siod wait chat --timeout 10s || systemctl restart chat-server
  siod wait chat --event done --timeout 5m
  siod wait chat --timeout 0    # is it up?")]
pub(super) struct Wait {
    /// The connection's name
    connection: String,
    /// Wait for such an event: a name, or a pattern with * and ?; may be given several times
    #[arg(long = "event", value_name = "P")]
    events: Vec<String>,
    /// How long: 500ms, 5s, 2m, or milliseconds; 0 only looks [default: as long as it takes]
    #[arg(long, value_name = "D", value_parser = values::milliseconds)]
    timeout: Option<u64>,
}

/// How a connection stands, for somebody who waits.
enum Standing {
    Up,
    Coming,
    /// It will not come up by itself.
    Down,
    /// The daemon does not know it, or not at this moment.
    Unknown,
}

impl Wait {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        if self.connection.contains(['*', '?']) {
            let message = "wait takes one connection by its name, not a pattern";
            return Err(Failure::Usage(message.to_owned()));
        }
        let begun = Instant::now();
        let deadline = self.timeout.map(|timeout| begun + Duration::from_millis(timeout));
        let told = Cell::new(false);
        let time = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
            if !told.get() {
                sleep_until(begun + FIRST_WORD).await;
            }
        };
        let reader = async {
            if self.events.is_empty() {
                // Nothing will be printed.
                std::future::pending::<()>().await;
            }
            output::closed().await;
        };
        tokio::select! {
            biased;
            exit = self.wait(socket, deadline, &told) => exit,
            () = reader => Ok(Exit::Done),
            () = time => Ok(self.in_vain()),
        }
    }

    async fn wait(
        &self,
        socket: &Path,
        deadline: Option<Instant>,
        told: &Cell<bool>,
    ) -> Result<Exit, Failure> {
        let wanted = Subscribe::to(&self.connection).events(&self.events);
        let mut listener = Listener::new(socket, wanted).hello(Hello::new("siod wait"));
        // Until when it may be opened again.
        let mut reopening = None;
        loop {
            let gone = async {
                match reopening {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let news = tokio::select! {
                biased;
                news = listener.next() => news?,
                () = gone => return Ok(self.gone()),
            };
            let standing = match news {
                News::Attached { connections, again } => {
                    told.set(true);
                    heard(News::Attached { connections: Vec::new(), again });
                    let found = connections.iter().find(|snapshot| snapshot.name == self.connection);
                    found.map(Standing::of)
                }
                News::Away(why) => {
                    // It is the next daemon's then to open it, however long that takes.
                    reopening = None;
                    heard(News::Away(why));
                    None
                }
                other => match heard(other) {
                    Some((notification, _)) if notification.kind() == Kind::Event => {
                        let mut printer = Printer::new(false);
                        printer.print(&notification, false)?;
                        printer.flush()?;
                        return Ok(Exit::Done);
                    }
                    // Whether a script is still to go through, or somebody opens it again, only a snapshot says.
                    Some((notification, _)) if notification.kind() == Kind::Lifecycle => {
                        self.look(socket).await
                    }
                    Some(_) | None => None,
                },
            };
            match standing {
                Some(Standing::Unknown) => {
                    reopening.get_or_insert_with(|| Instant::now() + REOPENED);
                }
                Some(_) => reopening = None,
                None => {}
            }
            match standing {
                Some(Standing::Up) if self.events.is_empty() => return Ok(Exit::Done),
                Some(Standing::Down) => return Ok(self.down()),
                Some(Standing::Up | Standing::Coming | Standing::Unknown) | None => {}
            }
            if told.get() && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(self.in_vain());
            }
        }
    }

    /// How it stands now; none where the daemon does not say, which the listener will hear of too.
    async fn look(&self, socket: &Path) -> Option<Standing> {
        let mut client = Client::attach(socket).await.ok()?;
        match client.status_of(&self.connection).await {
            Ok(status) => status.connections.first().map(Standing::of),
            Err(error) if error.kind() == Some(ErrorKind::UnknownConnection) => Some(Standing::Unknown),
            Err(_) => None,
        }
    }

    fn in_vain(&self) -> Exit {
        let name = &self.connection;
        let what = if self.events.is_empty() { "not connected" } else { "no such event" };
        match self.timeout {
            None | Some(0) => note(format_args!("{name}: {what}")),
            Some(time) => note(format_args!("{name}: {what} within {:?}", Duration::from_millis(time))),
        }
        Exit::NotConnected
    }

    fn gone(&self) -> Exit {
        note(format_args!("{}: there is no such connection any more", self.connection));
        Exit::NotConnected
    }

    fn down(&self) -> Exit {
        let name = &self.connection;
        note(format_args!(
            "{name}: not connected, and it does not come up by itself; run 'siod connect {name}'"
        ));
        Exit::NotConnected
    }
}

impl Standing {
    fn of(snapshot: &Snapshot) -> Self {
        match (snapshot.ready, snapshot.active) {
            (true, _) => Self::Up,
            (false, true) => Self::Coming,
            (false, false) => Self::Down,
        }
    }
}
