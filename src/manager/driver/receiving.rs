//! What comes from the server, a turn's worth at a time.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tracing::debug;

use super::link::Heard;
use super::{BATCH, Client, Driver, Waiter};
use crate::engineio::{Message, Packet};
use crate::manager::Room;
use crate::transport::Received;

/// An event that is passed on as it lies costs that much less than another packet, until its bytes weigh more.
pub(super) const PLAIN: usize = 4;
const PLAIN_BYTES: usize = 256;

impl Driver {
    /// Takes what has come, for one turn.
    pub(super) async fn receive(&mut self, first: Heard) {
        let now = self.clock.now();
        let (mut left, mut heard) = (BATCH * PLAIN, first);
        loop {
            if let Heard::Texts = heard {
                if !self.pass_texts_on(now, &mut left) {
                    let whole = poll_fn(|cx| Poll::Ready(self.link.poll_whole(cx))).await;
                    if let Poll::Ready(whole) = whole {
                        left = left.saturating_sub(cost(&whole));
                        self.heard(now, whole);
                    }
                }
            } else {
                left = left.saturating_sub(cost(&heard));
                self.heard(now, heard);
            }
            // More only when the state has taken this one in whole: it may want another transport now.
            self.deliver(now);
            self.act();
            self.is_pressed = left == 0;
            if !self.is_reading() || self.is_pressed {
                return;
            }
            let Poll::Ready(next) = poll_fn(|cx| Poll::Ready(self.link.poll(cx))).await else { return };
            heard = next;
        }
    }

    /// Passes on what comes next, events and answers, and needs nothing else to be done; false where there was none.
    fn pass_texts_on(&mut self, now: Instant, left: &mut usize) -> bool {
        let mut any = false;
        while *left > 0 && (self.pass_events_on(now, left) || self.pass_answers_on(left)) {
            any = true;
        }
        any
    }

    /// The answers that come next and are for one socket. For one turn they need no room; and an observer may be asked where
    /// it stands before each of them.
    fn pass_answers_on(&mut self, left: &mut usize) -> bool {
        let Self { link, state, answered, suspended, .. } = self;
        let Some(transport) = link.transport().filter(|_| !*suspended) else { return false };
        let mut key = None;
        transport.peek_message(&mut |text| key = state.addressee(text));
        let Some(mut shortcut) = key.and_then(|key| state.shortcut(key)) else { return false };
        let mut any = false;
        transport.take_messages(&mut |text| {
            if *left == 0 {
                return false;
            }
            let Some((waiter, answer)) = shortcut.answer(text) else { return false };
            if let Waiter::Emit(ticket) = waiter {
                answered.extend(ticket.answered(Ok(answer.args())));
            }
            *left = left.saturating_sub(1 + text.len() / PLAIN_BYTES);
            any = true;
            true
        });
        any
    }

    /// The events that come next and are for one socket.
    fn pass_events_on(&mut self, now: Instant, left: &mut usize) -> bool {
        let Self { link, state, clients, suspended, .. } = self;
        let Some(transport) = link.transport().filter(|_| !*suspended) else { return false };
        let mut key = None;
        transport.peek_message(&mut |text| key = state.addressee(text));
        let Some(key) = key else { return false };
        let (Some(client), Some(mut shortcut)) = (clients.get_mut(&key), state.shortcut(key)) else {
            return false;
        };
        if !client.finds_room(now) {
            return false;
        }
        let mut any = false;
        let observer = Arc::clone(&client.observer);
        observer.events(&mut |pass_on| {
            transport.take_messages(&mut |text| {
                if *left == 0 || !client.has_room {
                    return false;
                }
                let is_event = shortcut.receive(text, |event, ack| {
                    client.passed_on(ack, pass_on(event.name, event.args(), ack));
                });
                *left = left.saturating_sub(usize::from(is_event) * (1 + text.len() / PLAIN_BYTES));
                any |= is_event;
                is_event
            });
        });
        any
    }

    fn heard(&mut self, now: Instant, heard: Heard) {
        match heard {
            Heard::Opened | Heard::Texts => {}
            Heard::Received(Received::Packet(packet)) => self.state.handle_packet(now, packet),
            Heard::Received(Received::Paused) => self.state.handle_paused(now),
            Heard::Lost(error) => {
                let details = self.discreet(error.details());
                debug!(error = details.message, description = details.description, "transport lost");
                self.state.handle_lost(now, error.is_closed(), details);
            }
        }
    }

    pub(super) fn probe_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Opened => self.state.handle_probe_opened(),
            Heard::Received(Received::Packet(packet)) => {
                self.state.handle_probe_packet(self.clock.now(), &packet);
            }
            Heard::Texts | Heard::Received(Received::Paused) => {}
            Heard::Lost(error) => {
                let message = self.told().mask(&error.to_string()).into_owned();
                self.state.handle_probe_failed(self.clock.now(), &message);
            }
        }
    }
}

/// What it takes of a turn.
pub(super) fn cost(heard: &Heard) -> usize {
    let bytes = match heard {
        Heard::Received(Received::Packet(Packet::Message(Message::Text(text)))) => text.len(),
        Heard::Received(Received::Packet(Packet::Message(Message::Binary(bytes)))) => bytes.len(),
        _ => 0,
    };
    PLAIN + bytes / PLAIN_BYTES
}

impl Client {
    fn finds_room(&mut self, now: Instant) -> bool {
        self.has_room = self.has_room || self.observer.room(now) == Room::Free;
        self.has_room
    }
}
