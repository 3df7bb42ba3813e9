//! The `throttle` filter: at most so many events per second, for all together or for each value of a field. What
//! exceeds that is dropped and counted.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::base::clock::{self, Instant};
use crate::batch::{Batch, Outcome};
use crate::config::options;
use crate::flow::{BuildCx, Component, Emit, Filter, Reason, TokenBucket};
use crate::query::lookup::Field;

options! {
    /// Options of the `throttle` filter.
    pub struct ThrottleOptions {
        /// Events per second that pass in the long run, for each key.
        #[range(0.001..=1_000_000_000.0)]
        pub events_per_second: f64,
        /// Events that may pass at once after a pause; as many as pass in a second unless given.
        #[range(1..=1_000_000_000)]
        pub burst: Option<u64> = None,
        /// Each value of this field has its own limit: `source`, `level`, or a JSON or logfmt key. Events without
        /// the field share one. Without `key`, all events do.
        pub key: Option<String> = None,
        /// Most keys told apart at a time. A key that has been quiet makes room; while none has, new keys share
        /// one limit.
        #[range(1..=10_000_000)]
        pub keys_max: usize = 10_000,
    }
}

/// Keys are looked through for quiet ones at most this often.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug, Clone)]
pub struct Throttle {
    rate: f64,
    burst: f64,
    key: Option<Field>,
    keys_max: usize,
    /// For all events, or for those whose key found no room.
    common: TokenBucket,
    /// By the hash of the key, under a secret seed: two keys meet with a chance of 2⁻⁶⁴.
    by_key: HashMap<u64, TokenBucket>,
    seed: RandomState,
    swept: Option<Instant>,
    dropped: u64,
}

impl Component for Throttle {
    const NAME: &'static str = "throttle";
    const SUMMARY: &'static str = "lets at most so many events per second pass, in all or per key";
    const EXAMPLE: &'static str = "type = \"throttle\"\nevents_per_second = 100\nkey = \"source\"\n";
    type Options = ThrottleOptions;

    fn build(options: ThrottleOptions, _: &mut BuildCx<'_>) -> Option<Throttle> {
        let rate = options.events_per_second;
        let burst = options.burst.map_or(rate, |n| n as f64);
        Some(Throttle {
            rate,
            burst,
            key: options.key.as_deref().map(Field::parse),
            keys_max: options.keys_max,
            common: TokenBucket::new(rate, burst, clock::now()),
            by_key: HashMap::new(),
            seed: RandomState::new(),
            swept: None,
            dropped: 0,
        })
    }
}

impl Throttle {
    /// The bucket of a key, which is made if there is room for it.
    fn bucket(&mut self, key: Option<&[u8]>, now: Instant) -> &mut TokenBucket {
        let hash = self.seed.hash_one(key);
        if !self.by_key.contains_key(&hash) && self.by_key.len() >= self.keys_max {
            let rested = self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_PAUSE);
            if rested {
                // A full bucket is as good as a new one: forgetting it changes nothing.
                self.by_key.retain(|_, bucket| !bucket.is_full(now));
                self.swept = Some(now);
            }
            if self.by_key.len() >= self.keys_max {
                return &mut self.common;
            }
        }
        self.by_key.entry(hash).or_insert_with(|| TokenBucket::new(self.rate, self.burst, now))
    }

    fn by_key(&mut self, field: &Field, batch: &mut Batch, now: Instant) {
        batch.retain(|b, row| {
            let value = field.of(b, row);
            self.bucket(value.as_deref(), now).take_up_to(1, now) == 1
        });
    }

    fn apply_at(&mut self, mut batch: Batch, now: Instant, emit: &mut Emit) {
        let events = batch.events();
        let over = batch.clone();
        if let Some(field) = self.key.take() {
            self.by_key(&field, &mut batch, now);
            self.key = Some(field);
        } else {
            let passing = self.common.take_up_to(events, now);
            if passing < events {
                let head = batch.split_to(passing);
                batch.settle(Outcome::Dropped);
                batch = head;
            }
        }
        let dropped = events - batch.events();
        self.dropped += dropped;
        over.settle(if dropped > 0 { Outcome::Dropped } else { Outcome::Delivered });
        emit.push(batch);
    }
}

impl Filter for Throttle {
    fn apply(&mut self, batch: Batch, emit: &mut Emit) {
        self.apply_at(batch, clock::now(), emit);
    }

