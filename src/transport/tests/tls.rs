use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::server::read_request;
use super::*;
use crate::engineio::Phase;
use crate::transport::Step;

/// An authority whose certificate is in a file.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // Authorities of the same name would be told apart by their signatures only.
        let name = format!("authority {}", folder.path().display());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("a file");
        Self { folder, certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }

    /// A server with a certificate for `name`, which may ask for one of this authority's from the client.
    fn server(&self, name: &str, ask_client: bool) -> ServerConfig {
        let (certificate, key) = self.issue(name);
        self.server_with(&certificate, &key, ask_client)
    }

    fn server_with(&self, certificate: &rcgen::Certificate, key: &KeyPair, ask_client: bool) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = if ask_client {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.certificate.clone()).expect("a root");
            let provider = Arc::new(ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        builder.with_single_cert(vec![certificate.der().clone()], key).expect("a pair")
    }
}

/// Opens `kind` to a server that answers with one packet, and receives it.
async fn attempt(server: ServerConfig, tls: TlsSettings, kind: TransportKind) -> Result<Received, Error> {
    attempt_watched(server, tls, kind, |_| {}).await
}

async fn attempt_watched(
    server: ServerConfig,
    tls: TlsSettings,
    kind: TransportKind,
    watch: impl Fn(&Step<'_>) + Send + Sync + 'static,
) -> Result<Received, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let settings = Settings { scheme: Scheme::Https, tls, ..at(address) };
    let serving = async {
        let (stream, _) = listener.accept().await.expect("a connection");
        // A client that refuses the certificate ends it here.
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(stream).await.ok()?;
        let (_, headers, _) = read_request(&mut stream).await?;
        let key = headers.iter().find_map(|line| line.strip_prefix("sec-websocket-key: "));
        let answer = match key {
            Some(key) => {
                let head = format!(
                    "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
                    derive_accept_key(key.as_bytes())
                );
                [head.as_bytes(), b"\x81\x024a"].concat()
            }
            None => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n4a".to_vec(),
        };
        stream.write_all(&answer).await.ok()?;
        stream.flush().await.ok()?;
        Some(stream)
    };
    let connector = Connector::watched(settings, Arc::new(watch)).expect("settings that can be used");
    let receiving = async { connector.open(kind, None).await?.recv().await };
    tokio::join!(serving, receiving).1
}

