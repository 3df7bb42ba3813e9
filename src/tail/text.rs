//! Bytes of a file to rows. UTF-8 (and anything else that nobody declared) is framed in place and passes byte for
//! byte; declared encodings are cut at their own line breaks first, so that offsets stay offsets of the file.

use bytes::Bytes;
use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};

use super::options::Settings;
use crate::batch::{Chunk, Framing, Span};
use crate::codec::framing::{LineFramer, Oversize};

/// How a file is encoded, and the length of the byte order mark it starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coding {
    /// `None`: bytes pass untouched.
    pub encoding: Option<&'static Encoding>,
    /// Bytes before the text.
    pub mark_bytes: u64,
}

impl Coding {
    /// Of a file that starts with `prefix`, if nothing in it contradicts `declared`.
    pub fn of(prefix: &[u8], declared: Option<&'static Encoding>) -> Coding {
        let unicode = declared.is_none() || declared == Some(UTF_16LE) || declared == Some(UTF_16BE);
        match prefix {
            [0xef, 0xbb, 0xbf, ..] if unicode => Coding { encoding: None, mark_bytes: 3 },
            [0xff, 0xfe, ..] if unicode => Coding { encoding: Some(UTF_16LE), mark_bytes: 2 },
            [0xfe, 0xff, ..] if unicode => Coding { encoding: Some(UTF_16BE), mark_bytes: 2 },
            _ => Coding { encoding: declared, mark_bytes: 0 },
        }
    }

    /// Whether characters are two bytes wide.
    pub fn is_wide(&self) -> bool {
        self.encoding == Some(UTF_16LE) || self.encoding == Some(UTF_16BE)
    }

    /// One past the last line break of `raw`, which starts at a character; 0 if there is none.
    pub fn last_break(&self, raw: &[u8]) -> usize {
        match self.wide_break() {
            None => memchr::memrchr(b'\n', raw).map_or(0, |at| at + 1),
            Some(newline) => {
                let mut pairs = raw.chunks_exact(2);
                pairs.rposition(|pair| pair == newline).map_or(0, |at| at * 2 + 2)
            }
        }
    }

    /// One past the `count`-th line break of `raw`.
    fn nth_break(&self, raw: &[u8], count: usize) -> usize {
        let Some(index) = count.checked_sub(1) else { return 0 };
        match self.wide_break() {
            None => memchr::memchr_iter(b'\n', raw).nth(index).map_or(raw.len(), |at| at + 1),
            Some(newline) => {
                let mut breaks = raw.chunks_exact(2).enumerate().filter(|(_, pair)| *pair == newline);
                breaks.nth(index).map_or(raw.len(), |(at, _)| at * 2 + 2)
            }
        }
    }

    fn wide_break(&self) -> Option<[u8; 2]> {
        let wide = self.encoding.filter(|_| self.is_wide())?;
        Some(if wide == UTF_16LE { [b'\n', 0] } else { [0, b'\n'] })
    }
}

/// How much of what was read has to become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Complete lines (and events that certainly ended).
    Complete,
    /// Complete lines, and events that wait for more of them.
    Waited,
    /// Everything: the file will not grow any more.
    End,
}

/// Rows of one stretch of a file.
#[derive(Debug)]
pub struct Rows {
    /// The text the spans are in.
    pub text: Bytes,
    /// The rows.
    pub spans: Vec<Span>,
    /// How they lie.
    pub framing: Framing,
    /// Bytes of the stretch, as they are in the file, that were dealt with.
    pub consumed: usize,
    /// Whether the rest of a line is still to be skipped.
    pub skipping: bool,
    /// Lines that were too long.
    pub oversize_events: u64,
}

