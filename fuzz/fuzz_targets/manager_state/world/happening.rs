//! What befalls a world, as the driver would let it.

use std::time::Duration;

use siod::engineio::{Details, Frame, Message, Packet};
use siod::manager::state::Key;
use siod::socketio::Sent;

use super::ticket::Ticket;
use super::{Asked, World};
use crate::input::{self, Auth, Emitted, Happening, NAMESPACES, Said, Sight, Turn, Want, Which, Word};

impl World<'_> {
    pub(super) fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::GoesWell { socket, max_payload } => self.go_well(*socket, *max_payload),
            Happening::Wants(want) => self.want(want),
            Happening::Sees(sight) => self.see(sight),
            Happening::HearsOf { namespace, what } => self.hear_of(*namespace, what),
            Happening::Hears(word) => self.listen(word),
        }
    }

    fn go_well(&mut self, which: Which, max_payload: Option<u8>) {
        self.see(&Sight::Room);
        self.want(&Want::Connect(which));
        self.settle();
        if let Some(at) = self.key(which).and_then(|key| self.state.status(key).next_attempt) {
            self.now = self.now.max(at);
            self.pass_time();
        }
        self.hear(input::handshake(true, u8::MAX, max_payload));
        self.see(&Sight::Auth { socket: which, auth: Auth::None });
        self.settle();
        self.hear_of(Some(which), &Said::Turn(Turn::LetsIn { private: Some(true) }));
    }

    fn want(&mut self, want: &Want) {
        let now = self.now;
        match *want {
            Want::Add { socket, resumes } => self.add(socket, resumes),
            Want::Connect(which) => {
                if let Some(key) = self.key(which).filter(|_| !self.suspended) {
                    self.state.connect(now, key);
                }
            }
            Want::Disconnect(which) => {
                if let Some(key) = self.key(which) {
                    self.asked.remove(&key);
                    self.state.disconnect(now, key);
                }
            }
            Want::Remove(which) => self.remove(which),
            Want::Emit { socket, ref emit } => self.emit(socket, emit),
            Want::Answer { socket, back, size } => {
                if let Some(key) = self.key(socket) {
                    let last = self.last_ack.get(&key).copied().unwrap_or_default();
                    let number = last.saturating_sub(u64::from(back % 4));
                    let answered = self.state.answer(now, key, number, input::args(size, false));
                    self.say(format_args!("answered {answered:?}"));
                }
            }
            Want::Watch { socket, watched } => {
                if let Some(key) = self.key(socket) {
                    self.state.set_watched(key, watched);
                }
            }
            Want::AbandonAcks => self.state.abandon_acks(now),
            Want::Suspend => {
                self.suspended = true;
                self.asked.clear();
                self.state.suspend(now);
            }
        }
    }

    fn see(&mut self, sight: &Sight) {
        let now = self.now;
        match *sight {
            Sight::Time { milliseconds } => self.now += Duration::from_millis(milliseconds.into()),
            Sight::Deadline => {
                self.now = self.state.poll_timeout().map_or(now, |deadline| deadline.max(now));
            }
            Sight::Full if !self.full => {
                self.full = true;
                self.state.hold(now);
            }
            Sight::Room if self.full => {
                self.full = false;
                self.state.release(now);
            }
            Sight::Full | Sight::Room => {}
            Sight::Auth { socket, ref auth } => {
                if let Some((key, question)) = self.answers(socket, Asked::Auth) {
                    let said = auth.said();
                    let said = said.as_ref().map(Option::as_deref).map_err(Clone::clone);
                    self.state.handle_auth(now, key, question, said);
                }
            }
            Sight::Args { socket, ref args } => {
                if let Some((key, question)) = self.answers(socket, Asked::Args) {
                    self.state.handle_step_args(now, key, question, args.said());
                }
            }
            Sight::Breaks => self.start_over(),
            // Nothing is seen of what is not read.
            Sight::Lost { .. } | Sight::Paused if self.full => {}
            Sight::Lost { closed, retry_after } => {
                let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds.into()));
                let details = Details { retry_after, ..Details::new("websocket error") };
                self.state.handle_lost(now, closed, details);
            }
            Sight::Paused => self.state.handle_paused(now),
            Sight::ProbeOpened => self.state.handle_probe_opened(),
            Sight::ProbePong => self.state.handle_probe_packet(now, &Packet::Pong("probe".into())),
            Sight::ProbeHears(ref packet) => self.state.handle_probe_packet(now, &packet.packet()),
            Sight::ProbeFails => self.state.handle_probe_failed(now, "gone"),
            Sight::Upgrade => {
                self.state.handle_probe_opened();
                self.see(&Sight::ProbePong);
                self.settle();
                self.see(&Sight::Paused);
            }
        }
    }

    fn hear_of(&mut self, namespace: Option<Which>, what: &Said) {
        for message in input::messages(namespace, what, self.wire.last_id(), self.setup.parser()) {
            self.hear(Packet::Message(message));
        }
    }

    fn listen(&mut self, word: &Word) {
        match *word {
            Word::Handshake { upgrades, interval, max_payload } => {
                self.hear(input::handshake(upgrades, interval, max_payload));
            }
            Word::Engine(ref packet) => self.hear(packet.packet()),
            Word::Text(ref text) => self.hear(Packet::Message(Message::Text(text.as_str().into()))),
            Word::Bytes(ref bytes) => self.hear(Packet::Message(input::garbage(bytes))),
        }
    }

    fn key(&self, which: Which) -> Option<Key> {
        self.sockets[which.index()]
    }

    pub(super) fn add(&mut self, which: Which, resumes: bool) {
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
        let ticket = Ticket::new(&self.book, key);
        self.state.fence(key, ticket);
        assert!(!self.state.contains(key));
    }

    fn emit(&mut self, which: Which, emit: &Emitted) {
        let Some(key) = self.key(which) else { return };
        let ticket = Ticket::new(&self.book, key);
        let number = ticket.number();
        let (outcome, rest) =
            self.state.emit(self.now, key, emit.emit(), ticket, emit.writable).expect("the socket is there");
        let is_taken = matches!(outcome, Ok(Sent::Sent | Sent::Buffered));
        assert_eq!(rest.is_none(), is_taken && emit.waits(), "{outcome:?}");
        self.say(format_args!("{number} {outcome:?}"));
        rest.map(|ticket| ticket.settle(key));
    }

    /// The question that is open for this socket, which is answered now.
    fn answers(&mut self, which: Which, wanted: Asked) -> Option<(Key, u64)> {
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
        self.following = Some(&packet).filter(|_| self.short).and_then(|packet| self.take_short_cut(packet));
        if self.following.is_none() {
            self.state.handle_packet(self.now, packet);
        }
        self.settle();
    }

    /// As the driver does with what has come on a WebSocket: as long as nothing else happens, one socket is given all that
    /// follows until it does not want it. Gives whose packet it was.
    fn take_short_cut(&mut self, packet: &Packet) -> Option<Key> {
        let Packet::Message(message) = packet else { return None };
        let Frame::Text(frame) = input::frame(message) else { return None };
        let text = self.setup.revision().message_text(frame.as_bytes())?;
        let following = self.following.filter(|key| self.is_taken_by(*key, text));
        following.or_else(|| self.state.addressee(text).filter(|key| self.is_taken_by(*key, text)))
    }

    fn is_taken_by(&mut self, key: Key, text: &str) -> bool {
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
        self.book.borrow_mut().forget();
        self.asked.clear();
        self.connected.retain(|key, _| active.iter().any(|(active, _)| active == key));
        for (at, key) in present {
            let first_ack = self.last_ack.get(&key).map_or(1, |last| last + 1);
            self.state.add(key, self.setup.socket(NAMESPACES[at]), self.setup.returns(), first_ack);
        }
        self.state.resume(self.now, &active, &Details::new("internal error"));
    }
}
