//! What is between the log and the sink: records that were handed over and are not settled. Sinks settle on their own
//! threads and in any order; the log's settled place follows the first record that is still open.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::format::Point;
use crate::batch::{Outcome, Receipt};

/// Records that are handed over at most, however small.
const RECORDS_MAX: usize = 65_536;

/// Where receipts of handed-over records report; drained by the stage.
#[derive(Debug, Default)]
pub(super) struct Settlements {
    reported: Mutex<Vec<Settled>>,
    news: Notify,
}

/// A record, or a batch that stayed in memory, met its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// A record of the log.
    Record {
        /// Its number.
        seq: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// A batch that was never written.
    Memory {
        /// Its events.
        events: u64,
        /// Their bytes.
        bytes: u64,
        /// What it weighed in memory.
        weight: u64,
        /// How it ended.
        outcome: Outcome,
    },
}

impl Settlements {
    fn report(&self, settled: Settled) {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).push(settled);
        self.news.notify_one();
    }

    /// A receipt for record `seq`.
    pub(super) fn of_record(self: &Arc<Self>, seq: u64) -> Receipt {
        let to = self.clone();
        Receipt::new(move |outcome| to.report(Settled::Record { seq, outcome }))
    }

    /// A receipt for a batch that stays in memory; its source hears the outcome too.
    pub(super) fn of_memory(
        self: &Arc<Self>,
        events: u64,
        bytes: u64,
        weight: u64,
        source: Receipt,
    ) -> Receipt {
        let to = self.clone();
        Receipt::new(move |outcome| {
            to.report(Settled::Memory { events, bytes, weight, outcome });
            source.settle(outcome);
        })
    }

    /// What was reported since the last call. Bounded by what was handed over.
    pub(super) fn take(&self) -> Vec<Settled> {
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
    /// Batches in the sink's hands that were never written: events, bytes, weight.
    memory: (u64, u64, u64),
}

impl Window {
    /// An empty window for records that weigh `weight_max` bytes together; one always fits.
    pub(super) fn new(weight_max: u64) -> Window {
        Window { records: VecDeque::new(), weight: 0, weight_max, memory: (0, 0, 0) }
    }

    /// Whether another record may be handed over.
    pub(super) fn has_room(&self) -> bool {
        let weight = self.weight + self.memory.2;
        weight == 0 || (weight < self.weight_max && self.records.len() < RECORDS_MAX)
    }

    /// Whether nothing is in the sink's hands.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.memory.0 == 0
    }

    /// A record was handed over.
    pub(super) fn push(&mut self, start: Point, end: Point, weight: u64) {
        self.weight += weight;
        self.records.push_back(HandedOver { start, end, weight, settled: false });
    }

    /// A batch was handed over that was never written.
    pub(super) fn push_memory(&mut self, events: u64, bytes: u64, weight: u64) {
        self.memory = (self.memory.0 + events, self.memory.1 + bytes, self.memory.2 + weight);
    }

    /// A batch that was never written has met its end.
    pub(super) fn settle_memory(&mut self, events: u64, bytes: u64, weight: u64) {
        self.memory = (self.memory.0 - events, self.memory.1 - bytes, self.memory.2 - weight);
    }

    /// Events and bytes in the sink's hands that were never written.
    pub(super) fn memory(&self) -> (u64, u64) {
        (self.memory.0, self.memory.1)
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
