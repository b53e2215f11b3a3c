//! One attached program: its subscriptions, its places in the rings, and what is to be written to it next.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use slab::Slab;

use super::Lag;
use super::access::{Rights, Role};
use super::channel::{Channel, Replay, Seat, Snapshot, Start};
use super::inbox::{Goodbye, Inbox, Item};
use super::log::{LineView, Read, Want, Whole};
use super::notice::Time;
use super::subscription::{Filter, Pattern};

/// What is given to the socket in one go, roughly.
const BATCH_BYTES: usize = 256 * 1024;

/// Subscriptions one consumer may have.
pub const MAX_SUBSCRIPTIONS: usize = 1024;

/// Where the lines of a consumer go.
pub trait Outlet: Send + Sync {
    /// Writes what it takes now, and leaves the rest in `batch`.
    fn write(&self, batch: &mut Vec<Bytes>) -> io::Result<()>;
}

/// A subscription as it was asked for.
#[derive(Debug)]
pub struct Subscription {
    /// Which connections.
    pub connections: Pattern,
    /// What of them.
    pub filter: Arc<Filter>,
    /// The last line of each event that the connection keeps comes first.
    pub sticky: bool,
}

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

/// What a subscription found.
#[derive(Debug)]
pub struct Subscribed {
    /// Its number.
    pub subscription: u64,
    /// The connections it matches, at the point from which it is live.
    pub connections: Vec<Snapshot>,
    /// Lines that will be replayed.
    pub replayed: u64,
    /// Lines that were asked for and are gone.
    pub missed: u64,
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

/// What a reading of live lines took, and whether there are more.
struct Live {
    bytes: usize,
    more: bool,
}

#[derive(Default)]
struct State {
    next_subscription: u64,
    /// By their numbers, which only grow. Here and below a program with one subscription to one connection, as most are, has
    /// no room for more.
    subscriptions: Vec<(u64, Subscription)>,
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

    /// Whether it has a subscription.
    pub fn is_subscribed(&self) -> bool {
        !self.lock().subscriptions.is_empty()
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

    /// Begins to listen to `channels`, which are those that match now. `answer` writes the answer, which stands
    /// before whatever is replayed. None when it has too many subscriptions.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        subscription: Subscription,
        start: Start,
        channels: Vec<Arc<Channel>>,
        answer: impl FnOnce(&Subscribed, &mut BytesMut),
    ) -> Option<()> {
        let mut state = self.lock();
        if state.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return None;
        }
        let number = state.next_subscription;
        state.next_subscription += 1;
        let (filter, sticky) = (Arc::clone(&subscription.filter), subscription.sticky);
        if state.subscriptions.is_empty() {
            state.subscriptions.reserve_exact(1);
        }
        state.subscriptions.push((number, subscription));
        let mut subscribed =
            Subscribed { subscription: number, connections: Vec::new(), replayed: 0, missed: 0 };
        let mut replays = Vec::new();
        for channel in channels {
            let view = state.listen(&channel, self, number, u64::MAX, &filter);
            let joined = channel.join(start, sticky, &filter);
            view.since = joined.head;
            subscribed.connections.push(joined.snapshot);
            subscribed.replayed += joined.replayed;
            subscribed.missed += joined.missed;
            if joined.replayed > 0 {
                let (sticky_seqs, sticky) = joined.sticky.into_iter().unzip();
                replays.push(Replaying {
                    subscription: number,
                    channel,
                    sticky,
                    sticky_seqs,
                    replay: joined.replay,
                    filter: Arc::clone(&filter),
                });
            }
        }
        self.inbox.answer(|out| answer(&subscribed, out));
        for replay in replays {
            self.inbox.push_replay(replay);
        }
        Some(())
    }

    /// The answer that comes next stands behind what this connection has said so far.
    pub fn hear_first(&self, connection: &str) {
        let state = self.lock();
        if let Some(key) = state.key_of(connection) {
            self.inbox.push_live(key, state.views[key].channel.head());
        }
    }

