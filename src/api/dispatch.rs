//! Requests in, answers out: the one file where messages and the hub meet.
//!
//! A consumer's requests take effect in the order in which they came. Emits follow each other without waiting;
//! everything else waits until what came before has taken effect.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BufMut;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::asking::Asking;
use super::emit::PlainEmit;
use super::lines::Line;
use super::message::{self, API_VERSION, Error, ErrorKind, Malformed, Request};
use super::reload::{Reloaded, Reloader};
use super::reply::{self, Reply};
use super::results::{
    DaemonStatus, Empty, HelloResult, Limits, ListResult, OpenResult, StatusResult, SubscribeResult,
};
use crate::engineio::Revision;
use crate::hub::channel::ConnectFailure;
use crate::hub::notice::Time;
use crate::hub::options::{ConnectionOptions, NO_AUTH, check_name};
use crate::hub::subscription::{Filter, LifecycleFilter, Pattern};
use crate::hub::{self, Connection, Consumer, Hub, Opener, Rights, Role, Rules, Start, Subscription, inbox};
use crate::json;
use crate::manager::{self, Asker, Auth, Effects, Id, Manager, Ticket};
use crate::socketio::{AnswerError, Args, Emit, Name};

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

/// A connection on which the program may emit, unless something was withdrawn since.
struct Route {
    connection: Connection,
    asking: Arc<Asking>,
    withdrawals: u64,
    /// The last event's name.
    event: Option<Name>,
}

/// A method, and what it takes to call it.
#[derive(Clone, Copy)]
pub(super) enum Method {
    Hello,
    List,
    Status,
    Subscribe,
    Unsubscribe,
    Emit,
    Ack,
    Connect,
    Disconnect,
    SetAuth,
    Open,
    Close,
    Reload,
}

