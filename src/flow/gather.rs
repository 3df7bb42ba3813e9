//! Gathering: leases from a sink's inlet, put together until there are enough rows, bytes, or enough time has
//! passed. A lease that does not fit is cut, so that the bounds hold and every row is accounted for on its own.

use smallvec::SmallVec;

use super::lease::Lease;
use super::queue::Inlet;
use crate::base::clock::{self, Instant};
use crate::base::shutdown::Shutdown;
use crate::batch::Batch;
use crate::config::BatchOptions;

/// When a gathering is complete.
#[derive(Debug, Clone)]
pub struct GatherLimits {
    /// The user's bounds.
    pub options: BatchOptions,
    /// What a row takes on top of its own bytes once it is encoded: delimiters, names of members. An estimate, in
    /// bytes; it keeps a gathering near its bound, the encoder makes sure of it.
    pub row_overhead: u64,
}

impl GatherLimits {
    /// What the rows of `batch` would take, in bytes.
    fn size(&self, batch: &Batch) -> u64 {
        batch.bytes() + batch.events() * self.row_overhead
    }
}

/// What was put together: never without rows.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The leases, in order.
    pub leases: SmallVec<[Lease; 4]>,
    /// Their rows.
    pub events: u64,
    /// What they will take once encoded, about.
    pub bytes: u64,
}

/// Puts leases together. What it holds goes back to the queue when it is dropped.
#[derive(Debug)]
pub struct Gather {
    limits: GatherLimits,
    current: Gathered,
    /// When the current gathering ends, set by its first lease.
    deadline: Option<Instant>,
    /// A lease, or what was left of it, that did not fit before.
    rest: Option<Lease>,
    /// What rows really took of late, as a multiple of the estimate.
    scale: f64,
}

/// How fast the scale falls when rows take less than they did; it rises at once.
const SCALE_WEIGHT: f64 = 0.1;
/// A gathering aims a little below its bound, for rows that take a little more than those before.
const SCALE_MARGIN: f64 = 1.03;

impl Gather {
    /// Nothing gathered yet.
    pub fn new(limits: GatherLimits) -> Gather {
        Gather { limits, current: Gathered::default(), deadline: None, rest: None, scale: 1.0 }
    }

    /// The next gathering, or `None` when the inlet has ended and everything was handed out. Once shutdown has
    /// begun it waits for nothing that is not there already; nor does it, when `alone`, wait for rows that the buffer
    /// cannot give before some are settled. `alone` says that the sink has no others to settle. Cancel-safe: what was
    /// gathered stays.
    pub async fn next(&mut self, inlet: &mut Inlet, shutdown: &Shutdown, alone: bool) -> Option<Gathered> {
        loop {
            while let Some(lease) = self.rest.take().or_else(|| inlet.try_recv()) {
                if self.add(lease) {
                    return Some(self.take());
                }
            }
            let Some(deadline) = self.deadline else {
                self.rest = Some(inlet.recv().await?);
                continue;
            };
            let starved = inlet.starved();
            tokio::select! {
                biased;
                lease = inlet.recv() => match lease {
                    Some(lease) => self.rest = Some(lease),
                    None => return Some(self.take()),
                },
                () = shutdown.draining() => return Some(self.take()),
                () = starved, if alone => return Some(self.take()),
                () = tokio::time::sleep_until(deadline) => return Some(self.take()),
            }
        }
    }

    /// A gathering that was thought to take `estimated` bytes took `encoded`: later ones are sized by that.
    pub fn learn(&mut self, estimated: u64, encoded: u64) {
        let seen = self.scale * encoded as f64 / estimated.max(1) as f64 * SCALE_MARGIN;
        let rise = if seen > self.scale { 1.0 } else { SCALE_WEIGHT };
        self.scale = (self.scale + (seen - self.scale) * rise).clamp(0.05, 20.0);
    }

    fn size(&self, lease: &Lease) -> u64 {
        (self.limits.size(lease.batch()) as f64 * self.scale) as u64
    }

    /// Rows in hand that were not handed out yet.
    pub fn held_events(&self) -> u64 {
        self.current.events + self.rest.as_ref().map_or(0, |lease| lease.batch().events())
    }

    /// Takes what fits; true when the gathering is complete.
    fn add(&mut self, mut lease: Lease) -> bool {
        let BatchOptions { max_events, max_bytes, max_wait } = self.limits.options;
        let (events, size) = (lease.batch().events(), self.size(&lease));
        if events == 0 {
            lease.delivered();
            return false;
        }
        self.deadline.get_or_insert_with(|| clock::now() + max_wait);
        let free_events = max_events.saturating_sub(self.current.events);
        let free_bytes = max_bytes.0.saturating_sub(self.current.bytes);
        if events <= free_events && size <= free_bytes {
            self.join(lease, size);
            return self.current.events == max_events || self.current.bytes >= max_bytes.0;
        }
        // A batch stays whole where that wastes little: pieces cannot share what was encoded for the whole.
        let half_full = self.current.events * 2 >= max_events || self.current.bytes * 2 >= max_bytes.0;
        if half_full && events <= max_events && size <= max_bytes.0 {
            self.rest = Some(lease);
            return true;
        }
        let mut piece = (free_bytes * events / size.max(1)).min(free_events).min(events);
        if self.current.events == 0 {
            piece = piece.max(1);
        }
        if piece == events {
            // One row that is larger than a whole gathering may be.
            self.join(lease, size);
            return true;
        }
        if piece > 0 {
            let head = lease.split_to(piece);
            let size = self.size(&head);
            self.join(head, size);
        }
        self.rest = Some(lease);
        true
    }

    fn join(&mut self, lease: Lease, size: u64) {
        self.current.events += lease.batch().events();
        self.current.bytes += size;
        self.current.leases.push(lease);
    }

    fn take(&mut self) -> Gathered {
        self.deadline = None;
        std::mem::take(&mut self.current)
    }
}
