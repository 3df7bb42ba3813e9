//! Row 1: the batch. Lines live in one shared arena; a batch is a view of some of its rows, with columns that are
//! computed only when somebody asks. Cloning a batch bumps two reference counts and copies no line.

mod arena;
mod builder;
pub mod detect;
mod level;
mod pool;
mod receipt;
mod selection;
mod timestamp;

use std::sync::Arc;

use bytes::Bytes;

pub use arena::{Arena, Framing, Origin, Span};
pub use builder::BatchBuilder;
pub use level::Level;
pub use pool::{Chunk, ChunkPool};
pub use receipt::{Outcome, Receipt};
pub use selection::{Mask, Selection};
pub use timestamp::Timestamp;

/// A batch of log lines: some rows of an arena, and the receipt that tells their source how they ended.
///
/// The receipt makes a batch affine: settle it (or drop it, which counts as lost). A clone is another branch of
/// the same receipt and must be settled too.
#[derive(Debug, Clone)]
pub struct Batch {
    arena: Arc<Arena>,
    live: Selection,
    receipt: Receipt,
}

impl Batch {
    /// A batch over all rows of `arena`.
    pub fn new(arena: Arena, receipt: Receipt) -> Batch {
        let live = Selection::all(arena.spans());
        Batch { arena: Arc::new(arena), live, receipt }
    }

    /// One line per item, from the component `component`; for tests and small sources.
    pub fn from_lines<L: AsRef<[u8]>>(component: &str, lines: impl IntoIterator<Item = L>) -> Batch {
        let mut builder = BatchBuilder::new(Arc::new(Origin::new(component, component)));
        for line in lines {
            builder.push(line.as_ref());
        }
        builder.finish(Receipt::none())
    }

    /// The arena that holds the rows.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Which rows are live.
    pub fn live(&self) -> &Selection {
        &self.live
    }

    /// Number of live rows.
    pub fn events(&self) -> u64 {
        u64::from(self.live.count())
    }

    /// Bytes of the live rows, without delimiters.
    pub fn bytes(&self) -> u64 {
        self.live.bytes()
    }

    /// Whether no row is live.
    pub fn is_empty(&self) -> bool {
        self.live.count() == 0
    }

    /// Bytes of memory this view keeps alive: its stretch of the arena and the index of its rows. Disjoint pieces
    /// of one batch weigh together what the whole weighs.
    pub fn weight(&self) -> u64 {
        let (first, end) = self.live.bounds();
        if first == end {
            return 0;
        }
        let spans = self.arena.spans();
        let stretch = spans[end as usize - 1].end() - spans[first as usize].start();
        stretch as u64 + u64::from(end - first) * std::mem::size_of::<Span>() as u64
    }

    /// The bytes of one row (live or not), without its delimiter.
    pub fn line(&self, row: u32) -> &[u8] {
        self.arena.line(row)
    }

    /// The live rows in order: index and bytes.
    pub fn lines(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.live.iter().map(|row| (row, self.arena.line(row)))
    }

    /// Severity of a row, detected once and shared by all clones.
    pub fn level(&self, row: u32) -> Option<Level> {
        self.arena.level(row)
    }

    /// Event time of a row: detected in the line, else when it was received.
    pub fn timestamp(&self, row: u32) -> Timestamp {
        self.arena.timestamp(row)
    }

    /// Keeps only the rows set in `mask`, which must have come from [`Batch::mask`] and the live rows.
    pub fn narrow(&mut self, mask: Mask) {
        self.live = self.live.narrowed(mask, self.arena.spans());
    }

    /// An empty mask of this arena's shape.
    pub fn mask(&self) -> Mask {
        Mask::empty(self.arena.spans().len())
    }

    /// Keeps the rows for which `keep` is true; rows are visited in order, live ones only.
    pub fn retain(&mut self, mut keep: impl FnMut(&Batch, u32) -> bool) {
        let mut mask = self.mask();
        for row in self.live.iter() {
            if keep(self, row) {
                mask.set(row);
            }
        }
        self.narrow(mask);
    }

    /// Splits off the first `events` live rows as a batch of their own; `self` keeps the rest. Both settle the
    /// same receipt. Copies nothing.
    pub fn split_to(&mut self, events: u64) -> Batch {
        let (head, tail) = self.live.split_at(events, self.arena.spans());
        self.live = tail;
        Batch { arena: self.arena.clone(), live: head, receipt: self.receipt.clone() }
    }

