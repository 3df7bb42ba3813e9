//! What a certificate (RFC 5280) says: whose it is, and how long it holds.

use std::sync::Arc;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Days before the end of a certificate from which on its listener says so when it loads it.
const RENEW_DAYS: i64 = 14;
const DAY_SECONDS: i64 = 86_400;
/// The longest name that is taken over: it becomes a field of every event and a label.
const NAME_BYTES_MAX: usize = 256;

/// The name in a certificate: the first DNS name among its alternative names, else the first URI or e-mail
/// address, else the common name. `None` where it has none, or one with control characters.
pub fn name(der: &[u8]) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.map(|found| found.value.general_names.as_slice()).unwrap_or_default();
    let dns = alternatives.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    let other = || {
        alternatives.iter().find_map(|name| match name {
            GeneralName::URI(name) | GeneralName::RFC822Name(name) => Some(*name),
            _ => None,
        })
    };
    let common = || certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
    let name = dns.or_else(other).or_else(common)?;
    let sound = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    sound.then(|| name.into())
}

/// What is to be said of a certificate's time, at `now` in seconds since the Unix epoch: that it has expired, is
/// not valid yet, or ends soon. `None` when all is well, or when it cannot be read.
pub fn timing(der: &[u8], now: i64) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let left = until - now;
    if left < 0 {
        Some(format!("it expired on {}, and clients will refuse it", day(until)))
    } else if now < from {
        Some(format!("it is not valid before {}, and clients will refuse it until then", day(from)))
    } else if left < RENEW_DAYS * DAY_SECONDS {
        Some(format!("it expires on {}", day(until)))
    } else {
        None
    }
}

/// Until when a certificate holds, as a day; a question mark where that cannot be read.
pub fn valid_until(der: &[u8]) -> String {
    let parsed = X509Certificate::from_der(der).ok();
    parsed.map_or_else(|| "?".to_owned(), |(_, c)| day(c.validity().not_after.timestamp()))
}

fn day(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |t| t.strftime("%F").to_string())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn made(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_name_is_dns_then_uri_or_mail_then_common() {
        let dns = || SanType::DnsName("a.example".try_into().unwrap());
        let uri = || SanType::URI("spiffe://x/y".try_into().unwrap());
        let mail = || SanType::Rfc822Name("ops@example".try_into().unwrap());
        let address = SanType::IpAddress("10.0.0.1".parse().unwrap());
        for (names, common, expected) in [
            (vec![uri(), dns()], Some("cn"), Some("a.example")),
            (vec![mail(), uri()], Some("cn"), Some("ops@example")),
            (vec![address], Some("cn"), Some("cn")),
            (vec![], Some("bad\nname"), None),
            (vec![], None, None),
        ] {
            let der = made(|params| {
                params.subject_alt_names = names;
                if let Some(common) = common {
                    params.distinguished_name.push(DnType::CommonName, common);
                }
            });
            assert_eq!(name(&der).as_deref(), expected);
        }
        assert_eq!(name(b"no certificate"), None);
    }

    #[test]
    fn the_time_of_a_certificate() {
        let der = made(|params| {
            params.not_before = rcgen::date_time_ymd(2030, 1, 1);
            params.not_after = rcgen::date_time_ymd(2030, 3, 1);
        });
        let at = |day: &str| {
            timing(&der, format!("{day}T00:00:00Z").parse::<jiff::Timestamp>().unwrap().as_second())
        };
        assert_eq!(at("2030-02-01"), None);
        assert_eq!(at("2030-02-20").unwrap(), "it expires on 2030-03-01");
        assert!(at("2030-03-02").unwrap().starts_with("it expired on 2030-03-01"));
        assert!(at("2029-12-31").unwrap().starts_with("it is not valid before 2030-01-01"));
        assert_eq!(valid_until(&der), "2030-03-01");
    }
}
