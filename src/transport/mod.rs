//! Moves Engine.IO packets and knows no meaning: HTTP long-polling and WebSocket, plain or over TLS.
//!
//! A [`Connector`] belongs to one server and its settings, and opens [`Transport`]s. Handshake, heartbeat and upgrade
//! are decided above; nothing here looks into a packet. Both transports reach the server by one dialler: directly,
//! through a proxy or over a Unix socket.
//!
//! Everything runs inside the caller's polls: no task is spawned (name resolution excepted, which uses the runtime's
//! blocking threads), and dropping a [`Transport`] or a future closes its sockets. There are no timeouts but the short
//! wait at the end of [`Transport::close`].

mod certificate;
mod connect;
mod dial;
mod environment;
mod error;
mod frames;
mod hint;
mod http1;
mod input;
mod insecure;
mod polling;
mod proxy;
mod request;
mod secrets;
mod step;
#[cfg(test)]
mod tests;
mod tls;
mod upgrade;
mod websocket;

use std::fmt;
use std::future::poll_fn;
use std::path::PathBuf;
use std::task::{Context, Poll};

use tracing::{Level, enabled, trace};

pub use connect::Connector;
pub use error::{Error, Failure};
pub use polling::Polling;
pub use proxy::{Proxy, ProxyScheme, Via};
pub use request::encode_query;
pub use step::{Step, Watch};
pub use websocket::WebSocket;

use crate::engineio::{Packet, Revision, TransportKind};

/// Where the server is and how requests to it look. One per Manager; equal settings can share a connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The revision of Engine.IO to speak.
    pub revision: Revision,
    /// As the URL has it. Those of `ws://` and `http://` share nothing, like the official client's.
    pub scheme: Scheme,
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// Always there: the scheme's default is filled in.
    pub port: u16,
    /// The request path, as it goes out: `/socket.io/` by default.
    pub path: String,
    /// The user's query parameters, not yet percent-encoded. `EIO`, `transport`, `sid`, `t` and `b64` win over them.
    pub query: Vec<(String, String)>,
    /// Headers of every HTTP request and of the WebSocket handshake.
    pub headers: http::HeaderMap,
    /// Keep cookies and send them, on the WebSocket too.
    pub with_credentials: bool,
    /// WebSocket sub-protocols to offer.
    pub protocols: Vec<String>,
    /// Largest message taken from the server, in bytes.
    pub max_payload: usize,
    /// How a secure connection is made.
    pub tls: TlsSettings,
    /// The way to the server.
    pub via: Via,
}

impl Settings {
    /// Whether a [`Connector`] with these reads files, which can take long.
    pub fn takes_files(&self) -> bool {
        let proxy = match &self.via {
            Via::Proxy(proxy) => proxy.scheme == ProxyScheme::Https,
            Via::Environment | Via::Direct | Via::Unix(_) => false,
        };
        self.scheme.is_secure() || proxy
    }
}

/// How a URL begins. The schemes of WebSocket mean no more than those of HTTP: either way both transports can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http://`
    Http,
    /// `https://`
    Https,
    /// `ws://`
    Ws,
    /// `wss://`
    Wss,
}

impl Scheme {
    /// Whether connections are made over TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Wss)
    }
}

/// Query and headers can hold secrets, and are left out.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("revision", &self.revision)
            .field("scheme", &self.scheme)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("path", &self.path)
            .field("with_credentials", &self.with_credentials)
            .field("protocols", &self.protocols)
            .field("max_payload", &self.max_payload)
            .field("tls", &self.tls)
            .field("via", &self.via)
            .finish_non_exhaustive()
    }
}

/// How the server's certificate is judged and what is shown to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file with authorities trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate chain.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the client's private key.
    pub key_file: Option<PathBuf>,
    /// Name to ask for (SNI) and to verify, instead of the URL's host.
    pub server_name: Option<String>,
    /// Take any certificate.
    pub insecure: bool,
}

/// One way to the server, opened by [`Connector::open`].
///
/// After any change made by `send`, `set_session`, `pause` or `resume`, call [`poll_recv`](Self::poll_recv) or
/// [`poll_flush`](Self::poll_flush) again: these do the work, and the changes wake nobody.
#[derive(Debug)]
pub enum Transport {
    /// HTTP long-polling.
    Polling(Box<Polling>),
    /// One WebSocket.
    WebSocket(Box<WebSocket>),
}

/// What [`Transport::poll_recv`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// The next packet. Its data can be a slice of a larger buffer: copy what is kept for long.
    Packet(Packet),
    /// No request of a paused polling transport is under way any more. Said once for each pause.
    Paused,
}

/// What [`Transport::poll_arrival`] yields.
#[derive(Debug)]
pub enum Arrival {
    /// Texts came and are here still: [`Transport::take_messages`] and [`Transport::poll_recv`] have them.
    Texts,
    /// Anything else.
    Received(Received),
}

