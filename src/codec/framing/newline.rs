//! Newline framing over whole chunks. Finds the lines of a chunk in place, keeps every byte but the `\n` (a `\r`
//! before it belongs to the line), and applies the policy for lines that are too long without ever holding more
//! of them than the limit.

use super::{Framed, Oversize};
use crate::batch::{Framing, Span};

/// Frames the chunks of one stream.
#[derive(Debug, Clone)]
pub struct LineFramer {
    delimiter: u8,
    line_bytes_max: usize,
    oversize: Oversize,
    place: Place,
}

/// Where the stream stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// At the start of a line.
    #[default]
    Start,
    /// Inside a line of which all that may pass has passed.
    Skipping,
    /// Inside a line of which pieces have passed, and which is counted.
    Splitting,
}

impl LineFramer {
    /// A framer at the start of a line; `line_bytes_max` is at least 1.
    pub fn new(line_bytes_max: usize, oversize: Oversize) -> LineFramer {
        LineFramer::delimited(b'\n', line_bytes_max, oversize)
    }

    /// The same for lines that end with another byte; the rows are not [`Framing::Lines`] then, whatever is said here.
    pub(super) fn delimited(delimiter: u8, line_bytes_max: usize, oversize: Oversize) -> LineFramer {
        LineFramer { delimiter, line_bytes_max: line_bytes_max.max(1), oversize, place: Place::Start }
    }

    /// The same framer within a line that is being skipped, as [`LineFramer::is_skipping`] said of an earlier one.
    #[must_use]
    pub fn resumed(mut self, skipping: bool) -> LineFramer {
        self.place = if skipping { Place::Skipping } else { Place::Start };
        self
    }

    /// Longest line in bytes.
    pub fn line_bytes_max(&self) -> usize {
        self.line_bytes_max
    }

    /// Whether the stream stands inside a line that is being skipped.
    pub fn is_skipping(&self) -> bool {
        self.place == Place::Skipping
    }

    /// Whether the stream stands inside a line of which a part was dealt with.
    pub(super) fn is_within(&self) -> bool {
        self.place != Place::Start
    }

    /// Finds the complete lines of `chunk`, which continues the unconsumed rest of the one before.
    pub fn frame(&mut self, chunk: &[u8]) -> Framed {
        self.frame_fresh(chunk, 0)
    }

    /// The same, when the first `seen` bytes are an unconsumed rest and hold no delimiter.
    pub fn frame_fresh(&mut self, chunk: &[u8], seen: usize) -> Framed {
        let seen = seen.min(chunk.len());
        let mut framed = Framed::expecting(chunk.len() - seen, Framing::Lines);
        let mut start = 0;
        for found in memchr::memchr_iter(self.delimiter, &chunk[seen..]) {
            let newline = found + seen;
            if newline - start <= self.line_bytes_max && self.place == Place::Start {
                framed.spans.push(Span::new(start, newline - start));
            } else {
                self.end_long(start, newline, &mut framed);
            }
            start = newline + 1;
        }
        self.hold_or_cut(start, chunk.len(), &mut framed);
        framed
    }

    /// Deals with the one line that starts at `start`; where the next begins, or `None` when more has to come first.
    /// Bytes before `seen` are known to hold no delimiter of this line.
    pub(super) fn frame_one(
        &mut self,
        chunk: &[u8],
        start: usize,
        seen: usize,
        framed: &mut Framed,
    ) -> Option<usize> {
        let from = start.max(seen.min(chunk.len()));
        let Some(found) = memchr::memchr(self.delimiter, &chunk[from..]) else {
            self.hold_or_cut(start, chunk.len(), framed);
            return None;
        };
        let newline = from + found;
        if newline - start <= self.line_bytes_max && self.place == Place::Start {
            framed.spans.push(Span::new(start, newline - start));
        } else {
            self.end_long(start, newline, framed);
        }
        framed.consumed = newline + 1;
        Some(framed.consumed)
    }

    /// The stream ends within the line that starts at `framed.consumed`.
    pub(super) fn finish_one(&mut self, rest: &[u8], framed: &mut Framed) {
        if framed.consumed < rest.len() {
            framed.spans.push(Span::new(framed.consumed, rest.len() - framed.consumed));
            framed.consumed = rest.len();
        }
        self.place = Place::Start;
    }

    /// The stream has ended: what is left is a line too, if there is any of it.
    pub fn finish(&mut self, rest: &[u8]) -> Framed {
        let mut framed = self.frame(rest);
        self.finish_one(rest, &mut framed);
        framed
    }

