//! One request whose answer is watched as it comes: what arrived when, on a connection of its own. HTTP/1 (RFC 9112)
//! is read by hand, because a client library would hide what is looked for: the version, the framing, how a stream
//! ended, and the time of every piece.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use flate2::write::MultiGzDecoder;

use crate::base::clock::{self, Instant};
use crate::cli::http_get::Base;
use crate::cli::https::Connection;

/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The longest wait for a connection and its handshake.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Most bytes that are unpacked from one piece.
const UNPACKED_BYTES_MAX: usize = 16 << 20;

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

/// What ends a body as its framing says.
const ENDED: &str = "the answer has ended";

/// An answer of which the head is there.
pub(super) struct Response {
    pub(super) head: Head,
    pub(super) body: Body,
}

/// What comes next of a body.
pub(super) enum Piece {
    /// Bytes, unpacked.
    Data(Vec<u8>),
    /// Nothing until the deadline.
    Quiet,
    /// It has ended, as it should or not.
    End(String),
}

/// A body as it comes.
pub(super) struct Body {
    connection: Connection,
    framing: Framing,
    /// Read, and not yet looked at.
    raw: Vec<u8>,
    gzip: Option<MultiGzDecoder<Vec<u8>>>,
}

enum Framing {
    /// Until the connection ends.
    Close,
    /// So many bytes are left.
    Length(u64),
    /// Chunks (RFC 9112, 7.1); so many bytes are left of this one.
    Chunked(u64),
    Done,
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
    let body = Body { connection, framing: Framing::Close, raw, gzip: None };
    let mut response = Response { head: Head { version, status, headers, after }, body };
    response.body.framing = if response.head.lists("transfer-encoding", "chunked") {
        Framing::Chunked(0)
    } else {
        let length = response.head.header("content-length").and_then(|length| length.parse().ok());
        length.map_or(Framing::Close, Framing::Length)
    };
    if response.head.lists("content-encoding", "gzip") {
        response.body.gzip = Some(MultiGzDecoder::new(Vec::new()));
    }
    Some(response)
}

enum Got {
    Bytes,
    Nothing,
    End,
}

fn read(connection: &mut Connection, deadline: Instant, into: &mut Vec<u8>) -> io::Result<Got> {
    let left = deadline.saturating_duration_since(clock::now());
    if left.is_zero() {
        return Ok(Got::Nothing);
    }
    connection.set_timeouts(Some(left))?;
    let mut chunk = [0; 16 << 10];
    match connection.read(&mut chunk) {
        Ok(0) => Ok(Got::End),
        Ok(n) => {
            into.extend_from_slice(&chunk[..n]);
            Ok(Got::Bytes)
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(Got::Nothing),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Got::Bytes),
        // Without the TLS farewell, as many servers end.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(Got::End),
        Err(e) => Err(e),
    }
}

impl Body {
    /// The next piece, as soon as there is one.
    pub(super) fn next(&mut self, deadline: Instant) -> Piece {
        loop {
            let data = match self.framed() {
                Ok(data) => data,
                Err(why) => return Piece::End(why),
            };
            if !data.is_empty() {
                return match self.unpacked(data) {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => Piece::Data(data),
                    Err(why) => Piece::End(why),
                };
            }
            if matches!(self.framing, Framing::Done | Framing::Length(0)) {
                return Piece::End(ENDED.to_owned());
            }
            match read(&mut self.connection, deadline, &mut self.raw) {
                Ok(Got::Bytes) => {}
                Ok(Got::Nothing) => return Piece::Quiet,
                Ok(Got::End) => return Piece::End("the connection was closed".to_owned()),
                Err(e) => return Piece::End(e.to_string()),
            }
        }
    }

    /// All of a body that ends, at most so many bytes of it.
    pub(super) fn all(&mut self, bytes_max: usize, deadline: Instant) -> Vec<u8> {
        let mut all = Vec::new();
        while let Piece::Data(data) = self.next(deadline) {
            all.extend(data);
            if all.len() > bytes_max {
                break;
            }
        }
        all
    }

    /// What is there of the body itself.
    fn framed(&mut self) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        loop {
            match &mut self.framing {
                Framing::Close => out.append(&mut self.raw),
                Framing::Done => self.raw.clear(),
                Framing::Length(left) => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(self.raw.len());
                    out.extend(self.raw.drain(..take));
                    *left -= take as u64;
                }
                Framing::Chunked(left @ 1..) => {
                    // The last two bytes of a chunk are its line break.
                    let data =
                        usize::try_from(left.saturating_sub(2)).unwrap_or(usize::MAX).min(self.raw.len());
                    out.extend(self.raw.drain(..data));
                    *left -= data as u64;
                    let end = usize::try_from((*left).min(2)).unwrap_or(2).min(self.raw.len());
                    if *left <= 2 {
                        self.raw.drain(..end);
                        *left -= end as u64;
                        if *left == 0 {
                            continue;
                        }
                    }
                }
                Framing::Chunked(left) => {
                    let Some(end) = memchr::memmem::find(&self.raw, b"\r\n") else {
                        return if self.raw.len() > 1024 {
                            Err("a chunk is broken".to_owned())
                        } else {
                            Ok(out)
                        };
                    };
                    let line = String::from_utf8_lossy(&self.raw[..end]).into_owned();
                    self.raw.drain(..end + 2);
                    let size = line.split(';').next().unwrap_or_default().trim();
                    let size = u64::from_str_radix(size, 16).map_err(|_| "a chunk is broken".to_owned())?;
                    match size {
                        0 => self.framing = Framing::Done,
                        size => *left = size.saturating_add(2),
                    }
                    continue;
                }
            }
            return Ok(out);
        }
    }

    fn unpacked(&mut self, data: Vec<u8>) -> Result<Vec<u8>, String> {
        let Some(gzip) = &mut self.gzip else { return Ok(data) };
        gzip.write_all(&data).map_err(|e| format!("it is not gzip: {e}"))?;
        gzip.flush().map_err(|e| format!("it is not gzip: {e}"))?;
        let out = std::mem::take(gzip.get_mut());
        if out.len() > UNPACKED_BYTES_MAX {
            return Err("unpacked, it is larger than 16MiB".to_owned());
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

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
