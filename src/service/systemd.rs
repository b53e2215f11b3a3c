//! What the service manager is told: that the daemon is ready, reloads or ends, how its connections stand, and that its
//! work goes on.

use std::fmt::Write as _;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(super) use sd_notify::NotifyState as Word;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::api::server::{Pulse, Server};
use crate::hub::Hub;

/// How long the status rests after it was told; what happens meanwhile is told together.
const REST: Duration = Duration::from_millis(500);

/// Signs of life in the time after which the service manager gives the daemon up.
const SIGNS: u32 = 3;

/// Tells the service manager; where there is none, nobody.
pub(super) fn tell(words: &[Word<'_>]) {
    /// Opened with the first word and kept: who has no descriptor left has to give signs of life, too.
    static WAY: LazyLock<io::Result<UnixDatagram>> = LazyLock::new(UnixDatagram::unbound);
    let place = std::env::var_os("NOTIFY_SOCKET").filter(|place| Path::new(place).is_absolute());
    let told = match (&*WAY, place) {
        (Ok(way), Some(place)) => {
            let mut text = String::new();
            for word in words {
                let _ = writeln!(text, "{word}"); // A String takes everything.
            }
            way.send_to(text.as_bytes(), place).map(drop)
        }
        // Places of other kinds are rare.
        _ => sd_notify::notify(words),
    };
    if let Err(error) = told {
        warn!(%error, "the service manager could not be told");
    }
}

/// Whether anybody listens.
pub(super) fn is_listening() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Tells it of one daemon, with how its connections stand.
#[derive(Debug)]
pub(super) struct Teller {
    hub: Arc<Hub>,
    server: Server,
    /// The last status. Held while one is told, so that the last one told is the newest.
    told: Mutex<String>,
}

impl Teller {
    /// One who has told nothing yet.
    pub(super) fn new(hub: Arc<Hub>, server: Server) -> Self {
        Self { hub, server, told: Mutex::default() }
    }

    /// Tells `word`, and how connections stand.
    pub(super) fn tell(&self, word: Word<'_>) {
        let mut told = self.lock();
        *told = self.status();
        tell(&[word, Word::Status(&told)]);
    }

    /// Tells how connections stand whenever that changes, until `stop`.
    pub(super) async fn keep_status(&self, stop: &CancellationToken) {
        let keep = async {
            loop {
                self.hub.moved().await;
                if self.tell_news() {
                    tokio::time::sleep(REST).await;
                }
            }
        };
        stop.run_until_cancelled(keep).await;
    }

    fn tell_news(&self) -> bool {
        let mut told = self.lock();
        let status = self.status();
        let news = status != *told;
        if news {
            tell(&[Word::Status(&status)]);
            *told = status;
        }
        news
    }

    /// Gives signs of life as often as the service manager wants them, until `stop`; not at all where it wants none.
    ///
    /// Each sign is earned: programs are being accepted, and every connection can be looked at. What stands still, on a
    /// lock or in a loop, gives no sign, and the service manager puts an end to it.
    pub(super) async fn keep_alive(&self, pulse: &Pulse, stop: &CancellationToken) {
        let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
        let Some(limit) = limit else { return };
        let keep = async {
            while pulse.beats().await {
                let _looked_at = self.hub.standing();
                tell(&[Word::Watchdog]);
                tokio::time::sleep(limit / SIGNS).await;
            }
        };
        stop.run_until_cancelled(keep).await;
    }

    fn status(&self) -> String {
        let standing = self.hub.standing();
        match self.server.config_error() {
            None => standing.to_string(),
            // What is wrong can name more than everybody should read.
            Some(_) => format!("{standing}; the configuration does not load, siod status says why"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
