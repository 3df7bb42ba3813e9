//! Credentials as requests carry them: HTTP Basic (RFC 7617), Bearer (RFC 6750) and the ticket in a query string.
//! Nothing here prints one.

use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, header};

use crate::net::query_string;

/// The query parameter that carries a ticket.
pub const TICKET_PARAMETER: &str = "ticket";

/// Longer credentials are wrong: no password is a book.
const CREDENTIALS_BYTES_MAX: usize = 4096;

/// Padding is left out by some clients.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a request says of its sender.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Vec<u8>,
    },
    /// A token.
    Bearer(Vec<u8>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Credentials {
    /// Bytes that differ whenever the credentials do, for a key in a cache.
    pub(super) fn canonical(&self) -> Vec<u8> {
        match self {
            // A user's name holds no colon.
            Credentials::Basic { user, password } => [b"basic:", user.as_bytes(), b":", password].concat(),
            Credentials::Bearer(token) => [b"bearer:", token.as_slice()].concat(),
        }
    }
}

/// What the headers carry: nothing, something that makes no sense, or credentials.
pub fn of_headers(headers: &HeaderMap) -> Option<Result<Credentials, ()>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?;
    // Two would let what stands before us and us each believe another one.
    if values.next().is_some() {
        return Some(Err(()));
    }
    Some(parse(value.as_bytes()).ok_or(()))
}

fn parse(value: &[u8]) -> Option<Credentials> {
    if value.len() > CREDENTIALS_BYTES_MAX {
        return None;
    }
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = value.split_at(space);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") && !rest.is_empty() && !rest.contains(&b' ') {
        return Some(Credentials::Bearer(rest.to_vec()));
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = BASE64.decode(rest).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(pair[..colon].to_vec()).ok()?;
    Some(Credentials::Basic { user, password: pair[colon + 1..].to_vec() })
}

/// The ticket in a query string, if there is exactly one.
pub fn ticket(query: Option<&str>) -> Option<String> {
    let pairs = query_string::pairs(query?).ok()?;
    let mut tickets = pairs.into_iter().filter(|(name, _)| name == TICKET_PARAMETER).map(|(_, value)| value);
    let ticket = tickets.next()?;
    tickets.next().is_none().then_some(ticket)
}

/// A query string without its ticket, for what reads the other parameters.
pub fn without_ticket(query: &str) -> String {
    let is_ticket = |part: &&str| part.split('=').next() == Some(TICKET_PARAMETER);
    query.split('&').filter(|part| !is_ticket(part)).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn headers_are_read_strictly() {
        let basic = |user: &str, password: &str| {
            Some(Ok(Credentials::Basic { user: user.into(), password: password.into() }))
        };
        for (value, read) in [
            ("Basic YWxpY2U6c2VjcmV0", basic("alice", "secret")),
            ("basic YWxpY2U6c2VjcmV0", basic("alice", "secret")),
            ("Basic YTpiOmM=", basic("a", "b:c")),
            ("Basic YTpiOmM", basic("a", "b:c")),
            ("Basic Og==", basic("", "")),
            ("Bearer abc.def-123", Some(Ok(Credentials::Bearer(b"abc.def-123".to_vec())))),
            ("Bearer a b", Some(Err(()))),
            ("Bearer ", Some(Err(()))),
            ("Bearer", Some(Err(()))),
            ("Basic YWxpY2U", Some(Err(()))),
            ("Basic !!!", Some(Err(()))),
            ("Basic /zpi", Some(Err(()))),
            ("Digest username=x", Some(Err(()))),
            ("", Some(Err(()))),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            assert!(of_headers(&headers) == read, "{value}");
        }
        assert!(of_headers(&HeaderMap::new()).is_none());
        let mut twice = HeaderMap::new();
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert!(of_headers(&twice) == Some(Err(())));
        let long = HeaderValue::from_str(&format!("Bearer {}", "x".repeat(5000))).unwrap();
        assert!(of_headers(&HeaderMap::from_iter([(header::AUTHORIZATION, long)])) == Some(Err(())));
    }

    #[test]
    fn tickets_are_taken_out_of_the_query() {
        assert_eq!(ticket(Some("tail=5&ticket=a%2Bb")).as_deref(), Some("a+b"));
        for none in [None, Some(""), Some("tail=5"), Some("ticket=a&ticket=b"), Some("ticket=%zz")] {
            assert_eq!(ticket(none), None, "{none:?}");
        }
        assert_eq!(without_ticket("a=1&ticket=x&b=2&ticket"), "a=1&b=2");
        assert_eq!(without_ticket("ticket=x"), "");
        assert_eq!(format!("{:?}", Credentials::Bearer(b"hunter2".to_vec())), "***");
    }
}
