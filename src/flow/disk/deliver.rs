//! The way out: records are handed to the sink's queue in order, from memory while they are still there and from the
//! disk otherwise, and what the sink settles moves the place where delivery would go on after a restart.

use std::sync::atomic::Ordering::Relaxed;

use super::reader::ReadBack;
use super::stage::Stage;
use super::trouble::{Failed, READS_MAX, speaks_of_the_file};
use crate::base::clock;
use crate::batch::Outcome;
use crate::flow::meter::Reason;

impl Stage {
    /// Hands over what the sink may have.
    pub(super) fn hand_over(&mut self) {
        self.hand_again();
        while self.window.has_room() && !self.gone.is_cancelled() && !self.shutdown.is_aborted() {
            match self.next_record() {
                Some(ReadBack { batch, start, end }) => {
                    let receipt = self.settlements.of_record(start.seq);
                    let number = self.settlements.ledger().open(batch.events(), batch.bytes(), true);
                    self.window.push(start, end, batch.weight(), number, clock::now());
                    self.back.enter(number, batch.with_receipt(receipt));
                }
                None => break,
            }
        }
        self.count_losses();
    }

    /// Whether rows wait that can only be handed over, or written, once the sink has settled what it has.
    pub(super) fn is_held_up(&self) -> bool {
        let unread = !self.kept.is_empty() || self.is_unread();
        !self.window.is_empty() && ((unread && !self.window.has_room()) || !self.inbox.is_empty())
    }

    /// Whether the log holds records that were not handed over.
    pub(super) fn is_unread(&self) -> bool {
        self.store.read_point().seq < self.store.end().seq
    }

    fn next_record(&mut self) -> Option<ReadBack> {
        self.forget_kept();
        if let Some(kept) = self.kept.pop_front() {
            self.kept_weight -= kept.batch.weight();
            self.store.skip_to(kept.place.end);
            self.has_read();
            return Some(ReadBack { batch: kept.batch, start: kept.place.start, end: kept.place.end });
        }
        if self.trouble.reading.is_on() {
            return None;
        }
        match self.store.read_next() {
            Ok(record) => {
                self.has_read();
                record
            }
            Err(e) => {
                self.trouble.failed_reads += 1;
                let given_up = self.trouble.failed_reads >= READS_MAX && speaks_of_the_file(&e);
                if given_up && self.store.set_aside_unreadable() {
                    tracing::error!(component = %self.name, "disk buffer: a segment cannot be read and was moved aside: {e}");
                    self.trouble.failed_reads = 0;
                }
                self.note_trouble(Failed::Read, &e);
                None
            }
        }
    }

    /// Lets go of rows in memory that delivery has passed.
    pub(super) fn forget_kept(&mut self) {
        let read = self.store.read_point().seq;
        while self.kept.front().is_some_and(|kept| kept.place.start.seq < read) {
            let Some(kept) = self.kept.pop_front() else { break };
            self.kept_weight -= kept.batch.weight();
        }
    }

    fn count_losses(&mut self) {
        let losses = self.store.take_losses();
        if losses.events == 0 && losses.damaged == 0 && losses.missing == 0 {
            return;
        }
        tracing::error!(
            events = losses.events,
            damaged = losses.damaged,
            missing = losses.missing,
            "disk buffer {}: records could not be read back",
            self.store.dir.display()
        );
        self.meter.dropped(Reason::BufferFault, losses.events);
        self.status.damaged.fetch_add(losses.damaged, Relaxed);
        self.status.missing.fetch_add(losses.missing, Relaxed);
        self.unpersisted = true;
        // What waits to come in has room now, and nobody else would say so.
        self.settlements.tell();
    }

    /// Takes note of what the sink has settled. Rows that were lost stay in the log: they are handed over again, or, if
    /// no sink takes them any more, delivered after the restart.
    pub(super) fn take_settlements(&mut self) {
        for (seq, outcome) in self.settlements.take() {
            match outcome {
                Outcome::Lost => self.window.lose(seq),
                _ => self.settled_record(seq),
            }
        }
        let settled = self.window.first_open().unwrap_or_else(|| self.store.read_point());
        if settled.seq > self.store.acked().seq {
            self.unpersisted = true;
            if self.trouble.is_out_of_space() && settled.seq >= self.store.end().seq {
                // Room can be given back now.
                self.trouble.hasten();
            }
            if self.trouble.writing.is_on() {
                // What can go now goes when that is over.
                self.store.note_settled(settled);
            } else if let Err(e) = self.store.ack_to(settled) {
                self.note_trouble(Failed::Removal, &e);
            }
        }
    }

    /// The sink has settled a record.
    pub(super) fn settled_record(&mut self, seq: u64) {
        self.again.progress();
        if let Some(record) = self.window.settle(seq) {
            let (events, bytes) = record.held();
            self.store.settle(events, bytes);
        }
    }
}
