//! What the service manager is told: that the daemon is ready, reloads or ends, how its connections stand, and that its
//! work goes on.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(super) use sd_notify::NotifyState as Word;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::api::server::{Pulse, Server};
use crate::hub::Hub;

/// How long the status rests after it was told; what happens meanwhile is told together.
const REST: Duration = Duration::from_millis(500);

/// Signs of life in the time after which the service manager gives the daemon up.
const SIGNS: u32 = 3;

/// Messages that may wait for a service manager that takes none; beyond that the oldest go.
const MOST: usize = 16;

/// Opened with the first word and kept: who has no descriptor left has to give signs of life, too.
static WAY: LazyLock<Mutex<Option<Way>>> = LazyLock::new(|| Mutex::new(Way::of_environment()));

/// Told when the service manager did not take something.
static WAITS: Notify = Notify::const_new();

/// Tells the service manager; where there is none, nobody. Never waits: what it does not take now it is told later, by
/// [`tell_what_waits`].
pub(super) fn tell(words: &[Word<'_>]) {
    with_way(|way| way.tell(words));
}

/// Tells, until `stop`, what the service manager did not take when it was told.
pub(super) async fn tell_what_waits(stop: &CancellationToken) {
    let keep = async {
        loop {
            WAITS.notified().await;
            tokio::time::sleep(REST).await;
            with_way(Way::send);
        }
    };
    stop.run_until_cancelled(keep).await;
}

fn with_way(does: impl FnOnce(&mut Way)) {
    let mut way = WAY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(way) = &mut *way {
        does(way);
        if !way.waiting.is_empty() {
            WAITS.notify_one();
        }
    }
}

/// The way to the service manager, and what it has yet to take, in order.
#[derive(Debug)]
struct Way {
    socket: UnixDatagram,
    place: SocketAddr,
    waiting: VecDeque<(Kind, String)>,
    /// The last message did not arrive, and that was said.
    complained: bool,
}

/// What becomes of a message that is not taken at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// All of them wait: each is a step from one state to the next.
    Step,
    /// Only the last one waits.
    Status,
    /// The same.
    Sign,
}

impl Way {
    fn of_environment() -> Option<Self> {
        let place = std::env::var_os("NOTIFY_SOCKET").filter(|place| !place.is_empty())?;
        let way = Self::to(&place);
        way.inspect_err(|error| warn!(?place, %error, "the service manager cannot be told anything")).ok()
    }

    fn to(place: &OsStr) -> io::Result<Self> {
        let (socket, place) = (UnixDatagram::unbound()?, address(place)?);
        socket.set_nonblocking(true)?;
        Ok(Self { socket, place, waiting: VecDeque::new(), complained: false })
    }

    fn tell(&mut self, words: &[Word<'_>]) {
        let kind = match words {
            [Word::Watchdog] => Kind::Sign,
            [Word::Status(_)] => Kind::Status,
            _ => Kind::Step,
        };
        let mut text = String::new();
        for word in words {
            let _ = writeln!(text, "{word}"); // A String takes everything.
        }
        self.waiting.retain(|(waiting, _)| kind == Kind::Step || *waiting != kind);
        if self.waiting.len() == MOST {
            self.waiting.pop_front();
        }
        self.waiting.push_back((kind, text));
        self.send();
    }

    /// Sends as much as is taken.
    fn send(&mut self) {
        while let Some((_, text)) = self.waiting.front() {
            let sent = self.socket.send_to_addr(text.as_bytes(), &self.place);
            if let Err(error) = &sent
                && !std::mem::replace(&mut self.complained, true)
            {
                warn!(%error, "the service manager could not be told; this is said once until it can");
            }
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Nobody is there who would take it later.
                Err(_) => {}
                Ok(_) => self.complained = self.waiting.len() > 1 && self.complained,
            }
            self.waiting.pop_front();
        }
    }
}

/// A path, or behind an `@` a name that is in no folder.
fn address(place: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = std::os::unix::ffi::OsStrExt::as_bytes(place).strip_prefix(b"@") {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    if !Path::new(place).is_absolute() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "no path of a socket"));
    }
    SocketAddr::from_pathname(place)
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

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    /// All that lies there to be read.
    fn read(manager: &UnixDatagram) -> Vec<String> {
        let mut message = [0; 1024];
        let next = || {
            manager.recv(&mut message).ok().map(|length| String::from_utf8_lossy(&message[..length]).into())
        };
        std::iter::from_fn(next).collect()
    }

    fn manager() -> (tempfile::TempDir, UnixDatagram, Way) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("notify");
        let manager = UnixDatagram::bind(&place).unwrap();
        manager.set_nonblocking(true).unwrap();
        (folder, manager, Way::to(place.as_os_str()).unwrap())
    }

    #[test]
    fn a_manager_that_takes_nothing_hears_the_steps_and_the_last_status_when_it_does() {
        let (_folder, manager, mut way) = manager();
        while way.waiting.is_empty() {
            way.tell(&[Word::Status("one of many")]);
        }
        way.tell(&[Word::Watchdog]);
        way.tell(&[Word::Reloading]);
        way.tell(&[Word::Status("old")]);
        way.tell(&[Word::Ready, Word::Status("ready")]);
        way.tell(&[Word::Status("new")]);
        way.tell(&[Word::Watchdog]);
        assert!(read(&manager).iter().all(|told| told == "STATUS=one of many\n"));
        way.send();
        let expected = ["RELOADING=1\n", "READY=1\nSTATUS=ready\n", "STATUS=new\n", "WATCHDOG=1\n"];
        assert_eq!((read(&manager), way.waiting.len()), (expected.map(str::to_owned).to_vec(), 0));
    }

    #[test]
    fn what_waits_has_a_bound() {
        let (_folder, manager, mut way) = manager();
        while way.waiting.is_empty() {
            way.tell(&[Word::Ready]);
        }
        for _ in 0..MOST {
            way.tell(&[Word::Reloading]);
            way.tell(&[Word::Ready]);
        }
        assert_eq!(way.waiting.len(), MOST);
        read(&manager);
        let mut told = Vec::new();
        while !way.waiting.is_empty() {
            way.send();
            told.extend(read(&manager));
        }
        assert_eq!(told, ["RELOADING=1\n", "READY=1\n"].repeat(MOST / 2));
    }

    #[test]
    fn one_that_is_gone_is_complained_of_once() {
        let (folder, manager, mut way) = manager();
        drop(manager);
        // A child that another test starts just now has a copy until it runs its program.
        while UnixDatagram::unbound().unwrap().connect(folder.path().join("notify")).is_ok() {}
        for _ in 0..3 {
            way.tell(&[Word::Ready]);
            assert!(way.complained && way.waiting.is_empty());
        }
        std::fs::remove_file(folder.path().join("notify")).unwrap();
        let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        way.tell(&[Word::Ready]);
        assert!(!way.complained);
        manager.set_nonblocking(true).unwrap();
        assert_eq!(read(&manager), ["READY=1\n"]);
    }

    #[test]
    fn places() {
        for place in ["relative", "vsock:2:9999"] {
            let error = Way::to(OsStr::from_bytes(place.as_bytes())).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{place}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_is_in_no_folder() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("siod-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        manager.set_nonblocking(true).unwrap();
        Way::to(OsStr::new(&format!("@{name}"))).unwrap().tell(&[Word::Ready]);
        assert_eq!(read(&manager), ["READY=1\n"]);
    }
}
