//! Token buckets per address, in a bounded map. The house's own bucket rather than governor's keyed limiter: that
//! one lets its map grow between calls of `retain_recent` without any bound, while a full bucket of ours is as good
//! as none and is simply forgotten.

use std::collections::HashMap;
use std::time::Duration;

use super::address::AddressKey;
use crate::base::clock::Instant;
use crate::flow::TokenBucket;

/// A bucket for each address that was seen lately.
#[derive(Debug)]
pub(super) struct Buckets {
    rate_per_second: f64,
    burst: f64,
    addresses_max: usize,
    by_address: HashMap<AddressKey, TokenBucket>,
    /// What all share for whom there is no room: addresses are many only under attack, and then strangers wait.
    overflow: Option<TokenBucket>,
    purged_at: Option<Instant>,
}

/// How long a full map waits between two searches for buckets to forget.
const PURGE_PAUSE: Duration = Duration::from_millis(250);

impl Buckets {
    /// Room for `addresses_max` buckets of `burst` tokens, which fill with `rate_per_second`.
    pub(super) fn new(rate_per_second: f64, burst: f64, addresses_max: usize) -> Buckets {
        Buckets {
            rate_per_second,
            burst,
            addresses_max,
            by_address: HashMap::new(),
            overflow: None,
            purged_at: None,
        }
    }

    /// Takes a token, or says how long until there is one.
    pub(super) fn take(&mut self, key: AddressKey, now: Instant) -> Result<(), Duration> {
        let bucket = self.bucket(key, now);
        if bucket.take_up_to(1, now) == 1 { Ok(()) } else { Err(bucket.wait_for(1)) }
    }

    /// Gives a token back that was taken before the outcome was known.
    pub(super) fn give_back(&mut self, key: AddressKey, now: Instant) {
        self.bucket(key, now).give_back(1);
    }

    fn bucket(&mut self, key: AddressKey, now: Instant) -> &mut TokenBucket {
        if self.by_address.len() >= self.addresses_max && !self.by_address.contains_key(&key) {
            self.purge(now);
        }
        let (rate, burst) = (self.rate_per_second, self.burst);
        let fresh = || TokenBucket::new(rate, burst, now);
        if self.by_address.len() >= self.addresses_max && !self.by_address.contains_key(&key) {
            return self.overflow.get_or_insert_with(fresh);
        }
        // Whoever now gets a bucket may have drawn on the shared one: starting from what is left of that keeps the
        // bound exact. Once it is full it is as good as none.
        if self.overflow.as_mut().is_some_and(|shared| shared.is_full(now)) {
            self.overflow = None;
        }
        let shared = &self.overflow;
        self.by_address.entry(key).or_insert_with(|| shared.clone().unwrap_or_else(fresh))
    }

    /// Forgets full buckets. Looking at all of them for every stranger would be an attack of its own.
    fn purge(&mut self, now: Instant) {
        if self.purged_at.is_some_and(|at| now.saturating_duration_since(at) < PURGE_PAUSE) {
            return;
        }
        self.purged_at = Some(now);
        self.by_address.retain(|_, bucket| !bucket.is_full(now));
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_address.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::base::clock;

    fn key(n: u32) -> AddressKey {
        AddressKey::of(IpAddr::V4(Ipv4Addr::from(n)))
    }

    proptest! {
        #[test]
        fn no_address_is_ever_above_rate_times_t_plus_burst(
            rate in 1u32..200, burst in 1u32..50,
            steps in proptest::collection::vec((0u64..300, 0u32..6), 1..400),
        ) {
            let start = clock::now();
            // Room for four of six addresses: the others share a bucket, and may have less but never more.
            let mut buckets = Buckets::new(f64::from(rate), f64::from(burst), 4);
            let (mut elapsed_ms, mut taken) = (0u64, [0u32; 6]);
            for (sleep_ms, n) in steps {
                elapsed_ms += sleep_ms;
                let now = start + Duration::from_millis(elapsed_ms);
                if buckets.take(key(n), now).is_ok() {
                    taken[n as usize] += 1;
                }
                let allowed = f64::from(rate) * elapsed_ms as f64 / 1000.0 + f64::from(burst);
                prop_assert!(f64::from(taken[n as usize]) <= allowed + 1e-6);
            }
        }
    }

    #[test]
    fn a_million_addresses_take_no_more_room_than_there_is() {
        let start = clock::now();
        let mut buckets = Buckets::new(1.0, 2.0, 1000);
        let mut passed = 0;
        for n in 0..100_000 {
            passed += u32::from(buckets.take(key(n), start).is_ok());
        }
        // Each of those with room its first request, all others two together.
        assert_eq!((buckets.len(), passed), (1000, 1002));
        // A second later the buckets are full again and are forgotten.
        let later = start + Duration::from_secs(2);
        assert_eq!(buckets.take(key(2_000_000), later), Ok(()));
        assert_eq!(buckets.len(), 1);
    }

    #[test]
    fn the_wait_that_is_told_is_long_enough() {
        let start = clock::now();
        let mut buckets = Buckets::new(0.5, 1.0, 10);
        assert_eq!(buckets.take(key(1), start), Ok(()));
        let wait = buckets.take(key(1), start).unwrap_err();
        assert!(wait > Duration::from_millis(1999) && wait < Duration::from_millis(2001), "{wait:?}");
        assert_eq!(buckets.take(key(1), start + wait), Ok(()));
        buckets.give_back(key(1), start + wait);
        assert_eq!(buckets.take(key(1), start + wait), Ok(()));
    }
}
