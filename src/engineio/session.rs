//! The life of one session: opening, heartbeat, the upgrade from polling to WebSocket, the end.
//!
//! Packets and time come in through `handle_*`; what is to be done comes out through `poll_*`. The session never
//! touches a transport: its driver opens, pauses, switches and drops them as [`Event`]s say.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use tracing::debug;

use super::heartbeat::Heartbeat;
use super::{Details, Handshake, Message, Packet, Phase, Revision, TransportKind};

/// How long an upgrade may take before the session stays on polling. The official client waits for ever, its
/// server for this long.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a session ended other than by [`Session::close`]; the words are those of the official client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The server sent no ping in time, or did not answer ours.
    PingTimeout,
    /// The server, or the network for it, closed the connection.
    TransportClose,
    /// A request failed, or the server broke the protocol.
    TransportError,
}

impl CloseReason {
    /// As consumers read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PingTimeout => "ping timeout",
            Self::TransportClose => "transport close",
            Self::TransportError => "transport error",
        }
    }
}

/// What the driver has to do or pass on.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is done; messages may be sent.
    Opened(Handshake),
    /// Open a WebSocket with this session's id beside the polling transport, then call
    /// [`Session::handle_probe_opened`] or [`Session::handle_probe_failed`].
    Probe,
    /// Bring the polling transport to rest, then call [`Session::handle_paused`].
    Pause,
    /// Send `upgrade` on the probe, then what the polling transport had not sent, and use the probe from now on.
    Switch,
    /// Drop the probe; the session stays on polling, which goes on if it was paused.
    AbandonUpgrade(String),
    /// The session is over. Before `Opened`: it could not be opened.
    Closed(CloseReason, Option<Details>),
}

#[derive(Debug)]
enum State {
    /// Waiting for the server's OPEN packet.
    Opening,
    /// Exchanging messages until the heartbeat fails.
    Open {
        heartbeat: Heartbeat,
        upgrade: Upgrade,
    },
    Closed,
}

#[derive(Debug, PartialEq, Eq)]
enum Upgrade {
    /// None is going on.
    Idle,
    /// The WebSocket is being opened, or `2probe` waits for its answer.
    Probing { deadline: Instant },
    /// The answer came; polling is coming to rest and nothing is sent meanwhile.
    Pausing { deadline: Instant },
}

/// One Engine.IO session, seen from the client.
#[derive(Debug)]
pub struct Session {
    state: State,
    revision: Revision,
    transport: TransportKind,
    may_upgrade: bool,
    /// Since when the deadline rests; a new deadline rests from its own beginning.
    held_since: Option<Instant>,
    outbox: VecDeque<Packet>,
    probe_outbox: VecDeque<Packet>,
    events: VecDeque<Event>,
}

