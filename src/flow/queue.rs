//! The bounded memory buffer in front of a sink. Bounds are exact in events; a batch that does not fit is split,
//! not refused. What a full buffer does is the operator's choice ([`WhenFull`]), and every loss is counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

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
    /// A reload may change them while rows wait.
    bounds: Mutex<Bounds>,
    meter: Arc<Meter>,
    /// The second queue of one buffer: rows were counted as received, and are counted as queued, elsewhere.
    relay: bool,
    /// Woken when there is something to take, or the queue closed.
    readable: Notify,
    /// Woken when there is room again.
    writable: Notify,
    /// Producers that may wait enter in turn: else small batches would take all the room a large one waits for.
    turn: tokio::sync::Mutex<()>,
    /// See [`Inlet::starved`].
    starved: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// Ascending by [`Place::number`]; pieces of one batch by their first row.
    waiting: VecDeque<(Place, Batch)>,
    /// The number of the next place.
    next_number: u64,
    /// What waits.
    events: u64,
    bytes: u64,
    /// What the sink has in hand and has not settled.
    leased_events: u64,
    leased_bytes: u64,
    closed: bool,
    /// Nobody will take what a lease gives back.
    aborted: bool,
}

/// A batch's place in line, which it keeps while it is leased.
#[derive(Debug, Clone, Copy)]
struct Place {
    number: u64,
    /// The sink has panicked with the batch in hand.
    suspect: bool,
}

impl State {
    fn pop_front(&mut self) -> Option<(Place, Batch)> {
        let (place, batch) = self.waiting.pop_front()?;
        self.events -= batch.events();
        self.bytes -= batch.weight();
        Some((place, batch))
    }

    fn insert(&mut self, place: Place, batch: Batch) {
        self.events += batch.events();
        self.bytes += batch.weight();
        let key = |place: &Place, batch: &Batch| (place.number, batch.live().bounds().0);
        let own = key(&place, &batch);
        let at = self.waiting.partition_point(|(other, waiting)| key(other, waiting) < own);
        self.waiting.insert(at, (place, batch));
    }

    fn push_back(&mut self, batch: Batch) {
        self.events += batch.events();
        self.bytes += batch.weight();
        self.waiting.push_back((Place { number: self.next_number, suspect: false }, batch));
        self.next_number += 1;
    }

    fn take_lease(&mut self, batch: &Batch) {
        self.leased_events += batch.events();
        self.leased_bytes += batch.weight();
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
        let (readable, writable) = (Notify::new(), Notify::new());
        let turn = tokio::sync::Mutex::default();
        let bounds = Mutex::new(bounds);
        let starved = watch::Sender::new(false);
        Arc::new(Queue { state, bounds, meter, relay: false, readable, writable, turn, starved })
    }

    /// The last stretch of a buffer that consists of more than this queue: without bounds of its own, and counting
    /// only what the sink does with its rows. What it loses in an abort is the business of the receipts.
    pub(super) fn relay(meter: Arc<Meter>) -> Arc<Queue> {
        let bounds = Bounds { events_max: u64::MAX, bytes_max: u64::MAX, when_full: WhenFull::Block };
        let mut queue = Queue::new(bounds, meter);
        if let Some(queue) = Arc::get_mut(&mut queue) {
            queue.relay = true;
        }
        queue
    }

