//! `siod completions`.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Arguments;
use super::exit::{Exit, Failure};

/// Prints the script that completes the command line of siod in a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  siod completions bash > ~/.local/share/bash-completion/completions/siod
  siod completions zsh > ~/.zfunc/_siod
  siod completions fish > ~/.config/fish/completions/siod.fish")]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        // Into memory first, since a writer that fails would be a panic.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "siod", &mut script);
        let mut out = std::io::stdout().lock();
        out.write_all(&script)?;
        out.flush()?;
        Ok(Exit::Done)
    }
}
