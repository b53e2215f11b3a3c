//! `siod connect` and `siod disconnect`.

use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::exit::{Exit, Failure};
use super::text::visible;
use super::values::{self, Json};
use super::{attach, output};
use crate::client::{self, Snapshot};

/// Starts a connection that is not active
#[derive(Debug, Args)]
#[command(after_help = "\
Exits 3 if --wait is given and the connection does not come about; attempts go on.

Examples:
  siod connect chat
  siod connect chat --wait 10s
  siod connect chat --auth '{\"token\":\"abc\"}'")]
pub(super) struct Connect {
    /// The connection's name
    connection: String,
    /// Who we are from now on, a JSON object
    #[arg(long, value_name = "JSON", value_parser = values::json)]
    auth: Option<Json>,
    /// Wait so long until it is connected: 500ms, 5s, 2m, or milliseconds
    #[arg(long, value_name = "D", value_parser = values::milliseconds)]
    wait: Option<u64>,
}

/// Disconnects a connection; it stays known and does not come back by itself
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  siod disconnect chat")]
pub(super) struct Disconnect {
    /// The connection's name
    connection: String,
}

impl Connect {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let mut connect = client::Connect::new(&self.connection);
        if let Some(auth) = self.auth {
            connect = connect.auth(auth);
        }
        if let Some(wait) = self.wait {
            connect = connect.wait(Duration::from_millis(wait));
        }
        print_state(&attach(socket).await?.connect(connect).await?)
    }
}

impl Disconnect {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        print_state(&attach(socket).await?.disconnect(&self.connection).await?)
    }
}

/// Prints `NAME: STATE` of a snapshot.
pub(super) fn print_state(snapshot: &Snapshot) -> Result<Exit, Failure> {
    output::print(&visible(&format!("{}: {}", snapshot.name, snapshot.state.name())))?;
    Ok(Exit::Done)
}
