//! The arena: one shared stretch of text, the spans of its rows, and columns that are filled row by row on first
//! need and shared by every clone.

use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::{Level, Selection, Timestamp, detect};

/// A row: where it starts in the arena's text, and how long it is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The row `start..start + len`. An arena is below 4 GiB by construction.
    pub fn new(start: usize, len: usize) -> Span {
        debug_assert!(start + len <= u32::MAX as usize);
        Span { start: start as u32, len: len as u32 }
    }

    /// First byte.
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// Whether the row is an empty line.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// One past the last byte.
    pub fn end(self) -> usize {
        self.start as usize + self.len as usize
    }
}

/// Where rows came from: shared by every batch of one stream (a file, a connection, standard input).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    component: Arc<str>,
    label: Arc<str>,
}

impl Origin {
    /// Rows of the component `component`; `label` is what users see as `source` (a path, an address, a name).
    pub fn new(component: &str, label: &str) -> Origin {
        Origin { component: component.into(), label: label.into() }
    }

    /// The source component.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// What users see as `source`.
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// How rows lie in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Every row is followed by `\n` and holds none: searches may run over many rows at once, and a run of
    /// neighbouring rows is written as one slice.
    Lines,
    /// Rows may hold any byte and anything may lie between them.
    Free,
}

/// One shared text, its rows, and their lazily computed columns.
#[derive(Debug)]
pub struct Arena {
    text: Bytes,
    spans: Vec<Span>,
    framing: Framing,
    origin: Arc<Origin>,
    received: Timestamp,
    levels: OnceLock<Box<[AtomicU8]>>,
    timestamps: OnceLock<Box<[AtomicI64]>>,
    encodings: Mutex<Vec<Encoding>>,
}

/// Rows as they were written in some format, kept for the next sink that asks for the same.
#[derive(Debug)]
struct Encoding {
    format: Arc<str>,
    rows: Selection,
    bytes: Bytes,
}

/// Column value of a row nobody asked about yet.
const LEVEL_UNKNOWN: u8 = u8::MAX;
/// Column value of a row that has no level.
const LEVEL_NONE: u8 = u8::MAX - 1;
const TIMESTAMP_UNKNOWN: i64 = i64::MIN;

impl Arena {
    /// An arena over `text`; `spans` ascend and do not overlap. With [`Framing::Lines`] each is followed by `\n`
    /// (the last may end the text) and holds none.
    pub fn new(
        text: Bytes,
        spans: Vec<Span>,
        framing: Framing,
        origin: Arc<Origin>,
        received: Timestamp,
    ) -> Arena {
        debug_assert!(spans.windows(2).all(|w| w[0].end() <= w[1].start()));
        debug_assert!(spans.last().is_none_or(|s| s.end() <= text.len()));
        let (levels, timestamps) = (OnceLock::new(), OnceLock::new());
        Arena { text, spans, framing, origin, received, levels, timestamps, encodings: Mutex::default() }
    }

    /// The whole text, delimiters included.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// All rows, live or not, ascending.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// How rows lie in the text.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Where the rows came from.
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// When the rows were received.
    pub fn received(&self) -> Timestamp {
        self.received
    }

    /// Bytes of text that live as long as any row of the arena.
    pub fn pinned_bytes(&self) -> u64 {
        self.text.len() as u64
    }

    /// The bytes of a row.
    pub fn line(&self, row: u32) -> &[u8] {
        let span = self.spans[row as usize];
        &self.text[span.start()..span.end()]
    }

    /// The row's severity, detected on first need.
    pub fn level(&self, row: u32) -> Option<Level> {
        let column =
            self.levels.get_or_init(|| (0..self.spans.len()).map(|_| AtomicU8::new(LEVEL_UNKNOWN)).collect());
        let cell = &column[row as usize];
        match cell.load(Ordering::Relaxed) {
            LEVEL_UNKNOWN => {
                let level = detect::detect_level(self.line(row));
                cell.store(level.map_or(LEVEL_NONE, |l| l as u8), Ordering::Relaxed);
                level
            }
            LEVEL_NONE => None,
            n => Level::from_u8(n),
        }
    }

    /// The row's event time: detected in the line on first need, else when the row was received.
    pub fn timestamp(&self, row: u32) -> Timestamp {
        let column = self
            .timestamps
            .get_or_init(|| (0..self.spans.len()).map(|_| AtomicI64::new(TIMESTAMP_UNKNOWN)).collect());
        let cell = &column[row as usize];
        match cell.load(Ordering::Relaxed) {
            TIMESTAMP_UNKNOWN => {
                let found = detect::detect_timestamp(self.line(row), self.received).unwrap_or(self.received);
                cell.store(found.0, Ordering::Relaxed);
                found
            }
            nanos => Timestamp(nanos),
        }
    }

    /// The encoding of these rows in that format; made by `encode` unless another branch has left it here.
    /// `keep`: whether other branches may still ask for it.
    pub(super) fn encoding(
        &self,
        format: &Arc<str>,
        rows: &Selection,
        keep: bool,
        encode: impl FnOnce() -> Bytes,
    ) -> Bytes {
        let mut encodings = self.encodings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = encodings.iter().position(|e| e.format == *format && e.rows.is_same(rows)) {
            return if keep { encodings[at].bytes.clone() } else { encodings.swap_remove(at).bytes };
        }
        // Made under the lock, so that two sinks at once do not both do the work.
        let bytes = encode();
        if keep {
            encodings.push(Encoding { format: format.clone(), rows: rows.clone(), bytes: bytes.clone() });
        }
        bytes
    }
}
