//! What the configuration says at a moment, how a reload changes it, and the plan of it. Where a number of a shape
//! differs, so does the configuration of that component; what it does stays the same, so that the oracle can judge.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logweir::base::rng::Rng;
use logweir::config::{Diagnostics, Node, Origin};
use logweir::engine::{self, PipelinePlan, Plan};
use logweir::flow::{Placement, Sink, Source};
use serde_json::{Value, json};

use super::scenario::{DiskPlan, LINK, Scenario, SinkPlan, Trouble};
use super::sink::SimSink;
use super::source::SimSource;
use super::world::{Broken, Component, Start, World};

/// What a reload changes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    /// A filter that holds nothing back comes, goes or becomes another.
    Filter,
    /// The filter that holds a word back comes or goes.
    HeldBack,
    Limit,
    /// The sink that feeds the second pipeline.
    Link,
    Source(usize),
    Sink(usize),
    /// A filter of that sink's own, which holds nothing back.
    OwnFilter(usize),
    /// The bounds of that sink's buffer.
    Room(usize),
    /// That sink's buffer moves to disk.
    ToDisk(usize),
    /// The first two sinks change places.
    Swap,
    /// A guest comes or goes.
    Guest(usize),
    /// The other pipeline comes or goes.
    Aside,
    AsideBack,
    /// The other pipeline goes and a guest comes, or the reverse: what one holds the other needs.
    Trade(usize),
}

