//! One connection as consumers see it: its ring, its state, and whom to wake.
//!
//! The Manager's task writes, the consumers' tasks read; one lock, held for moments, keeps the ring and the state in
//! step, so that a snapshot and a place in the ring always belong together.

mod logging;
mod observer;
mod reading;
mod snapshot;
mod succession;
mod waiting;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use self::reading::Reader;
pub use self::reading::{Joined, Replay, Seat, Start};
pub use self::snapshot::Snapshot;
pub(super) use self::snapshot::{LastDisconnect, LastError};
use self::waiting::Waiting;
pub use self::waiting::{ConnectFailure, MAX_WAITING, TooManyWaiting};
use super::log::{self, Kind, Log};
use super::notice::{By, Change, Encoder, Head, Time};
use super::options::ConnectionSettings;
use super::ration::Ration;
use super::saved::Beyond;
use super::sticky::Sticky;
use crate::manager::{ConnectionState, Counters, Status};

/// `outgoing` lines that may wait for a consumer; a watcher further behind misses the oldest.
const OUTGOING: log::Settings = log::Settings { events: 4096, bytes: 1024 * 1024 };

/// Before it is known how much a connection remembers.
const NOTHING: log::Settings = log::Settings { events: 1, bytes: 1 };

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
    /// Which step of `on_connect` has failed and why, until the `disconnect` that follows.
    failed_step: Option<String>,
    readers: slab::Slab<Reader>,
    parked: Vec<usize>,
    /// The Manager waits until there is room.
    full: bool,
    /// Bytes of all lines when some were published last.
    published: u64,
    waiting: Vec<Waiting>,
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
                failed_step: None,
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
        (inner.last_error, inner.last_disconnect, inner.failed_step) = (None, None, None);
        inner.status = Status::default();
        inner.fail_waiting("it was closed");
        inner.wake();
    }

    /// How long a consumer may hold the ring up from now on.
    pub fn set_stall(&self, stall: Duration) {
        self.lock().log.set_stall(stall);
        // A Manager that waits has another deadline now.
        self.room_changed.notify_one();
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

    fn append(&self, inner: &mut Inner, change: &Change<'_>, active: bool) {
        let time = Time::now();
        inner
            .log
            .append(Kind::Lifecycle, 512, |seq, out| self.encoder.lifecycle(out, seq, change, active, time));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panic left half done is one line of the ring at worst.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
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
}
