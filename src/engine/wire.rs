//! A plan made real: meters, queues, chains and entrances, joined and hung on the board. Nothing runs yet.

use std::sync::{Arc, Mutex};

use super::plan::{PipelinePlan, Planned, PlannedSink};
use crate::base::clock;
use crate::config::{RateLimitOptions, RateLimitPolicy};
use crate::flow::disk::DiskBuffer;
use crate::flow::{
    Branch, Chain, ComponentEntry, FilterFactory, Health, Inlet, Intake, Meter, Outlet, PipelineEntry,
    RateLimit, SinkFactory, SourceFactory, Stage, State, TokenBucket,
};

/// A component with what it runs on.
pub(super) struct Wired<F, E> {
    /// Who it is and how it is made.
    pub(super) planned: Planned<F>,
    /// Its counters.
    pub(super) meter: Arc<Meter>,
    /// Its state.
    pub(super) health: Arc<Health>,
    /// Its end of the flow.
    pub(super) end: E,
    /// The thread behind its buffer, to be started with it.
    pub(super) disk: Option<DiskBuffer>,
}

/// One pipeline, ready to run.
pub(super) struct WiredPipeline {
    /// Its name.
    pub(super) name: Arc<str>,
    /// Where rows enter.
    pub(super) intake: Arc<Intake>,
    /// The sources with their way in.
    pub(super) sources: Vec<Wired<SourceFactory, Outlet>>,
    /// The sinks with their buffers.
    pub(super) sinks: Vec<Wired<SinkFactory, Inlet>>,
    /// Its place on the board.
    pub(super) entry: PipelineEntry,
}

/// Joins the components of one pipeline.
pub(super) fn wire(plan: PipelinePlan) -> WiredPipeline {
    let meter = Arc::new(Meter::default());
    let mut components = Vec::new();
    let chain = chain(plan.filters, &mut components);
    let (mut branches, mut sinks, mut own_filters) = (Vec::new(), Vec::new(), Vec::new());
    for PlannedSink { sink, filters, buffer } in plan.sinks {
        let (sink_meter, health) = (Arc::new(Meter::default()), Arc::new(Health::default()));
        let (queue, end, disk) = buffer.make(sink_meter.clone());
        let own = (!filters.is_empty()).then(|| Mutex::new(self::chain(filters, &mut own_filters)));
        branches.push(Branch { chain: own, queue });
        sinks.push(Wired { planned: sink, meter: sink_meter, health, end, disk });
    }
    let limit = plan.rate_limit.as_ref().map(rate_limit);
    let intake = Arc::new(Intake::new(limit, chain, branches, meter.clone()));
    let sources: Vec<_> = (plan.sources.into_iter())
        .map(|planned| {
            let (meter, health) = (Arc::new(Meter::default()), Arc::new(Health::default()));
            let end = Outlet::new(intake.clone(), meter.clone());
            Wired { planned, meter, health, end, disk: None }
        })
        .collect();
    let mut all: Vec<ComponentEntry> = sources.iter().map(entry_of).collect();
    all.extend(components);
    all.extend(own_filters);
    all.extend(sinks.iter().map(entry_of));
    let entry = PipelineEntry { name: plan.name.clone(), meter, components: all };
    WiredPipeline { name: plan.name, intake, sources, sinks, entry }
}

fn entry_of<F, E>(wired: &Wired<F, E>) -> ComponentEntry {
    ComponentEntry {
        site: wired.planned.site.clone(),
        meter: wired.meter.clone(),
        health: wired.health.clone(),
        buffer: wired.disk.as_ref().map(|disk| disk.status().clone()),
    }
}

/// A chain of fresh filters; each is at work from the start.
fn chain(filters: Vec<Planned<FilterFactory>>, components: &mut Vec<ComponentEntry>) -> Chain {
    let stages = filters.into_iter().map(|planned| {
        let (meter, health) = (Arc::new(Meter::default()), Arc::new(Health::default()));
        health.set(State::Ready);
        components.push(ComponentEntry {
            site: planned.site.clone(),
            meter: meter.clone(),
            health,
            buffer: None,
        });
        Stage::new(planned.make, meter, planned.site)
    });
    Chain::new(stages.collect())
}

fn rate_limit(options: &RateLimitOptions) -> RateLimit {
    let rate = options.events_per_second;
    let burst = options.burst.map_or(rate, |b| b as f64);
    RateLimit {
        bucket: Some(TokenBucket::new(rate, burst, clock::now())),
        block: options.policy == RateLimitPolicy::Block,
        event_bytes_max: options.max_event_size.map(|b| b.0),
    }
}
