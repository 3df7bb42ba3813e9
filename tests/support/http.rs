//! A raw client for HTTP and server-sent events: reads a socket, takes chunked bodies apart, and events from them,
//! following the WHATWG rules for `text/event-stream` as far as weir writes it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::PATIENCE;

/// A server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its type; empty for a row.
    pub kind: String,
    /// Its id; empty without one.
    pub id: String,
    /// Its data.
    pub data: String,
}

impl Event {
    /// The data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e}: {}", self.data))
    }

    /// The line of a row.
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }

    /// The sequence in its id.
    pub fn seq(&self) -> u64 {
        seq(&self.id)
    }
}

/// The sequence in an id.
pub fn seq(id: &str) -> u64 {
    id.rsplit_once('-').unwrap_or_else(|| panic!("no id: {id}")).1.parse().unwrap()
}

/// A request that is answered and over: the code and the body. `None` where nobody listens.
pub fn get(authority: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(authority).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// A request with a JSON body: the code and the body of the answer.
pub fn post_json(authority: &str, path: &str, body: &str) -> (u16, String) {
    request(authority, "POST", path, body).unwrap()
}

/// A request with a JSON body whose answer has a length; the connection may stay open. `None` where nobody answers.
pub fn request(authority: &str, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(authority).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\n");
    stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).ok()?;
    let mut reader = BufReader::new(stream);
    let (mut line, mut code, mut length) = (String::new(), 0, 0);
    while reader.read_line(&mut line).ok()? > 0 {
        let (name, value) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
        if name.is_empty() {
            break;
        }
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            name if name.starts_with("http/") => code = name.split(' ').nth(1)?.parse().ok()?,
            _ => {}
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((code, String::from_utf8(body).ok()?))
}

/// A socket, and bytes that were taken off it already.
struct Taken {
    bytes: VecDeque<u8>,
    socket: TcpStream,
}

impl Read for Taken {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.bytes.is_empty() { self.socket.read(into) } else { self.bytes.read(into) }
    }
}

/// A stream being read.
pub struct Stream {
    socket: BufReader<Taken>,
    /// Status line and headers.
    pub head: String,
    /// Bytes of the body that are not read yet.
    body: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Stream {
    /// Asks for a stream and reads the head of the answer.
    pub fn open(authority: &str, target: &str, headers: &[(&str, &str)]) -> Stream {
        let mut socket = TcpStream::connect(authority).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\n");
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        socket.write_all(format!("{request}\r\n").as_bytes()).unwrap();
        let mut socket = BufReader::new(Taken { bytes: VecDeque::new(), socket });
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(socket.read_line(&mut head).unwrap(), 0, "no answer: {head}");
        }
        Stream { socket, head, body: Vec::new(), at: 0, ended: false }
    }

    /// Takes one byte off the socket, to be read later with the others.
    pub fn byte(&mut self) {
        let taken = self.socket.get_mut();
        let mut byte = [0];
        taken.socket.read_exact(&mut byte).unwrap();
        taken.bytes.extend(byte);
    }

    /// Reads one chunk of the body; `false` at its end, in order or by a reset.
    fn fill(&mut self) -> bool {
        let mut size = String::new();
        if self.ended || self.socket.read_line(&mut size).unwrap_or(0) == 0 {
            return false;
        }
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or_else(|e| panic!("{e}: chunk `{size}`"));
        self.body.drain(..std::mem::take(&mut self.at));
        let from = self.body.len();
        self.body.resize(from + size + 2, 0);
        self.socket.read_exact(&mut self.body[from..]).unwrap();
        assert!(self.body.ends_with(b"\r\n"), "a chunk ends with a line break");
        self.body.truncate(from + size);
        self.ended = size == 0;
        !self.ended
    }

    /// The next line of the body, without its `\n`; `None` at the end.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        let mut seen = 0;
        loop {
            let rest = &self.body[self.at..];
            if let Some(end) = rest[seen..].iter().position(|b| *b == b'\n') {
                let line = rest[..seen + end].to_vec();
                self.at += seen + end + 1;
                return Some(line);
            }
            seen = rest.len();
            if !self.fill() {
                return None;
            }
        }
    }

    /// The next event, of any type but comments; `None` at the end.
    pub fn event(&mut self) -> Option<Event> {
        let mut event = Event { kind: String::new(), id: String::new(), data: String::new() };
        let mut data = Vec::new();
        loop {
            let line = String::from_utf8(self.line()?).unwrap();
            if line.is_empty() && !data.is_empty() {
                event.data = data.join("\n");
                return Some(event);
            }
            match line.split_once(": ") {
                Some(("event", kind)) => event.kind = kind.to_owned(),
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("data", text)) => data.push(text.to_owned()),
                Some(("retry", _)) | None => {}
                _ => assert!(line.starts_with(':'), "not a field: {line}"),
            }
        }
    }

    /// The next row, passing over `hello`; anything else fails.
    pub fn row(&mut self) -> Event {
        loop {
            let event = self.event().expect("the stream ended");
            match event.kind.as_str() {
                "" => return event,
                "hello" => {}
                _ => panic!("not a row: {event:?}"),
            }
        }
    }

    /// The next event of that type, passing over others.
    pub fn until(&mut self, kind: &str) -> Event {
        loop {
            let event = self.event().unwrap_or_else(|| panic!("the stream ended before `{kind}`"));
            if event.kind == kind {
                return event;
            }
        }
    }
}
