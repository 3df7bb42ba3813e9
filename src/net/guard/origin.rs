//! Keeps web pages out: cross-origin reads are closed unless an origin is configured, and a listener on loopback
//! answers only to names that cannot be somebody else's domain pointed at this machine (DNS rebinding).

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};

use crate::net::listener::Server;
use crate::net::problem::Problem;

/// The request's origin, if it is one of `allowed`; `*` allows all.
pub(in crate::net) fn allowed_origin(headers: &HeaderMap, allowed: &[String]) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    allowed
        .iter()
        .any(|a| a == "*" || a.trim_end_matches('/').as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
        .then(|| origin.clone())
}

/// Refuses a request whose host is a foreign name on a loopback listener.
pub(in crate::net) fn check_host<B>(request: &Request<B>, server: &Server) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Problem::bad_request("more than one host header"));
    }
    if !server.loopback {
        return Ok(());
    }
    // A request without a host comes from no browser.
    let Some(host) = host else { return Ok(()) };
    let host = host.to_str().unwrap_or("?");
    if is_own_name(host)
        || server.policy.cors_origins.iter().any(|origin| origin == "*" || host_of(origin) == Some(host))
    {
        return Ok(());
    }
    let shown: String = host.chars().take(64).collect();
    Err(Problem::new(StatusCode::FORBIDDEN, format!("foreign host: `{shown}` is not a name of this machine"))
        .hint("use 127.0.0.1 or localhost, or add the origin to `server.cors_origins`"))
}

/// Whether `host` (with or without a port) cannot be a domain of a stranger: an address, `localhost`, or a name
/// without a dot, which nobody can register.
fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok() || name.ends_with(".localhost") || !name.contains('.')
}

/// The host and port of an origin.
fn host_of(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, rest)| rest.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_are_told_from_own_ones() {
        for own in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:80",
            "[::1]:8080",
            "[::1]",
            "LOCALHOST",
            "a.localhost",
            "weir:80",
        ] {
            assert!(is_own_name(own), "{own}");
        }
        for foreign in
            ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example:80"]
        {
            assert!(!is_own_name(foreign), "{foreign}");
        }
        assert_eq!(host_of("https://ops.example.com:8443/"), Some("ops.example.com:8443"));
    }

    #[test]
    fn origins_are_closed_unless_listed() {
        let mut headers = HeaderMap::new();
        assert_eq!(allowed_origin(&headers, &["http://a".into()]), None);
        headers.insert(header::ORIGIN, HeaderValue::from_static("http://a"));
        assert!(allowed_origin(&headers, &["http://a/".into()]).is_some());
        assert_eq!(allowed_origin(&headers, &["http://b".into()]), None);
        assert_eq!(allowed_origin(&headers, &[]), None);
        assert!(allowed_origin(&headers, &["*".into()]).is_some());
    }
}
