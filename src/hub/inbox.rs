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

/// Bytes of answers that lie in one piece, which has room for one more. Who holds up the server's answers takes so much at
/// least in the time that it has, or counts as stalled.
const PIECE: usize = 256 * 1024;

/// How long it may, unless told otherwise.
const STALL: Duration = Duration::from_secs(1);

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
    /// Since when the server's answers wait for this consumer, and how many bytes its socket had taken then.
    holds: Option<(Instant, usize)>,
    stall: Duration,
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
    /// Bytes that the socket took, ever; it begins anew at 0 after the highest number.
    taken: AtomicUsize,
    /// It was too slow for the server's answers, until no more wait than the others may.
    overrun: AtomicBool,
    /// The server's answers have room again.
    ack_room: Notify,
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
            holds: None,
            stall: STALL,
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
            taken: AtomicUsize::new(0),
            overrun: AtomicBool::new(false),
            ack_room: Notify::new(),
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
        self.ack_room.notify_waiters();
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

    /// How long the server's answers wait for it.
    pub(super) fn set_stall(&self, stall: Duration) {
        self.lock().stall = stall;
        self.ack_room.notify_waiters();
    }

    /// Ends when nobody reads answers any more.
    pub async fn gone(&self) {
        loop {
            let changed = self.ack_room.notified();
            if self.is_deaf() {
                return;
            }
            changed.await;
        }
    }

    /// Its socket took so many bytes.
    pub fn took(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many that were.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether the server's answers can be taken; else when to ask again at the latest. As with a ring, the asking is what
    /// makes a consumer that takes next to nothing count as stalled.
    pub fn room_for_acks(&self, now: Instant) -> Room {
        let mut queue = self.lock();
        if queue.answer_bytes < MAX_LATE_BYTES || self.is_overrun() {
            queue.holds = None;
            return Room::Free;
        }
        let taken = self.taken();
        let (mut since, before) = *queue.holds.get_or_insert((now, taken));
        if now.saturating_duration_since(since) >= queue.stall {
            if taken.wrapping_sub(before) < PIECE {
                queue.holds = None;
                self.overrun.store(true, Ordering::Relaxed);
                drop(queue);
                self.stalled();
                return Room::Free;
            }
            since = now;
            queue.holds = Some((now, taken));
        }
        Room::Full { until: since + queue.stall }
    }

    /// Notified when [`Inbox::room_for_acks`] may have changed, whoever waits.
    pub fn acks_have_room(&self) -> &Notify {
        &self.ack_room
    }

    /// Whether the server's answers are lost on it, for it has stalled and not taken enough yet of those that are there.
    pub fn is_overrun(&self) -> bool {
        self.overrun.load(Ordering::Relaxed)
    }

    /// The consumer holds a ring up and counts as stalled: it will be overrun.
    pub fn stalled(&self) {
        if self.lag() == Lag::Disconnect {
            self.say_goodbye(Goodbye::Lagged);
        }
    }

    /// Puts an expected answer in line; `write` adds it with its newline, or nothing where none is expected.
    pub fn answer(&self, write: impl FnOnce(&mut BytesMut)) {
        self.put_answer(|out, _| write(out));
        self.ring();
    }

    /// [`Inbox::answer`] for one who sees to it that it will be written.
    ///
    /// `write` is told whether others are likely to follow in the same piece, so that room for them pays.
    pub fn put_answer(&self, write: impl FnOnce(&mut BytesMut, bool)) {
        let mut queue = self.lock();
        let appends = matches!(queue.items.back(), Some(Item::Answers { lines, .. }) if lines.len() < PIECE);
        // Between live lines each lies by itself, and they may lie there for long.
        let follow = appends || !matches!(queue.items.back(), Some(Item::Live { .. }));
        if !appends {
            queue.items.push_back(Item::Answers { lines: BytesMut::new(), count: 0 });
        }
        let mut added = 0;
        if let Some(Item::Answers { lines, count }) = queue.items.back_mut() {
            let before = lines.len();
            write(lines, follow);
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
            }
            Some(Item::Replay(replay)) => queue.replay_bytes -= replay.holds(),
            Some(Item::Live { .. }) | None => return item,
        }
        if queue.answer_bytes < MAX_ANSWER_BYTES {
            self.overrun.store(false, Ordering::Relaxed);
        }
        let is_late = queue.answer_bytes >= MAX_LATE_BYTES;
        drop(queue);
        self.room.notify_one();
        if was_late && !is_late {
            self.ack_room.notify_waiters();
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

    fn put(inbox: &Inbox, bytes: usize) {
        inbox.expect_answer();
        inbox.put_answer(|out, _| out.extend_from_slice(&vec![b'x'; bytes]));
    }

    /// One with as many answers as may wait.
    fn full(lag: Lag) -> Inbox {
        let inbox = Inbox::new(lag);
        for _ in 0..MAX_LATE_BYTES / PIECE {
            assert_eq!(inbox.room_for_acks(Instant::now()), Room::Free);
            put(&inbox, PIECE);
        }
        inbox
    }

    #[test]
    fn one_that_takes_some_of_its_answers_is_not_overrun_and_one_that_takes_too_few_is() {
        let (inbox, start) = (full(Lag::Skip), Instant::now());
        let until = |seconds: u32| Room::Full { until: start + STALL * seconds };
        assert_eq!(inbox.room_for_acks(start), until(1));
        assert_eq!(inbox.room_for_acks(start + STALL / 2), until(1));
        for second in 1..5 {
            // Of whatever stands before them, too.
            inbox.took(PIECE / 2);
            inbox.took(PIECE / 2);
            assert_eq!(inbox.room_for_acks(start + STALL * second), until(second + 1));
        }
        inbox.took(PIECE - 1);
        assert!(!inbox.is_overrun());
        assert_eq!(inbox.room_for_acks(start + STALL * 5), Room::Free);
        assert!(inbox.is_overrun());
        // Until no more are left than may wait otherwise; one that goes on to ask need not come to the end of them.
        while inbox.is_overrun() {
            assert_eq!(inbox.room_for_acks(start + STALL * 6), Room::Free);
            put(&inbox, 1);
            assert!(inbox.pop().is_some());
        }
        let left = inbox.lock().answer_bytes;
        assert!((MAX_ANSWER_BYTES - PIECE..MAX_ANSWER_BYTES).contains(&left), "{left}");
        assert_eq!(inbox.goodbye(), None);
    }

    #[test]
    fn another_stall_is_told_to_whoever_waits() {
        let inbox = full(Lag::Skip);
        let waiting = Box::pin(inbox.acks_have_room().notified());
        inbox.set_stall(STALL / 2);
        assert!(waiting.now_or_never().is_some());
        let now = Instant::now();
        assert_eq!(inbox.room_for_acks(now), Room::Full { until: now + STALL / 2 });
    }

    #[test]
    fn between_live_lines_no_room_is_made_for_answers_that_do_not_follow() {
        let inbox = Inbox::new(Lag::Skip);
        let follows = || {
            let mut told = false;
            inbox.expect_answer();
            inbox.put_answer(|out, follow| {
                told = follow;
                out.extend_from_slice(b"x\n");
            });
            told
        };
        assert!(follows() && follows());
        inbox.push_live(0, 1);
        assert!(!follows());
        assert!(follows());
    }

    #[tokio::test]
    async fn one_that_left_is_gone_for_whoever_waits_for_that() {
        let inbox = Inbox::new(Lag::Skip);
        let mut gone = Box::pin(inbox.gone());
        assert_eq!(gone.as_mut().now_or_never(), None);
        inbox.set_stall(STALL);
        assert_eq!(gone.as_mut().now_or_never(), None);
        inbox.forget_answers();
        assert_eq!(gone.now_or_never(), Some(()));
        assert_eq!(inbox.gone().now_or_never(), Some(()));
    }

    #[test]
    fn whoever_waits_hears_that_there_is_room() {
        for make_room in [|inbox: &Inbox| drop(inbox.pop()), Inbox::forget_answers] {
            let inbox = full(Lag::Skip);
            put(&inbox, 1);
            let wait = || Box::pin(inbox.acks_have_room().notified());
            let waiting = [wait(), wait()];
            make_room(&inbox);
            assert!(waiting.into_iter().all(|waiter| waiter.now_or_never().is_some()));
            assert_eq!(wait().now_or_never(), None);
        }
    }

    #[test]
    fn one_that_wants_no_gaps_is_told_goodbye() {
        let (inbox, start) = (full(Lag::Disconnect), Instant::now());
        assert_ne!(inbox.room_for_acks(start), Room::Free);
        let later = inbox.room_for_acks(start + STALL);
        assert_eq!((later, inbox.goodbye()), (Room::Free, Some(Goodbye::Lagged)));
    }
}
