//! One namespace: joining and leaving, events, acks, what waits while not connected.
//!
//! The transport, the session and reconnection are the Manager's. A `T` is whatever its owner wants back with the
//! answer to an emit.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::acks::{AckError, Owed, Pending};
use super::retry::{self, Queue};
use super::script::{Step, StepArgs};
use super::{Args, Body, Limit, Name, Packet, Parser, TooLarge};
use crate::engineio::{CloseReason, Details, Message};

/// Events that may come before the CONNECT answer, in bytes; recovered sessions send what was missed there.
pub const MAX_EARLY: usize = 16 * 1024 * 1024;

/// What an event that waits counts beside its text and attachments, in bytes.
const ENTRY: usize = 64;

/// Acks that may be waited for on one socket.
pub const MAX_PENDING: usize = 65_536;

/// The message for a CONNECT answer without an id, which only servers before version 3 send; word for word that of
/// the official client.
pub const OLD_SERVER: &str = "It seems you are trying to reach a Socket.IO server in v2.x with a v3.x client, but \
     they are not compatible (more information here: https://socket.io/docs/v3/migrating-from-2-x-to-3-0/)";

/// Limits of one socket.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `/` or `/name`.
    pub namespace: ByteString,
    /// How packets are written.
    pub parser: Parser,
    /// How long the CONNECT answer may take.
    pub timeout: Duration,
    /// Timeout of emits with an ack that name none.
    pub ack_timeout: Option<Duration>,
    /// How often an emit is sent again that is not answered in time; 0: emits are sent once, and none waits for the
    /// answer to another.
    pub retries: u32,
    /// Bytes that may wait: for the connection, or with `retries` for an answer.
    pub send_buffer: usize,
    /// What is said after each CONNECT, before anybody else may speak.
    pub script: Arc<[Step]>,
}

/// Why a connected socket is no longer. The words are those of the official client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The server said so; it takes a `connect` to come back.
    ServerDisconnect,
    /// This side said so; it takes a `connect` to come back.
    ClientDisconnect,
    /// The server sent something that is no Socket.IO packet.
    ParseError,
    /// The session below ended.
    Closed(CloseReason),
}

impl DisconnectReason {
    /// As consumers read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerDisconnect => "io server disconnect",
            Self::ClientDisconnect => "io client disconnect",
            Self::ParseError => "parse error",
            Self::Closed(reason) => reason.as_str(),
        }
    }
}

/// What happened on the socket, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// Joined.
    Connect {
        /// The socket's id, new at every connection that is not recovered.
        id: ByteString,
        /// The server gave the earlier session back, missed events included.
        recovered: bool,
    },
    /// A step of the script wants the arguments that this file holds; then [`Socket::handle_step_args`].
    ReadArgs(PathBuf),
    /// The script went through: what waited goes out.
    Ready,
    /// A step of the script failed, and the socket leaves.
    SetupFailed {
        /// Which, from 0.
        step: usize,
        /// Why; quotes neither what was sent nor what is expected.
        message: String,
        /// The server's answer, where it was the wrong one.
        answer: Option<Args>,
    },
    /// The server refused the namespace.
    Refused {
        /// The server's message; may be empty.
        message: String,
        /// The server's data, JSON text.
        data: Option<ByteString>,
    },
    /// Could not join because of the connection below; told by the Manager's rules of reconnection.
    JoinFailed(Details),
    /// Was joined, is no longer.
    Disconnect {
        /// Why.
        reason: DisconnectReason,
        /// What more is known.
        details: Option<Details>,
    },
    /// The server's event.
    Event {
        /// Its name.
        name: Name,
        /// Its arguments.
        args: Args,
        /// Our number for the ack it asks for.
        ack: Option<u64>,
    },
    /// The answer to an emit with an ack.
    Answer {
        /// Who waits.
        ticket: T,
        /// What came.
        result: Result<Args, AckError>,
    },
    /// A consumer's event is handed to the transport.
    Outgoing {
        /// Its name.
        name: Name,
        /// Its arguments.
        args: Args,
        /// The `sender` of the emit.
        sender: u64,
    },
    /// An emit that was taken is given up: it was not sent, or was not answered.
    Lost {
        /// Its name.
        name: Name,
        /// Why.
        loss: Loss,
    },
}

