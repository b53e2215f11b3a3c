//! Which local program hears what: connections by name, and consumers.

pub mod access;
pub mod accounts;
pub mod channel;
mod complaints;
mod connections;
pub mod consumer;
#[cfg(test)]
mod floods;
pub mod inbox;
pub mod log;
pub mod notice;
pub mod options;
pub mod quantity;
mod ration;
mod resolve;
pub mod saved;
pub mod standing;
mod sticky;
pub mod subscription;
mod succession;
mod target;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::access::{Rights, Role, Rule, Rules, Verdict};
pub use self::channel::{Channel, Snapshot, Start};
use self::complaints::Complaints;
pub use self::connections::{Changes, MAX_CLOSED, MAX_OPENED, Opener, Prepared, Turn};
pub use self::consumer::{Consumer, Identity, Outlet, Report, Subscribed, Subscription};
pub use self::inbox::{Goodbye, Inbox};
pub use self::notice::By;
pub use self::options::ConnectionSettings;
use self::saved::Beyond;
pub use self::standing::Standing;
pub use self::succession::{Resumable, Sessions, Suspended};
use crate::manager::{self, SocketHandle};
use crate::socketio::Recoverable;
use crate::transport;

/// What happens to a consumer that the ring has overrun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "LagPolicy"))]
#[serde(rename_all = "lowercase")]
pub enum Lag {
    /// It is told how much it missed and goes on with the oldest retained line.
    #[default]
    Skip,
    /// It is detached.
    Disconnect,
}

impl Lag {
    /// As it is written in the configuration and in `hello`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Disconnect => "disconnect",
        }
    }
}

/// Rules of the hub, which may change while it runs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How long a consumer may hold a ring up without moving on.
    pub stall: Duration,
    /// Consumers at the most.
    pub max_consumers: usize,
}

/// Why the hub does not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection of that name.
    #[error("there is no connection {0:?}; the method list shows those there are")]
    UnknownConnection(String),
    /// One of that name exists, and is another.
    #[error("connection {0:?} exists with another url or other options; close it first, or use another name")]
    Exists(String),
    /// A file that the TLS options name cannot be used.
    #[error("{0}")]
    Tls(#[from] transport::Error),
    /// One that does not come to an end.
    #[error("the files of tls cannot be read within {} s", connections::READING.as_secs())]
    Reading,
    /// A consumer asked for more than it may have.
    #[error(
        "at most {} subscriptions are possible, with {} bytes of patterns; end some with unsubscribe",
        consumer::MAX_SUBSCRIPTIONS,
        consumer::MAX_PATTERN_BYTES
    )]
    TooManySubscriptions,
    /// Consumers have opened as many connections as there may be.
    #[error("consumers have opened {MAX_OPENED} connections, which is the most; close one first")]
    TooManyOpened,
    /// The daemon ends.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

/// What a consumer's requests act on.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its ring and state.
    pub channel: Arc<Channel>,
    /// Its socket.
    pub socket: SocketHandle,
    /// How it is set up.
    pub settings: Arc<ConnectionSettings>,
}

#[derive(Debug)]
struct Entry {
    connection: Connection,
    shareable: bool,
    by: By,
    lasting: bool,
    openers: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct State {
    settings: Settings,
    connections: BTreeMap<String, Entry>,
    /// Channels of all connections and of names that were closed, for their counters.
    channels: HashMap<String, Arc<Channel>>,
    /// The names that were closed, the oldest first.
    closed: VecDeque<String>,
    /// Where the counters of a new name begin: beyond those of all names that were forgotten, of which it may be one.
    beyond: Beyond,
    /// What connections of the configuration, which are still to be opened, may go on with.
    sessions: HashMap<String, Recoverable>,
    consumers: BTreeMap<u64, Arc<Consumer>>,
    last_consumer: u64,
    ending: bool,
}

/// All connections and consumers of one daemon.
///
/// Locks are taken in the order hub, consumer, channel, inbox, and never held across a wait.
#[derive(Debug)]
pub struct Hub {
    stream: Arc<str>,
    state: Mutex<State>,
    /// Held while a connection comes or goes, so that the lines of one name's lives do not mix.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// Told when a connection comes, goes, or stands elsewhere.
    moved: Arc<Notify>,
    common: manager::Common,
    complaints: Mutex<Complaints>,
    /// Told when something was left out of the log.
    left_out: Arc<Notify>,
    departures: Departures,
    /// Counts what takes something away: connections, rights, and at the end everything.
    withdrawals: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Who has left since somebody looked.
#[derive(Debug, Default)]
struct Departures {
    count: AtomicUsize,
    many: Notify,
}

impl Departures {
    /// So many are worth a look at what they leave behind in memory.
    const MANY: usize = 32;

