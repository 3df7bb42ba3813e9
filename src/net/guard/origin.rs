//! Keeps web pages out: cross-origin reads are closed unless an origin is configured, and a listener on loopback
//! answers only to names that cannot be somebody else's domain pointed at this machine (DNS rebinding).

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Uri, header};

/// The request's origin, if it is one of `allowed`; `*` allows all.
pub(in crate::net) fn allowed_origin(headers: &HeaderMap, allowed: &[String]) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    allowed
        .iter()
        .any(|a| a == "*" || a.trim_end_matches('/').as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
        .then(|| origin.clone())
}

/// What is wrong with the hosts that a request names: more than one, or, where only this machine can be meant
/// (`loopback`), a foreign name. `Host` and the authority of an absolute target (RFC 9112, section 3.2.2; HTTP/2's
/// `:authority`) both count.
pub(in crate::net) fn check_host(
    headers: &HeaderMap,
    uri: &Uri,
    loopback: bool,
    allowed: &[String],
) -> Result<(), Wrong> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Wrong::TwoHosts);
    }
    if !loopback {
        return Ok(());
    }
    let authority = uri.authority().map(|authority| authority.as_str());
    // A request without a host comes from no browser.
    for host in host.map(|host| host.to_str().unwrap_or("?")).into_iter().chain(authority) {
        let listed = allowed.iter().any(|origin| origin == "*" || host_of(origin) == Some(host));
        if !is_own_name(host) && !listed {
            return Err(Wrong::ForeignHost(host.chars().take(64).collect()));
        }
    }
    Ok(())
}

/// What is wrong with the hosts of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::net) enum Wrong {
    /// `Host` twice: two servers in a row could each believe another one.
    TwoHosts,
    /// A name that is not this machine's.
    ForeignHost(String),
}

/// Whether a page of another origin sends the request, so that it must neither change anything nor hold a stream.
/// Browsers say so by `Sec-Fetch-Site` (Fetch Metadata), older ones by `Origin`; programs say neither. That a person
/// follows a link from another page is no such request.
pub(in crate::net) fn from_foreign_page(headers: &HeaderMap, uri: &Uri, allowed: &[String]) -> bool {
    if allowed_origin(headers, allowed).is_some() || allowed.iter().any(|origin| origin == "*") {
        return false;
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    match text("sec-fetch-site") {
        Some("same-origin" | "none") => false,
        Some(_) => (text("sec-fetch-mode"), text("sec-fetch-dest")) != (Some("navigate"), Some("document")),
        None => text("origin").is_some_and(|origin| {
            let own = text("host").or_else(|| uri.authority().map(|authority| authority.as_str()));
            !matches!((host_of(origin), own), (Some(page), Some(own)) if page.eq_ignore_ascii_case(own))
        }),
    }
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
    fn hosts_of_all_kinds_are_looked_at() {
        let check = |hosts: &[&'static str], uri: &str, loopback: bool| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            let listed = ["https://ops.example.com".to_owned()];
            check_host(&headers, &uri.parse().unwrap(), loopback, &listed)
        };
        let foreign = |name: &str| Err(Wrong::ForeignHost(name.to_owned()));
        assert_eq!(check(&["localhost:80"], "/", true), Ok(()));
        assert_eq!(check(&["ops.example.com"], "/", true), Ok(()));
        assert_eq!(check(&[], "/", true), Ok(()));
        assert_eq!(check(&["evil.example"], "/", true), foreign("evil.example"));
        assert_eq!(check(&["evil.example"], "/", false), Ok(()));
        assert_eq!(check(&["localhost"], "http://evil.example/", true), foreign("evil.example"));
        assert_eq!(check(&[], "https://evil.example/", true), foreign("evil.example"));
        assert_eq!(check(&["localhost", "localhost"], "/", false), Err(Wrong::TwoHosts));
    }

    #[test]
    fn pages_of_other_origins_are_told_from_everything_else() {
        let own = ("host", "weir.example:8080");
        let foreign = |pairs: &[(&'static str, &'static str)], allowed: &[&str]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs.iter().chain([&own]) {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let allowed: Vec<String> = allowed.iter().map(|origin| (*origin).to_owned()).collect();
            from_foreign_page(&headers, &Uri::from_static("/"), &allowed)
        };
        let site = |value| ("sec-fetch-site", value);
        for (pairs, expected) in [
            // curl; the own page, in browsers new and old; the address bar.
            (&[][..], false),
            (&[site("same-origin"), ("origin", "http://proxied.example")], false),
            (&[("origin", "http://weir.example:8080")], false),
            (&[("origin", "https://WEIR.example:8080")], false),
            (&[site("none"), ("sec-fetch-mode", "navigate")], false),
            // A link that a person follows, and the frame that a page makes of it.
            (&[site("cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")], false),
            (&[site("cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")], true),
            // Images and scripts say no origin, fetch and EventSource do.
            (&[site("cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")], true),
            (&[site("cross-site"), ("sec-fetch-mode", "cors"), ("origin", "http://evil.example")], true),
            (&[site("same-site"), ("sec-fetch-mode", "cors"), ("origin", "http://x.weir.example")], true),
            (&[("origin", "http://evil.example")], true),
            (&[("origin", "http://weir.example")], true),
            (&[("origin", "null")], true),
        ] {
            assert_eq!(foreign(pairs, &[]), expected, "{pairs:?}");
            assert!(!foreign(pairs, &["*"]));
        }
        let listed = ("origin", "https://ops.example");
        assert!(!foreign(&[site("cross-site"), listed], &["https://ops.example"]));
        assert!(foreign(&[site("cross-site"), listed], &["https://other.example"]));
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
