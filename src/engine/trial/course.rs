//! The pipelines of a plan without their sources and sinks: one line at a time goes through the real limit and the
//! real filters, on to every sink and into the pipelines that those feed, and each stage notes what it made of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::compile::REASONS;
use super::point::{Point, Spot};
use crate::base::clock;
use crate::batch::{Batch, BatchBuilder, Origin, Receipt};
use crate::engine::claims;
use crate::engine::plan::{Plan, Planned};
use crate::engine::wire::{self, WiredChain};
use crate::flow::{FilterFactory, MeterSnapshot, RateLimit, Reason, Sink};

/// What became of a line at a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It went on.
    Passed,
    /// It is gone, for this reason.
    Dropped(&'static str),
    /// The filter keeps it for now.
    Held,
}

/// A row that a stage let out.
#[derive(Debug, Clone)]
pub struct Out {
    /// The line it was, counted from 0 in the order of the inputs; none for rows that a filter made itself.
    pub line: Option<usize>,
    /// Its bytes; at a sink, as the sink writes them.
    pub text: Vec<u8>,
}

/// A stage and what it did.
#[derive(Debug)]
pub struct Stage {
    /// Where it is.
    pub point: Point,
    /// The same as `at` names it.
    pub at: String,
    /// "rate_limit", or the type of the component.
    pub type_name: &'static str,
    /// What became of each line that came here, in that order.
    pub fates: Vec<(usize, Fate)>,
    /// What went on.
    pub outs: Vec<Out>,
}

enum Work {
    /// Lets everything through.
    Pass,
    Limit(RateLimit),
    Filter(WiredChain),
    Sink(Box<dyn Sink>),
}

struct Way {
    stage: usize,
    filters: Vec<usize>,
    feeds: Option<usize>,
}

struct Pipeline {
    name: Arc<str>,
    sources: Vec<usize>,
    limit: Option<usize>,
    filters: Vec<usize>,
    sinks: Vec<Way>,
}

/// See the module.
pub(super) struct Course {
    stages: Vec<Stage>,
    work: Vec<Work>,
    /// Lines that each stage keeps for now.
    held: Vec<usize>,
    pipelines: Vec<Pipeline>,
    /// Each line has an origin of its own, by which it is known again behind any filter.
    lines: HashMap<*const Origin, usize>,
    origins: Vec<Arc<Origin>>,
    /// Whether some filter wants to be told that time passes.
    ticks: bool,
    clock: clock::Simulation,
    /// When the last input came, or would have come if nothing had held up the one before it.
    due: clock::Instant,
    /// Whether filters are being told of the time right now.
    telling: bool,
}

/// How often filters are told the time: at most this often while an input is waited for, and while one line waits for a
/// limit. A longer wait has longer steps.
const TICKS_MAX: u32 = 36_000;
const LINE_TICKS_MAX: u32 = 100;
const TICK: Duration = Duration::from_millis(100);

impl Course {
    pub(super) fn new(plan: &Plan, clock: clock::Simulation) -> Course {
        let mut course = Course {
            stages: Vec::new(),
            work: Vec::new(),
            held: Vec::new(),
            pipelines: Vec::new(),
            lines: HashMap::new(),
            origins: Vec::new(),
            ticks: false,
            clock,
            due: clock::now(),
            telling: false,
        };
        for (pipeline, planned) in plan.pipelines.iter().enumerate() {
            let at = |spot| (Point { pipeline, spot }, &*planned.name);
            let sources = planned.sources.iter().enumerate();
            let sources = sources
                .map(|(i, s)| course.stage(at(Spot::Source(i)), s.site.type_name, Work::Pass))
                .collect();
            let limit = planned.rate_limit.as_ref().map(wire::rate_limit);
            let limit =
                limit.map(|limit| course.stage(at(Spot::RateLimit), "rate_limit", Work::Limit(limit)));
            let filters = course.filters(&planned.filters, |i| at(Spot::Filter(i)));
            let mut sinks = Vec::new();
            for (j, sink) in planned.sinks.iter().enumerate() {
                // What decides by `when` comes first, as a filter of its own.
                let whens = usize::from(sink.filters.first().is_some_and(|f| f.site.type_name == "when"));
                let filters = course.filters(&sink.filters, |i| {
                    at(if i < whens { Spot::When(j) } else { Spot::SinkFilter(j, i - whens) })
                });
                let made = Work::Sink((sink.sink.make)());
                let stage = course.stage(at(Spot::Sink(j)), sink.sink.site.type_name, made);
                let feeds = claims::feeds(&sink.sink.claims);
                let feeds = feeds.and_then(|name| plan.pipelines.iter().position(|p| &*p.name == name));
                sinks.push(Way { stage, filters, feeds });
            }
            course.pipelines.push(Pipeline { name: planned.name.clone(), sources, limit, filters, sinks });
        }
        course.ticks =
            course.work.iter().any(|work| matches!(work, Work::Filter(wired) if lock(wired).ticks()));
        course
    }

