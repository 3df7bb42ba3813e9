//! Heads of requests and responses (RFC 9112): the start line and the few fields that tell where the message ends
//! and whom it is for. No other field is kept, above all not `Authorization` and `Cookie`.

use crate::trace::event::TraceContext;

/// Longest path or query that is kept.
const TARGET_MAX: usize = 2048;
/// Longest host that is kept.
const HOST_MAX: usize = 255;

/// How long the body is, as far as the head alone tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Neither `Content-Length` nor `Transfer-Encoding`.
    Unsaid,
    /// This many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Encoded in another way, or said in two ways that differ: nobody knows.
    Unknown,
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// `GET`.
    pub method: Box<str>,
    /// The path without the query; `*` or an authority where the method has no path.
    pub path: Box<str>,
    /// The query, without `?`.
    pub query: Option<Box<str>>,
    /// `Host`, or the authority of an absolute target.
    pub host: Option<Box<str>>,
    /// From `traceparent`, if that is valid.
    pub trace: Option<TraceContext>,
    /// Where the body ends.
    pub framing: Framing,
}

/// The head of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHead {
    /// 100 to 999.
    pub status: u16,
    /// Where the body ends, unless the status or the request's method says that there is none.
    pub framing: Framing,
}

/// Where the head ends, the empty line included, if it does. `from` is where the search goes on: what lies before was
/// searched already.
pub fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(3);
    while let Some(found) = memchr::memchr(b'\n', bytes.get(at..)?) {
        let next = at + found + 1;
        match bytes.get(next..) {
            Some([b'\n', ..]) => return Some(next + 1),
            Some([b'\r', b'\n', ..]) => return Some(next + 2),
            _ => at = next,
        }
    }
    None
}

/// Whether a message may begin like this.
pub fn begins(bytes: &[u8], request: bool) -> bool {
    if !request {
        return bytes.starts_with(b"HTTP/1.");
    }
    let method = bytes.iter().position(|b| *b == b' ').filter(|n| (3..=16).contains(n));
    method.is_some_and(|n| bytes[..n].iter().all(|b| b.is_ascii_uppercase()) && bytes.get(n + 1).is_some())
}

/// Reads a request's head, or as much of it as there is. `None`: it is none.
pub fn request(bytes: &[u8]) -> Option<RequestHead> {
    let mut lines = lines(bytes);
    let start = lines.next()?;
    let mut words = start.splitn(3, |b| *b == b' ');
    let (method, target) = (words.next()?, words.next()?);
    // The version is missing only where the head was cut within the first line.
    if !words.next().is_none_or(|version| version.starts_with(b"HTTP/1.") || bytes.len() == start.len()) {
        return None;
    }
    if method.is_empty() || method.len() > 16 || !method.iter().all(|b| is_token(*b)) || target.is_empty() {
        return None;
    }
    let (path, query, authority) = split_target(target);
    let mut head = RequestHead {
        method: text(method, 16),
        path: text(path, TARGET_MAX),
        query: query.map(|query| text(query, TARGET_MAX)),
        host: authority.map(|host| text(host, HOST_MAX)),
        trace: None,
        framing: Framing::Unsaid,
    };
    for (name, value) in lines.filter_map(field) {
        if name.eq_ignore_ascii_case(b"host") {
            head.host.get_or_insert_with(|| text(value, HOST_MAX));
        } else if name.eq_ignore_ascii_case(b"traceparent") {
            head.trace = trace_context(value);
        } else {
            head.framing = framing(head.framing, name, value);
        }
    }
    Some(head)
}

/// Reads a response's head, or as much of it as there is. `None`: it is none.
pub fn response(bytes: &[u8]) -> Option<ResponseHead> {
    let mut lines = lines(bytes);
    let start = lines.next()?.strip_prefix(b"HTTP/1.")?;
    let digits = start.get(2..5).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    if start.get(1) != Some(&b' ') || start.get(5).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    let framing = lines
        .filter_map(field)
        .fold(Framing::Unsaid, |framing_so_far, (name, value)| framing(framing_so_far, name, value));
    (status >= 100).then_some(ResponseHead { status, framing })
}

/// The trace context of a `traceparent` value (W3C Trace Context, version 00 and later ones that begin like it).
pub fn trace_context(value: &[u8]) -> Option<TraceContext> {
    let [v1, v2, b'-', rest @ ..] = value else { return None };
    let version = hex_byte(*v1, *v2)?;
    let (trace_id, rest) = hex::<16>(rest)?;
    let (span_id, rest) = hex::<8>(rest.strip_prefix(b"-")?)?;
    let ([flags], rest) = hex::<1>(rest.strip_prefix(b"-")?)?;
    let ends_well = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest[0] == b'-' };
    let valid = version != 0xff && ends_well && trace_id != [0; 16] && span_id != [0; 8];
    valid.then_some(TraceContext { trace_id, span_id, flags })
}

fn hex<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    let (digits, rest) = bytes.split_at_checked(2 * N)?;
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_byte(pair[0], pair[1])?;
    }
    Some((out, rest))
}

/// Upper-case digits are not allowed.
fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}