    fn take_dropped(&mut self) -> Option<(Reason, u64)> {
        match std::mem::take(&mut self.dropped) {
            0 => None,
            dropped => Some((Reason::Throttled, dropped)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::config::ComponentKind;
    use crate::flow::{Chain, Meter, Stage};
    use crate::testing;

    fn throttle(options: serde_json::Value) -> Throttle {
        testing::build::<Throttle>(ComponentKind::Filter, options).unwrap()
    }

    fn pass(filter: &mut Throttle, batch: Batch, now: Instant) -> Vec<String> {
        let mut emit = Emit::default();
        filter.apply_at(batch, now, &mut emit);
        let rows = |b: &Batch| b.lines().map(|(_, l)| String::from_utf8(l.to_vec()).unwrap()).collect();
        emit.take().iter().flat_map(|b| -> Vec<String> { rows(b) }).collect()
    }

    fn numbered(n: u32) -> Batch {
        Batch::from_lines("t", (0..n).map(|i| format!("k={} {i}", i % 3)))
    }

    #[test]
    fn burst_first_then_the_rate() {
        let mut filter = throttle(json!({ "events_per_second": 10.0, "burst": 5 }));
        let start = clock::now();
        assert_eq!(
            pass(&mut filter, numbered(20), start),
            (0..5).map(|i| format!("k={} {i}", i % 3)).collect::<Vec<_>>()
        );
        assert_eq!(filter.take_dropped(), Some((Reason::Throttled, 15)));
        let start = start + Duration::from_millis(301);
        assert_eq!(pass(&mut filter, numbered(20), start).len(), 3);
        assert_eq!((filter.take_dropped(), filter.take_dropped()), (Some((Reason::Throttled, 17)), None));
    }

    #[test]
    fn each_key_has_its_own() {
        let mut filter = throttle(json!({ "events_per_second": 1.0, "burst": 2, "key": "k" }));
        let start = clock::now();
        let passed = pass(&mut filter, numbered(30), start);
        assert_eq!(passed, ["k=0 0", "k=1 1", "k=2 2", "k=0 3", "k=1 4", "k=2 5"]);
        let keyless = Batch::from_lines("t", ["x", "y", "z"]);
        assert_eq!(pass(&mut filter, keyless, start), ["x", "y"], "those without the field share one limit");
    }

    #[test]
    fn ten_thousand_keys_stay_within_the_bound_and_none_slips_through() {
        let mut filter = throttle(json!(
            { "events_per_second": 1.0, "burst": 1, "key": "k", "keys_max": 100 }));
        let start = clock::now();
        let many = |from: u32| Batch::from_lines("t", (from..from + 10_000).map(|i| format!("k={i}")));
        assert_eq!(
            pass(&mut filter, many(0), start).len(),
            101,
            "a hundred keys, and one for all the others"
        );
        assert_eq!(filter.by_key.len(), 100);
        let start = start + Duration::from_secs(5);
        assert_eq!(pass(&mut filter, many(50_000), start).len(), 101, "the quiet ones have made room");
        assert!(filter.by_key.len() <= 100);
    }

    #[tokio::test]
    async fn the_chain_counts_what_was_dropped_and_the_receipt_hears_of_it() {
        let filter = throttle(json!({ "events_per_second": 0.001, "burst": 2 }));
        let meter = Arc::new(Meter::default());
        let site = Arc::new(testing::site(ComponentKind::Filter, "throttle"));
        let stage = Stage::new(Arc::new(move || Box::new(filter.clone())), meter.clone(), site);
        let mut chain = Chain::new(vec![stage]);
        let heard = Arc::new(std::sync::Mutex::new(None));
        let tell = heard.clone();
        let receipt = crate::batch::Receipt::new(move |o| *tell.lock().unwrap() = Some(o));
        let origin = Arc::new(crate::batch::Origin::new("t", "t"));
        let mut builder = crate::batch::BatchBuilder::new(origin);
        (0..5).for_each(|i: u32| builder.push(i.to_string().as_bytes()));
        for out in chain.apply(builder.finish(receipt)) {
            assert_eq!(out.events(), 2);
            out.settle(Outcome::Delivered);
        }
        let counts = meter.snapshot();
        assert_eq!((counts.dropped(Reason::Throttled), counts.balances()), (3, true));
        assert_eq!(*heard.lock().unwrap(), Some(Outcome::Dropped));
    }
}
