//! One HTTP/1.1 request (RFC 9112), with TLS or without, enough to ask a running weir how it is, or to do something.
//! Time and the size of the answer are bounded.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use super::exit::{Exit, Failure};
use super::https::{Connection, Trust};
use super::login::Login;
use crate::base::clock::{self, Instant};
use crate::net::control::socket::connect_to;

/// The longest wait for the whole answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// The base of a running weir's URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    host: String,
    port: u16,
    prefix: String,
    /// What is believed under `https`.
    tls: Option<Trust>,
    login: Login,
    /// The certificate to show under `https`, with its key.
    shown: Option<(PathBuf, PathBuf)>,
    /// The Unix socket to ask on instead of an address.
    socket: Option<PathBuf>,
}

impl Base {
    /// The weir that listens on a control socket.
    pub fn of_socket(path: PathBuf) -> Base {
        let nowhere = crate::config::Listen { host: "localhost".to_owned(), port: 80 };
        Base { socket: Some(path), ..Base::of_listen(&nowhere, None) }
    }

    /// The address as configured; one that means "all addresses" is asked on this machine.
    pub fn of_listen(listen: &crate::config::Listen, tls: Option<Trust>) -> Base {
        let host = match listen.host.as_str() {
            "0.0.0.0" => "127.0.0.1",
            "::" => "::1",
            host => host,
        };
        Base {
            host: host.to_owned(),
            port: listen.port,
            prefix: String::new(),
            tls,
            login: Login::default(),
            shown: None,
            socket: None,
        }
    }

    /// Whether it is asked on its control socket.
    pub(super) fn is_local(&self) -> bool {
        self.socket.is_some()
    }

    /// Asks as somebody.
    #[must_use]
    pub fn as_user(mut self, login: Login) -> Base {
        self.login = login;
        self
    }

    /// Shows a certificate, of which this is the file, and the file of its key.
    ///
    /// # Errors
    /// Without `https`, which alone has certificates.
    pub fn showing(mut self, certificate: PathBuf, key: PathBuf) -> Result<Base, Failure> {
        if self.tls.is_none() {
            return Err(Failure::usage(format!("`--cert` has no effect for {self}: it is not encrypted"))
                .hint("give a URL that begins with https://"));
        }
        self.shown = Some((certificate, key));
        Ok(self)
    }

    /// Believes the authorities whose certificates are in this file.
    ///
    /// # Errors
    /// Without `https`, which alone has certificates.
    pub fn believing(mut self, authorities: PathBuf) -> Result<Base, Failure> {
        if self.tls.is_none() {
            return Err(Failure::usage(format!("`--ca-file` has no effect for {self}: it is not encrypted"))
                .hint("give a URL that begins with https://"));
        }
        self.tls = Some(Trust::Authorities(authorities));
        Ok(self)
    }

    /// What of the URL stands behind the address, without a slash at its end.
    pub(super) fn path(&self) -> &str {
        &self.prefix
    }

    /// The same address with another path, which begins with a slash or is empty.
    #[must_use]
    pub(super) fn at(mut self, path: &str) -> Base {
        path.clone_into(&mut self.prefix);
        self
    }

