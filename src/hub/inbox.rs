//! What waits to be written to one consumer, and the bell that says so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::Lag;
use super::channel::Channel;
use super::consumer::Replaying;

/// Answers that may wait for a consumer before its requests wait too.
pub const MAX_ANSWERS: usize = 1024;

/// The same in bytes, together with the kept lines that new subscriptions are still to get.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Why the daemon ends the attachment; the last thing a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "snake_case"))]
pub enum Goodbye {
    /// The daemon ends.
    Shutdown,
    /// There is no place for one more.
    TooManyConsumers,
    /// It was overrun and wanted no gaps.
    Lagged,
    /// The rules do not let it attach.
    Forbidden,
}

impl Goodbye {
    /// The notification line.
    pub fn line(self) -> Bytes {
        let reason = match self {
            Self::Shutdown => "shutdown",
            Self::TooManyConsumers => "too_many_consumers",
            Self::Lagged => "lagged",
            Self::Forbidden => "forbidden",
        };
        format!("{{\"jsonrpc\":\"2.0\",\"method\":\"goodbye\",\"params\":{{\"reason\":\"{reason}\"}}}}\n")
            .into()
    }
}

/// The last line before siod closes.
#[cfg(test)]
#[derive(schemars::JsonSchema)]
#[allow(dead_code, reason = "it describes the line above")]
pub(crate) struct GoodbyeParams {
    /// Why.
    reason: Goodbye,
}

/// What stands in line, in this order.
#[derive(Debug)]
pub(super) enum Item<R> {
    /// Answers, one behind the other.
    Answers { lines: BytesMut, count: usize },
    /// A subscription's replay.
    Replay(R),
    /// The live lines of the channel with this key up to this one.
    Live { channel: usize, until: u64 },
}

#[derive(Debug)]
struct Queue {
    items: VecDeque<Item<Replaying>>,
    answers: usize,
    answer_bytes: usize,
    /// What the replays in line keep in memory.
    replay_bytes: usize,
    /// Channels that have news.
    ready: Vec<usize>,
    goodbye: Option<Goodbye>,
    lag: Lag,
    /// Answers are not wanted any more.
    deaf: bool,
}

/// What waits for one consumer.
#[derive(Debug)]
pub struct Inbox {
    queue: Mutex<Queue>,
    bell: Notify,
    room: Notify,
    farewell: Notify,
    /// Requests that are not answered yet.
    expected: AtomicUsize,
    answered: Notify,
}

impl Inbox {
    /// An empty one of a consumer with this policy.
    pub fn new(lag: Lag) -> Self {
        let queue = Queue {
            items: VecDeque::new(),
            answers: 0,
            answer_bytes: 0,
            replay_bytes: 0,
            ready: Vec::new(),
            goodbye: None,
            lag,
            deaf: false,
        };
        Self {
            queue: Mutex::new(queue),
            bell: Notify::new(),
            room: Notify::new(),
            farewell: Notify::new(),
            expected: AtomicUsize::new(0),
            answered: Notify::new(),
        }
    }

    /// A request came that will be answered.
    pub fn expect_answer(&self) {
        self.expected.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests are still to be answered.
    pub fn expected(&self) -> usize {
        self.expected.load(Ordering::Relaxed)
    }

    /// Whether a request is still to be answered.
    pub fn expects_answers(&self) -> bool {
        self.expected.load(Ordering::Relaxed) > 0
    }

    /// Nobody reads answers any more: those in line are dropped, and those to come.
    pub(super) fn forget_answers(&self) {
        let mut queue = self.lock();
        queue.items.retain(|item| matches!(item, Item::Replay(_)));
        (queue.answers, queue.answer_bytes, queue.deaf) = (0, 0, true);
        drop(queue);
        self.room.notify_one();
    }

    /// Whether nobody reads answers any more.
    pub fn is_deaf(&self) -> bool {
        self.lock().deaf
    }

    /// Waits until every request so far has its answer in line. One waiter.
    pub async fn all_answered(&self) {
        while self.expects_answers() {
            self.answered.notified().await;
        }
    }

    /// What happens when the consumer is overrun.
    pub fn lag(&self) -> Lag {
        self.lock().lag
    }

    /// Changes that.
    pub fn set_lag(&self, lag: Lag) {
        self.lock().lag = lag;
    }

    /// The consumer holds a ring up and counts as stalled: it will be overrun.
    pub fn stalled(&self) {
        if self.lag() == Lag::Disconnect {
            self.say_goodbye(Goodbye::Lagged);
        }
    }

    /// Puts an expected answer in line; `write` adds it with its newline, or nothing where none is expected.
    pub fn answer(&self, write: impl FnOnce(&mut BytesMut)) {
        self.put_answer(write);
        self.ring();
    }

    /// [`Inbox::answer`] for one who sees to it that it will be written.
    pub fn put_answer(&self, write: impl FnOnce(&mut BytesMut)) {
        let mut queue = self.lock();
        let appends = matches!(queue.items.back(), Some(Item::Answers { .. }));
        if !appends {
            queue.items.push_back(Item::Answers { lines: BytesMut::new(), count: 0 });
        }
        let mut added = 0;
        if let Some(Item::Answers { lines, count }) = queue.items.back_mut() {
            let before = lines.len();
            write(lines);
            added = lines.len() - before;
            *count += usize::from(added > 0);
        }
        if queue.deaf {
            queue.items.pop_back();
        } else if added > 0 {
            queue.answers += 1;
            queue.answer_bytes += added;
        } else if !appends {
            queue.items.pop_back();
        }
        if added > 0 && self.expected.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.answered.notify_one();
        }
    }