impl Change {
    pub(crate) fn draw(scenario: &Scenario, rng: &mut Rng) -> Change {
        let sink = rng.below(scenario.sinks.len() as u64) as usize;
        let guests = scenario.guests();
        match rng.below(18) {
            0 => Change::Filter,
            1 if scenario.held_back.is_some() => Change::HeldBack,
            2 if scenario.rate.is_some() => Change::Limit,
            3 if scenario.linked => Change::Link,
            4 | 5 => Change::Source(rng.below(scenario.sources as u64) as usize),
            6 | 7 => Change::Sink(sink),
            8 => Change::OwnFilter(sink),
            9 => Change::Room(sink),
            10 if scenario.steady > 1 => Change::Swap,
            11 | 12 if !guests.is_empty() => {
                Change::Guest(guests.start + rng.below(guests.len() as u64) as usize)
            }
            13 if scenario.aside && !guests.is_empty() && rng.below(2) == 0 => Change::Trade(guests.start),
            13 if scenario.aside => Change::Aside,
            14..=17 => {
                let may = |which: &usize| scenario.later(*which).is_some();
                let all: Vec<usize> = (0..scenario.sinks.len()).chain([LINK]).filter(may).collect();
                let one = all.get(rng.below(all.len().max(1) as u64) as usize);
                one.map_or(Change::Sink(sink), |which| Change::ToDisk(*which))
            }
            _ => Change::Sink(sink),
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    sources: Vec<u64>,
    filter: u64,
    holds_back: bool,
    limit: u64,
    link: u64,
    sinks: Vec<SinkShape>,
    aside: Option<SinkShape>,
    /// Sinks whose buffers have moved to disk, also while they are away.
    on_disk: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SinkShape {
    which: usize,
    version: u64,
    filter: u64,
    room: u64,
}

impl SinkShape {
    fn new(which: usize) -> SinkShape {
        SinkShape { which, version: 0, filter: 0, room: 0 }
    }
}

impl Shape {
    pub(crate) fn new(scenario: &Scenario) -> Shape {
        Shape {
            sources: vec![0; scenario.sources],
            filter: 0,
            holds_back: scenario.held_back.is_some(),
            limit: 0,
            link: 0,
            sinks: (0..scenario.steady).map(SinkShape::new).collect(),
            aside: scenario.aside.then(|| SinkShape::new(scenario.sinks.len() - 1)),
            on_disk: Vec::new(),
        }
    }

    /// Whether the other pipeline is there.
    pub(crate) fn has_aside(&self) -> bool {
        self.aside.is_some()
    }

    /// Sinks whose buffers have moved to disk.
    pub(crate) fn on_disk(&self) -> &[usize] {
        &self.on_disk
    }

    /// That sink's buffer is on disk.
    pub(crate) fn move_to_disk(&mut self, which: usize) {
        if !self.on_disk.contains(&which) {
            self.on_disk.push(which);
        }
    }

    /// The shape after a change that no configuration before it had; true when a sink may end without a successor.
    pub(crate) fn change(&mut self, change: Change, scenario: &Scenario, version: u64) -> bool {
        let aside = self.aside.as_mut();
        let sink = |which| self.sinks.iter_mut().chain(aside).find(move |s| s.which == which);
        match change {
            Change::Filter => {
                self.filter = if self.filter > 0 && version.is_multiple_of(3) { 0 } else { version }
            }
            Change::HeldBack => self.holds_back = scenario.held_back.is_some() && !self.holds_back,
            Change::Limit => self.limit = version,
            Change::Link => self.link = version,
            Change::Source(which) => self.sources[which] = version,
            Change::Sink(which) => sink(which).into_iter().for_each(|s| s.version = version),
            Change::OwnFilter(which) => sink(which).into_iter().for_each(|s| s.filter = version),
            Change::Room(which) => sink(which).into_iter().for_each(|s| s.room = version),
            Change::ToDisk(which) if scenario.later(which).is_some() => self.move_to_disk(which),
            // Files belong to a place: there, another sink would be given them.
            Change::Swap if !scenario.sinks[..scenario.steady].iter().any(SinkPlan::may_have_disk) => {
                if scenario.steady > 1 {
                    self.sinks.swap(0, 1);
                }
            }
            Change::Guest(which) => {
                match self.sinks.iter().position(|s| s.which == which) {
                    Some(at) => drop(self.sinks.remove(at)),
                    None => self.sinks.push(SinkShape { version, ..SinkShape::new(which) }),
                }
                return true;
            }
            Change::Aside if self.aside.is_some() => self.aside = None,
            Change::Aside | Change::AsideBack if scenario.aside => {
                let which = scenario.sinks.len() - 1;
                self.aside.get_or_insert(SinkShape { version, ..SinkShape::new(which) });
            }
            Change::Trade(guest) => {
                let there = self.sinks.iter().any(|s| s.which == guest);
                self.change(Change::Aside, scenario, version);
                // Now the one is there, or the other.
                if there == self.aside.is_some() {
                    return self.change(Change::Guest(guest), scenario, version);
                }
            }
            Change::ToDisk(_) | Change::Swap | Change::Aside | Change::AsideBack => {}
        }
        false
    }

    /// Each component that may be started, with all that makes it what it is: its place and its configuration.
    pub(crate) fn components<'a>(
        &'a self,
        scenario: &'a Scenario,
    ) -> impl Iterator<Item = (Component, (usize, u64, bool))> + 'a {
        let there = |i: &usize| self.aside.is_some() || !scenario.is_source_aside(*i);
        let sources = (0..self.sources.len())
            .filter(there)
            .map(|i| (Component::Source(i), (i, self.sources[i], false)));
        let sink = |at: usize, s: &SinkShape| {
            (Component::Sink(s.which), (at, s.version, self.on_disk.contains(&s.which)))
        };
        let sinks = self.sinks.iter().enumerate().map(move |(at, s)| sink(at, s));
        let aside = self.aside.iter().map(move |s| sink(usize::MAX, s));
        sources.chain(sinks).chain(aside)
    }

    /// The id of each sink's site.
    pub(crate) fn sink_ids(&self, scenario: &Scenario) -> impl Iterator<Item = (usize, String)> {
        let pipeline = scenario.last_pipeline();
        let aside = self.aside.iter().map(|s| (s.which, "aside.sink.0.null".to_owned()));
        let id = move |(at, s): (usize, &SinkShape)| (s.which, format!("{pipeline}.sink.{at}.null"));
        aside.chain(self.sinks.iter().enumerate().map(id))
    }

    /// The id of each site that may have a buffer on disk: the same, and that of the sink that feeds the second pipeline.
    pub(crate) fn buffer_ids(&self, scenario: &Scenario) -> impl Iterator<Item = (usize, String)> {
        let link = scenario.linked.then(|| (LINK, "first.sink.0.pipeline".to_owned()));
        self.sink_ids(scenario).chain(link)
    }

    /// Whether that sink has filters of its own now.
    pub(crate) fn has_own_filters(&self, scenario: &Scenario, which: usize) -> bool {
        let own = |s: &SinkShape| s.which == which && (s.filter > 0 || scenario.sinks[which].only.is_some());
        self.sinks.iter().chain(&self.aside).any(own)
    }

    /// What that sink's buffer on disk is like now, if it is there.
    pub(crate) fn disk_of(&self, scenario: &Scenario, which: usize) -> Option<DiskPlan> {
        let always = if which == LINK { scenario.linked_disk } else { scenario.sinks[which].disk };
        always.or(scenario.later(which).filter(|_| self.on_disk.contains(&which)))
    }

    fn config(&self, scenario: &Scenario) -> Value {
        let generate = json!({"type": "generate", "events_per_second": 0.0});
        let steady = scenario.sources - usize::from(scenario.aside);
        let never = |version| json!({"type": "exclude", "patterns": [format!("never {version}")]});
        let held = scenario.held_back.filter(|_| self.holds_back);
        let mut filters: Vec<Value> =
            held.iter().map(|word| json!({"type": "exclude", "patterns": [word]})).collect();
        filters.extend((self.filter > 0).then(|| never(self.filter)));
        let config = |s: &SinkShape| s.config(&scenario.sinks[s.which], self.disk_of(scenario, s.which));
        let sinks: Vec<Value> = self.sinks.iter().map(config).collect();
        let mut first = json!({
            "name": "first", "sources": vec![generate.clone(); steady], "filters": filters, "sinks": sinks,
        });
        if let Some((policy, rate)) = scenario.rate {
            let burst = rate + self.limit;
            first["rate_limit"] = json!({"events_per_second": rate, "burst": burst, "policy": policy});
        }
        let mut pipelines = vec![first];
        if scenario.linked {
            let disk = self.disk_of(scenario, LINK);
            let buffer = disk.map_or(json!({"max_events": 50}), DiskPlan::config);
            let mut second = json!({"name": "second", "sources": [{"type": "pipeline"}], "sinks": []});
            second["sinks"] = std::mem::replace(
                &mut pipelines[0]["sinks"],
                json!([{"type": "pipeline", "name": "second", "buffer": buffer}]),
            );
            pipelines.push(second);
        }
        if let Some(sink) = self.aside {
            let sinks = [config(&sink)];
            pipelines.push(json!({"name": "aside", "sources": [generate], "sinks": sinks}));
        }
        json!({"server": {"enabled": false}, "shutdown_timeout": "5s", "pipelines": pipelines})
    }

    /// The plan of it, with the simulated ends in place of its own. While `world` is in the reload of that
    /// generation, there is trouble.
    pub(crate) fn plan(&self, world: &Arc<World>, generation: u64, trouble: Trouble) -> Plan {
        let scenario = &world.scenario;
        let tree = Node::from_json(&self.config(scenario), &Origin::Default).expect("a tree");
        let mut diagnostics = Diagnostics::new();
        let plan = engine::plan(&tree, &mut diagnostics);
        let mut plan = plan.unwrap_or_else(|| panic!("the shape is refused: {:?}", diagnostics.items()));
        let starts = generation << 16 ^ (world.life() as u64) << 32 ^ scenario.seed;
        let make = Maker { world, generation, trouble, starts: Arc::new(AtomicU64::new(starts)) };
        let last = scenario.last_pipeline();
        for pipeline in &mut plan.pipelines {
            let name = pipeline.name.clone();
            if *name == *"first" {
                let disk = scenario.linked_disk.or(scenario.linked_later);
                if let (Some(disk), Some(planned)) = (disk, pipeline.sinks.first_mut()) {
                    disk.shrink(&mut planned.buffer);
                }
                if scenario.linked {
                    pipeline.sinks[0].sink.config = version(0, self.link);
                }
                let steady = scenario.sources - usize::from(scenario.aside);
                make.sources(pipeline, 0, &self.sources[..steady]);
            }
            if *name == *last {
                make.sinks(pipeline, &self.sinks);
            }
            if *name == *"aside" {
                make.sources(pipeline, scenario.sources - 1, &self.sources[scenario.sources - 1..]);
                make.sinks(pipeline, self.aside.as_slice());
            }
        }
        plan
    }
}

impl SinkShape {
    fn config(&self, plan: &SinkPlan, disk: Option<DiskPlan>) -> Value {
        let events = plan.buffer_events + self.room % 7;
        let memory = json!({"max_events": events, "when_full": plan.when_full});
        let mut value = json!({"type": "null", "buffer": disk.map_or(memory, DiskPlan::config)});
        let mut filters = Vec::new();
        filters.extend(plan.only.map(|only| json!({"type": "include", "patterns": [only]})));
        let never = json!({"type": "exclude", "patterns": [format!("never {}", self.filter)]});
        filters.extend((self.filter > 0).then_some(never));
        value["filters"] = json!(filters);
        value
    }
}

/// What a component's configuration says.
fn version(which: usize, version: u64) -> Arc<Node> {
    let node = Node::from_json(&json!({"which": which, "version": version}), &Origin::Default);
    Arc::new(node.expect("a table"))
}

/// Puts the simulated ends into a plan.
struct Maker<'a> {
    world: &'a Arc<World>,
    generation: u64,
    trouble: Trouble,
    starts: Arc<AtomicU64>,
}

