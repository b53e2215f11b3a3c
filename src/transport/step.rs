//! The steps of reaching a server, told to whoever wants to see them as they are taken.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, StatusCode};
use rustls::pki_types::CertificateDer;

use super::proxy::Proxy;
use crate::engineio::Phase;

/// Hears each step of a [`Connector`](super::Connector) when it is taken; the time is the hearer's to note.
///
/// Called from within the polls of whoever connects, so nothing here may wait. A failure is not a step: it is what
/// [`Connector::open`](super::Connector::open) and the transport return. Several connections of one session (the two of
/// polling, and an upgrade beside them) tell their steps in between one another.
pub trait Watch: Send + Sync {
    /// What has just begun or been achieved.
    fn step(&self, step: &Step<'_>);
}

impl<F: Fn(&Step<'_>) + Send + Sync> Watch for F {
    fn step(&self, step: &Step<'_>) {
        self(step);
    }
}

/// One step. With a proxy, the first ones lead to it, up to [`Step::Asking`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Step<'a> {
    /// The addresses of a name are looked up.
    Resolving {
        /// The name.
        host: &'a str,
    },
    /// They are known.
    Resolved {
        /// The name, or the address itself where there was nothing to look up.
        host: &'a str,
        /// In the order in which they are tried.
        addresses: &'a [SocketAddr],
    },
    /// A TCP connection is begun, perhaps beside others.
    Connecting {
        /// Where to.
        address: SocketAddr,
    },
    /// It did not come about; another may.
    Unreachable {
        /// Where to.
        address: SocketAddr,
        /// The system's word.
        error: &'a io::Error,
    },
    /// It has come about, and others that were begun are given up.
    Connected {
        /// Where to.
        address: SocketAddr,
        /// Our end.
        local: Option<SocketAddr>,
    },
    /// A Unix socket is connected.
    ConnectedUnix {
        /// Where it is.
        path: &'a Path,
    },
    /// A proxy is asked for a way to the server.
    Asking {
        /// The proxy.
        proxy: &'a Proxy,
        /// `host:port`, as the proxy reads it.
        target: &'a str,
    },
    /// The proxy has made it.
    Granted {
        /// The proxy.
        proxy: &'a Proxy,
    },
    /// The TLS handshake begins.
    Shaking {
        /// The name that is asked for and verified.
        name: &'a str,
    },
    /// The connection is encrypted, and the certificate was taken.
    Secured {
        /// The name that was asked for.
        name: &'a str,
        /// As rustls calls it: `TLSv1_3`.
        version: Option<&'a str>,
        /// As rustls calls it: `TLS13_AES_256_GCM_SHA384`.
        cipher: Option<&'a str>,
        /// The peer's own first, in DER.
        certificates: &'a [CertificateDer<'a>],
    },
    /// A request goes out.
    Requesting {
        /// The method.
        method: &'a http::Method,
        /// The path, without the query, which can hold secrets.
        path: &'a str,
    },
    /// The head of its answer is here.
    Answered {
        /// The status.
        status: StatusCode,
        /// Among them `set-cookie`, which holds secrets.
        headers: &'a HeaderMap,
    },
}

impl Step<'_> {
    /// The phase that it belongs to; what leads to a proxy is told as what it is.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Resolving { .. } | Self::Resolved { .. } => Phase::Dns,
            Self::Connecting { .. }
            | Self::Unreachable { .. }
            | Self::Connected { .. }
            | Self::ConnectedUnix { .. } => Phase::Tcp,
            Self::Asking { .. } | Self::Granted { .. } => Phase::Proxy,
            Self::Shaking { .. } | Self::Secured { .. } => Phase::Tls,
            Self::Requesting { .. } | Self::Answered { .. } => Phase::Http,
        }
    }
}

/// In words, without secrets.
impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolving { host } => write!(f, "looking up {host}"),
            Self::Resolved { host, addresses } => {
                write!(f, "{host} is")?;
                addresses.iter().try_for_each(|address| write!(f, " {}", address.ip()))
            }
            Self::Connecting { address } => write!(f, "connecting to {address}"),
            Self::Unreachable { address, error } => write!(f, "cannot connect to {address}: {error}"),
            Self::Connected { address, .. } => write!(f, "connected to {address}"),
            Self::ConnectedUnix { path } => write!(f, "connected to {}", path.display()),
            Self::Asking { proxy, target } => write!(f, "asking {proxy} for {target}"),
            Self::Granted { proxy } => write!(f, "{proxy} has connected"),
            Self::Shaking { name } => write!(f, "TLS handshake with {name}"),
            Self::Secured { name, version, cipher, .. } => {
                let known = [*version, *cipher].into_iter().flatten();
                write!(f, "{name} is secured")?;
                known.into_iter().try_for_each(|word| write!(f, " {word}"))
            }
            Self::Requesting { method, path } => write!(f, "{method} {path}"),
            Self::Answered { status, .. } => write!(f, "answered with {}", status.as_u16()),
        }
    }
}

/// Who hears the steps when nobody else asked for them: the log.
pub(super) struct Log;

impl Watch for Log {
    fn step(&self, step: &Step<'_>) {
        tracing::trace!(target: "siod::dial", phase = step.phase().name(), "{step}");
    }
}

/// Remembers the last step, for an attempt that stops there, and passes each on.
pub(super) struct Progress {
    next: Arc<dyn Watch>,
    last: Mutex<Option<(Phase, String)>>,
}

impl Progress {
    pub(super) fn new(next: Arc<dyn Watch>) -> Self {
        Self { next, last: Mutex::default() }
    }

    /// A way to the server is begun.
    pub(super) fn begin(&self) {
        *self.lock() = None;
    }

    pub(super) fn now(&self) -> Option<(Phase, String)> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Phase, String)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Progress {
    fn step(&self, step: &Step<'_>) {
        let reached = match step {
            Step::Answered { status, .. } => {
                (Phase::Engine, format!("no handshake after an answer with {}", status.as_u16()))
            }
            step => (step.phase(), format!("no end of: {step}")),
        };
        *self.lock() = Some(reached);
        self.next.step(step);
    }
}
