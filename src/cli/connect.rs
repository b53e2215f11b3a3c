//! `siod connect` and `siod disconnect`.

use std::path::Path;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::exit::{Exit, Failure};
use super::text::visible;
use super::values::{self, Json};
use super::{attach, output};

/// Starts a connection that is not active
#[derive(Debug, Args, Serialize)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<Json>,
    /// Wait so long until it is connected: 500ms, 5s, 2m, or milliseconds
    #[arg(long, value_name = "D", value_parser = values::milliseconds)]
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<u64>,
}

/// Disconnects a connection; it stays known and does not come back by itself
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  siod disconnect chat")]
pub(super) struct Disconnect {
    /// The connection's name
    connection: String,
}

impl Connect {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let snapshot = attach(socket).await?.call("connect", &self).await?;
        print_state(&snapshot)
    }
}

impl Disconnect {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let snapshot = attach(socket).await?.call("disconnect", &self).await?;
        print_state(&snapshot)
    }
}

/// Prints `NAME: STATE` of a snapshot.
pub(super) fn print_state(snapshot: &RawValue) -> Result<Exit, Failure> {
    #[derive(Deserialize)]
    struct Snapshot {
        name: String,
        state: String,
    }
    let Snapshot { name, state } = serde_json::from_str(snapshot.get()).map_err(Failure::Answer)?;
    output::print(&visible(&format!("{name}: {state}")))?;
    Ok(Exit::Done)
}
