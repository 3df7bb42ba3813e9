//! JSON documents, checked by the grammar (RFC 8259) without building values: numbers may have any number of
//! digits, objects may repeat keys, and what is passed on is the text that was sent.

use bytes::Bytes;

use super::{EVENTS_MAX, Events, Malformed};
use crate::batch::{Framing, Span};
use crate::codec::json::clean_prefix;
use crate::query::lookup::unescaped;

/// Deepest nesting of objects and arrays in an event.
pub const DEPTH_MAX: u32 = 128;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The first byte that is neither white space nor a byte order mark.
pub(super) fn first_token(body: &[u8]) -> Option<u8> {
    let scan = &mut Scanner::new(body);
    scan.space();
    scan.peek()
}

/// The events of a JSON body: an object, an array of objects and strings, or several objects.
pub(super) fn document(body: Bytes) -> Result<Events, Malformed> {
    check_utf8(&body)?;
    let mut scan = Scanner::new(&body);
    scan.space();
    match scan.peek() {
        Some(b'{') => {}
        Some(b'[') => return array(&body),
        _ => return Err(scan.expected("a JSON object or an array of them")),
    }
    let start = scan.at;
    let spaced = scan.value()?;
    let end = scan.at;
    scan.space();
    if scan.peek().is_none() && !spaced {
        let mut events = Events::of_body(body.slice(..end));
        events.spans.push(Span::new(start, end - start));
        return Ok(events);
    }
    objects(&body, start)
}

/// Objects one after the other, from `start` on.
fn objects(body: &Bytes, start: usize) -> Result<Events, Malformed> {
    let mut out = Rewritten::new(body.len());
    let mut scan = Scanner { at: start, ..Scanner::new(body) };
    while scan.peek().is_some() {
        if scan.peek() != Some(b'{') {
            return Err(scan.expected("another JSON object, or the end"));
        }
        out.room(&scan)?;
        let from = scan.at;
        let spaced = scan.value()?;
        out.object(&body[from..scan.at], spaced, from);
        scan.space();
    }
    Ok(out.finish(false))
}

fn array(body: &Bytes) -> Result<Events, Malformed> {
    let mut out = Rewritten::new(body.len());
    let mut scan = Scanner::new(body);
    scan.space();
    scan.at += 1;
    scan.space();
    let mut ended = scan.skip(b']');
    while !ended {
        let element = out.spans.len();
        out.room(&scan)?;
        let from = scan.at;
        match scan.peek() {
            Some(b'{') => {
                let spaced = scan.value().map_err(|e| e.element(element))?;
                out.object(&body[from..scan.at], spaced, from);
            }
            Some(b'"') => {
                scan.value().map_err(|e| e.element(element))?;
                out.line(&unescaped(&body[from + 1..scan.at - 1]), from);
            }
            _ => return Err(scan.expected("an object or a string").element(element)),
        }
        scan.space();
        ended = scan.skip(b']');
        if !ended && !scan.skip(b',') {
            return Err(scan.expected("`,` or `]`").element(element));
        }
        scan.space();
    }
    scan.space();
    if scan.peek().is_some() {
        return Err(scan.expected("the end after the array"));
    }
    Ok(out.finish(true))
}

pub(super) fn check_utf8(body: &[u8]) -> Result<(), Malformed> {
    std::str::from_utf8(body)
        .map(drop)
        .map_err(|e| Malformed::at(body, e.valid_up_to(), "not UTF-8, which JSON is written in"))
}

/// Events in a text of their own, each followed by a line break.
struct Rewritten {
    text: Vec<u8>,
    spans: Vec<Span>,
    starts: Vec<u32>,
    framing: Framing,
}

impl Rewritten {
    fn new(bytes: usize) -> Rewritten {
        let text = Vec::with_capacity(bytes + 1);
        Rewritten { text, spans: Vec::new(), starts: Vec::new(), framing: Framing::Lines }
    }

    fn room(&self, scan: &Scanner<'_>) -> Result<(), Malformed> {
        if self.spans.len() < EVENTS_MAX { Ok(()) } else { Err(Malformed::too_many(scan.text, scan.at)) }
    }

    fn object(&mut self, object: &[u8], spaced: bool, start: usize) {
        let from = self.text.len();
        if spaced {
            compact_into(&mut self.text, object);
        } else {
            self.text.extend_from_slice(object);
        }
        self.end_row(from, start);
    }

    fn line(&mut self, line: &[u8], start: usize) {
        if memchr::memchr(b'\n', line).is_some() {
            self.framing = Framing::Free;
        }
        let from = self.text.len();
        self.text.extend_from_slice(line);
        self.end_row(from, start);
    }

    fn end_row(&mut self, from: usize, start: usize) {
        self.spans.push(Span::new(from, self.text.len() - from));
        self.starts.push(start as u32);
        self.text.push(b'\n');
    }

