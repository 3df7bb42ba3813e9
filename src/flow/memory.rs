//! How much memory rows keep, all over the process, and the bound that the operator sets. Beyond it, sources of
//! pipelines whose sinks are behind wait: backpressure comes before the kernel's killer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How often a source that waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The memory of a process, found in [`Shared`](super::Shared). Written by the engine a few times a second.
#[derive(Debug, Default)]
pub struct Memory {
    max: AtomicU64,
    held: AtomicU64,
    resident: AtomicU64,
    over: AtomicBool,
}

impl Memory {
    /// Sets the bound in bytes; `None` lifts it.
    pub fn set_max(&self, max: Option<u64>) {
        self.max.store(max.unwrap_or(0), Relaxed);
        self.judge();
    }

    /// The bound in bytes, if there is one.
    pub fn max(&self) -> Option<u64> {
        Some(self.max.load(Relaxed)).filter(|max| *max > 0)
    }

    /// Says how many bytes rows keep in buffers and histories, and how many the process holds altogether.
    pub fn measured(&self, held: u64, resident: u64) {
        self.held.store(held, Relaxed);
        self.resident.store(resident, Relaxed);
        self.judge();
    }

    fn judge(&self) {
        let most = self.held().max(self.resident());
        self.over.store(self.max().is_some_and(|max| most > max), Relaxed);
    }

    /// Bytes that rows keep.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Bytes that the process holds; 0 where the system does not tell.
    pub fn resident(&self) -> u64 {
        self.resident.load(Relaxed)
    }

    /// Whether there is more than the bound allows. A source that can refuse (503) should, instead of waiting.
    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// Waits while there is too much and `waiting` says that waiting may help. Cancel-safe.
    pub async fn room(&self, waiting: impl Fn() -> bool) {
        while self.is_over() && waiting() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
