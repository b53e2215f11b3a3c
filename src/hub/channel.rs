//! One connection as consumers see it: its ring, its state, and whom to wake.
//!
//! The Manager's task writes, the consumers' tasks read; one lock, held for moments, keeps the ring and the state in
//! step, so that a snapshot and a place in the ring always belong together.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};
use tracing::{debug, info, warn};

use super::consumer::Consumer;
use super::log::{self, CursorId, Kind, LineView, Log, Read, Want};
use super::notice::{By, Change, Encoder, Head, Time};
use super::now;
use super::options::ConnectionSettings;
use super::ration::{Ration, Sum};
use super::saved::{self, Beyond, Facts, SavedConnection};
use super::sticky::Sticky;
use super::subscription::Filter;
use crate::engineio::{Details, Phase, TransportKind};
use crate::manager::{ConnectionState, Counters, Hear, Lifecycle, Observer, Room, Source, Status};
use crate::socketio::{Args, ArgsView, Loss, Name, NameView, Recoverable};

/// `outgoing` lines that may wait for a consumer; a watcher further behind misses the oldest.
const OUTGOING: log::Settings = log::Settings { events: 4096, bytes: 1024 * 1024 };

/// Bytes: so little is written to consumers on the spot when it is published, for to wake their tasks would cost more than
/// the writing. Where there is more, their tasks find still more together when it is their turn, and write less often.
const LITTLE: u64 = 4 * 1024;

/// Bytes that are written on the spot to all consumers together; the others write for themselves.
const AT_ONCE: usize = 256 * 1024;

/// How much of a failure's words a snapshot and the log show, in bytes; the event's own line has them all.
const BRIEF: usize = 4096;

/// Lines of the log, by what they say.
const CONNECTED: &str = "connected";
const CANNOT_CONNECT: &str = "cannot connect";
const DISCONNECTED: &str = "disconnected";
const READY: &str = "ready";
const SETUP_FAILED: &str = "the on_connect script failed";
const GAVE_UP: &str = "gave up; it takes the method connect to try again";
const EMIT_LOST: &str = "an emit was given up";
const SAID: &str = "auth_command";
/// Before it is known how much a connection remembers.
const NOTHING: log::Settings = log::Settings { events: 1, bytes: 1 };

/// A connection at one moment, as `list` and `subscribe` show it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// Its name.
    name: String,
    /// The server, without user info.
    url: String,
    /// The namespace there.
    namespace: String,
    /// Where it stands.
    state: ConnectionState,
    /// The namespace is joined.
    connected: bool,
    /// Joined, and the script of `on_connect` has gone through, where there is one.
    ready: bool,
    /// Up, or to come up by itself; where it is false, that takes the method `connect`.
    active: bool,
    /// The socket's id; null unless connected.
    id: Option<String>,
    /// The server gave the earlier session back.
    recovered: bool,
    /// What the session travels on; null without one.
    transport: Option<TransportKind>,
    /// The reconnection attempt that is going on or waited for, from 1; else 0.
    attempt: u32,
    /// In how many milliseconds that attempt begins; null unless it is waited for.
    next_attempt_ms: Option<u64>,
    /// When `state` last changed.
    since: Time,
    /// The number of the newest line; 0 before the first.
    seq: u64,
    /// The number of the oldest retained line; `seq` + 1 with none retained.
    #[cfg_attr(test, schemars(range(min = 1)))]
    oldest_seq: u64,
    /// The run of the daemon that these numbers belong to.
    stream: String,
    /// Events that wait to be sent; with `retries`, to be answered.
    buffered: usize,
    /// Answers of the server that are waited for.
    pending_acks: usize,
    /// Programs that listen.
    subscribers: usize,
    /// The last `connect_error`.
    last_error: Option<LastError>,
    /// The last `disconnect`.
    last_disconnect: Option<LastDisconnect>,
    /// Events from the server in this stream.
    received: u64,
    /// Events to the server in this stream.
    sent: u64,
    /// Reconnections in this stream.
    reconnects: u64,
    /// There, and true, where any certificate of the server is taken.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(test, schemars(extend("const" = true)))]
    insecure: bool,
}

/// A failure to connect; of long texts the first 4 KiB and `…`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct LastError {
    /// What the official client says in the same case.
    message: String,
    /// The step that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    /// What really happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// What to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<Cow<'static, str>>,
    /// When.
    time: Time,
}

/// A loss of the connection; of long texts the first 4 KiB and `…`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct LastDisconnect {
    /// Why, in the words of the official client.
    #[cfg_attr(test, schemars(with = "super::notice::schema::Reason"))]
    reason: Cow<'static, str>,
    /// What more is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// What really happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// When.
    time: Time,
}

