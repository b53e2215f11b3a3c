//! `siod reload`.

use std::path::Path;

use clap::Args;

use super::exit::{Exit, Failure};
use super::output::{self, Output};
use super::{attach, text::visible};

/// Lets the daemon read its configuration again, and prints what has changed
#[derive(Debug, Args)]
#[command(after_help = "\
Connections that are the same keep their session. A configuration that does not load changes nothing.

Examples:
  siod reload
  siod check && siod reload")]
pub(super) struct Reload {}

impl Reload {
    pub(super) async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let reloaded = attach(socket).await?.reload().await?;
        let mut out = Output::raw();
        for (names, what) in
            [(&reloaded.added, "added"), (&reloaded.removed, "removed"), (&reloaded.changed, "changed")]
        {
            for name in names {
                out.line(&visible(&format!("{name}: {what}")))?;
            }
        }
        out.flush()?;
        for key in &reloaded.needs_restart {
            output::note(format_args!("{key}: the new value takes effect with a restart"));
        }
        Ok(Exit::Done)
    }
}
