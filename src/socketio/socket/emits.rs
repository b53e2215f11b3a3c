//! Emits and answers: sent, waiting, tried again, or refused.

use std::collections::HashSet;
use std::time::Instant;

use super::{
    AnswerError, Emit, EmitError, Event, Loss, MAX_PENDING, Outgoing, Sent, Setup, Socket, Transmit,
};
use crate::engineio::Message;
use crate::socketio::{AckError, Args, Body, Limit, Name, TooLarge, packet, retry};

impl<T> Socket<T> {
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
        let mut messages = std::mem::take(&mut self.encoded);
        self.encode_event(&outgoing, &mut messages);
        let checked = self.check(&messages);
        if let Err(too_large) = checked {
            return (Err(too_large.into()), Some(ticket));
        }
        let mut rest = Some(ticket);
        if let Some(timeout) = emit.ack {
            let timeout = timeout.or(self.settings.ack_timeout);
            let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
            outgoing.id = rest.take().map(|ticket| self.pending.insert(ticket, deadline));
        }
        if connected {
            self.hand_over(&outgoing, &mut messages);
            self.encoded = messages;
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

    /// From now on emits go out; first those that have waited.
    pub(super) fn flow(&mut self, now: Instant) {
        self.setup = Setup::Done;
        self.send_buffer_bytes = 0;
        for outgoing in std::mem::take(&mut self.send_buffer) {
            let mut messages = Vec::new();
            self.encode_event(&outgoing, &mut messages);
            match self.limit.check(&messages) {
                Ok(()) => self.hand_over(&outgoing, &mut messages),
                Err(too_large) => {
                    let ticket = outgoing.id.and_then(|id| self.pending.remove(id));
                    self.lose(outgoing.name, ticket, too_large);
                }
            }
        }
        self.try_next(now);
    }

    /// [`Socket::emit`] through the retry queue. One that goes out at once needs no room.
    pub(super) fn emit_in_turn(
        &mut self,
        now: Instant,
        emit: Emit,
        ticket: T,
    ) -> (Result<Sent, EmitError>, Option<T>) {
        let goes_out = self.is_ready() && self.retry.len() == 0;
        let id = Some(self.pending.next_id());
        let mut outgoing = Outgoing { name: emit.name, args: emit.args, id, sender: emit.sender };
        if !goes_out && self.retry.bytes() + outgoing.size() > self.settings.send_buffer {
            return (Err(EmitError::BufferFull(self.settings.send_buffer)), Some(ticket));
        }
        if emit.ack.is_some() && self.pending_acks() >= MAX_PENDING {
            return (Err(EmitError::TooManyPending), Some(ticket));
        }
        let mut messages = Vec::new();
        self.encode_event(&outgoing, &mut messages);
        if let Err(too_large) = self.check(&messages) {
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
    pub(super) fn try_next(&mut self, now: Instant) {
        while self.is_ready()
            && let Some(mut entry) = self.retry.next_try()
        {
            entry.outgoing.id = Some(self.pending.take_id());
            let mut messages = Vec::new();
            self.encode_event(&entry.outgoing, &mut messages);
            match self.limit.check(&messages) {
                Ok(()) => {
                    self.hand_over(&entry.outgoing, &mut messages);
                    self.retry.sent(self.read_until(now), entry);
                }
                Err(too_large) => self.lose(entry.outgoing.name, entry.ticket, too_large),
            }
        }
    }

    /// The try that is on its way has failed; if it was the last, its emit is given up.
    pub(super) fn fail_try(&mut self, error: AckError) {
        let Some(entry) = self.retry.failed() else { return };
        self.events.push_back(match entry.ticket {
            Some(ticket) => Event::Answer { ticket, result: Err(error) },
            None => Event::Lost { name: entry.outgoing.name, loss: Loss::Unanswered { tries: entry.tries } },
        });
    }

    /// Whether the server takes these now; what waits may find another transport.
    pub(super) fn check(&self, messages: &[Message]) -> Result<(), TooLarge> {
        let base64 = self.limit.base64 && self.is_ready();
        Limit { base64, ..self.limit }.check(messages)
    }

    pub(super) fn hand_over(&mut self, outgoing: &Outgoing, messages: &mut Vec<Message>) {
        self.sent += 1;
        if self.watched {
            let (name, args) = (outgoing.name.clone(), outgoing.args.clone());
            self.events.push_back(Event::Outgoing { name, args, sender: outgoing.sender });
        }
        for message in messages.drain(..) {
            self.outbox.push_back(Transmit::Message(message));
        }
    }

    /// What was taken while the server's limit was not known, or another, is not sent; nobody is left waiting.
    pub(super) fn lose(&mut self, name: Name, ticket: Option<T>, too_large: TooLarge) {
        let result = Err(AckError::TooLarge(too_large));
        self.events.extend(ticket.map(|ticket| Event::Answer { ticket, result }));
        self.events.push_back(Event::Lost { name, loss: too_large.into() });
    }

    pub(super) fn encode_event(&self, Outgoing { name, args, id, .. }: &Outgoing, out: &mut Vec<Message>) {
        packet::encode_emit(self.settings.parser, &self.settings.namespace, *id, (name, args), out);
    }

    /// Takes these back, all at once: of both there may be many.
    pub(super) fn unbuffer(&mut self, ids: &[u64]) {
        // Mostly they are few, at the front, of many that wait.
        const FEW: usize = 8;
        if ids.len() <= FEW {
            for id in ids {
                if let Some(at) = self.send_buffer.iter().position(|emit| emit.id == Some(*id))
                    && let Some(emit) = self.send_buffer.remove(at)
                {
                    self.send_buffer_bytes -= emit.size();
                }
            }
            return;
        }
        let ids: HashSet<u64> = ids.iter().copied().collect();
        let bytes = &mut self.send_buffer_bytes;
        self.send_buffer.retain(|emit| {
            let goes = emit.id.is_some_and(|id| ids.contains(&id));
            *bytes -= if goes { emit.size() } else { 0 };
            !goes
        });
    }
}
