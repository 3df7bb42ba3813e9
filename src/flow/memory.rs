//! How much memory rows keep, all over the process, and the bound that the operator sets. Beyond it, sources of
//! pipelines whose sinks are behind wait: backpressure comes before the kernel's killer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;

/// How often a source that waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Part of the room that is taken before it is worth measuring again: a quarter.
const MEASURE_AGAIN: u64 = 4;

/// The memory of a process, found in [`Shared`](super::Shared). Measured by the engine a few times a second, and sooner
/// when sources have sent so much since the last time that it matters.
#[derive(Debug, Default)]
pub struct Memory {
    max: AtomicU64,
    held: AtomicU64,
    resident: AtomicU64,
    /// Sent by sources since then. Some of it may be gone again.
    sent: AtomicU64,
    over: AtomicBool,
    stale: Notify,
    fresh: Notify,
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
        self.sent.store(0, Relaxed);
        self.judge();
        self.fresh.notify_waiters();
    }

    /// Says that a source sends so many bytes. As if all of it stayed: until the next measurement, which is asked for,
    /// hardly more comes in than there was room for.
    pub fn sending(&self, bytes: u64) {
        let Some(max) = self.max() else { return };
        let sent = self.sent.fetch_add(bytes, Relaxed) + bytes;
        let room = max.saturating_sub(self.most());
        if sent > room {
            self.over.store(true, Relaxed);
        }
        if sent > room / MEASURE_AGAIN {
            self.stale.notify_one();
        }
    }

    /// Waits until it should be measured again. Cancel-safe.
    pub async fn stale(&self) {
        self.stale.notified().await;
    }

    fn judge(&self) {
        self.over.store(self.max().is_some_and(|max| self.most() > max), Relaxed);
    }

    fn most(&self) -> u64 {
        self.held().max(self.resident())
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
            tokio::time::timeout(LOOK_AGAIN, self.fresh.notified()).await.ok();
        }
    }
}
