//! What the sink has lost is handed over once more: after a pause to a sink that is still there (a pipeline behind it
//! has lost rows), at once to one that takes over from a sink that has ended. Before anything newer, and only the rows
//! that were lost: what else was in their batch has been counted.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::stage::Stage;
use crate::base::backoff::Backoff;
use crate::base::clock::{self, Instant};
use crate::base::rng::Rng;
use crate::batch::Outcome;

/// Pauses before rows that were lost are handed over again, as long as nothing is settled in between.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Changes when another sink takes over: what is cancelled when that one takes nothing more.
pub(super) type Attended = watch::Receiver<CancellationToken>;

/// When rows that were lost are handed over again.
#[derive(Debug)]
pub(super) struct Again {
    not_before: Option<Instant>,
    backoff: Backoff,
    /// The sink is gone, and that is known.
    pub(super) alone: bool,
}

impl Default for Again {
    fn default() -> Again {
        Again { not_before: None, alone: false, backoff: Backoff::new(PAUSE.0, PAUSE.1, Rng::from_entropy()) }
    }
}

impl Again {
    /// Rows were settled: the next that are lost need not wait for long.
    pub(super) fn progress(&mut self) {
        self.backoff.reset();
    }
}

impl Stage {
    /// When what was lost is to be handed over again; `None` when nothing is, or nobody takes it.
    pub(super) fn again_due(&mut self) -> Option<Instant> {
        if !self.window.has_lost() || self.back.is_closed() {
            return None;
        }
        let Again { not_before, backoff, .. } = &mut self.again;
        Some(*not_before.get_or_insert_with(|| clock::now() + backoff.next_delay()))
    }

    /// Hands over what was lost, in order, each batch before all that came after it.
    pub(super) fn hand_again(&mut self) {
        let takes = !self.gone.is_cancelled() && !self.shutdown.is_aborted();
        if !takes || self.again_due().is_none_or(|at| at > clock::now()) {
            return;
        }
        self.again.not_before = None;
        for (seq, number) in self.window.take_lost() {
            let receipt = self.settlements.of_record(seq);
            for rows in self.settlements.ledger().take_lost(number) {
                self.back.enter(number, rows.with_receipt(receipt.clone()));
            }
            // Its own branch: a record of which nothing is open any more is settled.
            receipt.settle(Outcome::Delivered);
        }
    }

    /// Another sink may have taken over from one that has ended.
    pub(super) fn take_successor(&mut self) {
        let attended = self.attended.borrow_and_update();
        if !attended.has_changed() {
            return;
        }
        self.gone = attended.clone();
        drop(attended);
        // What the other one had in hand when it ended was reported by now.
        self.take_settlements();
        self.again.not_before = Some(clock::now());
        self.again.alone = false;
        self.passing.offer_again();
        self.back.reopen();
    }
}