/// Finds the rows of the first `len` bytes of `chunk`.
pub fn rows(
    chunk: Chunk,
    len: usize,
    coding: Coding,
    skipping: bool,
    until: Until,
    settings: &Settings,
) -> Result<Rows, Chunk> {
    let mut framer = LineFramer::new(settings.line_bytes_max, settings.oversize).resumed(skipping);
    if coding.encoding.is_some() {
        return decoded(chunk, len, coding, &mut framer, until, settings);
    }
    let raw = &chunk.as_slice()[..len];
    let mut framed = if until == Until::End { framer.finish(raw) } else { framer.frame(raw) };
    if let Some(multiline) = &settings.multiline {
        framed = multiline.join(raw, framed, until != Until::Complete);
    }
    if framed.consumed == 0 && framed.spans.is_empty() {
        return Err(chunk);
    }
    let consumed = framed.consumed;
    // A few lines must not keep a whole chunk from its pool.
    let text = if consumed * 4 < chunk.len() {
        Bytes::copy_from_slice(&chunk.as_slice()[..consumed])
    } else {
        chunk.freeze(consumed)
    };
    let (spans, framing, oversize_events) = (framed.spans, framed.framing, framed.oversize_events);
    Ok(Rows { text, spans, framing, consumed, skipping: framer.is_skipping(), oversize_events })
}

/// The same for a declared encoding: whole lines are decoded; a line that is too long is decoded as far as it goes.
fn decoded(
    chunk: Chunk,
    len: usize,
    coding: Coding,
    framer: &mut LineFramer,
    until: Until,
    settings: &Settings,
) -> Result<Rows, Chunk> {
    let Some(encoding) = coding.encoding else { return Err(chunk) };
    let raw = &chunk.as_slice()[..len];
    let mut cut = coding.last_break(raw);
    // In no encoding does a character become less than half its bytes long.
    let too_long = cut == 0 && len > settings.line_bytes_max * 2 + 16;
    if until == Until::End {
        cut = len;
    } else if too_long {
        cut = len & !1;
    }
    if cut == 0 {
        return Err(chunk);
    }
    let text = encoding.decode_without_bom_handling(&raw[..cut]).0.into_owned().into_bytes();
    let partial = until == Until::End || too_long;
    let mut framed = if partial && (until == Until::End || settings.oversize == Oversize::Split) {
        framer.finish(&text)
    } else {
        framer.frame(&text)
    };
    let mut consumed = cut;
    if let Some(multiline) = &settings.multiline {
        framed = multiline.join(&text, framed, partial || until != Until::Complete);
        if framed.consumed < text.len() {
            let lines = memchr::memchr_iter(b'\n', &text[..framed.consumed]).count();
            consumed = coding.nth_break(raw, lines);
        }
    }
    if consumed == 0 && framed.spans.is_empty() {
        return Err(chunk);
    }
    Ok(Rows {
        text: Bytes::from(text),
        spans: framed.spans,
        framing: framed.framing,
        consumed,
        skipping: framer.is_skipping(),
        oversize_events: framed.oversize_events,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_say_the_encoding() {
        let of = |prefix: &[u8]| Coding::of(prefix, None);
        assert_eq!(of(b"\xef\xbb\xbfa"), Coding { encoding: None, mark_bytes: 3 });
        assert_eq!(of(b"\xff\xfea\0"), Coding { encoding: Some(UTF_16LE), mark_bytes: 2 });
        assert_eq!(of(b"\xfe\xff\0a"), Coding { encoding: Some(UTF_16BE), mark_bytes: 2 });
        assert_eq!(of(b"abc"), Coding { encoding: None, mark_bytes: 0 });
        let japanese = Some(encoding_rs::SHIFT_JIS);
        assert_eq!(Coding::of(b"\xff\xfe", japanese), Coding { encoding: japanese, mark_bytes: 0 });
    }

    #[test]
    fn wide_breaks_are_found_at_characters_only() {
        let coding = Coding { encoding: Some(UTF_16LE), mark_bytes: 0 };
        // U+0A00, then a line break, then half a character.
        let raw = [0x00, 0x0a, 0x0a, 0x00, 0x61];
        assert_eq!((coding.last_break(&raw), coding.last_break(&raw[..2])), (4, 0));
        assert_eq!((coding.nth_break(&raw, 0), coding.nth_break(&raw, 1)), (0, 4));
    }
}
