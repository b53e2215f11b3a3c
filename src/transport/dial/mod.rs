//! From settings to a stream of bytes: directly, through a proxy or over a Unix socket, then TLS. Both transports dial
//! here.

mod race;
mod socks;
mod stream;
mod tcp;
mod tunnel;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::environment::{Advice, Environment};
use super::error::{Failure, lower_first};
use super::proxy::{Proxy, ProxyScheme, Via, authority};
use super::step::{Step, Watch};
use super::{Error, Settings, TlsSettings, tls};
use crate::engineio::Phase;

pub(super) use stream::Stream;

const PROXY_TLS: &str =
    "https:// in the option proxy is TLS with the proxy itself; tls.ca_file counts for it too";

/// Makes connections to one server.
pub(super) struct Dialler {
    host: String,
    port: u16,
    way: Way,
    secure: Option<Secure>,
    watch: Arc<dyn Watch>,
}

/// The way to the server, once it is known what the environment says.
#[derive(Clone)]
enum Way {
    Direct {
        /// What helps where it does not work, if the environment names a proxy that is not used.
        hint: Option<String>,
    },
    Proxy {
        proxy: Proxy,
        secure: Option<Secure>,
    },
    Unix(PathBuf),
}

/// How one peer is spoken to over TLS.
#[derive(Clone)]
struct Secure {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Dialler {
    /// Reads the TLS files, if the settings are for a secure connection, and the environment, if it matters.
    pub(super) fn new(settings: &Settings, watch: Arc<dyn Watch>) -> Result<Self, Error> {
        let secure = if settings.scheme.is_secure() {
            let name = match tls::server_name(&settings.tls)? {
                Some(name) => name,
                None => verifiable("the URL's host", &settings.host)?,
            };
            Some(Secure::new(&settings.tls, name)?)
        } else {
            None
        };
        let way = Way::new(settings)?;
        Ok(Self { host: settings.host.clone(), port: settings.port, way, secure, watch })
    }

    /// Connects to the server.
    pub(super) async fn dial(&self) -> Result<Stream, Failure> {
        let watch = &*self.watch;
        let stream = match &self.way {
            Way::Direct { hint } => match tcp::connect(&self.host, self.port, watch).await {
                Ok(stream) => Stream::Tcp(stream),
                Err(failure) => return Err(Failure { hint: hint.clone().map(Into::into), ..failure }),
            },
            Way::Unix(path) => unix(path, watch).await?,
            Way::Proxy { proxy, secure } => self.through(proxy, secure.as_ref()).await?,
        };
        match &self.secure {
            Some(secure) => secure.shake(stream, watch).await,
            None => Ok(stream),
        }
    }

    /// The same, with somebody else who is told the steps.
    pub(super) fn telling(&self, watch: Arc<dyn Watch>) -> Self {
        let Self { host, port, way, secure, watch: _ } = self;
        Self { host: host.clone(), port: *port, way: way.clone(), secure: secure.clone(), watch }
    }

    /// The proxy on the way, whoever has named it.
    pub(super) fn proxy(&self) -> Option<&Proxy> {
        match &self.way {
            Way::Proxy { proxy, .. } => Some(proxy),
            Way::Direct { .. } | Way::Unix(_) => None,
        }
    }

    /// What the steps are told to.
    pub(super) fn watch(&self) -> &dyn Watch {
        &*self.watch
    }

    /// What fails at the proxy is told as such; a name that is looked up here fails as any other.
    async fn through(&self, proxy: &Proxy, secure: Option<&Secure>) -> Result<Stream, Failure> {
        let (host, port) = (self.host.as_str(), self.port);
        let asked = match proxy.scheme {
            ProxyScheme::Http | ProxyScheme::Https => {
                self.ask_http(proxy, secure, &authority(host, port)).await
            }
            ProxyScheme::Socks5h => {
                let target = match host.parse::<IpAddr>() {
                    Ok(ip) => socks::Target::Address((ip, port).into()),
                    Err(_) => socks::Target::Name(host, port),
                };
                self.ask_socks(proxy, &[target]).await
            }
            ProxyScheme::Socks5 => {
                let addresses = tcp::resolve(host, port, self.watch()).await?;
                let targets: Vec<_> = addresses.into_iter().map(socks::Target::Address).collect();
                self.ask_socks(proxy, &targets).await
            }
        };
        asked.map_err(|failure| failure.of_proxy(proxy))
    }

    async fn ask_http(
        &self,
        proxy: &Proxy,
        secure: Option<&Secure>,
        target: &str,
    ) -> Result<Stream, Failure> {
        let stream = reach(proxy, secure, self.watch()).await?;
        self.watch.step(&Step::Asking { proxy, target });
        let stream = tunnel::open(stream, target, proxy.credentials.as_ref()).await?;
        self.watch.step(&Step::Granted { proxy });
        Ok(stream)
    }

