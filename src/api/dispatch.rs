//! Requests in, answers out: the one place where messages and the hub meet.
//!
//! A consumer's requests take effect in the order in which they came. Emits follow each other without waiting;
//! everything else waits until what came before has taken effect.

mod controlling;
mod emitting;
mod method;
mod permission;
mod subscribing;
mod telling;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::value::RawValue;
use tokio_util::task::TaskTracker;
use tracing::warn;

use self::controlling::{read_auth, set_auth};
use self::emitting::{Route, read_args};
pub(super) use self::method::Method;
use super::lines::Line;
use super::message::{self, Error, ErrorKind, Malformed, Request};
use super::reload::Reloader;
use super::reply::Reply;
use super::results::{Empty, ListResult};
use crate::hub::notice::Time;
use crate::hub::{self, Consumer, Hub};
use crate::manager::{self, Effects, Manager};

/// What all consumers share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) hub: Arc<Hub>,
    pub(super) settings: Mutex<Arc<super::Settings>>,
    /// Why the configuration could not be loaded the last time.
    pub(super) config_error: Mutex<Option<String>>,
    pub(super) reloader: Reloader,
    pub(super) started: Instant,
    pub(super) started_at: Time,
    pub(super) tasks: TaskTracker,
}

impl Context {
    /// Those of this moment.
    pub(super) fn settings(&self) -> Arc<super::Settings> {
        Arc::clone(&lock(&self.settings))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One consumer's requests.
pub(super) struct Dispatcher {
    context: Arc<Context>,
    consumer: Arc<Consumer>,
    max_line: usize,
    effects: Effects,
    /// Where emits are on their way.
    emitting: Option<Arc<Manager>>,
    /// Where the last emit went.
    route: Option<Route>,
}

impl Dispatcher {
    /// `max_line` is what this consumer's lines may have.
    pub(super) fn new(context: Arc<Context>, consumer: Arc<Consumer>, max_line: usize) -> Self {
        Self { context, consumer, max_line, effects: Effects::default(), emitting: None, route: None }
    }

    /// Carries one line out, and returns when the next may be looked at. The answer may come later. What is rare has a box, so
    /// that what is frequent takes little.
    pub(super) async fn handle(&mut self, line: Line<'_>) {
        let text = match line {
            Line::Text(text) if self.emit_at_once(text).is_some() => return,
            Line::Text(text) => text,
            Line::TooLarge => {
                let max = self.max_line;
                let message =
                    format!("a line may have {max} bytes at the most (api.max_line); it was not read");
                return self.refuse_line(None, &Error::new(ErrorKind::TooLarge, message));
            }
        };
        let request = match Request::parse(text) {
            Ok(request) => request,
            Err(Malformed { is_notification: true, error, .. }) => return self.complain(&error),
            Err(malformed) => return self.refuse_line(malformed.id, &malformed.error),
        };
        let reply = Reply::new(self.consumer.inbox(), request.id.map(RawValue::get));
        if let Err((reply, error)) = self.call(&request, reply).await {
            reply.error(&error);
        }
    }

    /// Somebody should know of a program that does not speak the protocol. What it sent is not quoted.
    fn complain(&self, error: &Error) {
        let identity = self.consumer.identity();
        let complaint = "a line was no request";
        if self.context.hub.takes_complaint(Some(identity.uid), complaint) {
            warn!(
                consumer = self.consumer.name(),
                uid = identity.uid,
                pid = identity.pid,
                kind = error.kind.code().1,
                "{complaint}"
            );
        }
    }

    fn refuse_line(&self, id: Option<&RawValue>, error: &Error) {
        self.complain(error);
        Reply::new(self.consumer.inbox(), Some(id.map_or("null", RawValue::get))).error(error);
    }

    async fn call(&mut self, request: &Request<'_>, reply: Reply) -> Result<(), (Reply, Error)> {
        macro_rules! check {
            ($result:expr) => {
                match $result {
                    Ok(value) => value,
                    Err(error) => return Err((reply, Error::from(error))),
                }
            };
        }
        // Asked before anything else: what is withdrawn from here on makes a route void.
        let withdrawals = self.context.hub.withdrawals();
        let method = check!(Method::of(&request.method).ok_or_else(|| {
            Error::new(ErrorKind::UnknownMethod, format!("there is no method {:?}", request.method))
        }));
        check!(self.permit(method, &request.method));
        if self.context.hub.is_ending() {
            check!(Err(hub::Error::ShuttingDown));
        }
        if method.only_answers() && self.consumer.inbox().is_deaf() {
            return Ok(());
        }
        self.take_turn(method).await;
        match method {
            Method::Hello => {
                let greeting = check!(self.hello(request));
                reply.ok(&greeting);
            }
            Method::List => {
                check!(request.params::<message::Nothing>());
                reply.ok(&ListResult { connections: self.context.hub.snapshots(&self.rights()) });
            }
            Method::Status => {
                let status = check!(self.status(request));
                reply.ok(&status);
            }
            Method::Subscribe => {
                let params = check!(request.params::<message::Subscribe>());
                return self.subscribe(params, reply);
            }
            Method::Unsubscribe => {
                let number = check!(request.params::<message::Unsubscribe>()).subscription;
                if !self.consumer.unsubscribe(number) {
                    let message = format!("there is no subscription {number}");
                    check!(Err(Error::new(ErrorKind::UnknownSubscription, message)));
                }
                reply.ok(&Empty {});
            }
            Method::Emit => {
                let params = check!(request.params::<message::Emit<'_>>());
                let (connection, emit) = check!(self.prepare_emit(&params));
                self.emit(connection, withdrawals, emit, reply).await;
            }
            Method::Ack => {
                let params = check!(request.params::<message::Ack<'_>>());
                let connection = check!(self.connection(&params.connection));
                let args =
                    check!(read_args(params.args, params.binary, connection.settings.socket.max_attachments));
                self.ack(connection, params.ack, args, reply).await;
            }
            Method::Connect => {
                let params = check!(request.params::<message::Connect<'_>>());
                let connection = check!(self.connection(&params.connection));
                if let Some(auth) = params.auth {
                    let auth = check!(read_auth(&connection, auth));
                    set_auth(&connection, auth).await;
                }
                self.connect(&connection, params.wait, reply).await;
            }
            Method::Disconnect => {
                let params = check!(request.params::<message::Named>());
                let connection = check!(self.connection(&params.connection));
                let (done, disconnected) = manager::done();
                connection.socket.disconnect(done);
                disconnected.await;
                self.consumer.hear_first(&params.connection);
                reply.ok(&connection.channel.snapshot());
            }
            Method::SetAuth => {
                let params = check!(request.params::<message::SetAuth<'_>>());
                let connection = check!(self.connection(&params.connection));
                let auth = check!(read_auth(&connection, params.auth));
                set_auth(&connection, auth).await;
                reply.ok(&Empty {});
            }
            Method::Open => {
                let result = check!(Box::pin(self.open(request)).await);
                reply.ok(&result);
            }
            Method::Close => {
                let params = check!(request.params::<message::Named>());
                check!(Box::pin(self.close(request, &params.connection)).await);
                reply.ok(&Empty {});
            }
            Method::Reload => {
                let reloaded = check!(Box::pin(self.reload(request)).await);
                reply.ok(&reloaded);
            }
        }
        Ok(())
    }

    /// Waits until what came before has taken effect, where that does not follow by itself.
    async fn take_turn(&mut self, method: Method) {
        if !matches!(method, Method::Emit | Method::Ack) {
            self.effects.settled().await;
            // Some of these take long, and others have their turn between two of them.
            tokio::task::yield_now().await;
        }
    }
}

impl From<hub::Error> for Error {
    fn from(error: hub::Error) -> Self {
        let kind = match error {
            hub::Error::UnknownConnection(_) => ErrorKind::UnknownConnection,
            hub::Error::Exists(_) => ErrorKind::ConnectionExists,
            hub::Error::Tls(_) | hub::Error::Reading | hub::Error::TooManySubscriptions => {
                ErrorKind::InvalidParams
            }
            hub::Error::TooManyOpened => ErrorKind::BufferFull,
            hub::Error::ShuttingDown => ErrorKind::ShuttingDown,
        };
        Self::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests;
