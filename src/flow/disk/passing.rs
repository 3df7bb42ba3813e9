//! Rows that pass by the disk: while nothing waits there, the sink gets them straight from memory, and what it settles
//! soon is never written. What it has not settled in time, or when rows are to wait behind them, is committed: appended
//! to the log after the fact, in order, as records that were handed over before.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::DiskFull;
use super::stage::{Stage, Unsafe};
use super::trouble::Failed;
use super::window::{InMemory, Settlements};
use super::writer::{Appended, Refused};
use crate::base::clock::{self, Instant};
use crate::batch::{Batch, Outcome, Receipt};
use crate::flow::meter::Reason;

/// Batches that pass at once, at most.
const PASSING_MAX: usize = 16_384;
/// Intervals after which a sink that has not settled what it has is behind, and the next rows go to the disk.
const INTERVALS_BEHIND: u32 = 4;
/// And however long they are.
const BEHIND_AFTER_MAX: Duration = Duration::from_millis(500);
/// Before rows are offered to a full log again, when nothing else calls for it.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// Where a batch that passes has got to.
#[derive(Debug)]
enum State {
    /// In the sink's hands. `lasting`: may be written, and is when the sink loses it.
    Open { rows: Batch, receipt: Receipt, lasting: bool },
    /// The sink has lost it; it waits to be written.
    Lost { receipt: Receipt, rows: Batch },
    /// Written: the sink's word is on the record of that number.
    Record(u64),
    /// Settled.
    Over,
}

/// A batch that passes, shared by the stage and the receipt that the sink settles.
#[derive(Debug)]
struct Slot {
    state: Mutex<State>,
    of: InMemory,
    since: Instant,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_gone(&self) -> bool {
        matches!(*self.lock(), State::Over | State::Record(_))
    }

    fn is_writable(&self) -> bool {
        matches!(&*self.lock(), State::Open { lasting: true, .. } | State::Lost { .. })
    }

    /// Its rows, if they are not settled and may be written.
    fn writable(&self) -> Option<Batch> {
        match &*self.lock() {
            State::Open { rows, lasting: true, .. } | State::Lost { rows, .. } => Some(rows.view()),
            _ => None,
        }
    }

    /// The rows are in the log; their source's receipt and whether the sink has lost them, unless it was quicker.
    fn become_record(&self, seq: u64) -> Option<(Receipt, bool)> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Record(seq)) {
            State::Open { receipt, .. } => Some((receipt, false)),
            State::Lost { receipt, .. } => Some((receipt, true)),
            other => {
                *state = other;
                None
            }
        }
    }

    /// The sink has spoken.
    fn settle(&self, outcome: Outcome, to: &Settlements) {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Over) {
            State::Open { rows, receipt, lasting: true } if outcome == Outcome::Lost => {
                *state = State::Lost { receipt, rows };
                drop(state);
                to.note_lost();
            }
            State::Open { rows, receipt, .. } => {
                drop(state);
                drop(rows);
                to.leave_memory(self.of, outcome);
                receipt.settle(outcome);
            }
            State::Record(seq) => {
                drop(state);
                to.report(seq, outcome);
            }
            other => *state = other,
        }
        to.tell();
    }

    /// It will not be written: only the sink can settle it, and if it has lost it, that is that.
    fn let_go(&self, to: &Settlements) {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Over) {
            State::Open { rows, receipt, .. } => *state = State::Open { rows, receipt, lasting: false },
            State::Lost { receipt, .. } => {
                drop(state);
                to.leave_memory(self.of, Outcome::Lost);
                receipt.settle(Outcome::Lost);
            }
            other => *state = other,
        }
    }

    /// Rows that the sink has lost, and that nobody will take any more, are dropped for `reason`.
    fn give_up(&self, reason: Reason, to: &Settlements) {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Over) {
            State::Lost { receipt, .. } => {
                drop(state);
                to.drop_from_memory(self.of, reason);
                let refused = reason == Reason::Rejected;
                receipt.settle(if refused { Outcome::Rejected } else { Outcome::Dropped });
            }
            other => *state = other,
        }
    }
}

