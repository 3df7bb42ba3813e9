//! From a seed to a configuration, the manners of its sources and sinks, how each life ends, and the reloads in it.

use std::time::Duration;

use logweir::base::rng::Rng;
use logweir::engine::BufferPlan;
use serde_json::{Value, json};

use super::disk::model::Survives;
use super::shape::Change;
use super::world::Row;

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
    /// Counted from the beginning of that reload of the life.
    Reload(usize, Then),
}

/// The same within a reload.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    After(Duration),
    Step(u64),
    Operation(usize),
}

/// A life: its end, what the disk keeps of what was not synced, steps of the wall clock in seconds, and its reloads.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) end: End,
    pub(crate) survives: Survives,
    pub(crate) clock_steps: Vec<(Duration, i64)>,
    pub(crate) reloads: Vec<Reload>,
    /// So long after a shutdown has begun it is forced.
    pub(crate) second_signal: Option<Duration>,
}

/// A reload.
#[derive(Debug, Clone)]
pub(crate) struct Reload {
    /// Counted from the one before it, or from when all had started.
    pub(crate) when: When,
    pub(crate) changes: Vec<Change>,
    pub(crate) trouble: Trouble,
}

/// What goes wrong in a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// The configuration cannot be read.
    Refused,
    /// This sink, if it is to be started, fails for good.
    Sink(usize),
    /// Every sink that is to be started does.
    Sinks,
    /// Every source that is to be started does.
    Sources,
    /// Every sink that is to be started takes longer to be ready than anybody waits.
    Late,
    /// The disk takes nothing until the reload is over, and every source that is to be started fails for good.
    Disk,
    /// The disk takes nothing until a while after it.
    Full,
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
    /// What its buffer, in memory until then, may become by a reload.
    pub(crate) later: Option<DiskPlan>,
}

/// A buffer on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiskPlan {
    pub(crate) when_full: &'static str,
    pub(crate) bytes_max: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) sync_millis: u64,
    pub(crate) compress: Option<&'static str>,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Where components draw their choices from.
    pub(crate) seed: u64,
    pub(crate) sources: usize,
    pub(crate) rows: u64,
    pub(crate) batch_rows_max: u64,
    pub(crate) source_faults: bool,
    /// Those that are always there, then guests, which only reloads bring, then the one of the pipeline `aside`.
    pub(crate) sinks: Vec<SinkPlan>,
    /// How many are always there.
    pub(crate) steady: usize,
    /// There is a pipeline of its own, with the last source and the last sink, that comes and goes.
    pub(crate) aside: bool,
    pub(crate) lives: Vec<Life>,
    /// The chain of the pipeline holds these back.
    pub(crate) held_back: Option<&'static str>,
    pub(crate) rate: Option<(&'static str, u64)>,
    /// Rows go through a second pipeline.
    pub(crate) linked: bool,
    /// Before the second pipeline.
    pub(crate) linked_disk: Option<DiskPlan>,
    /// What that buffer, in memory until then, may become by a reload.
    pub(crate) linked_later: Option<DiskPlan>,
}

/// The sink that feeds the second pipeline, where sinks are numbered.
pub(crate) const LINK: usize = 1 << 20;

const WORDS: [&str; 3] = ["red", "green", "blue"];

pub(crate) fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len() as u64) as usize]
}

impl Scenario {
    pub(crate) fn new(seed: u64) -> Scenario {
        let mut rng = Rng::seeded(seed);
        let rng = &mut rng;
        let sinks: Vec<SinkPlan> = (0..1 + rng.below(3)).map(|_| sink(rng)).collect();
        let disturbed = rng.below(4);
        let mut lives: Vec<Life> = (0..disturbed).map(|_| life(rng)).collect();
        let clock_steps = clock_steps(rng);
        let survives = Survives::Everything;
        lives.push(Life {
            end: End::Completion,
            survives,
            clock_steps,
            reloads: Vec::new(),
            second_signal: None,
        });
        let linked = rng.below(4) == 0;
        let mut scenario = Scenario {
            seed,
            sources: 1 + rng.below(2) as usize,
            rows: 20 + rng.below(400),
            batch_rows_max: 1 + rng.below(60),
            source_faults: rng.below(3) == 0,
            steady: sinks.len(),
            aside: false,
            sinks,
            lives,
            held_back: (rng.below(3) == 0).then(|| pick(rng, &WORDS)),
            rate: (rng.below(5) == 0).then(|| (pick(rng, &["block", "drop"]), 50 + rng.below(2000))),
            linked,
            linked_disk: (linked && rng.below(3) == 0).then(|| disk(rng)),
            linked_later: None,
        };
        scenario.draw_reloads(rng);
        scenario
    }