    /// Parses `http://host:port/prefix` or `https://…`; the scheme may be left out, and a login stand before the host.
    ///
    /// # Errors
    /// A usage failure when it is none.
    pub fn parse(url: &str) -> Result<Base, Failure> {
        // Whatever stands before the last `@` may be a password.
        let without_login = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
        let wrong = |why: &str| {
            Failure::usage(format!("`{without_login}` is not a URL that can be asked: {why}"))
                .hint("write it as `http://127.0.0.1:8080`")
        };
        let mut tls = None;
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", rest)) => {
                tls = Some(Trust::System);
                rest
            }
            Some((scheme, _)) => return Err(wrong(&format!("the scheme `{scheme}` is not supported"))),
            None => url,
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = path.trim_end_matches('/');
        let (login, authority) = match authority.rsplit_once('@') {
            None => (Login::default(), authority),
            Some((userinfo, host)) => (Login::of_userinfo(userinfo).map_err(|why| wrong(&why))?, host),
        };
        if url.chars().any(|c| c.is_control() || c == ' ' || c == '?' || c == '#') || path.contains('@') {
            return Err(wrong("it holds a character that does not belong there"));
        }
        let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let full = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:{}", if tls.is_some() { 443 } else { 80 })
        };
        let listen = crate::config::Listen::parse(&full).map_err(|why| wrong(&why))?;
        Ok(Base {
            host: listen.host,
            port: listen.port,
            prefix: path.to_owned(),
            tls,
            login,
            shown: None,
            socket: None,
        })
    }

    /// The host, an IPv6 address without its brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What is believed, if it is encrypted.
    pub(super) fn trust(&self) -> Option<&Trust> {
        self.tls.as_ref()
    }

    /// The certificate to show, with its key.
    pub(super) fn shown(&self) -> Option<&(PathBuf, PathBuf)> {
        self.shown.as_ref()
    }

    /// The line of the header that says who asks; empty if nobody does.
    pub(super) fn login_line(&self) -> String {
        self.login.header_line()
    }

    /// The value of the header `Host`: with the port where it is not the usual one.
    pub(super) fn host_header(&self) -> String {
        let usual = if self.tls.is_some() { 443 } else { 80 };
        let whole = self.authority();
        let end = format!(":{}", self.port);
        if self.port == usual { whole.trim_end_matches(&end).to_owned() } else { whole }
    }

    /// Asks for a path.
    ///
    /// # Errors
    /// With exit code 69 when nobody answers, or what answers does not speak HTTP.
    pub fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.exchange("GET", path, PATIENCE).map_err(|e| self.unanswered(&e))
    }

    /// Asks that something be done, without a body, and waits for the answer for as long as `patience`.
    ///
    /// # Errors
    /// With exit code 69 when nobody answers in time, or what answers does not speak HTTP.
    pub fn post(&self, path: &str, patience: Duration) -> Result<Answer, Failure> {
        self.exchange("POST", path, patience).map_err(|e| self.unanswered(&e))
    }

    /// Why nobody answers, for people.
    pub(super) fn unanswered(&self, e: &io::Error) -> Failure {
        let why = match e.kind() {
            io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
            _ if e.to_string().contains("InvalidContentType") => "it does not speak TLS".to_owned(),
            _ => e.to_string(),
        };
        let hint = match &self.tls {
            _ if self.socket.is_some() => "without --socket, the weir that runs is found by itself",
            Some(Trust::System) if why.contains("certificate") => {
                "name the authority's certificate in the variable SSL_CERT_FILE"
            }
            Some(_) if why.contains("does not speak TLS") => "write http:// instead of https://",
            _ => "is weir running? give its URL as an argument if it listens elsewhere",
        };
        Failure::new(Exit::UNAVAILABLE, format!("cannot ask {self}: {why}")).hint(hint)
    }

    fn exchange(&self, method: &str, path: &str, patience: Duration) -> io::Result<Answer> {
        let deadline = clock::now() + patience;
        let left = || deadline.saturating_duration_since(clock::now()).max(Duration::from_millis(1));
        let mut stream = self.send(method, path, ("application/json", ""), patience)?;
        let mut raw = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            if clock::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_timeouts(Some(left()))?;
            let n = match stream.read(&mut chunk) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if n == 0 {
                break;
            }
            raw.extend_from_slice(&chunk[..n]);
            if raw.len() as u64 > ANSWER_BYTES_MAX {
                return Err(io::Error::other("the answer is larger than 16MiB"));
            }
        }
        parse_answer(&raw).ok_or_else(|| io::Error::other("the answer is not HTTP"))
    }

    /// Connects; everything up to there, and each read and write after it, is over by `deadline`.
    pub(super) fn connect(&self, deadline: Instant) -> io::Result<Connection> {
        let left = || deadline.saturating_duration_since(clock::now()).max(Duration::from_millis(1));
        if let Some(path) = &self.socket {
            let connection = Connection::Local(connect_to(path)?);
            connection.set_timeouts(Some(left()))?;
            return Ok(connection);
        }
        let mut stream = Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            stream = TcpStream::connect_timeout(&address, left());
            if stream.is_ok() {
                break;
            }
        }
        let socket = stream?;
        socket.set_write_timeout(Some(left()))?;
        socket.set_read_timeout(Some(left()))?;
        Connection::over(socket, &self.host, self.tls.as_ref(), self.shown.as_ref())
    }

    /// Connects and asks for a path; the answer is still to be read. `headers` are lines, each with its `\r\n`.
    pub(super) fn request(
        &self,
        path: &str,
        accept: &str,
        headers: &str,
        patience: Duration,
    ) -> io::Result<Connection> {
        self.send("GET", path, (accept, headers), patience)
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        (accept, headers): (&str, &str),
        patience: Duration,
    ) -> io::Result<Connection> {
        // RFC 9112, section 6.3: of a POST without a body, the length is said.
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        let mut stream = self.connect(clock::now() + patience)?;
        // One write: a request in pieces may find the connection closed halfway.
        let request = format!(
            "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\nUser-Agent: weir/{}\r\n{}{headers}{length}Connection: close\r\n\r\n",
            self.prefix,
            self.authority(),
            env!("CARGO_PKG_VERSION"),
            self.login.header_line()
        );
        stream.write_all(request.as_bytes())?;
        Ok(stream)
    }

    fn authority(&self) -> String {
        crate::config::Listen { host: self.host.clone(), port: self.port }.to_string()
    }
}