    fn stage(&mut self, (point, pipeline): (Point, &str), type_name: &'static str, work: Work) -> usize {
        let at = point.spot.within(pipeline);
        self.stages.push(Stage { point, at, type_name, fates: Vec::new(), outs: Vec::new() });
        self.work.push(work);
        self.held.push(0);
        self.stages.len() - 1
    }

    fn filters<'a>(
        &mut self,
        planned: &[Planned<FilterFactory>],
        point: impl Fn(usize) -> (Point, &'a str),
    ) -> Vec<usize> {
        let one = |(i, p): (usize, &Planned<FilterFactory>)| {
            let wired = wire::chain(std::slice::from_ref(p));
            self.stage(point(i), p.site.type_name, Work::Filter(wired))
        };
        planned.iter().enumerate().map(one).collect()
    }

    /// The type of the source at a point, or of the pipeline's first one.
    pub(super) fn label(&self, point: Point) -> &'static str {
        let sources = &self.pipelines[point.pipeline].sources;
        let index = if let Spot::Source(i) = point.spot { i } else { 0 };
        sources.get(index).map_or("test", |stage| self.stages[*stage].type_name)
    }

    /// Inserts a line; `label` is its `source`. Returns its number.
    pub(super) fn insert(&mut self, point: Point, line: &[u8], label: &str) -> usize {
        let number = self.origins.len();
        let origin = Arc::new(Origin::new(label, label));
        self.lines.insert(Arc::as_ptr(&origin), number);
        self.origins.push(origin.clone());
        let mut builder = BatchBuilder::new(origin);
        builder.push(line);
        let batch = builder.finish(Receipt::none());
        let pipeline = point.pipeline;
        match point.spot {
            Spot::Source(i) => self.enter(pipeline, Some(i), batch),
            Spot::Whole | Spot::RateLimit => self.enter(pipeline, None, batch),
            Spot::Filter(i) => self.chain(pipeline, i, batch),
            Spot::Sink(j) | Spot::When(j) => self.sink(pipeline, j, 0, batch),
            Spot::SinkFilter(j, _) => {
                let filters = &self.pipelines[pipeline].sinks[j].filters;
                let from = filters.iter().position(|s| self.stages[*s].point == point).unwrap_or(0);
                self.sink(pipeline, j, from, batch);
            }
        }
        number
    }

    fn enter(&mut self, pipeline: usize, source: Option<usize>, batch: Batch) {
        // A line for the pipeline as a whole comes from its first source.
        if let Some(stage) = self.pipelines[pipeline].sources.get(source.unwrap_or(0)).copied() {
            self.pass(stage, batch.clone());
        }
        let passed = match self.pipelines[pipeline].limit {
            Some(limit) => {
                self.wait_for_limit(limit, &batch);
                self.pass(limit, batch)
            }
            None => SmallVec::from_iter([batch]),
        };
        passed.into_iter().for_each(|batch| self.chain(pipeline, 0, batch));
    }

    /// Through the pipeline's filters from one on, and to all sinks.
    fn chain(&mut self, pipeline: usize, from: usize, batch: Batch) {
        let Some(&stage) = self.pipelines[pipeline].filters.get(from) else {
            for sink in 0..self.pipelines[pipeline].sinks.len() {
                self.sink(pipeline, sink, 0, batch.clone());
            }
            return;
        };
        for batch in self.pass(stage, batch) {
            self.chain(pipeline, from + 1, batch);
        }
    }

    /// Through a sink's own filters from one on, and into the sink.
    fn sink(&mut self, pipeline: usize, sink: usize, from: usize, batch: Batch) {
        let way = &self.pipelines[pipeline].sinks[sink];
        let (stage, feeds) = (way.stage, way.feeds);
        if let Some(&filter) = way.filters.get(from) {
            for batch in self.pass(filter, batch) {
                self.sink(pipeline, sink, from + 1, batch);
            }
            return;
        }
        self.write(stage, pipeline, &batch);
        if let Some(next) = feeds {
            let entrance = self.pipelines[next].sources.iter();
            let entrance = entrance.copied().position(|s| self.stages[s].type_name == "pipeline");
            self.enter(next, entrance, batch);
        }
    }

    fn write(&mut self, stage: usize, pipeline: usize, batch: &Batch) {
        let Work::Sink(sink) = &self.work[stage] else { return };
        let line = self.line_of(batch);
        let written = sink.written(batch, &self.pipelines[pipeline].name);
        let stage = &mut self.stages[stage];
        stage.fates.extend(line.map(|line| (line, Fate::Passed)));
        stage.outs.extend(written.into_iter().map(|text| Out { line, text }));
    }

    fn line_of(&self, batch: &Batch) -> Option<usize> {
        self.lines.get(&Arc::as_ptr(batch.arena().origin())).copied()
    }

    /// One stage's work on a batch of one line, noted.
    fn pass(&mut self, stage: usize, batch: Batch) -> SmallVec<[Batch; 2]> {
        let line = self.line_of(&batch);
        let (out, gone) = match &mut self.work[stage] {
            Work::Pass | Work::Sink(_) => (SmallVec::from_iter([batch]), Fate::Passed),
            Work::Limit(limit) => admit(limit, batch),
            Work::Filter(wired) => {
                let before = wired.entries[0].meter.snapshot();
                let out = lock(wired).apply(batch);
                (out, fate(&before, &wired.entries[0].meter.snapshot()))
            }
        };
        let came = out.iter().any(|batch| self.line_of(batch) == line);
        let fate = if came { Fate::Passed } else { gone };
        self.held[stage] += usize::from(fate == Fate::Held);
        self.stages[stage].fates.extend(line.map(|line| (line, fate)));
        self.note(stage, &out);
        out
    }

    fn note(&mut self, number: usize, out: &[Batch]) {
        for batch in out {
            let line = self.line_of(batch);
            let stage = &mut self.stages[number];
            stage.outs.extend(batch.lines().map(|(_, text)| Out { line, text: text.to_vec() }));
            // What was kept until now has gone on.
            if self.held[number] == 0 {
                continue;
            }
            for (_, fate) in
                stage.fates.iter_mut().filter(|(l, fate)| Some(*l) == line && *fate == Fate::Held)
            {
                *fate = Fate::Passed;
                self.held[number] -= 1;
            }
        }
    }

    /// Lets the time until the next input pass. What lines have waited for limits since the last one is part of it.
    pub(super) fn wait(&mut self, time: Duration) {
        self.due += time;
        self.advance(self.due.saturating_duration_since(clock::now()), TICKS_MAX);
    }

    /// Under the policy `block` a line waits for the limit, whole microseconds, so that times stay legible.
    fn wait_for_limit(&mut self, stage: usize, batch: &Batch) {
        loop {
            let Work::Limit(limit) = &mut self.work[stage] else { return };
            let waits = limit.block && limit.event_bytes_max.is_none_or(|max| batch.bytes() <= max);
            let Some(bucket) = limit.bucket.as_mut().filter(|_| waits) else { return };
            if bucket.available(clock::now()) > 0 {
                return;
            }
            // Without the nanosecond by which the bucket is on the safe side.
            let micros = (bucket.wait_for(1).as_nanos() - 1).div_ceil(1000).max(1);
            self.advance(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)), LINE_TICKS_MAX);
        }
    }

    /// Moves the simulated clock on in so many steps at most, telling filters at each.
    fn advance(&mut self, time: Duration, steps_max: u32) {
        // A line that a filter lets go may have to wait, too: then who is telling them already goes on to do so.
        if !self.ticks || time.is_zero() || self.telling {
            return self.clock.advance(time);
        }
        self.telling = true;
        let steps = u32::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX);
        let steps = steps.clamp(1, steps_max);
        for step in 1..=steps {
            // The last step takes what the division left over.
            let part = time / steps;
            self.clock.advance(if step == steps { time - part * (steps - 1) } else { part });
            self.release(|chain| chain.tick(clock::now()));
        }
        self.telling = false;
    }

    /// The inputs have ended: filters let go what they hold.
    pub(super) fn finish(mut self) -> Vec<Stage> {
        self.release(crate::flow::Chain::finish);
        let held = self.stages.iter_mut().flat_map(|stage| &mut stage.fates);
        held.filter(|(_, fate)| *fate == Fate::Held).for_each(|(_, fate)| *fate = Fate::Dropped(REASONS[0]));
        self.stages
    }

    /// Asks every filter, each pipeline before those it feeds, and sends on what comes.
    fn release(&mut self, mut ask: impl FnMut(&mut crate::flow::Chain) -> SmallVec<[Batch; 2]>) {
        for pipeline in self.order() {
            for i in 0..self.pipelines[pipeline].filters.len() {
                let stage = self.pipelines[pipeline].filters[i];
                for batch in self.ask(stage, &mut ask) {
                    self.chain(pipeline, i + 1, batch);
                }
            }
            for j in 0..self.pipelines[pipeline].sinks.len() {
                for i in 0..self.pipelines[pipeline].sinks[j].filters.len() {
                    let stage = self.pipelines[pipeline].sinks[j].filters[i];
                    for batch in self.ask(stage, &mut ask) {
                        self.sink(pipeline, j, i + 1, batch);
                    }
                }
            }
        }
    }

    fn ask(
        &mut self,
        stage: usize,
        ask: &mut impl FnMut(&mut crate::flow::Chain) -> SmallVec<[Batch; 2]>,
    ) -> SmallVec<[Batch; 2]> {
        let Work::Filter(wired) = &self.work[stage] else { return SmallVec::new() };
        let out = ask(&mut lock(wired));
        self.note(stage, &out);
        out
    }

    /// The pipelines, each before those it feeds; there is no circle.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::new();
        let feeders = |to: usize| {
            let feeds = move |p: &Pipeline| p.sinks.iter().any(|way| way.feeds == Some(to));
            (0..self.pipelines.len()).filter(move |from| feeds(&self.pipelines[*from]))
        };
        while order.len() < self.pipelines.len() {
            let next = (0..self.pipelines.len())
                .find(|p| !order.contains(p) && feeders(*p).all(|from| order.contains(&from)));
            let Some(next) = next else { break };
            order.push(next);
        }
        order
    }
}

