//! Token buckets over batches: how many of the next `n` events may pass now. Exact over time: never more than
//! `rate · t + burst`.

use std::time::Duration;

use crate::base::clock::Instant;

/// A bucket that fills with `rate` tokens a second up to `burst`.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate_per_second: f64,
    burst: f64,
    tokens: f64,
    filled_at: Instant,
}

impl TokenBucket {
    /// A full bucket. `rate_per_second` is above 0; a `burst` under one token is raised to one.
    pub fn new(rate_per_second: f64, burst: f64, now: Instant) -> TokenBucket {
        let burst = burst.max(1.0);
        TokenBucket { rate_per_second, burst, tokens: burst, filled_at: now }
    }

    /// Takes up to `wanted` whole tokens; returns how many.
    pub fn take_up_to(&mut self, wanted: u64, now: Instant) -> u64 {
        self.refill(now);
        let taken = (self.tokens.floor() as u64).min(wanted);
        self.tokens -= taken as f64;
        taken
    }

    /// Gives back tokens that were taken in advance.
    pub fn give_back(&mut self, tokens: u64) {
        self.tokens = (self.tokens + tokens as f64).min(self.burst);
    }

    /// Whole tokens there now.
    pub fn available(&mut self, now: Instant) -> u64 {
        self.refill(now);
        self.tokens.floor() as u64
    }

    /// How long until `tokens` (or a full bucket) are there.
    pub fn wait_for(&self, tokens: u64) -> Duration {
        let missing = (tokens as f64).min(self.burst) - self.tokens;
        // A nanosecond more than exact, so that rounding never ends a wait a hair too early.
        Duration::from_secs_f64((missing / self.rate_per_second).max(0.0)) + Duration::from_nanos(1)
    }

    /// Whether the bucket is full, that is: as good as new.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= self.burst
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        self.tokens = (self.tokens + elapsed * self.rate_per_second).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::clock;

    proptest! {
        #[test]
        fn never_above_rate_times_t_plus_burst(
            rate in 1u32..10_000, burst in 1u32..5_000,
            steps in proptest::collection::vec((0u64..2_000, 0u64..3_000), 1..200),
        ) {
            let start = clock::now();
            let mut bucket = TokenBucket::new(f64::from(rate), f64::from(burst), start);
            let (mut elapsed_ms, mut taken) = (0u64, 0u64);
            for (sleep_ms, wanted) in steps {
                elapsed_ms += sleep_ms;
                taken += bucket.take_up_to(wanted, start + Duration::from_millis(elapsed_ms));
                let allowed = f64::from(rate) * elapsed_ms as f64 / 1000.0 + f64::from(burst);
                prop_assert!(taken as f64 <= allowed + 1e-6, "{taken} > {allowed}");
            }
        }
    }

    #[test]
    fn waiting_is_long_enough_and_the_clock_may_step_back() {
        let start = clock::now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::new(3.0, 5.0, start);
        assert_eq!(bucket.take_up_to(10, start), 5);
        assert_eq!(bucket.take_up_to(1, start - Duration::from_secs(5)), 0);
        let wait = bucket.wait_for(2);
        assert_eq!(bucket.take_up_to(10, start + wait), 2);
    }
}
