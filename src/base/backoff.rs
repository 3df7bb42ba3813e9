//! Exponential backoff with full-range jitter, for restarts and reconnects.

use std::time::Duration;

use super::rng::Rng;

/// Delays that double from `initial` to `max`, each drawn from the upper half of its range so that many
/// restarting components do not move in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    attempts: u32,
    rng: Rng,
}

impl Backoff {
    /// A fresh series between `initial` and `max`.
    pub fn new(initial: Duration, max: Duration, rng: Rng) -> Backoff {
        Backoff { initial, max, attempts: 0, rng }
    }

    /// The delay before the next attempt: between half and all of `initial · 2ⁿ`, never above `max`.
    pub fn next_delay(&mut self) -> Duration {
        let full = self.initial.saturating_mul(1u32 << self.attempts.min(30)).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        full.mul_f64(0.5 + self.rng.unit() / 2.0)
    }

    /// Starts the series again, after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How many delays were handed out since the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_bound_with_jitter() {
        let mut b = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), Rng::seeded(1));
        let mut upper = 100;
        for _ in 0..40 {
            let d = b.next_delay().as_millis();
            assert!(d >= upper / 2 - 1 && d <= upper, "{d} outside {}..={upper}", upper / 2);
            upper = (upper * 2).min(5000);
        }
        b.reset();
        assert!(b.next_delay() <= Duration::from_millis(100));
    }
}