/// The batches that pass, in the order in which the sink has them. Without those that were settled or written, but for
/// some that were settled out of order.
#[derive(Debug, Default)]
pub(super) struct Passing {
    slots: VecDeque<Arc<Slot>>,
    /// Not to be written before, because the log was full a moment ago.
    not_before: Option<Instant>,
    /// Some of them may be written; under `overflow` their sources wait for the sink.
    lasting: bool,
}

impl Passing {
    /// Whether one more may pass.
    fn has_room(&self) -> bool {
        self.slots.len() < PASSING_MAX
    }

    /// Whether somebody has some in hand and will settle them.
    pub(super) fn is_awaited(&self) -> bool {
        self.slots.iter().any(|slot| matches!(*slot.lock(), State::Open { .. }))
    }

    /// Puts a receipt on a batch that tells the slot, and through it the source; its number in the ledger.
    fn add(&mut self, mut batch: Batch, lasting: bool, settlements: &Arc<Settlements>) -> (u64, Batch) {
        let of = settlements.enter_memory(&batch);
        let receipt = batch.take_receipt();
        let state = State::Open { rows: batch.view(), receipt, lasting };
        let slot = Arc::new(Slot { state: Mutex::new(state), of, since: clock::now() });
        self.lasting |= lasting;
        self.slots.push_back(slot.clone());
        let to = settlements.clone();
        (of.number, batch.with_receipt(Receipt::new(move |outcome| slot.settle(outcome, &to))))
    }

    /// Lets go of what is settled or written at the front.
    fn forget(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.is_gone()) {
            self.slots.pop_front();
        }
        self.lasting &= !self.slots.is_empty();
    }

    /// A log that was full may have room.
    pub(super) fn offer_again(&mut self) {
        self.not_before = None;
    }

    /// The first batches that can be written, within bounds.
    fn writable(&self, batches: usize, bytes: u64) -> Vec<(Arc<Slot>, Batch)> {
        let mut total = 0;
        let open = self.slots.iter().filter_map(|slot| Some((slot.clone(), slot.writable()?)));
        open.take(batches)
            .take_while(|(_, rows)| {
                let fits = total < bytes;
                total += rows.bytes();
                fits
            })
            .collect()
    }
}

impl Stage {
    /// Rows go by the disk while nothing waits there and memory has room.
    pub(super) fn pass_by(&mut self) {
        self.passing.forget();
        let never_held = self.writes_passing() && self.options.sync_interval.is_zero();
        if never_held || self.gone.is_cancelled() || self.shutdown.is_aborted() {
            return;
        }
        let lasting = self.writes_passing();
        while self.kept.is_empty()
            && !self.is_unread()
            && self.window.has_room_to_pass(self.paces_sources())
            && self.passing.has_room()
        {
            let Some(batch) = self.inbox.pop_front().and_then(|lease| lease.hand_on()) else { return };
            // Nothing waits for the sink to settle: it may wait for more.
            self.back.set_starved(false);
            let (number, batch) = self.passing.add(batch, lasting, &self.settlements);
            self.back.enter(number, batch);
        }
    }

    /// Whether rows that pass are written when the sink is slow. Under `overflow` their sources wait for the sink.
    fn writes_passing(&self) -> bool {
        self.options.when_full != DiskFull::Overflow
    }

    /// Whether sources may have to wait for a sink that keeps up, rather than for the disk. By a policy that drops, nobody
    /// waits for anything.
    fn paces_sources(&self) -> bool {
        self.options.when_full == DiskFull::Block
    }

    /// When rows that pass are to be written, if any do: after a while, or at once when the sink is gone or has lost
    /// some.
    pub(super) fn commit_due(&mut self) -> Option<Instant> {
        self.passing.forget();
        if !self.passing.lasting {
            return None;
        }
        let oldest = self.passing.slots.iter().find(|slot| slot.is_writable())?;
        let at_once = self.gone.is_cancelled() || self.settlements.has_lost();
        let due = if at_once { clock::now() } else { oldest.since + self.options.sync_interval };
        Some(self.passing.not_before.map_or(due, |at| at.max(due)))
    }

