//! One request whose answer is watched as it comes: what arrived when, on a connection of its own. HTTP/1 (RFC 9112)
//! is read by hand, because a client library would hide what is looked for: the version, the framing, how a stream
//! ended, and the time of every piece.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::body::{Body, Framing, Got, read};
use crate::base::clock;
use crate::cli::http_get::Base;
use crate::cli::https::Connection;

/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The longest wait for a connection and its handshake.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    /// As in "HTTP/1.1".
    pub(super) version: String,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    /// From the request to the end of the head.
    pub(super) after: Duration,
}

/// An answer of which the head is there.
pub(super) struct Response {
    pub(super) head: Head,
    pub(super) body: Body,
}

impl Head {
    /// A header's value; the first if there are several.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether a list in a header has this word.
    pub(super) fn lists(&self, name: &str, word: &str) -> bool {
        self.header(name).is_some_and(|value| {
            let words = value.split([',', ';']).map(str::trim);
            words.into_iter().any(|w| w.eq_ignore_ascii_case(word))
        })
    }
}

/// Connects to an address and makes the handshake, if there is one.
pub(super) fn connect(base: &Base, address: SocketAddr) -> io::Result<Connection> {
    let socket = TcpStream::connect_timeout(&address, CONNECT_MAX)?;
    socket.set_read_timeout(Some(CONNECT_MAX))?;
    socket.set_write_timeout(Some(CONNECT_MAX))?;
    socket.set_nodelay(true)?;
    Connection::over(socket, base.host(), base.trust(), base.shown())
}

/// Asks for `target`, a path with its query, and waits up to `patience` for the head of the answer.
pub(super) fn ask(
    base: &Base,
    address: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
    patience: Duration,
) -> io::Result<Response> {
    let mut connection = connect(base, address)?;
    let own: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: weir-doctor/{}\r\n{}{own}\r\n",
        base.host_header(),
        env!("CARGO_PKG_VERSION"),
        base.login_line()
    );
    connection.write_all(request.as_bytes())?;
    let asked = clock::now();
    let deadline = asked + patience;
    let mut raw = Vec::new();
    loop {
        if let Some(end) = memchr::memmem::find(&raw, b"\r\n\r\n") {
            let rest = raw.split_off(end + 4);
            let head = String::from_utf8_lossy(&raw).into_owned();
            return parse(&head, rest, connection, clock::now() - asked).ok_or_else(not_http);
        }
        if raw.len() > HEAD_BYTES_MAX {
            return Err(not_http());
        }
        match read(&mut connection, deadline, &mut raw)? {
            Got::Bytes => {}
            Got::Nothing => return Err(io::ErrorKind::TimedOut.into()),
            Got::End if raw.is_empty() => {
                return Err(io::Error::other("the connection was closed without an answer"));
            }
            Got::End => return Err(not_http()),
        }
    }
}

fn not_http() -> io::Error {
    io::Error::other("the answer is not HTTP/1")
}

fn parse(head: &str, raw: Vec<u8>, connection: Connection, after: Duration) -> Option<Response> {
    let mut lines = head.trim_end().split("\r\n");
    let mut status_line = lines.next()?.splitn(3, ' ');
    let version = status_line.next().filter(|version| version.starts_with("HTTP/1."))?.to_owned();
    let status = status_line.next()?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers: Vec<_> = headers.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect();
    let head = Head { version, status, headers, after };
    let framing = if head.lists("transfer-encoding", "chunked") {
        Framing::Chunked(0)
    } else {
        let length = head.header("content-length").and_then(|length| length.parse().ok());
        length.map_or(Framing::Close, Framing::Length)
    };
    let body = Body::new(connection, framing, head.lists("content-encoding", "gzip"), raw);
    Some(Response { head, body })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::cli::doctor::body::{ENDED, Piece};

    /// A server that answers every connection with these bytes, one piece at a time.
    fn server(pieces: &[&[u8]]) -> (Base, SocketAddr) {
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _n = socket.read(&mut request).unwrap();
            for piece in pieces {
                socket.write_all(&piece).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        (Base::parse(&format!("http://{address}")).unwrap(), address)
    }

    fn body(pieces: &[&[u8]]) -> (String, bool) {
        let (base, address) = server(pieces);
        let mut response = ask(&base, address, "/", &[], Duration::from_secs(5)).unwrap();
        let mut all = Vec::new();
        loop {
            match response.body.next(clock::now() + Duration::from_secs(5)) {
                Piece::Data(data) => all.extend(data),
                Piece::Quiet => panic!("nothing came"),
                Piece::End(why) => return (String::from_utf8(all).unwrap(), why == ENDED),
            }
        }
    }

    #[test]
    fn bodies_are_read_in_any_pieces() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            body(&[chunked, b"3\r\nabc\r\n", b"2;x=y\r", b"\nde", b"\r", b"\n0\r\n\r\n"]),
            ("abcde".into(), true)
        );
        assert_eq!(body(&[chunked, b"3\r\nabc\r\n5\r\nx"]), ("abcx".into(), false));
        assert_eq!(body(&[chunked, b"zz\r\nabc\r\n"]), (String::new(), false));
        assert_eq!(body(&[b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", b"c"]), ("abc".into(), true));
        assert_eq!(body(&[b"HTTP/1.0 200 OK\r\n\r\nab", b"c"]), ("abc".into(), false));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for pieces in [&[&b"SSH-2.0\r\n\r\n"[..]][..], &[&b"HTTP/1.1 200"[..]], &[]] {
            let (base, address) = server(pieces);
            assert!(ask(&base, address, "/", &[], Duration::from_secs(5)).is_err());
        }
    }
}
