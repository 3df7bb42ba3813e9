//! Bodies of log events as HTTP clients send them: a JSON object, an array, objects one after the other, NDJSON, or
//! plain lines. A body is decoded as a whole or refused with the place of its first mistake; what needs no change is
//! not copied.

mod json;
mod lines;
mod schema;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;

pub use json::DEPTH_MAX;
pub use schema::{FieldType, Schema};

use crate::batch::{Framing, Span};

/// Most events of one body: a body of nothing but line breaks must not become an index many times its size.
pub const EVENTS_MAX: usize = 1_000_000;

/// What a body says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// JSON: an object, an array, or objects with white space between them.
    Json,
    /// A JSON object per line.
    Ndjson,
    /// A line per event, any bytes.
    Lines,
    /// It does not say: what begins with `{` is JSON, what is a whole JSON array is one, the rest is lines.
    Unsaid,
}

impl BodyKind {
    /// The types that are understood, for messages.
    pub const TYPES: [&'static str; 3] = ["application/json", "application/x-ndjson", "text/plain"];

    /// The kind that a `content-type` names; `None` if it is none of ours. Form data is what `curl -d` says of
    /// anything, so it says nothing.
    pub fn from_content_type(value: &str) -> Option<BodyKind> {
        const NAMES: [(&str, BodyKind); 14] = [
            ("application/json", BodyKind::Json),
            ("text/json", BodyKind::Json),
            ("application/x-ndjson", BodyKind::Ndjson),
            ("application/ndjson", BodyKind::Ndjson),
            ("application/jsonl", BodyKind::Ndjson),
            ("application/x-jsonl", BodyKind::Ndjson),
            ("application/jsonlines", BodyKind::Ndjson),
            ("application/x-jsonlines", BodyKind::Ndjson),
            ("application/json-lines", BodyKind::Ndjson),
            ("application/x-json-stream", BodyKind::Json),
            ("text/plain", BodyKind::Lines),
            ("application/x-www-form-urlencoded", BodyKind::Unsaid),
            ("application/octet-stream", BodyKind::Unsaid),
            ("", BodyKind::Unsaid),
        ];
        let name = value.split(';').next().unwrap_or_default().trim();
        let known = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, kind)| *kind);
        let structured = || {
            let suffix = name.len().checked_sub(5).and_then(|at| name.get(at..));
            suffix.is_some_and(|s| s.eq_ignore_ascii_case("+json")).then_some(BodyKind::Json)
        };
        known.or_else(structured)
    }
}

/// The events of a body.
#[derive(Debug, Clone)]
pub struct Events {
    /// The text that holds them: the body itself where nothing had to change.
    pub text: Bytes,
    /// Where each lies in it, ascending.
    pub spans: SmallVec<[Span; 2]>,
    /// How they lie in it.
    pub framing: Framing,
    /// Where each began in the body, where `text` is not the body.
    starts: Vec<u32>,
    /// Whether they are elements of an array, which people count, rather than see as lines.
    is_array: bool,
}

impl Events {
    fn of_body(text: Bytes) -> Events {
        Events { text, spans: SmallVec::new(), framing: Framing::Lines, starts: Vec::new(), is_array: false }
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The events' bytes in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| &self.text[span.start()..span.end()])
    }

    /// Bytes of all events.
    pub fn bytes(&self) -> usize {
        self.spans.iter().map(|span| span.len()).sum()
    }

    fn start_of(&self, row: usize) -> usize {
        self.starts.get(row).map_or_else(|| self.spans[row].start(), |start| *start as usize)
    }
}

/// The events of `body`, none longer than the body itself.
///
/// # Errors
/// The first mistake and its place; then nothing of the body is to be used. Bodies are below 4 GiB.
pub fn decode(kind: BodyKind, body: Bytes) -> Result<Events, Malformed> {
    match kind {
        BodyKind::Json => json::document(body),
        BodyKind::Ndjson => lines::objects(body),
        BodyKind::Lines => lines::plain(body),
        BodyKind::Unsaid => match json::first_token(&body) {
            Some(b'{') => json::document(body),
            // Many plain logs begin with a bracket, too.
            Some(b'[') => json::document(body.clone()).or_else(|_| lines::plain(body)),
            _ => lines::plain(body),
        },
    }
}

/// What is wrong with a body, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Which element of an array, from 0.
    pub element: Option<usize>,
    /// What is wrong.
    pub why: String,
}

impl Malformed {
    fn at(body: &[u8], offset: usize, why: impl Into<String>) -> Malformed {
        let before = &body[..offset.min(body.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        // Bytes that continue a character are not counted.
        let column = before[line_start..].iter().filter(|b| **b & 0xc0 != 0x80).count() + 1;
        Malformed { line, column, element: None, why: why.into() }
    }

    fn element(mut self, index: usize) -> Malformed {
        self.element = Some(index);
        self
    }

    fn too_many(body: &[u8], offset: usize) -> Malformed {
        Malformed::at(body, offset, format!("more than {EVENTS_MAX} events; send them in several requests"))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)?;
        if let Some(element) = self.element {
            write!(f, ", element {element} of the array (counted from 0)")?;
        }
        write!(f, ": {}", self.why)
    }
}

impl std::error::Error for Malformed {}
