//! The bounded memory buffer in front of a sink. Bounds are exact in events; a batch that does not fit is split,
//! not refused. What a full buffer does is the operator's choice ([`WhenFull`]), and every loss is counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::meter::{Meter, Reason};
use crate::batch::{Batch, Outcome};

/// What happens to new rows while the buffer is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The sources of the pipeline wait. Nothing is lost; a slow sink slows its pipeline.
    Block,
    /// New rows are dropped and counted; what waits keeps its place.
    DropNewest,
    /// The oldest waiting rows are dropped and counted; the buffer follows the present.
    DropOldest,
}

/// Bounds of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most events that wait, at least 1. A batch that the sink has in hand does not count.
    pub events_max: u64,
    /// Most bytes of memory that waiting events keep alive, at least 1. One batch is always admitted to an empty
    /// buffer, so a single event larger than this still passes.
    pub bytes_max: u64,
    /// What a full buffer does.
    pub when_full: WhenFull,
}

/// A multi-producer, single-consumer queue of batches.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    bounds: Bounds,
    meter: Arc<Meter>,
    /// Woken when there is something to take, or the queue closed.
    readable: Notify,
    /// Woken when there is room again.
    writable: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Batch>,
    /// What waits.
    events: u64,
    bytes: u64,
    /// What the sink has in hand and has not settled.
    leased_events: u64,
    leased_bytes: u64,
    closed: bool,
}

impl State {
    fn pop_front(&mut self) -> Option<Batch> {
        let batch = self.waiting.pop_front()?;
        self.events -= batch.events();
        self.bytes -= batch.weight();
        Some(batch)
    }

    fn push_front(&mut self, batch: Batch) {
        self.events += batch.events();
        self.bytes += batch.weight();
        self.waiting.push_front(batch);
    }

    fn return_lease(&mut self, batch: &Batch) {
        self.leased_events -= batch.events();
        self.leased_bytes -= batch.weight();
    }
}

impl Queue {
    /// An empty queue that counts on `meter`.
    pub fn new(bounds: Bounds, meter: Arc<Meter>) -> Arc<Queue> {
        let state = Mutex::new(State::default());
        Arc::new(Queue { state, bounds, meter, readable: Notify::new(), writable: Notify::new() })
    }

    /// The meter that the queue counts on: the sink's.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Whether pushing may wait.
    pub fn blocks(&self) -> bool {
        self.bounds.when_full == WhenFull::Block
    }

    /// Adds a batch, waiting for room if the policy is `block`. When cancelled, rows not yet admitted are counted
    /// as aborted and their receipt reports them lost.
    pub async fn push(&self, batch: Batch) {
        self.meter.received(batch.events(), batch.bytes());
        let mut rest = Unadmitted { batch: Some(batch), meter: &self.meter };
        loop {
            let room_again = self.writable.notified();
            if self.admit(&mut rest) {
                return;
            }
            room_again.await;
        }
    }

    /// Moves what fits; true when nothing is left to wait for.
    fn admit(&self, rest: &mut Unadmitted<'_>) -> bool {
        let Some(mut batch) = rest.batch.take() else { return true };
        if batch.is_empty() {
            batch.settle(Outcome::Delivered);
            return true;
        }
        let mut state = self.lock();
        if state.closed {
            drop(state);
            self.drop_rows(batch, Reason::Aborted, Outcome::Lost);
            return true;
        }
        let done = match self.bounds.when_full {
            WhenFull::Block => {
                let room = self.room(&state, &batch);
                // Waiting for a good part of the buffer keeps pieces large: a full buffer that frees one row at a
                // time would otherwise cut every batch into single rows.
                if room >= batch.events() {
                    self.append(&mut state, batch);
                    true
                } else if room > 0 && (room * 2 >= self.bounds.events_max || state.events == 0) {
                    let piece = batch.split_to(room);
                    self.append(&mut state, piece);
                    rest.batch = Some(batch);
                    self.readable.notify_one();
                    return false;
                } else {
                    rest.batch = Some(batch);
                    return false;
                }
            }
            WhenFull::DropNewest => {
                let room = self.room(&state, &batch);
                if room >= batch.events() {
                    self.append(&mut state, batch);
                } else {
                    if room > 0 {
                        let piece = batch.split_to(room);
                        self.append(&mut state, piece);
                    }
                    self.drop_rows(batch, Reason::BufferFullNewest, Outcome::Dropped);
                }
                true
            }
            WhenFull::DropOldest => {
                self.make_room(&mut state, &mut batch);
                self.append(&mut state, batch);
                true
            }
        };
        self.publish(&state);
        drop(state);
        self.readable.notify_one();
        done
    }

