//! How many requests are under way at a time: a fixed number, or as many as the receiver takes gladly, found by
//! adding one while answers stay quick and halving when they do not (AIMD, as TCP does).

use std::time::Duration;

use crate::base::clock::Instant;

/// Most requests at a time that an adaptive limit reaches.
pub const ADAPTIVE_MAX: usize = 16;
/// Bytes that adaptive requests of full size have under way together, about; two requests always may.
const ADAPTIVE_BYTES: u64 = 4 << 20;
/// Answers count as slow from this multiple of the usual time.
const SLOW_FACTOR: f64 = 2.0;
/// Differences below this are noise, in seconds.
const NOISE_SECONDS: f64 = 0.02;
/// How much an answer tells about the usual time.
const WEIGHT: f64 = 0.1;

/// A limit on requests at a time.
#[derive(Debug)]
pub enum Concurrency {
    /// As configured.
    Fixed(usize),
    /// As the receiver allows.
    Adaptive(Adaptive),
}

/// See the module.
#[derive(Debug)]
pub struct Adaptive {
    limit: usize,
    limit_max: usize,
    /// Quick answers since the limit last changed.
    quick: usize,
    /// The usual time of an answer in seconds, a moving average.
    usual: Option<f64>,
    /// Requests begun before this moment say nothing about the limit of now.
    changed: Option<Instant>,
}

/// What a finished request says about the receiver.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    /// When it was begun.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
    /// It timed out, or the receiver said that it has too much to do.
    pub overloaded: bool,
    /// As many requests were under way as are allowed, so that one more would have been used.
    pub at_limit: bool,
}

impl Concurrency {
    /// A limit that begins with one request and finds its way; requests of `request_bytes_max` do not take more
    /// than some MiB of memory together.
    pub fn adaptive(request_bytes_max: u64) -> Concurrency {
        let fit = ADAPTIVE_BYTES / request_bytes_max.max(1);
        let limit_max = usize::try_from(fit).unwrap_or(ADAPTIVE_MAX).clamp(2, ADAPTIVE_MAX);
        Concurrency::Adaptive(Adaptive { limit: 1, limit_max, quick: 0, usual: None, changed: None })
    }

    /// How many requests may be under way now, at least 1.
    pub fn limit(&self) -> usize {
        match self {
            Concurrency::Fixed(n) => *n,
            Concurrency::Adaptive(adaptive) => adaptive.limit,
        }
    }

    /// A request has been answered, or has timed out. Connections that failed do not count: they say nothing about
    /// how much the receiver can take.
    pub fn finished(&mut self, request: Finished, now: Instant) {
        if let Concurrency::Adaptive(adaptive) = self {
            adaptive.finished(request, now);
        }
    }
}

impl Adaptive {
    fn finished(&mut self, request: Finished, now: Instant) {
        let seconds = request.took.as_secs_f64();
        let stale = self.changed.is_some_and(|at| request.begun < at);
        let usual = *self.usual.get_or_insert(seconds);
        let slow = seconds > usual * SLOW_FACTOR + NOISE_SECONDS;
        if stale {
            // It was begun under another limit.
        } else if request.overloaded || slow {
            self.limit = (self.limit / 2).max(1);
            (self.quick, self.changed) = (0, Some(now));
        } else if request.at_limit {
            self.quick += 1;
            // One more per round: the limit doubles in as many rounds as it is high.
            if self.quick >= self.limit && self.limit < self.limit_max {
                self.limit += 1;
                self.quick = 0;
            }
        }
        // A receiver that has become slower for good is the new usual, in time.
        if !request.overloaded {
            self.usual = Some(usual + (seconds - usual) * WEIGHT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    fn request(took_ms: u64, begun: Instant) -> Finished {
        Finished { begun, took: Duration::from_millis(took_ms), overloaded: false, at_limit: true }
    }

    #[test]
    fn quick_answers_raise_it_and_slow_ones_halve_it_once_a_round() {
        let (mut limit, start) = (Concurrency::adaptive(1 << 10), clock::now());
        let at = |ms| start + Duration::from_millis(ms);
        for i in 0..1000 {
            limit.finished(request(50, at(i)), at(i + 50));
        }
        assert_eq!(limit.limit(), ADAPTIVE_MAX);
        // All that were under way come back slow: the limit is halved once, not sixteen times.
        for _ in 0..ADAPTIVE_MAX {
            limit.finished(request(500, at(2000)), at(2500));
        }
        assert_eq!(limit.limit(), ADAPTIVE_MAX / 2);
        for i in 0..10 {
            limit.finished(Finished { overloaded: true, ..request(10, at(3000 + i)) }, at(3010 + i));
        }
        assert_eq!(limit.limit(), 4, "10 ms of overload are one round");
        for i in 0..10 {
            limit
                .finished(Finished { overloaded: true, ..request(10, at(4000 + 20 * i)) }, at(4010 + 20 * i));
        }
        assert_eq!(limit.limit(), 1);
    }

    #[test]
    fn it_stays_low_while_nobody_needs_more() {
        let (mut limit, now) = (Concurrency::adaptive(1 << 10), clock::now());
        (0..100).for_each(|_| limit.finished(Finished { at_limit: false, ..request(5, now) }, now));
        assert_eq!(limit.limit(), 1);
        assert_eq!(Concurrency::Fixed(7).limit(), 7);
    }

    #[test]
    fn a_receiver_that_is_slower_for_good_is_the_new_usual() {
        let (mut limit, start) = (Concurrency::adaptive(1 << 10), clock::now());
        for i in 0..2000u64 {
            let begun = start + Duration::from_secs(i);
            let took = if i < 100 { 10 } else { 300 };
            limit.finished(request(took, begun), begun + Duration::from_millis(took));
        }
        assert_eq!(limit.limit(), ADAPTIVE_MAX);
    }
}
