//! The `siod` binary: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    siod::cli::run(std::env::args_os())
}