    /// How many of the batch's rows may enter now.
    fn room(&self, state: &State, batch: &Batch) -> u64 {
        if state.events == 0 {
            return self.bounds.events_max.min(batch.events());
        }
        if state.bytes + batch.weight() > self.bounds.bytes_max {
            return 0;
        }
        self.bounds.events_max.saturating_sub(state.events).min(batch.events())
    }

    /// Drops the oldest waiting rows, and of a batch larger than the buffer its own oldest.
    fn make_room(&self, state: &mut State, batch: &mut Batch) {
        let Bounds { events_max, bytes_max, .. } = self.bounds;
        if batch.events() > events_max {
            let oldest = batch.split_to(batch.events() - events_max);
            self.drop_rows(oldest, Reason::BufferFullOldest, Outcome::Dropped);
        }
        while state.events + batch.events() > events_max || state.bytes + batch.weight() > bytes_max {
            let Some(mut front) = state.pop_front() else { break };
            let over = (state.events + front.events() + batch.events()).saturating_sub(events_max);
            let fits_in_bytes = state.bytes + front.weight() + batch.weight() <= bytes_max;
            if over < front.events() && fits_in_bytes {
                self.drop_rows(front.split_to(over), Reason::BufferFullOldest, Outcome::Dropped);
                state.push_front(front);
            } else {
                self.drop_rows(front, Reason::BufferFullOldest, Outcome::Dropped);
            }
        }
    }

    fn append(&self, state: &mut State, batch: Batch) {
        let batch = batch.compacted();
        state.events += batch.events();
        state.bytes += batch.weight();
        state.waiting.push_back(batch);
    }

    fn drop_rows(&self, batch: Batch, reason: Reason, outcome: Outcome) {
        self.meter.dropped(reason, batch.events());
        batch.settle(outcome);
    }

    fn publish(&self, state: &State) {
        self.meter.queued(state.events + state.leased_events, state.bytes + state.leased_bytes);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No more batches will come: the consumer ends after the last one.
    pub fn close(&self) {
        self.lock().closed = true;
        self.readable.notify_one();
        self.writable.notify_waiters();
    }

    /// Drops everything that waits, counted as aborted; for the end of a deadline.
    pub fn abort(&self) {
        let mut state = self.lock();
        state.closed = true;
        while let Some(batch) = state.pop_front() {
            self.drop_rows(batch, Reason::Aborted, Outcome::Lost);
        }
        self.publish(&state);
        drop(state);
        self.readable.notify_one();
        self.writable.notify_waiters();
    }
}

/// Rows on their way in; what is left when the push is cancelled is counted.
struct Unadmitted<'a> {
    batch: Option<Batch>,
    meter: &'a Meter,
}

impl Drop for Unadmitted<'_> {
    fn drop(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.meter.dropped(Reason::Aborted, batch.events());
        }
    }
}

/// The consuming end, held by the sink (and by its supervisor across restarts).
#[derive(Debug)]
pub struct Inlet {
    queue: Arc<Queue>,
}

impl Inlet {
    /// The consuming end of `queue`; there must be one only.
    pub fn new(queue: Arc<Queue>) -> Inlet {
        Inlet { queue }
    }

