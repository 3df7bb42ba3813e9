//! Where requests go: an `http://` or `https://` URL, taken apart once. A URL that holds a password is refused, so
//! that none is ever shown with an address.

use std::fmt;
use std::sync::Arc;

use http::uri::{Authority, PathAndQuery, Scheme, Uri};

use crate::net::dial::Endpoint;

/// A URL that requests are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whom to connect to. Over TLS the certificate must be for the host, unless it is set otherwise.
    pub endpoint: Endpoint,
    /// The whole URL.
    pub uri: Uri,
    /// The path and the query alone.
    pub path: Uri,
    /// As it was written, for messages.
    text: Arc<str>,
}

/// Why a text is no such URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UrlError {
    /// What is wrong, without the text itself.
    pub why: &'static str,
    /// The text may hold a password.
    pub secret: bool,
}

impl Target {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Target, UrlError> {
        let wrong = |why| UrlError { why, secret: text.contains('@') };
        let uri: Uri = text.parse().map_err(|_| wrong("it is not a URL"))?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(_) => return Err(wrong("only http:// and https:// are spoken")),
            None => return Err(wrong("it needs http:// or https:// in front")),
        };
        let authority = uri.authority().map_or("", Authority::as_str);
        if authority.contains('@') {
            return Err(wrong("it holds a user or a password"));
        }
        let host = uri.host().unwrap_or_default();
        let port = match authority.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) {
            Some(port) => port.parse().unwrap_or(0),
            None if secure => 443,
            None => 80,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || port == 0 {
            return Err(wrong("it needs a host, and a port from 1 to 65535"));
        }
        let endpoint = Endpoint::new(host, port);
        let endpoint = if secure { endpoint.with_tls(None) } else { endpoint };
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        // `http://host?query` has a path, too, which is not written.
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let path = path.parse().map_err(|_| wrong("its path is not one"))?;
        Ok(Target { endpoint, uri, path, text: text.into() })
    }

    /// Another path (and query) at the same place.
    ///
    /// # Errors
    /// When it is none: it begins with `/`.
    pub fn at(&self, path: &str) -> Result<Target, UrlError> {
        if !path.starts_with('/') {
            return Err(UrlError { why: "a path begins with /", secret: false });
        }
        let scheme = self.uri.scheme_str().unwrap_or("http");
        let other = Target::parse(&format!("{scheme}://{}{path}", self.host()))?;
        Ok(Target { endpoint: self.endpoint.clone(), ..other })
    }

    /// The value of the `host` header.
    pub fn host(&self) -> &str {
        self.uri.authority().map_or("", Authority::as_str)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::parse("http://logs.example.com/in/v1?x=a%20b").unwrap();
        assert_eq!(target.endpoint, Endpoint::new("logs.example.com", 80));
        assert_eq!(
            (target.host(), target.path.to_string()),
            ("logs.example.com", "/in/v1?x=a%20b".to_owned())
        );
        let target = Target::parse("https://[::1]:8443").unwrap();
        assert_eq!(target.endpoint, Endpoint::new("::1", 8443).with_tls(None));
        assert_eq!((target.host(), target.path.to_string()), ("[::1]:8443", "/".to_owned()));
        assert_eq!(target.to_string(), "https://[::1]:8443");
        assert_eq!(target.at("/healthz").unwrap().to_string(), "https://[::1]:8443/healthz");
        let asking = Target::parse("http://h?a=/b").unwrap();
        assert_eq!(asking.path, "/?a=/b");
        assert_eq!(asking.at("/healthz?x").unwrap().to_string(), "http://h/healthz?x");
        assert!(asking.at("healthz").is_err());
        // Found by fuzzing: a fragment right after the host.
        let fragment = Target::parse("http://h#x").unwrap();
        assert_eq!(fragment.at("/healthz").unwrap().path, "/healthz");
    }

    #[test]
    fn what_is_no_url_is_refused_and_passwords_are_noticed() {
        for (bad, secret) in [
            ("", false),
            ("logs.example.com", false),
            ("ftp://x/", false),
            ("http://", false),
            ("http://x:0/", false),
            ("http://x:99999/", false),
            ("http:///path", false),
            ("http://a b/", false),
            ("http://us:er@x/", true),
            ("http://us:p a@x/", true),
        ] {
            let error = Target::parse(bad).unwrap_err();
            assert_eq!(error.secret, secret, "{bad}: {error:?}");
        }
    }
}