    /// Ends a subscription; false if there is none of that number. What it wrote before is all of it.
    pub fn unsubscribe(&self, number: u64) -> bool {
        let mut state = self.lock();
        let Ok(place) = state.subscriptions.binary_search_by_key(&number, |(number, _)| *number) else {
            return false;
        };
        let (_, subscription) = state.subscriptions.remove(place);
        for replaying in self.inbox.take_replays(|replaying| replaying.subscription == number) {
            replaying.end();
        }
        let mut left = Vec::new();
        for (key, view) in &mut state.views {
            let before = view.heard.len();
            view.heard.retain(|heard| heard.subscription != number);
            if view.heard.len() < before && subscription.filter.outgoing {
                view.channel.watch(false);
            }
            if view.heard.is_empty() {
                left.push(key);
            }
        }
        for key in left {
            state.leave(key, &self.inbox);
        }
        true
    }

    /// A connection came to be: where it may see it, subscriptions that match it hear it from its next line on.
    pub(super) fn connection_opening(self: &Arc<Self>, channel: &Arc<Channel>) {
        if !self.rights().reach(channel.name()) {
            return;
        }
        let mut state = self.lock();
        let matching: Vec<(u64, Arc<Filter>)> = state
            .subscriptions
            .iter()
            .filter(|(_, subscription)| subscription.connections.matches(channel.name()))
            .map(|(number, subscription)| (*number, Arc::clone(&subscription.filter)))
            .collect();
        let since = channel.head();
        for (number, filter) in matching {
            let known = state.key_of(channel.name()).map(|key| &state.views[key]);
            if known.is_none_or(|view| view.heard.iter().all(|heard| heard.subscription != number)) {
                state.listen(channel, self, number, since, &filter);
            }
        }
    }

    /// A closed connection is about to be forgotten. False where there is something of it yet to be taken; a consumer that
    /// is not waited for any longer is detached.
    pub(super) fn leave_closed(&self, channel: &Arc<Channel>, must: bool) -> bool {
        let mut state = self.lock();
        let Some(key) = state.key_of(channel.name()) else { return true };
        let behind = channel.behind(&state.views[key].seat) > 0;
        if (behind || self.inbox.replays(channel)) && !must {
            return false;
        }
        if behind {
            self.inbox.say_goodbye(Goodbye::Lagged);
        }
        for replaying in self.inbox.take_replays(|replaying| replaying.is_of(channel)) {
            replaying.end();
        }
        state.unhear(key, &self.inbox);
        true
    }

    /// Other rights hold from now on: of what they do not reach, nothing more is written, and not what stands in line.
    pub(super) fn set_rights(&self, rights: Rights) {
        let mut state = self.lock();
        for replaying in self.inbox.take_replays(|replaying| !rights.reach(replaying.channel.name())) {
            replaying.end();
        }
        let hidden: Vec<usize> = state
            .views
            .iter()
            .filter(|(_, view)| !rights.reach(view.channel.name()))
            .map(|(key, _)| key)
            .collect();
        for key in hidden {
            state.unhear(key, &self.inbox);
        }
        *self.rights.lock().unwrap_or_else(PoisonError::into_inner) = rights;
    }

    /// It reads no more: nothing is kept for it from here on.
    pub fn stop_listening(&self) {
        self.inbox.forget_answers();
        self.detach();
    }

    /// Ends everything: the program is gone.
    pub(super) fn detach(&self) {
        let numbers: Vec<u64> = self.lock().subscriptions.iter().map(|(number, _)| *number).collect();
        for number in numbers.into_iter().rev() {
            self.unsubscribe(number);
        }
    }

    /// From now on lines may be written to this at once where nothing else is being written.
    pub fn write_to(&self, outlet: Arc<dyn Outlet>) {
        self.lock().outlet = Some(outlet);
    }