    /// The next batch, or `None` when the queue is closed and empty. Cancel-safe. The batch stays accounted as
    /// queued until its lease is settled; a lease dropped unsettled puts it back at the front.
    pub async fn recv(&mut self) -> Option<Lease> {
        let queue = self.queue.clone();
        loop {
            let readable = queue.readable.notified();
            if let Some(lease) = self.try_recv() {
                return Some(lease);
            }
            if self.queue.lock().closed {
                return None;
            }
            readable.await;
        }
    }

    /// The next batch if one waits.
    pub fn try_recv(&mut self) -> Option<Lease> {
        let mut state = self.queue.lock();
        let batch = state.pop_front()?;
        state.leased_events += batch.events();
        state.leased_bytes += batch.weight();
        drop(state);
        self.queue.writable.notify_waiters();
        Some(Lease { batch: Some(batch), queue: self.queue.clone() })
    }

    /// Whether nothing waits and nothing more will come.
    pub fn is_finished(&self) -> bool {
        let state = self.queue.lock();
        state.closed && state.waiting.is_empty()
    }

    /// Events that wait, not counting leased ones.
    pub fn waiting_events(&self) -> u64 {
        self.queue.lock().events
    }
}

/// A batch in a sink's hands. Settle it; dropped unsettled it returns to the front of its queue.
#[derive(Debug)]
pub struct Lease {
    batch: Option<Batch>,
    queue: Arc<Queue>,
}

impl Lease {
    /// The batch.
    pub fn batch(&self) -> &Batch {
        self.batch.as_ref().expect("a lease holds its batch until it is settled")
    }

    /// All rows were delivered.
    pub fn delivered(mut self) {
        if let Some(batch) = self.release() {
            self.queue.meter.delivered(batch.events(), batch.bytes());
            batch.settle(Outcome::Delivered);
        }
    }

    /// The rows in `chosen` were delivered, the others filtered by the sink's own filters or `when`.
    pub fn delivered_some(mut self, delivered_events: u64, delivered_bytes: u64) {
        if let Some(batch) = self.release() {
            self.queue.meter.delivered(delivered_events, delivered_bytes);
            self.queue.meter.filtered(batch.events().saturating_sub(delivered_events));
            batch.settle(Outcome::Delivered);
        }
    }

    /// All rows were lost for `reason`, for good.
    pub fn dropped(mut self, reason: Reason) {
        if let Some(batch) = self.release() {
            self.queue.meter.dropped(reason, batch.events());
            batch.settle(if reason == Reason::Rejected { Outcome::Rejected } else { Outcome::Dropped });
        }
    }