fn lock(wired: &WiredChain) -> std::sync::MutexGuard<'_, crate::flow::Chain> {
    wired.chain.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// One event before the limit. The policy `block` has delayed it and loses none.
fn admit(limit: &mut RateLimit, batch: Batch) -> (SmallVec<[Batch; 2]>, Fate) {
    if limit.event_bytes_max.is_some_and(|max| batch.bytes() > max) {
        return (SmallVec::new(), Fate::Dropped(Reason::Oversize.as_str()));
    }
    let full = limit.bucket.as_mut().is_some_and(|bucket| bucket.take_up_to(1, clock::now()) == 0);
    if full && !limit.block {
        return (SmallVec::new(), Fate::Dropped(Reason::RateLimit.as_str()));
    }
    (SmallVec::from_iter([batch]), Fate::Passed)
}

/// What a filter's counters say of a line that did not come out.
fn fate(before: &MeterSnapshot, after: &MeterSnapshot) -> Fate {
    let more = |reason: &Reason| after.dropped(*reason) > before.dropped(*reason);
    match Reason::ALL.into_iter().find(more) {
        Some(reason) => Fate::Dropped(reason.as_str()),
        None if after.queued_events > before.queued_events => Fate::Held,
        None => Fate::Dropped(REASONS[0]),
    }
}
