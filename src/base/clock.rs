//! The one seam for time. Monotonic time comes from tokio, so a paused runtime moves it by hand; wall time is
//! nanoseconds since the Unix epoch, and tests may shift it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

/// A point of monotonic time; under a paused tokio runtime it moves only when told to.
pub type Instant = tokio::time::Instant;

/// Shift of the wall clock in nanoseconds, for tests that step it.
static WALL_SHIFT_NANOS: AtomicI64 = AtomicI64::new(0);

/// Monotonic time now.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time now, in nanoseconds since the Unix epoch (saturating outside 1677..2262).
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn unix_nanos() -> i64 {
    let nanos = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    };
    nanos.saturating_add(WALL_SHIFT_NANOS.load(Ordering::Relaxed))
}

/// Steps the wall clock of this process by `nanos` (tests only: "clock stepped backwards").
#[cfg(test)]
pub fn step_wall(nanos: i64) {
    WALL_SHIFT_NANOS.fetch_add(nanos, Ordering::Relaxed);
}
