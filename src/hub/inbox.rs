//! What waits to be written to one consumer, and the bell that says so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::Lag;
use super::channel::Channel;
use super::consumer::Replaying;
use crate::manager::Room;

/// Answers that may wait for a consumer before its requests wait too.
pub const MAX_ANSWERS: usize = 1024;

/// The same in bytes, together with the kept lines that new subscriptions are still to get.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Bytes of answers for whose sake the server's next ones wait in its connection. Requests have waited for long then, and
/// what comes are answers of the server to those that went before.
pub const MAX_LATE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of answers that lie in one piece, which has room for one more: so much is taken at a time.
const PIECE: usize = 256 * 1024;

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
    /// Pieces of answers that were taken, ever.
    taken: u64,
    /// Since when the server's answers wait for this consumer, and what it had taken then.
    holds: Option<(Instant, u64)>,
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
    /// It was too slow for the server's answers, until it has taken all that are there.
    overrun: AtomicBool,
    /// The server's answers have room again.
    caught_up: Notify,
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
            taken: 0,
            holds: None,
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
            overrun: AtomicBool::new(false),
            caught_up: Notify::new(),
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
        self.has_caught_up();
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

    /// Whether so many answers wait that [`Inbox::room`] has to be asked.
    pub fn is_late(&self) -> bool {
        self.lock().answer_bytes >= MAX_LATE_BYTES
    }

    /// Whether the server's answers can be taken; else when to ask again at the latest. As with a ring, the asking is what
    /// makes a consumer that takes nothing for the time of `stall` count as stalled.
    pub fn room(&self, now: Instant, stall: Duration) -> Room {
        let mut queue = self.lock();
        if queue.answer_bytes < MAX_LATE_BYTES || self.is_overrun() {
            queue.holds = None;
            return Room::Free;
        }
        let since = match queue.holds {
            Some((since, taken)) if taken == queue.taken => since,
            _ => now,
        };
        if now.saturating_duration_since(since) < stall {
            queue.holds = Some((since, queue.taken));
            return Room::Full { until: since + stall };
        }
        queue.holds = None;
        self.overrun.store(true, Ordering::Relaxed);
        drop(queue);
        self.stalled();
        Room::Free
    }

    /// Notified when [`Inbox::room`] may have changed, whoever waits.
    pub fn caught_up(&self) -> &Notify {
        &self.caught_up
    }

    /// Whether the server's answers are lost on it, for it has stalled and not taken yet what is there.
    pub fn is_overrun(&self) -> bool {
        self.overrun.load(Ordering::Relaxed)
    }

    fn has_caught_up(&self) {
        // All who wait, and one who is about to.
        self.caught_up.notify_waiters();
        self.caught_up.notify_one();
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
        let appends = matches!(queue.items.back(), Some(Item::Answers { lines, .. }) if lines.len() < PIECE);
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
        let was_late = queue.answer_bytes >= MAX_LATE_BYTES;
        match &item {
            Some(Item::Answers { lines, count }) => {
                queue.answers -= count;
                queue.answer_bytes -= lines.len();
                queue.taken += 1;
            }
            Some(Item::Replay(replay)) => queue.replay_bytes -= replay.holds(),
            Some(Item::Live { .. }) | None => return item,
        }
        if queue.answer_bytes == 0 {
            self.overrun.store(false, Ordering::Relaxed);
        }
        let catches_up = was_late && queue.answer_bytes < MAX_LATE_BYTES;
        drop(queue);
        self.room.notify_one();
        if catches_up {
            self.has_caught_up();
        }
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const STALL: Duration = Duration::from_secs(1);

    fn put(inbox: &Inbox, bytes: usize) {
        inbox.expect_answer();
        inbox.put_answer(|out| out.extend_from_slice(&vec![b'x'; bytes]));
    }

    /// Has as many answers wait as may, in pieces as large as they get.
    fn fill(inbox: &Inbox) {
        for _ in 0..MAX_LATE_BYTES / PIECE {
            assert_eq!(inbox.room(Instant::now(), STALL), Room::Free);
            put(inbox, PIECE);
        }
    }

    #[test]
    fn pieces_of_answers_that_are_taken_keep_a_consumer_from_being_overrun() {
        let (inbox, start) = (Inbox::new(Lag::Skip), Instant::now());
        fill(&inbox);
        let full = |from: u32| Room::Full { until: start + STALL * (from + 1) };
        assert_eq!(inbox.room(start, STALL), full(0));
        assert_eq!(inbox.room(start + STALL / 2, STALL), full(0));
        for second in 1..5 {
            // It takes one piece, and one comes after it.
            put(&inbox, PIECE);
            assert!(inbox.pop().is_some());
            assert_eq!(inbox.room(start + STALL * second, STALL), full(second));
        }
        assert!(!inbox.is_overrun());
        assert_eq!(inbox.room(start + STALL * 5, STALL), Room::Free);
        assert!(inbox.is_overrun());
        // Until it has taken all.
        while inbox.is_overrun() {
            assert_eq!(inbox.room(start + STALL * 6, STALL), Room::Free);
            assert!(inbox.pop().is_some());
        }
        assert!(inbox.pop().is_none());
        fill(&inbox);
        assert_eq!(inbox.room(start + STALL * 7, STALL), full(7));
        assert_eq!(inbox.goodbye(), None);
    }

    #[test]
    fn all_who_wait_hear_that_there_is_room_and_so_does_one_who_is_about_to() {
        for make_room in [|inbox: &Inbox| drop(inbox.pop()), Inbox::forget_answers] {
            let inbox = Inbox::new(Lag::Skip);
            let wait = || Box::pin(inbox.caught_up().notified());
            fill(&inbox);
            let mut waiting = [wait(), wait()];
            assert!(waiting.iter_mut().all(|waiter| waiter.as_mut().now_or_never().is_none()));
            make_room(&inbox);
            assert!(waiting.into_iter().all(|waiter| waiter.now_or_never().is_some()));
            assert_eq!([(); 2].map(|()| wait().now_or_never()), [Some(()), None]);
        }
    }

    #[test]
    fn one_that_wants_no_gaps_is_told_goodbye() {
        let (inbox, start) = (Inbox::new(Lag::Disconnect), Instant::now());
        fill(&inbox);
        assert_ne!(inbox.room(start, STALL), Room::Free);
        assert_eq!((inbox.room(start + STALL, STALL), inbox.goodbye()), (Room::Free, Some(Goodbye::Lagged)));
    }
}
