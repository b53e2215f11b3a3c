//! Moves Engine.IO packets and knows no meaning: HTTP long-polling and WebSocket, plain or over TLS.

use std::path::PathBuf;

/// Where the server is and how requests to it look. One per Manager; equal settings can share a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// https and wss, rather than http and ws.
    pub secure: bool,
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
