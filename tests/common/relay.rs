//! What can stand between the daemon and a server: proxies, a front that speaks TLS, a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::within;

/// An address of loopback where nobody listens, nor can anybody as long as the socket is there.
pub fn closed() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port on loopback");
    let address = socket.local_addr().expect("a bound socket has an address");
    (socket, address)
}

/// Something that listens and passes bytes on.
pub struct Relay {
    address: SocketAddr,
    asked: UnboundedReceiver<Asked>,
    _tasks: JoinSet<()>,
}

/// What a proxy was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// `host:port`; a name only where the proxy is to look it up.
    pub target: String,
    /// `user:password`.
    pub user: Option<String>,
}

/// How a proxy behaves.
#[derive(Clone, Default)]
pub struct Rules {
    /// `user:password` without which nothing goes.
    pub user: Option<&'static str>,
    /// What every request that has the right user is answered with instead of a way to the server: an HTTP status, or
    /// the reply of SOCKS.
    pub refusal: Option<u16>,
}

impl Relay {
    /// A proxy that knows HTTP CONNECT.
    pub async fn http(rules: Rules) -> Self {
        Self::start(move |stream, asked| connect(stream, rules.clone(), asked)).await
    }

    /// The same within TLS.
    pub async fn https(rules: Rules, authority: &Authority) -> Self {
        let acceptor = authority.acceptor();
        Self::start(move |stream, asked| {
            let (acceptor, rules) = (acceptor.clone(), rules.clone());
            async move { connect(acceptor.accept(stream).await?, rules, asked).await }
        })
        .await
    }

    /// A proxy that speaks SOCKS 5.
    pub async fn socks(rules: Rules) -> Self {
        Self::start(move |stream, asked| socks(stream, rules.clone(), asked)).await
    }

    /// Takes TLS off, and passes what is in it on to a port of loopback.
    pub async fn tls(port: u16, authority: &Authority) -> Self {
        let acceptor = authority.acceptor();
        Self::start(move |stream, _| {
            let acceptor = acceptor.clone();
            async move { pass_on(acceptor.accept(stream).await?, &format!("127.0.0.1:{port}")).await }
        })
        .await
    }

    async fn start<F>(serve: impl Fn(TcpStream, UnboundedSender<Asked>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (sender, asked) = unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let served = serve(stream, sender.clone());
                // A connection that breaks is what some tests are about.
                connections.spawn(async move { served.await.unwrap_or_default() });
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the proxy was asked for next.
    pub async fn asked(&mut self) -> Asked {
        within("a request to the proxy", self.asked.recv()).await.expect("the proxy runs")
    }

    /// Whether it was asked for anything that the test has not taken.
    pub fn was_asked(&self) -> bool {
        !self.asked.is_empty()
    }
}

/// Listens on a Unix socket, and passes everything on to a port of loopback.
pub struct UnixRelay {
    path: PathBuf,
    _folder: TempDir,
    _tasks: JoinSet<()>,
}

impl UnixRelay {
    pub fn start(port: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("server.sock");
        let listener = UnixListener::bind(&path).expect("a socket in the test's own folder");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    pass_on(stream, &format!("127.0.0.1:{port}")).await.unwrap_or_default();
                });
            }
        });
        Self { path, _folder: folder, _tasks: tasks }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// An authority that vouches for loopback; its certificate is in a file.
pub struct Authority {
    folder: TempDir,
    config: Arc<ServerConfig>,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "the tests' authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("a file");
        let issuer = Issuer::new(params, key);

        let names = ["127.0.0.1", "localhost", "server.test"].map(str::to_owned);
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(names).and_then(|params| params.signed_by(&key, &issuer));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.expect("a certificate").der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            );
        Self { folder, config: Arc::new(config.expect("a pair")) }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config).into()
    }
}

async fn pass_on<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, target: &str) -> io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    copy_bidirectional(&mut stream, &mut server).await.map(drop)
}

async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    rules: Rules,
    asked: UnboundedSender<Asked>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).expect("an ASCII head");
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().expect("a request line");
    let target = line.strip_prefix("CONNECT ").and_then(|line| line.strip_suffix(" HTTP/1.1"));
    let target = target.unwrap_or_else(|| panic!("a proxy takes CONNECT, not {line}")).to_owned();
    let header = |name: &str| lines.clone().find_map(|line| line.strip_prefix(name));
    assert_eq!(header("Host: "), Some(target.as_str()), "{head}");
    let user = header("Proxy-Authorization: Basic ").map(|text| {
        String::from_utf8(BASE64_STANDARD.decode(text).expect("base64")).expect("a test's own words")
    });
    let welcome = rules.user.is_none() || user.as_deref() == rules.user;
    let _over = asked.send(Asked { target: target.clone(), user });
    let refusal = if welcome { rules.refusal } else { Some(407) };
    match refusal {
        Some(status) => {
            let body = "the proxy's own words";
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await
        }
        None => {
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            pass_on(stream, &target).await
        }
    }
}

/// Reads as RFC 1928 says it.
async fn socks<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    rules: Rules,
    asked: UnboundedSender<Asked>,
) -> io::Result<()> {
    assert_eq!(stream.read_u8().await?, 5, "the version");
    let offered = bytes(&mut stream).await?;
    let method = if rules.user.is_some() { 2 } else { 0 };
    if !offered.contains(&method) {
        return stream.write_all(&[5, 0xff]).await;
    }
    stream.write_all(&[5, method]).await?;
    let mut user = None;
    if method == 2 {
        assert_eq!(stream.read_u8().await?, 1, "the version of the log-in");
        let (name, password) = (bytes(&mut stream).await?, bytes(&mut stream).await?);
        user = Some(format!("{}:{}", String::from_utf8_lossy(&name), String::from_utf8_lossy(&password)));
        let welcome = user.as_deref() == rules.user;
        stream.write_all(&[1, u8::from(!welcome)]).await?;
        if !welcome {
            return Ok(());
        }
    }
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    assert_eq!(head[..3], [5, 1, 0], "a CONNECT");
    let host = match head[3] {
        1 => std::net::Ipv4Addr::from_bits(stream.read_u32().await?).to_string(),
        3 => String::from_utf8(bytes(&mut stream).await?).expect("an ASCII name"),
        4 => format!("[{}]", std::net::Ipv6Addr::from_bits(stream.read_u128().await?)),
        other => panic!("an address of kind {other}"),
    };
    let target = format!("{host}:{}", stream.read_u16().await?);
    let _over = asked.send(Asked { target: target.clone(), user });
    let reply = rules.refusal.map_or(0, |reply| u8::try_from(reply).expect("a byte"));
    let server = if reply == 0 { TcpStream::connect(&target).await.ok() } else { None };
    let reply = if reply == 0 && server.is_none() { 5 } else { reply };
    stream.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    match server {
        Some(mut server) => copy_bidirectional(&mut stream, &mut server).await.map(drop),
        None => Ok(()),
    }
}

/// As many as the first one says.
async fn bytes<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
