//! Server-sent events as they arrive: the parts of a chunked body (RFC 9112, section 7.1) to lines, and lines to
//! events (HTML, section 9.2.6). Works on any cut of the bytes; events that are too long are refused.

/// The longest event, in bytes.
const EVENT_BYTES_MAX: usize = 64 << 20;
/// The longest id that is kept.
const ID_BYTES_MAX: usize = 16 << 10;
/// The longest line that says how long a chunk is.
const SIZE_LINE_MAX: usize = 256;

/// One event.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its type; empty for lines of log.
    pub(super) kind: String,
    /// The last id that was given, by it or before it.
    pub(super) id: Option<String>,
    /// Its data.
    pub(super) data: Vec<u8>,
}

/// Takes the chunks of a chunked body apart.
#[derive(Debug)]
pub(super) enum Dechunk {
    /// The body is not chunked.
    Plain,
    /// Within the line that says how long the next chunk is.
    Size(Vec<u8>),
    /// Within a chunk of which so many bytes are left.
    Data(u64),
    /// The last chunk was met.
    End,
}

impl Dechunk {
    /// Calls `take` with the content in `bytes`. False at the end of the body, and for what is no chunk.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8])) -> bool {
        loop {
            match self {
                Dechunk::Plain => {
                    take(bytes);
                    return true;
                }
                Dechunk::End => return false,
                Dechunk::Data(0) => *self = Dechunk::Size(Vec::new()),
                Dechunk::Data(left) => {
                    if bytes.is_empty() {
                        return true;
                    }
                    let len = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    take(&bytes[..len]);
                    bytes = &bytes[len..];
                    *left -= len as u64;
                }
                Dechunk::Size(line) => {
                    let Some((&byte, rest)) = bytes.split_first() else { return true };
                    bytes = rest;
                    if byte != b'\n' {
                        line.push(byte);
                        if line.len() > SIZE_LINE_MAX {
                            return false;
                        }
                        continue;
                    }
                    let text = String::from_utf8_lossy(line);
                    let size = text.split(';').next().unwrap_or_default().trim().to_owned();
                    // The line break after a chunk.
                    if size.is_empty() {
                        line.clear();
                        continue;
                    }
                    match u64::from_str_radix(&size, 16) {
                        Ok(0) | Err(_) => *self = Dechunk::End,
                        Ok(size) => *self = Dechunk::Data(size),
                    }
                }
            }
        }
    }
}

/// Takes events from the bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    /// The last id.
    pub(super) id: Option<String>,
    /// How long to wait before coming back, in milliseconds, if the stream has said so.
    pub(super) retry_millis: Option<u64>,
}

impl Events {
    /// Calls `take` with the events that `bytes` complete.
    ///
    /// # Errors
    /// When an event is too long.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(&Event)) -> Result<(), String> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            if self.line.is_empty() {
                // The usual case: the line is whole, and nothing is copied but what it says.
                self.end_line(&bytes[..end], &mut take);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.end_line(&line, &mut take);
                line.clear();
                self.line = line;
            }
            bytes = &bytes[end + 1..];
        }
        self.line.extend_from_slice(bytes);
        if self.line.len() + self.event.data.len() > EVENT_BYTES_MAX {
            return Err(format!("an event is longer than {} MiB", EVENT_BYTES_MAX >> 20));
        }
        Ok(())
    }

    /// The id of the last event that is complete, with or without data.
    pub(super) fn position(&self) -> Option<&str> {
        self.event.id.as_deref()
    }

    fn end_line(&mut self, line: &[u8], take: &mut impl FnMut(&Event)) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            self.event.id.clone_from(&self.id);
            if self.has_data {
                take(&self.event);
            }
            self.event.data.clear();
            self.event.kind.clear();
            self.has_data = false;
            return;
        }
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"data" => {
                if self.has_data {
                    self.event.data.push(b'\n');
                }
                self.has_data = true;
                self.event.data.extend_from_slice(value);
            }
            b"event" => self.event.kind = String::from_utf8_lossy(value).into_owned(),
            // It is sent back in a header.
            b"id" if value.len() <= ID_BYTES_MAX && value.iter().all(u8::is_ascii_graphic) => {
                self.id = Some(String::from_utf8_lossy(value).into_owned())
            }
            b"retry" => {
                self.retry_millis = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"retry: 3000\n:hb\n\nevent: hello\ndata: {\"next\":\"e-2\"}\n\nid: e-2\ndata: one\ndata: two\n\nid: e-3\n\ndata:three\r\n\r\ndata: lost";

    fn events(cut: usize) -> Vec<(String, Option<String>, String)> {
        let mut events = Events::default();
        let mut got = Vec::new();
        let mut take = |e: &Event| {
            got.push((e.kind.clone(), e.id.clone(), String::from_utf8_lossy(&e.data).into_owned()));
        };
        for piece in STREAM.chunks(cut) {
            events.feed(piece, &mut take).unwrap();
        }
        assert_eq!(events.retry_millis, Some(3000));
        got
    }

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let of = |k: &str, id: Option<&str>, d: &str| (k.to_owned(), id.map(str::to_owned), d.to_owned());
        let expected = [
            of("hello", None, "{\"next\":\"e-2\"}"),
            of("", Some("e-2"), "one\ntwo"),
            of("", Some("e-3"), "three"),
        ];
        for cut in 1..STREAM.len() {
            assert_eq!(events(cut), expected, "{cut}");
        }
    }

    #[test]
    fn chunks_are_taken_apart_however_they_are_cut() {
        let body = b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n";
        for cut in 1..body.len() {
            let (mut chunks, mut out, mut more) = (Dechunk::Size(Vec::new()), Vec::new(), true);
            for piece in body.chunks(cut) {
                more &= chunks.feed(piece, |bytes| out.extend_from_slice(bytes));
            }
            assert_eq!((&out[..], more), (&b"hello!"[..], false), "{cut}");
        }
        assert!(!Dechunk::Size(Vec::new()).feed(b"xyz\r\n", |_| {}));
        assert!(!Dechunk::Size(Vec::new()).feed(&[b'1'; 300], |_| {}));
    }

    #[test]
    fn an_event_that_never_ends_is_refused() {
        let mut events = Events::default();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..100).find_map(|_| events.feed(&piece, |_| {}).err());
        assert_eq!(refused.as_deref(), Some("an event is longer than 64 MiB"));
    }
}
