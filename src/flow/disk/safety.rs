//! Making safe what was written: group commit on an interval, receipts once it is done, and the place of delivery on
//! disk now and then.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::stage::Stage;
use super::trouble::Failed;
use crate::base::clock::{self, Instant};
use crate::base::task;
use crate::batch::Outcome;

/// How often the settled place is written at most; what was settled since is delivered again after a `kill -9`.
pub(super) const PERSIST_EVERY: Duration = Duration::from_millis(100);

/// How long the sink may take to settle rows before the disk is waited for on their behalf.
const SINK_FIRST: Duration = Duration::from_millis(10);

impl Stage {
    /// Starts waiting for the disk, if there is something to wait for and it is time.
    pub(super) fn begin_sync(&mut self) {
        let due = self.sync_due().is_some_and(|at| at <= clock::now());
        if self.syncing.is_some() || self.unsafe_yet.is_empty() || !due {
            return;
        }
        self.last_sync = Some(clock::now());
        let Some(ticket) = self.store.begin_sync() else { return };
        let ticket = Arc::new(ticket);
        let run = ticket.clone();
        self.syncing = Some((task::spawn_blocking(move || run.run()), ticket));
    }

    /// When the disk is to be waited for: not before the sink had a moment to settle the rows, which saves the wait, and
    /// not sooner after the last time than the interval.
    pub(super) fn sync_due(&self) -> Option<Instant> {
        let first = self.unsafe_yet.front()?.since + SINK_FIRST.min(self.options.sync_interval);
        Some(self.last_sync.map_or(first, |at| first.max(at + self.options.sync_interval)))
    }

    /// The wait is over. What a failed one was for may be lost, whatever a later one says: its receipts wait for the
    /// sink instead.
    pub(super) fn end_sync(&mut self, result: io::Result<()>) {
        let Some((_, ticket)) = self.syncing.take() else { return };
        self.store.end_sync(&ticket, result.is_ok());
        let Err(e) = result else {
            self.unpersisted = true;
            return;
        };
        self.note_trouble(Failed::Sync, &e);
        let upto = ticket.upto().seq;
        while self.unsafe_yet.front().is_some_and(|rows| rows.end.seq <= upto) {
            self.sink_only.extend(self.unsafe_yet.pop_front());
        }
    }

    /// Tells sources what is safe: on the disk, or settled by the sink before it came to that.
    pub(super) fn settle_safe(&mut self) {
        let (acked, synced) = (self.store.acked().seq, self.store.synced().seq);
        for (receipts, upto) in [(&mut self.unsafe_yet, acked.max(synced)), (&mut self.sink_only, acked)] {
            while receipts.front().is_some_and(|rows| rows.end.seq <= upto) {
                let Some(rows) = receipts.pop_front() else { break };
                rows.receipt.settle(Outcome::Delivered);
            }
        }
    }

    /// Whether nothing more comes and nothing that has come is in memory alone, or on a disk that did not take it.
    pub(super) fn is_safe(&self) -> bool {
        let written = self.input_done && self.inbox.is_empty() && self.settlements.memory_weight() == 0;
        written && self.unsafe_yet.is_empty() && self.sink_only.is_empty()
    }

    /// Writes the place of delivery, if it moved and it is time.
    pub(super) fn persist(&mut self, sync: bool) {
        let due = self.last_persist.is_none_or(|at| at.elapsed() >= PERSIST_EVERY);
        if !sync && (!self.unpersisted || !due || self.trouble.writing.is_on()) {
            return;
        }
        self.last_persist = Some(clock::now());
        match self.store.persist(sync) {
            Ok(()) => self.unpersisted = false,
            Err(e) => self.note_trouble(Failed::Position, &e),
        }
    }
}