/// Why a wait for `connected` ended without it.
#[derive(Clone, Debug)]
pub struct ConnectFailure {
    /// For people.
    pub message: String,
    /// What the server added, JSON text.
    pub data: Option<bytestring::ByteString>,
}

/// What happens to a wait for `connected`.
pub type ConnectOutcome = Result<(), ConnectFailure>;

#[derive(Debug)]
struct Reader {
    consumer: Weak<Consumer>,
    channel: usize,
    live: CursorId,
    parked: bool,
}

#[derive(Debug)]
struct Inner {
    url: String,
    namespace: String,
    insecure: bool,
    log: Log,
    head: Head,
    /// The last line of the session before.
    session_began: u64,
    sticky: Sticky,
    outgoing: Log,
    status: Status,
    counters: Counters,
    received: u64,
    reconnects: u64,
    /// `sent` of sockets that this name had before.
    sent_before: u64,
    last_ack: u64,
    since: Time,
    last_error: Option<LastError>,
    last_disconnect: Option<LastDisconnect>,
    readers: slab::Slab<Reader>,
    parked: Vec<usize>,
    /// The Manager waits until there is room.
    full: bool,
    /// Bytes of all lines when some were published last.
    published: u64,
    waiting: Vec<oneshot::Sender<ConnectOutcome>>,
    /// What may be logged of its changes, and of what its auth command says.
    ration: Ration,
    said: Ration,
    /// Attempts that failed since it was connected.
    failures: u64,
    /// Told when the state or the attempt is another.
    moved: Arc<Notify>,
}

/// One connection as consumers see it. It outlives `close`, for its counter goes on with the next `open`.
#[derive(Debug)]
pub struct Channel {
    name: String,
    stream: Arc<str>,
    encoder: Encoder,
    inner: Mutex<Inner>,
    room_changed: Notify,
    watchers: AtomicUsize,
    /// Told when something was left out of the log.
    left_out: Arc<Notify>,
}

/// A consumer's place in a channel.
#[derive(Debug)]
pub struct Seat {
    reader: usize,
    live: CursorId,
    outgoing: CursorId,
}

/// A replay's place in a channel.
#[derive(Debug)]
pub struct Replay {
    cursor: CursorId,
    until: u64,
}

/// From where a new subscription wants to hear.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// From now on.
    Live,
    /// The last so many that match.
    Last(u64),
    /// Everything retained after this line, the last so many of it if a number is given.
    After(u64, Option<u64>),
}

/// What a new subscription found.
#[derive(Debug)]
pub struct Joined {
    /// The state at that point.
    pub snapshot: Snapshot,
    /// Lines before this one are not live for it.
    pub head: u64,
    /// Kept lines, with their numbers, that come before all others.
    pub sticky: Vec<(u64, Bytes)>,
    /// What is to be replayed then, without those.
    pub replay: Option<Replay>,
    /// How many lines both will be.
    pub replayed: u64,
    /// How many it asked for and can no longer have.
    pub missed: u64,
}

