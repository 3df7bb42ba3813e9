//! The `dedupe` filter: of events with the same content only the first within a time window passes.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::base::clock::{self, Instant};
use crate::batch::Batch;
use crate::config::options;
use crate::flow::{BuildCx, Component, Emit, Filter};
use crate::query::lookup::Field;

options! {
    /// Options of the `dedupe` filter.
    pub struct DedupeOptions {
        /// How long after the first event of its kind an equal one is filtered away. The next after that passes
        /// and begins a new window.
        #[range(Duration::from_millis(1)..=Duration::from_secs(30 * 86_400))]
        pub window: Duration = Duration::from_secs(30),
        /// What has to be equal: `source`, `level`, or a JSON or logfmt key. Events without the field pass. Without
        /// it, the whole line.
        pub field: Option<String> = None,
        /// Most contents remembered; beyond that the oldest is forgotten, and may pass again early.
        #[range(1..=100_000_000)]
        pub keys_max: usize = 100_000,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Dedupe {
    window: Duration,
    field: Field,
    keys_max: usize,
    /// When each content was first seen, by its hash under a secret seed: two contents meet with a chance of 2⁻⁶⁴.
    seen: HashMap<u64, Instant>,
    /// The same in the order of time.
    order: VecDeque<(Instant, u64)>,
    seed: RandomState,
}

impl Component for Dedupe {
    const NAME: &'static str = "dedupe";
    const SUMMARY: &'static str = "filters repeated events away within a time window";
    const EXAMPLE: &'static str = "type = \"dedupe\"\nwindow = \"30s\"\n";
    type Options = DedupeOptions;

    fn build(options: DedupeOptions, _: &mut BuildCx<'_>) -> Option<Dedupe> {
        Some(Dedupe {
            window: options.window,
            field: options.field.as_deref().map_or(Field::Line, Field::parse),
            keys_max: options.keys_max,
            seen: HashMap::new(),
            order: VecDeque::new(),
            seed: RandomState::new(),
        })
    }
}

impl Dedupe {
    fn forget_expired(&mut self, now: Instant) {
        while let Some((since, _)) = self.order.front()
            && now.saturating_duration_since(*since) >= self.window
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, hash)) = self.order.pop_front() {
            self.seen.remove(&hash);
        }
    }

    /// Whether the content was not seen within the window; remembers it.
    fn is_new(&mut self, content: &[u8], now: Instant) -> bool {
        let hash = self.seed.hash_one(content);
        if self.seen.contains_key(&hash) {
            return false;
        }
        if self.seen.len() >= self.keys_max {
            self.forget_oldest();
        }
        self.seen.insert(hash, now);
        self.order.push_back((now, hash));
        true
    }

    fn apply_at(&mut self, mut batch: Batch, now: Instant, emit: &mut Emit) {
        self.forget_expired(now);
        let field = self.field.clone();
        batch.retain(|b, row| field.of(b, row).is_none_or(|content| self.is_new(&content, now)));
        emit.push(batch);
    }
}

impl Filter for Dedupe {
    fn apply(&mut self, batch: Batch, emit: &mut Emit) {
        self.apply_at(batch, clock::now(), emit);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::ComponentKind;
    use crate::testing;

    fn pass(filter: &mut Dedupe, lines: &[&str], now: Instant) -> Vec<String> {
        let mut emit = Emit::default();
        filter.apply_at(Batch::from_lines("t", lines), now, &mut emit);
        let rows = |b: &Batch| b.lines().map(|(_, l)| String::from_utf8(l.to_vec()).unwrap()).collect();
        emit.take().iter().flat_map(|b| -> Vec<String> { rows(b) }).collect()
    }

    fn dedupe(options: serde_json::Value) -> Dedupe {
        testing::build::<Dedupe>(ComponentKind::Filter, options).unwrap()
    }

    #[test]
    fn the_first_of_a_window_passes() {
        let mut filter = dedupe(json!({ "window": "10s" }));
        let now = clock::now();
        assert_eq!(pass(&mut filter, &["a", "b", "a", "a"], now), ["a", "b"]);
        let now = now + Duration::from_secs(9);
        assert_eq!(pass(&mut filter, &["a", "c"], now), ["c"]);
        let now = now + Duration::from_secs(1);
        assert_eq!(
            pass(&mut filter, &["a", "c", "b"], now),
            ["a", "b"],
            "a window is not prolonged by repetition"
        );
    }

    #[test]
    fn by_field_and_bounded() {
        let mut filter = dedupe(json!({ "field": "id", "keys_max": 50 }));
        let now = clock::now();
        let passed = pass(&mut filter, &["id=1 x", "id=1 y", "no field", "no field", "id=2 x"], now);
        assert_eq!(passed, ["id=1 x", "no field", "no field", "id=2 x"]);
        let many: Vec<String> = (0..10_000).map(|i| format!("id={i}")).collect();
        pass(&mut filter, &many.iter().map(String::as_str).collect::<Vec<_>>(), now);
        assert_eq!((filter.seen.len(), filter.order.len()), (50, 50));
        assert_eq!(pass(&mut filter, &["id=9999"], now), [""; 0]);
    }
}