    /// The batch leaves this queue for another one, which settles it; counted as delivered here.
    pub fn forward(mut self) -> Option<Batch> {
        let batch = self.release()?;
        self.queue.meter.delivered(batch.events(), batch.bytes());
        Some(batch)
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
        if let Some(batch) = self.batch.take() {
            let mut state = self.queue.lock();
            state.return_lease(&batch);
            state.push_front(batch);
            drop(state);
            self.queue.readable.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue(events_max: u64, when_full: WhenFull) -> (Arc<Queue>, Inlet) {
        let bounds = Bounds { events_max, bytes_max: 1 << 20, when_full };
        let queue = Queue::new(bounds, Arc::new(Meter::default()));
        (queue.clone(), Inlet::new(queue))
    }

    fn numbered(range: std::ops::Range<u32>) -> Batch {
        Batch::from_lines("t", range.map(|i| i.to_string()))
    }

    fn drain(inlet: &mut Inlet) -> Vec<u32> {
        let mut rows = Vec::new();
        while let Some(lease) = inlet.try_recv() {
            rows.extend(
                lease.batch().lines().map(|(_, l)| std::str::from_utf8(l).unwrap().parse::<u32>().unwrap()),
            );
            lease.delivered();
        }
        rows
    }

    #[tokio::test]
    async fn drop_newest_keeps_exactly_what_fits() {
        let (queue, mut inlet) = queue(10, WhenFull::DropNewest);
        queue.push(numbered(0..7)).await;
        queue.push(numbered(7..20)).await;
        assert_eq!(drain(&mut inlet), (0..10).collect::<Vec<_>>());
        let m = queue.meter().snapshot();
        assert_eq!((m.dropped(Reason::BufferFullNewest), m.balances()), (10, true));
    }

    #[tokio::test]
    async fn drop_oldest_keeps_exactly_the_latest() {
        let (queue, mut inlet) = queue(10, WhenFull::DropOldest);
        queue.push(numbered(0..7)).await;
        queue.push(numbered(7..12)).await;
        assert_eq!(drain(&mut inlet), (2..12).collect::<Vec<_>>());
        queue.push(numbered(0..100)).await;
        assert_eq!(drain(&mut inlet), (90..100).collect::<Vec<_>>());
        assert!(queue.meter().snapshot().balances());
    }

    #[tokio::test]
    async fn block_waits_and_loses_nothing() {
        let (queue, mut inlet) = queue(10, WhenFull::Block);
        let pushing = crate::base::task::spawn({
            let queue = queue.clone();
            async move {
                for i in 0..20 {
                    queue.push(numbered(i * 7..i * 7 + 7)).await;
                }
                queue.close();
            }
        });
        let mut rows = Vec::new();
        while let Some(lease) = inlet.recv().await {
            assert!(inlet.waiting_events() <= 10);
            rows.extend(
                lease.batch().lines().map(|(_, l)| std::str::from_utf8(l).unwrap().parse::<u32>().unwrap()),
            );
            lease.delivered();
        }
        pushing.await.unwrap();
        assert_eq!(rows, (0..140).collect::<Vec<_>>());
        assert!(queue.meter().snapshot().balances());
    }

    #[tokio::test]
    async fn an_unsettled_lease_returns_to_the_front() {
        let (queue, mut inlet) = queue(10, WhenFull::Block);
        queue.push(numbered(0..3)).await;
        queue.push(numbered(3..5)).await;
        let lease = inlet.recv().await.unwrap();
        assert_eq!(queue.meter().snapshot().queued_events, 5);
        drop(lease);
        assert_eq!(drain(&mut inlet), [0, 1, 2, 3, 4]);
        assert!(queue.meter().snapshot().balances());
    }

    #[tokio::test]
    async fn a_cancelled_push_is_counted_and_its_receipt_is_lost() {
        let (queue, mut inlet) = queue(2, WhenFull::Block);
        let heard = Arc::new(Mutex::new(None));
        let tell = heard.clone();
        let mut builder = crate::batch::BatchBuilder::new(Arc::new(crate::batch::Origin::new("t", "t")));
        (0..5).for_each(|i: u32| builder.push(i.to_string().as_bytes()));
        let batch = builder.finish(crate::batch::Receipt::new(move |o| *tell.lock().unwrap() = Some(o)));
        let push = queue.push(batch);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), push).await.is_err());
        assert_eq!(drain(&mut inlet), [0, 1]);
        assert_eq!(*heard.lock().unwrap(), Some(Outcome::Lost));
        let m = queue.meter().snapshot();
        assert_eq!((m.dropped(Reason::Aborted), m.balances()), (3, true));
    }

    proptest! {
        #[test]
        fn conserves_under_any_traffic(
            events_max in 1u64..50, bytes_max in 1u64..4000, oldest in any::<bool>(),
            steps in proptest::collection::vec((0u32..80, any::<bool>(), any::<bool>()), 1..60),
        ) {
            let when_full = if oldest { WhenFull::DropOldest } else { WhenFull::DropNewest };
            let queue = Queue::new(Bounds { events_max, bytes_max, when_full }, Arc::new(Meter::default()));
            let mut inlet = Inlet::new(queue.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for (rows, take, settle) in steps {
                runtime.block_on(queue.push(numbered(0..rows)));
                prop_assert!(inlet.waiting_events() <= events_max);
                if take && let Some(lease) = inlet.try_recv() && settle {
                    lease.delivered();
                }
                prop_assert!(queue.meter().snapshot().balances());
            }
            queue.abort();
            let end = queue.meter().snapshot();
            prop_assert!(end.balances() && end.queued_events == 0);
        }
    }
}