impl Transport {
    /// Which one it is.
    pub fn kind(&self) -> TransportKind {
        match self {
            Self::Polling(_) => TransportKind::Polling,
            Self::WebSocket(_) => TransportKind::WebSocket,
        }
    }

    /// Queues a packet. Never blocks and never fails: a failure shows at the next poll. The queue has no bound of its
    /// own, see [`queued`](Self::queued), but a pong that would stand behind another is left out.
    pub fn send(&mut self, packet: Packet) {
        trace!(target: "siod::wire", transport = self.kind().name(), ?packet, "queued");
        match self {
            Self::Polling(polling) => polling.send(packet),
            Self::WebSocket(websocket) => websocket.send(packet),
        }
    }

    /// Tells a polling transport the session's id and the largest body that the server takes, from the handshake.
    ///
    /// Until then it makes its first GET and nothing else. A WebSocket needs neither.
    pub fn set_session(&mut self, sid: &str, max_payload: Option<usize>) {
        match self {
            Self::Polling(polling) => polling.set_session(sid, max_payload),
            Self::WebSocket(_) => {}
        }
    }

    /// Works in both directions: sends what is queued as far as possible and yields the next packet.
    ///
    /// Packets that came before a failure are yielded before it. After an error the transport is done and repeats it.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Error>> {
        let polled = match self {
            Self::Polling(polling) => polling.poll_recv(cx),
            Self::WebSocket(websocket) => websocket.poll_recv(cx),
        };
        if let Poll::Ready(Ok(Received::Packet(packet))) = &polled {
            trace!(target: "siod::wire", transport = self.kind().name(), ?packet, "received");
        }
        polled
    }

    /// [`poll_recv`](Self::poll_recv), but for texts that can be taken as they lie.
    pub fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrival, Error>> {
        match self {
            Self::WebSocket(websocket) if !enabled!(target: "siod::wire", Level::TRACE) => {
                websocket.poll_arrival(cx)
            }
            _ => self.poll_recv(cx).map_ok(Arrival::Received),
        }
    }

    /// Shows the text that [`Transport::take_messages`] would give first, if there is one.
    pub fn peek_message(&mut self, look: &mut dyn FnMut(&str)) {
        self.take_messages(&mut |text| {
            look(text);
            false
        });
    }

    /// Gives the texts of the message packets that are here to `take`, without a copy, until it does not want one, or
    /// something else comes first. What was not taken is still to come.
    pub fn take_messages(&mut self, take: &mut dyn FnMut(&str) -> bool) {
        match self {
            Self::Polling(_) => {}
            Self::WebSocket(websocket) => websocket.take_messages(take),
        }
    }

    /// [`poll_recv`](Self::poll_recv) as a future. Cancel safe: all state is in the transport.
    pub async fn recv(&mut self) -> Result<Received, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Sends what is queued, reading nothing; ready when all of it has been handed to the system (WebSocket) or
    /// answered (polling). A polling transport that is paused or without session never gets ready with a packet queued.
    ///
    /// A peer that reads only after it has been read from blocks this for ever: go on with `poll_recv` meanwhile.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self {
            Self::Polling(polling) => polling.poll_flush(cx),
            Self::WebSocket(websocket) => websocket.poll_flush(cx),
        }
    }

    /// Bytes given to `send` and not yet handed over, framing included; 0 means idle.
    pub fn queued(&self) -> usize {
        match self {
            Self::Polling(polling) => polling.queued(),
            Self::WebSocket(websocket) => websocket.queued(),
        }
    }

    /// Whether nothing is stuck: the WebSocket's last write did not stop half-way; no POST is under way and none waits.
    pub fn is_writable(&self) -> bool {
        match self {
            Self::Polling(polling) => polling.is_writable(),
            Self::WebSocket(websocket) => websocket.is_writable(),
        }
    }

    /// Lets a polling transport start no more requests; [`Received::Paused`] follows when those under way have ended
    /// and their packets have been yielded. The queue is kept. Means nothing to a WebSocket.
    pub fn pause(&mut self) {
        match self {
            Self::Polling(polling) => polling.pause(),
            Self::WebSocket(_) => {}
        }
    }

    /// Ends a pause, whether it was complete or not.
    pub fn resume(&mut self) {
        match self {
            Self::Polling(polling) => polling.resume(),
            Self::WebSocket(_) => {}
        }
    }

    /// Takes out what was queued and never sent, in order; after an upgrade it goes to the WebSocket.
    pub fn take_queued(&mut self) -> Vec<Packet> {
        match self {
            Self::Polling(polling) => polling.take_queued(),
            Self::WebSocket(websocket) => websocket.take_queued(),
        }
    }

    /// Ends it politely: sends what is queued, then the packet `1` (polling) or a close frame without code (WebSocket),
    /// and waits up to a second for the peer's close frame. What arrives meanwhile is dropped.
    ///
    /// Sending has no time limit: the caller sets one.
    pub async fn close(self) {
        match self {
            Self::Polling(polling) => polling.close().await,
            Self::WebSocket(websocket) => websocket.close().await,
        }
    }
}
