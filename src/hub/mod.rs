//! Which local program hears what: connections by name, consumers, and who shares a Manager with whom.

pub mod access;
pub mod accounts;
pub mod channel;
mod complaints;
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
mod target;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use serde::Serialize;
use tokio::sync::{Notify, OwnedMutexGuard, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::access::{Rights, Role, Rule, Rules, Verdict};
pub use self::channel::{Channel, Snapshot, Start};
use self::complaints::Complaints;
pub use self::consumer::{Consumer, Identity, Outlet, Report, Subscribed, Subscription};
pub use self::inbox::{Goodbye, Inbox};
pub use self::notice::By;
pub use self::options::ConnectionSettings;
use self::saved::{Beyond, Head, Saved};
pub use self::standing::Standing;
use crate::manager::{self, Manager, SocketHandle};
use crate::socketio::Recoverable;
use crate::transport::{self, Connector};

/// How long the end waits for requests that are being carried out.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long a Manager may take to say which sessions it has; one whose ring has no room for long says it another time.
const SESSIONS: Duration = Duration::from_secs(2);

/// How long it may take to read the files that options of TLS name, and the system's certificates.
const READING: Duration = Duration::from_secs(5);

/// Names whose counters outlive the process. With more the stream does not.
const MAX_SAVED: usize = 65_536;

/// Connections that consumers may have opened, those that outlive them among them.
pub const MAX_OPENED: usize = 1024;

/// Closed connections whose names are remembered: their counters, and who would hear them again.
pub const MAX_CLOSED: usize = 1024;

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
    #[error("the files of tls cannot be read within {} s", READING.as_secs())]
    Reading,
    /// A consumer asked for more than it may have.
    #[error("at most {} subscriptions are possible; end some with unsubscribe", consumer::MAX_SUBSCRIPTIONS)]
    TooManySubscriptions,
    /// Consumers have opened as many connections as there may be.
    #[error("consumers have opened {MAX_OPENED} connections, which is the most; close one first")]
    TooManyOpened,
    /// The daemon ends.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

/// Who keeps a connection open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// The configuration.
    Config,
    /// This consumer; `persist` when it is to outlive it.
    Consumer {
        /// The consumer's number.
        id: u64,
        /// It stays when nobody who opened it is left.
        persist: bool,
    },
}

/// What became of the connections of the configuration, each list sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Changes {
    /// Opened.
    pub added: Vec<String>,
    /// Closed.
    pub removed: Vec<String>,
    /// Closed, and opened again with what is new.
    pub changed: Vec<String>,
    /// Not touched.
    pub unchanged: Vec<String>,
}

impl Changes {
    /// Leaves out the connections that these rights do not reach.
    pub fn keep_reached(&mut self, rights: &Rights) {
        for names in [&mut self.added, &mut self.removed, &mut self.changed, &mut self.unchanged] {
            names.retain(|name| rights.reach(name));
        }
    }

    /// The connections that have something to tell.
    pub fn touched(&self) -> impl Iterator<Item = &String> {
        self.removed.iter().chain(&self.changed).chain(&self.added)
    }
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

/// Whose turn it is to add or remove connections. Whoever waits for it looks again, when it has come, at what may have
/// changed: rights, defaults, which connections there are.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "it is held, and nothing is in it")] OwnedMutexGuard<()>);

/// What [`Hub::reconfigure`] will do. Nothing of it can fail any more.
#[derive(Debug)]
pub struct Prepared {
    turn: Turn,
    wanted: BTreeMap<String, ConnectionSettings>,
    changes: Changes,
    connectors: Connectors,
}

/// What was read for Managers that may be needed; each of the settings once.
#[derive(Debug, Default)]
struct Connectors(Vec<(transport::Settings, Connector)>);

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

/// What the next process needs to go on with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumable {
    identity: String,
    session: Recoverable,
    /// The newest line that `sticky` keeps, which belongs to it.
    newest_kept: u64,
}

/// By the connections' names.
pub type Sessions = BTreeMap<String, Resumable>;

/// What [`Hub::suspend`] has come to.
#[derive(Debug)]
pub struct Suspended {
    /// What the server may give back.
    pub sessions: Sessions,
    /// The stream can go on: all connections are known to say nothing any more, and there are not too many names.
    pub whole: bool,
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