/// The URL without a slash at its end.
impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(path) = &self.socket {
            return write!(f, "unix:{}", path.display());
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

/// Splits a whole answer of a closed connection; `None` if it is none or is cut short.
pub fn parse_answer(raw: &[u8]) -> Option<Answer> {
    let head_len = memchr::memmem::find(raw, b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(&raw[..head_len]).ok()?, &raw[head_len + 4..]);
    let mut lines = head.split("\r\n");
    let mut status_line = lines.next()?.split(' ');
    if !status_line.next()?.starts_with("HTTP/1.") {
        return None;
    }
    let status = status_line.next()?.parse().ok()?;
    let header = |name: &str| {
        let mut found = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        found.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let body = match (header("transfer-encoding"), header("content-length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => dechunk(body)?,
        (_, Some(length)) => body.get(..length.parse().ok()?)?.to_vec(),
        _ => body.to_vec(),
    };
    Some(Answer { status, body })
}

/// The body of a chunked message, RFC 9112 section 7.1.
fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_len = memchr::memmem::find(rest, b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line_len]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[line_len + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_parse_and_print() {
        for (url, printed) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("localhost:1/", "http://localhost:1"),
            ("http://[::1]:80/weir/", "http://[::1]:80/weir"),
            ("http://host", "http://host:80"),
            ("https://host", "https://host:443"),
            ("https://[::1]:8080/x/", "https://[::1]:8080/x"),
            ("[::1]", "http://[::1]:80"),
            ("http://ann:secret@host/x", "http://host:80/x"),
        ] {
            assert_eq!(Base::parse(url).unwrap().to_string(), printed);
        }
        for bad in [
            "ftp://x",
            "",
            "http://",
            "http://a b",
            "http://a\r\nb",
            "http://@h",
            "http://:x@h",
            "http://h/a@b",
            "http://h:x",
        ] {
            assert!(Base::parse(bad).is_err(), "{bad}");
        }
        let wrong = Base::parse("http://ann:sec ret@h").unwrap_err();
        assert!(!format!("{wrong:?}").contains("sec"), "a password is never shown");
        let all = crate::config::Listen { host: "0.0.0.0".into(), port: 1 };
        assert_eq!(Base::of_listen(&all, None).to_string(), "http://127.0.0.1:1");
    }

    #[test]
    fn answers_parse() {
        let body =
            |raw: &str| parse_answer(raw.as_bytes()).map(|a| (a.status, String::from_utf8(a.body).unwrap()));
        let some = |status, text: &str| Some((status, text.to_owned()));
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), some(200, "ok"));
        assert_eq!(body("HTTP/1.0 503 x\r\n\r\nno"), some(503, "no"));
        let chunked =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n";
        assert_eq!(body(chunked), some(200, "abc"));
        for cut in 0..chunked.len() - 2 {
            assert_eq!(body(&chunked[..cut]), None, "{cut}");
        }
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"), None);
        assert_eq!(body("SSH-2.0\r\n\r\n"), None);
    }
}