#[tokio::test]
async fn the_certificate_decides() {
    let ours = Authority::new();
    let other = Authority::new();
    let trusting =
        |authority: &Authority| TlsSettings { ca_file: Some(authority.file()), ..TlsSettings::default() };
    let named = |name: &str| TlsSettings { server_name: Some(name.to_owned()), ..trusting(&ours) };
    let insecure = TlsSettings { insecure: true, ..TlsSettings::default() };
    let untrusted = "the server's certificate is signed by an authority that is not trusted here";
    for (name, tls, refusal) in [
        ("127.0.0.1", trusting(&ours), None),
        ("127.0.0.1", trusting(&other), Some((untrusted, "tls.ca_file"))),
        (
            "other.test",
            trusting(&ours),
            Some(("the server's certificate is for other.test, not 127.0.0.1", "tls.server_name")),
        ),
        ("other.test", named("other.test"), None),
        (
            "127.0.0.1",
            named("other.test"),
            Some(("the server's certificate is for 127.0.0.1, not other.test", "tls.server_name")),
        ),
        ("other.test", insecure, None),
    ] {
        for kind in [TransportKind::Polling, TransportKind::WebSocket] {
            let result = attempt(ours.server(name, false), tls.clone(), kind).await;
            match (result, refusal) {
                (Ok(received), None) => assert_eq!(received, Received::Packet(text("a"))),
                (Err(error), Some((detail, hint))) => {
                    assert_eq!(error.phase(), Some(Phase::Tls), "{error}");
                    assert_eq!(error.description().as_deref(), Some(detail));
                    assert!(error.hint().is_some_and(|words| words.contains(hint)), "{:?}", error.hint());
                }
                (result, _) => panic!("{name} with {tls:?} over {kind:?}: {result:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_bad_certificate_is_called_what_it_is() {
    let ours = Authority::new();
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let params = |names: &[&str]| {
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            .expect("names")
    };
    let mut expired = params(&["127.0.0.1"]);
    expired.not_after = rcgen::date_time_ymd(2020, 2, 3);
    let mut early = params(&["127.0.0.1"]);
    early.not_before = rcgen::date_time_ymd(3000, 2, 3);
    let mut authority = params(&["127.0.0.1"]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let many: Vec<_> = (0..10).map(|n| format!("h{n}.test")).collect();
    let many = params(&many.iter().map(String::as_str).collect::<Vec<_>>());
    for (params, self_signed, detail) in [
        (expired, false, format!("the server's certificate expired on 2020-02-03; it is now {today}")),
        (early, false, format!("the server's certificate is valid from 3000-02-03 on; it is now {today}")),
        (params(&["127.0.0.1"]), true, "the server's certificate is self-signed".to_owned()),
        (
            authority,
            true,
            "the server's certificate is self-signed, and that of an authority (CA:TRUE), not of a server"
                .to_owned(),
        ),
        (params(&[]), false, "the server's certificate is for no name at all, not 127.0.0.1".to_owned()),
        (
            many,
            false,
            "the server's certificate is for h0.test, h1.test, h2.test, h3.test, h4.test, h5.test, h6.test, \
             h7.test, 2 more, not 127.0.0.1"
                .to_owned(),
        ),
    ] {
        let key = KeyPair::generate().expect("a key");
        let certificate =
            if self_signed { params.self_signed(&key) } else { params.signed_by(&key, &ours.issuer) };
        let server = ours.server_with(&certificate.expect("a certificate"), &key, false);
        let tls = TlsSettings { ca_file: Some(ours.file()), ..TlsSettings::default() };
        let error = attempt(server, tls, TransportKind::WebSocket).await.expect_err("a bad certificate");
        assert_eq!((error.phase(), error.description()), (Some(Phase::Tls), Some(detail)));
    }
}

#[tokio::test]
async fn a_self_signed_certificate_can_be_trusted_by_name() {
    let ours = Authority::new();
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let file = ours.folder.path().join("self.pem");
    std::fs::write(&file, certificate.pem()).expect("a file");
    let tls = TlsSettings { ca_file: Some(file), ..TlsSettings::default() };
    let server = ours.server_with(&certificate, &key, false);
    let received = attempt(server, tls, TransportKind::WebSocket).await;
    assert_eq!(received, Ok(Received::Packet(text("a"))));
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("client.test");
    let cert_file = authority.folder.path().join("client.pem");
    let key_file = authority.folder.path().join("client.key");
    std::fs::write(&cert_file, certificate.pem()).expect("a file");
    std::fs::write(&key_file, key.serialize_pem()).expect("a file");
    let anonymous = TlsSettings { ca_file: Some(authority.file()), ..TlsSettings::default() };
    let known = TlsSettings { cert_file: Some(cert_file), key_file: Some(key_file), ..anonymous.clone() };
    for kind in [TransportKind::Polling, TransportKind::WebSocket] {
        let server = || authority.server("127.0.0.1", true);
        assert_eq!(attempt(server(), known.clone(), kind).await, Ok(Received::Packet(text("a"))));
        let error = attempt(server(), anonymous.clone(), kind).await.expect_err("no certificate was shown");
        let detail = "the server wants a certificate of ours (TLS alert CertificateRequired)";
        assert_eq!((error.phase(), error.description().as_deref()), (Some(Phase::Tls), Some(detail)));
        assert!(error.hint().is_some_and(|hint| hint.contains("tls.cert_file")), "{:?}", error.hint());
    }
}

#[tokio::test]
async fn a_server_without_tls_is_an_error_of_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let tls = TlsSettings { insecure: true, ..TlsSettings::default() };
    let settings = Settings { scheme: Scheme::Https, tls, ..at(address) };
    for (answer, detail) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "what the server sends is not TLS"),
        (b"", "the server hung up during the TLS handshake"),
    ] {
        let serving = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            stream.write_all(answer).await.expect("the client listens");
            stream.shutdown().await.expect("the client listens");
            stream
        };
        let (_stream, opened) = tokio::join!(serving, open(settings.clone(), TransportKind::WebSocket, None));
        let error = opened.expect_err("no TLS");
        assert_eq!((error.phase(), error.description().as_deref()), (Some(Phase::Tls), Some(detail)));
        assert!(error.hint().is_some_and(|hint| hint.contains("http://")), "{:?}", error.hint());
        assert_eq!(error.message(), "websocket error");
    }
}

#[tokio::test]
async fn a_server_with_tls_alone_is_recognised() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let settings = at(listener.local_addr().expect("an address"));
    let acceptor = TlsAcceptor::from(Arc::new(authority.server("127.0.0.1", false)));
    for kind in [TransportKind::Polling, TransportKind::WebSocket] {
        let serving = async {
            let (stream, _) = listener.accept().await.expect("a connection");
            acceptor.accept(stream).await.expect_err("this is no TLS");
        };
        let receiving = async { open(settings.clone(), kind, None).await?.recv().await };
        let error = tokio::join!(serving, receiving).1.expect_err("no plain server");
        assert_eq!(
            (error.phase(), error.description().as_deref()),
            (Some(Phase::Http), Some("the server answers with a TLS alert: this port is for TLS"))
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("https://")), "{:?}", error.hint());
    }
}

#[tokio::test]
async fn each_step_is_told_with_its_facts() {
    let authority = Authority::new();
    let tls = TlsSettings { ca_file: Some(authority.file()), ..TlsSettings::default() };
    for (kind, status) in [(TransportKind::Polling, 200), (TransportKind::WebSocket, 101)] {
        let steps = Arc::new(Mutex::new(Vec::new()));
        let told = steps.clone();
        let watch = move |step: &Step<'_>| {
            if let Step::Secured { certificates, .. } = step {
                assert_eq!(certificates.len(), 1, "the server's own");
            }
            let port =
                |word: &str| word.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let text = step.to_string();
            let words = text.split(' ').map(|word| if port(word) { "ADDRESS" } else { word });
            let line = format!("{}: {}", step.phase().name(), words.collect::<Vec<_>>().join(" "));
            told.lock().expect("no holder panics").push(line);
        };
        let received = attempt_watched(authority.server("127.0.0.1", false), tls.clone(), kind, watch).await;
        assert_eq!(received, Ok(Received::Packet(text("a"))));
        let steps = steps.lock().expect("no holder panics");
        assert_eq!(
            *steps,
            [
                "dns: looking up 127.0.0.1",
                "dns: 127.0.0.1 is 127.0.0.1",
                "tcp: connecting to ADDRESS",
                "tcp: connected to ADDRESS",
                "tls: TLS handshake with 127.0.0.1",
                "tls: 127.0.0.1 is secured TLSv1_3 TLS13_AES_256_GCM_SHA384",
                "http: GET /socket.io/",
                &format!("http: answered with {status}"),
            ]
        );
    }
}