    /// Until when rows that have come wait for the sink rather than be written, because it keeps up: nothing that it has
    /// is older than a few intervals, and all there is it has.
    pub(super) fn sink_keeps_up_until(&mut self) -> Option<Instant> {
        self.passing.forget();
        let behind = !self.kept.is_empty() || self.is_unread() || self.window.has_lost();
        if behind || self.gone.is_cancelled() || !self.paces_sources() || self.settlements.has_lost() {
            return None;
        }
        let passing = self.passing.slots.front().map(|slot| slot.since);
        let oldest = [self.window.open_since(), passing].into_iter().flatten().min()?;
        let behind_after = (self.options.sync_interval * INTERVALS_BEHIND).min(BEHIND_AFTER_MAX);
        Some(oldest + behind_after).filter(|until| *until > clock::now())
    }

    /// Whether that time has come.
    pub(super) fn must_commit(&mut self) -> bool {
        self.commit_due().is_some_and(|at| at <= clock::now())
    }

    /// Appends the first rows that pass, at most so many batches and bytes; their sources wait for the disk from now on,
    /// and the sink's word counts for the records. `Ok(false)` when there was nothing to write.
    pub(super) fn commit(&mut self, batches: usize, bytes: u64) -> Result<bool, Refused> {
        // What is lost from here on asks for another round.
        self.settlements.clear_lost();
        let chosen = self.passing.writable(batches, bytes);
        if chosen.is_empty() {
            return Ok(false);
        }
        let mut appended = Vec::new();
        let result = self.store.append(chosen.iter().map(|(_, rows)| rows), &mut appended);
        // Counted twice for a moment, rather than not at all.
        self.publish();
        let written = appended.len();
        for ((slot, rows), place) in chosen.iter().zip(appended) {
            self.committed(slot, rows, place);
        }
        self.passing.not_before = None;
        match &result {
            // After a fault the stage pauses as a whole.
            Ok(()) | Err(Refused::Io(_)) => {}
            Err(Refused::TooLarge) => {
                if let Some((slot, _)) = chosen.get(written) {
                    slot.let_go(&self.settlements);
                }
            }
            Err(Refused::Full) => self.passing.not_before = Some(clock::now() + FULL_PAUSE),
        }
        self.passing.forget();
        match result {
            Ok(()) | Err(Refused::TooLarge) => Ok(true),
            Err(refused) => {
                // They are to be written still, after the pause.
                self.settlements.note_lost();
                Err(refused)
            }
        }
    }

    /// A batch that passed is a record now, and handed over.
    fn committed(&mut self, slot: &Slot, rows: &Batch, place: Appended) {
        let Appended { start, end } = place;
        self.window.push(start, end, rows.weight(), slot.of.number, slot.since);
        self.store.skip_to(end);
        match slot.become_record(start.seq) {
            Some((receipt, lost)) => {
                if lost {
                    self.window.lose(start.seq);
                }
                self.settlements.move_to_disk(slot.of);
                self.unsafe_yet.push_back(Unsafe { end, receipt, since: slot.since });
            }
            // The sink was quicker.
            None => self.settled_record(start.seq),
        }
    }

    /// The sink is gone and what it has lost cannot be written.
    pub(super) fn give_up_passing(&mut self, reason: Reason) {
        for slot in &self.passing.slots {
            slot.give_up(reason, &self.settlements);
        }
        self.passing.forget();
    }

    /// At the end, what can be written is; the rest is the sink's alone.
    pub(super) fn commit_last(&mut self) {
        if self.passing.lasting {
            let result: Result<(), io::Error> = loop {
                match self.commit(usize::MAX, u64::MAX) {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(Refused::Io(e)) => break Err(e),
                    Err(Refused::Full | Refused::TooLarge) => break Err(io::ErrorKind::StorageFull.into()),
                }
            };
            if let Err(e) = result {
                self.note_trouble(Failed::Write, &e);
            }
        }
        for slot in &self.passing.slots {
            slot.let_go(&self.settlements);
        }
    }
}
