//! The daemon around the layers below: its configuration, its socket, its logs and its signals.

pub mod config;
mod effective;
pub mod environment;
mod exposure;
mod journal;
mod layers;
pub mod listener;
mod lock;
pub mod reload;
pub mod signals;
pub mod state;
mod systemd;
pub mod telemetry;
pub(crate) mod visible;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::config::Config;
use self::listener::{ListenError, Listener};
use self::reload::{Origin, Reading, Reload};
use self::signals::{EarlyHangup, Shutdown, Signals};
use self::state::{Keeper, StateError};
use self::systemd::{Teller, Word};
use crate::api::server::{Pulse, Server};
use crate::api::{self, reload::Reloader};
use crate::hub::{self, Goodbye, Hub, Opener, Rules};

/// How long the end may take for what is written to be read, here and upstream.
const GRACE: Duration = Duration::from_secs(5);

/// From the departure of many to the return of the memory that they used, and so at the least from one to the next.
const TIDY_PAUSE: Duration = Duration::from_secs(1);

/// Threads for name look-ups and files.
const BLOCKING_THREADS: usize = 16;

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its socket is in use or cannot be bound.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// What is to outlive it cannot be kept where it should be.
    #[error("{0}")]
    State(#[from] StateError),
    /// Its log cannot be written.
    #[error("log: {0}")]
    Telemetry(#[from] telemetry::Error),
    /// A connection of the configuration cannot be set up.
    #[error("connections.{name}: {error}")]
    Connection {
        /// The connection's name.
        name: String,
        /// Why.
        error: hub::Error,
    },
    /// The system does not give what it takes.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl Error {
    /// Whether the configuration has to be changed for it to run.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Connection { .. } => true,
            Self::State(error) => error.is_configuration(),
            Self::Listen(_) | Self::Telemetry(_) | Self::System(_) => false,
        }
    }
}

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was told and sent.
    Orderly,
    /// A second signal did not want to wait.
    AtOnce(Shutdown),
}

/// Runs the daemon until SIGTERM or SIGINT with `config`, which was read from `origin` and is read from there again when
/// somebody asks; `early` was there before that first reading. To be called once, before other threads start.
/// `give_memory_back` is called when many programs have left.
pub fn run(
    config: Config,
    origin: Origin,
    early: &EarlyHangup,
    give_memory_back: fn(),
) -> Result<Ended, Error> {
    let telemetry = telemetry::init(&config.log)?;
    raise_descriptors();
    // All messages are carried by one thread. Beside two workers, on two cores and in CPU time, 1,000 events a second to
    // 100 programs took 231 to 247 µs an event instead of 448 to 451, a flood to 1,000 programs 0.057 to 0.062 s a
    // million instead of 0.067 to 0.072, an ack 3.7 to 4.3 µs instead of 4.5 to 5.1; only with a flood to ten programs
    // were two now and then done sooner. What they did was hand work to one another and wait for the other to wake.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("siod")
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::after(early)?;
        let listener = Listener::bind(&config.api.socket, config.api.mode, config.api.group.as_deref())?;
        let asked = CancellationToken::new();
        let (hangups, level) = (signals.hangups(), telemetry.level());
        let reload = Reload { origin, hangups, level, reading: Reading::default() };
        let serving = serve_reloading(config, Some(reload), give_memory_back, listener, asked.clone());
        tokio::pin!(serving);
        tokio::select! {
            ended = &mut serving => return ended.map(|()| Ended::Orderly),
            signal = signals.shutdown() => info!(?signal, "ending; a second signal ends at once"),
        }
        asked.cancel();
        tokio::select! {
            ended = &mut serving => ended.map(|()| Ended::Orderly),
            signal = signals.shutdown() => Ok(Ended::AtOnce(signal)),
        }
    });
    // A look-up that still hangs must not keep the process.
    runtime.shutdown_background();
    ended
}

/// Keeps what is in memory to this process: no core of it is written, and on Linux and FreeBSD no other process of its
/// user, but for root's, may read its memory or its environment. To be called before there is a secret in it.
pub fn keep_memory_private() -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    use rustix::process::{Resource, Rlimit, setrlimit};
    #[cfg(target_os = "linux")]
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    #[cfg(target_os = "freebsd")]
    set_dumpable_behavior(None, DumpableBehavior::NotDumpable)?;
    // For auth commands as well, which the above does not reach, and where there is nothing else.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// As many descriptors as the system lets this process have: each program takes one, and the usual limit is low.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        warn!(%error, ?current, ?maximum, "the limit of open files stays as it is");
    }
}

