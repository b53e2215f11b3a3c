//! What programs and the daemon want of a Manager.

use std::sync::Arc;
use std::time::Instant;

use super::discretion::script_secrets;
use super::{Client, Driver, Waiter};
use crate::manager::state::Key;
use crate::manager::ticket::Ticket;
use crate::manager::{Command, Counters, Observer, Sessions, SocketSettings, Status};
use crate::socketio::{Emit, EmitError, Recoverable};

impl Driver {
    pub(super) fn command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Add { key, settings, first_ack, session, observer } => {
                self.add(key, *settings, first_ack, observer);
                if let Some(session) = session {
                    self.state.resume_session(key, session);
                }
            }
            Command::Session { key, done } => {
                let session = self.session_of(key);
                self.state.fence(key, Waiter::Session(session, done));
            }
            Command::Remove { key, done } => {
                self.asked.remove(&key);
                self.state.remove(self.clock.now(), key);
                self.state.fence(key, Waiter::Removed(key, done));
            }
            Command::Connect { key, done } => {
                if !self.suspended {
                    self.state.connect(self.clock.now(), key);
                }
                self.state.fence(key, Waiter::Done(done));
            }
            Command::Disconnect { key, done } => {
                self.asked.remove(&key);
                self.state.disconnect(self.clock.now(), key);
                self.state.fence(key, Waiter::Done(done));
            }
            Command::SetAuth { key, auth, done } => {
                if let Some(client) = self.clients.get_mut(&key) {
                    client.auth = auth;
                }
                done(());
            }
            Command::Emit { key, emit, share, ticket } => self.emit(now, key, emit, share, ticket),
            Command::Answer { key, number, args, share, done } => {
                self.in_flight += share as usize;
                done(self.state.answer(now, key, number, args));
            }
            Command::AbandonAcks { done } => {
                self.state.abandon_acks(self.clock.now());
                let keys = self.state.keys();
                self.state.fence(keys.first().copied().unwrap_or_default(), Waiter::Done(done));
            }
            Command::Suspend { done } => done(self.suspend()),
        }
        // Later commands of this batch may depend on what this one did, a transport's queue above all.
        self.act();
    }

    fn add(&mut self, key: Key, settings: SocketSettings, first_ack: u64, observer: Arc<dyn Observer>) {
        self.state.add(key, settings.for_socket(&self.settings), settings.returns, first_ack);
        let client = Client {
            observer,
            auth: settings.auth.clone(),
            told: script_secrets(&settings.script),
            last_ack: first_ack.saturating_sub(1),
            settings,
            status: Status::default(),
            counters: Counters::default(),
            has_room: false,
            unpublished: false,
        };
        self.clients.insert(key, Box::new(client));
    }

    fn emit(&mut self, now: Instant, key: Key, emit: Emit, share: u32, mut ticket: Ticket) {
        // The end of the turn gives back what is not on its way then.
        self.in_flight += share as usize;
        let asker = ticket.arrive();
        match self.taken.last_mut() {
            Some((last, emits)) if Arc::ptr_eq(last, asker) => *emits += 1,
            _ => self.taken.push((Arc::clone(asker), 1)),
        }
        // It may have waited at the gate when the connection was closed.
        let Some(client) = self.clients.get(&key).filter(|_| self.state.contains(key)) else {
            return self.answered.extend(ticket.settled(Err(EmitError::Closed), false));
        };
        self.state.set_watched(key, client.observer.is_watched());
        let writable = self.link.transport().is_some_and(|transport| transport.is_writable());
        let Some((outcome, ticket)) = self.state.emit(now, key, emit, Waiter::Emit(ticket), writable) else {
            return;
        };
        if let Some(Waiter::Emit(ticket)) = ticket {
            self.answered.extend(ticket.settled(outcome, self.state.status(key).active));
        }
    }

    fn suspend(&mut self) -> Sessions {
        self.asked.clear();
        self.suspended = true;
        let now = self.clock.now();
        for (key, _) in self.clients.iter().filter(|(_, client)| !client.is_as_configured()) {
            self.state.disconnect(now, *key);
        }
        self.state.suspend(now);
        self.settle();
        let keys = self.state.keys().into_iter();
        keys.filter_map(|key| Some((key, self.session_of(key)?))).collect()
    }

    /// The session that another process may go on with. One of somebody else, as `set_auth` can have made it, is not
    /// what that process is configured to be.
    fn session_of(&self, key: Key) -> Option<Recoverable> {
        let client = self.clients.get(&key).filter(|client| client.is_as_configured());
        client.and_then(|_| self.state.session_of(key))
    }
}