/// What goes to the server next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// CONNECT or DISCONNECT, still to be encoded: old servers want them otherwise.
    Packet(Packet),
    /// A message of an event or an answer. A packet's messages follow each other, with nothing between them.
    Message(Message),
}

/// One emit.
#[derive(Debug)]
pub struct Emit {
    /// The event's name.
    pub name: Name,
    /// Its arguments.
    pub args: Args,
    /// Answer wanted; the inner timeout falls back to the socket's.
    pub ack: Option<Option<Duration>>,
    /// Drop it rather than let it wait.
    pub volatile: bool,
    /// Whoever emits, for those who watch.
    pub sender: u64,
}

/// What became of an emit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Handed to the transport.
    Sent,
    /// Waits for the connection.
    Buffered,
    /// Volatile and not writable now.
    Dropped,
}

/// Why an emit that was taken is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// It waited for the connection, and then the server did not take one so large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// All its tries went by without an answer, which nobody waits for.
    #[error("the server answered none of {tries} tries; it may have got the event")]
    Unanswered {
        /// How many there were.
        tries: u32,
    },
    /// It waited in the retry queue when the connection was closed for good, or the daemon ended.
    #[error("the end came before the server's answer (tries: {tries})")]
    Abandoned {
        /// How many there were; none if it was not sent.
        tries: u32,
    },
}

/// Why an emit was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// The send buffer has no room for it.
    #[error("the send buffer is full ({0} bytes); nothing was dropped, try again when some of it is sent")]
    BufferFull(usize),
    /// Too many acks are waited for.
    #[error("too many acks are pending ({MAX_PENDING}); wait for some, or give them a timeout")]
    TooManyPending,
    /// The server would end the session.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// Why a question of the server was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It was answered before, or its session is gone.
    #[error("it was answered, or its session is gone")]
    Unknown,
    /// The server would end the session. The question stays open.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

#[derive(Debug)]
enum State {
    /// Not to be connected.
    Inactive,
    /// To be joined when the session is open and the auth object is there.
    Waiting,
    /// CONNECT is sent.
    Joining { deadline: Instant },
    /// The server has answered.
    Joined { id: ByteString },
}

#[derive(Debug)]
pub(super) struct Outgoing {
    name: Name,
    args: Args,
    pub(super) id: Option<u64>,
    sender: u64,
}

impl Outgoing {
    /// What it counts in the send buffer.
    pub(super) fn size(&self) -> usize {
        self.name.as_json().len() + self.args.size() + ENTRY
    }
}

/// One namespace of a session.
#[derive(Debug)]
pub struct Socket<T> {
    settings: Settings,
    state: State,
    pending: Pending<T>,
    owed: Owed,
    send_buffer: VecDeque<Outgoing>,
    send_buffer_bytes: usize,
    retry: Queue<T>,
    early: VecDeque<(Option<u64>, Name, Args)>,
    early_bytes: usize,
    recovery: Recovery,
    /// The CONNECT that went out on this session and was not answered; it stays whatever was decided since.
    unanswered: Option<Joining>,
    /// The server owes an answer to a CONNECT of this session, even if a DISCONNECT came first, which may have crossed it.
    may_be_let_in: bool,
    /// The CONNECT to send once that one is answered, whose auth object was another.
    queued: Option<Joining>,
    watched: bool,
    limit: Limit,
    setup: Setup,
    /// The script has gone through in the session that the server may give back.
    was_set_up: bool,
    /// A script has failed, and its owner does not know yet.
    setup_failed: bool,
    sent: u64,
    outbox: VecDeque<Transmit>,
    events: VecDeque<Event<T>>,
}

/// Where the script of a joined socket is.
#[derive(Debug, PartialEq, Eq)]
enum Setup {
    /// Not joined.
    Idle,
    /// This step's file is being read.
    Reading(usize),
    /// This step's answer is awaited under this id.
    Waiting { step: usize, id: u64, deadline: Instant },
    /// Through: others may speak.
    Done,
}

/// The payload of a CONNECT.
pub type Joining = Option<ByteString>;

/// What the server needs to give a session back.
#[derive(Debug, Default)]
struct Recovery {
    private_id: Option<String>,
    offset: Option<String>,
}

