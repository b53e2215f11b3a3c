//! Emits, and answers to the server: they follow each other without waiting.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::Dispatcher;
use crate::api::asking::Asking;
use crate::api::emit::PlainEmit;
use crate::api::message::{self, Error, ErrorKind};
use crate::api::reply::Reply;
use crate::api::results::Empty;
use crate::hub::Connection;
use crate::manager::{Asker, Id, Manager, Ticket};
use crate::socketio::{AnswerError, Args, Emit, Name};

/// Bytes of an event's name, which is matched with the patterns of all who watch what is emitted.
const MAX_EVENT: usize = 4096;

/// A connection on which the program may emit, unless something was withdrawn since.
pub(super) struct Route {
    connection: Connection,
    asking: Arc<Asking>,
    withdrawals: u64,
    /// The last event's name.
    event: Option<Name>,
}

impl Dispatcher {
    pub(super) fn prepare_emit(&self, params: &message::Emit<'_>) -> Result<(Connection, Emit), Error> {
        let connection = self.connection(&params.connection)?;
        if params.event.len() > MAX_EVENT {
            let message = format!("params of emit: an event's name may have {MAX_EVENT} bytes at the most");
            return Err(Error::new(ErrorKind::InvalidParams, message));
        }
        let name = Name::new(&params.event);
        if name.is_reserved_in(connection.settings.manager.transport.revision) {
            let message = format!("{:?} is a reserved event name; nothing was sent", params.event);
            return Err(Error::new(ErrorKind::ReservedEvent, message));
        }
        let args = read_args(params.args, params.binary, connection.settings.socket.max_attachments)?;
        let ack = params.ack.then(|| params.timeout.map(Duration::from_millis));
        let emit = Emit { name, args, ack, volatile: params.volatile, sender: self.consumer.id() };
        Ok((connection, emit))
    }

    /// Carries out what is most of all that is ever asked, if nothing is to be waited for: a plain emit on the same
    /// connection as the one before. `None` where it was not carried out.
    pub(super) fn emit_at_once(&mut self, line: &[u8]) -> Option<()> {
        let route = self.route.as_mut()?;
        let plain = PlainEmit::read(line)?;
        let Route { connection, asking, withdrawals, event } = route;
        let holds = plain.event.len() <= MAX_EVENT
            && connection.channel.name() == plain.connection
            && *withdrawals == self.context.hub.withdrawals()
            && self.emitting.as_ref().is_some_and(|last| Arc::ptr_eq(last, connection.socket.manager()));
        if !holds {
            return None;
        }
        let name = match event {
            Some(name) if name.as_json() == plain.event => name.clone(),
            _ => event.insert(Name::from_plain(plain.event)).clone(),
        };
        if name.is_reserved_in(connection.settings.manager.transport.revision) {
            return None;
        }
        let args = Args::from_consumer(plain.args, false, 0).ok()?;
        let ack = plain.ack.then(|| plain.timeout.map(Duration::from_millis));
        let emit = Emit { name, args, ack, volatile: false, sender: self.consumer.id() };
        let admission = connection.socket.admit(&emit)?;
        if plain.id.is_some() {
            self.consumer.inbox().expect_answer();
        }
        self.effects.set_out();
        let ticket = Ticket::new(Arc::clone(asking) as Arc<dyn Asker>, Id::new(plain.id));
        connection.socket.emit_admitted(emit, admission, ticket);
        Some(())
    }

    pub(super) async fn emit(&mut self, connection: Connection, withdrawals: u64, emit: Emit, reply: Reply) {
        self.follow(connection.socket.manager()).await;
        let waits = emit.volatile;
        let known =
            self.route.take().filter(|route| Arc::ptr_eq(&route.connection.channel, &connection.channel));
        let asking = known.map_or_else(
            || Arc::new(Asking::new(&self.consumer, connection.channel.name(), &self.effects)),
            |route| route.asking,
        );
        self.effects.set_out();
        let ticket = Ticket::new(Arc::clone(&asking) as Arc<dyn Asker>, reply.into_id());
        connection.socket.emit(emit, ticket).await;
        self.route = Some(Route { connection, asking, withdrawals, event: None });
        if waits {
            // It passed the gate without a permit, so that it is this consumer's only one on the way.
            self.effects.settled().await;
        }
    }

    pub(super) async fn ack(&mut self, connection: Connection, number: u64, args: Args, reply: Reply) {
        self.follow(connection.socket.manager()).await;
        let effect = self.effects.begin();
        let done = Box::new(move |result: Result<(), AnswerError>| {
            match result {
                Ok(()) => reply.ok(&Empty {}),
                Err(error @ AnswerError::Unknown) => {
                    let message = format!("nobody waits for an answer to {number}: {error}");
                    reply.error(&Error::new(ErrorKind::UnknownAck, message));
                }
                Err(AnswerError::TooLarge(error)) => {
                    reply.error(&Error::new(ErrorKind::InvalidParams, error.to_string()));
                }
            }
            drop(effect);
        });
        connection.socket.answer(number, args, done).await;
    }

    /// Commands to one Manager stay in order by themselves; before those to another one, all must have taken effect.
    async fn follow(&mut self, manager: &Arc<Manager>) {
        if self.emitting.as_ref().is_none_or(|last| !Arc::ptr_eq(last, manager)) {
            self.effects.settled().await;
            self.emitting = Some(Arc::clone(manager));
        }
    }
}

pub(super) fn read_args(
    args: Option<&RawValue>,
    binary: bool,
    max_attachments: Option<usize>,
) -> Result<Args, Error> {
    let array = args.map_or("[]", RawValue::get);
    if !array.starts_with('[') {
        return Err(Error::new(ErrorKind::InvalidParams, "args must be an array"));
    }
    Args::from_consumer(array, binary, max_attachments.unwrap_or(usize::MAX))
        .map_err(|error| Error::new(ErrorKind::InvalidParams, format!("args: {error}")))
}
