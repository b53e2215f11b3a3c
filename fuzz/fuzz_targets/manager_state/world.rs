//! The driver, the server and the programs in one.
//!
//! However they behave: nothing panics; no deadline stays in the past; who is active has something to wait for; queues keep
//! to their bounds; each emit is answered once, and at the latest when its socket is gone; and what a program hears makes
//! sense.

mod happening;
mod ticket;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use siod::engineio::TransportKind;
use siod::manager::state::{Action, Key, Output, State};
use siod::manager::{ConnectionState, Lifecycle, Status};
use siod::socketio::{Recoverable, Socket};

use self::ticket::{Book, Ticket};
use crate::input::{Happening, NAMESPACES, Setup, Want, Which};
use crate::wire::Wire;

/// What an event that waits counts at least.
const ENTRY: usize = 64;

/// Deadlines that may follow one another in one moment.
const MOST_AT_ONCE: usize = 8;

pub(crate) struct World<'a> {
    setup: &'a Setup,
    short: bool,
    /// Who took the last packet, if nothing has happened since.
    following: Option<Key>,
    now: Instant,
    state: State<Ticket>,
    wire: Wire,
    transport: TransportKind,
    book: Rc<RefCell<Book>>,
    /// The socket of each namespace.
    sockets: [Option<Key>; NAMESPACES.len()],
    keys: Key,
    /// What is being asked for a socket: an auth object, or arguments.
    asked: BTreeMap<Key, (u64, Asked)>,
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
enum Asked {
    Auth,
    Args,
}

impl<'a> World<'a> {
    pub(crate) fn new(setup: &'a Setup, start: Instant, short: bool) -> Self {
        let mut world = Self {
            setup,
            short,
            following: None,
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
        if !matches!(happening, Happening::HearsOf { .. } | Happening::Hears(_)) {
            self.following = None;
        }
        self.happen(happening);
        self.settle();
        self.pass_time();
        self.check();
    }

    /// Everybody leaves.
    pub(crate) fn end(&mut self) {
        self.full = false;
        for which in [Which::Root, Which::A, Which::B] {
            self.happen(&Happening::Wants(Want::Remove(which)));
        }
        self.settle();
        self.check();
        assert_eq!(self.book.borrow().waiting().next(), None);
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
            if self.full {
                for (key, output) in self.state.take_outgoing() {
                    self.output(key, output);
                }
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
            Action::Authenticate { key, question } => drop(self.asked.insert(key, (question, Asked::Auth))),
            Action::ReadArgs { key, question, .. } => drop(self.asked.insert(key, (question, Asked::Args))),
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
                let number = ticket.settle(key);
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
        let number = ticket.settle(key);
        let result = result.map(|array| array.escape_ascii().to_string());
        self.say(format_args!("{key} answer {number} {result:?}"));
    }

    fn say(&mut self, words: std::fmt::Arguments<'_>) {
        writeln!(self.heard, "{words}").expect("a String takes all");
    }

    /// Looks at deadlines, until none has come.
    fn pass_time(&mut self) {
        let most = MOST_AT_ONCE + self.tries_left();
        let mut rounds = 0;
        while self.state.poll_timeout().is_some_and(|deadline| deadline <= self.now) {
            self.state.handle_timeout(self.now);
            self.settle();
            rounds += 1;
            assert!(rounds <= most, "a deadline stays in the past");
        }
    }

    fn check(&self) {
        let book = self.book.borrow();
        assert!(book.lost().is_empty(), "nobody heard of {:?}", book.lost());
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
            let waiting = book.waiting().filter(|of| *of == key).count();
            let pending = socket.pending_acks();
            // A try for which nobody waits has an answer all the same.
            assert!(
                (waiting..=waiting + self.most_in_turn()).contains(&pending),
                "{waiting} wait for {pending}"
            );
            let connected = self.connected.get(&key).copied().unwrap_or_default();
            assert_eq!(connected, socket.is_connected(), "whoever listens knows");
        }
        let is_there = |key| self.state.contains(key);
        assert!(book.waiting().all(is_there), "nobody waits for a socket that is gone");
    }

    /// Each try of an emit that is not to wait for its answer at all is over in its moment.
    fn tries_left(&self) -> usize {
        let buffered = |key| self.state.socket(key).map_or(0, Socket::buffered);
        let emits: usize = self.state.keys().into_iter().map(buffered).sum();
        emits * (self.setup.retries() as usize + 1)
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
