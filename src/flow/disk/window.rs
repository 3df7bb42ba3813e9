//! What is between the log and the sink: records that were handed over and are not settled. Sinks settle on their own
//! threads and in any order; the log's settled place follows the first record that is still open.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::format::Point;
use crate::base::clock::Instant;
use crate::batch::{Batch, Outcome, Receipt};
use crate::flow::ledger::Ledger;
use crate::flow::meter::Reason;

/// Records that are handed over at most, however small.
const RECORDS_MAX: usize = 65_536;
/// What rows that pass weigh at most. More would not make a sink that keeps up any faster, but go through memory that
/// no cache holds.
const PASSING_WEIGHT_MAX: u64 = 8 << 20;

/// Where receipts of what was handed over report.
#[derive(Debug)]
pub(super) struct Settlements {
    /// Records of the log and how they ended, for the stage to take.
    reported: Mutex<Vec<(u64, Outcome)>>,
    /// What weighs that was handed over without being written. Kept here, because it may end after the stage has.
    memory: AtomicU64,
    /// Rows of which only memory had a copy were lost with the sink.
    lost: AtomicBool,
    ledger: Arc<Ledger>,
    news: Notify,
}

/// A batch in the sink's hands that was never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InMemory {
    /// In the ledger.
    pub(super) number: u64,
    weight: u64,
}

impl Settlements {
    /// Nothing was handed over yet.
    pub(super) fn new(ledger: Arc<Ledger>) -> Arc<Settlements> {
        let (reported, memory) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Settlements { reported, memory, lost: AtomicBool::new(false), ledger, news: Notify::new() })
    }

    /// What the sink has not counted.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
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
    pub(super) fn enter_memory(&self, batch: &Batch) -> InMemory {
        let (number, weight) = (self.ledger.open(batch.events(), batch.bytes(), false), batch.weight());
        self.memory.fetch_add(weight, Relaxed);
        InMemory { number, weight }
    }

    /// The sink has settled them; what it lost is counted.
    pub(super) fn leave_memory(&self, of: InMemory, outcome: Outcome) {
        self.memory.fetch_sub(of.weight, Relaxed);
        if outcome == Outcome::Lost {
            self.ledger.meter().dropped(Reason::Aborted, self.ledger.write_off(of.number));
        }
    }

    /// They are dropped.
    pub(super) fn drop_from_memory(&self, of: InMemory, reason: Reason) {
        self.memory.fetch_sub(of.weight, Relaxed);
        self.ledger.meter().dropped(reason, self.ledger.write_off(of.number));
    }

    /// They are in the log now.
    pub(super) fn move_to_disk(&self, of: InMemory) {
        self.memory.fetch_sub(of.weight, Relaxed);
        self.ledger.move_to_disk(of.number);
    }

    /// What stays in memory weighs.
    pub(super) fn memory_weight(&self) -> u64 {
        self.memory.load(Relaxed)
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
    /// In the ledger.
    number: u64,
    /// Since when the sink has it.
    since: Instant,
    settled: bool,
    /// The sink has lost it, or a part of it, and nobody has it in hand.
    lost: bool,
}

impl HandedOver {
    /// Its events and their bytes.
    pub(super) fn held(&self) -> (u64, u64) {
        (self.end.events - self.start.events, self.end.bytes - self.start.bytes)
    }
}

/// The records that were handed over, in order.
#[derive(Debug)]
pub(super) struct Window {
    records: VecDeque<HandedOver>,
    /// Events and bytes of those that are open.
    open: (u64, u64),
    /// How many of them are lost.
    lost: usize,
    /// How many are open.
    open_records: usize,
    weight: u64,
    weight_max: u64,
    settlements: Arc<Settlements>,
}

impl Window {
    /// An empty window for records that weigh `weight_max` bytes together; one always fits.
    pub(super) fn new(weight_max: u64, settlements: Arc<Settlements>) -> Window {
        Window {
            records: VecDeque::new(),
            open: (0, 0),
            lost: 0,
            open_records: 0,
            weight: 0,
            weight_max,
            settlements,
        }
    }

