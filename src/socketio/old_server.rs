//! A session with a server of Socket.IO 1 or 2, whose protocol 4 is made to look like protocol 5.
//!
//! There the server joins `/` by itself as soon as the session is open; other namespaces wait for that, and take a
//! query instead of an auth object. Its answers carry no id: that is the session's, behind the name of the namespace.
//! An ERROR refuses who has asked to join; to who has joined it is an event called `error`, as in socket.io-client 2.
//!
//! Our packets come in through [`OldServer::send`] and go out through [`OldServer::poll_transmit`]; the server's come
//! in through [`OldServer::handle_packet`] and go out through [`OldServer::poll_packet`].

use std::collections::{BTreeSet, VecDeque};

use bytestring::ByteString;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Args, Body, Name, Packet};
use crate::json;

const ROOT: &str = "/";

/// One Manager's view of such a server; [`OldServer::begin`] starts each session.
#[derive(Debug)]
pub struct OldServer {
    /// What a CONNECT to another namespace than `/` carries, encoded; often empty.
    query: String,
    sid: String,
    root: Root,
    /// The socket of `/` waits for its answer.
    root_asked: bool,
    /// Namespaces to be asked for once `/` is joined: the server would forget their query meanwhile.
    held: Vec<ByteString>,
    /// Namespaces whose CONNECT went out and was not answered.
    asked: BTreeSet<ByteString>,
    /// Namespaces whose sockets have been told that they are joined.
    joined: BTreeSet<ByteString>,
    outbox: VecDeque<Packet>,
    inbox: VecDeque<Packet>,
}

/// Where the server has us on `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    /// Its word that we are in is due, at the beginning without being asked.
    Due,
    /// We are in, whether a socket here wants that or not.
    In,
    /// Refused, kicked or left; nobody is let in again on this session.
    Out,
}

impl OldServer {
    /// `query`: the parameters for namespaces, percent-encoded and joined by `&`, without `?`.
    pub fn new(query: String) -> Self {
        Self {
            query,
            sid: String::new(),
            root: Root::Due,
            root_asked: false,
            held: Vec::new(),
            asked: BTreeSet::new(),
            joined: BTreeSet::new(),
            outbox: VecDeque::new(),
            inbox: VecDeque::new(),
        }
    }

    /// A session is open under this id; everything of an earlier one is forgotten.
    pub fn begin(&mut self, sid: &str) {
        *self = Self { sid: sid.to_owned(), ..Self::new(std::mem::take(&mut self.query)) };
    }

    /// Whether it takes a new session to join anything more: out of `/` once, the server of version 2 does not say
    /// when it lets somebody in again, and lets nobody into other namespaces before.
    pub fn is_spent(&self) -> bool {
        self.root == Root::Out
    }

    /// Takes a packet of ours. Where the server's answer is known already it comes back instead of going out.
    pub fn send(&mut self, packet: Packet) -> Option<Body> {
        let is_root = *packet.namespace == *ROOT;
        match packet.body {
            Body::Connect(_) if is_root && self.root == Root::In => return Some(self.join(packet.namespace)),
            Body::Connect(_) if is_root => self.root_asked = true,
            Body::Connect(_) if self.root == Root::In => self.ask_for(&packet.namespace),
            Body::Connect(_) => self.held.push(packet.namespace),
            Body::Disconnect => {
                self.leave(&packet.namespace);
                self.outbox.push_back(packet);
            }
            Body::Event { .. } | Body::Ack { .. } | Body::ConnectError(_) => self.outbox.push_back(packet),
        }
        None
    }