    fn add(&self, count: usize) {
        if self.count.fetch_add(count, Ordering::Relaxed) + count >= Self::MANY {
            self.many.notify_one();
        }
    }
}

/// The runtime's time, which tests may set.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How others see the consumer of this number.
pub fn consumer_name(id: u64) -> String {
    format!("c{id}")
}

impl Hub {
    /// An empty hub. Managers' tasks go to `tasks`; `stop` ends them.
    pub fn new(settings: Settings, tasks: TaskTracker, stop: CancellationToken) -> Self {
        let stream: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
        let common = manager::Common::default();
        tasks.spawn(common.watch_for_sleep(stop.clone()));
        Self {
            stream: stream.into(),
            state: Mutex::new(State { settings, ..State::default() }),
            changing: Arc::default(),
            moved: Arc::default(),
            common,
            complaints: Mutex::default(),
            left_out: Arc::default(),
            departures: Departures::default(),
            withdrawals: AtomicU64::new(0),
            tasks,
            stop,
        }
    }

    /// Until [`Hub::release_attempts`] no connection sets out for its server, though it is connecting for whoever looks.
    pub fn hold_attempts(&self) {
        self.common.hold_attempts();
    }

    /// Lets those set out that [`Hub::hold_attempts`] kept.
    pub fn release_attempts(&self) {
        self.common.release_attempts();
    }

    /// How long a consumer may hold a ring up without moving on.
    pub fn stall(&self) -> Duration {
        self.lock().settings.stall
    }

    /// Goes on with other rules; who is attached stays, even beyond the new number.
    pub fn set_settings(&self, settings: Settings) {
        let mut state = self.lock();
        for channel in state.channels.values() {
            channel.set_stall(settings.stall);
        }
        for consumer in state.consumers.values() {
            consumer.inbox().set_stall(settings.stall);
        }
        state.settings = settings;
    }

    /// The random name of this run: a seq means something together with it only.
    pub fn stream(&self) -> &Arc<str> {
        &self.stream
    }

    /// A program attaches; `None` when there are too many.
    pub fn attach(&self, identity: Identity, rights: Rights, lag: Lag) -> Option<Arc<Consumer>> {
        let mut state = self.lock();
        if state.consumers.len() >= state.settings.max_consumers || state.ending {
            return None;
        }
        state.last_consumer += 1;
        let consumer = Arc::new(Consumer::new(state.last_consumer, identity, rights, lag));
        consumer.inbox().set_stall(state.settings.stall);
        state.consumers.insert(consumer.id(), Arc::clone(&consumer));
        Some(consumer)
    }

    /// Waits until many programs have left since this was waited for last, or a connection with its ring.
    pub async fn many_left(&self) {
        self.departures.many.notified().await;
        self.departures.count.store(0, Ordering::Relaxed);
    }

    /// Gives the memory back that programs took in lists that outlive them.
    pub fn tidy(&self) {
        for channel in self.lock().channels.values() {
            channel.tidy();
        }
    }

    /// A program is gone, and with it the connections that only it kept open.
    pub async fn detach(&self, consumer: &Consumer) {
        consumer.stop_listening();
        self.common.asker_left();
        self.departures.add(1);
        let orphans: Vec<String> = {
            let mut state = self.lock();
            state.consumers.remove(&consumer.id());
            if state.ending {
                // All connections leave with the daemon, and say nothing more.
                return;
            }
            let entries = state.connections.iter_mut();
            entries
                .filter_map(|(name, entry)| {
                    let opened = entry.openers.remove(&consumer.id());
                    (opened && entry.openers.is_empty() && !entry.lasting).then(|| name.clone())
                })
                .collect()
        };
        for name in orphans {
            let turn = self.turn().await;
            // Somebody else may have opened it meanwhile.
            let orphaned = self
                .lock()
                .connections
                .get(&name)
                .is_some_and(|entry| entry.openers.is_empty() && !entry.lasting);
            if orphaned {
                self.remove(&name, By::Consumer, turn).await;
            }
        }
    }

