//! From a seed to a configuration, the manners of its sources and sinks, and how each life ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use logweir::base::rng::Rng;
use logweir::config::{Diagnostics, Node, Origin};
use logweir::engine::{self, BufferPlan, Plan};
use logweir::flow::{Placement, Sink, Source};
use serde_json::{Value, json};

use super::disk::model::Survives;
use super::sink::SimSink;
use super::source::SimSource;
use super::world::{Row, World};

/// How a sink behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Prompt,
    Slow,
    /// So many leases in hand, settled in any order.
    Juggling(usize),
    Failing,
    Panicking,
    Rejecting,
    /// Now and then for minutes.
    Hanging,
    /// For ever, save in the last life.
    Dead,
}

impl Manner {
    pub(crate) fn keeps_order(self) -> bool {
        !matches!(self, Manner::Juggling(_))
    }
}

/// How a life ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Crash(When),
    Drain(When),
    Completion,
}

/// When it does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    /// After so much simulated time.
    After(Duration),
    /// With that send of a source or settlement of a sink.
    Step(u64),
    /// In the middle of that write, sync or other change of the disk.
    Operation(usize),
}

/// A life: its end, what the disk keeps of what was not synced, and steps of the wall clock in seconds.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) end: End,
    pub(crate) survives: Survives,
    pub(crate) clock_steps: Vec<(Duration, i64)>,
}

/// A sink of the scenario.
#[derive(Debug, Clone)]
pub(crate) struct SinkPlan {
    pub(crate) manner: Manner,
    pub(crate) when_full: &'static str,
    /// The sink's own filter lets only rows with this word pass.
    pub(crate) only: Option<&'static str>,
    pub(crate) buffer_events: u64,
    pub(crate) disk: Option<DiskPlan>,
}

/// A buffer on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiskPlan {
    pub(crate) when_full: &'static str,
    bytes_max: u64,
    memory_bytes: u64,
    sync_millis: u64,
    compress: Option<&'static str>,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    seed: u64,
    pub(crate) sources: usize,
    pub(crate) rows: u64,
    pub(crate) batch_rows_max: u64,
    pub(crate) source_faults: bool,
    pub(crate) sinks: Vec<SinkPlan>,
    pub(crate) lives: Vec<Life>,
    /// The chain of the pipeline holds these back.
    held_back: Option<&'static str>,
    rate: Option<(&'static str, u64)>,
    /// Rows go through a second pipeline.
    linked: bool,
    /// Before the second pipeline.
    linked_disk: Option<DiskPlan>,
}

const WORDS: [&str; 3] = ["red", "green", "blue"];

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len() as u64) as usize]
}

impl Scenario {
    pub(crate) fn new(seed: u64) -> Scenario {
        let mut rng = Rng::seeded(seed);
        let rng = &mut rng;
        let sinks = (0..1 + rng.below(3)).map(|_| sink(rng)).collect();
        let disturbed = rng.below(4);
        let mut lives: Vec<Life> = (0..disturbed).map(|_| life(rng)).collect();
        let clock_steps = clock_steps(rng);
        lives.push(Life { end: End::Completion, survives: Survives::Everything, clock_steps });
        let linked = rng.below(4) == 0;
        Scenario {
            seed,
            sources: 1 + rng.below(2) as usize,
            rows: 20 + rng.below(400),
            batch_rows_max: 1 + rng.below(60),
            source_faults: rng.below(3) == 0,
            sinks,
            lives,
            held_back: (rng.below(3) == 0).then(|| pick(rng, &WORDS)),
            rate: (rng.below(5) == 0).then(|| (pick(rng, &["block", "drop"]), 50 + rng.below(2000))),
            linked,
            linked_disk: (linked && rng.below(3) == 0).then(|| disk(rng)),
        }
    }

    pub(crate) fn describe(&self) -> String {
        format!("{self:#?}")
    }

    pub(crate) fn rows_total(&self) -> u64 {
        self.rows * self.sources as u64
    }

    pub(crate) fn is_last_life(&self, life: usize) -> bool {
        life + 1 == self.lives.len()
    }

