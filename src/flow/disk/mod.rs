//! A buffer on disk before a sink. Rows enter an ordinary [`Queue`](super::Queue); a thread of the buffer's own appends
//! them to a log of checksummed segments, forces them to the disk, settles the source's receipts, and hands the rows
//! to a second queue that the sink leases from. What the sink settles is not delivered again after a restart.
//!
//! From the ground up: [`storage`] (the seam to the file system), [`format`] and [`record`] (bytes), [`scan`] (one
//! segment), [`store`] with `writer`, `reader` and `recovery` (the log), `stage` (the thread), [`audit`] (the
//! command line's view).

mod admit;
mod again;
#[cfg(test)]
mod again_tests;
pub mod audit;
#[cfg(test)]
mod crash_tests;
mod deliver;
pub mod format;
#[cfg(test)]
mod format_tests;
mod giving_up;
mod handover;
#[cfg(test)]
mod handover_lives_tests;
#[cfg(test)]
mod handover_tests;
#[cfg(test)]
mod lives_tests;
#[cfg(test)]
pub(crate) mod model_tests;
mod opening;
#[cfg(test)]
mod opening_tests;
mod passing;
#[cfg(test)]
mod passing_tests;
pub mod positions;
mod reader;
pub mod record;
mod recovery;
mod recycle;
mod safety;
pub mod scan;
mod segments;
mod stage;
#[cfg(test)]
mod stage_tests;
mod status;
pub mod storage;
pub mod store;
#[cfg(test)]
mod store_tests;
mod trouble;
#[cfg(test)]
mod trouble_tests;
#[cfg(test)]
mod weather_tests;
mod window;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use handover::Handover;
pub use reader::ReadBack;
pub use recovery::Recovered;
pub use stage::{Control, DiskBuffer, RunningBuffer};
pub use status::{BufferSnapshot, BufferStatus};
pub use store::{Limits, Losses, Store};
pub use writer::{Appended, Refused, SyncTicket};

use super::context::Site;

/// What a full disk buffer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFull {
    /// The sources wait.
    Block,
    /// New rows are dropped and counted.
    DropNewest,
    /// The oldest segment is dropped and counted.
    DropOldest,
    /// Rows stay in memory while it has room and go to the disk only then; when that is full, the sources wait.
    Overflow,
}

impl DiskFull {
    /// Whether rows wait rather than go.
    pub fn waits(self) -> bool {
        matches!(self, DiskFull::Block | DiskFull::Overflow)
    }
}

/// Options of a disk buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskOptions {
    /// Its bounds on disk.
    pub limits: Limits,
    /// What it does when they are reached.
    pub when_full: DiskFull,
    /// Least time between two waits for the disk; zero: each write is waited for.
    pub sync_interval: Duration,
    /// Most memory for rows on their way.
    pub memory_bytes: u64,
}

/// Under `drop_oldest` the sink is handed little ahead, for what it was handed cannot be dropped any more.
const AHEAD_DROP_OLDEST: u64 = 1 << 20;

impl DiskOptions {
    /// How many bytes the sink is handed ahead.
    fn ahead(&self) -> u64 {
        match self.when_full {
            DiskFull::DropOldest => self.memory_bytes.min(AHEAD_DROP_OLDEST),
            _ => self.memory_bytes,
        }
    }
}

/// Where the buffer of a sink lives: `buffers/<pipeline>/<type>-<position>` in the state directory.
pub fn directory(state_dir: &Path, site: &Site) -> PathBuf {
    state_dir.join("buffers").join(&*site.pipeline).join(format!("{}-{}", site.type_name, site.index))
}
