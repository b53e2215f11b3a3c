//! The command line: arguments, and one file per command.
//!
//! Every command but `run`, `check`, `doctor`, `schema`, `completions` and `man` is a client of the socket like any other program;
//! nothing here can do what the local API cannot. What goes to stdout is for programs unless stdout is a terminal; notes and errors go to stderr.

mod call;
mod completions;
mod connect;
mod daemon;
mod doctor;
mod emit;
mod exec;
mod exit;
mod listen;
mod man;
mod open;
mod output;
mod pretty;
mod printer;
mod reload;
mod schema;
mod status;
mod table;
mod text;
mod values;
mod wait;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::client::Client;
use exit::{Exit, Failure};

/// Runs one command line, the program's name first, to its end. `give_memory_back` has the allocator give the system
/// what it keeps and nobody uses; the daemon calls it now and then.
///
/// Blocks the thread; starts a runtime of its own.
pub fn run(args: impl IntoIterator<Item = OsString>, give_memory_back: fn()) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Whoever closed the stream does not want to read it.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    match arguments.command.run(&arguments.global, give_memory_back) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report().into(),
    }
}

const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  the daemon answered with an error, or could not start; a program of --exec failed
   2  usage, also JSON that does not parse
   3  not connected, or 'siod wait' in vain
  69  no daemon at the socket
  78  bad configuration";

/// Holds Socket.IO client connections and shares them with local programs.
#[derive(Debug, Parser)]
#[command(name = "siod", version, after_help = EXIT_CODES, disable_help_subcommand = true, subcommand_value_name = "COMMAND", max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command, before or after its name.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// The daemon's socket [default: `$SIOD_SOCKET`, else `api.socket` of the configuration, else
    /// `$XDG_RUNTIME_DIR/siod.sock`, else `/run/siod/siod.sock`]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A configuration file; may be given several times, later ones win
    #[arg(long, global = true, value_name = "FILE")]
    config: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon in the foreground
    #[command(after_help = daemon::RUN)]
    Run,
    /// Validates the configuration and prints what is in effect, secrets masked
    #[command(after_help = daemon::CHECK)]
    Check,
    Doctor(doctor::Doctor),
    Schema(schema::Schema),
    Completions(completions::Completions),
    /// Prints the manual page, with all commands on it
    #[command(after_help = man::EXAMPLES)]
    Man,
    #[command(flatten)]
    Client(ClientCommand),
}

#[derive(Debug, Subcommand)]
enum ClientCommand {
    Status(status::Status),
    Listen(listen::Listen),
    Wait(wait::Wait),
    Emit(emit::Emit),
    Connect(connect::Connect),
    Disconnect(connect::Disconnect),
    Open(open::Open),
    Close(open::Close),
    Call(call::Call),
    Reload(reload::Reload),
}

impl Command {
    fn run(self, global: &Global, give_memory_back: fn()) -> Result<Exit, Failure> {
        match self {
            Self::Run => daemon::run(global, give_memory_back),
            Self::Check => daemon::check(global),
            Self::Doctor(command) => {
                daemon::keep_memory_private();
                block_on(command.run(global))
            }
            Self::Schema(command) => command.run(),
            Self::Completions(command) => command.run(),
            Self::Man => man::run(),
            Self::Client(command) => {
                let socket = daemon::socket_path(global)?;
                block_on(command.run(&socket))
            }
        }
    }
}

fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::Runtime)?;
    let ended = runtime.block_on(command);
    // A look-up that still hangs must not keep the process.
    runtime.shutdown_background();
    ended
}

impl ClientCommand {
    async fn run(self, socket: &Path) -> Result<Exit, Failure> {
        match self {
            Self::Status(command) => command.run(socket).await,
            Self::Listen(command) => command.run(socket).await,
            Self::Wait(command) => command.run(socket).await,
            Self::Emit(command) => command.run(socket).await,
            Self::Connect(command) => command.run(socket).await,
            Self::Disconnect(command) => command.run(socket).await,
            Self::Open(command) => command.run(socket).await,
            Self::Close(command) => command.run(socket).await,
            Self::Call(command) => command.run(socket).await,
            Self::Reload(command) => command.run(socket).await,
        }
    }
}

async fn attach(socket: &Path) -> Result<Client, Failure> {
    Ok(Client::attach(socket).await?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_options_go_anywhere() {
        for line in ["siod --socket s --config c status", "siod status --socket s --config c"] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(arguments.global.socket.as_deref(), Some(Path::new("s")), "{line}");
            assert_eq!(arguments.global.config, [Path::new("c")], "{line}");
        }
    }

    #[test]
    fn every_command_shows_examples_that_are_right() {
        for command in Arguments::command().get_subcommands() {
            let name = command.get_name();
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let (_, examples) = after.split_once("Examples:\n").unwrap_or_else(|| panic!("{name} has none"));
            assert!(examples.contains(&format!("siod {name}")), "{name}: {examples}");
            for line in examples.lines() {
                let words = siod_of(line);
                if words.first().is_some_and(|first| first == "siod") {
                    Arguments::try_parse_from(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
                }
            }
        }
    }

    /// The words of the first command of siod in a line of a shell.
    fn siod_of(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for character in line.trim().chars().chain([' ']) {
            match character {
                '\'' => quoted = !quoted,
                ' ' if !quoted => {
                    if !word.is_empty() {
                        words.push(std::mem::take(&mut word));
                    }
                }
                other => word.push(other),
            }
        }
        let start = words.iter().position(|word| word == "siod").unwrap_or(words.len());
        let words = words.split_off(start);
        words
            .into_iter()
            .take_while(|word| !["|", "||", "&&", ">", "&", "#"].contains(&word.as_str()))
            .collect()
    }
}
