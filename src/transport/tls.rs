//! `TlsSettings` → rustls: who is trusted and what is shown. Files are read here, once.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls_platform_verifier::Verifier;

use super::certificate::Naming;
use super::insecure::AcceptAny;
use super::{Error, TlsSettings};

/// How long the system's certificates count as just read.
const MOMENT: Duration = Duration::from_secs(5);

/// Builds the configuration. The provider is named, because a second one anywhere in the build would make the default
/// ambiguous.
pub(super) fn client_config(settings: &TlsSettings) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(settings, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Settings(format!("TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match (&settings.cert_file, &settings.key_file) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert_file), Some(key_file)) => builder
            .with_client_auth_cert(certificates("tls.cert_file", cert_file)?, private_key(key_file)?)
            .map_err(|error| {
                Error::Settings(format!(
                    "tls.cert_file {} and tls.key_file {} cannot be used together: {error}",
                    cert_file.display(),
                    key_file.display()
                ))
            }),
        (Some(_), None) => Err(Error::Settings("tls.cert_file needs tls.key_file".to_owned())),
        (None, Some(_)) => Err(Error::Settings("tls.key_file needs tls.cert_file".to_owned())),
    }
}

/// The name to ask for and to verify instead of the host.
pub(super) fn server_name(settings: &TlsSettings) -> Result<Option<ServerName<'static>>, Error> {
    let Some(name) = &settings.server_name else {
        return Ok(None);
    };
    match ServerName::try_from(name.clone()) {
        Ok(name) => Ok(Some(name)),
        Err(_) => {
            Err(Error::Settings(format!("tls.server_name {name:?} is neither a host name nor an address")))
        }
    }
}

fn verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    if settings.insecure {
        return Ok(Arc::new(AcceptAny(provider.clone())));
    }
    let Some(path) = &settings.ca_file else {
        return of_the_system(provider);
    };
    let own = certificates("tls.ca_file", path)?;
    match Verifier::new_with_extra_roots(own, provider.clone()) {
        Ok(verifier) => Ok(Arc::new(Naming(Arc::new(verifier)))),
        Err(error) => Err(Error::Settings(format!("tls.ca_file {}: {error}", path.display()))),
    }
}

/// Trusts the system's certificates. What was read a moment ago is not read again: many connections that are opened
/// together, as at the start, share it, and one that is opened later sees what has changed meanwhile.
fn of_the_system(provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    static READ: Mutex<Option<(Instant, Arc<Naming>)>> = Mutex::new(None);
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((when, verifier)) = &*read
        && when.elapsed() < MOMENT
    {
        return Ok(Arc::clone(verifier) as Arc<_>);
    }
    let verifier = Verifier::new(provider.clone()).map_err(|error| {
        Error::Settings(format!("{error}; install the system's certificates or set tls.ca_file"))
    })?;
    let verifier = Arc::new(Naming(Arc::new(verifier)));
    *read = Some((Instant::now(), Arc::clone(&verifier)));
    Ok(verifier)
}

/// A pipe that nobody writes to would keep whoever opens it for ever.
fn regular(key: &str, path: &Path) -> Result<(), Error> {
    let metadata = std::fs::metadata(path);
    let metadata = metadata.map_err(|error| file_error(key, path, &pem::Error::Io(error), "file"))?;
    if metadata.is_file() {
        Ok(())
    } else {
        Err(Error::Settings(format!("{key} {} is no regular file", path.display())))
    }
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    regular(key, path)?;
    let unreadable = |error| file_error(key, path, &error, "certificate");
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(unreadable(pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    regular("tls.key_file", path)?;
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| file_error("tls.key_file", path, &error, "private key"))
}

fn file_error(key: &str, path: &Path, error: &pem::Error, what: &str) -> Error {
    let path = path.display();
    Error::Settings(match error {
        pem::Error::Io(error) => format!("cannot read {key} {path}: {error}"),
        pem::Error::NoItemsFound => format!("{key} {path} holds no {what} in PEM form"),
        error => format!("{key} {path} is not valid PEM: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn refusal(settings: &TlsSettings) -> String {
        match client_config(settings).expect_err("settings that cannot be used") {
            Error::Settings(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, content: &str| -> Option<PathBuf> {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("a file");
            Some(path)
        };
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(vec!["a.test".to_owned()])
            .and_then(|params| params.self_signed(&key))
            .expect("a certificate");
        let other_key = rcgen::KeyPair::generate().expect("a key");
        let cert_file = file("cert.pem", &certificate.pem());
        let key_file = file("key.pem", &key.serialize_pem());
        let empty = file("empty.pem", "");
        let truncated = file("truncated.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
        let not_x509 = file("odd.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let other_key = file("other.pem", &other_key.serialize_pem());
        let missing = Some(folder.path().join("missing.pem"));
        let none = TlsSettings::default();

        for (settings, words) in [
            (
                TlsSettings { ca_file: missing, ..none.clone() },
                ["tls.ca_file", "missing.pem", "No such file"],
            ),
            (
                TlsSettings { ca_file: empty.clone(), ..none.clone() },
                ["tls.ca_file", "empty.pem", "no certificate"],
            ),
            (
                TlsSettings { ca_file: truncated, ..none.clone() },
                ["tls.ca_file", "truncated.pem", "not valid PEM"],
            ),
            (TlsSettings { ca_file: not_x509, ..none.clone() }, ["tls.ca_file", "odd.pem", "certificate"]),
            (
                TlsSettings { cert_file: cert_file.clone(), insecure: true, ..none.clone() },
                ["tls.cert_file", "needs", "tls.key_file"],
            ),
            (
                TlsSettings { key_file: key_file.clone(), insecure: true, ..none.clone() },
                ["tls.key_file", "needs", "tls.cert_file"],
            ),
            (
                TlsSettings { cert_file: cert_file.clone(), key_file: empty, insecure: true, ..none.clone() },
                ["tls.key_file", "empty.pem", "no private key"],
            ),
            (
                TlsSettings {
                    cert_file: cert_file.clone(),
                    key_file: other_key,
                    insecure: true,
                    ..none.clone()
                },
                ["cert.pem", "other.pem", "cannot be used together"],
            ),
        ] {
            let text = refusal(&settings);
            assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not all in: {text}");
        }
        let settings = TlsSettings { cert_file, key_file, insecure: true, ..none };
        assert!(
            client_config(&settings)
                .expect("a pair that belongs together")
                .client_auth_cert_resolver
                .has_certs()
        );
    }

    #[test]
    fn a_server_name_is_a_name_or_an_address() {
        let named = |name: &str| {
            server_name(&TlsSettings { server_name: Some(name.into()), ..TlsSettings::default() })
        };
        assert!(matches!(named("chat.example.com"), Ok(Some(ServerName::DnsName(_)))));
        assert!(matches!(named("::1"), Ok(Some(ServerName::IpAddress(_)))));
        assert_eq!(
            named("a b").expect_err("a space").to_string(),
            r#"tls.server_name "a b" is neither a host name nor an address"#
        );
    }
}