    /// Adds a batch to a relay; lost if it is closed.
    pub(super) fn enter(&self, batch: Batch) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return batch.settle(Outcome::Lost);
        }
        state.push_back(batch);
        drop(state);
        self.readable.notify_one();
    }

    /// For a relay: more rows wait before it, and none of them comes until the sink has settled some.
    pub(super) fn set_starved(&self, starved: bool) {
        self.starved.send_if_modified(|now| std::mem::replace(now, starved) != starved);
    }

    /// Whether the consumer is gone or the end was forced.
    pub(super) fn is_aborted(&self) -> bool {
        self.lock().aborted
    }

    /// Whether no more batches will come.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The meter that the queue counts on: the sink's.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Its bounds now.
    pub fn bounds(&self) -> Bounds {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the bounds; what waits stays, also where it is more than they allow.
    pub fn set_bounds(&self, bounds: Bounds) {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner) = bounds;
        self.writable.notify_waiters();
    }

    /// Whether pushing may wait.
    pub fn blocks(&self) -> bool {
        self.bounds().when_full == WhenFull::Block
    }

    /// Adds a batch, waiting for its turn and for room if the policy is `block`. Rows count as received once they
    /// are admitted or lost. When cancelled (even before it was polled), rows not yet admitted are counted as
    /// aborted and their receipt reports them lost.
    pub fn push(&self, batch: Batch) -> impl Future<Output = ()> + Send + '_ {
        let mut rest = Unadmitted { batch: Some(batch.compacted()), meter: &self.meter };
        async move {
            let _turn = if self.blocks() { Some(self.turn.lock().await) } else { None };
            loop {
                let room_again = self.writable.notified();
                if self.admit(&mut rest) {
                    return;
                }
                room_again.await;
            }
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
            self.receive(&batch);
            self.drop_rows(batch, Reason::Aborted, Outcome::Lost);
            return true;
        }
        match self.bounds().when_full {
            WhenFull::Block => {
                let room = self.room(&state, &batch);
                // Waiting for a good part of the buffer keeps pieces large: a full buffer that frees one row at a
                // time would otherwise cut every batch into single rows.
                if room >= batch.events() {
                    self.receive(&batch);
                    self.append(&mut state, batch);
                } else {
                    if room > 0 && (room * 2 >= self.bounds().events_max || state.events == 0) {
                        let piece = batch.split_to(room);
                        self.receive(&piece);
                        self.append(&mut state, piece);
                    }
                    rest.batch = Some(batch);
                }
            }
            WhenFull::DropNewest => {
                self.receive(&batch);
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
            }
            WhenFull::DropOldest => {
                self.receive(&batch);
                self.make_room(&mut state, &mut batch);
                self.append(&mut state, batch);
            }
        }
        self.publish(&state);
        drop(state);
        self.readable.notify_one();
        rest.batch.is_none()
    }

    /// How many of the batch's rows may enter now.
    fn room(&self, state: &State, batch: &Batch) -> u64 {
        if state.events == 0 {
            return self.bounds().events_max.min(batch.events());
        }
        if state.bytes + batch.weight() > self.bounds().bytes_max {
            return 0;
        }
        self.bounds().events_max.saturating_sub(state.events).min(batch.events())
    }

    /// Drops the oldest waiting rows, and of a batch larger than the buffer its own oldest.
    fn make_room(&self, state: &mut State, batch: &mut Batch) {
        let Bounds { events_max, bytes_max, .. } = self.bounds();
        if batch.events() > events_max {
            let oldest = batch.split_to(batch.events() - events_max);
            self.drop_rows(oldest, Reason::BufferFullOldest, Outcome::Dropped);
        }
        while state.events + batch.events() > events_max || state.bytes + batch.weight() > bytes_max {
            let Some((place, mut front)) = state.pop_front() else { break };
            let over = (state.events + front.events() + batch.events()).saturating_sub(events_max);
            let fits_in_bytes = state.bytes + front.weight() + batch.weight() <= bytes_max;
            if over < front.events() && fits_in_bytes {
                self.drop_rows(front.split_to(over), Reason::BufferFullOldest, Outcome::Dropped);
                state.insert(place, front);
            } else {
                self.drop_rows(front, Reason::BufferFullOldest, Outcome::Dropped);
            }
        }
    }

    fn append(&self, state: &mut State, batch: Batch) {
        state.push_back(batch.compacted());
    }

    fn receive(&self, batch: &Batch) {
        self.meter.received(batch.events(), batch.bytes());
    }

    fn drop_rows(&self, batch: Batch, reason: Reason, outcome: Outcome) {
        if !(self.relay && outcome == Outcome::Lost) {
            self.meter.dropped(reason, batch.events());
        }
        batch.settle(outcome);
    }

    fn publish(&self, state: &State) {
        if self.relay {
            return;
        }
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

    /// Drops everything that waits, and what leases still give back, counted as aborted; for the end of a deadline.
    /// Receipts report it lost, so that a source that can reads it again.
    pub fn abort(&self) {
        self.end(Outcome::Lost);
    }

    /// The same for a sink that the configuration no longer has: its rows are counted as aborted, and receipts report
    /// them dropped, as the sinks that are still there must not get them twice.
    pub fn abandon(&self) {
        self.end(Outcome::Dropped);
    }

    fn end(&self, outcome: Outcome) {
        let mut state = self.lock();
        (state.closed, state.aborted) = (true, true);
        while let Some((_, batch)) = state.pop_front() {
            self.drop_rows(batch, Reason::Aborted, outcome);
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
            self.meter.received(batch.events(), batch.bytes());
            self.meter.dropped(Reason::Aborted, batch.events());
        }
    }
}

/// The consuming end, held by the sink (and by its supervisor across restarts). Once it is dropped the queue takes
/// nothing more, so that producers never wait for a consumer that is gone.
///
/// An inlet that is released yields nothing more, as if the queue had been closed and emptied; what waits stays for
/// the next inlet.
#[derive(Debug)]
pub struct Inlet {
    queue: Arc<Queue>,
    release: CancellationToken,
}