    /// Copies the live rows into an arena of their own when they are under a quarter of what they keep alive, so
    /// that a queue of survivors does not pin what was filtered away.
    pub fn compacted(self) -> Batch {
        // A copy holds a delimiter per row, too.
        if (self.bytes() + self.events()) * 4 >= self.arena.pinned_bytes() || self.is_empty() {
            return self;
        }
        let mut builder = BatchBuilder::with_capacity(
            self.arena.origin().clone(),
            self.bytes() as usize + self.live.count() as usize,
            self.live.count() as usize,
        );
        builder.received(self.arena.received());
        for (_, line) in self.lines() {
            builder.push(line);
        }
        builder.finish(self.receipt)
    }

    /// The live rows in the format named `format`, encoded once however many branches of the batch ask: the first
    /// runs `encode`, the others share its bytes, and the last takes them away.
    pub fn encoding(&self, format: &Arc<str>, encode: impl FnOnce(&Batch) -> Bytes) -> Bytes {
        let others = Arc::strong_count(&self.arena) > 1;
        self.arena.encoding(format, &self.live, others, || encode(self))
    }

    /// Ends this branch of the batch: every live row met `outcome`.
    pub fn settle(self, outcome: Outcome) {
        self.receipt.settle(outcome);
    }

    /// Takes the receipt away, leaving one that nobody watches; for sinks that settle later than they let go.
    pub fn take_receipt(&mut self) -> Receipt {
        std::mem::replace(&mut self.receipt, Receipt::none())
    }

    /// The same rows under another receipt; the one they had must have been taken.
    #[must_use]
    pub fn with_receipt(mut self, receipt: Receipt) -> Batch {
        self.receipt = receipt;
        self
    }

    /// The same rows without a receipt: a view to keep (a history), not to account for.
    pub fn view(&self) -> Batch {
        Batch { arena: self.arena.clone(), live: self.live.clone(), receipt: Receipt::none() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(batch: &Batch) -> Vec<String> {
        batch.lines().map(|(_, l)| String::from_utf8_lossy(l).into_owned()).collect()
    }

    #[test]
    fn retain_then_split_keeps_order_and_counts() {
        let mut batch = Batch::from_lines("t", (0..200).map(|i| format!("line {i}")));
        batch.retain(|b, row| !b.line(row).ends_with(b"7"));
        assert_eq!(batch.events(), 180);
        let whole = lines(&batch);
        let head = batch.split_to(100);
        assert_eq!((head.events(), batch.events()), (100, 80));
        let mut both = lines(&head);
        both.extend(lines(&batch));
        assert_eq!(both, whole);
        assert_eq!(head.bytes() + batch.bytes(), whole.iter().map(|l| l.len() as u64).sum::<u64>());
    }

    #[test]
    fn compaction_lets_the_arena_go_and_keeps_the_rows() {
        let mut batch = Batch::from_lines("t", (0..100).map(|i| format!("{i:0>50}")));
        batch.retain(|_, row| row % 10 == 3);
        let before = lines(&batch);
        let pinned = batch.arena().pinned_bytes();
        let small = batch.compacted();
        assert_eq!(lines(&small), before);
        assert!(small.arena().pinned_bytes() < pinned / 4);
    }

    #[test]
    fn compaction_leaves_empty_lines_where_they_are() {
        let batch = Batch::from_lines("t", vec![""; 1000]);
        let text = batch.arena().text().as_ptr();
        assert_eq!(batch.compacted().arena().text().as_ptr(), text);
    }

    #[test]
    fn branches_share_one_encoding_and_the_last_takes_it() {
        let mut encodes = 0;
        let mut ask = |batch: &Batch, format: &str| {
            batch.encoding(&format.into(), |b| {
                encodes += 1;
                Bytes::from(format!("{} {format}", b.events()))
            })
        };
        let a = Batch::from_lines("t", ["x", "y"]);
        let (b, mut c) = (a.clone(), a.clone());
        c.split_to(1).settle(Outcome::Delivered);
        assert_eq!(ask(&a, "json"), ask(&b, "json"));
        assert_eq!(ask(&c, "json"), "1 json");
        assert_eq!(ask(&a, "text"), "2 text");
        drop((b, c));
        assert_eq!(ask(&a, "json"), "2 json");
        ask(&a, "json");
        assert_eq!(encodes, 4, "json, its other half, text, and json again once it was taken");
    }

    #[test]
    fn pieces_weigh_what_the_whole_weighs() {
        let mut batch = Batch::from_lines("t", (0..64).map(|i| format!("line {i}")));
        let whole = batch.weight();
        let head = batch.split_to(10);
        // The newline between the two pieces belongs to neither.
        assert_eq!(head.weight() + batch.weight() + 1, whole);
        assert_eq!(batch.split_to(0).weight(), 0);
    }
}