    /// A packet of the server came.
    pub fn handle_packet(&mut self, packet: Packet) {
        let Packet { namespace, body } = packet;
        match body {
            Body::Connect(_) if *namespace == *ROOT => {
                self.root = Root::In;
                for held in std::mem::take(&mut self.held) {
                    self.ask_for(&held);
                }
                if std::mem::take(&mut self.root_asked) {
                    let body = self.join(ROOT.into());
                    self.inbox.push_back(Packet { namespace, body });
                }
            }
            // By our own copy of its name, since the packet's is a slice of the message.
            Body::Connect(_) => match self.asked.take(&namespace) {
                Some(namespace) => {
                    let body = self.join(namespace.clone());
                    self.inbox.push_back(Packet { namespace, body });
                }
                None => tracing::debug!("CONNECT to a namespace that was not asked for ignored"),
            },
            Body::Disconnect => {
                self.leave(&namespace);
                self.inbox.push_back(Packet { namespace, body });
            }
            Body::ConnectError(payload) if *namespace == *ROOT => self.root_error(payload),
            Body::ConnectError(payload) => {
                self.asked.remove(&namespace);
                let body = if self.joined.contains(&namespace) { error(payload) } else { refusal(payload) };
                self.inbox.push_back(Packet { namespace, body });
            }
            Body::Event { .. } | Body::Ack { .. } => self.inbox.push_back(Packet { namespace, body }),
        }
    }

    /// The next packet for the server.
    pub fn poll_transmit(&mut self) -> Option<Packet> {
        self.outbox.pop_front()
    }

    /// The next packet of the server, put as one of protocol 5.
    pub fn poll_packet(&mut self) -> Option<Packet> {
        self.inbox.pop_front()
    }

    fn ask_for(&mut self, namespace: &ByteString) {
        self.asked.insert(namespace.clone());
        let namespace = match self.query.as_str() {
            "" => namespace.clone(),
            query => format!("{namespace}?{query}").into(),
        };
        self.outbox.push_back(Packet { namespace, body: Body::Connect(None) });
    }

    /// What a server of today would have answered.
    fn join(&mut self, namespace: ByteString) -> Body {
        let id = match &*namespace {
            ROOT => self.sid.clone(),
            other => format!("{other}#{}", self.sid),
        };
        self.joined.insert(namespace);
        let mut answer = b"{\"sid\":".to_vec();
        json::push_string(&mut answer, &id);
        answer.push(b'}');
        Body::Connect(ByteString::try_from(answer).ok())
    }

    fn leave(&mut self, namespace: &ByteString) {
        self.joined.remove(namespace);
        if **namespace == *ROOT {
            self.root = Root::Out;
        }
    }

    /// Without `/` nothing can be joined. Once it is joined, its errors are everybody's, for what that is worth.
    fn root_error(&mut self, payload: Option<ByteString>) {
        if self.root == Root::Due {
            self.root = Root::Out;
            self.root_asked = false;
            let held = std::mem::take(&mut self.held);
            for namespace in std::iter::once(ROOT.into()).chain(held) {
                self.inbox.push_back(Packet { namespace, body: refusal(payload.clone()) });
            }
        } else {
            let body = error(payload);
            let to_each =
                |namespace: &ByteString| Packet { namespace: namespace.clone(), body: body.clone() };
            self.inbox.extend(self.joined.iter().map(to_each));
        }
    }
}

/// An ERROR as a refusal of protocol 5: a text is the message, all else is data, whose `message` serves if it has one.
fn refusal(payload: Option<ByteString>) -> Body {
    #[derive(Deserialize)]
    struct Lenient<'a> {
        #[serde(borrow)]
        message: Option<&'a RawValue>,
    }
    let Some(data) = payload else { return Body::ConnectError(None) };
    let is_object = data.starts_with('{');
    if data.starts_with('"') || (is_object && is_refusal(&data)) {
        return Body::ConnectError(Some(data));
    }
    // An array would fill the members by position.
    let object = is_object.then(|| serde_json::from_str::<Lenient<'_>>(&data).ok()).flatten();
    let message = object.and_then(|object| object.message).map_or("\"\"", RawValue::get);
    Body::ConnectError(Some(format!(r#"{{"message":{message},"data":{data}}}"#).into()))
}

/// Later servers that let old clients in refuse an unknown namespace in the words of protocol 5.
fn is_refusal(object: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(rename = "message")]
        _message: String,
    }
    serde_json::from_str::<Strict>(object).is_ok()
}

/// An ERROR as an event.
fn error(payload: Option<ByteString>) -> Body {
    let args = Args { json: payload.unwrap_or_default(), attachments: Vec::new() };
    Body::Event { id: None, name: Name::new("error"), args }
}

#[cfg(test)]
mod tests;
