//! Connections that come, go, and are told whom to be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::{Dispatcher, Method};
use crate::api::message::{self, Error, ErrorKind, Request};
use crate::api::reload::Reloaded;
use crate::api::reply::Reply;
use crate::api::results::OpenResult;
use crate::engineio::Revision;
use crate::hub::channel::{ConnectFailure, MAX_WAITING, TooManyWaiting};
use crate::hub::options::{ConnectionOptions, NO_AUTH, check_name};
use crate::hub::{self, Connection, Opener};
use crate::json;
use crate::manager::{self, Auth};

impl Dispatcher {
    pub(super) async fn connect(&self, connection: &Connection, wait: Option<u64>, reply: Reply) {
        let channel = Arc::clone(&connection.channel);
        let inbox = Arc::clone(self.consumer.inbox());
        let (done, started) = oneshot::channel();
        connection.socket.connect(Box::new(move |()| {
            // Registered between two events, so that an earlier failure is not taken for this one's.
            let _ = done.send(wait.map(|wait| (wait, channel.wait_connected(&inbox))));
        }));
        let Ok(waiting) = started.await else { return };
        let channel = Arc::clone(&connection.channel);
        let (wait, outcome) = match waiting {
            None => return reply.ok(&channel.snapshot()),
            Some((wait, Ok(outcome))) => (wait, outcome),
            Some((_, Err(TooManyWaiting))) => {
                let message = format!("{MAX_WAITING} requests wait for {:?} already", channel.name());
                return reply.error(&Error::new(ErrorKind::BufferFull, message));
            }
        };
        let inbox = Arc::clone(self.consumer.inbox());
        self.context.tasks.spawn(async move {
            let outcome = tokio::select! {
                outcome = tokio::time::timeout(Duration::from_millis(wait), outcome) => outcome,
                () = inbox.gone() => return,
            };
            match outcome {
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

    pub(super) async fn open(&self, request: &Request<'_>) -> Result<OpenResult, Error> {
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

    pub(super) async fn close(&self, request: &Request<'_>, name: &str) -> Result<(), Error> {
        let turn = self.turn(Method::Close, &request.method).await?;
        self.connection(name)?;
        self.context.hub.close(turn, name).await?;
        self.consumer.hear_first(name);
        Ok(())
    }

    pub(super) async fn reload(&self, request: &Request<'_>) -> Result<Reloaded, Error> {
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

pub(super) async fn set_auth(connection: &Connection, auth: Auth) {
    let (done, set) = manager::done();
    connection.socket.set_auth(auth, done);
    set.await;
}

pub(super) fn read_auth(connection: &Connection, auth: &RawValue) -> Result<Auth, Error> {
    match auth.get() {
        "null" => Ok(Auth::None),
        _ if connection.settings.manager.transport.revision == Revision::V3 => {
            Err(Error::new(ErrorKind::InvalidParams, NO_AUTH))
        }
        object if object.starts_with('{') => Ok(Auth::Fixed(json::minify(object).into_owned().into())),
        _ => Err(Error::new(ErrorKind::InvalidParams, "auth must be an object, or null for none")),
    }
}

fn connect_failed(name: &str, failure: &ConnectFailure) -> Error {
    let data = failure.data.as_ref().and_then(|data| RawValue::from_string(data.to_string()).ok());
    let why = match &*failure.message {
        "" => "the server refused and gave no reason",
        why => why,
    };
    let message = format!("{name:?} did not connect: {why}");
    Error { data, ..Error::new(ErrorKind::ConnectFailed, message) }
}
