//! Framing: where one event ends and the next begins in a stream of bytes. Every framer works in place on whole
//! chunks, holds no more of an event than the limit, and yields the same rows however the bytes were cut into reads.

mod counted;
mod length_prefixed;
mod newline;
mod nul;
mod octet_counted;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::batch::{Framing, Span};

pub use length_prefixed::LengthPrefixedFramer;
pub use newline::LineFramer;
pub use nul::NulFramer;
pub use octet_counted::OctetCountedFramer;

/// What happens to a line longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversize {
    /// Its first bytes, up to the limit, pass; the rest is skipped.
    Truncate,
    /// The line is skipped and counted.
    Drop,
    /// It passes in pieces of the limit's size.
    Split,
}

/// The lines found in a chunk.
#[derive(Debug)]
pub struct Framed {
    /// Rows, in chunk coordinates.
    pub spans: Vec<Span>,
    /// Bytes of the chunk that are dealt with; the rest starts the next chunk.
    pub consumed: usize,
    /// Whether rows are plain neighbours or something was cut.
    pub framing: Framing,
    /// Lines dropped or cut because they were too long.
    pub oversize_events: u64,
}

impl Framed {
    /// Nothing found yet; `bytes` are about to be searched.
    fn expecting(bytes: usize, framing: Framing) -> Framed {
        // A guess of 64 bytes a line; one growth at most for ordinary logs.
        let spans = Vec::with_capacity(bytes / 64 + 1);
        Framed { spans, consumed: 0, framing, oversize_events: 0 }
    }
}

/// How the events of a stream are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Each ends with `\n`.
    Newline,
    /// Each ends with a zero byte.
    Nul,
    /// Each follows its length in decimal digits and a space (RFC 6587, 3.4.1; RFC 5425).
    OctetCounted,
    /// Octet-counted or ended by `\n`, told apart event by event.
    Auto,
    /// Each follows its length as four bytes, big-endian.
    LengthPrefixed,
}

/// The largest length that a frame may announce, in bytes: what `max_line_size` can be set to at most. Anything
/// larger is text that was taken for a length, or forged.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Why a stream cannot be read on: after this there is no telling where its events begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FramingError {
    /// The stream stands where a length is due, and has this byte instead.
    NoLength {
        /// The first byte that belongs to no length.
        found: u8,
    },
    /// A length beyond [`FRAME_BYTES_MAX`].
    TooLong {
        /// What was announced, in bytes; saturated.
        announced: u64,
    },
    /// All streams of a source together hold this much of events that have no end yet.
    Unfinished {
        /// In bytes.
        held: usize,
    },
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FramingError::NoLength { found } => write!(
                f,
                "no frame length: `{}` is not a digit; hint: the sender does not count octets, framing = \"auto\" takes both",
                found.escape_ascii()
            ),
            FramingError::Unfinished { held } => write!(
                f,
                "too much at once: {held} bytes of events without an end are held for all connections; hint: lower max_line_size, or is the framing another?"
            ),
            FramingError::TooLong { announced } => write!(
                f,
                "forged frame length: {announced} bytes are announced, {FRAME_BYTES_MAX} is the most; hint: does the sender use this framing?"
            ),
        }
    }
}

impl std::error::Error for FramingError {}

/// A framer of any scheme, at some place in one stream.
#[derive(Debug, Clone)]
pub enum Framer {
    /// See [`Scheme::Newline`].
    Newline(LineFramer),
    /// See [`Scheme::Nul`].
    Nul(NulFramer),
    /// See [`Scheme::OctetCounted`] and [`Scheme::Auto`].
    OctetCounted(OctetCountedFramer),
    /// See [`Scheme::LengthPrefixed`].
    LengthPrefixed(LengthPrefixedFramer),
}

impl Framer {
    /// A framer at the start of a stream; `line_bytes_max` is at least 1 and at most [`FRAME_BYTES_MAX`].
    pub fn new(scheme: Scheme, line_bytes_max: usize, oversize: Oversize) -> Framer {
        let max = line_bytes_max.clamp(1, FRAME_BYTES_MAX);
        match scheme {
            Scheme::Newline => Framer::Newline(LineFramer::new(max, oversize)),
            Scheme::Nul => Framer::Nul(NulFramer::new(max, oversize)),
            Scheme::OctetCounted => Framer::OctetCounted(OctetCountedFramer::new(max, oversize)),
            Scheme::Auto => Framer::OctetCounted(OctetCountedFramer::auto(max, oversize)),
            Scheme::LengthPrefixed => Framer::LengthPrefixed(LengthPrefixedFramer::new(max, oversize)),
        }
    }

    /// Finds the complete events of `chunk`, which starts with the unconsumed rest of the one before. The first
    /// `seen` bytes are that rest, so that an event that comes in many small pieces is not searched again each time.
    ///
    /// # Errors
    /// When the stream breaks the scheme. What was framed before that is in the first part of the pair.
    pub fn frame(&mut self, chunk: &[u8], seen: usize) -> (Framed, Option<FramingError>) {
        match self {
            Framer::Newline(framer) => (framer.frame_fresh(chunk, seen), None),
            Framer::Nul(framer) => (framer.frame(chunk, seen), None),
            Framer::OctetCounted(framer) => framer.frame(chunk, seen),
            Framer::LengthPrefixed(framer) => framer.frame(chunk),
        }
    }

    /// The stream has ended and `rest` is its unconsumed rest: what there is of an unfinished event becomes a row,
    /// too. True if it is known to lack its end: a frame shorter than announced. (A last line without its delimiter
    /// may be whole.)
    pub fn finish(&mut self, rest: &[u8]) -> (Framed, bool) {
        match self {
            Framer::Newline(framer) => (framer.finish(rest), false),
            Framer::Nul(framer) => (framer.finish(rest), false),
            Framer::OctetCounted(framer) => framer.finish(rest),
            Framer::LengthPrefixed(framer) => framer.finish(rest),
        }
    }
}
