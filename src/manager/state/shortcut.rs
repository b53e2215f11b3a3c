//! The way of what comes most, past everything else.

use super::{Key, Phase, State};
use crate::socketio::socket::Socket;
use crate::socketio::{Decoder, PlainAnswer, PlainEvent};

/// Takes the events and answers of one socket, which its owner hears of at once.
#[derive(Debug)]
pub struct Shortcut<'a, T> {
    decoder: &'a Decoder,
    socket: &'a mut Socket<T>,
}

impl<T> Shortcut<'_, T> {
    /// Gives the event that this message is to `pass_on`, with our number for the ack it asks for; false for anything
    /// else, of which nothing has been taken.
    pub fn receive(&mut self, message: &str, pass_on: impl FnOnce(&PlainEvent<'_>, Option<u64>)) -> bool {
        // Each is looked at where it was made: to move what has just been written means to wait for the writing.
        let header = self.decoder.plain_header(message);
        let Some(header) = header.as_ref().filter(|header| *header.namespace() == **self.socket.namespace())
        else {
            return false;
        };
        let event = self.decoder.plain_event(header);
        let Ok(event) = &event else { return false };
        let ack = self.socket.receive(event.id, event.args());
        pass_on(event, ack);
        true
    }

    /// The answer that this message is, and whoever waits for it. `None` for anything else, of which nothing has been
    /// taken.
    pub fn answer<'a>(&mut self, message: &'a str) -> Option<(T, PlainAnswer<'a>)> {
        let header = self.decoder.plain_answer_header(message)?;
        if *header.namespace() != **self.socket.namespace() {
            return None;
        }
        let (id, answer) = self.decoder.plain_answer(&header)?;
        Some((self.socket.take_answered(id)?, answer))
    }
}

impl<T> State<T> {
    /// The socket that this message is for, if [`State::shortcut`] may have it. `None` for whatever
    /// [`State::handle_packet`] has to see.
    pub fn addressee(&self, message: &str) -> Option<Key> {
        let Phase::Open { session, .. } = &self.phase else { return None };
        let is_free = self.old_server.is_none() && self.outputs.is_empty();
        if !is_free || !session.lets_messages_pass() {
            return None;
        }
        let plain = |message| {
            self.decoder.plain_header(message).or_else(|| self.decoder.plain_answer_header(message))
        };
        let key = *self.by_namespace.get(plain(message)?.namespace())?;
        self.sockets.get(&key).is_some_and(|entry| entry.socket.is_connected()).then_some(key)
    }

    /// The way past everything else for the events and answers of the socket that [`State::addressee`] has found, as
    /// long as nothing else is done.
    pub fn shortcut(&mut self, key: Key) -> Option<Shortcut<'_, T>> {
        let socket = &mut self.sockets.get_mut(&key)?.socket;
        Some(Shortcut { decoder: &self.decoder, socket })
    }
}
