//! Which connections there are: those of the configuration and those that programs open, and who shares a Manager with whom.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::saved::Beyond;
use super::{By, Channel, Connection, ConnectionSettings, Departures, Entry, Error, Hub, Rights, State};
use crate::manager::{self, Manager};
use crate::transport::{self, Connector};

/// How long it may take to read the files that options of TLS name, and the system's certificates.
pub(super) const READING: Duration = Duration::from_secs(5);

/// Connections that consumers may have opened, those that outlive them among them.
pub const MAX_OPENED: usize = 1024;

/// Closed connections whose names are remembered: their counters, and who would hear them again.
pub const MAX_CLOSED: usize = 1024;

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

impl Hub {
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

    /// The last line is written, and others may change connections, even if whoever waits here goes away. Gives the
    /// turn back, unless the Manager is gone. At the end of the daemon all stay: it ends them, and knows their last lines.
    pub(super) async fn remove(&self, name: &str, by: By, turn: Turn) -> Option<Turn> {
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
        // Of thousands of connections to one namespace each has a Manager of its own.
        let mut taken = HashSet::new();
        for entry in self.connections.values() {
            let Connection { socket, settings: other, .. } = &entry.connection;
            if other.socket.namespace == settings.socket.namespace {
                taken.insert(Arc::as_ptr(socket.manager()));
            }
        }
        let free = self.connections.values().find(|entry| {
            entry.shareable
                && !taken.contains(&Arc::as_ptr(entry.connection.socket.manager()))
                && entry.connection.settings.manager == settings.manager
        })?;
        Some(Arc::clone(free.connection.socket.manager()))
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

    fn opened_by_consumers(&self) -> usize {
        self.connections.values().filter(|entry| entry.by == By::Consumer).count()
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
