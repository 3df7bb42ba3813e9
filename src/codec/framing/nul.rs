//! NUL framing: each event ends with a zero byte and may hold line breaks, as `find -print0`, GELF over TCP and
//! journald's exporters write them.

use super::newline::LineFramer;
use super::{Framed, Oversize};
use crate::batch::Framing;

/// Frames one stream of events that end with a zero byte.
#[derive(Debug, Clone)]
pub struct NulFramer(LineFramer);

impl NulFramer {
    /// A framer at the start of a stream.
    pub fn new(line_bytes_max: usize, oversize: Oversize) -> NulFramer {
        NulFramer(LineFramer::delimited(0, line_bytes_max, oversize))
    }

    /// See [`Framer::frame`](super::Framer::frame).
    pub fn frame(&mut self, chunk: &[u8], seen: usize) -> Framed {
        free(self.0.frame_fresh(chunk, seen))
    }

    /// See [`Framer::finish`](super::Framer::finish).
    pub fn finish(&mut self, rest: &[u8]) -> Framed {
        free(self.0.finish(rest))
    }
}

/// Rows that end with something else than `\n` are searched and written one by one.
fn free(framed: Framed) -> Framed {
    Framed { framing: Framing::Free, ..framed }
}
