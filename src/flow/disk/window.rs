//! What is between the log and the sink: records that were handed over and are not settled. Sinks settle on their own
//! threads and in any order; the log's settled place follows the first record that is still open.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::format::Point;
use crate::batch::{Batch, Outcome, Receipt};
use crate::flow::meter::{Meter, Reason};

/// Records that are handed over at most, however small.
const RECORDS_MAX: usize = 65_536;

/// Where receipts of what was handed over report.
#[derive(Debug)]
pub(super) struct Settlements {
    /// Records of the log and how they ended, for the stage to take.
    reported: Mutex<Vec<(u64, Outcome)>>,
    /// What was handed over without being written. Kept here, because it may end after the stage has.
    memory: Mutex<InMemory>,
    /// Rows of which only memory had a copy were lost with the sink.
    lost: AtomicBool,
    meter: Arc<Meter>,
    news: Notify,
}

/// Rows in the sink's hands that were never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct InMemory {
    events: u64,
    bytes: u64,
    weight: u64,
}

impl InMemory {
    /// One batch.
    pub(super) fn of(batch: &Batch) -> InMemory {
        InMemory { events: batch.events(), bytes: batch.bytes(), weight: batch.weight() }
    }
}

impl Settlements {
    /// Nothing was handed over yet; memory is counted on `meter`.
    pub(super) fn new(meter: Arc<Meter>) -> Arc<Settlements> {
        let (reported, memory) = (Mutex::default(), Mutex::default());
        Arc::new(Settlements { reported, memory, lost: AtomicBool::new(false), meter, news: Notify::new() })
    }

    /// A receipt for record `seq`.
    pub(super) fn of_record(self: &Arc<Self>, seq: u64) -> Receipt {
        let to = self.clone();
        Receipt::new(move |outcome| {
            to.report(seq, outcome);
            to.tell();
        })
    }

    /// The sink has settled record `seq`, whose rows had passed before it was written.
    pub(super) fn report(&self, seq: u64, outcome: Outcome) {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).push((seq, outcome));
    }

    /// Wakes the stage.
    pub(super) fn tell(&self) {
        self.news.notify_one();
    }

    /// The sink has lost rows that only memory has.
    pub(super) fn note_lost(&self) {
        self.lost.store(true, Release);
    }

    /// Whether it has, since it was last asked to forget that.
    pub(super) fn has_lost(&self) -> bool {
        self.lost.load(Acquire)
    }

    /// Forgets it.
    pub(super) fn clear_lost(&self) {
        self.lost.store(false, Release);
    }

    /// Rows are handed over that are in memory alone.
    pub(super) fn enter_memory(&self, of: InMemory) {
        self.change_memory(|m| InMemory {
            events: m.events + of.events,
            bytes: m.bytes + of.bytes,
            weight: m.weight + of.weight,
        });
    }

    /// The sink has settled them; what it lost is counted.
    pub(super) fn leave_memory(&self, of: InMemory, outcome: Outcome) {
        if outcome == Outcome::Lost {
            return self.drop_from_memory(of, Reason::Aborted);
        }
        self.move_to_disk(of);
    }

    /// They are dropped.
    pub(super) fn drop_from_memory(&self, of: InMemory, reason: Reason) {
        self.meter.dropped(reason, of.events);
        self.move_to_disk(of);
    }

    /// They count elsewhere now.
    pub(super) fn move_to_disk(&self, of: InMemory) {
        self.change_memory(|m| InMemory {
            events: m.events - of.events,
            bytes: m.bytes - of.bytes,
            weight: m.weight - of.weight,
        });
    }

    fn change_memory(&self, change: impl FnOnce(InMemory) -> InMemory) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        *memory = change(*memory);
        self.meter.relayed(memory.events, memory.bytes);
    }

    /// What stays in memory weighs.
    fn memory_weight(&self) -> u64 {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).weight
    }

    /// What was reported since the last call. Bounded by what was handed over.
    pub(super) fn take(&self) -> Vec<(u64, Outcome)> {
        std::mem::take(&mut *self.reported.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for a report. Cancel-safe.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}

/// A record that was handed over.
#[derive(Debug, Clone, Copy)]
pub(super) struct HandedOver {
    /// Before it.
    pub(super) start: Point,
    /// After it.
    pub(super) end: Point,
    /// What it weighs in memory.
    pub(super) weight: u64,
    settled: bool,
}

/// The records that were handed over, in order.
#[derive(Debug)]
pub(super) struct Window {
    records: VecDeque<HandedOver>,
    weight: u64,
    weight_max: u64,
    settlements: Arc<Settlements>,
}

impl Window {
    /// An empty window for records that weigh `weight_max` bytes together; one always fits.
    pub(super) fn new(weight_max: u64, settlements: Arc<Settlements>) -> Window {
        Window { records: VecDeque::new(), weight: 0, weight_max, settlements }
    }

    /// Whether another record may be handed over.
    pub(super) fn has_room(&self) -> bool {
        let weight = self.weight + self.settlements.memory_weight();
        weight == 0 || (weight < self.weight_max && self.records.len() < RECORDS_MAX)
    }

    /// Whether nothing is in the sink's hands.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.settlements.memory_weight() == 0
    }

    /// A record was handed over.
    pub(super) fn push(&mut self, start: Point, end: Point, weight: u64) {
        self.weight += weight;
        self.records.push_back(HandedOver { start, end, weight, settled: false });
    }

    /// Record `seq` is settled; what it was, if it was open.
    pub(super) fn settle(&mut self, seq: u64) -> Option<HandedOver> {
        let at = self.records.partition_point(|r| r.start.seq < seq);
        let record = self.records.get_mut(at).filter(|r| r.start.seq == seq && !r.settled)?;
        record.settled = true;
        self.weight -= record.weight;
        let settled = *record;
        while self.records.front().is_some_and(|r| r.settled) {
            self.records.pop_front();
        }
        Some(settled)
    }

    /// Before the first record that is not settled, if any is.
    pub(super) fn first_open(&self) -> Option<Point> {
        self.records.front().map(|r| r.start)
    }
}
