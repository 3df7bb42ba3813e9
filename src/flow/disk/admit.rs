//! The way in: what waits in the front queue is appended to the log, as many batches in one write as there are; when
//! that cannot be, the buffer's policy says what becomes of them.

use super::DiskFull;
use super::stage::{Kept, Stage, Unsafe};
use super::trouble::Failed;
use super::writer::{Appended, Refused};
use crate::base::clock;
use crate::batch::Receipt;
use crate::flow::meter::Reason;

/// Batches, and bytes of them, that are written together at most.
const GROUP_BATCHES: usize = 64;
const GROUP_BYTES: u64 = 4 << 20;

impl Stage {
    /// Writes what has come, until there is nothing more or it has to wait.
    pub(super) fn admit(&mut self) {
        let mut together = usize::MAX;
        loop {
            self.fill_inbox();
            self.pass_by();
            self.held_until = None;
            if !self.must_commit() {
                if self.inbox.is_empty() {
                    return;
                }
                self.held_until = self.sink_keeps_up_until();
                if self.held_until.is_some() {
                    return;
                }
            }
            if self.trouble.writing.is_on() {
                return self.refuse_inbox();
            }
            match self.write(together) {
                Ok(()) => {
                    self.has_written();
                    if self.inbox.is_empty() && !self.must_commit() {
                        // One group at a time, so that what was written is handed over before the next is waited for.
                        return;
                    }
                }
                Err(Refused::Full) => {
                    if !self.make_room() {
                        return;
                    }
                }
                Err(Refused::TooLarge) => self.drop_first(Reason::Oversize),
                Err(Refused::Io(e)) => {
                    if e.kind() == std::io::ErrorKind::StorageFull {
                        // The disk is smaller than the buffer may be: what it holds for nothing is given back, and
                        // what does not fit together may fit one by one.
                        if self.store.reclaim().is_ok_and(|any| any) {
                            continue;
                        }
                        if together > 1 {
                            together = 1;
                            continue;
                        }
                    }
                    self.note_trouble(Failed::Write, &e);
                    return self.refuse_inbox();
                }
            }
        }
    }

    /// Appends what comes next: rows that pass stand before those that have come since.
    fn write(&mut self, together: usize) -> Result<(), Refused> {
        if self.commit(together.min(GROUP_BATCHES), GROUP_BYTES)? {
            return Ok(());
        }
        let mut appended = Vec::new();
        let batches = self.inbox.iter().take(together).map(|lease| lease.batch());
        let result = self.store.append(batches, &mut appended);
        for place in appended {
            self.took(place);
        }
        result
    }

    fn fill_inbox(&mut self) {
        let mut bytes: u64 = self.inbox.iter().map(|lease| lease.batch().bytes()).sum();
        while self.inbox.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
            let Some(lease) = self.front.try_recv() else { return };
            bytes += lease.batch().bytes();
            self.inbox.push_back(lease);
        }
    }

    /// The first batch of the inbox is in the log.
    fn took(&mut self, place: Appended) {
        let Some(mut batch) = self.inbox.pop_front().and_then(|lease| lease.hand_on()) else { return };
        let receipt: Receipt = batch.take_receipt();
        self.unsafe_yet.push_back(Unsafe { end: place.end, receipt, since: clock::now() });
        let next = self.kept.back().map_or(self.store.read_point().seq, |kept| kept.place.end.seq);
        let weight = batch.weight();
        if next == place.start.seq && self.kept_weight + weight <= self.options.memory_bytes {
            self.kept_weight += weight;
            self.kept.push_back(Kept { batch, place });
        }
    }

    /// The log is full. True if the policy made room, or there is nothing left to make room for.
    fn make_room(&mut self) -> bool {
        if self.gone.is_cancelled() && self.options.when_full == DiskFull::Block {
            self.give_up_passing(Reason::Rejected);
        }
        // Only rows that pass want room: they stay in memory, where they take none from others.
        if self.inbox.is_empty() {
            return false;
        }
        match self.options.when_full {
            DiskFull::Block | DiskFull::Overflow if self.gone.is_cancelled() => {
                // Nobody empties it any more, and the other sinks must not wait for that.
                self.drop_first(Reason::Rejected);
                true
            }
            DiskFull::Block | DiskFull::Overflow => false,
            DiskFull::DropNewest => {
                self.drop_first(Reason::BufferFullNewest);
                true
            }
            DiskFull::DropOldest => {
                match self.store.drop_oldest() {
                    Ok(Some((events, _))) => self.meter.dropped(Reason::BufferFullOldest, events),
                    // The sink holds all there is.
                    Ok(None) => self.drop_first(Reason::BufferFullOldest),
                    Err(e) => {
                        self.note_trouble(Failed::MakeRoom, &e);
                        self.refuse_inbox();
                        return false;
                    }
                }
                self.forget_kept();
                true
            }
        }
    }

    /// The file system takes nothing just now: rows wait, or go by the policy.
    fn refuse_inbox(&mut self) {
        if !self.options.when_full.waits() || self.gone.is_cancelled() {
            let reason = if self.trouble.is_out_of_space() { Reason::NoSpace } else { Reason::BufferFault };
            if self.gone.is_cancelled() {
                self.give_up_passing(reason);
            }
            while !self.inbox.is_empty() {
                self.drop_first(reason);
            }
        }
    }

    fn drop_first(&mut self, reason: Reason) {
        if let Some(lease) = self.inbox.pop_front() {
            lease.dropped(reason);
        }
    }
}