    /// What comes and goes, and the reloads that make it.
    fn draw_reloads(&mut self, rng: &mut Rng) {
        if rng.below(4) == 0 {
            return;
        }
        for sink in self.sinks.iter_mut().filter(|sink| sink.disk.is_none()) {
            sink.later = (rng.below(2) == 0).then(|| disk(rng));
        }
        let may = self.linked && self.linked_disk.is_none() && rng.below(2) == 0;
        self.linked_later = may.then(|| disk(rng));
        for _ in 0..rng.below(3) {
            self.sinks.push(SinkPlan { only: None, ..sink(rng) });
        }
        self.aside = rng.below(3) == 0;
        if self.aside {
            self.sinks.push(sink(rng));
            self.sources += 1;
        }
        let mut lives = std::mem::take(&mut self.lives);
        for life in &mut lives {
            let count = pick(rng, &[0, 1, 1, 2, 4]);
            life.reloads = (0..count).map(|_| self.reload(rng)).collect();
            let soon = pick(rng, &[10, 4000]);
            life.second_signal = (rng.below(6) == 0).then(|| Duration::from_millis(rng.below(soon)));
            let within = match rng.below(3) {
                _ if count == 0 || rng.below(2) == 0 => continue,
                0 => Then::Step(rng.below(20)),
                1 if matches!(life.end, End::Crash(_)) => Then::Operation(rng.below(40) as usize),
                _ => {
                    let most = pick(rng, &[50, 8000]);
                    Then::After(Duration::from_millis(rng.below(most)))
                }
            };
            let when = When::Reload(rng.below(count) as usize, within);
            life.end = match life.end {
                End::Crash(_) => End::Crash(when),
                End::Drain(_) => End::Drain(when),
                End::Completion => End::Completion,
            };
        }
        if let Some(last) = lives.last_mut().filter(|_| self.aside) {
            let when = When::After(Duration::from_millis(100));
            last.reloads.push(Reload { when, changes: vec![Change::AsideBack], trouble: Trouble::None });
        }
        self.lives = lives;
    }

    fn reload(&self, rng: &mut Rng) -> Reload {
        let when = match rng.below(2) {
            0 => When::Step(rng.below(60)),
            _ => When::After(Duration::from_millis(rng.below(1500))),
        };
        let any = rng.below(self.sinks.len() as u64) as usize;
        let trouble = match rng.below(12) {
            0 => Trouble::Refused,
            1 => Trouble::Sink(any),
            2 | 3 => Trouble::Sinks,
            4 | 5 => Trouble::Sources,
            6 => Trouble::Late,
            _ => Trouble::None,
        };
        let trouble = match trouble {
            Trouble::Sources if rng.below(3) == 0 => Trouble::Disk,
            Trouble::Late if rng.below(2) == 0 => Trouble::Full,
            other => other,
        };
        let count = pick(rng, &[0, 1, 1, 1, 2, 2, 3]);
        let mut changes: Vec<Change> = (0..count).map(|_| Change::draw(self, rng)).collect();
        // Two sinks that change their places and all they are at once are two others.
        if changes.iter().any(|change| matches!(change, Change::Swap)) {
            changes.retain(|change| !matches!(change, Change::Sink(0 | 1)));
        }
        Reload { when, changes, trouble }
    }

