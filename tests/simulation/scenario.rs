//! From a seed to a configuration, the manners of its sources and sinks, and how each life ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use logweir::base::rng::Rng;
use logweir::config::{Diagnostics, Node, Origin};
use logweir::engine::{self, Plan};
use logweir::flow::{Placement, Sink, Source};
use serde_json::{Value, json};

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

/// How a life ends, and when, in simulated time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Crash(Duration),
    Drain(Duration),
    Completion,
}

/// A sink of the scenario.
#[derive(Debug, Clone)]
pub(crate) struct SinkPlan {
    pub(crate) manner: Manner,
    pub(crate) when_full: &'static str,
    /// The sink's own filter lets only rows with this word pass.
    pub(crate) only: Option<&'static str>,
    pub(crate) buffer_events: u64,
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
    pub(crate) lives: Vec<End>,
    /// The chain of the pipeline holds these back.
    held_back: Option<&'static str>,
    rate: Option<(&'static str, u64)>,
    /// Rows go through a second pipeline.
    linked: bool,
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
        let mut lives: Vec<End> = (0..disturbed)
            .map(|_| {
                let within = pick(rng, &[60_000, 2_000, 2_000]);
                let after = Duration::from_millis(rng.below(within));
                if rng.below(2) == 0 { End::Crash(after) } else { End::Drain(after) }
            })
            .collect();
        lives.push(End::Completion);
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
            linked: rng.below(4) == 0,
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
        let drops = |s: &SinkPlan| {
            s.when_full != "block" || matches!(s.manner, Manner::Rejecting | Manner::Panicking)
        };
        self.sinks.iter().any(drops) || self.drops_at_the_entrance()
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

    pub(crate) fn has_disk_buffers(&self) -> bool {
        false
    }

    /// Whether the filters let the row through to that sink.
    pub(crate) fn passes(&self, sink: usize, row: Row) -> bool {
        self.held_back != Some(row.word()) && self.sinks[sink].only.is_none_or(|only| only == row.word())
    }

    fn config(&self) -> Value {
        let generate = json!({"type": "generate", "events_per_second": 0.0});
        let sinks: Vec<Value> = (self.sinks.iter())
            .map(|sink| {
                let mut value = json!({
                    "type": "null",
                    "buffer": {"max_events": sink.buffer_events, "when_full": sink.when_full},
                });
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
            let mut second = json!({"name": "second", "sources": [{"type": "pipeline"}], "sinks": []});
            second["sinks"] = std::mem::replace(
                &mut pipelines[0]["sinks"],
                json!([{"type": "pipeline", "name": "second", "buffer": {"max_events": 50}}]),
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
        let last = plan.pipelines.last_mut().expect("a pipeline");
        for (index, planned) in last.sinks.iter_mut().enumerate() {
            let (world, starts, manner) = (world.clone(), starts.clone(), self.sinks[index].manner);
            planned.sink.placement = Placement::Task;
            planned.sink.make = Arc::new(move || {
                let rng = Rng::seeded(starts.fetch_add(0x1_0001, Ordering::Relaxed));
                Box::new(SimSink { world: world.clone(), index, manner, rng }) as Box<dyn Sink>
            });
        }
        plan
    }
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
    }
}
