//! `siod open` and `siod close`.

use std::path::Path;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::connect::print_state;
use super::exit::{Exit, Failure};
use super::listen::Listening;
use super::values::{self, Json, Object, Setting};
use super::{attach, output};

/// Adds a connection that the configuration does not have
#[derive(Debug, Args)]
#[command(after_help = "\
Without --listen the connection lasts until 'siod close' or the daemon's end; with it, as long as this process \
listens. Opening a connection that exists with the same URL and options shares it.

Examples:
  siod open chat https://chat.example.com/room
  siod open chat https://chat.example.com --auth '{\"token\":\"abc\"}' --listen
  siod open lab https://localhost:3000 --set tls.insecure=true --set 'transports=[\"polling\"]'")]
pub(super) struct Open {
    /// The new connection's name
    name: String,
    /// Where to connect; its path is the namespace, as in io(url)
    url: String,
    /// Who we are, a JSON object
    #[arg(long, value_name = "JSON", value_parser = values::json)]
    auth: Option<Json>,
    /// Any option of a connection in the configuration; may be given several times. KEY may be dotted, VALUE is JSON
    /// where it parses and else a string
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = values::setting)]
    set: Vec<Setting>,
    /// Print its notifications, like 'siod listen NAME', and keep it only so long
    #[arg(long)]
    listen: bool,
}

/// Disconnects a connection and forgets it
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
A connection of the configuration comes back when the daemon reads it again.

Examples:
  siod close chat")]
pub(super) struct Close {
    /// The connection's name
    #[serde(rename = "connection")]
    name: String,
}

/// What the daemon answers to `open`.
#[derive(Deserialize)]
struct Opened {
    connection: Box<RawValue>,
}

impl Open {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let (name, listen) = (self.name.clone(), self.listen);
        let params = self.params()?;
        if listen {
            return Listening::opened(socket, name, params).run().await;
        }
        let result = attach(socket).await?.call("open", &params).await?;
        let Opened { connection } = serde_json::from_str(result.get()).map_err(Failure::Answer)?;
        print_state(&connection)
    }

    fn params(self) -> Result<Object, Failure> {
        let mut params = Object::default();
        for setting in self.set {
            params.set(setting).map_err(|error| Failure::Usage(format!("--set {error}")))?;
        }
        for (key, instead) in [
            ("name", "give it as NAME"),
            ("url", "give it as URL"),
            ("auth", "use --auth"),
            ("persist", "it follows from --listen"),
        ] {
            if params.contains(key) {
                return Err(Failure::Usage(format!("--set {key}: {instead}")));
            }
        }
        let string = |text: &str| to_raw_value(text).map_err(Failure::Answer);
        params = params.with("name", string(&self.name)?).with("url", string(&self.url)?);
        if let Some(auth) = self.auth {
            params = params.with("auth", auth);
        }
        if !self.listen {
            params = params.with("persist", RawValue::TRUE.to_owned());
        }
        Ok(params)
    }
}

impl Close {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        attach(socket).await?.call("close", &self).await?;
        output::print(&super::text::visible(&format!("{}: closed", self.name)))?;
        Ok(Exit::Done)
    }
}
