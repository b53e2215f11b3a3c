//! The driver, the server and the programs in one.
//!
//! However they behave: nothing panics; no deadline stays in the past; who is active has something to wait for; queues keep
//! to their bounds; each emit is answered once, and at the latest when its socket is gone; and what a program hears makes
//! sense.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use siod::engineio::{Details, Frame, Message, Packet, TransportKind};
use siod::manager::state::{Action, Key, Output, State};
use siod::manager::{ConnectionState, Lifecycle, Status};
use siod::socketio::{Recoverable, Sent};

use crate::input::{self, Auth, Emitted, Engine, Happening, NAMESPACES, Said, Setup, Which};
use crate::wire::Wire;

/// What an event that waits counts at least.
const ENTRY: usize = 64;

/// Deadlines that may follow one another in one moment.
const MOST_AT_ONCE: usize = 8;

pub(crate) struct World<'a> {
    setup: &'a Setup,
    short: bool,
    now: Instant,
    state: State<Ticket>,
    wire: Wire,
    transport: TransportKind,
    book: Rc<RefCell<Book>>,
    /// The socket of each namespace.
    sockets: [Option<Key>; NAMESPACES.len()],
    keys: Key,
    /// What is being asked for a socket: an auth object, or arguments.
    asked: BTreeMap<Key, (u64, Wanted)>,
    /// Whom a program believes to be connected.
    connected: BTreeMap<Key, bool>,
    last_ack: BTreeMap<Key, u64>,
    saved: Option<Recoverable>,
    /// Programs have no room: nothing is passed on, and nothing is read.
    full: bool,
    suspended: bool,
    heard: String,
}

/// What a snapshot shows of a socket.
#[derive(Debug, PartialEq)]
pub(crate) struct Standing {
    key: Key,
    status: Status,
    numbers: [u64; 3],
}

#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Auth,
    Args,
}

/// Who waits for what becomes of something.
struct Ticket {
    number: u64,
    book: Rc<RefCell<Book>>,
}

/// Who still waits: the socket of each ticket.
#[derive(Default)]
struct Book {
    tickets: u64,
    waiting: BTreeMap<u64, Key>,
    /// Dropped without a word.
    lost: Vec<u64>,
}

impl Ticket {
    fn settle(self) -> u64 {
        let settled = self.book.borrow_mut().waiting.remove(&self.number);
        assert!(settled.is_some(), "ticket {} was answered already", self.number);
        self.number
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut book = self.book.borrow_mut();
        if book.waiting.remove(&self.number).is_some() {
            book.lost.push(self.number);
        }
    }
}

impl<'a> World<'a> {
    pub(crate) fn new(setup: &'a Setup, start: Instant, short: bool) -> Self {
        let mut world = Self {
            setup,
            short,
            now: start,
            state: State::new(setup.manager(), Arc::default(), setup.seed),
            wire: Wire::new(setup.parser(), setup.revision()),
            transport: TransportKind::WebSocket,
            book: Rc::default(),
            sockets: [None; NAMESPACES.len()],
            keys: 0,
            asked: BTreeMap::new(),
            connected: BTreeMap::new(),
            last_ack: BTreeMap::new(),
            saved: None,
            full: false,
            suspended: false,
            heard: String::new(),
        };
        world.add(Which::Root, false);
        world.add(Which::A, false);
        world
    }

    /// What everybody has heard since this was asked last.
    pub(crate) fn heard(&mut self) -> String {
        std::mem::take(&mut self.heard)
    }

    /// How everything stands.
    pub(crate) fn standing(&self) -> (Option<Instant>, Vec<Standing>) {
        let socket = |key: Key| {
            let socket = self.state.socket(key).expect("it is there");
            let numbers = [socket.buffered() as u64, socket.pending_acks() as u64, socket.sent()];
            Standing { key, status: self.state.status(key), numbers }
        };
        (self.state.poll_timeout(), self.state.keys().into_iter().map(socket).collect())
    }