impl<T> Socket<T> {
    /// An inactive socket whose questions from the server are numbered from `first_ack`. `unanswered` is the CONNECT
    /// that another socket of this namespace left behind on the session, which may go on.
    pub fn new(settings: Settings, first_ack: u64, unanswered: Option<Joining>) -> Self {
        Self {
            retry: Queue::new(settings.retries),
            settings,
            state: State::Inactive,
            pending: Pending::default(),
            owed: Owed::new(first_ack),
            send_buffer: VecDeque::new(),
            send_buffer_bytes: 0,
            early: VecDeque::new(),
            early_bytes: 0,
            recovery: Recovery::default(),
            may_be_let_in: unanswered.is_some(),
            unanswered,
            queued: None,
            watched: false,
            limit: Limit::default(),
            setup: Setup::Idle,
            was_set_up: false,
            setup_failed: false,
            sent: 0,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &ByteString {
        &self.settings.namespace
    }

    /// Joined, joining, or to be joined when the session opens.
    pub fn is_active(&self) -> bool {
        !matches!(self.state, State::Inactive)
    }

    /// The server has answered CONNECT.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Joined { .. })
    }

    /// Joined, and whatever the script had to say is said: emits go out at once.
    pub fn is_ready(&self) -> bool {
        self.is_connected() && self.setup == Setup::Done
    }

    /// Whether a script failed since this was asked last, so that the socket left the namespace.
    pub fn take_setup_failed(&mut self) -> bool {
        std::mem::take(&mut self.setup_failed)
    }

    /// Active, and CONNECT is still to be sent.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// CONNECT is sent and unanswered.
    pub fn is_joining(&self) -> bool {
        matches!(self.state, State::Joining { .. })
    }

    /// The socket's id while connected.
    pub fn id(&self) -> Option<&ByteString> {
        match &self.state {
            State::Joined { id } => Some(id),
            State::Inactive | State::Waiting | State::Joining { .. } => None,
        }
    }

    /// The CONNECT that the server has yet to answer on this session, also for a socket that was told to leave.
    pub fn unanswered(&self) -> Option<&Joining> {
        self.unanswered.as_ref()
    }

    /// Events that wait for the connection, or in the retry queue for their answer.
    pub fn buffered(&self) -> usize {
        self.send_buffer.len() + self.retry.len()
    }

    /// Acks that are waited for.
    pub fn pending_acks(&self) -> usize {
        self.pending.len() + self.retry.pending()
    }

    /// Events handed to the transport so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether [`Event::Outgoing`] is wanted.
    pub fn set_watched(&mut self, watched: bool) {
        self.watched = watched;
    }

    /// What the server takes from now on; without a session, what it took last.
    pub fn set_limit(&mut self, limit: Limit) {
        self.limit = limit;
    }

    /// Wants to be connected; true if it did not before.
    pub fn connect(&mut self) -> bool {
        let starts = !self.is_active();
        if starts {
            self.state = State::Waiting;
        }
        starts
    }

    /// The session is open and `auth`, a JSON object, is at hand: sends CONNECT. Only once a session, whoever asks
    /// again: a second CONNECT would end it. An auth object that is too large for the server would end it too, and is
    /// not sent.
    pub fn join(&mut self, now: Instant, auth: Option<&str>) -> Result<(), TooLarge> {
        if !self.is_waiting() {
            return Ok(());
        }
        let mut payload = self.recovery.payload(auth);
        if self.limit.check(&self.encode(Body::Connect(payload.clone()))).is_err() {
            // What was taken for an offset may have been any text.
            self.recovery = Recovery::default();
            payload = self.recovery.payload(auth);
            self.limit.check(&self.encode(Body::Connect(payload.clone())))?;
        }
        self.state = State::Joining { deadline: now + self.settings.timeout };
        match &self.unanswered {
            None => self.ask(payload),
            Some(sent) if *sent == payload => {}
            Some(_) => self.queued = Some(payload),
        }
        Ok(())
    }

    /// Leaves, and stays away until [`Socket::connect`]. What is buffered stays.
    pub fn disconnect(&mut self) {
        if self.is_connected() {
            self.transmit(Body::Disconnect);
            self.leave(DisconnectReason::ClientDisconnect, None);
        }
        self.abandon_joining();
        self.state = State::Inactive;
    }

    /// Gives up without a word to the server; no event. For a Manager that will not try again.
    pub fn deactivate(&mut self) {
        self.abandon_joining();
        self.state = State::Inactive;
    }

    /// The session below ended.
    pub fn handle_closed(&mut self, reason: DisconnectReason, details: Option<&Details>) {
        match self.state {
            State::Inactive => {}
            State::Waiting | State::Joining { .. } => {
                let details = details.cloned().unwrap_or_else(|| Details::new(reason.as_str()));
                self.events.push_back(Event::JoinFailed(details));
                self.abandon_joining();
                self.state = State::Waiting;
            }
            State::Joined { .. } => {
                self.leave(reason, details.cloned());
                self.state = State::Waiting;
            }
        }
        self.unanswered = None;
        self.may_be_let_in = false;
        self.outbox.clear();
    }

    /// A packet for this namespace came. An error means that the session has to end.
    pub fn handle_packet(&mut self, now: Instant, body: Body) -> Result<(), Details> {
        if matches!(body, Body::Connect(_) | Body::ConnectError(_) | Body::Disconnect) {
            self.unanswered = None;
        }
        let answers = matches!(body, Body::Connect(_) | Body::ConnectError(_));
        let was_asked = answers && std::mem::take(&mut self.may_be_let_in);
        match body {
            Body::Connect(_) | Body::ConnectError(_) if self.queued.is_some() => {
                if matches!(body, Body::Connect(_)) {
                    self.transmit(Body::Disconnect);
                }
                if let Some(payload) = self.queued.take() {
                    self.abandon_joining();
                    self.ask(payload);
                }
            }
            Body::Connect(payload) if self.is_joining() => self.joined(now, payload.as_deref()),
            Body::ConnectError(payload) if self.is_joining() => self.refused(payload.as_ref()),
            // The CONNECT of a socket that was told to leave before the answer came. One that nobody asked for is
            // ignored, or the server would decide how much we send.
            Body::Connect(_) if !self.is_active() && was_asked => self.transmit(Body::Disconnect),
            Body::Disconnect if self.is_connected() => {
                self.leave(DisconnectReason::ServerDisconnect, None);
                self.state = State::Inactive;
            }
            Body::Disconnect if self.is_joining() => {
                self.abandon_joining();
                self.state = State::Inactive;
                let message = "the server closed the namespace before it was joined".into();
                self.events.push_back(Event::Refused { message, data: None });
            }
            Body::Event { id, name, args } if self.is_connected() => self.deliver(id, name, args),
            Body::Event { id, name, args } if self.is_joining() => {
                self.early_bytes += args.size() + name.as_json().len() + ENTRY;
                if self.early_bytes > MAX_EARLY {
                    return Err(Details::new("too many events before the CONNECT answer"));
                }
                // As slices, small ones would keep the large messages around them.
                self.early.push_back((id, name.detached(), args.detached()));
            }
            Body::Ack { id: Some(id), args } if self.is_connected() => {
                if let Setup::Waiting { step, id: awaited, .. } = self.setup
                    && awaited == id
                {
                    self.step_answered(now, step, args);
                } else if let Some(entry) = self.retry.answered(id) {
                    let answer = entry.ticket.map(|ticket| Event::Answer { ticket, result: Ok(args) });
                    self.events.extend(answer);
                    self.try_next(now);
                } else if let Some(ticket) = self.pending.remove(id) {
                    self.events.push_back(Event::Answer { ticket, result: Ok(args) });
                }
            }
            Body::Connect(_)
            | Body::ConnectError(_)
            | Body::Disconnect
            | Body::Event { .. }
            | Body::Ack { .. } => {
                tracing::debug!("packet ignored in this state");
            }
        }
        Ok(())
    }

    /// Sends an event, or lets it wait. The ticket comes back with [`Event::Answer`] where an ack is wanted and the
    /// emit was taken, else at once. `writable`: the transport could take it now.
    pub fn emit(
        &mut self,
        now: Instant,
        emit: Emit,
        ticket: T,
        writable: bool,
    ) -> (Result<Sent, EmitError>, Option<T>) {
        let connected = self.is_ready();
        if emit.volatile && !(connected && writable) {
            return (Ok(Sent::Dropped), Some(ticket));
        }
        if self.retry.is_in_use() && !emit.volatile {
            return self.emit_in_turn(now, emit, ticket);
        }
        let mut outgoing = Outgoing { name: emit.name, args: emit.args, id: None, sender: emit.sender };
        if !connected && self.send_buffer_bytes + outgoing.size() > self.settings.send_buffer {
            return (Err(EmitError::BufferFull(self.settings.send_buffer)), Some(ticket));
        }
        if emit.ack.is_some() {
            if self.pending_acks() >= MAX_PENDING {
                return (Err(EmitError::TooManyPending), Some(ticket));
            }
            outgoing.id = Some(self.pending.next_id());
        }
        let messages = self.encode_event(&outgoing);
        if let Err(too_large) = self.check(&messages) {
            return (Err(too_large.into()), Some(ticket));
        }
        let mut rest = Some(ticket);
        if let Some(timeout) = emit.ack {
            let timeout = timeout.or(self.settings.ack_timeout);
            let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
            outgoing.id = rest.take().map(|ticket| self.pending.insert(ticket, deadline));
        }
        if connected {
            self.hand_over(&outgoing, messages);
            (Ok(Sent::Sent), rest)
        } else {
            self.send_buffer_bytes += outgoing.size();
            self.send_buffer.push_back(outgoing);
            (Ok(Sent::Buffered), rest)
        }
    }

    /// Answers the server's question `number`, once and in its own session.
    pub fn answer(&mut self, number: u64, args: Args) -> Result<(), AnswerError> {
        let wire_id = self.owed.wire_id(number).ok_or(AnswerError::Unknown)?;
        let messages = self.encode(Body::Ack { id: Some(wire_id), args });
        self.limit.check(&messages)?;
        self.owed.answered(number);
        self.outbox.extend(messages.into_iter().map(Transmit::Message));
        Ok(())
    }

    /// Nobody will be answered any more: the connection is closed for good, or the daemon ends.
    pub fn abandon_acks(&mut self) {
        self.fail_pending(|_| false);
        self.events.extend(self.retry.drain().map(|entry| match entry.ticket {
            Some(ticket) => Event::Answer { ticket, result: Err(AckError::Disconnected) },
            None => Event::Lost { name: entry.outgoing.name, loss: Loss::Abandoned { tries: entry.tries } },
        }));
    }

    /// When [`Socket::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let joining = match self.state {
            State::Joining { deadline } => Some(deadline),
            State::Inactive | State::Waiting | State::Joined { .. } => None,
        };
        let step = match self.setup {
            Setup::Waiting { deadline, .. } => Some(deadline),
            Setup::Idle | Setup::Reading(_) | Setup::Done => None,
        };
        [joining, step, self.pending.next_deadline(), self.retry.deadline()].into_iter().flatten().min()
    }

    /// A deadline may have passed. True when the CONNECT answer did not come in time; the wait begins anew.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        while let Some((id, ticket)) = self.pending.pop_expired(now) {
            self.unbuffer(id);
            self.events.push_back(Event::Answer { ticket, result: Err(AckError::Timeout) });
        }
        if self.retry.deadline().is_some_and(|deadline| now >= deadline) {
            self.fail_try(AckError::Timeout);
            self.try_next(now);
        }
        if let Setup::Waiting { step, deadline, .. } = self.setup
            && now >= deadline
        {
            self.fail_setup(step, "the server did not answer in time".to_owned(), None);
        }
        match &mut self.state {
            State::Joining { deadline } if now >= *deadline => {
                *deadline = now + self.settings.timeout;
                true
            }
            _ => false,
        }
    }

    /// The next message to send. Those of one packet follow each other.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outbox.pop_front()
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<Event<T>> {
        self.events.pop_front()
    }

    fn joined(&mut self, now: Instant, payload: Option<&str>) {
        #[derive(Deserialize)]
        struct Answer {
            sid: Option<String>,
            pid: Option<String>,
        }
        let answer = payload.and_then(|payload| serde_json::from_str::<Answer>(payload).ok());
        let Some((id, private_id)) =
            answer.and_then(|answer| Some((answer.sid.filter(|id| !id.is_empty())?, answer.pid)))
        else {
            self.abandon_joining();
            self.state = State::Inactive;
            self.events.push_back(Event::Refused { message: OLD_SERVER.into(), data: None });
            return;
        };
        let recovered = self.recovery.begin(private_id);
        let id = ByteString::from(id);
        self.state = State::Joined { id: id.clone() };
        self.early_bytes = 0;
        for (ack, name, args) in std::mem::take(&mut self.early) {
            self.deliver(ack, name, args);
        }
        self.was_set_up &= recovered;
        let scripted = !self.settings.script.is_empty();
        if scripted {
            self.events.push_back(Event::Connect { id, recovered });
            let first = if self.was_set_up { self.settings.script.len() } else { 0 };
            self.run_script(now, first);
        } else {
            self.flow(now);
            self.events.push_back(Event::Connect { id, recovered });
        }
    }

    /// From now on emits go out; first those that have waited.
    fn flow(&mut self, now: Instant) {
        self.setup = Setup::Done;
        self.send_buffer_bytes = 0;
        for outgoing in std::mem::take(&mut self.send_buffer) {
            let messages = self.encode_event(&outgoing);
            match self.limit.check(&messages) {
                Ok(()) => self.hand_over(&outgoing, messages),
                Err(too_large) => {
                    let ticket = outgoing.id.and_then(|id| self.pending.remove(id));
                    self.lose(outgoing.name, ticket, too_large);
                }
            }
        }
        self.try_next(now);
    }

    /// Plays the script from this step on, until something has to be waited for.
    fn run_script(&mut self, now: Instant, from: usize) {
        let script = Arc::clone(&self.settings.script);
        for (number, step) in script.iter().enumerate().skip(from) {
            match &step.args {
                StepArgs::File(path) => {
                    self.setup = Setup::Reading(number);
                    return self.events.push_back(Event::ReadArgs(path.clone()));
                }
                StepArgs::Fixed(args) => {
                    if !self.send_step(now, number, step, args.clone()) {
                        return;
                    }
                }
            }
        }
        self.was_set_up = true;
        self.events.push_back(Event::Ready);
        self.flow(now);
    }

    /// The arguments of the step that waits for its file, or why there are none.
    pub fn handle_step_args(&mut self, now: Instant, args: Result<Args, String>) {
        let Setup::Reading(number) = self.setup else { return };
        let script = Arc::clone(&self.settings.script);
        match (args, script.get(number)) {
            (Ok(args), Some(step)) => {
                if self.send_step(now, number, step, args) {
                    self.run_script(now, number + 1);
                }
            }
            (Err(message), _) => self.fail_setup(number, message, None),
            (Ok(_), None) => {}
        }
    }

    /// Sends a step's emit; true if the next one may follow at once.
    fn send_step(&mut self, now: Instant, number: usize, step: &Step, args: Args) -> bool {
        let id = step.expect.as_ref().map(|_| self.pending.take_id());
        let messages = self.encode(Body::Event { id, name: step.event.clone(), args });
        if let Err(too_large) = self.limit.check(&messages) {
            self.fail_setup(number, too_large.to_string(), None);
            return false;
        }
        self.sent += 1;
        self.outbox.extend(messages.into_iter().map(Transmit::Message));
        if let Some(id) = id {
            self.setup = Setup::Waiting { step: number, id, deadline: now + step.timeout };
        }
        id.is_none()
    }

    fn step_answered(&mut self, now: Instant, number: usize, answer: Args) {
        let verdict = self.settings.script.get(number).map_or(Ok(()), |step| step.accepts(&answer));
        match verdict {
            Ok(()) => self.run_script(now, number + 1),
            Err(message) => self.fail_setup(number, message.to_owned(), Some(answer)),
        }
    }

    /// Whoever depends on the script must not speak without it: the namespace is left.
    fn fail_setup(&mut self, step: usize, message: String, answer: Option<Args>) {
        self.events.push_back(Event::SetupFailed { step, message, answer });
        self.transmit(Body::Disconnect);
        self.leave(DisconnectReason::ClientDisconnect, None);
        self.state = State::Inactive;
        self.setup_failed = true;
    }

    fn refused(&mut self, payload: Option<&ByteString>) {
        #[derive(Deserialize)]
        struct Refusal<'a> {
            #[serde(borrow, default, deserialize_with = "present")]
            message: Option<&'a RawValue>,
            #[serde(borrow, default, deserialize_with = "present")]
            data: Option<&'a RawValue>,
        }
        /// `null` is a value too.
        fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
            <&RawValue>::deserialize(from).map(Some)
        }
        self.abandon_joining();
        self.state = State::Inactive;
        let (mut message, mut data) = (String::new(), None);
        if let Some(payload) = payload {
            if let Ok(text) = serde_json::from_str::<String>(payload) {
                message = text;
            } else if let Ok(refusal) = serde_json::from_str::<Refusal<'_>>(payload) {
                // As `Error(message)` of the official client has it: whatever it is becomes a text.
                let text = refusal.message.map_or("\"\"", RawValue::get);
                message = crate::json::unquote(text).map_or_else(|| text.to_owned(), Cow::into_owned);
                data = refusal.data.map(|raw| crate::json::minify_shared(payload.slice_ref(raw.get())));
            }
        }
        self.events.push_back(Event::Refused { message, data });
    }

    fn deliver(&mut self, id: Option<u64>, name: Name, args: Args) {
        if id.is_none() {
            self.recovery.note(&args);
        }
        let ack = id.map(|id| self.owed.ask(id));
        self.events.push_back(Event::Event { name, args, ack });
    }

    /// [`Socket::emit`] through the retry queue. One that goes out at once needs no room.
    fn emit_in_turn(&mut self, now: Instant, emit: Emit, ticket: T) -> (Result<Sent, EmitError>, Option<T>) {
        let goes_out = self.is_ready() && self.retry.len() == 0;
        let id = Some(self.pending.next_id());
        let mut outgoing = Outgoing { name: emit.name, args: emit.args, id, sender: emit.sender };
        if !goes_out && self.retry.bytes() + outgoing.size() > self.settings.send_buffer {
            return (Err(EmitError::BufferFull(self.settings.send_buffer)), Some(ticket));
        }
        if emit.ack.is_some() && self.pending_acks() >= MAX_PENDING {
            return (Err(EmitError::TooManyPending), Some(ticket));
        }
        if let Err(too_large) = self.check(&self.encode_event(&outgoing)) {
            return (Err(too_large.into()), Some(ticket));
        }
        outgoing.id = None;
        let timeout = emit.ack.flatten().or(self.settings.ack_timeout);
        let (waits, rest) = if emit.ack.is_some() { (Some(ticket), None) } else { (None, Some(ticket)) };
        self.retry.push(retry::Entry { outgoing, ticket: waits, timeout, tries: 0 });
        self.try_next(now);
        (Ok(if goes_out { Sent::Sent } else { Sent::Buffered }), rest)
    }

    /// Sends the first entry of the retry queue, unless it is on its way.
    fn try_next(&mut self, now: Instant) {
        while self.is_ready()
            && let Some(mut entry) = self.retry.next_try()
        {
            entry.outgoing.id = Some(self.pending.take_id());
            let messages = self.encode_event(&entry.outgoing);
            match self.limit.check(&messages) {
                Ok(()) => {
                    self.hand_over(&entry.outgoing, messages);
                    self.retry.sent(now, entry);
                }
                Err(too_large) => self.lose(entry.outgoing.name, entry.ticket, too_large),
            }
        }
    }

    /// The try that is on its way has failed; if it was the last, its emit is given up.
    fn fail_try(&mut self, error: AckError) {
        let Some(entry) = self.retry.failed() else { return };
        self.events.push_back(match entry.ticket {
            Some(ticket) => Event::Answer { ticket, result: Err(error) },
            None => Event::Lost { name: entry.outgoing.name, loss: Loss::Unanswered { tries: entry.tries } },
        });
    }

    /// Whether the server takes these now; what waits may find another transport.
    fn check(&self, messages: &[Message]) -> Result<(), TooLarge> {
        let base64 = self.limit.base64 && self.is_ready();
        Limit { base64, ..self.limit }.check(messages)
    }

    fn hand_over(&mut self, outgoing: &Outgoing, messages: Vec<Message>) {
        self.sent += 1;
        if self.watched {
            let (name, args) = (outgoing.name.clone(), outgoing.args.clone());
            self.events.push_back(Event::Outgoing { name, args, sender: outgoing.sender });
        }
        self.outbox.extend(messages.into_iter().map(Transmit::Message));
    }

    /// What was taken while the server's limit was not known, or another, is not sent; nobody is left waiting.
    fn lose(&mut self, name: Name, ticket: Option<T>, too_large: TooLarge) {
        let result = Err(AckError::TooLarge(too_large));
        self.events.extend(ticket.map(|ticket| Event::Answer { ticket, result }));
        self.events.push_back(Event::Lost { name, loss: too_large.into() });
    }

    fn encode(&self, body: Body) -> Vec<Message> {
        let mut messages = Vec::new();
        let namespace = self.settings.namespace.clone();
        Packet { namespace, body }.encode(self.settings.parser, &mut messages);
        messages
    }

    fn encode_event(&self, Outgoing { name, args, id, .. }: &Outgoing) -> Vec<Message> {
        self.encode(Body::Event { id: *id, name: name.clone(), args: args.clone() })
    }

    fn transmit(&mut self, body: Body) {
        let packet = Packet { namespace: self.settings.namespace.clone(), body };
        self.outbox.push_back(Transmit::Packet(packet));
    }

    fn leave(&mut self, reason: DisconnectReason, details: Option<Details>) {
        self.setup = Setup::Idle;
        self.owed.forget();
        self.events.push_back(Event::Disconnect { reason, details });
        let buffered: std::collections::HashSet<u64> =
            self.send_buffer.iter().filter_map(|emit| emit.id).collect();
        self.fail_pending(|id| buffered.contains(&id));
        self.fail_try(AckError::Disconnected);
    }

    fn fail_pending(&mut self, keep: impl Fn(u64) -> bool) {
        for ticket in self.pending.drain_except(keep) {
            self.events.push_back(Event::Answer { ticket, result: Err(AckError::Disconnected) });
        }
    }

    fn ask(&mut self, payload: Joining) {
        self.unanswered = Some(payload.clone());
        self.may_be_let_in = true;
        self.transmit(Body::Connect(payload));
    }

    fn abandon_joining(&mut self) {
        self.queued = None;
        self.early.clear();
        self.early_bytes = 0;
    }

    fn unbuffer(&mut self, id: u64) {
        if let Some(at) = self.send_buffer.iter().position(|emit| emit.id == Some(id))
            && let Some(emit) = self.send_buffer.remove(at)
        {
            self.send_buffer_bytes -= emit.size();
        }
    }
}