impl Session {
    /// A session about to be opened on `transport`; `may_upgrade` when a WebSocket is welcome later.
    pub fn new(revision: Revision, transport: TransportKind, may_upgrade: bool) -> Self {
        Self {
            state: State::Opening,
            revision,
            transport,
            may_upgrade,
            held_since: None,
            outbox: VecDeque::new(),
            probe_outbox: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The transport that carries messages now.
    pub fn transport(&self) -> TransportKind {
        self.transport
    }

    /// Between the handshake and the end.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// An upgrade keeps messages back for a moment.
    pub fn is_paused(&self) -> bool {
        matches!(self.state, State::Open { upgrade: Upgrade::Pausing { .. }, .. })
    }

    /// Bytes that [`Session::poll_transmit`] is still to give, while an upgrade pauses it above all.
    pub fn queued(&self) -> usize {
        self.outbox.iter().map(Packet::payload_size).sum()
    }

    /// Queues a message; dropped silently once the session is over, as the official client does.
    pub fn send(&mut self, message: Message) {
        if self.is_open() {
            self.outbox.push_back(Packet::Message(message));
        }
    }

    /// A packet came on the session's transport; gives the message in it. No packet brings both that and an event.
    pub fn handle_packet(&mut self, now: Instant, packet: Packet) -> Option<Message> {
        if let State::Open { heartbeat, .. } = &mut self.state
            && heartbeat.hear(now, &packet)
        {
            self.held_since = self.held_since.map(|_| now);
        }
        match (&mut self.state, packet) {
            (State::Opening, Packet::Open(body)) => self.open(now, &body),
            (State::Opening, packet) => {
                let what = packet_name(&packet);
                self.fail(format!("expected the handshake, got a packet of type {what}"));
            }
            (State::Open { .. }, Packet::Ping(_)) if self.revision == Revision::V4 => {
                if !Packet::ends_in_pong(&self.outbox) {
                    self.outbox.push_back(Packet::Pong(ByteString::new()));
                }
            }
            (State::Open { .. }, Packet::Message(message)) => return Some(message),
            (State::Open { .. }, Packet::Close) => {
                let details = Details::new("transport closed by the server");
                self.end(CloseReason::TransportClose, Some(details));
            }
            (_, packet) => debug!(packet = packet_name(&packet), "packet ignored in this state"),
        }
        None
    }

    /// Whether messages may go past it: it is open, and they are no signs of life that count.
    pub fn lets_messages_pass(&self) -> bool {
        self.is_open() && self.revision == Revision::V4
    }

    /// The session's transport is gone; `closed` when the peer ended it in order, else it failed.
    pub fn handle_transport_lost(&mut self, closed: bool, details: Details) {
        let reason = if closed { CloseReason::TransportClose } else { CloseReason::TransportError };
        self.end(reason, Some(details));
    }

    /// The WebSocket asked for by [`Event::Probe`] is open.
    pub fn handle_probe_opened(&mut self) {
        if let State::Open { upgrade: Upgrade::Probing { .. }, .. } = self.state {
            self.probe_outbox.push_back(Packet::Ping(ByteString::from_static("probe")));
        }
    }

    /// A packet came on the probe.
    pub fn handle_probe_packet(&mut self, packet: &Packet) {
        let State::Open { upgrade, .. } = &mut self.state else { return };
        match (&*upgrade, packet) {
            (Upgrade::Probing { deadline }, Packet::Pong(text)) if &**text == "probe" => {
                *upgrade = Upgrade::Pausing { deadline: *deadline };
                self.events.push_back(Event::Pause);
            }
            (Upgrade::Idle, _) => {}
            (Upgrade::Probing { .. } | Upgrade::Pausing { .. }, packet) => {
                let message = format!("probe error: unexpected packet of type {}", packet_name(packet));
                self.abandon_upgrade(message);
            }
        }
    }

    /// The probe could not be opened, or was lost before the switch.
    pub fn handle_probe_failed(&mut self, message: &str) {
        self.abandon_upgrade(format!("probe error: {message}"));
    }

    /// The polling transport has come to rest.
    pub fn handle_paused(&mut self) {
        if let State::Open { upgrade: upgrade @ Upgrade::Pausing { .. }, .. } = &mut self.state {
            *upgrade = Upgrade::Idle;
            self.transport = TransportKind::WebSocket;
            self.events.push_back(Event::Switch);
        }
    }

    /// The driver reads no packets for a while (its consumers are not ready): the heartbeat's deadline rests.
    pub fn hold(&mut self, now: Instant) {
        self.held_since.get_or_insert(now);
    }

    /// The driver reads again.
    pub fn release(&mut self, now: Instant) {
        if let (Some(since), State::Open { heartbeat, .. }) = (self.held_since.take(), &mut self.state) {
            heartbeat.rested(now.saturating_duration_since(since));
        }
    }

    /// A deadline of [`Session::poll_timeout`] may have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let State::Open { heartbeat, upgrade } = &mut self.state else { return };
        if self.held_since.is_none() && now >= heartbeat.deadline() {
            self.end(CloseReason::PingTimeout, None);
            return;
        }
        if heartbeat.ping(now) {
            self.outbox.push_back(Packet::Ping(ByteString::new()));
            self.held_since = self.held_since.map(|_| now);
        }
        match upgrade {
            Upgrade::Probing { deadline } | Upgrade::Pausing { deadline } if now >= *deadline => {
                self.abandon_upgrade("probe error: timeout".into());
            }
            _ => {}
        }
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let State::Open { heartbeat, upgrade } = &self.state else { return None };
        let deadline = self.held_since.is_none().then_some(heartbeat.deadline());
        let upgrade = match upgrade {
            Upgrade::Idle => None,
            Upgrade::Probing { deadline } | Upgrade::Pausing { deadline } => Some(*deadline),
        };
        [deadline, heartbeat.next_ping(), upgrade].into_iter().flatten().min()
    }

    /// The next packet for the session's transport; none while an upgrade pauses it.
    pub fn poll_transmit(&mut self) -> Option<Packet> {
        if self.is_paused() { None } else { self.outbox.pop_front() }
    }

    /// The next packet for the probe.
    pub fn poll_probe_transmit(&mut self) -> Option<Packet> {
        self.probe_outbox.pop_front()
    }

    /// What to do or pass on next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Ends the session from this side. What [`Session::poll_transmit`] still gives is to be sent before the
    /// transport is closed; no event follows.
    pub fn close(&mut self) {
        self.state = State::Closed;
        self.probe_outbox.clear();
        self.events.clear();
    }

    fn open(&mut self, now: Instant, body: &str) {
        let handshake = match Handshake::parse(body) {
            Ok(handshake) => handshake,
            Err(error) => return self.fail(error.to_string()),
        };
        let heartbeat = Heartbeat::new(self.revision, &handshake, now);
        let upgrade = self.may_upgrade
            && self.transport == TransportKind::Polling
            && handshake.upgrades.iter().any(|name| name == TransportKind::WebSocket.name());
        self.events.push_back(Event::Opened(handshake));
        let upgrade = if upgrade {
            self.events.push_back(Event::Probe);
            Upgrade::Probing { deadline: now + UPGRADE_TIMEOUT }
        } else {
            Upgrade::Idle
        };
        self.held_since = self.held_since.map(|_| now);
        self.state = State::Open { heartbeat, upgrade };
    }

    fn abandon_upgrade(&mut self, message: String) {
        if let State::Open { upgrade, .. } = &mut self.state
            && *upgrade != Upgrade::Idle
        {
            *upgrade = Upgrade::Idle;
            self.probe_outbox.clear();
            self.events.push_back(Event::AbandonUpgrade(message));
        }
    }

    fn fail(&mut self, description: String) {
        let details = Details {
            description: Some(description),
            phase: Some(Phase::Engine),
            ..Details::new("server error")
        };
        self.end(CloseReason::TransportError, Some(details));
    }

    fn end(&mut self, reason: CloseReason, details: Option<Details>) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.outbox.clear();
            self.probe_outbox.clear();
            self.events.push_back(Event::Closed(reason, details));
        }
    }
}

fn packet_name(packet: &Packet) -> &'static str {
    match packet {
        Packet::Open(_) => "open",
        Packet::Close => "close",
        Packet::Ping(_) => "ping",
        Packet::Pong(_) => "pong",
        Packet::Message(_) => "message",
        Packet::Upgrade => "upgrade",
        Packet::Noop => "noop",
    }
}

#[cfg(test)]
mod tests;