impl Channel {
    /// A channel without a line. `left_out` is told when there is something to sum up.
    pub fn new(
        name: &str,
        stream: Arc<str>,
        history: log::Settings,
        stall: Duration,
        left_out: Arc<Notify>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            stream,
            encoder: Encoder::new(name),
            inner: Mutex::new(Inner {
                url: String::new(),
                namespace: String::new(),
                insecure: false,
                log: Log::new(history, stall).in_portions(),
                head: Head::default(),
                session_began: 0,
                sticky: Sticky::default(),
                outgoing: Log::lossy(OUTGOING),
                status: Status::default(),
                counters: Counters::default(),
                received: 0,
                reconnects: 0,
                sent_before: 0,
                last_ack: 0,
                since: Time::now(),
                last_error: None,
                last_disconnect: None,
                readers: slab::Slab::new(),
                parked: Vec::new(),
                full: false,
                published: 0,
                waiting: Vec::new(),
                ration: Ration::default(),
                said: Ration::of_words(),
                failures: 0,
                moved: Arc::default(),
            }),
            room_changed: Notify::new(),
            watchers: AtomicUsize::new(0),
            left_out,
        }
    }

    /// Tells `moved` whenever the state or the attempt is another.
    #[must_use]
    pub fn telling(self, moved: Arc<Notify>) -> Self {
        self.lock().moved = moved;
        self
    }

    /// Begins behind these, before it has a line.
    #[must_use]
    pub fn counting_from(self, beyond: Beyond) -> Self {
        let mut inner = self.lock();
        let log = std::mem::replace(&mut inner.log, Log::new(NOTHING, Duration::ZERO));
        inner.log = log.starting_at(beyond.seq + 1);
        inner.last_ack = beyond.ack;
        drop(inner);
        self
    }

    /// The last numbers that it has given out.
    pub fn counters(&self) -> Beyond {
        let inner = self.lock();
        Beyond { seq: inner.log.head(), ack: inner.last_ack }
    }

    /// One that goes on where the process before has left it, in the same stream.
    pub fn restored(
        saved: SavedConnection,
        stream: Arc<str>,
        stall: Duration,
        left_out: Arc<Notify>,
    ) -> Self {
        let SavedConnection { facts, log, sticky } = saved;
        let channel = Self::new(&facts.name, stream, NOTHING, stall, left_out);
        let mut inner = channel.lock();
        // Without lines it is another connection than it was: only the counters go on.
        if log.is_some() {
            (inner.last_error, inner.last_disconnect) = (facts.last_error, facts.last_disconnect);
        }
        inner.log = log.unwrap_or_else(|| Log::new(NOTHING, stall).starting_at(facts.seq + 1)).in_portions();
        inner.log.set_stall(stall);
        inner.session_began = facts.session_began;
        inner.last_ack = facts.last_ack;
        inner.received = facts.received;
        inner.sent_before = facts.sent;
        inner.reconnects = facts.reconnects;
        inner.sticky = Sticky::of(sticky);
        drop(inner);
        channel
    }

    /// One in a new stream, for a session that may go on: the lines that were kept are all that is left of it. They get
    /// the first numbers.
    pub fn remembering(
        saved: SavedConnection,
        stream: Arc<str>,
        stall: Duration,
        left_out: Arc<Notify>,
    ) -> Self {
        let channel = Self::new(&saved.facts.name, stream, NOTHING, stall, left_out);
        let mut sticky = Vec::new();
        for (_, line, name) in saved.sticky {
            let seq = sticky.len() as u64 + 1;
            if let Some((line, longer)) = channel.encoder.renumbered(&line, seq)
                && let (Some(start), Some(end)) =
                    (name.start.checked_add_signed(longer), name.end.checked_add_signed(longer))
            {
                sticky.push((seq, line.into(), start..end));
            }
        }
        let kept = sticky.len() as u64;
        let mut inner = channel.lock();
        inner.log = Log::new(NOTHING, stall).starting_at(kept + 1).in_portions();
        inner.session_began = kept;
        inner.sticky = Sticky::of(sticky);
        drop(inner);
        channel
    }

    /// Writes what outlives the process: the counters, and with an `identity` also the lines, the session and the last
    /// failures. Of a stream that does not go on the ring means nothing.
    pub fn save<W: Write>(
        &self,
        whole: bool,
        identity: Option<String>,
        session: Option<Recoverable>,
        out: &mut saved::Writer<W>,
    ) -> io::Result<()> {
        let mut inner = self.lock();
        let facts = Facts {
            name: self.name.clone(),
            seq: inner.log.head(),
            last_ack: inner.last_ack,
            session_began: inner.session_began,
            received: inner.received,
            sent: inner.sent_before + inner.counters.sent,
            reconnects: inner.reconnects,
            last_error: inner.last_error.clone().filter(|_| identity.is_some()),
            last_disconnect: inner.last_disconnect.clone().filter(|_| identity.is_some()),
            session,
            identity,
        };
        let (mut ring, mut sticky) = (Vec::new(), Vec::new());
        if facts.identity.is_some() {
            sticky = inner.sticky.all();
            if whole {
                ring = inner.log.runs();
            }
        }
        // The lines are shared, so nobody waits while they are written.
        drop(inner);
        out.connection(&facts, &ring, &sticky)
    }

    /// The number of the newest line that `sticky` keeps.
    pub fn newest_kept(&self) -> u64 {
        self.lock().sticky.newest()
    }

    /// The connection's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The connection is added to the daemon; gives the number that its first question for an ack gets.
    pub fn open(&self, settings: &ConnectionSettings, by: By) -> u64 {
        let mut inner = self.lock();
        inner.url.clone_from(&settings.url);
        inner.namespace = settings.socket.namespace.to_string();
        inner.insecure = settings.manager.transport.tls.insecure;
        inner.log.resize(settings.history.clone());
        inner.sticky.reset(&settings.sticky, settings.history.bytes);
        // Who connects by itself is never seen inactive, not even before the Manager has looked at it.
        let status = if settings.auto_connect {
            Status { state: ConnectionState::Connecting, active: true, ..Status::default() }
        } else {
            Status::default()
        };
        inner.set_status(&status);
        // What the name stood for before was another connection.
        inner.since = Time::now();
        inner.sent_before += std::mem::take(&mut inner.counters).sent;
        let first_ack = inner.last_ack + 1;
        self.append(&mut inner, &Change::Opened(by), settings.auto_connect);
        inner.wake();
        first_ack
    }

    /// The connection is removed from the daemon: whoever comes later finds nothing of it.
    pub fn close(&self, by: By) {
        let mut inner = self.lock();
        self.append(&mut inner, &Change::Closed(by), false);
        inner.log.forget();
        inner.sticky.forget();
        // The next of this name can be another server's.
        (inner.last_error, inner.last_disconnect) = (None, None);
        inner.status = Status::default();
        inner.fail_waiting("it was closed");
        inner.wake();
    }

    /// How long a consumer may hold the ring up from now on.
    pub fn set_stall(&self, stall: Duration) {
        self.lock().log.set_stall(stall);
    }

    /// The state now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_of(&self.lock())
    }

    /// The newest line's number.
    pub fn head(&self) -> u64 {
        self.lock().log.head()
    }

    /// Where it stands, and at which attempt.
    pub fn state(&self) -> (ConnectionState, u32) {
        let inner = self.lock();
        (inner.status.state, inner.status.attempt)
    }

    /// Whether the connection is joined.
    pub fn is_connected(&self) -> bool {
        self.lock().status.state == ConnectionState::Connected
    }

    /// Whether it is up or will come up by itself.
    pub fn is_active(&self) -> bool {
        self.lock().status.active
    }

    /// Told when the connection is joined and its script through, or will not be by itself.
    pub fn wait_connected(&self) -> oneshot::Receiver<ConnectOutcome> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.lock();
        if inner.status.ready {
            let _ = sender.send(Ok(()));
        } else if inner.status.active {
            inner.waiting.retain(|waiting| !waiting.is_closed());
            inner.waiting.push(sender);
        } else {
            let message =
                inner.last_error.as_ref().map_or("it is not active".into(), |error| error.message.clone());
            let _ = sender.send(Err(ConnectFailure { message, data: None }));
        }
        receiver
    }

    /// Nobody waits for the connection any longer: the daemon ends.
    pub fn give_up_waiting(&self) {
        self.lock().fail_waiting("the daemon is shutting down");
    }

    /// A consumer begins to listen, from the next line on; `key` is what it calls this channel.
    pub fn attach(&self, consumer: Weak<Consumer>, key: usize) -> Seat {
        let mut inner = self.lock();
        let (next, next_outgoing) = (inner.log.head() + 1, inner.outgoing.head() + 1);
        let live = inner.log.attach(next);
        let reader = Reader { consumer, channel: key, live, parked: false };
        Seat { reader: inner.readers.insert(reader), live, outgoing: inner.outgoing.attach(next_outgoing) }
    }

    /// It listens no more.
    pub fn detach(&self, seat: &Seat) {
        let mut inner = self.lock();
        inner.readers.try_remove(seat.reader);
        inner.parked.retain(|reader| *reader != seat.reader);
        inner.log.detach(seat.live);
        inner.outgoing.detach(seat.outgoing);
        self.tell_room(inner);
    }

    /// Gives the memory back that many consumers took who listen no more.
    pub fn tidy(&self) {
        let mut inner = self.lock();
        inner.log.tidy();
        inner.outgoing.tidy();
        if log::is_sparse(inner.readers.len(), inner.readers.capacity()) {
            inner.readers.shrink_to_fit();
        }
        if log::is_sparse(inner.parked.len(), inner.parked.capacity()) {
            inner.parked.shrink_to_fit();
        }
    }

    /// A subscription begins here.
    pub fn join(&self, start: Start, sticky: bool, filter: &Filter) -> Joined {
        let mut inner = self.lock();
        let sticky = if sticky { inner.sticky.lines(|line| filter.wants(line)) } else { Vec::new() };
        let log = &mut inner.log;
        log.seal();
        let (head, oldest) = (log.head(), log.oldest());
        let is_sticky = |seq| sticky.binary_search_by_key(&seq, |(seq, _)| *seq).is_ok();
        let want = |line: LineView<'_>| filter.wants(line);
        let (from, missed) = match start {
            Start::Live => (head + 1, 0),
            Start::Last(n) => (log.last(n, want), 0),
            Start::After(seq, limit) => {
                let from = seq.saturating_add(1);
                let missed = oldest.saturating_sub(from);
                let from = from.max(oldest).min(head + 1);
                (limit.map_or(from, |n| from.max(log.last(n, want))), missed)
            }
        };
        let not_yet = |line: LineView<'_>| want(line) && !is_sticky(line.seq);
        let from_ring = if from > head { 0 } else { log.count(from, not_yet) };
        let replay = (from_ring > 0).then(|| Replay { cursor: log.attach(from), until: head });
        let replayed = from_ring + sticky.len() as u64;
        Joined { snapshot: self.snapshot_of(&inner), head, sticky, replay, replayed, missed }
    }

    /// A replay's next lines, whether it is over, and whether lines were lost.
    pub fn read_replay(
        &self,
        replay: &Replay,
        want: impl Fn(LineView<'_>) -> bool,
        max_bytes: usize,
        out: &mut Vec<Bytes>,
    ) -> Read {
        let mut inner = self.lock();
        let read = inner.log.read(replay.cursor, replay.until, max_bytes, want, out);
        self.tell_room(inner);
        read
    }

    /// The replay is over or no longer wanted.
    pub fn end_replay(&self, replay: &Replay) {
        let mut inner = self.lock();
        inner.log.detach(replay.cursor);
        self.tell_room(inner);
    }

    /// Lets a Manager that waits for room look again, once those who stood in its way have moved on.
    fn tell_room(&self, mut inner: MutexGuard<'_, Inner>) {
        if inner.full && inner.log.may_have_room() {
            inner.full = false;
            drop(inner);
            self.room_changed.notify_one();
        }
    }

    /// A consumer's next live lines, up to line `until`. At the head its inbox is told when there are more.
    pub fn read(
        &self,
        seat: &Seat,
        until: u64,
        max_bytes: usize,
        want: impl Want,
        out: &mut Vec<Bytes>,
    ) -> Read {
        let mut inner = self.lock();
        // What is gone is told in one go, also of what comes after `until`.
        let until = until.max(inner.log.first().saturating_sub(1));
        let read = inner.log.read(seat.live, until, max_bytes, want, out);
        if let Read::AtHead(_) = read
            && inner.log.position(seat.live) > inner.log.head()
        {
            inner.park(seat.reader);
        }
        self.tell_room(inner);
        read
    }

    /// A consumer's next `outgoing` lines; what it was too slow for is skipped.
    pub fn read_outgoing(
        &self,
        seat: &Seat,
        max_bytes: usize,
        want: impl Fn(LineView<'_>) -> bool,
        out: &mut Vec<Bytes>,
    ) -> Read {
        let mut inner = self.lock();
        loop {
            let read = inner.outgoing.read(seat.outgoing, u64::MAX, max_bytes, &want, out);
            if !matches!(read, Read::Missed { .. }) {
                return read;
            }
        }
    }

    /// Whether all lines that a consumer has yet to take come after `seq`.
    pub fn stands_after(&self, seat: &Seat, seq: u64) -> bool {
        self.lock().log.position(seat.live) > seq
    }

    /// How many lines a consumer has yet to take.
    pub fn behind(&self, seat: &Seat) -> u64 {
        self.lock().log.behind(seat.live)
    }

    /// A subscription with `outgoing` came or went.
    pub fn watch(&self, watches: bool) {
        if watches {
            self.watchers.fetch_add(1, Ordering::Relaxed);
        } else {
            self.watchers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The line that says how many were lost.
    pub fn lagged(&self, missed: u64, next_seq: u64) -> Vec<u8> {
        self.encoder.lagged(missed, next_seq)
    }

    fn append(&self, inner: &mut Inner, change: &Change<'_>, active: bool) {
        let time = Time::now();
        inner
            .log
            .append(Kind::Lifecycle, 512, |seq, out| self.encoder.lifecycle(out, seq, change, active, time));
    }

    /// What somebody who looks for it in the log a day later wants to find: every change, of failures that repeat
    /// themselves the first, and of what does not stop a sum.
    fn log(&self, inner: &mut Inner, event: &Lifecycle) {
        let (connection, now) = (self.name.as_str(), now());
        match event {
            Lifecycle::Connect { id, recovered, transport } => {
                let (transport, failed) = (transport.name(), std::mem::take(&mut inner.failures));
                if !self.takes(&mut inner.ration, now, CONNECTED) {
                    debug!(connection, %id, recovered, transport, "{CONNECTED}");
                } else if failed > 0 {
                    inner.ration.told(CANNOT_CONNECT);
                    info!(connection, %id, recovered, transport, failed, "connected, after attempts that failed");
                } else {
                    info!(connection, %id, recovered, transport, "{CONNECTED}");
                }
            }
            Lifecycle::ConnectError { details, source, .. } => {
                inner.failures += 1;
                let Details { message, description, hint, phase, .. } = details;
                let (message, description) = (&*brief(message), description.as_deref().map(brief));
                let description = description.as_deref();
                let known = inner.last_error.as_ref().is_some_and(|last| {
                    inner.status.state == ConnectionState::Reconnecting
                        && last.message == message
                        && last.description.as_deref() == description
                });
                let (phase, source, hint) = (phase.map(Phase::name), source.name(), hint.as_deref());
                if known {
                    self.leave_out(&mut inner.ration, now, CANNOT_CONNECT);
                }
                if known || !self.takes(&mut inner.ration, now, CANNOT_CONNECT) {
                    debug!(connection, error = message, description, source, phase, "still cannot connect");
                } else {
                    warn!(connection, error = message, description, source, phase, hint, "{CANNOT_CONNECT}");
                }
            }
            Lifecycle::Ready if self.takes(&mut inner.ration, now, READY) => info!(connection, "{READY}"),
            Lifecycle::Ready => debug!(connection, "{READY}"),
            Lifecycle::SetupFailed { step, message, .. } => {
                if self.takes(&mut inner.ration, now, SETUP_FAILED) {
                    warn!(connection, step, error = message, "{SETUP_FAILED}");
                } else {
                    debug!(connection, step, error = message, "{SETUP_FAILED}");
                }
            }
            Lifecycle::Disconnect { reason, details } => {
                let message = details.as_ref().map(|details| brief(&details.message));
                let description = details.as_ref().and_then(|details| details.description.as_deref());
                let (description, code) =
                    (description.map(brief), details.as_ref().and_then(|details| details.code));
                let (reason, message) = (reason.as_str(), message.as_deref());
                let description = description.as_deref();
                if self.takes(&mut inner.ration, now, DISCONNECTED) {
                    info!(connection, reason, error = message, description, code, "{DISCONNECTED}");
                } else {
                    debug!(connection, reason, error = message, description, code, "{DISCONNECTED}");
                }
            }
            Lifecycle::ReconnectFailed { attempts } => {
                if self.takes(&mut inner.ration, now, GAVE_UP) {
                    warn!(connection, attempts, "{GAVE_UP}");
                } else {
                    debug!(connection, attempts, "{GAVE_UP}");
                }
            }
            Lifecycle::ReconnectAttempt { .. }
            | Lifecycle::ReconnectError { .. }
            | Lifecycle::Reconnect { .. }
            | Lifecycle::Upgrade { .. } => debug!(connection, event = event.name()),
        }
    }

    fn takes(&self, ration: &mut Ration, now: Instant, what: &'static str) -> bool {
        let counting = ration.is_counting();
        let takes = ration.takes(now, what);
        if !takes && !counting {
            self.left_out.notify_one();
        }
        takes
    }

    fn leave_out(&self, ration: &mut Ration, now: Instant, what: &'static str) {
        let counting = ration.is_counting();
        ration.leave_out(now, what);
        if !counting {
            self.left_out.notify_one();
        }
    }

    /// Logs what was left out: what is due, or at the end `all`. Gives when there is more to say.
    pub(super) fn sum_up(&self, now: Instant, all: bool) -> Option<Instant> {
        let mut inner = self.lock();
        let Inner { ration, said, status, .. } = &mut *inner;
        let state = status.state.name();
        let mut next = None;
        for ration in [ration, said] {
            let sum = if all { ration.sum_up_now(now) } else { ration.sum_up(now) };
            if let Some(Sum { lines, what, during }) = sum {
                let seconds = during.as_secs();
                warn!(connection = self.name, left_out = lines, what, seconds, state, "more of the same");
            }
            next = next.into_iter().chain(ration.due()).min();
        }
        next
    }

    fn snapshot_of(&self, inner: &Inner) -> Snapshot {
        let Status { state, ready, active, id, recovered, transport, attempt, next_attempt } = &inner.status;
        let connected = *state == ConnectionState::Connected;
        let now = tokio::time::Instant::now().into_std();
        Snapshot {
            name: self.name.clone(),
            url: inner.url.clone(),
            namespace: inner.namespace.clone(),
            state: *state,
            connected,
            ready: *ready,
            active: *active,
            id: id.as_ref().map(ToString::to_string),
            recovered: *recovered,
            transport: *transport,
            attempt: *attempt,
            next_attempt_ms: next_attempt
                .map(|at| u64::try_from(at.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX)),
            since: inner.since,
            seq: inner.log.head(),
            oldest_seq: inner.log.oldest(),
            stream: self.stream.to_string(),
            buffered: inner.counters.buffered,
            pending_acks: inner.counters.pending_acks,
            subscribers: inner.readers.len(),
            last_error: inner.last_error.clone(),
            last_disconnect: inner.last_disconnect.clone(),
            received: inner.received,
            sent: inner.sent_before + inner.counters.sent,
            reconnects: inner.reconnects,
            insecure: inner.insecure,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panic left half done is one line of the ring at worst.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The server's event is a line now. True where there is room for another one.
    fn event(&mut self, encoder: &Encoder, name: NameView<'_>, args: ArgsView<'_>, ack: Option<u64>) -> bool {
        let Self { log, head, sticky, received, last_ack, .. } = self;
        *received += 1;
        *last_ack = (*last_ack).max(ack.unwrap_or(0));
        log.append(Kind::Event, encoder.event_size(name, args), |seq, out| {
            let start = out.len();
            let place = encoder.event(head, out, seq, name, args, ack);
            if !sticky.is_idle() {
                let event = name.decoded();
                if sticky.wants(&event) {
                    // A copy, since a slice would keep all lines around it in memory.
                    let line = Bytes::copy_from_slice(&out[start..]);
                    sticky.keep(seq, &event, line, place.start - start..place.end - start);
                }
            }
            place
        });
        log.has_room()
    }

    fn park(&mut self, reader: usize) {
        if let Some(entry) = self.readers.get_mut(reader)
            && !std::mem::replace(&mut entry.parked, true)
        {
            self.parked.push(reader);
        }
    }

    /// Lets everybody know of what there is to read.
    fn wake(&mut self) {
        for (consumer, channel) in self.unpark() {
            consumer.inbox().news(channel);
        }
    }

    /// Whoever waits for something to read, and what each calls this channel.
    fn unpark(&mut self) -> Vec<(Arc<Consumer>, usize)> {
        self.log.seal();
        self.outgoing.seal();
        let Self { parked, readers, .. } = self;
        let unparked = parked.drain(..).filter_map(|reader| {
            let reader = readers.get_mut(reader)?;
            let parked = std::mem::replace(&mut reader.parked, false);
            parked.then(|| Some((reader.consumer.upgrade()?, reader.channel)))?
        });
        unparked.collect()
    }

    fn set_status(&mut self, status: &Status) {
        if self.status.state != status.state {
            self.since = Time::now();
        }
        let moved = (self.status.state, self.status.attempt) != (status.state, status.attempt);
        self.status.clone_from(status);
        if moved {
            self.moved.notify_one();
        }
    }

    /// Tells who waits for `connected` that nothing will come of it.
    fn fail_waiting(&mut self, message: &str) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(Err(ConnectFailure { message: message.to_owned(), data: None }));
        }
    }

    /// Tells who waits for `connected` what came of it.
    fn settle_waiting(&mut self, event: &Lifecycle) {
        let failure = match event {
            Lifecycle::Connect { .. } | Lifecycle::Ready if self.status.ready => None,
            Lifecycle::SetupFailed { message, .. } => {
                Some(ConnectFailure { message: message.clone(), data: None })
            }
            // A refusal is an answer, even where another attempt follows by itself.
            _ if self.status.active && !is_refusal(event) => return,
            Lifecycle::ConnectError { details, data, .. } => {
                let message = brief(&details.message).into_owned();
                Some(ConnectFailure { message, data: data.clone() })
            }
            Lifecycle::Disconnect { reason, .. } => {
                Some(ConnectFailure { message: reason.as_str().into(), data: None })
            }
            _ => Some(ConnectFailure { message: "gave up reconnecting".into(), data: None }),
        };
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(failure.clone().map_or(Ok(()), Err));
        }
    }
}

/// A text, or its beginning and an ellipsis.
fn brief(text: &str) -> Cow<'_, str> {
    match text.floor_char_boundary(BRIEF) {
        end if end < text.len() => Cow::Owned(format!("{}…", &text[..end])),
        _ => Cow::Borrowed(text),
    }
}

fn is_refusal(event: &Lifecycle) -> bool {
    matches!(event, Lifecycle::ConnectError { source: Source::Server, .. })
}

impl Observer for Channel {
    fn event(&self, name: NameView<'_>, args: ArgsView<'_>, ack: Option<u64>) -> bool {
        self.lock().event(&self.encoder, name, args, ack)
    }

    /// With one lock for all: each is a fence, which waits until the line before has reached memory.
    fn events(&self, speak: &mut dyn FnMut(&mut Hear<'_>)) {
        let mut inner = self.lock();
        speak(&mut |name, args, ack| inner.event(&self.encoder, name, args, ack));
    }

    fn lifecycle(&self, event: &Lifecycle, status: &Status) {
        let mut inner = self.lock();
        self.log(&mut inner, event);
        inner.set_status(status);
        match event {
            Lifecycle::ConnectError { details, .. } => {
                inner.last_error = Some(LastError {
                    message: brief(&details.message).into_owned(),
                    phase: details.phase,
                    description: details.description.as_deref().map(|text| brief(text).into_owned()),
                    hint: details.hint.clone(),
                    time: Time::now(),
                });
            }
            Lifecycle::Disconnect { reason, details } => {
                inner.last_disconnect = Some(LastDisconnect {
                    reason: reason.as_str().into(),
                    message: details.as_ref().map(|details| brief(&details.message).into_owned()),
                    description: details
                        .as_ref()
                        .and_then(|details| details.description.as_deref())
                        .map(|text| brief(text).into_owned()),
                    time: Time::now(),
                });
            }
            Lifecycle::Reconnect { .. } => inner.reconnects += 1,
            Lifecycle::Connect { recovered: false, .. } => {
                // Some servers push before they answer CONNECT; that is of this session.
                let before = inner.session_began;
                inner.sticky.forget_until(before);
            }
            _ => {}
        }
        self.append(&mut inner, &Change::Upstream(event), status.active);
        if matches!(event, Lifecycle::Disconnect { .. }) {
            inner.session_began = inner.log.head();
        }
        inner.settle_waiting(event);
    }

    fn outgoing(&self, name: &Name, args: &Args, sender: u64) {
        let size = self.encoder.event_size(name.view(), args.view());
        let consumer = super::consumer_name(sender);
        let mut inner = self.lock();
        inner.outgoing.append(Kind::Event, size, |_, out: &mut BytesMut| {
            self.encoder.outgoing(out, name, args, &consumer)
        });
    }

    fn lost(&self, name: &Name, loss: Loss) {
        let takes = self.takes(&mut self.lock().ration, now(), EMIT_LOST);
        let (connection, event) = (self.name.as_str(), name.decoded());
        if takes {
            warn!(connection, ?event, %loss, "{EMIT_LOST}");
        } else {
            debug!(connection, ?event, %loss, "{EMIT_LOST}");
        }
    }

    fn said(&self, program: &str, line: &str) {
        let takes = self.takes(&mut self.lock().said, now(), SAID);
        let connection = self.name.as_str();
        if takes {
            info!(connection, program, said = line, "{SAID}");
        } else {
            debug!(connection, program, said = line, "{SAID}");
        }
    }

    fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    fn update(&self, status: &Status, counters: Counters) {
        let mut inner = self.lock();
        inner.set_status(status);
        inner.counters = counters;
        if !status.active {
            // One that was not connected yet leaves without a lifecycle event.
            inner.fail_waiting("it was disconnected");
        }
    }

    fn room(&self, now: Instant) -> Room {
        let mut inner = self.lock();
        let room = inner.log.room(now);
        inner.full = room.is_some();
        for cursor in inner.log.take_newly_stalled() {
            let reader = inner.readers.iter().find(|(_, reader)| reader.live == cursor);
            if let Some(consumer) = reader.and_then(|(_, reader)| reader.consumer.upgrade()) {
                consumer.inbox().stalled();
            }
        }
        match room {
            None => Room::Free,
            Some(until) => {
                // Whoever holds the ring up may be asleep, with lines that nobody told it of yet.
                inner.wake();
                Room::Full { until }
            }
        }
    }

    fn room_changed(&self) -> &Notify {
        &self.room_changed
    }

    fn publish(&self) {
        let (unparked, fresh) = {
            let mut inner = self.lock();
            let written = inner.log.written();
            let fresh = written - std::mem::replace(&mut inner.published, written);
            (inner.unpark(), fresh)
        };
        let (mut written, mut batch) = (0, Vec::new());
        for (consumer, channel) in unparked {
            if fresh <= LITTLE && written < AT_ONCE {
                written += consumer.hear(channel, &mut batch);
            } else {
                consumer.inbox().news(channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socketio::DisconnectReason;

    #[test]
    fn of_a_failure_without_end_the_beginning_is_kept() {
        let history = log::Settings { events: 10, bytes: 1024 * 1024 };
        let channel = Channel::new("chat", "stream".into(), history, Duration::from_secs(1), Arc::default());
        for (said, kept) in [
            ("no".to_owned(), "no".to_owned()),
            ("x".repeat(BRIEF), "x".repeat(BRIEF)),
            ("x".repeat(100_000), "x".repeat(BRIEF) + "…"),
            (format!("x{}", "é".repeat(50_000)), format!("x{}…", "é".repeat(BRIEF / 2 - 1))),
        ] {
            let details = Details { description: Some(said.clone()), ..Details::new(said) };
            let lost = Lifecycle::Disconnect {
                reason: DisconnectReason::ParseError,
                details: Some(details.clone()),
            };
            let refused = Lifecycle::ConnectError { details, data: None, source: Source::Server };
            for event in [lost, refused] {
                channel.lifecycle(&event, &Status::default());
            }
            let Snapshot { last_error, last_disconnect, .. } = channel.snapshot();
            let (error, disconnect) = (last_error.unwrap(), last_disconnect.unwrap());
            assert_eq!((&error.message, error.description.as_ref()), (&kept, Some(&kept)));
            assert_eq!(
                (disconnect.message.as_ref(), disconnect.description.as_ref()),
                (Some(&kept), Some(&kept))
            );
        }
    }
}
