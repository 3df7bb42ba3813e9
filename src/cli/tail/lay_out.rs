//! Rows of elsewhere, laid out as `weir tail` does it.

use std::sync::Arc;

use bytes::Bytes;

use super::block::{Block, Envelope};
use super::pretty::Pretty;
use super::wanted::Marks;
use crate::batch::{Batch, Level, Span, Timestamp};
use crate::query::Query;

/// Lays out one row after the other, each labelled by where it comes from once there are several.
#[derive(Debug)]
pub(in crate::cli) struct LayOut(Pretty);

impl LayOut {
    /// Colours if `color`, labels from the start if `labelled`, marks what `query` finds.
    pub(in crate::cli) fn new(color: bool, labelled: bool, query: Option<&Query>) -> LayOut {
        LayOut(Pretty::new(color, labelled, Marks::new(&[], query)))
    }

    /// Appends a row, of which this is known, and its line break.
    pub(in crate::cli) fn row(
        &mut self,
        label: &str,
        (timestamp, level): (Option<Timestamp>, Option<Level>),
        line: &[u8],
        out: &mut Vec<u8>,
    ) {
        let envelope = Envelope { data: Span::new(0, 0), timestamp, level, label: Arc::from(label) };
        let block =
            Block { batch: Batch::from_lines("tap", [line]), data: Bytes::new(), envelopes: vec![envelope] };
        self.0.row(&block, 0, out);
    }
}
