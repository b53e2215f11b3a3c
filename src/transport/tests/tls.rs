use std::path::PathBuf;
use std::sync::Arc;

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
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let settings = Settings { secure: true, tls, ..at(address) };
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
    let receiving = async { open(settings, kind, None).await?.recv().await };
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
    for (name, tls, refusal) in [
        ("127.0.0.1", trusting(&ours), None),
        ("127.0.0.1", trusting(&other), Some("invalid peer certificate: UnknownIssuer")),
        (
            "other.test",
            trusting(&ours),
            Some("invalid peer certificate: certificate not valid for name \"127.0.0.1\""),
        ),
        ("other.test", named("other.test"), None),
        (
            "127.0.0.1",
            named("other.test"),
            Some("invalid peer certificate: certificate not valid for name \"other.test\""),
        ),
        ("other.test", insecure, None),
    ] {
        for kind in [TransportKind::Polling, TransportKind::WebSocket] {
            let result = attempt(ours.server(name, false), tls.clone(), kind).await;
            match (result, refusal) {
                (Ok(received), None) => assert_eq!(received, Received::Packet(text("a"))),
                (Err(error), Some(refusal)) => {
                    assert_eq!(error.phase(), Some(Phase::Tls), "{error}");
                    assert!(error.to_string().contains(refusal), "{error}");
                }
                (result, _) => panic!("{name} with {tls:?} over {kind:?}: {result:?}"),
            }
        }
    }
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
        assert!(matches!(error.message(), "xhr poll error" | "websocket error"), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_an_error_of_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let tls = TlsSettings { insecure: true, ..TlsSettings::default() };
    let settings = Settings { secure: true, tls, ..at(address) };
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let serving = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            stream.write_all(answer).await.expect("the client listens");
            stream.shutdown().await.expect("the client listens");
            stream
        };
        let (_stream, opened) = tokio::join!(serving, open(settings.clone(), TransportKind::WebSocket, None));
        let error = opened.expect_err("no TLS");
        assert_eq!(error.phase(), Some(Phase::Tls), "{error}");
        assert_eq!(error.message(), "websocket error");
    }
}
