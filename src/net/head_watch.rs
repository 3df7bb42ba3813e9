//! Watches the requests of a connection go by, before hyper parses them, for what hyper lets pass or hides: a head
//! that says `Content-Length` and `Transfer-Encoding` both, which two servers in a row may cut differently (RFC 9112,
//! section 6.1), and one that is longer than allowed. Bodies are followed only to find the next head.

use memchr::memchr;

/// Most of a line that is kept: enough for the headers that matter, with their values.
const LINE_BYTES_MAX: usize = 80;

/// What is wrong with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Two lengths for one body.
    TwoLengths,
    /// It is longer than allowed.
    TooLong,
}

/// Where in a connection's bytes it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a head, or before one.
    Head,
    /// In a body that goes on for so many bytes.
    Body(u64),
    /// In the line that says how long a chunk is.
    ChunkSize,
    /// In a chunk, its line break included.
    Chunk(u64),
    /// Behind the last chunk.
    Trailers,
    /// What follows is no HTTP as we know it, or nobody is to read it.
    Lost,
}

/// See the module.
#[derive(Debug)]
pub(super) struct HeadWatch {
    at: At,
    /// The beginning of the line that is not complete yet, without its line break.
    line: [u8; LINE_BYTES_MAX],
    line_len: usize,
    head_bytes: usize,
    head_bytes_max: usize,
    length: Option<u64>,
    chunked: bool,
    /// Complete heads so far.
    heads: u64,
    wrong: Option<(u64, Fault)>,
}

impl HeadWatch {
    /// For a connection whose heads may have `head_bytes_max`.
    pub(super) fn new(head_bytes_max: usize) -> HeadWatch {
        HeadWatch {
            at: At::Head,
            line: [0; LINE_BYTES_MAX],
            line_len: 0,
            head_bytes: 0,
            head_bytes_max,
            length: None,
            chunked: false,
            heads: 0,
            wrong: None,
        }
    }

    /// What is wrong with the head of a request, counted from 1.
    pub(super) fn fault_of(&self, request: u64) -> Option<Fault> {
        self.wrong.filter(|(wrong, _)| *wrong == request).map(|(_, fault)| fault)
    }

    /// Whether a head has begun that is not complete.
    pub(super) fn in_head(&self) -> bool {
        self.at == At::Head && self.head_bytes > 0
    }

    /// Takes note of what came next.
    pub(super) fn note(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let passed = match self.at {
                At::Lost => return,
                At::Body(left) => self.skip(left, bytes.len(), At::Body, At::Head),
                At::Chunk(left) => self.skip(left, bytes.len(), At::Chunk, At::ChunkSize),
                At::Head | At::ChunkSize | At::Trailers => self.line(bytes),
            };
            bytes = &bytes[passed..];
        }
    }

    fn skip(&mut self, left: u64, there: usize, more: fn(u64) -> At, next: At) -> usize {
        let passed = usize::try_from(left).unwrap_or(usize::MAX).min(there);
        let left = left - passed as u64;
        self.at = if left == 0 { next } else { more(left) };
        passed
    }

    /// Takes a line or the part of it that is there; says how many bytes that was.
    fn line(&mut self, bytes: &[u8]) -> usize {
        let end = memchr(b'\n', bytes);
        let passed = end.map_or(bytes.len(), |end| end + 1);
        let part = &bytes[..end.unwrap_or(passed)];
        let kept = part.len().min(LINE_BYTES_MAX - self.line_len);
        self.line[self.line_len..self.line_len + kept].copy_from_slice(&part[..kept]);
        self.line_len += kept;
        if self.at == At::Head {
            self.head_bytes += passed;
        }
        if end.is_some() {
            let (line, len) = (self.line, std::mem::take(&mut self.line_len));
            self.complete(line[..len].strip_suffix(b"\r").unwrap_or(&line[..len]));
        }
        passed
    }

    fn complete(&mut self, line: &[u8]) {
        match self.at {
            At::ChunkSize => {
                self.at = match chunk_size(line) {
                    Some(0) => At::Trailers,
                    Some(size) => At::Chunk(size.saturating_add(2)),
                    None => At::Lost,
                }
            }
            At::Trailers if line.is_empty() => self.at = At::Head,
            // Line breaks before a head are passed over.
            At::Head if line.is_empty() && self.head_bytes <= 2 => self.head_bytes = 0,
            At::Head if line.is_empty() => self.head_ends(),
            At::Head => self.header(line),
            _ => {}
        }
    }

    fn header(&mut self, line: &[u8]) {
        let Some(colon) = memchr(b':', line) else { return };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = std::str::from_utf8(value).ok();
            self.length = Some(digits.and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = true;
        }
    }

    fn head_ends(&mut self) {
        self.heads += 1;
        let (length, chunked) = (self.length.take(), std::mem::take(&mut self.chunked));
        let too_long = std::mem::take(&mut self.head_bytes) > self.head_bytes_max;
        let fault = match (length, chunked) {
            _ if too_long => Some(Fault::TooLong),
            (Some(_), true) => Some(Fault::TwoLengths),
            _ => None,
        };
        self.wrong = fault.map(|fault| (self.heads, fault)).or(self.wrong);
        self.at = match (length, chunked) {
            // The connection ends with this request.
            _ if fault.is_some() => At::Lost,
            (_, true) => At::ChunkSize,
            (None | Some(0), false) => At::Head,
            (Some(length), false) => At::Body(length),
        };
    }
}

/// The size that the line before a chunk says.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(bytes: &[u8], piece: usize) -> HeadWatch {
        let mut watch = HeadWatch::new(200);
        bytes.chunks(piece).for_each(|piece| watch.note(piece));
        watch
    }

    #[test]
    fn the_request_with_two_lengths_is_found_wherever_it_stands_and_however_it_comes() {
        let plain = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let length = "POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\ntransfer-encoding: x\r\n\r\n123456";
        let chunked = "\r\nPOST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
                       1e;x=y\r\ncontent-length: 1\r\n\r\nabcdefghi\r\n0\r\ncontent-length: 7\r\n\r\n";
        let both = "POST / HTTP/1.1\nTRANSFER-ENCODING: chunked\ncontent-length:5\n\n5\r\nhello\r\n0\r\n\r\n";
        let sound = [plain, length, chunked, plain].concat();
        let wrong = [&sound, both, plain].concat();
        for piece in [1, 2, 3, 7, 1000] {
            let seen = watch(sound.as_bytes(), piece);
            assert_eq!((seen.heads, seen.wrong, seen.in_head()), (4, None, false), "{piece}");
            let seen = watch(wrong.as_bytes(), piece);
            assert_eq!((seen.heads, seen.fault_of(5)), (5, Some(Fault::TwoLengths)), "{piece}");
            assert_eq!(seen.fault_of(4), None);
        }
    }

    #[test]
    fn heads_that_are_long_or_half_there_are_told() {
        let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(200));
        assert_eq!(watch(long.as_bytes(), 10).fault_of(1), Some(Fault::TooLong));
        assert!(watch(b"GET / HT", 3).in_head());
        assert!(watch(b"GET / HTTP/1.1\r\nhost: x\r\n", 3).in_head());
        assert!(!watch(b"", 1).in_head() && !watch(b"\r\n", 1).in_head());
        // No HTTP at all.
        watch(&[0xff; 1000], 9);
        assert_eq!(watch(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 3).at, At::Lost);
    }
}
