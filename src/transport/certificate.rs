//! What rustls says about a failed handshake, in words for who has to do something about it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use webpki::EndEntityCert;

use super::hint::NOT_TLS;

/// A failure of TLS.
pub(super) struct Refusal {
    pub(super) detail: String,
    pub(super) hint: Option<&'static str>,
}

const AUTHORITY: &str = "name the certificate of its authority in tls.ca_file";
const CLIENT: &str = "see tls.cert_file and tls.key_file";
const NAME: &str = "if it is the right server, name what its certificate is for in tls.server_name";

/// Most names of a certificate that are listed.
const NAMES: usize = 8;

/// Says it.
pub(super) fn explain(error: &Error) -> Refusal {
    let (detail, hint) = match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(_) => ("what the server sends is not TLS".to_owned(), Some(NOT_TLS)),
        Error::PeerIncompatible(_) => (
            "the server has no version or cipher of TLS in common with siod, which speaks 1.2 and 1.3"
                .to_owned(),
            None,
        ),
        other => (other.to_string(), None),
    };
    Refusal { detail, hint }
}

fn of_certificate(error: &CertificateError) -> (String, Option<&'static str>) {
    match error {
        CertificateError::ExpiredContext { time, not_after } => (
            format!("the server's certificate expired on {}; it is now {}", date(*not_after), date(*time)),
            None,
        ),
        CertificateError::Expired => ("the server's certificate has expired".to_owned(), None),
        CertificateError::NotValidYetContext { time, not_before } => (
            format!("the server's certificate is valid from {} on; it is now {}", date(*not_before), date(*time)),
            Some("is the clock of this machine right?"),
        ),
        CertificateError::NotValidForNameContext { expected, presented } => (
            format!("the server's certificate is for {}, not {}", names(presented), expected.to_str()),
            Some(NAME),
        ),
        CertificateError::UnknownIssuer => (
            "the server's certificate is signed by an authority that is not trusted here".to_owned(),
            Some(AUTHORITY),
        ),
        CertificateError::Revoked => ("the server's certificate has been revoked".to_owned(), None),
        CertificateError::Other(OtherError(error)) => match error.downcast_ref() {
            Some(SelfSigned { is_authority: false }) => (
                "the server's certificate is self-signed".to_owned(),
                Some("name that certificate in tls.ca_file to trust it"),
            ),
            Some(SelfSigned { is_authority: true }) => (
                "the server's certificate is self-signed, and that of an authority (CA:TRUE), not of a server".to_owned(),
                Some("make one without CA:TRUE for the server, or sign one with this, and name this in tls.ca_file"),
            ),
            None => (format!("the server's certificate cannot be used: {error}"), None),
        },
        other => (format!("the server's certificate cannot be used: {other}"), None),
    }
}

fn of_alert(alert: AlertDescription) -> (String, Option<&'static str>) {
    use AlertDescription as A;
    let (what, hint) = match alert {
        A::CertificateRequired => ("the server wants a certificate of ours", Some(CLIENT)),
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied => ("the server does not take our certificate", Some(CLIENT)),
        A::HandshakeFailure => (
            "the server broke off the TLS handshake",
            Some("it may want a certificate of ours (tls.cert_file), or have no cipher in common with siod"),
        ),
        A::ProtocolVersion => ("the server speaks neither TLS 1.2 nor TLS 1.3", None),
        A::UnrecognisedName => (
            "the server has no certificate for the name that it was asked for",
            Some("see tls.server_name and the URL's host"),
        ),
        _ => ("the server ended the TLS connection", None),
    };
    (format!("{what} (TLS alert {alert:?})"), hint)
}

/// `DnsName("a.example")` and the like, as webpki writes them.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        inner.unwrap_or(name).trim_matches('"').chars().filter(|c| !c.is_control()).collect::<String>()
    };
    let mut names: Vec<_> = presented.iter().take(NAMES).map(bare).collect();
    match presented.len().checked_sub(NAMES).filter(|more| *more > 0) {
        Some(more) => names.push(format!("{more} more")),
        None if names.is_empty() => names.push("no name at all".to_owned()),
        None => {}
    }
    names.join(", ")
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    seconds
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| "a day beyond the calendar".to_owned(), |time| time.strftime("%Y-%m-%d").to_string())
}

/// The certificate is its own issuer.
#[derive(Debug)]
struct SelfSigned {
    is_authority: bool,
}

impl fmt::Display for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("self-signed")
    }
}

impl StdError for SelfSigned {}

/// Judges as another verifier does, and sees whether a certificate without a trusted issuer is self-signed.
#[derive(Debug)]
pub(super) struct Naming(pub(super) Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for Naming {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        judged.map_err(|error| {
            let is_authority = match &error {
                Error::InvalidCertificate(CertificateError::UnknownIssuer) => false,
                Error::InvalidCertificate(CertificateError::Other(OtherError(other)))
                    if matches!(other.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
                {
                    true
                }
                _ => return error,
            };
            match EndEntityCert::try_from(end_entity) {
                Ok(certificate) if certificate.issuer() == certificate.subject() => {
                    let cause = OtherError(Arc::new(SelfSigned { is_authority }));
                    Error::InvalidCertificate(CertificateError::Other(cause))
                }
                _ => error,
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
