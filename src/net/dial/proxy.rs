//! An HTTP proxy that is asked to CONNECT (RFC 9110, 9.3.6). It is named in the configuration; the variables
//! `http_proxy`, `all_proxy` and `no_proxy` are not looked at, so that where logs go is written in one place.

use std::fmt;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Endpoint;
use crate::config::{Environment, Secret};

/// The most bytes of a proxy's answer.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// A proxy's URL, `http://user:password@host:port`, which is a secret if it holds a password.
#[derive(Debug, Clone)]
pub struct Proxy {
    url: Secret,
}

/// What a proxy's URL says.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    /// `user:password` in base64.
    credentials: Option<String>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.endpoint)
    }
}

impl Proxy {
    /// A proxy as configured. Its URL is read at each dial, since the file that holds it may change.
    pub fn new(url: Secret) -> Proxy {
        Proxy { url }
    }

    /// Checks a URL, without I/O.
    ///
    /// # Errors
    /// What is wrong with it, without the text of it.
    pub fn check(url: &str) -> Result<(), String> {
        parse(url).map(|_| ())
    }

    /// Asks the proxy, at the other end of `stream`, for a tunnel to `to`. Reads not a byte more than its answer.
    /// Blocks on the file that holds the URL, if one does.
    ///
    /// # Errors
    /// When the URL cannot be used, the connection fails, or the proxy refuses: why, without control characters.
    pub async fn tunnel<S>(&self, stream: &mut S, to: &Endpoint) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.target()?.open(stream, to).await
    }

    /// Whom to ask. Reads the file that holds the URL, blocking.
    pub(super) fn target(&self) -> io::Result<Target> {
        let url = self.url.resolve(&Environment::from_process());
        url.and_then(|text| parse(text.expose())).map_err(|why| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("cannot use the proxy: {why}"))
        })
    }
}

fn parse(url: &str) -> Result<Target, String> {
    let shape = "expected \"http://host:port\" or \"http://user:password@host:port\"";
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest.trim_end_matches('/'),
        Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            return Err(format!("proxies are reached by http, not by {scheme}: {shape}"));
        }
        _ => return Err(format!("not a URL: {shape}")),
    };
    let (user, address) = match rest.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, rest),
    };
    let endpoint = Endpoint::parse(address).map_err(|why| format!("{why}; {shape}"))?;
    let credentials = match user {
        Some(user) => {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let mut plain = decoded(name).ok_or_else(|| format!("a wrong %-escape: {shape}"))?;
            plain.push(b':');
            plain.extend(decoded(password).ok_or_else(|| format!("a wrong %-escape: {shape}"))?);
            Some(STANDARD.encode(plain))
        }
        None => None,
    };
    Ok(Target { endpoint, credentials })
}

/// Text with `%40` and the like.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

impl Target {
    /// Asks the proxy, at the other end of `stream`, for a tunnel to `to`. Reads not a byte more than its answer.
    pub(super) async fn open<S>(&self, stream: &mut S, to: &Endpoint) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let proxy = &self.endpoint;
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if let Some(credentials) = &self.credentials {
            request.push_str(&format!("Proxy-Authorization: Basic {credentials}\r\n"));
        }
        request.push_str("\r\n");
        let failed = |why: &str| {
            io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("the proxy {proxy} opens no tunnel to {to}: {why}"),
            )
        };
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= HEAD_BYTES_MAX {
                return Err(failed("its answer does not end"));
            }
            // One byte at a time: what follows the head belongs to whoever is behind the proxy.
            head.push(stream.read_u8().await.map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => failed("it closed the connection"),
                _ => e,
            })?);
        }
        let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).unwrap_or_default();
        match status {
            s if s.starts_with('2') => Ok(()),
            "407" => Err(failed(
                "it wants a user and a password; hint: proxy = \"http://user:password@host:port\"",
            )),
            _ => Err(failed(&line.chars().filter(|c| !c.is_control()).take(120).collect::<String>())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_never_shown() {
        let target = parse("http://us%40er:p%3Ass@proxy.example:3128/").unwrap();
        assert_eq!(target.endpoint.to_string(), "proxy.example:3128");
        assert_eq!(STANDARD.decode(target.credentials.as_ref().unwrap()).unwrap(), b"us@er:p:ss");
        assert!(!format!("{target:?}").contains("p:ss"));
        for bad in
            ["", "proxy:3128", "https://proxy:1", "http://proxy", "http://us%4:x@proxy:1", "socks5://p:1"]
        {
            let why = parse(bad).unwrap_err();
            assert!(why.contains("expected"), "{bad}: {why}");
        }
        assert_eq!(parse("http://[::1]:3128").unwrap().endpoint, Endpoint::new("::1", 3128));
    }

    async fn ask(answer: &[u8]) -> (io::Result<()>, String, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(answer).await.unwrap();
        let target = parse("http://user:pass@proxy:3128").unwrap();
        let opened = target.open(&mut ours, &Endpoint::new("logs", 6514)).await;
        let mut request = vec![0; 4096];
        let n = theirs.read(&mut request).await.unwrap();
        request.truncate(n);
        drop(theirs);
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        (opened, String::from_utf8(request).unwrap(), rest)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_and_what_follows_is_left() {
        let (opened, request, rest) = ask(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\nhello").await;
        opened.unwrap();
        assert_eq!(rest, b"hello");
        let expected = "CONNECT logs:6514 HTTP/1.1\r\nHost: logs:6514\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n";
        assert_eq!(request, expected);
    }

    #[tokio::test]
    async fn refusals_say_why() {
        for (answer, why) in [
            (&b"HTTP/1.1 407 Auth\r\n\r\n"[..], "wants a user"),
            (b"HTTP/1.1 503 No\x1b[2J way\r\n\r\n", "HTTP/1.1 503 No[2J way"),
            (b"SSH-2.0-x\r\n\r\n", "SSH-2.0-x"),
        ] {
            let error = ask(answer).await.0.unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("the proxy proxy:3128"), "{error}");
            assert!(!error.contains('\x1b'));
        }
        let endless = vec![b'x'; HEAD_BYTES_MAX + 1];
        let (mut ours, mut theirs) = tokio::io::duplex(HEAD_BYTES_MAX * 2);
        theirs.write_all(&endless).await.unwrap();
        let target = parse("http://proxy:3128").unwrap();
        assert!(
            target
                .open(&mut ours, &Endpoint::new("logs", 1))
                .await
                .unwrap_err()
                .to_string()
                .contains("does not end")
        );
    }
}
