//! What the framings that announce lengths have in common: the body of a frame, kept whole, skipped, truncated or
//! split. A length is only ever compared with what has arrived; nothing is allocated or awaited because of it.

use super::{Framed, Oversize};
use crate::batch::Span;

/// What stands where a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Its own length in bytes.
    pub(super) header_bytes: usize,
    /// The length of the body it announces, in bytes.
    pub(super) body_bytes: usize,
}

/// The body of the present frame.
#[derive(Debug, Clone)]
pub(super) struct Bodies {
    line_bytes_max: usize,
    oversize: Oversize,
    /// Whether a line break at the end of a frame is left out.
    trims_newline: bool,
    /// Bytes still to come of a frame that is too long, of which the policy has dealt with what came before.
    due: usize,
}

impl Bodies {
    pub(super) fn new(line_bytes_max: usize, oversize: Oversize) -> Bodies {
        Bodies { line_bytes_max, oversize, trims_newline: false, due: 0 }
    }

    /// The same for senders that count a line break at the end of each event: syslog-ng, and rsyslog with most of its
    /// templates. Pieces of a frame that is too long keep theirs.
    pub(super) fn trimming_newline(mut self) -> Bodies {
        self.trims_newline = true;
        self
    }

    /// Deals with what `chunk` holds from `at` of the frame that `header` announces; where the next begins, or `None`
    /// when more has to come first.
    pub(super) fn begin(
        &mut self,
        chunk: &[u8],
        at: usize,
        header: Header,
        framed: &mut Framed,
    ) -> Option<usize> {
        let Header { header_bytes, body_bytes } = header;
        let (body, available) = (at + header_bytes, chunk.len() - at - header_bytes);
        if body_bytes <= self.line_bytes_max {
            if available < body_bytes {
                return None;
            }
            let newline = self.trims_newline && chunk[body..body + body_bytes].ends_with(b"\n");
            framed.spans.push(Span::new(body, body_bytes - usize::from(newline)));
            framed.consumed = body + body_bytes;
            return Some(framed.consumed);
        }
        let mut dealt = 0;
        if self.oversize == Oversize::Truncate {
            if available < self.line_bytes_max {
                return None;
            }
            framed.spans.push(Span::new(body, self.line_bytes_max));
            dealt = self.line_bytes_max;
        }
        framed.oversize_events += 1;
        framed.consumed = body + dealt;
        self.due = body_bytes - dealt;
        self.go_on(chunk, framed.consumed, framed)
    }

    /// Goes on with a frame that is too long; where the next begins, or `None` when more has to come first.
    pub(super) fn go_on(&mut self, chunk: &[u8], mut at: usize, framed: &mut Framed) -> Option<usize> {
        while self.due > 0 {
            let available = chunk.len() - at;
            let step = if self.oversize == Oversize::Split {
                let piece = self.due.min(self.line_bytes_max);
                if available < piece {
                    return None;
                }
                framed.spans.push(Span::new(at, piece));
                piece
            } else {
                self.due.min(available)
            };
            if step == 0 {
                return None;
            }
            at += step;
            self.due -= step;
            framed.consumed = at;
        }
        Some(at)
    }

    /// The stream ends, with `rest` from `framed.consumed` on left over and `header` at its start, if there is a whole
    /// one. True if a row came of it that is known to be cut and was not counted yet.
    pub(super) fn finish(&mut self, rest: &[u8], header: Option<Header>, framed: &mut Framed) -> bool {
        let start = framed.consumed + header.map_or(0, |h| h.header_bytes);
        let within_long = std::mem::take(&mut self.due) > 0;
        framed.consumed = rest.len();
        // What belongs to a length that never got whole is no event.
        let passes = if within_long { self.oversize == Oversize::Split } else { header.is_some() };
        if !passes || start >= rest.len() {
            return false;
        }
        framed.spans.push(Span::new(start, rest.len() - start));
        !within_long
    }

    /// Whether the stream stands within a frame that is too long.
    pub(super) fn is_within_long(&self) -> bool {
        self.due > 0
    }
}
