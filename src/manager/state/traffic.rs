//! Between the session and its sockets: packets both ways, and what the owners of the sockets hear.

use std::time::Instant;

use bytestring::ByteString;

use super::{Action, AuthState, Key, Output, Phase, State};
use crate::engineio::{self, CloseReason, Details, Message, SET_ENGINE_3, Session, TransportKind};
use crate::manager::{ConnectionState, Lifecycle, Source};
use crate::socketio::socket::{self, Transmit};
use crate::socketio::{self, Body, DecodeError, DisconnectReason, OldServer, Parser};

impl<T> State<T> {
    pub(super) fn authenticate(&mut self, key: Key) {
        if let Some(entry) = self.sockets.get_mut(&key)
            && !matches!(entry.auth, AuthState::Asked(_))
            && entry.socket.is_waiting()
        {
            self.questions += 1;
            let question = self.questions;
            entry.auth = AuthState::Asked(question);
            self.actions.push_back(Action::Authenticate { key, question });
        }
    }

    pub(super) fn handle_message(&mut self, now: Instant, message: Message) {
        let packet = match self.decoder.decode(message) {
            Ok(Some(packet)) => packet,
            Ok(None) => return,
            Err(error) => {
                let reason = match error {
                    // As for one message that is too large, which the transport does not even take.
                    DecodeError::TooLarge { .. } => DisconnectReason::Closed(CloseReason::TransportError),
                    _ => DisconnectReason::ParseError,
                };
                let details = Details { description: error.detail(), ..Details::new(error.to_string()) };
                return self.close_session(now, reason, Some(&details), true);
            }
        };
        let Some(old_server) = &mut self.old_server else {
            self.is_outdated |= matches!(packet.body, Body::Connect(None));
            return self.handle_socket_packet(now, packet);
        };
        old_server.handle_packet(packet);
        transmit(&mut self.phase, self.settings.parser, &mut self.encoded, old_server);
        while let Some(packet) = self.old_server.as_mut().and_then(OldServer::poll_packet) {
            self.handle_socket_packet(now, packet);
        }
    }

    pub(super) fn handle_socket_packet(&mut self, now: Instant, packet: socketio::Packet) {
        let Some(key) = self.by_namespace.get(&packet.namespace).copied() else {
            return self.handle_orphan(packet);
        };
        let Some(entry) = self.sockets.get_mut(&key) else { return };
        let body = match packet.body {
            // Nearly all that ever comes, and it changes nothing but a number or two.
            Body::Event { id, name, args } if entry.socket.is_connected() => {
                let ack = entry.socket.receive(id, args.view());
                return self.outputs.push_back((key, Output::Event { name, args, ack }));
            }
            Body::Ack { id: Some(id), args } if entry.socket.is_connected() => {
                match entry.socket.take_answered(id) {
                    Some(ticket) => {
                        return self.outputs.push_back((key, Output::Answer { ticket, result: Ok(args) }));
                    }
                    None => Body::Ack { id: Some(id), args },
                }
            }
            body => body,
        };
        let mut ends = matches!(body, Body::Disconnect | Body::Connect(_) | Body::ConnectError(_));
        let (was_active, was_connected) = (entry.socket.is_active(), entry.socket.is_connected());
        let result = entry.socket.handle_packet(now, body);
        let failed = entry.socket.take_setup_failed();
        let sent_away = was_active && !entry.socket.is_active();
        ends |= failed;
        let returns = if was_connected && !failed { entry.returns.kicked } else { entry.returns.refused };
        if sent_away && returns {
            self.come_back(now, key);
        }
        self.pump(now, key);
        if let Err(details) = result {
            self.close_session(now, DisconnectReason::ParseError, Some(&details), true);
        } else if ends {
            self.stop_when_idle(now);
        }
    }

    /// What belongs to no socket is ignored, but a namespace joined for one that is gone has to be left: a later
    /// CONNECT would otherwise be the second one and end the session.
    pub(super) fn handle_orphan(&mut self, packet: socketio::Packet) {
        let answers = matches!(packet.body, Body::Connect(_) | Body::ConnectError(_) | Body::Disconnect);
        if answers
            && self.orphans.remove(&packet.namespace).is_some()
            && matches!(packet.body, Body::Connect(_))
        {
            let leave = socketio::Packet { body: Body::Disconnect, ..packet };
            self.send(leave);
        } else {
            tracing::debug!("packet for a namespace without a socket ignored");
        }
    }

    /// Takes what the socket wants sent and said.
    pub(super) fn pump(&mut self, now: Instant, key: Key) {
        let failed = self.sockets.get_mut(&key).is_some_and(|entry| entry.socket.take_setup_failed());
        if failed && self.sockets.get(&key).is_some_and(|entry| entry.returns.refused) {
            self.come_back(now, key);
        }
        while let Some(packet) = self.pump_messages(key) {
            let answer = self.send(packet);
            if let Some(answer) = answer
                && let Some(entry) = self.sockets.get_mut(&key)
                && let Err(details) = entry.socket.handle_packet(now, answer)
            {
                tracing::debug!(details.message, "answer refused");
            }
        }
        while let Some(event) = self.sockets.get_mut(&key).and_then(|entry| entry.socket.poll_event()) {
            self.socket_event(key, event);
        }
        if failed {
            self.stop_when_idle(now);
        }
    }