    /// The pipeline whose sinks are steady.
    pub(crate) fn last_pipeline(&self) -> &'static str {
        if self.linked { "second" } else { "first" }
    }

    /// Whether that sink is always there.
    pub(crate) fn is_steady(&self, sink: usize) -> bool {
        sink < self.steady
    }

    /// The sinks that come and go with reloads.
    pub(crate) fn guests(&self) -> std::ops::Range<usize> {
        self.steady..self.sinks.len() - usize::from(self.aside)
    }

    /// Whether it is the sink of the pipeline that comes and goes.
    pub(crate) fn is_aside(&self, sink: usize) -> bool {
        self.aside && sink + 1 == self.sinks.len()
    }

    /// Whether it is the source of that pipeline.
    pub(crate) fn is_source_aside(&self, source: usize) -> bool {
        self.aside && source + 1 == self.sources
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
        let linked = self.link_drops();
        let drops =
            |s: &SinkPlan| s.drops_when_full() || matches!(s.manner, Manner::Rejecting | Manner::Panicking);
        self.sinks.iter().any(drops) || linked || self.drops_at_the_entrance()
    }

    /// Whether something drops rows that no sink then counts.
    pub(crate) fn drops_before_the_sinks(&self) -> bool {
        self.drops_at_the_entrance() || self.link_drops()
    }

    fn link_drops(&self) -> bool {
        [self.linked_disk, self.linked_later].into_iter().flatten().any(DiskPlan::drops)
    }

    /// What the buffer of that sink may become by a reload.
    pub(crate) fn later(&self, sink: usize) -> Option<DiskPlan> {
        if sink == LINK { self.linked_later } else { self.sinks[sink].later }
    }

    /// Whether the pipeline's limit drops rows before any sink counts them.
    pub(crate) fn drops_at_the_entrance(&self) -> bool {
        self.rate.is_some_and(|(policy, _)| policy == "drop")
    }

    /// Whether a shutdown may have to be forced.
    pub(crate) fn may_be_forced(&self, life: usize) -> bool {
        // The deadline is short beside these, or rows wait for tokens.
        let slow = |reload: &Reload| matches!(reload.trouble, Trouble::Late | Trouble::Disk | Trouble::Full);
        self.lives[life].second_signal.is_some()
            || self.lives[life].reloads.iter().any(slow)
            || self.rate.is_some()
            || self.sinks.iter().any(|s| s.manner != Manner::Prompt)
    }

    /// Whether that sink's rows are safe before it has them, when a life begins.
    pub(crate) fn has_disk(&self, sink: usize) -> bool {
        self.sinks[sink].disk.is_some() || self.linked_disk.is_some()
    }

    /// Whether the row may come to that sink.
    pub(crate) fn may_pass(&self, sink: usize, row: Row) -> bool {
        self.is_aside(sink) == self.is_source_aside(row.source)
            && self.sinks[sink].only.is_none_or(|only| only == row.word())
    }

    /// Whether it must: a sink may be away for a while, and so may the filter that holds a word back.
    pub(crate) fn must_pass(&self, sink: usize, row: Row) -> bool {
        let held_back = !self.is_aside(sink) && self.held_back == Some(row.word());
        !self.guests().contains(&sink) && !held_back && self.may_pass(sink, row)
    }

    /// Whether that sink may never get a row that was counted as dropped on its way there, or by it.
    pub(crate) fn may_miss(&self, sink: usize) -> bool {
        let plan = &self.sinks[sink];
        let by_itself =
            plan.drops_when_full() || matches!(plan.manner, Manner::Rejecting | Manner::Panicking);
        by_itself || self.guests().contains(&sink) || (!self.is_aside(sink) && self.drops_before_the_sinks())
    }
}

impl SinkPlan {
    fn drops_when_full(&self) -> bool {
        let later = self.later.is_some_and(DiskPlan::drops);
        later || self.disk.map_or(self.when_full != "block", DiskPlan::drops)
    }

    /// Whether it may have files.
    pub(crate) fn may_have_disk(&self) -> bool {
        self.disk.is_some() || self.later.is_some()
    }
}

impl DiskPlan {
    fn drops(self) -> bool {
        self.when_full.starts_with("drop")
    }

    pub(crate) fn config(self) -> Value {
        let mut buffer = json!({
            "type": "disk", "when_full": self.when_full, "sync_interval": format!("{}ms", self.sync_millis),
        });
        if let Some(compress) = self.compress {
            buffer["compress"] = json!(compress);
        }
        buffer
    }

    /// Bounds below those that a configuration may ask for, so that few rows fill it.
    pub(crate) fn shrink(self, buffer: &mut BufferPlan) {
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
    let (survives, clock_steps) = (pick(rng, &Survives::ALL), clock_steps(rng));
    Life { end, survives, clock_steps, reloads: Vec::new(), second_signal: None }
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
        later: None,
    }
}
