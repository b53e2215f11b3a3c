//! Opening transports to one server.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use super::dial::Dialler;
use super::polling::Polling;
use super::request::{HttpRequest, Requests};
use super::step::{Log, Progress, Step, Watch};
use super::websocket::WebSocket;
use super::{Error, Settings, Transport, upgrade};
use crate::engineio::{Phase, Revision, TransportKind};
use crate::secret::Secrets;

/// Opens transports to one server; cheap to clone.
///
/// Holds what outlives a connection: the TLS configuration with its session tickets, and the cookies. One per Manager,
/// kept over reconnections.
#[derive(Clone)]
pub struct Connector {
    shared: Arc<Shared>,
    progress: Arc<Progress>,
}

/// What the transports of one [`Connector`] have in common.
pub(super) struct Shared {
    pub(super) revision: Revision,
    pub(super) dialler: Dialler,
    pub(super) requests: Requests,
    /// Largest message taken, in bytes.
    pub(super) max_payload: usize,
    pub(super) protocols: Vec<String>,
    secrets: Secrets,
}

impl Shared {
    /// A request is about to go out.
    pub(super) fn tell_request(&self, request: &HttpRequest) {
        let (method, path) = (request.method(), request.uri().path());
        self.dialler.watch().step(&Step::Requesting { method, path });
    }

    /// An answer has begun: its cookies are kept, whatever its status.
    pub(super) fn take_head(&self, status: StatusCode, headers: &HeaderMap) {
        self.dialler.watch().step(&Step::Answered { status, headers });
        self.requests.keep_cookies(headers);
    }
}

impl Connector {
    /// Checks the settings and reads the TLS files; [`Error::Settings`] is the only error.
    ///
    /// The environment is asked for a proxy here, if the settings leave it to the environment, and not again.
    /// With a secure scheme this reads the system's certificate store, so it takes milliseconds and belongs outside of
    /// anything that must not stall.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Self::watched(settings, Arc::new(Log))
    }

    /// As [`Connector::new`], with somebody who hears each step to the server as it is taken.
    pub fn watched(settings: Settings, watch: Arc<dyn Watch>) -> Result<Self, Error> {
        let progress = Arc::new(Progress::new(watch));
        let dialler = Dialler::new(&settings, Arc::clone(&progress) as Arc<_>)?;
        let shared = Shared {
            revision: settings.revision,
            secrets: settings.secrets(dialler.proxy()),
            dialler,
            requests: Requests::new(&settings)?,
            max_payload: settings.max_payload,
            protocols: settings.protocols,
        };
        Ok(Self { shared: Arc::new(shared), progress })
    }

    /// One for another Manager with the same settings, which shares nothing with this one but what was read from files.
    #[must_use]
    pub fn another(&self) -> Self {
        let progress = Arc::new(Progress::new(Arc::new(Log)));
        let shared = Shared {
            revision: self.shared.revision,
            dialler: self.shared.dialler.telling(Arc::clone(&progress) as Arc<_>),
            requests: self.shared.requests.afresh(),
            max_payload: self.shared.max_payload,
            protocols: self.shared.protocols.clone(),
            secrets: self.shared.secrets.clone(),
        };
        Self { shared: Arc::new(shared), progress }
    }

    /// Opens a transport; with `sid`, one that joins that session.
    ///
    /// A WebSocket is connected when this returns. A polling transport does nothing before its first `poll_recv`. There
    /// is no timeout: dropping the future gives up and closes the connection.
    pub async fn open(&self, kind: TransportKind, sid: Option<&str>) -> Result<Transport, Error> {
        self.progress.begin();
        match kind {
            TransportKind::Polling => {
                Ok(Transport::Polling(Box::new(Polling::new(self.shared.clone(), sid))))
            }
            TransportKind::WebSocket => {
                let frames = upgrade::open(&self.shared, sid).await.map_err(Error::WebSocket)?;
                Ok(Transport::WebSocket(Box::new(WebSocket::new(frames, self.shared.revision))))
            }
        }
    }
}

impl Connector {
    /// What the server or a proxy is told with each request and nobody else may see.
    pub fn secrets(&self) -> &Secrets {
        &self.shared.secrets
    }

    /// What goes on since the last step of any of its transports, and the phase that it belongs to.
    pub fn progress(&self) -> Option<(Phase, String)> {
        self.progress.now()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The requests hold tokens and cookies.
        f.debug_struct("Connector").field("origin", &self.shared.requests.origin()).finish_non_exhaustive()
    }
}