/// What one more field says of the body's length.
fn framing(so_far: Framing, name: &[u8], value: &[u8]) -> Framing {
    if name.eq_ignore_ascii_case(b"transfer-encoding") {
        let last = value.rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii();
        // It overrides any length (RFC 9112, 6.3).
        return if last.eq_ignore_ascii_case(b"chunked") { Framing::Chunked } else { Framing::Unknown };
    }
    if !name.eq_ignore_ascii_case(b"content-length") {
        return so_far;
    }
    let length = std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    match (so_far, length.and_then(|v| v.parse().ok())) {
        (Framing::Unsaid, Some(length)) => Framing::Length(length),
        (Framing::Length(before), Some(length)) if before == length => so_far,
        (Framing::Chunked, _) => so_far,
        _ => Framing::Unknown,
    }
}

/// Path, query and authority of a target in any of its four forms (RFC 9112, 3.2).
fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>, Option<&[u8]>) {
    let (mut rest, mut authority) = (target, None);
    let scheme = memchr::memmem::find(target, b"://").filter(|_| target[0] != b'/');
    if let Some(scheme) = scheme {
        let after = &target[scheme + 3..];
        let end = after.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(after.len());
        // A user's name and password are nobody's business.
        let host = after[..end].rsplit(|b| *b == b'@').next().unwrap_or_default();
        authority = Some(host);
        rest = &after[end..];
    }
    let rest = rest.split(|b| *b == b'#').next().unwrap_or_default();
    let (path, query) = match memchr::memchr(b'?', rest) {
        Some(mark) => (&rest[..mark], Some(&rest[mark + 1..])),
        None => (rest, None),
    };
    (if path.is_empty() { b"/" } else { path }, query, authority)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// At most `max` bytes, as text; what is no UTF-8 is replaced.
fn text(bytes: &[u8], max: usize) -> Box<str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_wherever_it_was_split() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody";
        for cut in 0..=head.len() {
            let expected = (cut >= 27).then_some(27);
            assert_eq!(end(&head[..cut], 0), expected, "{cut}");
            // As it is found when the rest comes later.
            assert_eq!(end(head, cut.min(27)), Some(27), "{cut}");
        }
        assert_eq!(end(b"GET / HTTP/1.0\n\n", 0), Some(16));
        assert_eq!(end(b"", 0), None);
        assert_eq!(end(b"a", 9), None);
    }

    #[test]
    fn requests_in_all_forms() {
        let head = |text: &str| request(text.as_bytes());
        let get = head("GET /a/b?c=1 HTTP/1.1\r\nhOst:  x:80 \r\nCookie: secret\r\n\r\n").unwrap();
        assert_eq!((&*get.method, &*get.path, get.query.as_deref()), ("GET", "/a/b", Some("c=1")));
        assert_eq!((get.host.as_deref(), get.framing), (Some("x:80"), Framing::Unsaid));
        let proxied = head("GET http://user:pw@h:1/p HTTP/1.1\r\nHost: other\r\n\r\n").unwrap();
        assert_eq!((&*proxied.path, proxied.host.as_deref()), ("/p", Some("h:1")));
        assert_eq!(&*head("GET http://h HTTP/1.1\r\n\r\n").unwrap().path, "/");
        assert_eq!(&*head("GET /r?to=http://h/ HTTP/1.1\r\n\r\n").unwrap().path, "/r");
        assert_eq!(&*head("CONNECT h:443 HTTP/1.1\r\n\r\n").unwrap().path, "h:443");
        assert_eq!(&*head("OPTIONS * HTTP/1.1\r\n\r\n").unwrap().path, "*");
        // Cut within the head.
        assert_eq!(&*head("GET /long").unwrap().path, "/long");
        for none in ["", "\r\n", "GET", "GET / SPDY/3\r\n\r\n", "G(T / HTTP/1.1\r\n\r\n", "GET  HTTP/1.1\r\n"]
        {
            assert_eq!(head(none), None, "{none}");
        }
    }

    #[test]
    fn responses() {
        let framing_of = |fields: &str| {
            response(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes()).unwrap().framing
        };
        assert_eq!(framing_of("Content-Length: 5"), Framing::Length(5));
        assert_eq!(framing_of("Content-Length: 5\r\nContent-Length: 5"), Framing::Length(5));
        assert_eq!(framing_of("Content-Length: 5\r\nContent-Length: 6"), Framing::Unknown);
        assert_eq!(framing_of("Content-Length: -5"), Framing::Unknown);
        assert_eq!(framing_of("Content-Length: 99999999999999999999"), Framing::Unknown);
        assert_eq!(framing_of("transfer-encoding: gzip, Chunked\r\nContent-Length: 5"), Framing::Chunked);
        assert_eq!(framing_of("Transfer-Encoding: gzip"), Framing::Unknown);
        assert_eq!(framing_of("X: y"), Framing::Unsaid);
        assert_eq!(response(b"HTTP/1.0 404 Not Found\r\n\r\n").unwrap().status, 404);
        assert_eq!(response(b"HTTP/1.1 204\r\n\r\n").unwrap().status, 204);
        for none in
            ["HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/2 200", "HTTP/1.1 abc", "ICY 200 OK", "HTTP/1.1 099 x"]
        {
            assert_eq!(response(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn trace_contexts_are_never_invented() {
        let good = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = trace_context(good).unwrap();
        assert_eq!((context.trace_id[0], context.span_id[7], context.flags), (0x0a, 0x31, 1));
        assert!(trace_context(b"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more").is_some());
        for bad in [
            &b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"[..],
            b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            b"00-00000000000000000000000000000000-b7ad6b7169203331-01",
            b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
            b"00",
            b"",
        ] {
            assert_eq!(trace_context(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
