//! What of the settings a server or a proxy is told and nobody else may see.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, HeaderValue};

use super::Settings;
use super::proxy::Proxy;
use super::request::encode;
use crate::secret::{Secrets, is_secret_name};

impl Settings {
    /// Values of headers, secret values of the query, and the password for the proxy on the way, which the environment may
    /// have named.
    pub(super) fn secrets(&self, proxy: Option<&Proxy>) -> Secrets {
        let mut secrets = Secrets::default();
        for (name, value) in &self.headers {
            add_header(&mut secrets, name, value);
        }
        for (_, value) in self.query.iter().filter(|(name, _)| is_secret_name(name)) {
            secrets.add(value);
            secrets.add(&encode(value));
        }
        if let Some(credentials) = proxy.and_then(|proxy| proxy.credentials.as_ref()) {
            secrets.add(&String::from_utf8_lossy(&credentials.password));
            if let Some(value) = credentials.basic() {
                add_header(&mut secrets, &http::header::PROXY_AUTHORIZATION, &value);
            }
        }
        secrets
    }
}

fn add_header(secrets: &mut Secrets, name: &HeaderName, value: &HeaderValue) {
    let value = String::from_utf8_lossy(value.as_bytes());
    secrets.add(&value);
    if is_secret_name(name.as_str()) {
        // `Bearer TOKEN`, `sid=TOKEN; other=…`
        value.split([' ', ';', ',', '=']).for_each(|part| secrets.add(part));
        if let Some(pair) = value.strip_prefix("Basic ")
            && let Ok(pair) = BASE64_STANDARD.decode(pair)
        {
            secrets.add(pair_password(&String::from_utf8_lossy(&pair)));
        }
    }
}

fn pair_password(pair: &str) -> &str {
    pair.split_once(':').map_or(pair, |(_, password)| password)
}
