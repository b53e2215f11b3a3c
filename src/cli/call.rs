//! `siod call`: any method, raw.

use std::path::Path;

use clap::Args;

use super::exit::{Exit, Failure};
use super::values::{self, Json};
use super::{attach, output};

/// Calls any method of the local API and prints its result
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  siod call list
  siod call hello '{\"client\":\"me\"}'
  siod call status '{\"connection\":\"chat\"}' | jq .connections[0].state")]
pub(super) struct Call {
    /// The method
    method: String,
    /// Its params, a JSON object
    #[arg(default_value = "{}", value_parser = values::json)]
    params: Json,
}

impl Call {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let result: Json = attach(socket).await?.call(&self.method, &self.params).await?;
        output::print_json(result.get())?;
        Ok(Exit::Done)
    }
}