impl Method {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "hello" => Self::Hello,
            "list" => Self::List,
            "status" => Self::Status,
            "subscribe" => Self::Subscribe,
            "unsubscribe" => Self::Unsubscribe,
            "emit" => Self::Emit,
            "ack" => Self::Ack,
            "connect" => Self::Connect,
            "disconnect" => Self::Disconnect,
            "set_auth" => Self::SetAuth,
            "open" => Self::Open,
            "close" => Self::Close,
            "reload" => Self::Reload,
            _ => return None,
        })
    }

    /// Whether it does nothing that anybody would notice without the answer.
    fn only_answers(self) -> bool {
        matches!(self, Self::Hello | Self::List | Self::Status | Self::Subscribe | Self::Unsubscribe)
    }

    pub(super) fn role(self) -> Role {
        match self {
            Self::Hello | Self::List | Self::Status | Self::Subscribe | Self::Unsubscribe => Role::Read,
            Self::Emit | Self::Ack => Role::Write,
            Self::Connect | Self::Disconnect | Self::SetAuth | Self::Open | Self::Close | Self::Reload => {
                Role::Control
            }
        }
    }
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
                let params = check!(request.params::<message::Hello>());
                self.consumer.introduce(params.client, params.lag);
                reply.ok(&self.greeting());
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

    fn permit(&self, method: Method, name: &str) -> Result<(), Error> {
        let (has, needs) = (self.rights().role, method.role());
        if has >= needs {
            return Ok(());
        }
        let identity = self.consumer.identity();
        let complaint = "refused: above the consumer's role";
        if self.context.hub.takes_complaint(Some(identity.uid), complaint) {
            warn!(
                consumer = self.consumer.name(),
                uid = identity.uid,
                pid = identity.pid,
                method = name,
                "{complaint}"
            );
        }
        let (has, needs) = (has.name(), needs.name());
        let message = format!("the method {name} needs the role {needs}; this consumer has {has}");
        Err(Error::new(ErrorKind::Forbidden, message))
    }

    /// Whether this consumer may give a connection this name. Where it may not, it does not learn whether there is one.
    fn permit_name(&self, name: &str) -> Result<(), Error> {
        if self.rights().reach(name) {
            return Ok(());
        }
        let identity = self.consumer.identity();
        let complaint = "refused: a name that the consumer may not use";
        if self.context.hub.takes_complaint(Some(identity.uid), complaint) {
            warn!(
                consumer = self.consumer.name(),
                uid = identity.uid,
                pid = identity.pid,
                name,
                "{complaint}"
            );
        }
        let message = format!("the daemon's access rules do not give this consumer the name {name:?}");
        Err(Error::new(ErrorKind::Forbidden, message))
    }

    /// Whether this consumer may use these options. With some of them the daemon would do for it what its own user may not.
    fn permit_options(&self, rules: &Rules, options: &ConnectionOptions) -> Result<(), Error> {
        let identity = self.consumer.identity();
        let Some((option, does)) = options.uses_system().filter(|_| !rules.is_trusted(identity.uid)) else {
            return Ok(());
        };
        let complaint = "refused: an option that the consumer may not use";
        if self.context.hub.takes_complaint(Some(identity.uid), complaint) {
            warn!(
                consumer = self.consumer.name(),
                uid = identity.uid,
                pid = identity.pid,
                option,
                "{complaint}"
            );
        }
        let message = format!(
            "{option} {does} with the daemon's rights; in open only root and the daemon's own user may use it, \
             others have it put into the configuration"
        );
        Err(Error::new(ErrorKind::Forbidden, message))
    }

    fn rights(&self) -> Rights {
        self.consumer.rights()
    }

    fn connection(&self, name: &str) -> Result<Connection, Error> {
        Ok(self.context.hub.connection(name, &self.rights())?)
    }

    fn greeting(&self) -> HelloResult<'_> {
        HelloResult {
            server: "siod",
            version: env!("CARGO_PKG_VERSION"),
            api: API_VERSION,
            stream: self.context.hub.stream(),
            pid: std::process::id(),
            consumer: self.consumer.name(),
            role: self.rights().role,
            limits: Limits {
                max_line: self.max_line,
                max_depth: json::MAX_DEPTH,
                max_subscriptions: hub::consumer::MAX_SUBSCRIPTIONS,
                max_unread_answers: inbox::MAX_ANSWERS,
                max_unread_answer_bytes: inbox::MAX_ANSWER_BYTES,
            },
        }
    }

    fn status(&self, request: &Request<'_>) -> Result<StatusResult<'_>, Error> {
        let hub = &self.context.hub;
        let mut connections = hub.snapshots(&self.rights());
        let connection_count = connections.len();
        if let Some(name) = request.params::<message::Status>()?.connection {
            connections = vec![self.connection(&name)?.channel.snapshot()];
        }
        let consumers = hub.consumers();
        let controls = self.rights().role == Role::Control;
        let daemon = DaemonStatus {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            stream: hub.stream(),
            started: self.context.started_at,
            uptime_ms: u64::try_from(self.context.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            consumers: consumers.len(),
            connections: connection_count,
            rss_bytes: rss_bytes(),
            // It can name connections and files.
            config_error: (controls && self.rights().reach_all())
                .then(|| lock(&self.context.config_error).clone())
                .flatten(),
        };
        let consumers =
            controls.then(|| consumers.iter().map(|consumer| consumer.report()).collect::<Vec<_>>());
        Ok(StatusResult { daemon, connections, consumers })
    }

    fn subscribe(&self, params: message::Subscribe, reply: Reply) -> Result<(), (Reply, Error)> {
        let hub = &self.context.hub;
        let (subscription, start, known) = match self.prepare_subscribe(params) {
            Ok(prepared) => prepared,
            Err(error) => return Err((reply, error)),
        };
        // Where there is an id, the answer is put in line together with what it starts.
        let mut reply = Some(reply);
        let result = hub.subscribe(&self.consumer, subscription, start, |subscribed, out| {
            if let Some(id) = reply.take().map(Reply::into_id).as_ref().and_then(Id::get) {
                reply::begin(out, id);
                out.put_slice(br#","result":"#);
                let missed = known.then_some(subscribed.missed);
                reply::put_json(
                    out,
                    &SubscribeResult {
                        subscription: subscribed.subscription,
                        stream: hub.stream(),
                        connections: &subscribed.connections,
                        replayed: subscribed.replayed,
                        missed,
                    },
                );
                out.put_slice(b"}\n");
            }
        });
        match (result, reply) {
            (Err(error), Some(reply)) => Err((reply, error.into())),
            (Ok(()) | Err(_), _) => Ok(()),
        }
    }

    /// What to listen to, from where on, and whether the place it names is one of this run.
    fn prepare_subscribe(&self, params: message::Subscribe) -> Result<(Subscription, Start, bool), Error> {
        let connections = Pattern::new(params.connection.unwrap_or_else(|| "*".into()));
        let lifecycle = match params.lifecycle {
            None | Some(message::Lifecycle::All(true)) => LifecycleFilter::All,
            Some(message::Lifecycle::All(false)) => LifecycleFilter::None,
            Some(message::Lifecycle::Names(names)) => {
                LifecycleFilter::Names(names.into_iter().map(lifecycle_name).collect::<Result<_, _>>()?)
            }
        };
        let filter = Filter {
            events: params.events.map(|patterns| patterns.into_iter().map(Pattern::new).collect()),
            lifecycle,
            outgoing: params.outgoing,
        };
        let (start, known) = match (params.after, params.last) {
            (None, None) => (Start::Live, true),
            (None, Some(n)) => (Start::Last(n), true),
            (Some(_), _) if connections.as_plain().is_none() => {
                let message =
                    "params of subscribe: after needs connection to be one plain name, not a pattern";
                return Err(Error::new(ErrorKind::InvalidParams, message));
            }
            (Some(after), last) if *after.stream == **self.context.hub.stream() => {
                (Start::After(after.seq, last), true)
            }
            (Some(_), last) => (Start::After(0, last), false),
        };
        let sticky = params.sticky;
        Ok((Subscription { connections, filter: Arc::new(filter), sticky }, start, known))
    }

    fn prepare_emit(&self, params: &message::Emit<'_>) -> Result<(Connection, Emit), Error> {
        let connection = self.connection(&params.connection)?;
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
    fn emit_at_once(&mut self, line: &[u8]) -> Option<()> {
        let route = self.route.as_mut()?;
        let plain = PlainEmit::read(line)?;
        let Route { connection, asking, withdrawals, event } = route;
        let holds = connection.channel.name() == plain.connection
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

    async fn emit(&mut self, connection: Connection, withdrawals: u64, emit: Emit, reply: Reply) {
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

    async fn ack(&mut self, connection: Connection, number: u64, args: Args, reply: Reply) {
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

    async fn connect(&self, connection: &Connection, wait: Option<u64>, reply: Reply) {
        let channel = Arc::clone(&connection.channel);
        let (done, started) = oneshot::channel();
        connection.socket.connect(Box::new(move |()| {
            // Registered between two events, so that an earlier failure is not taken for this one's.
            let _ = done.send(channel.wait_connected());
        }));
        let Ok(outcome) = started.await else { return };
        let channel = Arc::clone(&connection.channel);
        let Some(wait) = wait else { return reply.ok(&channel.snapshot()) };
        self.context.tasks.spawn(async move {
            match tokio::time::timeout(Duration::from_millis(wait), outcome).await {
                Ok(Ok(Ok(()))) => reply.ok(&channel.snapshot()),
                Ok(Ok(Err(failure))) => reply.error(&connect_failed(channel.name(), &failure)),
                Ok(Err(_)) => {}
                Err(_) => {
                    let message = format!("not connected within {wait} ms; the attempts go on");
                    reply.error(&connect_failed(channel.name(), &ConnectFailure { message, data: None }));
                }
            }
        });
    }

    async fn open(&self, request: &Request<'_>) -> Result<OpenResult, Error> {
        let invalid =
            |message: String| Error::new(ErrorKind::InvalidParams, format!("params of open: {message}"));
        let mut members = BTreeMap::new();
        for (name, value) in request.params::<message::Members<'_>>()?.0 {
            if members.contains_key(&name) {
                return Err(invalid(format!("duplicate field `{name}`")));
            }
            members.insert(name, value);
        }
        let name = members.remove("name").ok_or_else(|| invalid("missing field `name`".into()))?;
        let name: String = serde_json::from_str(name.get())
            .map_err(|_| invalid("name must be a string of Unicode".into()))?;
        check_name(&name).map_err(|message| invalid(format!("name: {message}")))?;
        let persist = match members.remove("persist").map(RawValue::get) {
            None | Some("false" | "null") => false,
            Some("true") => true,
            Some(_) => return Err(invalid("persist must be true or false".into())),
        };
        let members = members.iter().map(|(name, value)| (name.as_str(), *value));
        let options = ConnectionOptions::from_members(members).map_err(|error| invalid(error.to_string()))?;
        let turn = self.turn(Method::Open, &request.method).await?;
        self.permit_name(&name)?;
        let given = self.context.settings();
        self.permit_options(&given.rules, &options)?;
        let settings = options.resolve(&given.defaults).map_err(|error| invalid(error.to_string()))?;
        let opener = Opener::Consumer { id: self.consumer.id(), persist };
        let (created, connection) = self.context.hub.open(turn, &name, settings, opener).await?;
        Ok(OpenResult { created, connection: connection.channel.snapshot() })
    }

    /// The turn to add or remove connections. A reload may have had the one before, and with it came other rules.
    async fn turn(&self, method: Method, name: &str) -> Result<hub::Turn, Error> {
        let turn = self.context.hub.turn().await;
        self.permit(method, name)?;
        Ok(turn)
    }

    async fn close(&self, request: &Request<'_>, name: &str) -> Result<(), Error> {
        let turn = self.turn(Method::Close, &request.method).await?;
        self.connection(name)?;
        self.context.hub.close(turn, name).await?;
        self.consumer.hear_first(name);
        Ok(())
    }

    async fn reload(&self, request: &Request<'_>) -> Result<Reloaded, Error> {
        request.params::<message::Nothing>()?;
        let outcome = self.context.reloader.reload().await.ok_or(hub::Error::ShuttingDown)?;
        let mut reloaded = outcome.map_err(|problems| {
            let nothing = "the configuration does not load, and nothing was changed";
            let message = if self.rights().reach_all() {
                format!("{nothing}:\n{problems}")
            } else {
                format!("{nothing}; the daemon's log says why")
            };
            Error::new(ErrorKind::InvalidConfig, message)
        })?;
        reloaded.changes.keep_reached(&self.rights());
        for name in reloaded.changes.touched() {
            self.consumer.hear_first(name);
        }
        Ok(reloaded)
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

async fn set_auth(connection: &Connection, auth: Auth) {
    let (done, set) = manager::done();
    connection.socket.set_auth(auth, done);
    set.await;
}

fn read_auth(connection: &Connection, auth: &RawValue) -> Result<Auth, Error> {
    match auth.get() {
        "null" => Ok(Auth::None),
        _ if connection.settings.manager.transport.revision == Revision::V3 => {
            Err(Error::new(ErrorKind::InvalidParams, NO_AUTH))
        }
        object if object.starts_with('{') => Ok(Auth::Fixed(json::minify(object).into_owned().into())),
        _ => Err(Error::new(ErrorKind::InvalidParams, "auth must be an object, or null for none")),
    }
}

fn read_args(args: Option<&RawValue>, binary: bool, max_attachments: Option<usize>) -> Result<Args, Error> {
    let array = args.map_or("[]", RawValue::get);
    if !array.starts_with('[') {
        return Err(Error::new(ErrorKind::InvalidParams, "args must be an array"));
    }
    Args::from_consumer(array, binary, max_attachments.unwrap_or(usize::MAX))
        .map_err(|error| Error::new(ErrorKind::InvalidParams, format!("args: {error}")))
}

fn lifecycle_name(name: String) -> Result<String, Error> {
    match name.as_str() {
        other if other == message::OTHER_SPELLING.0 => Ok(message::OTHER_SPELLING.1.into()),
        known if message::LIFECYCLE.contains(&known) => Ok(name),
        _ => {
            let known = message::LIFECYCLE.join(", ");
            let message = format!("lifecycle: there is no event {name:?}; there are {known}");
            Err(Error::new(ErrorKind::InvalidParams, message))
        }
    }
}

fn connect_failed(name: &str, failure: &ConnectFailure) -> Error {
    let data = failure.data.as_ref().and_then(|data| RawValue::from_string(data.to_string()).ok());
    let message = format!("{name:?} did not connect: {}", failure.message);
    Error { data, ..Error::new(ErrorKind::ConnectFailed, message) }
}

/// Memory of the process that is in use, 0 where the system does not say.
fn rss_bytes() -> u64 {
    // In this file it is in kilobytes. In statm it is in pages, and before Linux 6.4 the size of those is not to be had
    // by a process that is not dumpable.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    resident.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::hub::{Identity, Lag};

    /// A consumer with the role `control` on a hub with the connection `chat`.
    async fn attached() -> (Arc<Hub>, Arc<Consumer>, Dispatcher) {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let limits = hub::Settings { stall: Duration::from_secs(1), max_consumers: 10 };
        let hub = Arc::new(Hub::new(limits, tasks.clone(), stop));
        let options: ConnectionOptions =
            serde_json::from_str(r#"{"url":"http://127.0.0.1:1","auto_connect":false}"#).unwrap();
        let settings = options.resolve(&ConnectionOptions::default()).unwrap();
        hub.open(hub.turn().await, "chat", settings, Opener::Config).await.unwrap();
        let defaults = ConnectionOptions::default();
        let settings = super::super::Settings {
            max_line: 1000,
            lag: Lag::Skip,
            defaults,
            rules: Rules::new(Vec::new(), 900),
        };
        let context = Context {
            hub: Arc::clone(&hub),
            settings: Mutex::new(Arc::new(settings)),
            config_error: Mutex::default(),
            reloader: Reloader::new().0,
            started: Instant::now(),
            started_at: Time::now(),
            tasks,
        };
        let identity = Identity { pid: None, uid: 1000, gid: 1000 };
        let consumer = hub.attach(identity, Rights::everywhere(Role::Control), Lag::Skip).unwrap();
        let dispatcher = Dispatcher::new(Arc::new(context), Arc::clone(&consumer), 1000);
        (hub, consumer, dispatcher)
    }

    /// What a consumer gets that asks for this; after that other rights hold, and only then has it its turn.
    async fn after_losing_its_rights(request: &str, rights: Rights) -> String {
        let (hub, consumer, mut dispatcher) = attached().await;
        let turn = hub.turn().await;
        let changing = async {
            // The other half waits for the turn by now.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            hub.set_rights(&consumer, rights);
            drop(turn);
        };
        tokio::join!(biased; dispatcher.handle(Line::Text(request.as_bytes())), changing);
        assert_eq!(hub.connection_count(), 1, "{request}");
        let mut out = Vec::new();
        consumer.take(&mut out);
        String::from_utf8(out.concat()).unwrap()
    }

    #[tokio::test]
    async fn an_emit_goes_the_way_of_the_one_before_until_something_is_withdrawn() {
        const EMIT: &[u8] = br#"{"id":7,"method":"emit","params":{"connection":"chat","event":"e"}}"#;
        async fn emit(consumer: &Consumer, dispatcher: &mut Dispatcher) -> (bool, String) {
            let at_once = dispatcher.emit_at_once(EMIT).is_some();
            if !at_once {
                dispatcher.handle(Line::Text(EMIT)).await;
            }
            consumer.inbox().all_answered().await;
            let mut out = Vec::new();
            consumer.take(&mut out);
            let answer = String::from_utf8(out.concat()).unwrap();
            let word = ["buffered", "forbidden", "unknown_connection", "shutting_down"]
                .into_iter()
                .find(|word| answer.contains(word));
            (at_once, word.unwrap_or(&answer).to_owned())
        }
        let (hub, consumer, mut dispatcher) = attached().await;
        let mut expect = async |at_once, word: &str| {
            assert_eq!(emit(&consumer, &mut dispatcher).await, (at_once, word.to_owned()));
        };
        expect(false, "buffered").await;
        expect(true, "buffered").await;
        let others = Rights { role: Role::Control, connections: [Pattern::new("other*")].into() };
        for (rights, word) in [(Rights::everywhere(Role::Read), "forbidden"), (others, "unknown_connection")]
        {
            hub.set_rights(&consumer, rights);
            expect(false, word).await;
            expect(false, word).await;
            hub.set_rights(&consumer, Rights::everywhere(Role::Write));
            expect(false, "buffered").await;
            expect(true, "buffered").await;
        }
        hub.close(hub.turn().await, "chat").await.unwrap();
        expect(false, "unknown_connection").await;
        hub.settle().await;
        expect(false, "shutting_down").await;
    }

    #[tokio::test]
    async fn rights_that_are_lost_while_waiting_for_the_turn_are_lost() {
        let open = r#"{"id":1,"method":"open","params":{"name":"lobby","url":"http://127.0.0.1:1"}}"#;
        let close = r#"{"id":1,"method":"close","params":{"connection":"chat"}}"#;
        let others = |role| Rights { role, connections: [Pattern::new("other*")].into() };
        for (request, rights, kind) in [
            (open, Rights::everywhere(Role::Write), "forbidden"),
            (open, others(Role::Control), "forbidden"),
            (close, Rights::everywhere(Role::Write), "forbidden"),
            (close, others(Role::Control), "unknown_connection"),
        ] {
            let said = after_losing_its_rights(request, rights.clone()).await;
            assert!(said.contains(&format!(r#"{{"kind":"{kind}"}}"#)), "{request} {rights:?}: {said}");
        }
    }
}