impl Maker<'_> {
    fn start(&self, component: Component, version: u64) -> (Start, impl Fn() -> Rng + Send + Sync + use<>) {
        let (starts, generation) = (self.starts.clone(), self.generation);
        let rng = move || Rng::seeded(starts.fetch_add(0x1_0001, Ordering::Relaxed));
        (Start { component, generation, version, trouble: self.trouble }, rng)
    }

    fn sources(&self, pipeline: &mut PipelinePlan, first: usize, versions: &[u64]) {
        for (at, source) in pipeline.sources.iter_mut().enumerate() {
            let index = first + at;
            let (world, (start, rng)) =
                (self.world.clone(), self.start(Component::Source(index), versions[at]));
            source.config = version(index, versions[at]);
            source.placement = Placement::Task;
            source.make = Arc::new(move || match start.fails(&world) {
                true => Box::new(Broken(world.clone())) as Box<dyn Source>,
                false => Box::new(SimSource { world: world.clone(), index, start, rng: rng() }),
            });
        }
    }

    fn sinks(&self, pipeline: &mut PipelinePlan, shapes: &[SinkShape]) {
        for (planned, shape) in pipeline.sinks.iter_mut().zip(shapes) {
            let index = shape.which;
            let plan = &self.world.scenario.sinks[index];
            let (world, manner) = (self.world.clone(), plan.manner);
            let (start, rng) = self.start(Component::Sink(index), shape.version);
            if let Some(disk) = plan.disk.or(plan.later) {
                disk.shrink(&mut planned.buffer);
            }
            planned.sink.config = version(index, shape.version);
            // What comes and goes wants something that only one may have at a time.
            if !self.world.scenario.is_steady(index) {
                planned.sink.claims = Arc::new([("place", "the one".to_owned())]);
            }
            planned.sink.placement = Placement::Task;
            planned.sink.make = Arc::new(move || match start.fails(&world) {
                true => Box::new(Broken(world.clone())) as Box<dyn Sink>,
                false => Box::new(SimSink { world: world.clone(), index, manner, start, rng: rng() }),
            });
        }
    }
}