    /// Nothing is written any more but by the caller. Gives what is still to be written of the lines that were begun.
    pub fn write_no_more(&self) -> Vec<Bytes> {
        let mut state = self.lock();
        (state.outlet, state.resting) = (None, false);
        std::mem::take(&mut state.unwritten)
    }

    /// From now on only the task that has the socket writes to it, for it has to see when all is said.
    pub fn write_nothing_at_once(&self) {
        self.lock().outlet = None;
    }

    /// Answers were put in line, and maybe more: they are written at once where nothing else is being written.
    pub fn write_at_once(&self) {
        let mut state = self.lock();
        let may = state.resting && self.inbox.goodbye().is_none();
        let Some(outlet) = state.outlet.clone().filter(|_| may) else { return self.inbox.ring() };
        let mut batch = std::mem::take(&mut state.unwritten);
        self.take_new(&state, 0, &mut batch);
        // A failure shows again when the rest is written.
        if outlet.write(&mut batch).is_err() || !batch.is_empty() || !self.inbox.is_idle() {
            state.resting = false;
            self.inbox.ring();
        }
        state.unwritten = batch;
    }

    /// There is something to read in a channel: if nothing else is to be written, it is written at once, by way of `batch`,
    /// which is empty before and after. Gives how many bytes that was.
    pub(super) fn hear(&self, channel: usize, batch: &mut Vec<Bytes>) -> usize {
        let mut state = self.lock();
        let outlet = state.outlet.as_ref().filter(|_| state.resting && self.inbox.is_idle());
        let Some(outlet) = outlet else {
            self.inbox.news(channel);
            return 0;
        };
        let bytes = self.read_live(&state, channel, u64::MAX, batch).bytes;
        // A failure shows again when the rest is written.
        if outlet.write(batch).is_err() || !batch.is_empty() {
            state.resting = false;
            state.unwritten.append(batch);
            self.inbox.ring();
        }
        bytes
    }

    /// What to write next: what was begun, answers and replays in their order, then live lines, all in slices that hold
    /// whole lines. Empty when there is nothing for now.
    pub fn take(&self, out: &mut Vec<Bytes>) {
        let mut state = self.lock();
        let begun = state.unwritten.iter().map(Bytes::len).sum();
        out.append(&mut state.unwritten);
        self.take_new(&state, begun, out);
        state.resting = out.is_empty() && self.inbox.is_idle();
    }

    /// As much as makes a batch of these `bytes`.
    fn take_new(&self, state: &State, mut bytes: usize, out: &mut Vec<Bytes>) {
        while bytes < BATCH_BYTES {
            match self.inbox.pop() {
                None => break,
                Some(Item::Answers { lines, .. }) => {
                    bytes += lines.len();
                    out.push(lines.freeze());
                }
                Some(Item::Replay(mut replaying)) => {
                    // Live lines wait for the replay, so nothing else is read before it is over.
                    let over = self.replay(&mut replaying, out);
                    if over {
                        replaying.end();
                    } else {
                        self.inbox.put_back(Item::Replay(replaying));
                        self.inbox.ring();
                        return;
                    }
                }
                Some(Item::Live { channel, until }) => {
                    let live = self.read_live(state, channel, until, out);
                    bytes += live.bytes;
                    // What came later has its turn after what stands in line.
                    self.inbox.news(channel);
                    if live.more && !state.stands_after(channel, until) {
                        self.inbox.put_back(Item::Live { channel, until });
                        self.inbox.ring();
                        return;
                    }
                }
            }
        }
        if bytes >= BATCH_BYTES {
            self.inbox.ring();
            if self.inbox.has_line() {
                // Live lines come neither before what stands there nor after all that is yet to: the next batches may be
                // as large.
                for key in self.inbox.take_ready() {
                    if let Some(view) = state.views.get(key) {
                        self.inbox.push_live(key, view.channel.head());
                    }
                }
                return;
            }
        }
        let mut live = 0;
        let mut ready = self.inbox.take_ready().into_iter();
        for key in ready.by_ref() {
            live += self.read_live(state, key, u64::MAX, out).bytes;
            if live >= BATCH_BYTES {
                break;
            }
        }
        // Those that were read and have more are behind those that were not.
        let again = if ready.len() > 0 { self.inbox.take_ready() } else { Vec::new() };
        for key in ready.chain(again) {
            self.inbox.news(key);
        }
    }

