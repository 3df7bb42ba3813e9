//! What inputs hand on: rows that came together, with what a running weir said about them where they came from one.

use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{Batch, Level, Span, Timestamp, detect};

/// What a running weir says of a row.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    /// The event as it was sent, in the block's `data`.
    pub(super) data: Span,
    /// When it happened, or arrived there.
    pub(super) timestamp: Option<Timestamp>,
    /// How severe it is.
    pub(super) level: Option<Level>,
    /// What to call where it comes from.
    pub(super) label: Arc<str>,
}

/// Rows of one input, in order.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// The rows; those that did not pass are not live.
    pub(super) batch: Batch,
    /// The events as a running weir sent them; empty where the rows are lines of files.
    pub(super) data: Bytes,
    /// One for each row, or none at all.
    pub(super) envelopes: Vec<Envelope>,
}

impl Block {
    /// Lines of a file or a pipe.
    pub(super) fn lines(batch: Batch) -> Block {
        Block { batch, data: Bytes::new(), envelopes: Vec::new() }
    }

    /// What a running weir says of a row.
    pub(super) fn envelope(&self, row: u32) -> Option<&Envelope> {
        self.envelopes.get(row as usize)
    }

    /// What to call where a row comes from.
    pub(super) fn label(&self, row: u32) -> &str {
        self.envelope(row).map_or_else(|| self.batch.arena().origin().label(), |e| &e.label)
    }

    /// The time a row states, or a running weir states for it.
    pub(super) fn stated_time(&self, row: u32) -> Option<Timestamp> {
        match self.envelope(row) {
            Some(envelope) => envelope.timestamp,
            None => detect::detect_timestamp(self.batch.line(row), self.batch.arena().received()),
        }
    }

    /// Bytes of memory it keeps, about.
    pub(super) fn weight(&self) -> u64 {
        self.batch.weight() + self.data.len() as u64 + (self.envelopes.len() * size_of::<Envelope>()) as u64
    }
}
