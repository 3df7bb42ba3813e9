//! What a disk buffer says of itself, for status and for the command line: written by its thread, read by anyone.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// A buffer's state. Counts are since start, sizes are now.
#[derive(Debug, Default)]
pub struct BufferStatus {
    dir: Mutex<PathBuf>,
    trouble: Mutex<Option<String>>,
    pub(super) full: AtomicBool,
    pub(super) safe: AtomicBool,
    pub(super) disk_bytes: AtomicU64,
    pub(super) segments: AtomicU64,
    pub(super) damaged: AtomicU64,
    pub(super) missing: AtomicU64,
    /// Rounds of the thread.
    #[cfg(test)]
    pub(super) rounds: AtomicU64,
}

/// A buffer's state at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferSnapshot {
    /// Its directory; empty before it is opened.
    pub dir: PathBuf,
    /// Why it cannot write or read just now.
    pub trouble: Option<String>,
    /// Whether it is full.
    pub full: bool,
    /// Bytes of its segment files.
    pub disk_bytes: u64,
    /// Number of its segment files.
    pub segments: u64,
    /// Damaged stretches that were skipped.
    pub damaged: u64,
    /// Gaps where segments were missing.
    pub missing: u64,
}

impl BufferStatus {
    pub(super) fn opened(&self, dir: &Path) {
        dir.clone_into(&mut self.dir.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Whether nothing more comes, and all that waits is on the disk: nobody needs to wait for the sink.
    pub fn is_safe(&self) -> bool {
        self.safe.load(Relaxed)
    }

    /// The state now.
    pub fn snapshot(&self) -> BufferSnapshot {
        BufferSnapshot {
            dir: self.dir.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            trouble: self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            full: self.full.load(Relaxed),
            disk_bytes: self.disk_bytes.load(Relaxed),
            segments: self.segments.load(Relaxed),
            damaged: self.damaged.load(Relaxed),
            missing: self.missing.load(Relaxed),
        }
    }
}

impl BufferSnapshot {
    /// One word: `ok`, `full` or `trouble`.
    pub fn state(&self) -> &'static str {
        match (&self.trouble, self.full) {
            (Some(_), _) => "trouble",
            (None, true) => "full",
            (None, false) => "ok",
        }
    }
}
