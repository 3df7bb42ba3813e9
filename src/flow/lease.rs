//! What a sink has in hand: a batch that keeps its place in the queue until the sink has settled it, wholly, in parts,
//! or by handing it on.

use std::sync::Arc;

use super::meter::{Meter, Reason};
use super::queue::{Place, Queue};
use crate::batch::{Batch, Outcome};

/// A batch in a sink's hands. Settle it; dropped unsettled it returns to its place in the queue. Rows that make the
/// sink panic are tried once more, then given up as a fault.
#[derive(Debug)]
pub struct Lease {
    batch: Option<Batch>,
    place: Place,
    queue: Arc<Queue>,
}

impl Lease {
    /// A lease of a batch that was counted as leased.
    pub(super) fn new(batch: Batch, place: Place, queue: Arc<Queue>) -> Lease {
        Lease { batch: Some(batch), place, queue }
    }

    /// The batch.
    pub fn batch(&self) -> &Batch {
        self.batch.as_ref().expect("a lease holds its batch until it is settled")
    }

    /// All rows were delivered.
    pub fn delivered(mut self) {
        if let Some(batch) = self.release() {
            self.queue.meter.delivered(batch.events(), batch.bytes());
            self.queue.account(self.place, &batch);
            batch.settle(Outcome::Delivered);
        }
    }

    /// The rows in `chosen` were delivered, the others filtered by the sink's own filters or `when`.
    pub fn delivered_some(mut self, delivered_events: u64, delivered_bytes: u64) {
        if let Some(batch) = self.release() {
            self.queue.meter.delivered(delivered_events, delivered_bytes);
            self.queue.meter.filtered(batch.events().saturating_sub(delivered_events));
            self.queue.account(self.place, &batch);
            batch.settle(Outcome::Delivered);
        }
    }

    /// All rows were lost for `reason`, for good.
    pub fn dropped(mut self, reason: Reason) {
        if let Some(batch) = self.release() {
            self.queue.meter.dropped(reason, batch.events());
            self.queue.account(self.place, &batch);
            batch.settle(if reason == Reason::Rejected { Outcome::Rejected } else { Outcome::Dropped });
        }
    }

    /// Cuts off the first `events` rows as a lease of their own, to be settled apart; `self` keeps the rest. The
    /// source hears the worst of both. Copies nothing. A part without rows is settled at once when dropped.
    #[must_use]
    pub fn split_to(&mut self, events: u64) -> Lease {
        let batch = self.batch.as_mut().expect("a lease holds its batch until it is settled");
        let mut state = self.queue.lock();
        // Two pieces weigh less than the whole: the delimiter between them belongs to neither.
        state.return_lease(batch);
        let head = batch.split_to(events);
        state.take_lease(&head);
        state.take_lease(batch);
        drop(state);
        Lease { batch: Some(head), place: self.place, queue: self.queue.clone() }
    }

    /// A receiver refused the rows for good, and they go on to where such rows are kept: counted as rejected here,
    /// settled by whoever takes them.
    #[must_use]
    pub fn diverted(mut self) -> Option<Batch> {
        let batch = self.release()?;
        let count = |meter: &Meter, events, _| meter.dropped(Reason::Rejected, events);
        Some(self.queue.count_onward(self.place, batch, count))
    }

    /// The batch leaves this queue for another one, which settles it; counted as delivered here, by a disk buffer when
    /// it is settled there.
    pub fn forward(mut self) -> Option<Batch> {
        let batch = self.release()?;
        Some(self.queue.count_onward(self.place, batch, Meter::delivered))
    }

    /// The batch goes on within the same buffer: nothing is counted but that it left this queue.
    pub(super) fn hand_on(mut self) -> Option<Batch> {
        self.release()
    }

    fn release(&mut self) -> Option<Batch> {
        let batch = self.batch.take()?;
        let mut state = self.queue.lock();
        state.return_lease(&batch);
        self.queue.publish(&state);
        Some(batch)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        if batch.is_empty() {
            return batch.settle(Outcome::Delivered);
        }
        let panicked = std::thread::panicking();
        let mut state = self.queue.lock();
        state.return_lease(&batch);
        let lost = match (state.aborted, panicked && self.place.suspect) {
            (Some(outcome), _) => Some((Reason::Aborted, outcome)),
            (_, true) => Some((Reason::Fault, Outcome::Rejected)),
            _ => None,
        };
        if let Some((reason, outcome)) = lost {
            self.queue.publish(&state);
            drop(state);
            return self.queue.drop_placed(self.place, batch, reason, outcome);
        }
        state.insert(Place { suspect: panicked || self.place.suspect, ..self.place }, batch);
        drop(state);
        self.queue.readable.notify_one();
    }
}