    /// A line ends that is too long, or whose start was dealt with before.
    fn end_long(&mut self, start: usize, end: usize, framed: &mut Framed) {
        framed.framing = Framing::Free;
        if self.place != Place::Skipping {
            let rest = self.cut(start, end, framed);
            if self.oversize == Oversize::Split {
                framed.spans.push(Span::new(rest, end - rest));
            }
        }
        self.place = Place::Start;
    }

    /// Deals with an incomplete line at the end of a chunk: waits for more, or cuts it when it is too long already.
    fn hold_or_cut(&mut self, start: usize, end: usize, framed: &mut Framed) {
        framed.consumed = if self.place == Place::Skipping {
            framed.framing = Framing::Free;
            end
        } else if end - start > self.line_bytes_max {
            framed.framing = Framing::Free;
            self.cut(start, end, framed)
        } else {
            start
        };
    }

    /// Applies the policy to `start..end`, a line longer than the limit; returns where the rest starts.
    fn cut(&mut self, start: usize, end: usize, framed: &mut Framed) -> usize {
        framed.oversize_events += u64::from(self.place == Place::Start);
        match self.oversize {
            Oversize::Split => {
                let mut at = start;
                while end - at > self.line_bytes_max {
                    framed.spans.push(Span::new(at, self.line_bytes_max));
                    at += self.line_bytes_max;
                }
                self.place = Place::Splitting;
                at
            }
            Oversize::Truncate => {
                framed.spans.push(Span::new(start, self.line_bytes_max));
                self.place = Place::Skipping;
                end
            }
            Oversize::Drop => {
                self.place = Place::Skipping;
                end
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines of `text` when it arrives in pieces of the given sizes.
    fn frame_in_pieces(text: &[u8], pieces: &[usize], max: usize, oversize: Oversize) -> (Vec<Vec<u8>>, u64) {
        let mut framer = LineFramer::new(max, oversize);
        let (mut lines, mut dropped, mut carry, mut at) = (Vec::new(), 0, Vec::new(), 0);
        let mut sizes = pieces.iter().copied().cycle();
        while at < text.len() {
            let size = sizes.next().unwrap_or(1).max(1).min(text.len() - at);
            carry.extend_from_slice(&text[at..at + size]);
            at += size;
            let framed = framer.frame(&carry);
            lines.extend(framed.spans.iter().map(|s| carry[s.start()..s.end()].to_vec()));
            dropped += framed.oversize_events;
            carry.drain(..framed.consumed);
            assert!(carry.len() <= max, "holds no more than the limit");
        }
        let framed = framer.finish(&carry);
        lines.extend(framed.spans.iter().map(|s| carry[s.start()..s.end()].to_vec()));
        (lines, dropped + framed.oversize_events)
    }

    fn naive(text: &[u8], max: usize, oversize: Oversize) -> Vec<Vec<u8>> {
        let mut lines: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
        if lines.last().is_some_and(|l| l.is_empty()) {
            lines.pop();
        }
        let mut out = Vec::new();
        for line in lines {
            match oversize {
                _ if line.len() <= max => out.push(line.to_vec()),
                Oversize::Drop => {}
                Oversize::Truncate => out.push(line[..max].to_vec()),
                Oversize::Split => out.extend(line.chunks(max).map(<[u8]>::to_vec)),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            text in proptest::collection::vec(prop_oneof![5 => Just(b'a'), 1 => Just(b'\n'), 1 => Just(b'\r'), 1 => any::<u8>()], 0..400),
            pieces in proptest::collection::vec(1usize..40, 1..8),
            max in 1usize..30,
            which in 0u8..3,
        ) {
            let oversize = [Oversize::Truncate, Oversize::Drop, Oversize::Split][which as usize];
            let (lines, _) = frame_in_pieces(&text, &pieces, max, oversize);
            prop_assert_eq!(lines, naive(&text, max, oversize));
        }
    }

    #[test]
    fn crlf_and_empty_lines_keep_their_bytes() {
        let framed = LineFramer::new(100, Oversize::Drop).frame(b"a\r\n\n\r\nb");
        let lines: Vec<_> = framed.spans.iter().map(|s| &b"a\r\n\n\r\nb"[s.start()..s.end()]).collect();
        assert_eq!(lines, [&b"a\r"[..], b"", b"\r"]);
        assert_eq!((framed.consumed, framed.framing), (6, Framing::Lines));
    }

    #[test]
    fn dropped_lines_are_counted_once() {
        let (lines, dropped) = frame_in_pieces(b"aaaaaaaaaaaaaaaaaaaa\nb\n", &[3], 4, Oversize::Drop);
        assert_eq!((lines, dropped), (vec![b"b".to_vec()], 1));
    }
}
