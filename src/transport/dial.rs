//! From a host and a port to a byte stream: name lookup, TCP, TLS. Both transports dial here.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_rustls::{DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::error::Failure;
use super::{Error, Settings, tls};

/// A connection, encrypted or not, in hyper's terms.
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Idle time after which the system asks the peer whether it is still there, and between two such questions.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Makes connections to one server.
#[derive(Clone)]
pub(super) enum Dialler {
    Plain(HttpConnector),
    Secure(HttpsConnector<HttpConnector>),
}

impl Dialler {
    /// Reads the TLS files, if the settings are for a secure connection.
    pub(super) fn new(settings: &Settings) -> Result<Self, Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        if !settings.secure {
            return Ok(Self::Plain(tcp));
        }
        let config = tls::client_config(&settings.tls)?;
        Ok(Self::Secure(match tls::server_name(&settings.tls)? {
            Some(name) => {
                HttpsConnector::new(tcp, config, true, Arc::new(FixedServerNameResolver::new(name)))
            }
            None => HttpsConnector::new(tcp, config, true, Arc::new(DefaultServerNameResolver::default())),
        }))
    }

    /// Connects to the server of `uri`, whose scheme is `http` or `https`.
    pub(super) async fn dial(&self, uri: Uri) -> Result<Stream, Failure> {
        let host = uri.host().unwrap_or_default().to_owned();
        match self.clone() {
            Self::Plain(mut tcp) => {
                let connected = match poll_fn(|cx| tcp.poll_ready(cx)).await {
                    Ok(()) => tcp.call(uri).await,
                    Err(error) => Err(error),
                };
                connected.map(Stream::Http).map_err(|error| Failure::dial(&host, &error))
            }
            Self::Secure(mut tls) => {
                let connected = match poll_fn(|cx| tls.poll_ready(cx)).await {
                    Ok(()) => tls.call(uri).await,
                    Err(error) => Err(error),
                };
                connected.map_err(|error| Failure::dial(&host, &*error))
            }
        }
    }
}
