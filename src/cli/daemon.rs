//! The commands that are the daemon, not a client of it; and where both look for the socket.

use std::io::Write;
use std::path::PathBuf;

use super::Global;
use super::exit::{Exit, Failure};
use crate::service::config::{self, Sources};
use crate::service::environment::Environment;
use crate::service::reload::Origin;
use crate::service::signals::EarlyHangup;
use crate::service::{self, Ended};

pub(super) const RUN: &str = "\
SIGTERM and SIGINT end it in order, a second one at once; SIGHUP and 'siod reload' let it read its configuration again. \
Without --config that is /etc/siod/siod.toml for root and ~/.config/siod/siod.toml for others, with the files of conf.d \
beside it.

Examples:
  siod run
  siod run --config ./siod.toml --socket ./siod.sock
  SIOD__LOG__LEVEL=debug siod run";

pub(super) const CHECK: &str = "\
Exits 78 if something is wrong, and names every mistake with its place.

Examples:
  siod check
  siod check --config ./siod.toml
  siod check && siod reload";

pub(super) fn run(global: &Global, give_memory_back: fn()) -> Result<Exit, Failure> {
    keep_memory_private();
    let early = EarlyHangup::new().map_err(service::Error::System)?;
    let origin = Origin { sources: sources(global), environment: Environment::of_process() };
    let config = origin.load().map_err(|error| Failure::Config(error.to_string()))?;
    match service::run(config, origin, &early, give_memory_back)? {
        Ended::Orderly => Ok(Exit::Done),
        // Whoever asked twice does not wait for what is still being written.
        Ended::AtOnce(signal) => std::process::exit(signal.exit_code().into()),
    }
}

/// Says so where that cannot be done; that is no reason to do without a daemon.
pub(super) fn keep_memory_private() {
    if let Err(error) = service::keep_memory_private() {
        super::output::note(format_args!("the memory of this process cannot be kept private: {error}"));
    }
}

pub(super) fn check(global: &Global) -> Result<Exit, Failure> {
    keep_memory_private();
    let config = load(global)?;
    for warning in config.warnings() {
        super::output::note(&warning);
    }
    let mut out = std::io::stdout().lock();
    out.write_all(config.effective().as_bytes())?;
    out.flush()?;
    Ok(Exit::Done)
}

pub(super) fn socket_path(global: &Global) -> Result<PathBuf, Failure> {
    let found = config::socket_path(&sources(global), &Environment::of_process());
    found.map_err(|error| Failure::Config(error.to_string()))
}

pub(super) fn load(global: &Global) -> Result<config::Config, Failure> {
    let loaded = config::load(&sources(global), &Environment::of_process());
    loaded.map_err(|error| Failure::Config(error.to_string()))
}

fn sources(global: &Global) -> Sources {
    Sources { files: global.config.clone(), socket: global.socket.clone() }
}
