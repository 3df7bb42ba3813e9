//! The bounded memory buffer in front of a sink. Bounds are exact in events; a batch that does not fit is split,
//! not refused. What a full buffer does is the operator's choice ([`WhenFull`]), and every loss is counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::lease::Lease;
use super::ledger::Ledger;
use super::meter::{Meter, Reason};
use crate::batch::{Batch, Outcome, Receipt};

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
    pub(super) meter: Arc<Meter>,
    /// In the second queue of one buffer: rows were counted as received elsewhere, and are counted as queued here.
    ledger: Option<Arc<Ledger>>,
    /// Woken when there is something to take, or the queue closed.
    pub(super) readable: Notify,
    /// Woken when there is room again.
    writable: Notify,
    /// Producers that may wait enter in turn: else small batches would take all the room a large one waits for.
    turn: tokio::sync::Mutex<()>,
    /// See [`Inlet::starved`].
    starved: watch::Sender<bool>,
}

#[derive(Debug, Default)]
pub(super) struct State {
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
    /// Nobody will take what a lease gives back, and this is what becomes of it.
    pub(super) aborted: Option<Outcome>,
}

/// A batch's place in line, which it keeps while it is leased.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) number: u64,
    /// The sink has panicked with the batch in hand.
    pub(super) suspect: bool,
}

impl State {
    fn pop_front(&mut self) -> Option<(Place, Batch)> {
        let (place, batch) = self.waiting.pop_front()?;
        self.events -= batch.events();
        self.bytes -= batch.weight();
        Some((place, batch))
    }

    pub(super) fn insert(&mut self, place: Place, batch: Batch) {
        self.events += batch.events();
        self.bytes += batch.weight();
        let key = |place: &Place, batch: &Batch| (place.number, batch.live().bounds().0);
        let own = key(&place, &batch);
        if self.waiting.back().is_none_or(|(other, waiting)| key(other, waiting) < own) {
            return self.waiting.push_back((place, batch));
        }
        let at = self.waiting.partition_point(|(other, waiting)| key(other, waiting) < own);
        self.waiting.insert(at, (place, batch));
    }

    fn push_back(&mut self, batch: Batch) {
        self.events += batch.events();
        self.bytes += batch.weight();
        self.waiting.push_back((Place { number: self.next_number, suspect: false }, batch));
        self.next_number += 1;
    }

    pub(super) fn take_lease(&mut self, batch: &Batch) {
        self.leased_events += batch.events();
        self.leased_bytes += batch.weight();
    }

    pub(super) fn return_lease(&mut self, batch: &Batch) {
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
        Arc::new(Queue { state, bounds, meter, ledger: None, readable, writable, turn, starved })
    }

    /// The last stretch of a buffer that consists of more than this queue: without bounds of its own, and counting
    /// what the sink does with its rows, by the ledger's numbers. What it loses in an abort is the business of the
    /// receipts.
    pub(super) fn relay(ledger: Arc<Ledger>) -> Arc<Queue> {
        let bounds = Bounds { events_max: u64::MAX, bytes_max: u64::MAX, when_full: WhenFull::Block };
        let mut queue = Queue::new(bounds, ledger.meter().clone());
        if let Some(queue) = Arc::get_mut(&mut queue) {
            queue.ledger = Some(ledger);
        }
        queue
    }

    /// Adds a batch to a relay under its number in the ledger, before all with larger numbers; lost if it is closed.
    pub(super) fn enter(&self, number: u64, batch: Batch) {
        let place = Place { number, suspect: false };
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return self.lose(place, batch);
        }
        state.insert(place, batch);
        drop(state);
        self.readable.notify_one();
    }

    /// For a relay whose consumer was dropped: another one has come.
    pub(super) fn reopen(&self) {
        let mut state = self.lock();
        (state.closed, state.aborted) = (false, None);
        drop(state);
        self.readable.notify_waiters();
    }

    /// Waits until rows can be handed over again. Cancel-safe.
    pub(crate) async fn reopened(&self) {
        loop {
            let changed = self.readable.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.is_closed() {
                return;
            }
            changed.await;
        }
    }

    /// Rows of a relay are lost: the ledger keeps them, should they be handed over again.
    fn lose(&self, place: Place, mut batch: Batch) {
        let receipt = batch.take_receipt();
        if let Some(ledger) = &self.ledger {
            ledger.lose(place.number, batch);
        }
        receipt.settle(Outcome::Lost);
    }

    /// For a relay: more rows wait before it, and none of them comes until the sink has settled some.
    pub(super) fn set_starved(&self, starved: bool) {
        self.starved.send_if_modified(|now| std::mem::replace(now, starved) != starved);
    }

    /// Whether the consumer is gone or the end was forced.
    pub(crate) fn is_aborted(&self) -> bool {
        self.lock().aborted.is_some()
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
            let outcome = state.aborted.unwrap_or(Outcome::Lost);
            drop(state);
            self.receive(&batch);
            self.drop_rows(batch, Reason::Aborted, outcome);
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
        self.meter.tap().show(batch);
    }

    pub(super) fn drop_rows(&self, batch: Batch, reason: Reason, outcome: Outcome) {
        self.meter.dropped(reason, batch.events());
        batch.settle(outcome);
    }

    /// The same for rows that had a place; a relay leaves it to the receipts what becomes of those that are lost.
    pub(super) fn drop_placed(&self, place: Place, batch: Batch, reason: Reason, outcome: Outcome) {
        if self.ledger.is_some() && outcome == Outcome::Lost {
            return self.lose(place, batch);
        }
        self.meter.dropped(reason, batch.events());
        self.account(place, &batch);
        batch.settle(outcome);
    }

    /// Rows of a relay were counted as delivered, filtered or dropped.
    pub(super) fn account(&self, place: Place, batch: &Batch) {
        if let Some(ledger) = &self.ledger {
            ledger.account(place.number, batch.events(), batch.bytes());
        }
    }

    /// Calls `count` for the batch of a lease that goes on elsewhere: now, or where rows stay in the buffer until they
    /// are settled, then, and not if they are lost.
    pub(super) fn count_onward(
        &self,
        place: Place,
        mut batch: Batch,
        count: impl FnOnce(&Meter, u64, u64) + Send + Sync + 'static,
    ) -> Batch {
        let (events, bytes) = (batch.events(), batch.bytes());
        let Some(ledger) = self.ledger.clone() else {
            count(&self.meter, events, bytes);
            return batch;
        };
        let (own, rows) = (batch.take_receipt(), batch.view());
        batch.with_receipt(Receipt::new(move |outcome| {
            if outcome == Outcome::Lost {
                ledger.lose(place.number, rows);
            } else {
                count(ledger.meter(), events, bytes);
                ledger.account(place.number, events, bytes);
            }
            own.settle(outcome);
        }))
    }

    pub(super) fn publish(&self, state: &State) {
        if self.ledger.is_some() {
            return;
        }
        self.meter.queued(state.events + state.leased_events, state.bytes + state.leased_bytes);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
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
        state.closed = true;
        // What was given up as a whole stays so when the inlet goes, too.
        let outcome = *state.aborted.get_or_insert(outcome);
        while let Some((place, batch)) = state.pop_front() {
            self.drop_placed(place, batch, Reason::Aborted, outcome);
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
        Some(Lease::new(batch, place, self.queue.clone()))
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