    /// Sends the messages that a socket has, up to a packet that takes more than that.
    fn pump_messages(&mut self, key: Key) -> Option<socketio::Packet> {
        let socket = &mut self.sockets.get_mut(&key)?.socket;
        while let Some(transmit) = socket.poll_transmit() {
            match (transmit, &mut self.phase) {
                (Transmit::Packet(packet), _) => return Some(packet),
                (Transmit::Message(message), Phase::Open { session, .. }) => session.send(message),
                (Transmit::Message(_), _) => {}
            }
        }
        None
    }

    /// A socket that was sent away connects again by itself, after the longest delay or more.
    pub(super) fn come_back(&mut self, now: Instant, key: Key) {
        let delay = self.settings.backoff.patient(self.random.f64());
        if let Some(entry) = self.sockets.get_mut(&key) {
            entry.comeback = Some(now + delay);
            entry.reconnecting = true;
        }
    }

    /// The server's answer, where an old one has given it before.
    pub(super) fn send(&mut self, packet: socketio::Packet) -> Option<Body> {
        let Some(old_server) = &mut self.old_server else {
            send(&mut self.phase, self.settings.parser, &mut self.encoded, &packet);
            return None;
        };
        let answer = old_server.send(packet);
        transmit(&mut self.phase, self.settings.parser, &mut self.encoded, old_server);
        answer
    }

    pub(super) fn socket_event(&mut self, key: Key, event: socket::Event<T>) {
        let output = match event {
            socket::Event::Event { name, args, ack } => Output::Event { name, args, ack },
            socket::Event::Answer { ticket, result } => Output::Answer { ticket, result },
            socket::Event::Outgoing { name, args, sender } => Output::Outgoing { name, args, sender },
            socket::Event::Lost { name, loss } => Output::Lost { name, loss },
            socket::Event::Connect { id, recovered } => {
                if let Some(entry) = self.sockets.get_mut(&key) {
                    entry.reconnecting = false;
                    entry.recovered = recovered;
                }
                let transport = self.session().map_or(TransportKind::WebSocket, Session::transport);
                return self.lifecycle(key, Lifecycle::Connect { id, recovered, transport });
            }
            socket::Event::ReadArgs(path) => {
                self.questions += 1;
                let question = self.questions;
                if let Some(entry) = self.sockets.get_mut(&key) {
                    entry.reading = Some(question);
                }
                return self.actions.push_back(Action::ReadArgs { key, question, path });
            }
            socket::Event::Ready => return self.lifecycle(key, Lifecycle::Ready),
            socket::Event::SetupFailed { step, message, answer } => {
                return self.lifecycle(key, Lifecycle::SetupFailed { step, message, answer });
            }
            socket::Event::Refused { message, data } => {
                let outdated = self.is_outdated || message == socket::OLD_SERVER;
                let details = Details {
                    phase: Some(engineio::Phase::Namespace),
                    hint: outdated.then_some(SET_ENGINE_3.into()),
                    ..Details::new(message)
                };
                return self.connect_error(key, Source::Server, details, data);
            }
            socket::Event::JoinFailed(details) => {
                return self.connect_error(key, Source::Transport, details, None);
            }
            socket::Event::Disconnect { reason, details } => {
                return self.lifecycle(key, Lifecycle::Disconnect { reason, details });
            }
        };
        self.outputs.push_back((key, output));
    }

    pub(super) fn connect_error(
        &mut self,
        key: Key,
        source: Source,
        details: Details,
        data: Option<ByteString>,
    ) {
        self.lifecycle(key, Lifecycle::ConnectError { details, data, source });
    }

    pub(super) fn broadcast(&mut self, event: &Lifecycle) {
        for key in self.active_keys() {
            self.lifecycle(key, event.clone());
        }
    }

    pub(super) fn lifecycle(&mut self, key: Key, event: Lifecycle) {
        let mut status = self.status(key);
        // Sockets are deactivated only after the word of the failure that did it.
        let lost = matches!(
            event,
            Lifecycle::ConnectError { source: Source::Transport, .. } | Lifecycle::Disconnect { .. }
        );
        if lost && !self.settings.reconnection && matches!(self.phase, Phase::Stopped) {
            status.active = false;
            status.state = ConnectionState::Disconnected;
        }
        self.outputs.push_back((key, Output::Lifecycle { event, status }));
    }
}

/// Sends what is to go to an old server.
fn transmit(phase: &mut Phase, parser: Parser, encoded: &mut Vec<Message>, old_server: &mut OldServer) {
    while let Some(packet) = old_server.poll_transmit() {
        send(phase, parser, encoded, &packet);
    }
}

fn send(phase: &mut Phase, parser: Parser, encoded: &mut Vec<Message>, packet: &socketio::Packet) {
    if let Phase::Open { session, .. } = phase {
        packet.encode(parser, encoded);
        for message in encoded.drain(..) {
            session.send(message);
        }
    }
}
