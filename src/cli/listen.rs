//! `siod listen`: notifications as they come, across restarts of the daemon.

use std::ffi::OsString;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;

use clap::Args;
use futures_util::FutureExt;

use super::exec::Jobs;
use super::exit::{Exit, Failure};
use super::output;
use super::printer::{Printer, heard};
use super::values::at_least_one;
use crate::client::{Hello, Kind, Listener, Notification, Subscribe};

/// Prints notifications as they come, or runs a program for each event
#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal the lines are short and coloured. In a pipe, and with --raw, they are the lines of the local API to the \
byte, so 'seq' tells a program whether it missed any.

When the daemon goes away, siod listen attaches again by itself. A connection it has heard of goes on exactly where it \
was: nothing is left out that the daemon still has, and nothing comes twice; what it no longer has is told on stderr. \
With a wildcard, a connection that was first opened while siod listen was away is heard from its beginning.

With --exec the program gets the event's line on its stdin, and stdout and stderr are those of siod listen. Programs are \
started in the order of the events, --jobs at once at the most; while all are busy no more is read from the daemon, \
which keeps what comes in its history. What fails is told on stderr and makes the exit code 1 in the end. SIGINT, \
SIGTERM and SIGHUP let those that run finish, and a second one ends them.

Examples:
  siod listen
  siod listen chat --event message --no-lifecycle
  siod listen 'chat*' --last 10
  siod listen chat --event done --no-lifecycle --count 1 | jq .params.args
  siod listen chat --event alarm --exec notify-send 'The door bell rings'
  siod listen chat --event job --jobs 4 --exec sh -c 'jq .params.args[0] | ./work'")]
pub(super) struct Listen {
    /// The connections: a name, or a pattern with * and ?
    #[arg(default_value = "*", hide_default_value = true)]
    pattern: String,
    /// Only these events: a name, or a pattern with * and ?; may be given several times
    #[arg(long = "event", value_name = "P")]
    events: Vec<String>,
    /// Only events, not what happens to the connection
    #[arg(long)]
    no_lifecycle: bool,
    /// First take up to N retained notifications of each connection
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// End after N events and lifecycle notifications
    #[arg(long, value_name = "N", value_parser = at_least_one::<NonZeroU64>)]
    count: Option<NonZeroU64>,
    /// Print the API's lines on a terminal too
    #[arg(long, conflicts_with = "exec")]
    raw: bool,
    /// Run a program for each event instead, with the event's line on its stdin. Takes the rest of the command line;
    /// implies --no-lifecycle
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    exec: Vec<OsString>,
    /// How many programs may run at once. With 1 the next starts when the one before has ended
    #[arg(long, value_name = "N", default_value = "1", requires = "exec",
        value_parser = at_least_one::<NonZeroUsize>)]
    jobs: NonZeroUsize,
}

impl Listen {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let mut wanted = Subscribe::to(self.pattern);
        if !self.events.is_empty() {
            wanted = wanted.events(self.events);
        }
        if self.no_lifecycle || !self.exec.is_empty() {
            wanted = wanted.without_lifecycle();
        }
        if let Some(last) = self.last {
            wanted = wanted.last(last);
        }
        let listener = Listener::new(socket, wanted);
        match Jobs::new(self.exec, self.jobs)? {
            Some(jobs) => jobs.run(introduced(listener), self.count.map(NonZeroU64::get)).await,
            None => print(listener, self.raw, self.count.map(NonZeroU64::get)).await,
        }
    }
}

/// Prints until the count is reached or nobody reads stdout any more.
pub(super) async fn print(listener: Listener, raw: bool, mut count: Option<u64>) -> Result<Exit, Failure> {
    let mut listener = introduced(listener);
    let mut printer = Printer::new(raw);
    let listening = async {
        let failed = loop {
            let news = match listener.next().now_or_never() {
                Some(news) => news,
                None => {
                    printer.flush()?;
                    listener.next().await
                }
            };
            let Ok(news) = news else { break news };
            let Some((notification, replayed)) = heard(news) else { continue };
            printer.print(&notification, replayed)?;
            if is_last(&notification, &mut count) {
                printer.flush()?;
                return Ok(Exit::Done);
            }
        };
        printer.flush()?;
        failed.map(|_| Exit::Done).map_err(Failure::from)
    };
    tokio::select! {
        result = listening => result,
        () = output::closed() => Ok(Exit::Done),
    }
}

fn introduced(listener: Listener) -> Listener {
    listener.hello(Hello::new("siod listen"))
}

/// Counts, and says whether this was the last.
pub(super) fn is_last(notification: &Notification, count: &mut Option<u64>) -> bool {
    match (count, notification.kind()) {
        (Some(left), Kind::Event | Kind::Lifecycle) => {
            *left = left.saturating_sub(1);
            *left == 0
        }
        _ => false,
    }
}