    /// A channel has lines to read.
    pub fn news(&self, channel: usize) {
        let mut queue = self.lock();
        if queue.ready.last() != Some(&channel) {
            queue.ready.push(channel);
        }
        drop(queue);
        self.bell.notify_one();
    }

    /// Nothing more will come but what is there, then this.
    pub fn say_goodbye(&self, goodbye: Goodbye) {
        self.lock().goodbye.get_or_insert(goodbye);
        self.bell.notify_one();
        self.farewell.notify_one();
    }

    /// Waits for a goodbye. One waiter.
    pub async fn farewell(&self) -> Goodbye {
        loop {
            if let Some(goodbye) = self.goodbye() {
                return goodbye;
            }
            self.farewell.notified().await;
        }
    }

    /// What was said last, if it was.
    pub fn goodbye(&self) -> Option<Goodbye> {
        self.lock().goodbye
    }

    /// Waits until there may be something to write. One waiter.
    pub async fn wait(&self) {
        self.bell.notified().await;
    }

    /// Rings the bell.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits until few enough answers stand in line. One waiter.
    pub async fn answers_have_room(&self) {
        loop {
            {
                let queue = self.lock();
                if queue.answers < MAX_ANSWERS && queue.answer_bytes + queue.replay_bytes < MAX_ANSWER_BYTES {
                    return;
                }
            }
            self.room.notified().await;
        }
    }

    pub(super) fn push_replay(&self, replay: Replaying) {
        let mut queue = self.lock();
        queue.replay_bytes += replay.holds();
        queue.items.push_back(Item::Replay(replay));
        drop(queue);
        self.bell.notify_one();
    }

    /// What is put in line from now on comes after these live lines.
    pub(super) fn push_live(&self, channel: usize, until: u64) {
        let mut queue = self.lock();
        let deaf = queue.deaf;
        let before = queue.items.len().checked_sub(2).and_then(|at| queue.items.get(at));
        let is_said = match before {
            Some(Item::Live { channel: same, until: earlier }) => *same == channel && *earlier >= until,
            _ => false,
        };
        match queue.items.back_mut() {
            Some(Item::Live { channel: same, until: earlier }) if *same == channel => *earlier = until,
            // Answers with nothing new between them lie in one piece: each piece has room for more than one.
            Some(Item::Answers { .. }) if is_said => {}
            _ if deaf => {}
            _ => queue.items.push_back(Item::Live { channel, until }),
        }
        drop(queue);
        self.bell.notify_one();
    }

    /// Nothing is wanted of this channel any more.
    pub(super) fn forget_live(&self, channel: usize) {
        let is_of = |item: &Item<_>| matches!(item, Item::Live { channel: of, .. } if *of == channel);
        self.lock().items.retain(|item| !is_of(item));
    }

    /// An item that is not over stays first.
    pub(super) fn put_back(&self, item: Item<Replaying>) {
        let mut queue = self.lock();
        if let Item::Replay(replay) = &item {
            queue.replay_bytes += replay.holds();
        }
        queue.items.push_front(item);
    }

    pub(super) fn pop(&self) -> Option<Item<Replaying>> {
        let mut queue = self.lock();
        let item = queue.items.pop_front();
        match &item {
            Some(Item::Answers { lines, count }) => {
                queue.answers -= count;
                queue.answer_bytes -= lines.len();
            }
            Some(Item::Replay(replay)) => queue.replay_bytes -= replay.holds(),
            Some(Item::Live { .. }) | None => return item,
        }
        drop(queue);
        self.room.notify_one();
        item
    }

    /// Whether one of this channel is in line.
    pub(super) fn replays(&self, channel: &Arc<Channel>) -> bool {
        let is_of =
            |item: &Item<_>| matches!(item, Item::Replay(replay) if Replaying::is_of(replay, channel));
        self.lock().items.iter().any(is_of)
    }

    pub(super) fn take_replays(&self, of: impl Fn(&Replaying) -> bool) -> Vec<Replaying> {
        let mut queue = self.lock();
        let mut gone = Vec::new();
        let items = std::mem::take(&mut queue.items);
        for item in items {
            match item {
                Item::Replay(replay) if of(&replay) => {
                    queue.replay_bytes -= replay.holds();
                    gone.push(replay);
                }
                item => queue.items.push_back(item),
            }
        }
        drop(queue);
        self.room.notify_one();
        gone
    }

    /// Whether something stands in line.
    pub(super) fn has_line(&self) -> bool {
        !self.lock().items.is_empty()
    }

    pub(super) fn take_ready(&self) -> Vec<usize> {
        std::mem::take(&mut self.lock().ready)
    }

    /// Nothing stands in line, and nothing is to be read or said.
    pub(super) fn is_idle(&self) -> bool {
        let queue = self.lock();
        queue.items.is_empty() && queue.ready.is_empty() && queue.goodbye.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
