//! The way in: what waits in the front queue is appended to the log, as many batches in one write as there are; when
//! that cannot be, the buffer's policy says what becomes of them.

use std::sync::atomic::Ordering::Relaxed;

use super::DiskFull;
use super::stage::{Kept, Stage, Unsafe};
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
            if self.inbox.is_empty() {
                return;
            }
            if self.is_pausing() {
                return self.refuse_inbox();
            }
            let mut appended = Vec::new();
            let batches = self.inbox.iter().take(together).map(|lease| lease.batch());
            let result = self.store.append(batches, &mut appended);
            for place in appended {
                self.took(place);
            }
            match result {
                Ok(()) if !self.inbox.is_empty() => {}
                Ok(()) => {
                    self.status.full.store(false, Relaxed);
                    self.clear_trouble();
                    // One group at a time, so that what was written is handed over before the next is waited for.
                    return;
                }
                Err(Refused::Full) => {
                    self.status.full.store(true, Relaxed);
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
                        if together > 1 && self.inbox.len() > 1 {
                            together = 1;
                            continue;
                        }
                    }
                    self.note_trouble("write", &e);
                    return self.refuse_inbox();
                }
            }
        }
    }

    fn fill_inbox(&mut self) {
        let mut bytes: u64 = self.inbox.iter().map(|lease| lease.batch().bytes()).sum();
        while self.inbox.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
            let Some(lease) = self.front.try_recv() else { return };
            bytes += lease.batch().bytes();
            self.inbox.push_back(lease);
        }
    }

    /// Under `overflow`, rows go by the disk while nothing waits there and memory has room.
    fn pass_by(&mut self) {
        if self.options.when_full != DiskFull::Overflow || self.gone.is_cancelled() {
            return;
        }
        while self.kept.is_empty()
            && self.store.read_point().seq >= self.store.end().seq
            && self.window.has_room()
        {
            let Some(batch) = self.inbox.pop_front().and_then(|lease| lease.hand_on()) else { return };
            self.back.enter(self.settlements.in_memory(batch));
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
                        self.note_trouble("make room in", &e);
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
            let reason = if self.trouble.no_space { Reason::NoSpace } else { Reason::BufferFault };
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
