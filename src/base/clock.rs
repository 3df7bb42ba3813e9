//! The one seam for time. Monotonic time comes from tokio, so a paused runtime moves it by hand; wall time is
//! nanoseconds since the Unix epoch, and tests may shift it.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::time::ClockId;

/// A point of monotonic time; under a paused tokio runtime it moves only when told to.
pub type Instant = tokio::time::Instant;

/// Shift of the wall clock in nanoseconds, for tests that step it.
static WALL_SHIFT_NANOS: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// What both clocks show on a thread that simulates: monotonic time, and nanoseconds since the Unix epoch.
    static SIMULATED: Cell<Option<(Instant, i64)>> = const { Cell::new(None) };
}

/// Monotonic time now.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn now() -> Instant {
    SIMULATED.get().map_or_else(Instant::now, |(now, _)| now)
}

/// While it lives, this thread's clocks stand still and move only by [`Simulation::advance`]; for code that awaits
/// nothing, such as filters under `weir test`.
#[derive(Debug)]
pub struct Simulation {
    /// The clocks are a thread's own.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Simulation {
    /// Stops this thread's clocks; wall time is `unix_nanos`.
    pub fn begin(unix_nanos: i64) -> Simulation {
        SIMULATED.set(Some((now(), unix_nanos)));
        Simulation { _not_send: std::marker::PhantomData }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        let nanos = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        SIMULATED.set(SIMULATED.get().map(|(now, unix)| (now + by, unix.saturating_add(nanos))));
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        SIMULATED.set(None);
    }
}

/// Microseconds on the system's monotonic clock, for those outside who read the same clock (systemd).
pub fn monotonic_micros() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let (secs, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    secs * 1_000_000 + nanos / 1000
}

/// Whole seconds since the system was booted, suspension included: the clock that processes' start times are on.
#[cfg(target_os = "linux")]
pub fn boot_secs() -> u64 {
    u64::try_from(rustix::time::clock_gettime(ClockId::Boottime).tv_sec).unwrap_or(0)
}

/// Wall-clock time now, in nanoseconds since the Unix epoch (saturating outside 1677..2262).
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn unix_nanos() -> i64 {
    if let Some((_, unix_nanos)) = SIMULATED.get() {
        return unix_nanos;
    }
    let nanos = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    };
    nanos.saturating_add(WALL_SHIFT_NANOS.load(Ordering::Relaxed))
}

/// Wall-clock time now, as calendars reckon.
pub fn timestamp() -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(unix_nanos().into()).unwrap_or_default()
}

/// Wall-clock time as local file systems stamp files with it: a file that is made after this call is never older
/// than what it returned. The precise clock is ahead of it by up to a tick.
pub fn file_time() -> SystemTime {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::RealtimeCoarse;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Realtime;
    let now = rustix::time::clock_gettime(CLOCK);
    let (secs, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
    SystemTime::UNIX_EPOCH + Duration::new(secs, nanos)
}

/// Steps the wall clock of this process by `nanos`, for tests and simulations: "clock stepped backwards".
pub fn step_wall(nanos: i64) {
    WALL_SHIFT_NANOS.fetch_add(nanos, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_stands_still_and_ends() {
        let simulation = Simulation::begin(5);
        let start = now();
        simulation.advance(Duration::from_secs(3600));
        assert_eq!((now() - start, unix_nanos()), (Duration::from_secs(3600), 3_600_000_000_005));
        drop(simulation);
        assert!(unix_nanos() > 1_700_000_000_000_000_000 && now() < start + Duration::from_secs(3600));
    }
}
