//! `siod open` and `siod close`.

use std::path::Path;

use clap::Args;

use super::connect::print_state;
use super::exit::{Exit, Failure};
use super::values::{self, Json, Object, Setting};
use super::{attach, listen, output};
use crate::client::{self, Listener, Subscribe};

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
#[derive(Debug, Args)]
#[command(after_help = "\
A connection of the configuration comes back when the daemon reads it again.

Examples:
  siod close chat")]
pub(super) struct Close {
    /// The connection's name
    name: String,
}

impl Open {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let listen = self.listen;
        let open = self.params()?;
        if listen {
            let wanted = Subscribe::to(open.name());
            return listen::print(Listener::new(socket, wanted).open(open), false, None).await;
        }
        print_state(&attach(socket).await?.open(open.persist()).await?.connection)
    }

    fn params(self) -> Result<client::Open, Failure> {
        let mut options = Object::default();
        for setting in self.set {
            options.set(setting).map_err(|error| Failure::Usage(format!("--set {error}")))?;
        }
        for (key, instead) in [
            ("name", "give it as NAME"),
            ("url", "give it as URL"),
            ("auth", "use --auth"),
            ("persist", "it follows from --listen"),
        ] {
            if options.contains(key) {
                return Err(Failure::Usage(format!("--set {key}: {instead}")));
            }
        }
        let mut open = client::Open::new(&self.name, &self.url);
        for (key, value) in options.members() {
            open = open.option(key, value);
        }
        Ok(match self.auth {
            Some(auth) => open.auth(auth),
            None => open,
        })
    }
}

impl Close {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        attach(socket).await?.close(&self.name).await?;
        output::print(&super::text::visible(&format!("{}: closed", self.name)))?;
        Ok(Exit::Done)
    }
}