impl Recovery {
    /// The CONNECT payload: what the server needs to recover, under the auth object, whose members win.
    fn payload(&self, auth: Option<&str>) -> Option<ByteString> {
        let Some(private_id) = &self.private_id else { return auth.map(ByteString::from) };
        let auth = auth.unwrap_or("{}");
        let taken: std::collections::HashMap<String, &RawValue> =
            serde_json::from_str(auth).unwrap_or_default();
        let mut payload = vec![b'{'];
        let mut member = |key: &str, value: &str| {
            if !taken.contains_key(key) {
                if payload.len() > 1 {
                    payload.push(b',');
                }
                crate::json::push_string(&mut payload, key);
                payload.push(b':');
                crate::json::push_string(&mut payload, value);
            }
        };
        member("pid", private_id);
        if let Some(offset) = &self.offset {
            member("offset", offset);
        }
        let rest = auth.trim().trim_start_matches('{').trim_start();
        if payload.len() > 1 && !rest.starts_with('}') {
            payload.push(b',');
        }
        payload.extend_from_slice(rest.as_bytes());
        ByteString::try_from(payload).ok()
    }

    /// A session begins under `private_id`; true if it is the earlier one, given back.
    fn begin(&mut self, private_id: Option<String>) -> bool {
        let recovered = private_id.is_some() && private_id == self.private_id;
        if !recovered {
            self.offset = None;
        }
        self.private_id = private_id;
        recovered
    }

    /// An event without an ack was delivered: a text as its last argument is the offset.
    fn note(&mut self, args: &Args) {
        if self.private_id.is_some()
            && let Some(last) = args.last_string()
        {
            self.offset = Some(last);
        }
    }
}

#[cfg(test)]
mod tests;
