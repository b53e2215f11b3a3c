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
mod exit;
mod listen;
mod man;
mod open;
mod output;
mod pretty;
mod reload;
mod resume;
mod schema;
mod status;
mod table;
mod text;
mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::client::Client;
use exit::{Exit, Failure};

/// Runs one command line, the program's name first, to its end.
///
/// Blocks the thread; starts a runtime of its own.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Whoever closed the stream does not want to read it.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    match arguments.command.run(&arguments.global) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report().into(),
    }
}

const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  the daemon answered with an error, or could not start
   2  usage, also JSON that does not parse
   3  not connected
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
    Run,
    /// Validates the configuration and prints what is in effect, secrets masked
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
    Emit(emit::Emit),
    Connect(connect::Connect),
    Disconnect(connect::Disconnect),
    Open(open::Open),
    Close(open::Close),
    Call(call::Call),
    Reload(reload::Reload),
}

impl Command {
    fn run(self, global: &Global) -> Result<Exit, Failure> {
        match self {
            Self::Run => daemon::run(global),
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
    Client::connect(socket).await.map_err(|source| Failure::NoDaemon { socket: socket.to_owned(), source })
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
    fn every_client_command_shows_examples() {
        for command in Arguments::command().get_subcommands() {
            if !matches!(command.get_name(), "run" | "check") {
                let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.contains("Examples:\n  siod "), "{}", command.get_name());
            }
        }
    }
}
