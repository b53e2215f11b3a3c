//! How a subscription begins.

use std::sync::Arc;

use bytes::BufMut;

use super::Dispatcher;
use crate::api::message::{self, Error, ErrorKind};
use crate::api::reply::{self, Reply};
use crate::api::results::SubscribeResult;
use crate::hub::subscription::{Filter, LifecycleFilter, MAX_PATTERN, MAX_PATTERNS, Pattern};
use crate::hub::{Start, Subscription};
use crate::manager::Id;

impl Dispatcher {
    pub(super) fn subscribe(&self, params: message::Subscribe, reply: Reply) -> Result<(), (Reply, Error)> {
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
        let connections = pattern(params.connection.unwrap_or_else(|| "*".into()), "connection")?;
        if params.events.as_ref().is_some_and(|patterns| patterns.len() > MAX_PATTERNS) {
            let message = format!("params of subscribe: events may have {MAX_PATTERNS} patterns at the most");
            return Err(Error::new(ErrorKind::InvalidParams, message));
        }
        let events = params.events.map(|patterns| patterns.into_iter().map(|text| pattern(text, "events")));
        let lifecycle = match params.lifecycle {
            None | Some(message::Lifecycle::All(true)) => LifecycleFilter::All,
            Some(message::Lifecycle::All(false)) => LifecycleFilter::None,
            Some(message::Lifecycle::Names(names)) => {
                LifecycleFilter::Names(names.into_iter().map(lifecycle_name).collect::<Result<_, _>>()?)
            }
        };
        let filter = Filter {
            events: events.map(Iterator::collect::<Result<_, _>>).transpose()?,
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
}

fn pattern(text: String, member: &str) -> Result<Pattern, Error> {
    if text.len() > MAX_PATTERN {
        let message =
            format!("params of subscribe: a pattern of {member} may have {MAX_PATTERN} bytes at the most");
        return Err(Error::new(ErrorKind::InvalidParams, message));
    }
    Ok(Pattern::new(text))
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
