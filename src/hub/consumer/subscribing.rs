//! What a program wants to hear, and from where on.

use std::sync::{Arc, PoisonError};

use bytes::BytesMut;

use super::{Consumer, Heard, Replaying, State, View};
use crate::hub::access::Rights;
use crate::hub::channel::{Channel, Snapshot, Start};
use crate::hub::inbox::{Goodbye, Inbox};
use crate::hub::subscription::{Filter, Pattern};

/// Subscriptions one consumer may have.
pub const MAX_SUBSCRIPTIONS: usize = 1024;

/// Bytes of the patterns of all of them.
pub const MAX_PATTERN_BYTES: usize = 64 * 1024;

/// What a pattern counts beside its text: an empty one has to be looked at as well.
const PATTERN: usize = 16;

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

impl Subscription {
    fn pattern_bytes(&self) -> usize {
        let events = self.filter.events.iter().flatten();
        events.chain([&self.connections]).map(|pattern| pattern.as_str().len() + PATTERN).sum()
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

impl Consumer {
    /// Whether it has a subscription.
    pub fn is_subscribed(&self) -> bool {
        !self.lock().subscriptions.is_empty()
    }

    /// Begins to listen to `channels`, which are those that match now. `answer` writes the answer, which stands
    /// before whatever is replayed. None when it has too many subscriptions.
    pub(in crate::hub) fn subscribe(
        self: &Arc<Self>,
        subscription: Subscription,
        start: Start,
        channels: Vec<Arc<Channel>>,
        answer: impl FnOnce(&Subscribed, &mut BytesMut),
    ) -> Option<()> {
        let mut state = self.lock();
        let pattern_bytes = state.pattern_bytes + subscription.pattern_bytes();
        if state.subscriptions.len() >= MAX_SUBSCRIPTIONS || pattern_bytes > MAX_PATTERN_BYTES {
            return None;
        }
        state.pattern_bytes = pattern_bytes;
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
        state.pattern_bytes -= subscription.pattern_bytes();
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
    pub(in crate::hub) fn connection_opening(self: &Arc<Self>, channel: &Arc<Channel>) {
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
    pub(in crate::hub) fn leave_closed(&self, channel: &Arc<Channel>, must: bool) -> bool {
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
    pub(in crate::hub) fn set_rights(&self, rights: Rights) {
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

    /// It reads no more: nothing is kept for it from here on, also of what it has yet to be answered.
    pub fn stop_listening(&self) {
        self.inbox.forget_answers();
        let mut state = self.lock();
        state.subscriptions.clear();
        state.pattern_bytes = 0;
        for replaying in self.inbox.take_replays(|_| true) {
            replaying.end();
        }
        // All at once: of subscriptions and of views there may be a thousand each.
        let keys: Vec<usize> = state.views.iter().map(|(key, _)| key).collect();
        for key in keys {
            state.unhear(key, &self.inbox);
        }
    }
}

impl State {
    /// Whether this consumer has taken the channel's lines up to `seq`.
    pub(super) fn stands_after(&self, key: usize, seq: u64) -> bool {
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
