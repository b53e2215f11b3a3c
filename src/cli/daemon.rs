//! The commands that are the daemon, not a client of it; and where both look for the socket.

use std::path::PathBuf;

use super::Global;
use super::exit::{Exit, Failure};

pub(super) fn run(_: &Global) -> Result<Exit, Failure> {
    Err(Failure::Usage("this build holds no daemon".into()))
}

pub(super) fn check(_: &Global) -> Result<Exit, Failure> {
    Err(Failure::Usage("this build holds no daemon".into()))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a configuration that is asked can be bad"
)]
pub(super) fn socket_path(global: &Global) -> Result<PathBuf, Failure> {
    let given = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let path = global.socket.clone().or_else(|| given("SIOD_SOCKET"));
    let path = path.or_else(|| given("XDG_RUNTIME_DIR").map(|dir| dir.join("siod.sock")));
    Ok(path.unwrap_or_else(|| PathBuf::from("/run/siod/siod.sock")))
}