    /// Changes the bound; what was handed over stays so.
    pub(super) fn set_weight_max(&mut self, weight_max: u64) {
        self.weight_max = weight_max;
    }

    /// Whether another record may be handed over: none is before those that were lost.
    pub(super) fn has_room(&self) -> bool {
        self.has_room_within(self.weight_max)
    }

    /// Whether rows may be handed over that were not written. `paced`: those that find none may wait.
    pub(super) fn has_room_to_pass(&self, paced: bool) -> bool {
        let most = if paced { PASSING_WEIGHT_MAX } else { u64::MAX };
        self.has_room_within(self.weight_max.min(most))
    }

    fn has_room_within(&self, weight_max: u64) -> bool {
        let weight = self.weight + self.settlements.memory_weight();
        self.lost == 0 && (weight == 0 || (weight < weight_max && self.records.len() < RECORDS_MAX))
    }

    /// Whether nothing is in the sink's hands.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.settlements.memory_weight() == 0
    }

    /// A record was handed over under its number in the ledger; the sink has had its rows since `since`.
    pub(super) fn push(&mut self, start: Point, end: Point, weight: u64, number: u64, since: Instant) {
        self.weight += weight;
        let record = HandedOver { start, end, weight, number, since, settled: false, lost: false };
        let (events, bytes) = record.held();
        self.open = (self.open.0 + events, self.open.1 + bytes);
        self.open_records += 1;
        self.records.push_back(record);
    }

    /// Record `seq` is settled; what it was, if it was open.
    pub(super) fn settle(&mut self, seq: u64) -> Option<HandedOver> {
        let at = self.records.partition_point(|r| r.start.seq < seq);
        let record = self.records.get_mut(at).filter(|r| r.start.seq == seq && !r.settled)?;
        record.settled = true;
        self.weight -= record.weight;
        let settled = *record;
        self.open_records -= 1;
        self.lost -= usize::from(settled.lost);
        let (events, bytes) = settled.held();
        self.open = (self.open.0 - events, self.open.1 - bytes);
        while self.records.front().is_some_and(|r| r.settled) {
            self.records.pop_front();
        }
        Some(settled)
    }

    /// Record `seq` was lost with the sink: it stays open.
    pub(super) fn lose(&mut self, seq: u64) {
        let at = self.records.partition_point(|r| r.start.seq < seq);
        if let Some(record) = self.records.get_mut(at).filter(|r| r.start.seq == seq && !r.settled && !r.lost)
        {
            record.lost = true;
            self.lost += 1;
        }
    }

    /// Whether records are lost and not in the sink's hands again.
    pub(super) fn has_lost(&self) -> bool {
        self.lost > 0
    }

    /// The records that are lost, and their numbers in the ledger: they are to be handed over again, in this order.
    pub(super) fn take_lost(&mut self) -> Vec<(u64, u64)> {
        self.lost = 0;
        let of = |record: &mut HandedOver| {
            std::mem::take(&mut record.lost).then_some((record.start.seq, record.number))
        };
        self.records.iter_mut().filter_map(of).collect()
    }

    /// Whether somebody has records in hand and will settle them, though it may be no sink of this buffer any more.
    pub(super) fn is_awaited(&self) -> bool {
        self.open_records > self.lost
    }

    /// Events and bytes of the log that are in the sink's hands.
    pub(super) fn open(&self) -> (u64, u64) {
        self.open
    }

    /// Before the first record that is not settled, if any is.
    pub(super) fn first_open(&self) -> Option<Point> {
        self.records.front().map(|r| r.start)
    }

    /// Since when the sink has had the first record that is not settled, if any is.
    pub(super) fn open_since(&self) -> Option<Instant> {
        self.records.front().map(|r| r.since)
    }
}
