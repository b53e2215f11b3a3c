//! One namespace: joining and leaving, events, acks, what waits while not connected.
//!
//! The transport, the session and reconnection are the Manager's. A `T` is whatever its owner wants back with the
//! answer to an emit.

mod emits;
mod event;
mod recovery;
mod setup;

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use bytestring::ByteString;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

pub use self::event::{
    AnswerError, DisconnectReason, Emit, EmitError, Event, Loss, Sent, Settings, Transmit,
};
pub use self::recovery::Recoverable;
use self::recovery::Recovery;
use self::setup::Setup;
use super::acks::{AckError, Owed, Pending};
use super::retry::Queue;
use super::{Args, ArgsView, Body, Limit, Name, Packet, TooLarge};
use crate::engineio::{Details, Message};

/// Events that may come before the CONNECT answer, in bytes; recovered sessions send what was missed there.
pub const MAX_EARLY: usize = 16 * 1024 * 1024;

/// What an event that waits counts beside its text and attachments, in bytes.
const ENTRY: usize = 64;

/// Acks that may be waited for on one socket.
pub const MAX_PENDING: usize = 65_536;

/// Bytes of the id that the server gives a socket; it is in every snapshot.
const MAX_ID: usize = 1024;

/// The message for a CONNECT answer without an id, which only servers before version 3 send; word for word that of
/// the official client.
pub const OLD_SERVER: &str = "It seems you are trying to reach a Socket.IO server in v2.x with a v3.x client, but \
     they are not compatible (more information here: https://socket.io/docs/v3/migrating-from-2-x-to-3-0/)";

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
    /// Since when nothing is read of what the server says.
    held: Option<Instant>,
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
    /// Where the messages of one emit are made.
    encoded: Vec<Message>,
    outbox: VecDeque<Transmit>,
    events: VecDeque<Event<T>>,
}

/// The payload of a CONNECT.
pub type Joining = Option<ByteString>;