    /// Whether anything here drops rows by its policy.
    pub(crate) fn may_drop(&self) -> bool {
        let linked = self.linked_disk.is_some_and(|disk| disk.drops());
        let drops =
            |s: &SinkPlan| s.drops_when_full() || matches!(s.manner, Manner::Rejecting | Manner::Panicking);
        self.sinks.iter().any(drops) || linked || self.drops_at_the_entrance()
    }

    /// Whether something drops rows that no sink then counts.
    pub(crate) fn drops_before_the_sinks(&self) -> bool {
        self.drops_at_the_entrance() || self.linked_disk.is_some_and(|disk| disk.drops())
    }

    /// Whether the pipeline's limit drops rows before any sink counts them.
    pub(crate) fn drops_at_the_entrance(&self) -> bool {
        self.rate.is_some_and(|(policy, _)| policy == "drop")
    }

    /// Whether a shutdown may have to be forced.
    pub(crate) fn may_be_forced(&self) -> bool {
        // The deadline is short beside these, or rows wait for tokens.
        self.rate.is_some() || self.sinks.iter().any(|s| s.manner != Manner::Prompt)
    }

    /// Whether that sink's rows are safe before it has them.
    pub(crate) fn has_disk(&self, sink: usize) -> bool {
        self.sinks[sink].disk.is_some() || self.linked_disk.is_some()
    }

    /// Whether rows may lie in two buffers that follow each other.
    pub(crate) fn has_two_disks(&self) -> bool {
        self.linked_disk.is_some()
    }

    /// Whether the filters let the row through to that sink.
    pub(crate) fn passes(&self, sink: usize, row: Row) -> bool {
        self.held_back != Some(row.word()) && self.sinks[sink].only.is_none_or(|only| only == row.word())
    }

    fn config(&self) -> Value {
        let generate = json!({"type": "generate", "events_per_second": 0.0});
        let sinks: Vec<Value> = (self.sinks.iter())
            .map(|sink| {
                let memory = json!({"max_events": sink.buffer_events, "when_full": sink.when_full});
                let mut value = json!({"type": "null", "buffer": sink.disk.map_or(memory, DiskPlan::config)});
                if let Some(only) = sink.only {
                    value["filters"] = json!([{"type": "include", "patterns": [only]}]);
                }
                value
            })
            .collect();
        let filters: Vec<Value> =
            self.held_back.iter().map(|word| json!({"type": "exclude", "patterns": [word]})).collect();
        let mut first = json!({
            "name": "first", "sources": vec![generate; self.sources], "filters": filters, "sinks": sinks,
        });
        if let Some((policy, rate)) = self.rate {
            first["rate_limit"] = json!({"events_per_second": rate, "burst": rate, "policy": policy});
        }
        let mut pipelines = vec![first];
        if self.linked {
            let buffer = self.linked_disk.map_or(json!({"max_events": 50}), DiskPlan::config);
            let mut second = json!({"name": "second", "sources": [{"type": "pipeline"}], "sinks": []});
            second["sinks"] = std::mem::replace(
                &mut pipelines[0]["sinks"],
                json!([{"type": "pipeline", "name": "second", "buffer": buffer}]),
            );
            pipelines.push(second);
        }
        json!({"server": {"enabled": false}, "shutdown_timeout": "5s", "pipelines": pipelines})
    }

