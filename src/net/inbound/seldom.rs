//! Messages that a peer could cause without end are written at most once a second, with how many were left out.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::base::clock::{self, Instant};

/// Least time between two messages.
const INTERVAL: Duration = Duration::from_secs(1);

/// Decides whether a message is written now.
#[derive(Debug)]
pub struct Seldom {
    since: Instant,
    /// When the next message may be written, in milliseconds after `since`.
    next_millis: AtomicU64,
    left_out: AtomicU64,
}

impl Default for Seldom {
    fn default() -> Seldom {
        Seldom { since: clock::now(), next_millis: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }
}

impl Seldom {
    /// Whether to write the message at hand: if so, how many were left out since the last.
    pub fn now(&self) -> Option<u64> {
        let millis = self.since.elapsed().as_millis() as u64;
        let next = self.next_millis.load(Relaxed);
        let due = millis >= next;
        // Of two at once, one writes.
        let following = millis + INTERVAL.as_millis() as u64;
        if due && self.next_millis.compare_exchange(next, following, Relaxed, Relaxed).is_ok() {
            Some(self.left_out.swap(0, Relaxed))
        } else {
            self.left_out.fetch_add(1, Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn once_a_second_and_the_others_are_counted() {
        let seldom = Seldom::default();
        assert_eq!((seldom.now(), seldom.now(), seldom.now()), (Some(0), None, None));
        tokio::time::advance(INTERVAL).await;
        assert_eq!((seldom.now(), seldom.now()), (Some(2), None));
    }
}
