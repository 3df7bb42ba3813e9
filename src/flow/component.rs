//! The contract of a component. A source pushes batches into its [`Outlet`], a filter narrows them synchronously,
//! a sink takes them from its [`Inlet`]; each is one file that implements one trait pair and is named once in the
//! registry.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use smallvec::SmallVec;

use super::context::TaskCx;
use super::outlet::Outlet;
use super::queue::Inlet;
use crate::base::clock::Instant;
use crate::batch::{Batch, Outcome};

/// Something that went wrong in the world outside.
#[derive(Debug)]
pub enum Fault {
    /// May pass: the supervisor starts the component again, no sooner than `after` (and its own backoff).
    Retry {
        /// What failed, with the path or address, and why.
        why: String,
        /// The least wait before the next start.
        after: Option<Duration>,
    },
    /// Something the component cannot do without is taken, such as its port: at the start that makes the start fail,
    /// later it may pass, as [`Fault::Retry`].
    Unavailable {
        /// What failed, with the path or address, and why.
        why: String,
    },
    /// Will not pass by itself: the component stays down, readiness says so, the rest of the process goes on.
    Fatal {
        /// What failed, with the path or address, and why.
        why: String,
    },
}

impl Fault {
    /// A fault that may pass.
    pub fn retry(why: impl Into<String>) -> Fault {
        Fault::Retry { why: why.into(), after: None }
    }

    /// A fault that makes a start fail, and may pass later.
    pub fn unavailable(why: impl Into<String>) -> Fault {
        Fault::Unavailable { why: why.into() }
    }

    /// A fault that will not pass by itself.
    pub fn fatal(why: impl Into<String>) -> Fault {
        Fault::Fatal { why: why.into() }
    }

    /// What failed.
    pub fn why(&self) -> &str {
        match self {
            Fault::Retry { why, .. } | Fault::Unavailable { why } | Fault::Fatal { why } => why,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why())
    }
}

/// Where rows enter.
#[async_trait]
pub trait Source: Send {
    /// Reads until the input ends (`Ok`), `cx.shutdown` drains (stop reading, hand over what was framed, `Ok`), or
    /// something fails. Binds and opens here, then calls [`TaskCx::ready`]. After a fault the supervisor starts a
    /// fresh clone of the component. Dropped at any await when the shutdown deadline passes.
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault>;
}

/// What rows pass. Called from whichever thread the source runs on, one call at a time; must not block.
pub trait Filter: Send {
    /// Narrows or changes `batch` and emits the result; rows may also be held for later.
    fn apply(&mut self, batch: Batch, emit: &mut Emit);

    /// Called about ten times a second when [`Filter::ticks`]; emits what was held long enough.
    fn tick(&mut self, _now: Instant, _emit: &mut Emit) {}

    /// Whether [`Filter::tick`] is wanted.
    fn ticks(&self) -> bool {
        false
    }

    /// The input has ended: emits all that is held.
    fn finish(&mut self, _emit: &mut Emit) {}

    /// Rows held now.
    fn held_events(&self) -> u64 {
        0
    }

    /// Rows dropped since the last call, by reason, if the filter drops rather than filters (`throttle`).
    fn take_dropped(&mut self) -> Option<(super::meter::Reason, u64)> {
        None
    }
}

/// Where rows leave.
#[async_trait]
pub trait Sink: Send {
    /// Takes leases until [`Inlet::recv`] is `None`, flushes, and returns `Ok`. Binds and opens first, then calls
    /// [`TaskCx::ready`]. A lease in hand when it fails returns to the queue; a fresh clone goes on with it.
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault>;

    /// The live rows of `batch` in the format in which the sink writes them, one each, without what separates them:
    /// for `weir test`. The lines as they came, unless the sink has a format. No I/O.
    fn written(&self, batch: &Batch, _pipeline: &Arc<str>) -> Vec<Vec<u8>> {
        batch.lines().map(|(_, line)| line.to_vec()).collect()
    }
}

/// Makes a fresh source for each start.
pub type SourceFactory = Arc<dyn Fn() -> Box<dyn Source> + Send + Sync>;
/// Makes a fresh filter for each start.
pub type FilterFactory = Arc<dyn Fn() -> Box<dyn Filter> + Send + Sync>;
/// Makes a fresh sink for each start.
pub type SinkFactory = Arc<dyn Fn() -> Box<dyn Sink> + Send + Sync>;

/// What a filter hands on.
#[derive(Debug, Default)]
pub struct Emit {
    batches: SmallVec<[Batch; 2]>,
}

impl Emit {
    /// Hands a batch on; one without live rows ends here, as delivered.
    pub fn push(&mut self, batch: Batch) {
        if batch.is_empty() {
            batch.settle(Outcome::Delivered);
        } else {
            self.batches.push(batch);
        }
    }

    /// Takes all that was handed on.
    pub fn take(&mut self) -> SmallVec<[Batch; 2]> {
        std::mem::take(&mut self.batches)
    }
}