    /// The plan of one life: the config's, with the simulated ends in place of its own.
    pub(crate) fn plan(&self, world: &Arc<World>) -> Plan {
        let tree = Node::from_json(&self.config(), &Origin::Default).expect("a tree");
        let mut diagnostics = Diagnostics::new();
        let plan = engine::plan(&tree, &mut diagnostics);
        let mut plan = plan.unwrap_or_else(|| panic!("the scenario is refused: {:?}", diagnostics.items()));
        let starts = Arc::new(AtomicU64::new(self.seed ^ (world.life() as u64) << 32));
        for (index, source) in plan.pipelines[0].sources.iter_mut().enumerate() {
            let (world, starts) = (world.clone(), starts.clone());
            source.placement = Placement::Task;
            source.make = Arc::new(move || {
                let rng = Rng::seeded(starts.fetch_add(0x1_0001, Ordering::Relaxed));
                Box::new(SimSource { world: world.clone(), index, rng }) as Box<dyn Source>
            });
        }
        if let (Some(disk), Some(planned)) = (self.linked_disk, plan.pipelines[0].sinks.first_mut()) {
            disk.shrink(&mut planned.buffer);
        }
        let last = plan.pipelines.last_mut().expect("a pipeline");
        for (index, planned) in last.sinks.iter_mut().enumerate() {
            let (world, starts, manner) = (world.clone(), starts.clone(), self.sinks[index].manner);
            planned.sink.placement = Placement::Task;
            if let Some(disk) = self.sinks[index].disk {
                disk.shrink(&mut planned.buffer);
            }
            planned.sink.make = Arc::new(move || {
                let rng = Rng::seeded(starts.fetch_add(0x1_0001, Ordering::Relaxed));
                Box::new(SimSink { world: world.clone(), index, manner, rng }) as Box<dyn Sink>
            });
        }
        plan
    }
}

impl SinkPlan {
    fn drops_when_full(&self) -> bool {
        self.disk.map_or(self.when_full != "block", |disk| disk.drops())
    }
}

impl DiskPlan {
    fn drops(self) -> bool {
        self.when_full.starts_with("drop")
    }

    fn config(self) -> Value {
        let mut buffer = json!({
            "type": "disk", "when_full": self.when_full, "sync_interval": format!("{}ms", self.sync_millis),
        });
        if let Some(compress) = self.compress {
            buffer["compress"] = json!(compress);
        }
        buffer
    }

    /// Bounds below those that a configuration may ask for, so that few rows fill it.
    fn shrink(self, buffer: &mut BufferPlan) {
        if let BufferPlan::Disk(options) = buffer {
            (options.limits.bytes_max, options.memory_bytes) = (self.bytes_max, self.memory_bytes);
        }
    }
}

fn disk(rng: &mut Rng) -> DiskPlan {
    DiskPlan {
        when_full: pick(rng, &["block", "block", "overflow", "overflow", "drop_newest", "drop_oldest"]),
        bytes_max: pick(rng, &[2 << 10, 20 << 10, 60 << 10, 1 << 20]),
        memory_bytes: pick(rng, &[600, 3000, 1 << 20]),
        sync_millis: pick(rng, &[0, 0, 5, 50, 1000]),
        compress: pick(rng, &[None, None, Some("lz4"), Some("zstd")]),
    }
}

fn clock_steps(rng: &mut Rng) -> Vec<(Duration, i64)> {
    let count = if rng.below(3) == 0 { 1 + rng.below(3) } else { 0 };
    let step = |rng: &mut Rng| rng.below(200_000).cast_signed() - 100_000;
    (0..count).map(|_| (Duration::from_millis(rng.below(3000)), step(rng))).collect()
}

fn life(rng: &mut Rng) -> Life {
    let within = pick(rng, &[60_000, 2_000, 2_000]);
    let crashes = rng.below(2) == 0;
    let when = match rng.below(4) {
        0 | 1 => When::Step(rng.below(120)),
        2 if crashes => When::Operation(rng.below(150) as usize),
        _ => When::After(Duration::from_millis(rng.below(within))),
    };
    let end = if crashes { End::Crash(when) } else { End::Drain(when) };
    Life { end, survives: pick(rng, &Survives::ALL), clock_steps: clock_steps(rng) }
}

fn sink(rng: &mut Rng) -> SinkPlan {
    let in_hand = 1 + rng.below(6) as usize;
    let manner = pick(
        rng,
        &[
            Manner::Prompt,
            Manner::Slow,
            Manner::Juggling(in_hand),
            Manner::Failing,
            Manner::Panicking,
            Manner::Rejecting,
            Manner::Hanging,
            Manner::Dead,
        ],
    );
    SinkPlan {
        manner,
        when_full: pick(rng, &["block", "block", "block", "drop_newest", "drop_oldest"]),
        only: (rng.below(4) == 0).then(|| pick(rng, &WORDS)),
        buffer_events: 1 + rng.below(200),
        disk: (rng.below(3) == 0).then(|| disk(rng)),
    }
}
