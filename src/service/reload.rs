//! Reading the configuration again while the daemon runs: on SIGHUP, and when a program asks for it.
//!
//! One reload follows the other. One that does not load changes nothing; what cannot change without a restart is named in
//! the log and in the answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::config::{self, Config, ConfigError, Sources};
use super::environment::Environment;
use super::layers::shown;
use super::systemd::{self, Teller, Word};
use super::telemetry::Level;
use super::{api_settings, hub_settings};
use crate::api::reload::{Outcome, Reloaded, Request};
use crate::api::server::Server;
use crate::hub::{self, Hub};

/// How long it may take to read a configuration, and to look its users and groups up.
const LOADING: Duration = Duration::from_secs(10);

/// Where a configuration comes from: it can be read from there as often as wanted.
#[derive(Clone)]
pub struct Origin {
    /// Files and flags.
    pub sources: Sources,
    /// Variables.
    pub environment: Environment,
}

impl Origin {
    /// Reads and checks it.
    pub fn load(&self) -> Result<Config, ConfigError> {
        config::load(&self.sources, &self.environment)
    }
}

/// What a daemon needs whose configuration can change.
pub(super) struct Reload {
    /// Where to read.
    pub(super) origin: Origin,
    /// Notified when it is to be read.
    pub(super) hangups: Arc<Notify>,
    /// How much is logged.
    pub(super) level: Level,
    /// How it is read.
    pub(super) reading: Reading,
}

/// Reads in a thread that may wait. One that waits longer than we do keeps its thread, and others need theirs: until it
/// ends nothing more is read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    hangs: Mutex<Option<AbortHandle>>,
}

impl Reading {
    async fn read<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let who = "a file of it, or the system's database of users and groups, does not answer";
        if self.hangs().as_ref().is_some_and(|hangs| !hangs.is_finished()) {
            return Err(format!("it is still being read for the reload before; {who}"));
        }
        let reading = tokio::task::spawn_blocking(read);
        let hangs = reading.abort_handle();
        match tokio::time::timeout(LOADING, reading).await {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(_) => {
                *self.hangs() = Some(hangs);
                Err(format!("it was not read within {} s; {who}", LOADING.as_secs()))
            }
        }
    }

    fn hangs(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.hangs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reloads when asked to, until `stop`. `started` is what the daemon was started with.
pub(super) async fn serve(
    reload: Option<Reload>,
    started: Config,
    hub: &Hub,
    server: &Server,
    teller: &Teller,
    mut requests: mpsc::Receiver<Request>,
    stop: &CancellationToken,
) {
    let hangup = async || match &reload {
        Some(reload) => reload.hangups.notified().await,
        None => std::future::pending().await,
    };
    loop {
        let request = tokio::select! {
            () = stop.cancelled() => return,
            Some(request) = requests.recv() => Some(request),
            () = hangup() => None,
        };
        let outcome = match &reload {
            Some(reload) => {
                let config = tokio::select! {
                    // A file that cannot be read to its end must not keep the daemon.
                    () = stop.cancelled() => return,
                    config = reload.begin() => config,
                };
                let outcome = reload.finish(config, &started, hub, server, stop).await;
                teller.tell(Word::Ready);
                outcome
            }
            None => {
                Some(Err("it was given by the program that the daemon runs in, and cannot be read again"
                    .to_owned()))
            }
        };
        // One that is dropped says that the daemon ends.
        if let (Some(request), Some(outcome)) = (request, outcome) {
            request.answer(outcome);
        }
    }
}

impl Reload {
    async fn begin(&self) -> Result<Config, String> {
        match Word::monotonic_usec_now() {
            Ok(now) => systemd::tell(&[Word::Reloading, now]),
            // It takes the one only with the other.
            Err(error) => warn!(%error, "the service manager was not told of the reload"),
        }
        let origin = self.origin.clone();
        self.reading.read(move || origin.load()).await?.map_err(|error| error.to_string())
    }

    /// None when the daemon ends.
    async fn finish(
        &self,
        config: Result<Config, String>,
        started: &Config,
        hub: &Hub,
        server: &Server,
        stop: &CancellationToken,
    ) -> Option<Outcome> {
        let outcome = match config {
            Ok(config) => self.apply(config, started, hub, server, stop).await?,
            Err(problems) => Err(problems),
        };
        match &outcome {
            Ok(Reloaded { changes, .. }) => {
                let (added, removed, changed) = (&changes.added, &changes.removed, &changes.changed);
                info!(?added, ?removed, ?changed, unchanged = changes.unchanged.len(), "reloaded");
            }
            Err(problems) => {
                for problem in problems.lines() {
                    error!("the configuration does not load, and nothing was changed: {problem}");
                }
            }
        }
        server.set_config_error(outcome.as_ref().err().cloned());
        Some(outcome)
    }

    /// All that can fail comes before anything is changed; then rules come first, so that nobody hears of a new connection
    /// that they hide. None when the daemon ends.
    async fn apply(
        &self,
        mut config: Config,
        started: &Config,
        hub: &Hub,
        server: &Server,
        stop: &CancellationToken,
    ) -> Option<Outcome> {
        let warnings = config.warnings();
        let connections = std::mem::take(&mut config.connections);
        let prepared = tokio::select! {
            // Others may have their turn before, and files can take long.
            () = stop.cancelled() => return None,
            prepared = hub.prepare(connections) => match prepared {
                Ok(prepared) => prepared,
                Err(failed) => return Some(Err(problems(failed))),
            },
        };
        if let Err(problem) = self.level.set(&config.log.level) {
            return Some(Err(problem));
        }
        server.set_settings(api_settings(&config), stop).await;
        hub.set_settings(hub_settings(&config));
        // What a connection has yet to say before it leaves waits for room in its ring, maybe for long.
        let changes = stop.run_until_cancelled(hub.reconfigure(prepared)).await??;
        for warning in warnings {
            warn!("{warning}");
        }
        let needs_restart = started.fixed_keys_other_than(&config);
        for key in &needs_restart {
            warn!(key, "its new value takes effect with a restart");
        }
        Some(Ok(Reloaded { changes, needs_restart }))
    }
}

fn problems(failed: Vec<(String, hub::Error)>) -> String {
    let line = |(name, error)| format!("{}: {error}", shown(&["connections".to_owned(), name]));
    failed.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Config {
    /// The keys, of those that a running daemon cannot follow, whose values differ.
    fn fixed_keys_other_than(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            ("log.format", self.log.format == other.log.format),
            ("api.socket", self.api.socket == other.api.socket),
            ("api.mode", self.api.mode == other.api.mode),
            ("api.group", self.api.group == other.api.group),
            ("state.dir", self.state_dir == other.state_dir),
        ];
        keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_hangs_keeps_one_thread() {
        let reading = Reading::default();
        let (release, hanging) = std::sync::mpsc::channel::<()>();
        let first = reading.read(move || hanging.recv().is_ok());
        let (first, ()) = tokio::join!(first, tokio::time::advance(LOADING));
        assert!(first.unwrap_err().starts_with("it was not read within 10 s; a file"));
        for _ in 0..3 {
            let refused = reading.read(|| panic!("it takes a thread")).await;
            assert!(refused.unwrap_err().starts_with("it is still being read for the reload before; a file"));
        }
        drop(release);
        while reading.read(|| ()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
