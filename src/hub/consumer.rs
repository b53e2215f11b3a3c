//! One attached program: its subscriptions, its places in the rings, and what is to be written to it next.

mod subscribing;
mod writing;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use slab::Slab;

pub use self::subscribing::{MAX_PATTERN_BYTES, MAX_SUBSCRIPTIONS, Subscribed, Subscription};
pub use self::writing::Outlet;
use super::Lag;
use super::access::{Rights, Role};
use super::channel::{Channel, Replay, Seat};
use super::inbox::Inbox;
use super::log::{LineView, Want, Whole};
use super::notice::Time;
use super::subscription::Filter;

/// A replay in line.
#[derive(Debug)]
pub(super) struct Replaying {
    subscription: u64,
    channel: Arc<Channel>,
    /// The kept lines that come first, without those that are written.
    sticky: VecDeque<Bytes>,
    /// The numbers of all of them, which are left out later.
    sticky_seqs: Vec<u64>,
    replay: Option<Replay>,
    filter: Arc<Filter>,
}

impl Replaying {
    /// Bytes that it keeps in memory, whatever has become of them in the channel.
    pub(super) fn holds(&self) -> usize {
        self.sticky.iter().map(Bytes::len).sum()
    }

    /// Whether it is one of this channel.
    pub(super) fn is_of(&self, channel: &Arc<Channel>) -> bool {
        Arc::ptr_eq(&self.channel, channel)
    }

    /// No line of it is wanted any more.
    fn end(&self) {
        if let Some(replay) = &self.replay {
            self.channel.end_replay(replay);
        }
    }
}

#[derive(Debug)]
struct Heard {
    subscription: u64,
    /// Lines up to this one are not live for it.
    since: u64,
    filter: Arc<Filter>,
}

#[derive(Debug)]
struct View {
    channel: Arc<Channel>,
    seat: Seat,
    heard: Vec<Heard>,
}

impl Want for &View {
    fn whole(&self, from: u64) -> Whole {
        let heard = self.heard.iter().filter(|heard| heard.since < from);
        heard.map(|heard| heard.filter.whole()).max().unwrap_or(Whole::Nothing)
    }

    fn wants(&self, line: LineView<'_>) -> bool {
        self.heard.iter().any(|heard| line.seq > heard.since && heard.filter.wants(line))
    }
}

impl View {
    fn wants_outgoing(&self, line: LineView<'_>) -> bool {
        self.heard.iter().any(|heard| heard.filter.outgoing && heard.filter.wants_event(line.name))
    }
}

#[derive(Default)]
struct State {
    next_subscription: u64,
    /// By their numbers, which only grow. Here and below a program with one subscription to one connection, as most are, has
    /// no room for more.
    subscriptions: Vec<(u64, Subscription)>,
    /// Bytes of their patterns.
    pattern_bytes: usize,
    views: Slab<View>,
    /// The keys of all views, by the names of their channels.
    by_name: Vec<usize>,
    client: Option<String>,
    outlet: Option<Arc<dyn Outlet>>,
    /// All that was taken is written, and who writes waits for the bell.
    resting: bool,
    /// What the outlet did not take of what was written meanwhile.
    unwritten: Vec<Bytes>,
}

/// Who is at the other end, by the kernel's word at the time of the connect.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The process, where the kernel says so. It may be gone, or another by now.
    pub pid: Option<i32>,
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
}

/// One attached program.
pub struct Consumer {
    id: u64,
    identity: Identity,
    /// What it may do by the rules that hold. Changes together with what it hears, under the hub's lock.
    rights: Mutex<Rights>,
    attached: Time,
    inbox: Arc<Inbox>,
    state: Mutex<State>,
    delivered: AtomicU64,
    missed: AtomicU64,
}

/// How a consumer is doing, for `status`.
#[derive(Clone, Debug, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Program"))]
pub struct Report {
    /// Its name, as `hello` tells it and as `outgoing` shows it to others.
    pub consumer: String,
    /// What it calls itself, if it said so in `hello`.
    pub client: Option<String>,
    /// The process, where the kernel says so.
    pub pid: Option<i32>,
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// What it may do.
    pub role: Role,
    /// Since when it is here.
    pub attached: Time,
    /// How many subscriptions it has.
    pub subscriptions: usize,
    /// How many lines it has yet to take, over all connections.
    pub lag: u64,
    /// Notifications handed to its socket.
    pub delivered: u64,
    /// Lines it was told it missed.
    pub missed: u64,
}

impl Consumer {
    /// A consumer without subscriptions.
    pub fn new(id: u64, identity: Identity, rights: Rights, lag: Lag) -> Self {
        Self {
            id,
            identity,
            rights: Mutex::new(rights),
            attached: Time::now(),
            inbox: Arc::new(Inbox::new(lag)),
            state: Mutex::new(State { next_subscription: 1, ..State::default() }),
            delivered: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }

    /// Its number, as `sender` of emits.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name to others.
    pub fn name(&self) -> String {
        super::consumer_name(self.id)
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What it may do now.
    pub fn rights(&self) -> Rights {
        self.rights.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What waits for it.
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// What it says of itself.
    pub fn introduce(&self, client: Option<String>, lag: Option<Lag>) {
        if client.is_some() {
            self.lock().client = client;
        }
        if let Some(lag) = lag {
            self.inbox.set_lag(lag);
        }
    }

    /// How it is doing.
    pub fn report(&self) -> Report {
        let state = self.lock();
        Report {
            consumer: self.name(),
            pid: self.identity.pid,
            uid: self.identity.uid,
            gid: self.identity.gid,
            role: self.rights().role,
            attached: self.attached,
            client: state.client.clone(),
            subscriptions: state.subscriptions.len(),
            lag: state.views.iter().map(|(_, view)| view.channel.behind(&view.seat)).sum(),
            delivered: self.delivered.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("id", &self.id)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