    /// Other rights hold for a consumer: what it may no longer see is gone for it, and what it comes to see and its
    /// subscriptions match is heard from the next line on.
    pub fn set_rights(&self, consumer: &Arc<Consumer>, rights: Rights) {
        let state = self.lock();
        consumer.set_rights(rights);
        self.withdraw();
        for entry in state.connections.values() {
            consumer.connection_opening(&entry.connection.channel);
        }
    }

    /// All consumers.
    pub fn consumers(&self) -> Vec<Arc<Consumer>> {
        self.lock().consumers.values().cloned().collect()
    }

    /// A connection by name. One that these rights do not reach is not there.
    pub fn connection(&self, name: &str, rights: &Rights) -> Result<Connection, Error> {
        let state = self.lock();
        Ok(state.entry(name, rights)?.connection.clone())
    }

    /// As long as this is the same, whoever has found a connection, and might use it, need not ask again. To be asked
    /// before that.
    pub fn withdrawals(&self) -> u64 {
        self.withdrawals.load(Ordering::Acquire)
    }

    fn withdraw(&self) {
        self.withdrawals.fetch_add(1, Ordering::Release);
    }

    /// All connections that these rights reach, by name.
    pub fn snapshots(&self, rights: &Rights) -> Vec<Snapshot> {
        let state = self.lock();
        let reached = state.connections.iter().filter(|(name, _)| rights.reach(name));
        reached.map(|(_, entry)| entry.connection.channel.snapshot()).collect()
    }

    /// How all connections stand together.
    pub fn standing(&self) -> Standing {
        self.lock().connections.values().map(|entry| entry.connection.channel.state()).collect()
    }

    /// Waits until that may be different. For one who waits; what happens in between is not lost.
    pub async fn moved(&self) {
        self.moved.notified().await;
    }

    /// How many connections there are.
    pub fn connection_count(&self) -> usize {
        self.lock().connections.len()
    }

    /// Begins a subscription; `answer` writes the answer.
    pub fn subscribe(
        &self,
        consumer: &Arc<Consumer>,
        subscription: Subscription,
        start: Start,
        answer: impl FnOnce(&Subscribed, &mut BytesMut),
    ) -> Result<(), Error> {
        let state = self.lock();
        let rights = &consumer.rights();
        let channels = match subscription.connections.as_plain() {
            Some(name) => vec![Arc::clone(&state.entry(name, rights)?.connection.channel)],
            None => state
                .connections
                .iter()
                .filter(|(name, _)| subscription.connections.matches(name) && rights.reach(name))
                .map(|(_, entry)| Arc::clone(&entry.connection.channel))
                .collect(),
        };
        consumer.subscribe(subscription, start, channels, answer).ok_or(Error::TooManySubscriptions)
    }

    /// Whether a complaint about the programs of this user is to be logged; where not, it is counted.
    pub fn takes_complaint(&self, uid: Option<u32>, what: &'static str) -> bool {
        let (takes, first) = self.complaints().takes(now(), uid, what);
        if first {
            self.left_out.notify_one();
        }
        takes
    }

    /// Logs, until `stop`, sums of what was left out of the log.
    pub async fn keep_log(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let due = self.sum_up(false);
            let due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = due => {}
                () = self.left_out.notified() => {}
            }
        }
    }

    /// Logs all that was left out of the log: the daemon ends.
    pub fn finish_log(&self) {
        self.sum_up(true);
    }

    fn sum_up(&self, all: bool) -> Option<Instant> {
        let channels: Vec<_> = self.lock().channels.values().cloned().collect();
        let next = channels.iter().filter_map(|channel| channel.sum_up(now(), all)).min();
        next.into_iter().chain(self.complaints().sum_up(now(), all)).min()
    }

    fn complaints(&self) -> MutexGuard<'_, Complaints> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn entry(&self, name: &str, rights: &Rights) -> Result<&Entry, Error> {
        let reached = self.connections.get(name).filter(|_| rights.reach(name));
        reached.ok_or_else(|| Error::UnknownConnection(name.to_owned()))
    }
}

#[cfg(test)]
mod tests;
