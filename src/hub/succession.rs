//! The end of the daemon, and what the next process gets of it to go on with.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::saved::{self, Head, Saved};
use super::{By, Channel, Connection, ConnectionSettings, Entry, Hub, State};
use crate::manager::{self, Manager};
use crate::socketio::Recoverable;

/// How long the end waits for requests that are being carried out.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long a Manager may take to say which sessions it has; one whose ring has no room for long says it another time.
const SESSIONS: Duration = Duration::from_secs(2);

/// Names whose counters outlive the process. With more the stream does not.
const MAX_SAVED: usize = 65_536;

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

impl Hub {
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

    /// Whether [`Hub::settle`] was called.
    pub fn is_ending(&self) -> bool {
        self.lock().ending
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
}

impl State {
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
}
