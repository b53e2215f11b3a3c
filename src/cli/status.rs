//! `siod status`.

use std::io::{self, Write};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::exit::{Exit, Failure, where_to_look};
use super::table;
use super::text::fit;
use super::values::Json;
use super::{attach, output};
use crate::client::{self, Client};

/// How often --watch looks.
const PERIOD: Duration = Duration::from_secs(1);

/// How long an answer may take before something is said of it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Shows connections, and for whoever may control the daemon its consumers
#[derive(Debug, Args)]
#[command(after_help = "\
Exits 0 if every connection is connected, 3 if one is not. IN and OUT count events received and sent, WAIT events that \
wait to be sent.

Examples:
  siod status
  siod status --watch
  siod status --json | jq '.connections[] | {name, state}'")]
pub(super) struct Status {
    /// Print the daemon's answer as it is, one line of JSON
    #[arg(long)]
    json: bool,
    /// Show it anew every second, until interrupted
    #[arg(long)]
    watch: bool,
}

impl Status {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        if self.watch {
            return tokio::select! {
                result = self.watch(socket) => result,
                () = output::closed() => Ok(Exit::Done),
            };
        }
        let mut client = Some(attach(socket).await?);
        let slow = || {
            output::note(format_args!("no answer from {} yet; {}", socket.display(), where_to_look(socket)));
        };
        let result = patiently(look(&mut client, socket), slow).await?;
        let status = read(&result)?;
        if self.json {
            output::print_json(result.get())?;
        } else {
            output::print(table::render(&status, Timestamp::now(), output::size().0).trim_end())?;
        }
        let all_connected = status.connections.iter().all(|connection| connection.connected);
        Ok(if all_connected { Exit::Done } else { Exit::NotConnected })
    }

    async fn watch(&self, socket: &Path) -> Result<Exit, Failure> {
        let mut client = Some(attach(socket).await?);
        let mut clock = tokio::time::interval(PERIOD);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            match look(&mut client, socket).await {
                Ok(result) if self.json => output::print_json(result.get())?,
                Ok(result) => show(&table::render(&read(&result)?, Timestamp::now(), output::size().0))?,
                // It may be back the next time.
                Err(failure @ (Failure::NoDaemon { .. } | Failure::Lost(_))) if !self.json => {
                    client = None;
                    show(&format!("siod: {failure}\n"))?;
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

#[derive(Serialize)]
struct Params {}

async fn look(client: &mut Option<Client>, socket: &Path) -> Result<Json, Failure> {
    let mut attached = match client.take() {
        Some(client) => client,
        None => attach(socket).await?,
    };
    let result = attached.call("status", Params {}).await?;
    *client = Some(attached);
    Ok(result)
}

/// Waits for an answer, and tells when it takes longer than a daemon that runs needs: a service manager takes programs for
/// one that does not get ready.
async fn patiently<T>(answer: impl Future<Output = T>, slow: impl FnOnce()) -> T {
    let mut answer = pin!(answer);
    if let Ok(answer) = tokio::time::timeout(PATIENCE, &mut answer).await {
        return answer;
    }
    slow();
    answer.await
}

/// Draws over what was drawn before, where there is a screen; else one after the other.
fn show(text: &str) -> io::Result<()> {
    if !output::is_terminal() {
        return output::print(text);
    }
    let (columns, rows) = output::size();
    let mut screen = String::from("\x1b[H");
    for line in text.lines().take(rows.saturating_sub(1)) {
        // To the end of the line, and of the screen below, nothing of the last picture stays.
        screen += &fit(line, columns);
        screen += "\x1b[K\n";
    }
    screen += "\x1b[J";
    let mut stdout = io::stdout().lock();
    stdout.write_all(screen.as_bytes())?;
    stdout.flush()
}

fn read(result: &Json) -> Result<client::Status, Failure> {
    serde_json::from_str(result.get()).map_err(Failure::Answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_gets_no_answer_is_told_where_to_look() {
        for (takes, is_told) in [(0, false), (2, false), (4, true), (3600, true)] {
            let mut told = false;
            let answer = tokio::time::sleep(Duration::from_secs(takes));
            patiently(answer, || told = true).await;
            assert_eq!(told, is_told, "after {takes} s");
        }
    }
}