    fn finish(self, is_array: bool) -> Events {
        let Rewritten { text, spans, starts, framing } = self;
        Events { text: text.into(), spans: spans.into(), framing, starts, is_array }
    }
}

/// Appends well-formed JSON without the white space between its tokens.
fn compact_into(out: &mut Vec<u8>, json: &[u8]) {
    let mut at = 0;
    while at < json.len() {
        match json[at] {
            b'"' => {
                let end = string_end(json, at);
                out.extend_from_slice(&json[at..end]);
                at = end;
            }
            b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
}

/// One past the closing quote of the well-formed string that opens at `open`.
fn string_end(json: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &json[at.min(json.len())..]) {
        at += found;
        if json[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    json.len()
}

/// A place in a JSON text.
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Scanner<'a> {
    /// At the start, behind a byte order mark, which RFC 8259 lets a reader pass over.
    pub(super) fn new(text: &'a [u8]) -> Scanner<'a> {
        Scanner { text, at: if text.starts_with(BOM) { BOM.len() } else { 0 } }
    }

    /// From `at` to `end`.
    pub(super) fn within(text: &'a [u8], at: usize, end: usize) -> Scanner<'a> {
        Scanner { text: &text[..end], at }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Passes over white space; whether there was any.
    pub(super) fn space(&mut self) -> bool {
        let from = self.at;
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
        self.at > from
    }

    fn skip(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    pub(super) fn expected(&self, what: &str) -> Malformed {
        let rest = &self.text[self.at.min(self.text.len())..];
        let found = match rest.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()) {
            None => "the end".to_owned(),
            Some('\n') => "the end of the line".to_owned(),
            Some(c) if c.is_control() => format!("U+{:04X}", u32::from(c)),
            Some(c) => format!("`{c}`"),
        };
        Malformed::at(self.text, self.at, format!("expected {what}, found {found}"))
    }

    /// Passes over one value; whether it holds white space between its tokens. The nesting is kept in the bits of a
    /// number, one per level, so no depth costs stack or memory.
    pub(super) fn value(&mut self) -> Result<bool, Malformed> {
        let (mut objects, mut depth, mut spaced) = (0u128, 0u32, false);
        loop {
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    if depth == DEPTH_MAX {
                        let why = format!("nested more than {DEPTH_MAX} deep");
                        return Err(Malformed::at(self.text, self.at, why));
                    }
                    objects = objects << 1 | u128::from(open == b'{');
                    depth += 1;
                    self.at += 1;
                    spaced |= self.space();
                    // An empty one is closed below.
                    if self.peek() != Some(if open == b'{' { b'}' } else { b']' }) {
                        if open == b'{' {
                            spaced |= self.key()?;
                        }
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            loop {
                if depth == 0 {
                    return Ok(spaced);
                }
                spaced |= self.space();
                match (self.peek(), objects & 1 == 1) {
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        objects >>= 1;
                        depth -= 1;
                    }
                    (Some(b','), is_object) => {
                        self.at += 1;
                        spaced |= self.space();
                        if is_object {
                            spaced |= self.key()?;
                        }
                        break;
                    }
                    (_, true) => return Err(self.expected("`,` or `}`")),
                    (_, false) => return Err(self.expected("`,` or `]`")),
                }
            }
        }
    }

    /// A key and its colon; whether there was white space around it.
    fn key(&mut self) -> Result<bool, Malformed> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key in double quotes"));
        }
        self.string()?;
        let before = self.space();
        if !self.skip(b':') {
            return Err(self.expected("`:`"));
        }
        Ok(self.space() || before)
    }

    fn scalar(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(self.expected("a value")),
        }
    }

    fn literal(&mut self, name: &str) -> Result<(), Malformed> {
        if !self.text[self.at..].starts_with(name.as_bytes()) {
            return Err(self.expected(&format!("`{name}`")));
        }
        self.at += name.len();
        Ok(())
    }

    fn string(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        loop {
            self.at += clean_prefix(&self.text[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                        Some(b'u') => self.unicode()?,
                        _ => return Err(self.expected("an escape: one of \" \\ / b f n r t u")),
                    }
                }
                None => return Err(self.expected("the closing quote of a string")),
                Some(_) => return Err(self.expected("a character of a string, or an escape")),
            }
        }
    }

    fn unicode(&mut self) -> Result<(), Malformed> {
        for _ in 0..4 {
            self.at += 1;
            if !self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                return Err(self.expected("four hexadecimal digits after `\\u`"));
            }
        }
        self.at += 1;
        Ok(())
    }

    fn number(&mut self) -> Result<(), Malformed> {
        self.skip(b'-');
        if !self.skip(b'0') {
            self.digits()?;
        }
        if self.skip(b'.') {
            self.digits()?;
        }
        if self.skip(b'e') || self.skip(b'E') {
            if !self.skip(b'+') {
                self.skip(b'-');
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let count = self.text[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.expected("a digit")) } else { Ok(()) }
    }
}
