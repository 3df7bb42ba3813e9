//! Counters. Each component owns one meter and adds to it once per batch; what was dropped is counted by reason,
//! and everything that is lost goes through [`Meter::dropped`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, RwLock};

use super::tap::TapPoint;

/// Why rows were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Reason {
    /// The pipeline's `rate_limit` was exceeded.
    RateLimit,
    /// Longer than `max_event_size` or `max_line_size`.
    Oversize,
    /// The buffer was full and its policy is `drop_newest`.
    BufferFullNewest,
    /// The buffer was full and its policy is `drop_oldest`.
    BufferFullOldest,
    /// A `throttle` filter's bucket was empty.
    Throttled,
    /// A receiver refused the rows for good.
    Rejected,
    /// No space was left, or less than the free-disk guard demands.
    NoSpace,
    /// A disk buffer could not write the rows, or not read them back.
    BufferFault,
    /// Datagrams found the socket's buffer full: the pipeline was slower than their senders.
    SocketBuffer,
    /// Kernel events found the ring buffer full: the pipeline was slower than what is traced.
    RingBuffer,
    /// Whoever sent the datagrams may not (`access`).
    Refused,
    /// The component failed on these rows (a bug, caught).
    Fault,
    /// weir was forced to stop before the rows were delivered.
    Aborted,
}

impl Reason {
    /// Number of reasons.
    pub const COUNT: usize = 13;

    /// All reasons, in the order of their counters.
    pub const ALL: [Reason; Reason::COUNT] = [
        Reason::RateLimit,
        Reason::Oversize,
        Reason::BufferFullNewest,
        Reason::BufferFullOldest,
        Reason::Throttled,
        Reason::Rejected,
        Reason::NoSpace,
        Reason::BufferFault,
        Reason::SocketBuffer,
        Reason::RingBuffer,
        Reason::Refused,
        Reason::Fault,
        Reason::Aborted,
    ];

    /// The name in status, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::RateLimit => "rate_limit",
            Reason::Oversize => "oversize",
            Reason::BufferFullNewest => "buffer_full_newest",
            Reason::BufferFullOldest => "buffer_full_oldest",
            Reason::Throttled => "throttled",
            Reason::Rejected => "rejected",
            Reason::NoSpace => "no_space",
            Reason::BufferFault => "buffer_fault",
            Reason::SocketBuffer => "socket_buffer",
            Reason::RingBuffer => "ring_buffer",
            Reason::Refused => "refused",
            Reason::Fault => "fault",
            Reason::Aborted => "aborted",
        }
    }
}

/// The counters of one component. At rest `received == delivered + filtered + dropped + queued`.
#[derive(Debug, Default)]
pub struct Meter {
    received_events: AtomicU64,
    received_bytes: AtomicU64,
    delivered_events: AtomicU64,
    delivered_bytes: AtomicU64,
    filtered_events: AtomicU64,
    dropped_events: [AtomicU64; Reason::COUNT],
    queued_events: AtomicU64,
    queued_bytes: AtomicU64,
    stored_events: AtomicU64,
    stored_bytes: AtomicU64,
    handed_events: AtomicU64,
    handed_bytes: AtomicU64,
    relayed_events: AtomicU64,
    relayed_bytes: AtomicU64,
    recovered_events: AtomicU64,
    errors: AtomicU64,
    restarts: AtomicU64,
    clients: AtomicU64,
    client_drops: AtomicU64,
    cut_events: AtomicU64,
    lag: RwLock<Option<Lag>>,
    of_type: Mutex<Vec<(&'static str, u64)>>,
    tap: TapPoint,
}

/// How far a source of files is behind them now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Bytes that are in the files and were not taken yet, last lines without an end among them; compressed files count
    /// with their size until they are read.
    pub behind_bytes: u64,
    /// Files that are followed.
    pub files: u64,
    /// Of those, how many have a descriptor.
    pub open: u64,
}

impl Meter {
    /// Where the rows that are counted here can be looked at: what a source or filter puts out, what a sink receives.
    pub fn tap(&self) -> &TapPoint {
        &self.tap
    }

    /// Rows came in.
    pub fn received(&self, events: u64, bytes: u64) {
        self.received_events.fetch_add(events, Relaxed);
        self.received_bytes.fetch_add(bytes, Relaxed);
    }

    /// Rows went out.
    pub fn delivered(&self, events: u64, bytes: u64) {
        self.delivered_events.fetch_add(events, Relaxed);
        self.delivered_bytes.fetch_add(bytes, Relaxed);
    }

    /// Rows were filtered away on purpose.
    pub fn filtered(&self, events: u64) {
        self.filtered_events.fetch_add(events, Relaxed);
    }

    /// Rows were lost, for a reason. The one door for losses.
    pub fn dropped(&self, reason: Reason, events: u64) {
        self.dropped_events[reason as usize].fetch_add(events, Relaxed);
    }