    /// Lives through one thing that happens, and what comes of it.
    pub(crate) fn live(&mut self, happening: &Happening) {
        self.happen(happening);
        self.settle();
        self.pass_time();
        self.check();
    }

    /// Everybody leaves.
    pub(crate) fn end(&mut self) {
        self.full = false;
        for which in [Which::Root, Which::A, Which::B] {
            self.happen(&Happening::Remove(which));
        }
        self.settle();
        self.check();
        assert!(self.book.borrow().waiting.is_empty());
    }

    fn happen(&mut self, happening: &Happening) {
        let now = self.now;
        match *happening {
            Happening::GoesWell { socket, max_payload } => self.go_well(socket, max_payload),
            Happening::Add { socket, resumes } => self.add(socket, resumes),
            Happening::Connect(which) => {
                if let Some(key) = self.key(which).filter(|_| !self.suspended) {
                    self.state.connect(now, key);
                }
            }
            Happening::Disconnect(which) => {
                if let Some(key) = self.key(which) {
                    self.asked.remove(&key);
                    self.state.disconnect(now, key);
                }
            }
            Happening::Remove(which) => self.remove(which),
            Happening::Emit { socket, ref emit } => self.emit(socket, emit),
            Happening::Answer { socket, back, size } => {
                if let Some(key) = self.key(socket) {
                    let last = self.last_ack.get(&key).copied().unwrap_or_default();
                    let number = last.saturating_sub(u64::from(back % 4));
                    let answered = self.state.answer(now, key, number, input::args(size, false));
                    self.say(format_args!("answered {answered:?}"));
                }
            }
            Happening::Watch { socket, watched } => {
                if let Some(key) = self.key(socket) {
                    self.state.set_watched(key, watched);
                }
            }
            Happening::AbandonAcks => self.state.abandon_acks(now),
            Happening::Suspend => {
                self.suspended = true;
                self.asked.clear();
                self.state.suspend(now);
            }
            Happening::Wait { milliseconds } => self.now += Duration::from_millis(milliseconds.into()),
            Happening::WaitForDeadline => {
                self.now = self.state.poll_timeout().map_or(now, |deadline| deadline.max(now));
            }
            Happening::Full if !self.full => {
                self.full = true;
                self.state.hold(now);
            }
            Happening::Room if self.full => {
                self.full = false;
                self.state.release(now);
            }
            Happening::Full | Happening::Room => {}
            Happening::Auth { socket, ref auth } => {
                if let Some((key, question)) = self.answers(socket, Wanted::Auth) {
                    let said = auth.said();
                    self.state.handle_auth(
                        now,
                        key,
                        question,
                        said.as_ref().map(Option::as_deref).map_err(Clone::clone),
                    );
                }
            }
            Happening::Args { socket, ref args } => {
                if let Some((key, question)) = self.answers(socket, Wanted::Args) {
                    self.state.handle_step_args(now, key, question, args.said());
                }
            }
            Happening::Breaks => self.start_over(),
            // Nothing is seen of what is not read.
            Happening::Lost { .. } | Happening::Paused if self.full => {}
            Happening::Lost { closed, retry_after } => {
                let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds.into()));
                let details = Details { retry_after, ..Details::new("websocket error") };
                self.state.handle_lost(now, closed, details);
            }
            Happening::Paused => self.state.handle_paused(now),
            Happening::ProbeOpened => self.state.handle_probe_opened(),
            Happening::ProbePong => self.state.handle_probe_packet(now, &Packet::Pong("probe".into())),
            Happening::ProbeHears(ref packet) => self.state.handle_probe_packet(now, &packet.packet()),
            Happening::ProbeFails => self.state.handle_probe_failed(now, "gone"),
            Happening::Upgrades => {
                self.state.handle_probe_opened();
                self.happen(&Happening::ProbePong);
                self.settle();
                self.happen(&Happening::Paused);
            }
            Happening::Opens { upgrades, interval, max_payload } => {
                self.hear(input::handshake(upgrades, interval, max_payload));
            }
            Happening::Hears(ref packet) => self.hear(Engine::packet(packet)),
            Happening::HearsOf { namespace, ref what } => {
                for message in input::messages(namespace, what, self.wire.last_id(), self.setup.parser()) {
                    self.hear(Packet::Message(message));
                }
            }
            Happening::HearsText(ref text) => self.hear(Packet::Message(Message::Text(text.as_str().into()))),
            Happening::HearsBytes(ref bytes) => self.hear(Packet::Message(input::garbage(bytes))),
        }
    }

    fn go_well(&mut self, which: Which, max_payload: Option<u8>) {
        self.happen(&Happening::Room);
        self.happen(&Happening::Connect(which));
        self.settle();
        if let Some(at) = self.key(which).and_then(|key| self.state.status(key).next_attempt) {
            self.now = self.now.max(at);
            self.pass_time();
        }
        self.hear(input::handshake(true, u8::MAX, max_payload));
        self.happen(&Happening::Auth { socket: which, auth: Auth::None });
        self.settle();
        let said = Said::LetsIn { private: Some(true) };
        self.happen(&Happening::HearsOf { namespace: Some(which), what: said });
    }

    fn key(&self, which: Which) -> Option<Key> {
        self.sockets[which.index()]
    }

    fn add(&mut self, which: Which, resumes: bool) {
        if self.key(which).is_some() {
            return;
        }
        self.keys += 1;
        let namespace = NAMESPACES[which.index()];
        self.state.add(self.keys, self.setup.socket(namespace), self.setup.returns(), 1);
        if let Some(session) = self.saved.take().filter(|_| resumes) {
            self.state.resume_session(self.keys, session);
        }
        self.sockets[which.index()] = Some(self.keys);
    }

    fn remove(&mut self, which: Which) {
        let Some(key) = self.sockets[which.index()].take() else { return };
        self.saved = self.state.session_of(key);
        self.asked.remove(&key);
        self.state.remove(self.now, key);
        let ticket = self.ticket(key);
        self.state.fence(key, ticket);
        assert!(!self.state.contains(key));
    }

    fn ticket(&mut self, key: Key) -> Ticket {
        let mut book = self.book.borrow_mut();
        book.tickets += 1;
        let number = book.tickets;
        book.waiting.insert(number, key);
        Ticket { number, book: Rc::clone(&self.book) }
    }

    fn emit(&mut self, which: Which, emit: &Emitted) {
        let Some(key) = self.key(which) else { return };
        let ticket = self.ticket(key);
        let number = ticket.number;
        let (outcome, rest) =
            self.state.emit(self.now, key, emit.emit(), ticket, emit.writable).expect("the socket is there");
        let is_taken = matches!(outcome, Ok(Sent::Sent | Sent::Buffered));
        assert_eq!(rest.is_none(), is_taken && emit.waits(), "{outcome:?}");
        self.say(format_args!("{number} {outcome:?}"));
        rest.map(Ticket::settle);
    }

    /// The question that is open for this socket, which is answered now.
    fn answers(&mut self, which: Which, wanted: Wanted) -> Option<(Key, u64)> {
        let key = self.key(which)?;
        let (question, _) = self.asked.get(&key).copied().filter(|(_, asked)| *asked == wanted)?;
        self.asked.remove(&key);
        Some((key, question))
    }

    /// The session's transport has a packet.
    fn hear(&mut self, packet: Packet) {
        if self.full {
            return;
        }
        if !(self.short && self.takes_short_cut(&packet)) {
            self.state.handle_packet(self.now, packet);
        }
        self.settle();
    }

    /// As the driver does with what has come on a WebSocket.
    fn takes_short_cut(&mut self, packet: &Packet) -> bool {
        let Packet::Message(message) = packet else { return false };
        let Frame::Text(frame) = input::frame(message) else { return false };
        let Some(text) = self.setup.revision().message_text(frame.as_bytes()) else { return false };
        let Some(key) = self.state.addressee(text) else { return false };
        let Some(mut shortcut) = self.state.shortcut(key) else { return false };
        let mut event = None;
        if shortcut.receive(text, |said, ack| {
            let mut args = Vec::new();
            said.args().write_array(&mut args);
            event = Some((said.name.as_json().to_owned(), args, ack));
        }) {
            let (name, args, ack) = event.expect("it was passed on");
            self.event(key, &name, &args, ack);
            return true;
        }
        let Some((ticket, answer)) = shortcut.answer(text) else { return false };
        let mut args = Vec::new();
        answer.args().write_array(&mut args);
        self.answered(key, ticket, Ok(args));
        true
    }

    /// Passes on and carries out what the state machine wants.
    fn settle(&mut self) {
        loop {
            let mut any = false;
            while !self.full
                && let Some((key, output)) = self.state.poll_output()
            {
                any = true;
                self.output(key, output);
            }
            while let Some(action) = self.state.poll_action() {
                any = true;
                self.act(action);
            }
            while let Some(packet) = self.state.poll_probe_transmit() {
                self.say(format_args!("probe {packet:?}"));
            }
            while let Some(packet) = self.state.poll_transmit() {
                any = true;
                self.wire.read(&packet);
                self.say(format_args!("> {packet:?}"));
            }
            if !any {
                return;
            }
        }
    }

    fn act(&mut self, action: Action) {
        self.say(format_args!("{action:?}"));
        match action {
            Action::Open(kind) => self.transport = kind,
            Action::Opened(handshake) => {
                self.wire.open(&handshake, self.transport == TransportKind::Polling);
            }
            Action::Switch => self.wire.switch(),
            Action::Close { graceful, last } => {
                assert!(graceful || last.is_empty(), "what is dropped has no last words");
                for packet in &last {
                    self.wire.read(packet);
                }
            }
            Action::Authenticate { key, question } if self.setup.anonymous => {
                self.asked.remove(&key);
                self.state.handle_auth(self.now, key, question, Ok(None));
            }
            Action::Authenticate { key, question } => drop(self.asked.insert(key, (question, Wanted::Auth))),
            Action::ReadArgs { key, question, .. } => drop(self.asked.insert(key, (question, Wanted::Args))),
            Action::Probe { .. } | Action::Pause | Action::AbandonProbe => {}
        }
    }

    fn output(&mut self, key: Key, output: Output<Ticket>) {
        match output {
            Output::Lifecycle { event, status } => {
                let connected = self.connected.entry(key).or_default();
                match event {
                    Lifecycle::Connect { .. } => {
                        assert!(!std::mem::replace(connected, true), "connected twice");
                    }
                    Lifecycle::Disconnect { .. } => {
                        assert!(std::mem::take(connected), "disconnected twice");
                    }
                    _ => {}
                }
                is_sensible(&status);
                self.say(format_args!("{key} {event:?} {status:?}"));
            }
            Output::Event { name, args, ack } => {
                let mut array = Vec::new();
                args.write_array(&mut array);
                self.event(key, name.as_json(), &array, ack);
            }
            Output::Answer { ticket, result } => {
                let result = result.map(|args| {
                    let mut array = Vec::new();
                    args.write_array(&mut array);
                    array
                });
                self.answered(key, ticket, result.map_err(|error| format!("{error:?}")));
            }
            Output::Outgoing { name, sender, .. } => {
                assert_eq!(sender, 9);
                self.say(format_args!("{key} outgoing {}", name.as_json()));
            }
            Output::Lost { name, loss } => self.say(format_args!("{key} lost {} {loss:?}", name.as_json())),
            Output::Done(ticket) => {
                let number = ticket.settle();
                self.say(format_args!("{key} done {number}"));
            }
        }
    }

    fn event(&mut self, key: Key, name: &str, args: &[u8], ack: Option<u64>) {
        if let Some(ack) = ack {
            let last = self.last_ack.insert(key, ack);
            assert!(last.is_none_or(|last| last < ack), "a number is given out once");
        }
        self.say(format_args!("{key} event {name} {} {ack:?}", args.escape_ascii()));
    }

    fn answered(&mut self, key: Key, ticket: Ticket, result: Result<Vec<u8>, String>) {
        assert_eq!(ticket.book.borrow().waiting.get(&ticket.number), Some(&key));
        let number = ticket.settle();
        let result = result.map(|array| array.escape_ascii().to_string());
        self.say(format_args!("{key} answer {number} {result:?}"));
    }

    fn say(&mut self, words: std::fmt::Arguments<'_>) {
        writeln!(self.heard, "{words}").expect("a String takes all");
    }

    /// Looks at deadlines, until none has come.
    fn pass_time(&mut self) {
        let mut rounds = 0;
        while self.state.poll_timeout().is_some_and(|deadline| deadline <= self.now) {
            self.state.handle_timeout(self.now);
            self.settle();
            rounds += 1;
            assert!(rounds <= MOST_AT_ONCE, "a deadline stays in the past");
        }
    }

    /// As after a panic, when nothing is used again that it may have left half done.
    fn start_over(&mut self) {
        if self.full {
            return;
        }
        let present: Vec<_> =
            self.sockets.into_iter().enumerate().filter_map(|(at, key)| Some((at, key?))).collect();
        let is_active = |(_, key): &(usize, Key)| self.state.status(*key).active;
        let active: Vec<_> = present
            .iter()
            .filter(|socket| is_active(socket) && !self.suspended)
            .map(|(_, key)| (*key, self.connected.get(key).copied().unwrap_or_default()))
            .collect();
        self.state = self.state.afresh();
        // Whoever waited hears of it in another way, and so does who was connected and is not to be again.
        let mut book = self.book.borrow_mut();
        book.waiting.clear();
        book.lost.clear();
        drop(book);
        self.asked.clear();
        self.connected.retain(|key, _| active.iter().any(|(active, _)| active == key));
        for (at, key) in present {
            let first_ack = self.last_ack.get(&key).map_or(1, |last| last + 1);
            self.state.add(key, self.setup.socket(NAMESPACES[at]), self.setup.returns(), first_ack);
        }
        self.state.resume(self.now, &active, &Details::new("internal error"));
    }

    fn check(&self) {
        let book = self.book.borrow();
        assert!(book.lost.is_empty(), "nobody heard of {:?}", book.lost);
        for key in self.state.keys() {
            let (status, socket) = (self.state.status(key), self.state.socket(key).expect("it is there"));
            is_sensible(&status);
            assert_eq!(status.state == ConnectionState::Connected, socket.is_connected());
            let has_something_to_wait_for =
                self.state.poll_timeout().is_some() || self.asked.contains_key(&key);
            assert!(!status.active || self.full || has_something_to_wait_for, "{key} is active for nothing");
            assert!(socket.buffered() <= (self.setup.send_buffer() / ENTRY).max(self.most_in_turn()));
        }
        if self.full {
            return;
        }
        for key in self.state.keys() {
            let socket = self.state.socket(key).expect("it is there");
            let waiting = book.waiting.values().filter(|of| **of == key).count();
            let pending = socket.pending_acks();
            // A try for which nobody waits has an answer all the same.
            assert!(
                (waiting..=waiting + self.most_in_turn()).contains(&pending),
                "{waiting} wait for {pending}"
            );
            let connected = self.connected.get(&key).copied().unwrap_or_default();
            assert_eq!(connected, socket.is_connected(), "whoever listens knows");
        }
        for (ticket, key) in &book.waiting {
            assert!(self.state.contains(*key), "{ticket} waits for a socket that is gone");
        }
    }

    /// With retries one emit is on its way that took no room.
    fn most_in_turn(&self) -> usize {
        usize::from(self.setup.retries() > 0)
    }
}

fn is_sensible(status: &Status) {
    let connected = status.state == ConnectionState::Connected;
    assert_eq!(status.id.is_some(), connected, "{status:?}");
    assert_eq!(status.active, status.state != ConnectionState::Disconnected, "{status:?}");
    assert!(!status.ready || connected, "{status:?}");
    assert!(!status.recovered || connected, "{status:?}");
}
