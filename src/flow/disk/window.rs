//! What is between the log and the sink: records that were handed over and are not settled. Sinks settle on their own
//! threads and in any order; the log's settled place follows the first record that is still open.

use std::collections::VecDeque;
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
    meter: Arc<Meter>,
    news: Notify,
}

/// Rows in the sink's hands that were never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct InMemory {
    events: u64,
    bytes: u64,
    weight: u64,
}

impl Settlements {
    /// Nothing was handed over yet; memory is counted on `meter`.
    pub(super) fn new(meter: Arc<Meter>) -> Arc<Settlements> {
        let (reported, memory) = (Mutex::default(), Mutex::default());
        Arc::new(Settlements { reported, memory, meter, news: Notify::new() })
    }

    /// A receipt for record `seq`.
    pub(super) fn of_record(self: &Arc<Self>, seq: u64) -> Receipt {
        let to = self.clone();
        Receipt::new(move |outcome| {
            to.reported.lock().unwrap_or_else(PoisonError::into_inner).push((seq, outcome));
            to.news.notify_one();
        })
    }

    /// Puts a receipt on a batch that stays in memory; its source hears the outcome too.
    pub(super) fn in_memory(self: &Arc<Self>, mut batch: Batch) -> Batch {
        let of = InMemory { events: batch.events(), bytes: batch.bytes(), weight: batch.weight() };
        let (to, source) = (self.clone(), batch.take_receipt());
        self.change_memory(|m| InMemory {
            events: m.events + of.events,
            bytes: m.bytes + of.bytes,
            weight: m.weight + of.weight,
        });
        batch.with_receipt(Receipt::new(move |outcome| {
            if outcome == Outcome::Lost {
                to.meter.dropped(Reason::Aborted, of.events);
            }
            to.change_memory(|m| InMemory {
                events: m.events - of.events,
                bytes: m.bytes - of.bytes,
                weight: m.weight - of.weight,
            });
            source.settle(outcome);
            to.news.notify_one();
        }))
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