    fn replay(&self, replaying: &mut Replaying, out: &mut Vec<Bytes>) -> bool {
        let Replaying { channel, sticky, sticky_seqs, replay, filter, .. } = replaying;
        let mut bytes = 0;
        while let Some(line) = sticky.pop_front() {
            bytes += line.len();
            out.push(line);
            self.delivered.fetch_add(1, Ordering::Relaxed);
            if bytes >= BATCH_BYTES {
                return sticky.is_empty() && replay.is_none();
            }
        }
        let Some(replay) = replay else { return true };
        let is_sticky = |seq| sticky_seqs.binary_search(&seq).is_ok();
        let want = |line: LineView<'_>| filter.wants(line) && !is_sticky(line.seq);
        match channel.read_replay(replay, want, BATCH_BYTES, out) {
            Read::AtHead(lines) => {
                self.delivered.fetch_add(lines as u64, Ordering::Relaxed);
                true
            }
            Read::Lines(lines) => {
                self.delivered.fetch_add(lines as u64, Ordering::Relaxed);
                false
            }
            Read::Missed { count, next } => {
                self.overrun(channel, count, next, out);
                false
            }
        }
    }

    fn read_live(&self, state: &State, key: usize, until: u64, out: &mut Vec<Bytes>) -> Live {
        let from = out.len();
        let Some(view) = state.views.get(key) else { return Live { bytes: 0, more: false } };
        let channel = &view.channel;
        let watches = view.heard.iter().any(|heard| heard.filter.outgoing);
        let mut more = false;
        if watches {
            let read = channel.read_outgoing(&view.seat, BATCH_BYTES, |line| view.wants_outgoing(line), out);
            if let Read::Lines(lines) | Read::AtHead(lines) = read {
                self.delivered.fetch_add(lines as u64, Ordering::Relaxed);
            }
            more = matches!(read, Read::Lines(_));
        }
        let read = channel.read(&view.seat, until, BATCH_BYTES, view, out);
        match read {
            Read::AtHead(lines) | Read::Lines(lines) => {
                self.delivered.fetch_add(lines as u64, Ordering::Relaxed);
                more |= matches!(read, Read::Lines(_));
            }
            Read::Missed { count, next } => {
                self.overrun(channel, count, next, out);
                more = true;
            }
        }
        if more {
            self.inbox.news(key);
        }
        Live { bytes: out[from..].iter().map(Bytes::len).sum(), more }
    }