    /// An operation failed (and will be retried or was reported).
    pub fn error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    /// The component was started again after a fault.
    pub fn restarted(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    /// A client connected.
    pub fn client_joined(&self) {
        self.clients.fetch_add(1, Relaxed);
    }

    /// A client left.
    pub fn client_left(&self) {
        self.clients.fetch_sub(1, Relaxed);
    }

    /// A single slow client was told that it missed `events` (others may have received them).
    pub fn client_dropped(&self, events: u64) {
        self.client_drops.fetch_add(events, Relaxed);
    }

    /// Lines longer than the limit passed truncated or in pieces.
    pub fn cut(&self, events: u64) {
        self.cut_events.fetch_add(events, Relaxed);
    }

    /// How far it is behind its files; set by sources that follow files, whenever that changes.
    pub fn set_lag(&self, lag: Lag) {
        *self.lag.write().unwrap_or_else(PoisonError::into_inner) = Some(lag);
    }

    /// How far it is behind its files, if it follows some.
    pub fn lag(&self) -> Option<Lag> {
        *self.lag.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what only components of this type count, by name in snake case: totals since the component started. Not
    /// part of the law.
    pub fn set_counts_of_type(&self, counts: &[(&'static str, u64)]) {
        let mut of_type = self.of_type.lock().unwrap_or_else(PoisonError::into_inner);
        of_type.clear();
        of_type.extend_from_slice(counts);
    }

    /// What [`Meter::set_counts_of_type`] was told last.
    pub fn counts_of_type(&self) -> Vec<(&'static str, u64)> {
        self.of_type.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What waits now, set by the component's queue.
    pub fn queued(&self, events: u64, bytes: u64) {
        self.queued_events.store(events, Relaxed);
        self.queued_bytes.store(bytes, Relaxed);
    }

    /// What waits in a disk buffer now and no sink has in hand, set by its thread; part of what is queued and stored.
    pub fn stored(&self, events: u64, bytes: u64) {
        self.stored_events.store(events, Relaxed);
        self.stored_bytes.store(bytes, Relaxed);
    }

    /// What of a disk buffer the sink has in hand and has not counted; part of what is queued and stored.
    pub(super) fn handed(&self, events: u64, bytes: u64) {
        self.handed_events.store(events, Relaxed);
        self.handed_bytes.store(bytes, Relaxed);
    }

    /// What has passed a disk buffer's entrance, stays in memory, and the sink has not counted; part of what is queued.
    pub(super) fn relayed(&self, events: u64, bytes: u64) {
        self.relayed_events.store(events, Relaxed);
        self.relayed_bytes.store(bytes, Relaxed);
    }

    /// A disk buffer held these from an earlier run. They count as received, too.
    pub fn recovered(&self, events: u64) {
        self.recovered_events.fetch_add(events, Relaxed);
    }

    /// The counters now.
    pub fn snapshot(&self) -> MeterSnapshot {
        let read = |a: &AtomicU64| a.load(Relaxed);
        let stored_events = read(&self.stored_events) + read(&self.handed_events);
        let stored_bytes = read(&self.stored_bytes) + read(&self.handed_bytes);
        MeterSnapshot {
            received_events: read(&self.received_events),
            received_bytes: read(&self.received_bytes),
            delivered_events: read(&self.delivered_events),
            delivered_bytes: read(&self.delivered_bytes),
            filtered_events: read(&self.filtered_events),
            dropped_events: Reason::ALL.map(|r| (r, read(&self.dropped_events[r as usize]))),
            queued_events: read(&self.queued_events) + stored_events + read(&self.relayed_events),
            queued_bytes: read(&self.queued_bytes) + stored_bytes + read(&self.relayed_bytes),
            memory_bytes: read(&self.queued_bytes) + read(&self.handed_bytes) + read(&self.relayed_bytes),
            stored_events,
            recovered_events: read(&self.recovered_events),
            errors: read(&self.errors),
            restarts: read(&self.restarts),
            clients: read(&self.clients),
            client_drops: read(&self.client_drops),
            cut_events: read(&self.cut_events),
        }
    }
}

/// A meter's counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the names are those of the meter's methods; counts since start, bytes where said"
)]
pub struct MeterSnapshot {
    pub received_events: u64,
    pub received_bytes: u64,
    pub delivered_events: u64,
    pub delivered_bytes: u64,
    pub filtered_events: u64,
    pub dropped_events: [(Reason, u64); Reason::COUNT],
    pub queued_events: u64,
    pub queued_bytes: u64,
    /// Of `queued_bytes`, without what waits in files.
    pub memory_bytes: u64,
    pub stored_events: u64,
    pub recovered_events: u64,
    pub errors: u64,
    pub restarts: u64,
    pub clients: u64,
    pub client_drops: u64,
    pub cut_events: u64,
}

impl MeterSnapshot {
    /// All drops together.
    pub fn dropped_total(&self) -> u64 {
        self.dropped_events.iter().map(|(_, n)| n).sum()
    }

    /// Drops for one reason.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.dropped_events[reason as usize].1
    }

    /// The conservation law; holds whenever the component is at rest.
    pub fn balances(&self) -> bool {
        self.received_events
            == self.delivered_events + self.filtered_events + self.dropped_total() + self.queued_events
    }
}
