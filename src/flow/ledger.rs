//! What the sink behind a disk buffer was handed and has not counted yet, batch by batch. Rows that the sink has split
//! may end differently; when some are lost, this keeps them, and knows how many of their batch are still nowhere else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::meter::Meter;
use crate::batch::Batch;

/// The account of one buffer, shared by its thread and its second queue.
#[derive(Debug)]
pub(super) struct Ledger {
    book: Mutex<Book>,
    meter: Arc<Meter>,
}

#[derive(Debug, Default)]
struct Book {
    /// The number of the next entry.
    next: u64,
    /// Those of which something is open, by number. Bounded by what is handed over at once.
    entries: BTreeMap<u64, Entry>,
    in_memory: Sum,
    on_disk: Sum,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    events: u64,
    bytes: u64,
}

/// What of a batch is not counted.
#[derive(Debug)]
struct Entry {
    open: Sum,
    on_disk: bool,
    /// Rows of it that the sink has lost, without receipts. The window bounds what they weigh.
    lost: Vec<Batch>,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.events += other.events;
        self.bytes += other.bytes;
    }

    fn remove(&mut self, other: Sum) {
        self.events = self.events.saturating_sub(other.events);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

impl Book {
    /// Takes what is open of an entry, at most `what`.
    fn take(&mut self, number: u64, what: Sum) -> Sum {
        let Some(entry) = self.entries.get_mut(&number) else { return Sum::default() };
        let taken =
            Sum { events: what.events.min(entry.open.events), bytes: what.bytes.min(entry.open.bytes) };
        entry.open.remove(taken);
        let sum = if entry.on_disk { &mut self.on_disk } else { &mut self.in_memory };
        sum.remove(taken);
        if entry.open.events == 0 {
            self.entries.remove(&number);
        }
        taken
    }
}

impl Ledger {
    /// An empty account that is told on `meter`.
    pub(super) fn new(meter: Arc<Meter>) -> Arc<Ledger> {
        Arc::new(Ledger { book: Mutex::default(), meter })
    }

    /// The sink's meter.
    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// A batch is about to be handed over, of the log (`on_disk`) or of memory alone; its number.
    pub(super) fn open(&self, events: u64, bytes: u64, on_disk: bool) -> u64 {
        let mut book = self.lock();
        let open = Sum { events, bytes };
        let number = book.next;
        book.next += 1;
        book.entries.insert(number, Entry { open, on_disk, lost: Vec::new() });
        let sum = if on_disk { &mut book.on_disk } else { &mut book.in_memory };
        sum.add(open);
        self.publish(&book);
        number
    }

    /// Rows of a batch were counted elsewhere.
    pub(super) fn account(&self, number: u64, events: u64, bytes: u64) {
        let mut book = self.lock();
        book.take(number, Sum { events, bytes });
        self.publish(&book);
    }

    /// A batch that was in memory alone is in the log now.
    pub(super) fn move_to_disk(&self, number: u64) {
        let mut book = self.lock();
        let Some(entry) = book.entries.get_mut(&number).filter(|entry| !entry.on_disk) else { return };
        entry.on_disk = true;
        let open = entry.open;
        book.in_memory.remove(open);
        book.on_disk.add(open);
        self.publish(&book);
    }

    /// The sink has lost rows of a batch: they are kept while they are open.
    pub(super) fn lose(&self, number: u64, rows: Batch) {
        let mut book = self.lock();
        if let Some(entry) = book.entries.get_mut(&number).filter(|_| !rows.is_empty()) {
            entry.lost.push(rows);
        }
    }

    /// The rows of a batch that were lost, to be handed over again; none when nothing of it is open.
    pub(super) fn take_lost(&self, number: u64) -> Vec<Batch> {
        let mut book = self.lock();
        book.entries.get_mut(&number).map_or_else(Vec::new, |entry| std::mem::take(&mut entry.lost))
    }

    /// What is left of a batch is given up: so many events, to be counted by the caller.
    pub(super) fn write_off(&self, number: u64) -> u64 {
        let mut book = self.lock();
        let left = book.take(number, Sum { events: u64::MAX, bytes: u64::MAX });
        self.publish(&book);
        left.events
    }

    /// Batches that it keeps an account of.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.lock().entries.len()
    }

    fn publish(&self, book: &Book) {
        self.meter.relayed(book.in_memory.events, book.in_memory.bytes);
        self.meter.handed(book.on_disk.events, book.on_disk.bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ledger: &Ledger) -> (u64, u64) {
        let counts = ledger.meter.snapshot();
        (counts.queued_events, counts.stored_events)
    }

    #[test]
    fn lost_rows_are_kept_until_they_are_taken_or_nothing_of_their_batch_is_open() {
        let ledger = Ledger::new(Arc::default());
        let mut rows = Batch::from_lines("t", ["a", "b", "c"]);
        let (first, second) = (ledger.open(3, 3, true), ledger.open(3, 3, true));
        ledger.lose(first, rows.split_to(1));
        assert_eq!((ledger.take_lost(first).len(), ledger.take_lost(first).len()), (1, 0));
        ledger.lose(first, rows.view());
        ledger.lose(second, rows.view());
        ledger.account(first, 3, 3);
        assert_eq!((ledger.take_lost(first).len(), ledger.take_lost(second).len()), (0, 1));
        assert_eq!(told(&ledger), (3, 3), "what was taken is still open");
        ledger.lose(first, rows);
        assert!(ledger.take_lost(first).is_empty(), "it is over");
    }

    #[test]
    fn what_is_left_of_a_batch_that_was_split_is_known() {
        let ledger = Ledger::new(Arc::default());
        let (memory, disk) = (ledger.open(10, 100, false), ledger.open(5, 50, true));
        assert_eq!(told(&ledger), (15, 5));
        ledger.account(disk, 2, 20);
        ledger.account(memory, 4, 40);
        assert_eq!(told(&ledger), (9, 3));
        ledger.move_to_disk(memory);
        assert_eq!(told(&ledger), (9, 9));
        assert_eq!((ledger.write_off(memory), told(&ledger)), (6, (3, 3)));
        assert_eq!((ledger.write_off(memory), ledger.write_off(disk), told(&ledger)), (0, 3, (0, 0)));
        assert_eq!(ledger.open(1, 1, true), 2, "numbers go on");
    }
}
