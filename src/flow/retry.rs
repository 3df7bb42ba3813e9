//! When to try again: the pauses of one delivery, drawn with full jitter (every length up to a growing limit is
//! equally likely), which spreads the attempts of many senders best.

use std::time::Duration;

use crate::base::rng::Rng;
use crate::config::{RetryBackoff, RetryOptions};

/// The pauses between the attempts of one delivery.
#[derive(Debug, Clone)]
pub struct RetrySchedule {
    options: RetryOptions,
    attempts: u64,
}

impl RetrySchedule {
    /// A schedule that starts from its first pause.
    pub fn new(options: &RetryOptions) -> RetrySchedule {
        RetrySchedule { options: options.clone(), attempts: 0 }
    }

    /// An attempt has failed: the pause before the next, or `None` when no attempt is left. A receiver's wish to
    /// be left alone for `at_least` is honoured up to `max_delay`.
    pub fn next_delay(&mut self, at_least: Option<Duration>, rng: &mut Rng) -> Option<Duration> {
        let RetryOptions { initial_delay, max_delay, .. } = self.options;
        let doublings = match self.options.backoff {
            RetryBackoff::Exponential => u32::try_from(self.attempts).unwrap_or(u32::MAX).min(30),
            RetryBackoff::Constant => 0,
        };
        self.count()?;
        let limit = initial_delay.saturating_mul(1 << doublings).min(max_delay);
        Some(limit.mul_f64(rng.unit()).max(at_least.unwrap_or_default().min(max_delay)))
    }

    /// As [`RetrySchedule::next_delay`], for failures that somebody must mend first: always between half and all
    /// of `max_delay`.
    pub fn slow_delay(&mut self, rng: &mut Rng) -> Option<Duration> {
        self.count()?;
        Some(self.options.max_delay.mul_f64(0.5 + rng.unit() / 2.0))
    }

    /// How many attempts have failed so far.
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// Starts again from the first pause.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    fn count(&mut self) -> Option<()> {
        self.attempts += 1;
        self.options.max_attempts.is_none_or(|max| self.attempts < max).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::defaults;

    #[test]
    fn limits_double_up_to_the_longest_pause() {
        let (mut schedule, mut rng) = (RetrySchedule::new(&defaults()), Rng::seeded(3));
        let mut longest = Duration::ZERO;
        for limit_ms in [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
            let delay = schedule.next_delay(None, &mut rng).unwrap();
            assert!(delay <= Duration::from_millis(limit_ms), "{delay:?} over {limit_ms} ms");
            longest = longest.max(delay);
        }
        assert!(longest > Duration::from_secs(5), "jitter reaches far: {longest:?}");
        assert_eq!(schedule.attempts(), 10);
        schedule.reset();
        assert!(schedule.next_delay(None, &mut rng).unwrap() <= Duration::from_millis(200));
    }

    #[test]
    fn a_wish_is_honoured_within_bounds() {
        let (mut schedule, mut rng) = (RetrySchedule::new(&defaults()), Rng::seeded(3));
        let wish = Some(Duration::from_secs(7));
        assert_eq!(schedule.next_delay(wish, &mut rng), wish);
        let longest = Duration::from_secs(30);
        assert_eq!(schedule.next_delay(Some(Duration::MAX), &mut rng), Some(longest));
        assert!(schedule.slow_delay(&mut rng).unwrap() >= longest / 2);
    }

    #[test]
    fn attempts_run_out_only_where_they_are_counted() {
        let options = RetryOptions { max_attempts: Some(2), ..defaults() };
        let (mut schedule, mut rng) = (RetrySchedule::new(&options), Rng::seeded(3));
        assert!(schedule.next_delay(None, &mut rng).is_some());
        assert_eq!(schedule.next_delay(None, &mut rng), None);
    }
}