    fn overrun(&self, channel: &Channel, count: u64, next: u64, out: &mut Vec<Bytes>) {
        self.missed.fetch_add(count, Ordering::Relaxed);
        match self.inbox.lag() {
            Lag::Skip => {
                let mut line = BytesMut::from(&channel.lagged(count, next)[..]);
                line.put_u8(b'\n');
                out.push(line.freeze());
            }
            Lag::Disconnect => self.inbox.say_goodbye(Goodbye::Lagged),
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

impl State {
    /// Whether this consumer has taken the channel's lines up to `seq`.
    fn stands_after(&self, key: usize, seq: u64) -> bool {
        self.views.get(key).is_none_or(|view| view.channel.stands_after(&view.seat, seq))
    }

    /// Where the channel of this name stands in `by_name`, or would stand.
    fn place_of(&self, name: &str) -> Result<usize, usize> {
        self.by_name.binary_search_by(|key| self.views[*key].channel.name().cmp(name))
    }

    /// The view of the channel of this name.
    fn key_of(&self, name: &str) -> Option<usize> {
        self.place_of(name).ok().map(|place| self.by_name[place])
    }

    /// Whichever subscriptions heard this channel do so no more.
    fn unhear(&mut self, key: usize, inbox: &Inbox) {
        let heard = std::mem::take(&mut self.views[key].heard);
        for _watcher in heard.iter().filter(|heard| heard.filter.outgoing) {
            self.views[key].channel.watch(false);
        }
        self.leave(key, inbox);
    }

    /// Nobody hears this channel any more.
    fn leave(&mut self, key: usize, inbox: &Inbox) {
        // The next view may get the key.
        inbox.forget_live(key);
        if let Ok(place) = self.place_of(self.views[key].channel.name()) {
            self.by_name.remove(place);
        }
        let view = self.views.remove(key);
        view.channel.detach(&view.seat);
    }

    fn listen(
        &mut self,
        channel: &Arc<Channel>,
        consumer: &Arc<Consumer>,
        subscription: u64,
        since: u64,
        filter: &Arc<Filter>,
    ) -> &mut Heard {
        let key = match self.place_of(channel.name()) {
            Ok(place) => self.by_name[place],
            Err(place) => {
                if self.views.is_empty() {
                    self.views.reserve_exact(1);
                    self.by_name.reserve_exact(1);
                }
                let entry = self.views.vacant_entry();
                let key = entry.key();
                let seat = channel.attach(Arc::downgrade(consumer), key);
                entry.insert(View { channel: Arc::clone(channel), seat, heard: Vec::with_capacity(1) });
                self.by_name.insert(place, key);
                // The first reading finds nothing and waits for what comes.
                consumer.inbox.news(key);
                key
            }
        };
        if filter.outgoing {
            channel.watch(true);
        }
        let heard = &mut self.views[key].heard;
        heard.push(Heard { subscription, since, filter: Arc::clone(filter) });
        let last = heard.len() - 1;
        &mut heard[last]
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;
    use crate::hub::inbox::MAX_ANSWER_BYTES;
    use crate::hub::log;
    use crate::hub::subscription::LifecycleFilter;
    use crate::manager::{Lifecycle, Observer, Status};
    use crate::socketio::{Args, Name};

    #[test]
    fn a_replay_ends_where_the_rights_end() {
        let identity = Identity { pid: None, uid: 0, gid: 0 };
        let consumer = Consumer::new(1, identity, Rights::everywhere(Role::Read), Lag::Skip);
        let history = log::Settings { events: 10, bytes: 1024 };
        for name in ["chat", "secret"] {
            let channel =
                Channel::new(name, "stream".into(), history.clone(), Duration::from_secs(1), Arc::default());
            consumer.inbox.push_replay(Replaying {
                subscription: 1,
                channel: Arc::new(channel),
                sticky: VecDeque::from([Bytes::from(name)]),
                sticky_seqs: vec![1],
                replay: None,
                filter: Arc::new(Filter { events: None, lifecycle: LifecycleFilter::All, outgoing: false }),
            });
        }
        consumer.set_rights(Rights { role: Role::Read, connections: [Pattern::new("ch*")].into() });
        let mut out = Vec::new();
        consumer.take(&mut out);
        assert_eq!(out, ["chat"]);
    }

    /// A socket that takes so many bytes.
    pub(super) struct Socket {
        pub(super) room: Mutex<usize>,
        pub(super) taken: Mutex<Vec<u8>>,
    }

    impl Outlet for Socket {
        fn write(&self, batch: &mut Vec<Bytes>) -> io::Result<()> {
            let (mut room, mut taken) = (self.room.lock().unwrap(), self.taken.lock().unwrap());
            for bytes in &mut *batch {
                let part = bytes.split_to(bytes.len().min(*room));
                *room -= part.len();
                taken.extend_from_slice(&part);
            }
            batch.retain(|bytes| !bytes.is_empty());
            Ok(())
        }
    }

    #[test]
    fn what_a_resting_consumer_hears_is_written_at_once_and_in_order() {
        let identity = Identity { pid: None, uid: 0, gid: 0 };
        let consumer = Arc::new(Consumer::new(1, identity, Rights::everywhere(Role::Read), Lag::Skip));
        let history = log::Settings { events: 100, bytes: 100_000 };
        let channel =
            Arc::new(Channel::new("chat", "stream".into(), history, Duration::from_secs(1), Arc::default()));
        let filter = Arc::new(Filter { events: None, lifecycle: LifecycleFilter::All, outgoing: false });
        let subscription = Subscription { connections: Pattern::new("chat"), filter, sticky: false };
        let answer = |_: &Subscribed, out: &mut BytesMut| out.put_slice(b"answer\n");
        let subscribed = consumer.subscribe(subscription, Start::Live, vec![Arc::clone(&channel)], answer);
        assert!(subscribed.is_some());
        let socket = Arc::new(Socket { room: Mutex::new(usize::MAX), taken: Mutex::default() });
        consumer.write_to(Arc::clone(&socket) as Arc<_>);
        let seqs = |bytes: &[u8]| -> String {
            let text = std::str::from_utf8(bytes).unwrap().lines();
            let seq = |line: &str| match line.split_once("\"seq\":") {
                Some((_, rest)) => rest.split(',').next().unwrap().to_owned(),
                None => line.to_owned(),
            };
            text.map(seq).collect::<Vec<_>>().join(" ")
        };
        let say = || {
            channel.lifecycle(&Lifecycle::Ready, &Status::default());
            channel.publish();
        };
        let take = || {
            let mut out = Vec::new();
            consumer.take(&mut out);
            seqs(&out.concat())
        };
        let written = || seqs(&std::mem::take(&mut *socket.taken.lock().unwrap()));

        say();
        assert_eq!((written(), take()), (String::new(), "answer 1".to_owned()), "its task is yet to begin");
        say();
        assert_eq!((written(), take()), (String::new(), "2".to_owned()), "its task is at the line before");
        assert_eq!(take(), "");
        say();
        say();
        assert_eq!((written(), take()), ("3 4".to_owned(), String::new()), "its task rests");
        consumer.inbox.expect_answer();
        consumer.inbox.answer(|out| out.put_slice(b"answer\n"));
        say();
        assert_eq!((written(), take()), (String::new(), "answer 5".to_owned()), "an answer stands in line");
        assert_eq!(take(), "");

        // Of one line the socket takes the beginning, and its task writes the rest before anything else.
        *socket.room.lock().unwrap() = 10;
        say();
        say();
        *socket.room.lock().unwrap() = usize::MAX;
        let begun = std::mem::take(&mut *socket.taken.lock().unwrap());
        let mut out = Vec::new();
        consumer.take(&mut out);
        assert_eq!((begun.len(), seqs(&[begun, out.concat()].concat())), (10, "6 7".to_owned()));
        assert_eq!(take(), "");

        *socket.room.lock().unwrap() = 10;
        say();
        let rest = consumer.write_no_more().concat();
        assert_eq!(seqs(&[std::mem::take(&mut *socket.taken.lock().unwrap()), rest].concat()), "8");
        *socket.room.lock().unwrap() = usize::MAX;
        say();
        assert_eq!(written(), "", "it was told goodbye");
        consumer.detach();
    }

    pub(super) fn consumer() -> Arc<Consumer> {
        let identity = Identity { pid: None, uid: 0, gid: 0 };
        Arc::new(Consumer::new(1, identity, Rights::everywhere(Role::Read), Lag::Skip))
    }

    fn channel(name: &str) -> Arc<Channel> {
        channel_of(name, log::Settings { events: 100, bytes: 100_000 })
    }

    pub(super) fn channel_of(name: &str, history: log::Settings) -> Arc<Channel> {
        Arc::new(Channel::new(name, "stream".into(), history, Duration::from_secs(1), Arc::default()))
    }

    /// Subscribes to a channel; the answer reads `subscribed`.
    pub(super) fn subscribe(consumer: &Arc<Consumer>, channel: &Arc<Channel>, start: Start) {
        let filter = Arc::new(Filter { events: None, lifecycle: LifecycleFilter::All, outgoing: false });
        let subscription = Subscription { connections: Pattern::new(channel.name()), filter, sticky: false };
        let answer = |_: &Subscribed, out: &mut BytesMut| out.put_slice(b"subscribed\n");
        consumer.inbox.expect_answer();
        assert!(consumer.subscribe(subscription, start, vec![Arc::clone(channel)], answer).is_some());
    }

    /// One more line of a channel.
    fn say(channel: &Channel) {
        channel.lifecycle(&Lifecycle::Ready, &Status::default());
        channel.publish();
    }

    pub(super) fn answer(consumer: &Consumer, text: &str) {
        consumer.inbox.expect_answer();
        consumer.inbox.answer(|out| out.put_slice(format!("{text}\n").as_bytes()));
    }

    /// All that there is to take: answers as they are (the first letter of long ones), notifications as `connection seq`.
    fn taken(consumer: &Consumer) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let mut out = Vec::new();
            consumer.take(&mut out);
            if out.is_empty() {
                break;
            }
            all.extend(out);
        }
        let said = |line: &str| match line.split_once(r#""connection":""#) {
            Some((_, rest)) => {
                let (name, rest) = rest.split_once(r#"","seq":"#).unwrap();
                format!("{name} {}", rest.split(',').next().unwrap())
            }
            None if line.len() > 100 => line[..1].to_owned(),
            None => line.to_owned(),
        };
        String::from_utf8(all.concat()).unwrap().lines().map(said).collect()
    }

    #[test]
    fn what_stood_in_line_for_a_connection_is_nothing_for_the_next_one_in_its_place() {
        let (consumer, chat, lobby) = (consumer(), channel("chat"), channel("lobby"));
        subscribe(&consumer, &chat, Start::Live);
        assert_eq!(taken(&consumer), ["subscribed"]);
        for _ in 0..3 {
            say(&chat);
        }
        consumer.hear_first("chat");
        answer(&consumer, "answer");
        assert!(consumer.unsubscribe(1));
        answer(&consumer, "unsubscribed");
        subscribe(&consumer, &lobby, Start::Live);
        say(&lobby);
        assert_eq!(taken(&consumer), ["answer", "unsubscribed", "subscribed", "lobby 1"]);
    }

    #[test]
    fn live_lines_wait_for_what_stands_in_line_however_much_that_is() {
        let (consumer, chat) = (consumer(), channel("chat"));
        say(&chat);
        say(&chat);
        answer(&consumer, &"x".repeat(BATCH_BYTES));
        subscribe(&consumer, &chat, Start::Last(2));
        say(&chat);
        assert_eq!(taken(&consumer), ["x", "subscribed", "chat 1", "chat 2", "chat 3"]);

        say(&chat);
        consumer.hear_first("chat");
        answer(&consumer, &"y".repeat(BATCH_BYTES));
        say(&chat);
        consumer.hear_first("chat");
        answer(&consumer, "z");
        say(&chat);
        assert_eq!(taken(&consumer), ["chat 4", "y", "chat 5", "z", "chat 6"]);
    }

    #[test]
    fn answers_with_nothing_new_between_them_lie_in_one_piece() {
        let (consumer, chat) = (consumer(), channel("chat"));
        subscribe(&consumer, &chat, Start::Live);
        say(&chat);
        let answered = |count| {
            for number in 0..count {
                consumer.hear_first("chat");
                answer(&consumer, &number.to_string());
            }
        };
        answered(3);
        say(&chat);
        answered(2);
        let mut out = Vec::new();
        consumer.take(&mut out);
        assert_eq!(out.len(), 5);
        answered(1);
        consumer.take(&mut out);
        let text = String::from_utf8(out.concat()).unwrap();
        let said: Vec<_> = text.lines().map(|line| if line.len() > 100 { "line" } else { line }).collect();
        assert_eq!(said, ["subscribed", "line", "0", "1", "2", "line", "0", "1", "0"]);
    }

    #[test]
    fn no_connection_waits_for_ever_for_the_lines_of_another() {
        let history = log::Settings { events: 1000, bytes: 64 * BATCH_BYTES };
        let (consumer, busy, quiet) =
            (consumer(), channel_of("busy", history.clone()), channel_of("quiet", history));
        subscribe(&consumer, &busy, Start::Live);
        subscribe(&consumer, &quiet, Start::Live);
        assert_eq!(taken(&consumer), ["subscribed", "subscribed"]);
        let args = Args::from_array(format!("[\"{}\"]", "x".repeat(BATCH_BYTES)).into()).unwrap();
        let speak = || {
            for _ in 0..2 {
                busy.event(Name::new("e").view(), args.view(), None);
            }
            busy.publish();
        };
        speak();
        say(&quiet);
        for round in 0..4 {
            let mut out = Vec::new();
            consumer.take(&mut out);
            if out.iter().any(|slice| slice.windows(5).any(|word| word == b"quiet")) {
                assert!(round < 2);
                return;
            }
            // As much as it has taken comes again.
            speak();
        }
        panic!("it was not heard");
    }

    #[test]
    fn no_connection_waits_for_ever_for_the_answers_of_another() {
        let (consumer, chat, lobby) = (consumer(), channel("chat"), channel("lobby"));
        subscribe(&consumer, &chat, Start::Live);
        subscribe(&consumer, &lobby, Start::Live);
        assert_eq!(taken(&consumer), ["subscribed", "subscribed"]);
        say(&lobby);
        let mut out = Vec::new();
        for round in 0..8 {
            // Before what was taken is written, as much stands in line again.
            for _ in 0..2 {
                say(&chat);
                consumer.hear_first("chat");
                answer(&consumer, &"x".repeat(BATCH_BYTES));
            }
            consumer.take(&mut out);
            if out.iter().any(|slice| slice.windows(5).any(|word| word == b"lobby")) {
                assert!(round < 4);
                return;
            }
        }
        panic!("it was not heard");
    }

    #[test]
    fn kept_lines_that_are_not_read_count_as_answers() {
        let identity = Identity { pid: None, uid: 0, gid: 0 };
        let consumer = Consumer::new(1, identity, Rights::everywhere(Role::Read), Lag::Skip);
        let history = log::Settings { events: 10, bytes: 1024 };
        let channel =
            Arc::new(Channel::new("chat", "stream".into(), history, Duration::from_secs(1), Arc::default()));
        let filter = Arc::new(Filter { events: None, lifecycle: LifecycleFilter::All, outgoing: false });
        let line = Bytes::from(vec![b'x'; MAX_ANSWER_BYTES / 4]);
        let subscribe = |subscription| {
            consumer.inbox.push_replay(Replaying {
                subscription,
                channel: Arc::clone(&channel),
                sticky: VecDeque::from([line.clone(), line.clone(), line.clone()]),
                sticky_seqs: vec![1, 2, 3],
                replay: None,
                filter: Arc::clone(&filter),
            });
        };
        let has_room = || consumer.inbox.answers_have_room().now_or_never().is_some();
        subscribe(1);
        assert!(has_room());
        subscribe(2);
        assert!(!has_room());
        assert_eq!(consumer.inbox.take_replays(|replaying| replaying.subscription == 1).len(), 1);
        assert!(has_room());
        subscribe(3);
        // Five lines are left, then four, which are as much as may wait, then fewer.
        for (written, room) in [(1, false), (2, false), (3, true), (6, true)] {
            let mut out = Vec::new();
            while consumer.delivered.load(Ordering::Relaxed) < written {
                consumer.take(&mut out);
            }
            assert_eq!(has_room(), room, "{written}");
            assert!(out.iter().all(|slice| slice.len() == line.len()));
        }
    }
}
