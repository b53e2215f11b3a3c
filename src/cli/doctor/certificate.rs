//! What a certificate says, for a person.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::cli::text::visible;

/// Most names that are listed.
const NAMES: usize = 6;

/// `certificate for a.example, b.example, issued by C, valid until 2027-01-01 (38 days)`.
pub(super) fn facts(certificate: &CertificateDer<'_>, now: Timestamp) -> String {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return "a certificate that cannot be read".to_owned();
    };
    let mut names = names(&certificate);
    let more = names.len().saturating_sub(NAMES);
    names.truncate(NAMES);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
    let issuer = if certificate.issuer() == certificate.subject() {
        "itself".to_owned()
    } else {
        common_name(certificate.issuer())
    };
    let until = Timestamp::from_second(certificate.validity().not_after.timestamp());
    let valid = until.map_or_else(
        |_| "valid for ever".to_owned(),
        |until| {
            let days = until.duration_since(now).as_hours() / 24;
            format!("valid until {} ({days} days)", until.strftime("%Y-%m-%d"))
        },
    );
    visible(&format!("certificate for {names}, issued by {issuer}, {valid}")).into_owned()
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let listed = alternatives.iter().flat_map(|names| &names.value.general_names);
    let names = listed.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    names.collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::Ipv4Addr::from(bytes).to_string());
    let sixteen = || <[u8; 16]>::try_from(bytes).map(|bytes| std::net::Ipv6Addr::from(bytes).to_string());
    four.or_else(|_| sixteen()).ok()
}

fn common_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    let common = name.iter_common_name().find_map(|part| part.as_str().ok().map(str::to_owned));
    common.unwrap_or_else(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn names_issuer_and_end() {
        let now = "2026-01-01T12:00:00Z".parse().unwrap();
        let mut authority = CertificateParams::new([]).unwrap();
        authority.distinguished_name.push(DnType::CommonName, "An\nAuthority");
        let authority = Issuer::new(authority, KeyPair::generate().unwrap());
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([
            "a.example".to_owned(),
            "*.b.example".to_owned(),
            "127.0.0.1".to_owned(),
        ])
        .unwrap();
        params.not_after = date_time_ymd(2026, 1, 11);
        let signed = params.signed_by(&key, &authority).unwrap();
        assert_eq!(
            facts(signed.der(), now),
            "certificate for a.example, *.b.example, 127.0.0.1, issued by An\\u000aAuthority, valid until 2026-01-11 (9 days)"
        );
        let params = CertificateParams::new((0..9).map(|n| format!("n{n}")).collect::<Vec<_>>()).unwrap();
        let own = facts(params.self_signed(&key).unwrap().der(), now);
        assert!(own.contains("n5, 3 more, issued by itself, valid until"), "{own}");
        assert_eq!(facts(&CertificateDer::from_slice(b"no"), now), "a certificate that cannot be read");
    }
}