impl<T> Socket<T> {
    /// An inactive socket whose questions from the server are numbered from `first_ack`. `unanswered` is the CONNECT
    /// that another socket of this namespace left behind on the session, which may go on.
    pub fn new(settings: Settings, first_ack: u64, unanswered: Option<Joining>) -> Self {
        Self {
            retry: Queue::new(settings.retries),
            settings,
            state: State::Inactive,
            held: None,
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
            encoded: Vec::new(),
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
        self.state = State::Joining { deadline: self.read_until(now) + self.settings.timeout };
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

    /// The session that the server may still give back once this process is gone. Asked of one that is joined or lost; one
    /// that left by itself is not given back.
    pub fn recoverable(&self) -> Option<Recoverable> {
        self.recovery.recoverable(self.was_set_up)
    }

    /// Goes on with the session that another process had; before the first [`Socket::connect`].
    pub fn resume(&mut self, session: Recoverable) {
        self.was_set_up = self.recovery.resume(session);
    }

    /// Leaves as [`Socket::disconnect`] does, but does not tell the server if that would end a session that it would give
    /// back: that it is gone will show when the session below ends.
    pub fn suspend(&mut self) {
        if self.is_connected() && self.recoverable().is_some() {
            self.leave(DisconnectReason::ClientDisconnect, None);
            self.state = State::Inactive;
        } else {
            self.disconnect();
        }
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
            Body::Event { id, name, args } if self.is_connected() => {
                let ack = self.receive(id, args.view());
                self.events.push_back(Event::Event { name, args, ack });
            }
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

    /// The server's event came, and its owner hears of it at once; gives our number for the ack it asks for. For a
    /// socket that is connected and has no event to give; else [`Socket::handle_packet`].
    pub fn receive(&mut self, id: Option<u64>, args: ArgsView<'_>) -> Option<u64> {
        debug_assert!(self.is_connected(), "nothing is delivered before the socket is joined");
        if id.is_none() {
            self.recovery.note(args);
        }
        id.map(|id| self.owed.ask(id))
    }

    /// The answer to `id` came on a socket that is connected: whoever waits for it. None where it is for
    /// [`Socket::handle_packet`] to say what becomes of it.
    pub fn take_answered(&mut self, id: u64) -> Option<T> {
        self.pending.remove(id)
    }

    /// What these tickets wait for is told to nobody. What was emitted with them goes its way.
    pub fn forget_acks(&mut self, is_void: impl Fn(&T) -> bool) {
        let buffered = self.buffered_ids();
        self.pending.forget(is_void, |id| buffered.contains(&id));
    }

    /// Nobody will be answered any more: the connection is closed for good, or the daemon ends.
    pub fn abandon_acks(&mut self) {
        self.fail_pending(|_| false);
        self.events.extend(self.retry.drain().map(|entry| match entry.ticket {
            Some(ticket) => Event::Answer { ticket, result: Err(AckError::Disconnected) },
            None => Event::Lost { name: entry.outgoing.name, loss: Loss::Abandoned { tries: entry.tries } },
        }));
    }

    /// What the server says is not read for a while. Nothing of it is late: deadlines rest that nobody who emits gave.
    pub fn hold(&mut self, now: Instant) {
        self.held.get_or_insert(now);
    }

    /// It is read again.
    pub fn release(&mut self, now: Instant) {
        let Some(since) = self.held.take() else { return };
        let rested = now.saturating_duration_since(since);
        if let State::Joining { deadline } = &mut self.state {
            *deadline += rested;
        }
        if let Setup::Waiting { deadline, .. } = &mut self.setup {
            *deadline += rested;
        }
        self.retry.rested(rested);
    }

    /// From where a deadline counts that is set now: the time since then is given back when the reading begins again.
    fn read_until(&self, now: Instant) -> Instant {
        self.held.unwrap_or(now)
    }

    /// When [`Socket::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let given = self.pending.next_deadline();
        if self.held.is_some() {
            return given;
        }
        let joining = match self.state {
            State::Joining { deadline } => Some(deadline),
            State::Inactive | State::Waiting | State::Joined { .. } => None,
        };
        let step = match self.setup {
            Setup::Waiting { deadline, .. } => Some(deadline),
            Setup::Idle | Setup::Reading(_) | Setup::Done => None,
        };
        [joining, step, given, self.retry.deadline()].into_iter().flatten().min()
    }

    /// A deadline may have passed. True when the CONNECT answer did not come in time; the wait begins anew.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let mut late = Vec::new();
        while let Some((id, ticket)) = self.pending.pop_expired(now) {
            late.push(id);
            self.events.push_back(Event::Answer { ticket, result: Err(AckError::Timeout) });
        }
        self.unbuffer(&late);
        if self.held.is_some() {
            return false;
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
        if id.len() > MAX_ID {
            self.abandon_joining();
            self.state = State::Inactive;
            let message = format!("the socket's id has {} bytes, more than {MAX_ID}", id.len());
            self.events.push_back(Event::Refused { message, data: None });
            return;
        }
        let recovered = self.recovery.begin(private_id);
        let id = ByteString::from(id);
        self.state = State::Joined { id: id.clone() };
        self.early_bytes = 0;
        for (ack, name, args) in std::mem::take(&mut self.early) {
            let ack = self.receive(ack, args.view());
            self.events.push_back(Event::Event { name, args, ack });
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

    fn encode(&self, body: Body) -> Vec<Message> {
        let mut messages = Vec::new();
        let namespace = self.settings.namespace.clone();
        Packet { namespace, body }.encode(self.settings.parser, &mut messages);
        messages
    }

    fn transmit(&mut self, body: Body) {
        let packet = Packet { namespace: self.settings.namespace.clone(), body };
        self.outbox.push_back(Transmit::Packet(packet));
    }

    fn leave(&mut self, reason: DisconnectReason, details: Option<Details>) {
        self.setup = Setup::Idle;
        self.owed.forget();
        self.events.push_back(Event::Disconnect { reason, details });
        let buffered = self.buffered_ids();
        self.fail_pending(|id| buffered.contains(&id));
        self.fail_try(AckError::Disconnected);
    }

    /// Of the emits in the send buffer that wait for an answer.
    fn buffered_ids(&self) -> HashSet<u64> {
        self.send_buffer.iter().filter_map(|emit| emit.id).collect()
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
}

#[cfg(test)]
mod tests;