    /// The targets one after the other: the proxy may know one family only, so that an address that it cannot reach is
    /// not the last word. That it cannot be reached itself, or does not want us, is.
    async fn ask_socks(&self, proxy: &Proxy, targets: &[socks::Target<'_>]) -> Result<Stream, Failure> {
        let mut refusal = Failure::new(Phase::Proxy, "there is nothing to ask for");
        for target in targets {
            let mut stream = reach(proxy, None, self.watch()).await?;
            socks::greet(&mut stream, proxy.credentials.as_ref()).await?;
            self.watch.step(&Step::Asking { proxy, target: &target.to_string() });
            match socks::connect(&mut stream, *target).await {
                Ok(()) => {
                    self.watch.step(&Step::Granted { proxy });
                    return Ok(stream);
                }
                Err(failure) => refusal = failure,
            }
        }
        Err(refusal)
    }
}

impl Way {
    fn new(settings: &Settings) -> Result<Self, Error> {
        let environment = Environment::read();
        let advice = || environment.advice(settings.scheme.is_secure(), &settings.host, settings.port);
        match &settings.via {
            Via::Unix(path) => Ok(Self::Unix(path.clone())),
            Via::Proxy(proxy) => Self::proxy(proxy.clone(), &settings.tls),
            Via::Direct => Ok(Self::Direct {
                hint: matches!(advice(), Ok(Advice::Proxy(_))).then(|| {
                    "the environment names a proxy that proxy = \"none\" leaves out; it may be needed"
                        .to_owned()
                }),
            }),
            Via::Environment => match advice().map_err(Error::Settings)? {
                Advice::Proxy(proxy) => {
                    debug!(%proxy, host = settings.host, "the environment names a proxy");
                    Self::proxy(proxy, &settings.tls)
                }
                Advice::Excepted(variable) => Ok(Self::Direct {
                    hint: Some(format!(
                        "{variable} names a proxy, but NO_PROXY takes this server out; it may be needed"
                    )),
                }),
                Advice::OtherScheme(variable) => Ok(Self::Direct {
                    hint: Some(format!(
                        "{variable} names a proxy, but not for this URL's scheme; set the option proxy if it is needed"
                    )),
                }),
                Advice::Nothing => Ok(Self::Direct { hint: None }),
            },
        }
    }

    /// `tls.ca_file` counts for a proxy too. What else is under `tls` is about the server alone.
    fn proxy(proxy: Proxy, tls: &TlsSettings) -> Result<Self, Error> {
        let secure = match proxy.scheme {
            ProxyScheme::Https => {
                let settings = TlsSettings { ca_file: tls.ca_file.clone(), ..TlsSettings::default() };
                Some(Secure::new(&settings, verifiable("the proxy's host", &proxy.host)?)?)
            }
            ProxyScheme::Http | ProxyScheme::Socks5 | ProxyScheme::Socks5h => None,
        };
        Ok(Self::Proxy { proxy, secure })
    }
}

impl Secure {
    fn new(settings: &TlsSettings, name: ServerName<'static>) -> Result<Self, Error> {
        Ok(Self { connector: Arc::new(tls::client_config(settings)?).into(), name })
    }

    async fn shake(&self, stream: Stream, watch: &dyn Watch) -> Result<Stream, Failure> {
        let name = self.name.to_str();
        watch.step(&Step::Shaking { name: &name });
        let shaken = self.connector.connect(self.name.clone(), stream).await;
        let stream = shaken.map_err(|error| Failure::handshake(&error))?;
        let session = stream.get_ref().1;
        watch.step(&Step::Secured {
            name: &name,
            version: session.protocol_version().and_then(|version| version.as_str()),
            cipher: session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()),
            certificates: session.peer_certificates().unwrap_or_default(),
        });
        Ok(Stream::Tls(Box::new(stream)))
    }
}

async fn reach(proxy: &Proxy, secure: Option<&Secure>, watch: &dyn Watch) -> Result<Stream, Failure> {
    let stream = Stream::Tcp(tcp::connect(&proxy.host, proxy.port, watch).await?);
    let Some(secure) = secure else { return Ok(stream) };
    // The words are made for servers.
    secure.shake(stream, watch).await.map_err(|failure| {
        let detail = failure.detail.replace("the server's", "its").replace("the server", "it");
        Failure { detail, ..failure }.with_hint(PROXY_TLS)
    })
}

async fn unix(path: &Path, watch: &dyn Watch) -> Result<Stream, Failure> {
    let stream = UnixStream::connect(path).await.map_err(|error| {
        Failure::new(Phase::Tcp, format!("{}: {}", path.display(), lower_first(&error.to_string())))
    })?;
    watch.step(&Step::ConnectedUnix { path });
    Ok(Stream::Unix(stream))
}

fn verifiable(what: &str, host: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| Error::Settings(format!("{what}, {host:?}, is no name that a certificate could be for")))
}

impl std::fmt::Display for socks::Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(host, port) => f.write_str(&authority(host, *port)),
        }
    }
}