impl Inlet {
    /// The consuming end of `queue`; there must be one only.
    pub fn new(queue: Arc<Queue>) -> Inlet {
        Inlet::releasable(queue, CancellationToken::new())
    }

    /// The same; once `release` is cancelled, another one may take the queue over.
    pub fn releasable(queue: Arc<Queue>, release: CancellationToken) -> Inlet {
        Inlet { queue, release }
    }

    /// The queue alone: another inlet takes from it.
    pub fn give_back(self) -> Arc<Queue> {
        self.release.cancel();
        self.queue.clone()
    }

    /// What releases it.
    pub fn release_token(&self) -> CancellationToken {
        self.release.clone()
    }

    /// Whether this sink is to end because another one takes its queue over.
    pub fn is_released(&self) -> bool {
        self.release.is_cancelled()
    }

    /// Waits until [`Inlet::is_released`]: a sink that tries again and again with a batch in hand should let go of
    /// it. Cancel-safe.
    pub async fn released(&self) {
        self.release.cancelled().await;
    }

    /// The next batch, or `None` when the queue is closed and empty. Cancel-safe. The batch stays accounted as
    /// queued until its lease is settled; a lease dropped unsettled puts it back in its place.
    pub async fn recv(&mut self) -> Option<Lease> {
        let queue = self.queue.clone();
        loop {
            let readable = queue.readable.notified();
            if let Some(lease) = self.try_recv() {
                return Some(lease);
            }
            // Asked under one lock: the last batch may have come, and the queue closed, since the line above.
            if self.is_finished() {
                return None;
            }
            tokio::select! {
                () = readable => {}
                () = self.release.cancelled() => return None,
            }
        }
    }

    /// The next batch if one waits.
    pub fn try_recv(&mut self) -> Option<Lease> {
        if self.is_released() {
            return None;
        }
        let mut state = self.queue.lock();
        let (place, batch) = state.pop_front()?;
        state.take_lease(&batch);
        drop(state);
        self.queue.writable.notify_waiters();
        Some(Lease { batch: Some(batch), place, queue: self.queue.clone() })
    }

    /// Waits until the buffer can give nothing more before leases are settled, though more waits in it: a sink that
    /// holds rows back to gather more would wait in vain. Only disk buffers come to that; what a sink has in hand
    /// takes no room in memory. Cancel-safe, and independent of the inlet.
    pub fn starved(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut starved = self.queue.starved.subscribe();
        async move {
            if starved.wait_for(|starved| *starved).await.is_err() {
                // The queue is gone; its end is heard elsewhere.
                std::future::pending().await
            }
        }
    }

    /// Waits until nothing more will come, whatever waits. Cancel-safe.
    pub async fn closed(&self) {
        loop {
            let readable = self.queue.readable.notified();
            if self.queue.is_closed() {
                return;
            }
            readable.await;
        }
    }

    /// Whether nothing waits and nothing more will come, to this inlet.
    pub fn is_finished(&self) -> bool {
        if self.is_released() {
            return true;
        }
        let state = self.queue.lock();
        state.closed && state.waiting.is_empty()
    }

    /// Events that wait, not counting leased ones.
    pub fn waiting_events(&self) -> u64 {
        self.queue.lock().events
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        if !self.is_released() {
            self.queue.abort();
        } else {
            // Its wake-up may have been meant for the next one.
            self.queue.readable.notify_one();
        }
    }
}

/// A batch in a sink's hands. Settle it; dropped unsettled it returns to its place in the queue. Rows that make the
/// sink panic are tried once more, then given up as a fault.
#[derive(Debug)]
pub struct Lease {
    batch: Option<Batch>,
    place: Place,
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
        self.queue.meter.dropped(Reason::Rejected, batch.events());
        Some(batch)
    }

    /// The batch leaves this queue for another one, which settles it; counted as delivered here.
    pub fn forward(mut self) -> Option<Batch> {
        let batch = self.release()?;
        self.queue.meter.delivered(batch.events(), batch.bytes());
        Some(batch)
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
            (true, _) => Some((Reason::Aborted, Outcome::Lost)),
            (_, true) => Some((Reason::Fault, Outcome::Rejected)),
            _ => None,
        };
        if let Some((reason, outcome)) = lost {
            self.queue.publish(&state);
            drop(state);
            return self.queue.drop_rows(batch, reason, outcome);
        }
        state.insert(Place { suspect: panicked || self.place.suspect, ..self.place }, batch);
        drop(state);
        self.queue.readable.notify_one();
    }
}