/// Serves consumers on `listener` until `stop`, then ends in order: whoever waits for an answer hears that none will
/// come, consumers are told goodbye, and upstream gets what was handed over, then a DISCONNECT; none where the next run is
/// to go on with the session (`state.dir`).
///
/// The configuration stays what it is: the method `reload` is refused.
pub async fn serve(config: Config, listener: Listener, stop: CancellationToken) -> Result<(), Error> {
    serve_reloading(config, None, || {}, listener, stop).await
}

async fn serve_reloading(
    mut config: Config,
    reload: Option<Reload>,
    give_memory_back: fn(),
    listener: Listener,
    stop: CancellationToken,
) -> Result<(), Error> {
    let (managers, consumers) = (TaskTracker::new(), TaskTracker::new());
    let disconnect = CancellationToken::new();
    let mut hub = Hub::new(hub_settings(&config), managers.clone(), disconnect.clone());
    let mut keeper = None;
    if let Some(dir) = &config.state_dir {
        let (kept, saved) = Keeper::open(dir, &config.connections)?;
        hub = saved.into_iter().fold(hub, Hub::resuming);
        keeper = Some(kept);
    }
    let hub = Arc::new(hub);
    managers.spawn(Arc::clone(&hub).keep_log(disconnect.clone()));
    for warning in config.warnings() {
        warn!("{warning}");
    }
    // Whoever waits for the daemon does not wait for what a thousand connections say to their servers.
    hub.hold_attempts();
    for (name, settings) in std::mem::take(&mut config.connections) {
        let opened = hub.open(hub.turn().await, &name, settings, Opener::Config).await;
        opened.map_err(|error| Error::Connection { name, error })?;
    }
    if let Some(keeper) = &mut keeper {
        keeper.begin(&hub).await?;
    }
    let path = listener.path().unwrap_or_default();
    let (socket, file) = listener.into_parts();
    let socket = tokio::net::UnixListener::from_std(socket)?;
    let (reloader, requests) = Reloader::new();
    let server = Server::new(Arc::clone(&hub), api_settings(&config), reloader, consumers.clone());
    let (pulse, pulses) = Pulse::new();
    consumers.spawn(server.clone().accept(socket, pulses, stop.clone()));
    info!(socket = %path.display(), connections = hub.connection_count(), "ready");
    let teller = Arc::new(Teller::new(Arc::clone(&hub), server.clone()));
    teller.tell(Word::Ready);
    hub.release_attempts();
    if systemd::is_listening() {
        let (teller, stop) = (Arc::clone(&teller), stop.clone());
        managers.spawn(async move {
            let (status, life) = (teller.keep_status(&stop), teller.keep_alive(&pulse, &stop));
            tokio::join!(status, life, systemd::tell_what_waits(&stop))
        });
    }

    let tidying = async {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = hub.many_left() => {}
            }
            // Those who leave together have left by then, and their tasks have ended.
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TIDY_PAUSE) => {}
            }
            hub.tidy();
            give_memory_back();
        }
    };
    let keeping = async {
        if let Some(keeper) = &mut keeper {
            keeper.run(&hub, &stop).await;
        }
    };
    tokio::join!(reload::serve(reload, config, &hub, &server, &teller, requests, &stop), keeping, tidying);
    systemd::tell(&[Word::Stopping, Word::Status("stopping")]);
    hub.settle().await;
    let suspended = match keeper {
        Some(keeper) => Some((keeper, hub.suspend().await)),
        None => None,
    };
    for consumer in hub.consumers() {
        consumer.inbox().say_goodbye(Goodbye::Shutdown);
    }
    disconnect.cancel();
    consumers.close();
    managers.close();
    let kept = async {
        if let Some((keeper, suspended)) = suspended {
            keeper.end(&hub, suspended).await;
        }
    };
    let all = async { tokio::join!(consumers.wait(), managers.wait(), kept) };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        warn!("not everything could be written in time");
    }
    drop(file);
    hub.finish_log();
    info!("ended");
    Ok(())
}

fn hub_settings(config: &Config) -> hub::Settings {
    hub::Settings { stall: config.api.stall, max_consumers: config.api.max_consumers }
}

fn api_settings(config: &Config) -> api::Settings {
    let rules = config.access.iter().map(|access| access.rule.clone()).collect();
    api::Settings {
        max_line: config.api.max_line,
        lag: config.api.lag,
        defaults: config.defaults.clone(),
        rules: Rules::new(rules, rustix::process::geteuid().as_raw()),
    }
}
