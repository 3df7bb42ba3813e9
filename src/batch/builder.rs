//! Makes batches: either line by line (small sources), or from a chunk that was read in one go and whose lines
//! were framed in place.

use std::sync::Arc;

use bytes::Bytes;

use super::{Arena, Batch, Framing, Origin, Receipt, Span, Timestamp};
use crate::base::clock;

/// Collects rows into one arena. Rows that hold `\n` are allowed; the batch is then [`Framing::Free`].
#[derive(Debug)]
pub struct BatchBuilder {
    text: Vec<u8>,
    spans: Vec<Span>,
    framing: Framing,
    origin: Arc<Origin>,
    received: Option<Timestamp>,
}

impl BatchBuilder {
    /// An empty builder.
    pub fn new(origin: Arc<Origin>) -> BatchBuilder {
        BatchBuilder::with_capacity(origin, 0, 0)
    }

    /// An empty builder with room for `bytes` (delimiters included) and `rows`.
    pub fn with_capacity(origin: Arc<Origin>, bytes: usize, rows: usize) -> BatchBuilder {
        let (text, spans) = (Vec::with_capacity(bytes), Vec::with_capacity(rows));
        BatchBuilder { text, spans, framing: Framing::Lines, origin, received: None }
    }

    /// Says when the rows were received; otherwise it is the moment of `finish`.
    pub fn received(&mut self, at: Timestamp) {
        self.received = Some(at);
    }

    /// Appends a row.
    pub fn push(&mut self, line: &[u8]) {
        if self.framing == Framing::Lines && memchr::memchr(b'\n', line).is_some() {
            self.framing = Framing::Free;
        }
        self.spans.push(Span::new(self.text.len(), line.len()));
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
    }

    /// Appends a row that `write` puts down directly into the arena; it must hold no `\n`.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        write(&mut self.text);
        debug_assert!(memchr::memchr(b'\n', &self.text[start..]).is_none());
        self.spans.push(Span::new(start, self.text.len() - start));
        self.text.push(b'\n');
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.spans.len()
    }

    /// Bytes of text so far, delimiters included.
    pub fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Whether no row was pushed.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The batch of all rows pushed.
    pub fn finish(self, receipt: Receipt) -> Batch {
        let received = self.received.unwrap_or_else(|| Timestamp(clock::unix_nanos()));
        Batch::new(
            Arena::new(Bytes::from(self.text), self.spans, self.framing, self.origin, received),
            receipt,
        )
    }
}