    /// Goes on with what the process before has left, where that is whole in the same stream; else only its sessions may
    /// be given back. Connections that hold other settings than they did have been left out by whoever read it.
    #[must_use]
    pub fn resuming(mut self, saved: Saved) -> Self {
        let Saved { head: Head { stream, whole, beyond }, connections } = saved;
        if whole {
            self.stream = stream.into();
        }
        let mut state = self.lock();
        if whole {
            state.beyond = beyond;
        }
        let stall = state.settings.stall;
        for mut connection in connections {
            let name = connection.facts.name.clone();
            let kept = connection.log.is_some();
            let session = connection.facts.session.take().filter(|_| kept);
            let stream = Arc::clone(&self.stream);
            let channel = if whole {
                Some(Channel::restored(connection, stream, stall, Arc::clone(&self.left_out)))
            } else {
                session
                    .is_some()
                    .then(|| Channel::remembering(connection, stream, stall, Arc::clone(&self.left_out)))
            };
            let channel = channel.map(|channel| Arc::new(channel.telling(Arc::clone(&self.moved))));
            if let Some(channel) = channel {
                state.channels.insert(name.clone(), channel);
                // Those that are opened now leave this list.
                state.closed.push_back(name.clone());
            }
            state.sessions.extend(session.map(|session| (name, session)));
        }
        drop(state);
        self
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
        consumer.detach();
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

    /// Waits for the turn to add or remove connections.
    pub async fn turn(&self) -> Turn {
        Turn(Arc::clone(&self.changing).lock_owned().await)
    }

    /// Adds a connection, or attaches to the one that is the same; true if it is new.
    pub async fn open(
        &self,
        turn: Turn,
        name: &str,
        settings: ConnectionSettings,
        opener: Opener,
    ) -> Result<(bool, Connection), Error> {
        let mut connectors = Connectors::default();
        if self.takes_connector(name, &settings) {
            connectors.read(&settings.manager.transport).await?;
        }
        let outcome = self.add(name, settings, opener, &connectors).await;
        if opener != Opener::Config {
            self.lock().forget_closed();
        }
        drop(turn);
        outcome
    }

    /// Gets ready to make the connections of the configuration these, and to touch none that is the same. One that a
    /// consumer has opened will be the configuration's if its name is here, and one that a consumer has closed comes back.
    ///
    /// Where some cannot be set up, each of them is named. Nothing is changed here.
    pub async fn prepare(
        &self,
        wanted: BTreeMap<String, ConnectionSettings>,
    ) -> Result<Prepared, Vec<(String, Error)>> {
        let turn = self.turn().await;
        let changes = self.compare(&wanted);
        let (mut connectors, mut failed) = (Connectors::default(), Vec::new());
        for name in changes.changed.iter().chain(&changes.added) {
            if let Some(settings) = wanted.get(name)
                && let Err(error) = connectors.read(&settings.manager.transport).await
            {
                failed.push((name.clone(), error));
            }
        }
        if failed.is_empty() { Ok(Prepared { turn, wanted, changes, connectors }) } else { Err(failed) }
    }

    /// Does what was prepared; none when the daemon ends.
    pub async fn reconfigure(&self, prepared: Prepared) -> Option<Changes> {
        let Prepared { mut turn, wanted, changes, connectors } = prepared;
        // All leave before the first comes, so that sessions are shared as they would be after a start.
        for name in changes.removed.iter().chain(&changes.changed) {
            // A Manager that is gone was told to end.
            turn = self.remove(name, By::Config, turn).await?;
        }
        for (name, settings) in wanted {
            self.add(&name, settings, Opener::Config, &connectors).await.ok()?;
        }
        self.lock().forget_closed();
        drop(turn);
        Some(changes)
    }

    fn compare(&self, wanted: &BTreeMap<String, ConnectionSettings>) -> Changes {
        let state = self.lock();
        let mut changes = Changes::default();
        for (name, settings) in wanted {
            let list = match state.connections.get(name) {
                None => &mut changes.added,
                Some(entry) if *entry.connection.settings == *settings => &mut changes.unchanged,
                Some(_) => &mut changes.changed,
            };
            list.push(name.clone());
        }
        let gone = state
            .connections
            .iter()
            .filter(|(name, entry)| entry.by == By::Config && !wanted.contains_key(*name));
        changes.removed = gone.map(|(name, _)| name.clone()).collect();
        changes
    }

    async fn add(
        &self,
        name: &str,
        settings: ConnectionSettings,
        opener: Opener,
        connectors: &Connectors,
    ) -> Result<(bool, Connection), Error> {
        let (created, connection, connecting) = self.insert(name, settings, opener, connectors)?;
        if let Some(connecting) = connecting {
            connecting.await;
        }
        Ok((created, connection))
    }

    /// And, where it connects by itself, the wait until it has begun to.
    fn insert(
        &self,
        name: &str,
        settings: ConnectionSettings,
        opener: Opener,
        connectors: &Connectors,
    ) -> Result<(bool, Connection, Option<impl Future<Output = ()> + use<>>), Error> {
        let mut state = self.lock();
        if state.ending {
            return Err(Error::ShuttingDown);
        }
        if let Some(entry) = state.connections.get_mut(name) {
            if *entry.connection.settings != settings {
                return Err(Error::Exists(name.to_owned()));
            }
            entry.note(opener);
            return Ok((false, entry.connection.clone(), None));
        }
        let by = if opener == Opener::Config { By::Config } else { By::Consumer };
        if by == By::Consumer && state.opened_by_consumers() >= MAX_OPENED {
            return Err(Error::TooManyOpened);
        }
        let manager = match state.manager_for(&settings) {
            Some(manager) => manager,
            None => {
                let connector = connectors.get(&settings.manager.transport)?;
                let (settings, stop) = (settings.manager.clone(), self.stop.child_token());
                Manager::spawn(settings, connector, &self.common, &self.tasks, stop)
            }
        };
        let shareable = !settings.force_new;
        let (stall, beyond) = (state.settings.stall, state.beyond);
        let channel = state.channels.entry(name.to_owned()).or_insert_with(|| {
            let history = settings.history.clone();
            let left_out = Arc::clone(&self.left_out);
            let channel = Channel::new(name, Arc::clone(&self.stream), history, stall, left_out);
            Arc::new(channel.telling(Arc::clone(&self.moved)).counting_from(beyond))
        });
        let channel = Arc::clone(channel);
        state.closed.retain(|closed| closed != name);
        for consumer in state.consumers.values() {
            consumer.connection_opening(&channel);
        }
        let session = state.sessions.remove(name).filter(|_| by == By::Config);
        let first_ack = channel.open(&settings, by);
        let observer = Arc::clone(&channel) as Arc<_>;
        let socket = manager.add(settings.socket.clone(), first_ack, session, observer);
        let connection = Connection { channel, socket, settings: Arc::new(settings) };
        let mut entry =
            Entry { connection: connection.clone(), shareable, by, lasting: false, openers: BTreeSet::new() };
        entry.note(opener);
        state.connections.insert(name.to_owned(), entry);
        self.moved.notify_one();
        let connecting = connection.settings.auto_connect.then(|| {
            // Said before anybody sees the connection, so that whoever disconnects it comes after this.
            let (done, connecting) = manager::done();
            connection.socket.connect(done);
            connecting
        });
        Ok((true, connection, connecting))
    }

    /// Disconnects a connection and forgets it, whoever opened it.
    pub async fn close(&self, turn: Turn, name: &str) -> Result<(), Error> {
        let (is_there, is_ending) = {
            let state = self.lock();
            (state.connections.contains_key(name), state.ending)
        };
        match (is_there, is_ending) {
            (_, true) => Err(Error::ShuttingDown),
            (false, false) => Err(Error::UnknownConnection(name.to_owned())),
            (true, false) => {
                if let Some(_turn) = self.remove(name, By::Consumer, turn).await {
                    self.lock().forget_closed();
                }
                Ok(())
            }
        }
    }

    /// The daemon ends: no consumer and no connection comes any more, and whoever waits for an ack hears that none
    /// will come.
    pub async fn settle(&self) {
        let managers = {
            let mut state = self.lock();
            state.ending = true;
            self.withdraw();
            for entry in state.connections.values() {
                entry.connection.channel.give_up_waiting();
            }
            state.managers()
        };
        let abandoned: Vec<_> = managers
            .iter()
            .map(|manager| {
                let (done, settled) = manager::done();
                manager.abandon_acks(done);
                settled
            })
            .collect();
        // What is answered by that has to stand in line before the last goodbye. A Manager whose events wait for room
        // in a ring does not hold the end up.
        let answered = async {
            for settled in abandoned {
                settled.await;
            }
            for consumer in self.consumers() {
                consumer.inbox().all_answered().await;
            }
        };
        let _ = tokio::time::timeout(LAST_ANSWERS, answered).await;
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

    /// The connections of the configuration leave for good, after [`Hub::settle`], but so that the server may give their
    /// sessions back; after that no connection says anything any more.
    pub async fn suspend(&self) -> Suspended {
        let until = tokio::time::Instant::now() + LAST_ANSWERS;
        // One that is leaving has its last line yet to say, and belongs to none of the Managers that are asked.
        let changing = tokio::time::timeout_at(until, self.changing.lock()).await;
        let connections = self.configured();
        let mut managers: Vec<(Arc<Manager>, _)> = Vec::new();
        let all = self.lock().managers();
        for manager in all {
            let (done, suspended) = manager::done();
            manager.suspend(done);
            managers.push((manager, suspended));
        }
        let mut sessions = Sessions::new();
        let mut whole = changing.is_ok() && self.lock().channels.len() <= MAX_SAVED;
        for (manager, suspended) in managers {
            let Ok(given) = tokio::time::timeout_at(until, suspended).await else {
                whole = false;
                continue;
            };
            for (name, Connection { channel, socket, settings }) in &connections {
                if Arc::ptr_eq(socket.manager(), &manager)
                    && let Some(session) = given.get(&socket.key())
                {
                    let resumable = self.resumable(channel, settings, session.clone());
                    sessions.insert(name.clone(), resumable);
                }
            }
        }
        Suspended { sessions, whole }
    }

    /// The sessions that the server may give back to another process. `known` is what was found before, which still
    /// holds for a connection that does not say.
    pub async fn sessions(&self, known: &Sessions) -> Sessions {
        let asked = self.configured().into_iter().map(|(name, connection)| {
            let (done, session) = manager::done();
            connection.socket.session(done);
            (name, connection, session)
        });
        let until = tokio::time::Instant::now() + SESSIONS;
        let mut sessions = Sessions::new();
        // All are asked before the first answer is awaited.
        for (name, Connection { channel, settings, .. }, session) in asked.collect::<Vec<_>>() {
            match tokio::time::timeout_at(until, session).await {
                Ok(session) => {
                    let resumable = session.map(|session| self.resumable(&channel, &settings, session));
                    sessions.extend(resumable.map(|resumable| (name, resumable)));
                }
                Err(_) => {
                    let identity = saved::identity(&settings, &self.stream);
                    let before = known.get(&name).filter(|known| known.identity == identity);
                    sessions.extend(before.map(|known| (name, known.clone())));
                }
            }
        }
        sessions
    }

    fn resumable(&self, channel: &Channel, settings: &ConnectionSettings, session: Recoverable) -> Resumable {
        let identity = saved::identity(settings, &self.stream);
        Resumable { identity, session, newest_kept: channel.newest_kept() }
    }

    /// Writes what outlives the process. `whole`, which [`Hub::suspend`] must have allowed, lets the stream go on with every
    /// line; else only these sessions may. Takes as long as `out`, and holds nobody up.
    pub fn save<W: Write>(&self, whole: bool, sessions: &Sessions, out: W) -> io::Result<W> {
        let (channels, configured, beyond) = {
            let state = self.lock();
            let channels: Vec<_> = state.channels.values().cloned().collect();
            let configured = state.connections.iter().filter(|(_, entry)| entry.by == By::Config);
            let identity = |entry: &Entry| saved::identity(&entry.connection.settings, &self.stream);
            let identities = configured.map(|(name, entry)| (name.clone(), identity(entry)));
            (channels, identities.collect::<HashMap<_, _>>(), state.beyond)
        };
        let head = Head { stream: self.stream.to_string(), whole, beyond };
        let mut writer = saved::Writer::new(out, &head)?;
        for channel in channels {
            let identity = configured.get(channel.name());
            let resumable = sessions.get(channel.name());
            let resumable = resumable.filter(|resumable| Some(&resumable.identity) == identity);
            if whole || resumable.is_some() {
                let session = resumable.map(|resumable| resumable.session.clone());
                channel.save(whole, identity.cloned(), session, &mut writer)?;
            }
        }
        writer.finish()
    }

    /// The connections of the configuration.
    fn configured(&self) -> Vec<(String, Connection)> {
        let state = self.lock();
        let configured = state.connections.iter().filter(|(_, entry)| entry.by == By::Config);
        configured.map(|(name, entry)| (name.clone(), entry.connection.clone())).collect()
    }

    /// Whether [`Hub::settle`] was called.
    pub fn is_ending(&self) -> bool {
        self.lock().ending
    }

    /// The last line is written, and others may change connections, even if whoever waits here goes away. Gives the
    /// turn back, unless the Manager is gone. At the end of the daemon all stay: it ends them, and knows their last lines.
    async fn remove(&self, name: &str, by: By, turn: Turn) -> Option<Turn> {
        let entry = {
            let mut state = self.lock();
            let entry = if state.ending { None } else { state.connections.remove(name) };
            if entry.is_some() {
                self.withdraw();
                state.closed.push_back(name.to_owned());
            }
            entry
        };
        let Some(entry) = entry else { return Some(turn) };
        self.departures.add(Departures::MANY);
        self.moved.notify_one();
        let (back, removed) = oneshot::channel();
        let Connection { channel, socket, .. } = entry.connection;
        socket.remove(Box::new(move |()| {
            channel.close(by);
            // If nobody waits any more, this is where it is let go.
            let _ = back.send(turn);
        }));
        removed.await.ok()
    }

    /// Whether a new Manager would be made for this.
    fn takes_connector(&self, name: &str, settings: &ConnectionSettings) -> bool {
        let state = self.lock();
        !state.connections.contains_key(name) && state.manager_for(settings).is_none()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connectors {
    /// Makes sure that there is one for these settings. Files are read by a thread that may wait for them.
    async fn read(&mut self, settings: &transport::Settings) -> Result<(), Error> {
        if self.of(settings).is_some() {
            return Ok(());
        }
        let for_it = settings.clone();
        if !settings.takes_files() {
            self.0.push((for_it, Connector::new(settings.clone())?));
            return Ok(());
        }
        let reading = tokio::task::spawn_blocking(move || Connector::new(for_it));
        let read = tokio::time::timeout(READING, reading).await.map_err(|_| Error::Reading)?;
        // It is cut short only when the daemon ends.
        let connector = read.map_err(|_| Error::ShuttingDown)??;
        self.0.push((settings.clone(), connector));
        Ok(())
    }

    /// One for a Manager of its own.
    fn get(&self, settings: &transport::Settings) -> Result<Connector, Error> {
        match self.of(settings) {
            Some(connector) => Ok(connector.another()),
            None => Ok(Connector::new(settings.clone())?),
        }
    }

    fn of(&self, settings: &transport::Settings) -> Option<&Connector> {
        self.0.iter().find(|(known, _)| known == settings).map(|(_, connector)| connector)
    }
}

impl State {
    /// The Manager that such a connection shares with others, if there is one that has the namespace free.
    fn manager_for(&self, settings: &ConnectionSettings) -> Option<Arc<Manager>> {
        if settings.force_new {
            return None;
        }
        let mut candidates = Vec::new();
        let mut taken = Vec::new();
        for entry in self.connections.values() {
            let Connection { socket, settings: other, .. } = &entry.connection;
            if entry.shareable && other.manager == settings.manager {
                candidates.push(socket.manager());
            }
            if other.socket.namespace == settings.socket.namespace {
                taken.push(socket.manager());
            }
        }
        let free = |manager: &&&Arc<Manager>| !taken.iter().any(|taken| Arc::ptr_eq(taken, manager));
        candidates.iter().find(free).map(|manager| Arc::clone(manager))
    }

    /// Forgets the names that were closed first where there are too many, as soon as nobody has anything of them to take.
    /// For whoever has the turn, so that all of them have said their last.
    fn forget_closed(&mut self) {
        let mut too_many = self.closed.len().saturating_sub(MAX_CLOSED);
        if too_many == 0 {
            return;
        }
        let Self { closed, channels, consumers, beyond, .. } = self;
        closed.retain(|name| {
            let Some(channel) = channels.get(name).filter(|_| too_many > 0) else { return true };
            // One that is far behind everybody else must not keep names for ever.
            let must = too_many > MAX_CLOSED;
            let heard = consumers.values().all(|consumer| consumer.leave_closed(channel, must));
            if heard {
                let counters = channel.counters();
                *beyond = Beyond { seq: beyond.seq.max(counters.seq), ack: beyond.ack.max(counters.ack) };
                channels.remove(name);
                too_many -= 1;
            }
            !heard
        });
    }

    /// Each Manager once.
    fn managers(&self) -> Vec<Arc<Manager>> {
        let mut managers: Vec<Arc<Manager>> = Vec::new();
        for entry in self.connections.values() {
            let manager = entry.connection.socket.manager();
            if !managers.iter().any(|known| Arc::ptr_eq(known, manager)) {
                managers.push(Arc::clone(manager));
            }
        }
        managers
    }

    fn opened_by_consumers(&self) -> usize {
        self.connections.values().filter(|entry| entry.by == By::Consumer).count()
    }

    fn entry(&self, name: &str, rights: &Rights) -> Result<&Entry, Error> {
        let reached = self.connections.get(name).filter(|_| rights.reach(name));
        reached.ok_or_else(|| Error::UnknownConnection(name.to_owned()))
    }
}

impl Entry {
    fn note(&mut self, opener: Opener) {
        match opener {
            Opener::Config => (self.lasting, self.by) = (true, By::Config),
            Opener::Consumer { id, persist } => {
                self.lasting |= persist;
                self.openers.insert(id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
