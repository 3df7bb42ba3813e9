//! Octet counting (RFC 6587, 3.4.1; RFC 5425): each event follows its length in decimal digits and a space. With
//! fallback, an event that begins otherwise ends at the next `\n`, as syslog senders without octet counting write it
//! (RFC 6587, 3.4.2); both may alternate on one stream. A line break that is counted as the last byte of an event is
//! left out: syslog-ng and rsyslog end events with one whatever the framing.

use super::counted::{Bodies, Header};
use super::newline::LineFramer;
use super::{FRAME_BYTES_MAX, Framed, FramingError, Oversize};
use crate::batch::Framing;

/// Most digits of a length. Ten hold every length that is allowed; a longer run is none.
const DIGITS_MAX: usize = 10;

/// Frames one stream of octet-counted events.
#[derive(Debug, Clone)]
pub struct OctetCountedFramer {
    bodies: Bodies,
    /// For events that are not counted, if they are allowed.
    lines: Option<LineFramer>,
}

/// What stands where an event begins.
enum Start {
    Counted(Header),
    Line,
    /// More has to come to tell.
    Unknown,
}

impl OctetCountedFramer {
    /// A framer that takes counted events only.
    pub fn new(line_bytes_max: usize, oversize: Oversize) -> OctetCountedFramer {
        OctetCountedFramer { bodies: Bodies::new(line_bytes_max, oversize).trimming_newline(), lines: None }
    }

    /// A framer that takes both. An event is counted if it begins with up to ten digits, a space and `<`, with which
    /// every syslog message begins; so `2026-11-21 …` and `200 OK` are lines.
    pub fn auto(line_bytes_max: usize, oversize: Oversize) -> OctetCountedFramer {
        let lines = Some(LineFramer::new(line_bytes_max, oversize));
        OctetCountedFramer { lines, ..OctetCountedFramer::new(line_bytes_max, oversize) }
    }

    /// See [`Framer::frame`](super::Framer::frame).
    pub fn frame(&mut self, chunk: &[u8], seen: usize) -> (Framed, Option<FramingError>) {
        let mut framed = Framed::expecting(chunk.len(), Framing::Free);
        let Some(mut at) = self.bodies.go_on(chunk, 0, &mut framed) else { return (framed, None) };
        loop {
            let next = match self.start(&chunk[at..]) {
                Ok(Start::Counted(header)) => self.bodies.begin(chunk, at, header, &mut framed),
                Ok(Start::Line) => match &mut self.lines {
                    // A line that is not whole yet was searched before, up to `seen`.
                    Some(lines) => lines.frame_one(chunk, at, seen, &mut framed),
                    None => None,
                },
                Ok(Start::Unknown) => None,
                Err(e) => return (framed, Some(e)),
            };
            let Some(next) = next else { return (framed, None) };
            at = next;
        }
    }

    /// See [`Framer::finish`](super::Framer::finish).
    pub fn finish(&mut self, rest: &[u8]) -> (Framed, bool) {
        let (mut framed, _) = self.frame(rest, 0);
        let within_long = self.bodies.is_within_long();
        let header = match self.start(&rest[framed.consumed..]) {
            Ok(Start::Counted(header)) if !within_long => Some(header),
            _ => None,
        };
        if let (Some(lines), None, false) = (&mut self.lines, header, within_long) {
            lines.finish_one(rest, &mut framed);
            return (framed, false);
        }
        let cut = self.bodies.finish(rest, header, &mut framed);
        (framed, cut)
    }

    /// What the bytes at the start of an event mean.
    fn start(&self, bytes: &[u8]) -> Result<Start, FramingError> {
        let Some(lines) = &self.lines else { return start(bytes) };
        if lines.is_within() {
            return Ok(Start::Line);
        }
        match start(bytes) {
            Ok(Start::Counted(header)) => Ok(match bytes.get(header.header_bytes) {
                Some(b'<') => Start::Counted(header),
                Some(_) => Start::Line,
                None => Start::Unknown,
            }),
            Err(_) => Ok(Start::Line),
            other => other,
        }
    }
}

/// What stands at the start of a counted event.
fn start(bytes: &[u8]) -> Result<Start, FramingError> {
    let digits = bytes.iter().take(DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
    // At most eleven digits, far below an overflow.
    let announced = bytes[..digits].iter().fold(0u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    if announced > FRAME_BYTES_MAX as u64 || digits > DIGITS_MAX {
        return Err(FramingError::TooLong { announced });
    }
    match bytes.get(digits) {
        // RFC 6587: a length begins with a digit from 1 to 9.
        Some(_) if digits > 0 && bytes[0] == b'0' => Err(FramingError::NoLength { found: b'0' }),
        Some(b' ') if digits > 0 => {
            Ok(Start::Counted(Header { header_bytes: digits + 1, body_bytes: announced as usize }))
        }
        Some(found) => Err(FramingError::NoLength { found: *found }),
        None => Ok(Start::Unknown),
    }
}
