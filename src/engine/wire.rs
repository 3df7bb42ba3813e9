//! The parts of a plan made real: chains, limits, queues, and how they make up a pipeline's course. Nothing runs yet.

use std::sync::{Arc, Mutex};

use super::plan::Planned;
use crate::base::clock;
use crate::config::{RateLimitOptions, RateLimitPolicy};
use crate::flow::{
    Chain, ComponentEntry, FilterFactory, Health, Meter, RateLimit, Stage, State, TokenBucket,
};

/// Filters in a row, with their places on the board.
#[derive(Clone)]
pub(super) struct WiredChain {
    /// The filters.
    pub(super) chain: Arc<Mutex<Chain>>,
    /// Who they are.
    pub(super) entries: Vec<ComponentEntry>,
}

/// A chain of fresh filters; each is at work from the start.
pub(super) fn chain(filters: &[Planned<FilterFactory>]) -> WiredChain {
    let mut entries = Vec::new();
    let stages = filters.iter().map(|planned| {
        let (meter, health) = (Arc::new(Meter::default()), Arc::new(Health::default()));
        health.set(State::Ready);
        entries.push(ComponentEntry {
            site: planned.site.clone(),
            meter: meter.clone(),
            health,
            buffer: None,
            capacity: None,
        });
        Stage::new(planned.make.clone(), meter, planned.site.clone())
    });
    let chain = Arc::new(Mutex::new(Chain::new(stages.collect())));
    WiredChain { chain, entries }
}

/// A fresh limit.
pub(super) fn rate_limit(options: &RateLimitOptions) -> RateLimit {
    let rate = options.events_per_second;
    let burst = options.burst.map_or(rate, |b| b as f64);
    RateLimit {
        bucket: Some(TokenBucket::new(rate, burst, clock::now())),
        block: options.policy == RateLimitPolicy::Block,
        event_bytes_max: options.max_event_size.map(|b| b.0),
    }
}
