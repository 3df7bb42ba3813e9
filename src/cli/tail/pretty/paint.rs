//! Text to the terminal: made harmless, coloured by what it is, with what was searched for marked. What is already
//! plain, which is nearly everything, is copied as it is.

use std::ops::Range;

use super::highlight::lex;
use super::style::{MARK, RESET, Style};
use crate::cli::tail::wanted::Marks;
use crate::codec::terminal::harmless_into;

/// See the module. Owns the room that lines are prepared in, so that none is made for each.
#[derive(Debug)]
pub(super) struct Painter {
    pub(super) color: bool,
    marks: Option<Marks>,
    ranges: Vec<Range<usize>>,
    clean: Vec<u8>,
}

impl Painter {
    /// A painter that colours if `color`, and marks what `marks` finds.
    pub(super) fn new(color: bool, marks: Option<Marks>) -> Painter {
        Painter { color, marks: marks.filter(|_| color), ranges: Vec::new(), clean: Vec::new() }
    }

    /// Appends text that may be anything: what stands out in it is coloured. Colours that it brings along stay, and
    /// then it gets no others.
    pub(super) fn text(&mut self, out: &mut Vec<u8>, text: &[u8]) {
        if is_plain(text) {
            return self.plain_text(out, text);
        }
        let mut clean = std::mem::take(&mut self.clean);
        clean.clear();
        harmless_into(&mut clean, text, self.color);
        if memchr::memchr(0x1b, &clean).is_some() {
            out.extend_from_slice(&clean);
        } else {
            self.plain_text(out, &clean);
        }
        self.clean = clean;
    }

    /// Appends text in one style.
    pub(super) fn styled(&mut self, out: &mut Vec<u8>, text: &[u8], style: Style) {
        if is_plain(text) {
            return self.plain_styled(out, text, style);
        }
        let mut clean = std::mem::take(&mut self.clean);
        clean.clear();
        harmless_into(&mut clean, text, false);
        self.plain_styled(out, &clean, style);
        self.clean = clean;
    }

    /// Appends text between bytes that begin and end a style.
    pub(super) fn framed(&self, out: &mut Vec<u8>, text: &[u8], on: &[u8]) {
        if self.color {
            out.extend_from_slice(on);
            out.extend_from_slice(text);
            out.extend_from_slice(RESET);
        } else {
            out.extend_from_slice(text);
        }
    }

    fn plain_styled(&mut self, out: &mut Vec<u8>, text: &[u8], style: Style) {
        if !self.color {
            return out.extend_from_slice(text);
        }
        self.find_marks(text);
        if self.ranges.is_empty() {
            return self.framed(out, text, style.on());
        }
        let mut marked = Marked { ranges: &self.ranges, next: 0 };
        marked.put(out, text, 0..text.len(), style.on());
    }

    fn plain_text(&mut self, out: &mut Vec<u8>, text: &[u8]) {
        if !self.color {
            return out.extend_from_slice(text);
        }
        self.find_marks(text);
        let mut done = 0;
        if self.ranges.is_empty() {
            lex(text, |start, end, style| {
                let on = style.on();
                out.reserve(end - done + on.len() + RESET.len());
                out.extend_from_slice(&text[done..start]);
                out.extend_from_slice(on);
                out.extend_from_slice(&text[start..end]);
                out.extend_from_slice(RESET);
                done = end;
            });
            return out.extend_from_slice(&text[done..]);
        }
        let mut marked = Marked { ranges: &self.ranges, next: 0 };
        lex(text, |start, end, style| {
            marked.put(out, text, done..start, b"");
            marked.put(out, text, start..end, style.on());
            done = end;
        });
        marked.put(out, text, done..text.len(), b"");
    }

    fn find_marks(&mut self, text: &[u8]) {
        self.ranges.clear();
        if let Some(marks) = &mut self.marks {
            marks.ranges(text, &mut self.ranges);
        }
    }
}

/// Puts styles and marks together; asked for ascending stretches.
struct Marked<'a> {
    ranges: &'a [Range<usize>],
    next: usize,
}

impl Marked<'_> {
    fn put(&mut self, out: &mut Vec<u8>, text: &[u8], range: Range<usize>, on: &[u8]) {
        let mut at = range.start;
        while at < range.end {
            while self.ranges.get(self.next).is_some_and(|mark| mark.end <= at) {
                self.next += 1;
            }
            let (end, on) = match self.ranges.get(self.next) {
                Some(mark) if mark.start <= at => (mark.end.min(range.end), MARK),
                Some(mark) => (mark.start.min(range.end), on),
                None => (range.end, on),
            };
            if on.is_empty() {
                out.extend_from_slice(&text[at..end]);
            } else {
                out.extend_from_slice(on);
                out.extend_from_slice(&text[at..end]);
                out.extend_from_slice(RESET);
            }
            at = end;
        }
    }
}

/// Whether text is printable ASCII and tabs.
#[inline]
pub(super) fn is_plain(text: &[u8]) -> bool {
    // Without a way out early, so that it runs over many bytes at a time.
    text.chunks(256).all(|chunk| {
        chunk.iter().fold(true, |plain, b| plain & ((b.wrapping_sub(0x20) < 0x5f) | (*b == b'\t')))
    })
}
