//! A reload as one transaction. What changes is stopped in the order of the flow and started against it; rows are
//! led onto the new course in between, without waiting for those under way. Whatever fails before the end is
//! undone: what ran is started again with its buffers, its filters' memory and its accounts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::diff::{Diff, PipelineDiff, SinkFate};
use super::live::{Ground, Live, LiveSink, Switch};
use super::plan::PipelinePlan;
use super::run::{failure, started};
use crate::base::task;
use crate::flow::{Course, Health, Links, Site, State};
use crate::net::{Listeners, Router};

/// How long a sink may take to end at its last batch before it is cut off; the batch goes to its successor.
const HANDOVER_MAX: Duration = Duration::from_secs(3);
/// How long something that was aborted may take to be gone: an await, not a system call.
const ABORT_MAX: Duration = Duration::from_millis(500);
/// How long anything is waited for once the process is ending.
const ENDING_MAX: Duration = Duration::from_secs(1);

/// One pipeline that changes.
struct Step {
    old: usize,
    next: Live,
    diff: PipelineDiff,
    /// What rows were on before, once they were led away.
    before: Option<Arc<Course>>,
    /// New sinks that were started.
    sinks: Vec<usize>,
    /// New sources that were started.
    sources: Vec<usize>,
}

/// A reload under way.
pub(super) struct Transaction<'a> {
    ground: &'a Ground,
    old: &'a mut Vec<Live>,
    /// How long sources may take to hand over, and removed sinks to empty their buffers.
    patience: Duration,
    steps: Vec<Step>,
    /// Pipelines that are started as a whole.
    fresh: Vec<Live>,
    /// Old pipelines that end, and whether they have ended already.
    ended: Vec<(usize, bool)>,
    /// Old components that were stopped: pipeline and index.
    stopped_sources: Vec<(usize, usize)>,
    stopped_sinks: Vec<(usize, usize)>,
    /// Site ids of streams that moved, from and to.
    moved: Vec<(String, String)>,
    /// Pipelines whose links are held.
    linked: Vec<String>,
    notes: Vec<String>,
}

/// Makes `plans` of what runs in `old`. On success `old` holds the new state in the order of the plans; on failure
/// it holds what ran before, running, and the error says what failed.
pub(super) async fn apply(
    old: &mut Vec<Live>,
    plans: Vec<PipelinePlan>,
    diff: Diff,
    patience: Duration,
    ground: &Ground,
) -> (Vec<String>, Result<(), String>) {
    let order: Vec<Arc<str>> = plans.iter().map(|plan| plan.name.clone()).collect();
    let keeping = ground.shared.get::<Listeners>().keep();
    let mut transaction = Transaction::new(old, plans, diff, patience, ground).await;
    transaction.hold_links();
    let done = match transaction.forward().await {
        Ok(()) => {
            // Nothing is undone any more: what has failed since is down.
            ground.starting.send_replace(false);
            transaction.commit().await;
            Ok(())
        }
        Err(why) => {
            transaction.back().await;
            Err(why)
        }
    };
    let links = ground.shared.get::<Links>();
    transaction.linked.iter().for_each(|name| links.sender_ended(name));
    let notes = std::mem::take(&mut transaction.notes);
    drop(keeping);
    if done.is_ok() {
        old.sort_by_key(|live| order.iter().position(|name| *name == live.plan.name));
    }
    (notes, done)
}

impl<'a> Transaction<'a> {
    async fn new(
        old: &'a mut Vec<Live>,
        plans: Vec<PipelinePlan>,
        diff: Diff,
        patience: Duration,
        ground: &'a Ground,
    ) -> Transaction<'a> {
        let (mut steps, mut fresh) = (Vec::new(), Vec::new());
        let mut ended: Vec<(usize, bool)> = diff.ended.iter().map(|&i| (i, false)).collect();
        for (plan, fate) in plans.into_iter().zip(diff.pipelines) {
            let Some((at, changes)) = fate else {
                fresh.push(Live::wire(plan, ground));
                continue;
            };
            // A pipeline whose sources have ended is over; one that is to receive again begins anew.
            let revived = old[at].is_ending() && plan.fed_by != old[at].plan.fed_by;
            if changes.is_empty() && !revived {
                old[at].plan = old[at].as_it_can_be(plan, &changes);
            } else if !old[at].is_ending() && old[at].hold() {
                let next = old[at].next(plan, &changes);
                let (sinks, sources) = (Vec::new(), Vec::new());
                steps.push(Step { old: at, next, diff: changes, before: None, sinks, sources });
            } else {
                ended.push((at, false));
                fresh.push(Live::wire(plan, ground));
            }
        }
        Transaction {
            ground,
            old,
            patience,
            steps,
            fresh,
            ended,
            stopped_sources: Vec::new(),
            stopped_sinks: Vec::new(),
            moved: Vec::new(),
            linked: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// No link ends while its senders are exchanged.
    fn hold_links(&mut self) {
        let links = self.ground.shared.get::<Links>();
        let feeds = |sink: &LiveSink| super::claims::feeds(&sink.planned.sink.claims).map(str::to_owned);
        let lives = self.steps.iter().map(|s| &s.next).chain(&self.fresh);
        let new: Vec<String> = lives.flat_map(|live| &live.sinks).filter_map(feeds).collect();
        new.iter().for_each(|name| links.sender_starts(name));
        self.linked = new;
    }

    async fn forward(&mut self) -> Result<(), String> {
        self.stop_in_the_way().await?;
        self.stop_sources().await?;
        self.hand_over_sinks().await?;
        let wanted = self.wanted();
        let takes_over =
            |address: &str| wanted.iter().any(|(what, key)| *what == "listen address" && key == address);
        self.ground.shared.get::<Listeners>().release_unused(takes_over);
        self.start_sinks().await?;
        for step in &mut self.steps {
            step.before = Some(step.next.lead());
        }
        self.buffers_keep()?;
        self.start_sources().await
    }

    /// Buffers that move to disk were open, but it was not sure that they would stay so.
    fn buffers_keep(&self) -> Result<(), String> {
        let mut sinks = self.steps.iter().flat_map(|step| &step.next.sinks);
        let Some(sink) = sinks.find(|sink| !sink.buffer.keeps()) else { return Ok(()) };
        let why = sink.buffer.status().and_then(|status| status.snapshot().trouble);
        let why = why.unwrap_or_else(|| "its disk buffer ended at once".to_owned());
        Err(format!("{}: {why}", sink.planned.sink.site.id()))
    }

    /// What those that are about to start claim for themselves.
    fn wanted(&self) -> Vec<(&'static str, String)> {
        let mut wanted = Vec::new();
        for step in &self.steps {
            for (i, kept) in step.diff.source_kept.iter().enumerate() {
                if !kept {
                    wanted.extend(step.next.sources[i].planned.claims.iter().cloned());
                }
            }
            for (i, fate) in step.diff.sinks.iter().enumerate() {
                if !matches!(fate, SinkFate::Kept { .. }) {
                    wanted.extend(step.next.sinks[i].planned.sink.claims.iter().cloned());
                }
            }
        }
        for live in &self.fresh {
            wanted.extend(live.sources.iter().flat_map(|s| s.planned.claims.iter().cloned()));
            wanted.extend(live.sinks.iter().flat_map(|s| s.planned.sink.claims.iter().cloned()));
        }
        wanted.retain(|(what, _)| ![super::claims::FEEDS, crate::tail::CHECKPOINTS].contains(what));
        wanted
    }

    /// Pipelines and sinks that end, and hold what a new one needs, end first; so do those of the same name. The
    /// others end last, when nothing can fail any more.
    async fn stop_in_the_way(&mut self) -> Result<(), String> {
        let wanted = self.wanted();
        let in_the_way =
            |claims: &[(&'static str, String)]| claims.iter().any(|claim| wanted.contains(claim));
        for (at, ended) in &mut self.ended {
            let live = &self.old[*at];
            let renewed = self.fresh.iter().any(|f| f.plan.name == live.plan.name);
            let claims = live.sources.iter().map(|s| &s.planned.claims);
            let mut claims = claims.chain(live.sinks.iter().map(|s| &s.planned.sink.claims));
            if renewed || claims.any(|claims| in_the_way(claims)) {
                *ended = true;
                end_pipeline(live, self.patience, self.ground, &mut self.notes).await;
            }
        }
        let mut released = Vec::new();
        for step in &self.steps {
            for &i in &step.diff.sinks_ended {
                if in_the_way(&self.old[step.old].sinks[i].planned.sink.claims) {
                    released.push((step.old, i));
                }
            }
        }
        self.release(released).await
    }

    async fn stop_sources(&mut self) -> Result<(), String> {
        let stopping = self.steps.iter().flat_map(|s| s.diff.sources_ended.iter().map(|&i| (s.old, i)));
        self.stopped_sources = stopping.collect();
        let sources = self.stopped_sources.iter().map(|&(at, i)| &self.old[at].sources[i]);
        let switches: Vec<(&Site, &Switch)> = sources.map(|s| (&*s.planned.site, &s.switch)).collect();
        switches.iter().for_each(|(_, switch)| switch.stop.drain());
        stopped(&switches, self.patience, self.ground).await
    }

    async fn hand_over_sinks(&mut self) -> Result<(), String> {
        let mut released = Vec::new();
        for step in &self.steps {
            for (i, fate) in step.diff.sinks.iter().enumerate() {
                let SinkFate::TakesOver(from) = *fate else { continue };
                released.push((step.old, from));
                let before = &self.old[step.old].sinks[from].planned.sink.site;
                let after = &step.next.sinks[i].planned.sink.site;
                if before != after && before.type_name == after.type_name {
                    self.moved.push((before.id(), after.id()));
                }
            }
        }
        self.release(released).await?;
        self.ground.shared.get::<Router>().rename(&self.moved);
        Ok(())
    }

    /// Ends sinks without closing their buffers.
    async fn release(&mut self, sinks: Vec<(usize, usize)>) -> Result<(), String> {
        self.stopped_sinks.extend(&sinks);
        let sinks = sinks.iter().map(|&(at, i)| &self.old[at].sinks[i]);
        let switches: Vec<(&Site, &Switch)> = sinks.map(|s| (&*s.planned.sink.site, &s.switch)).collect();
        switches.iter().for_each(|(_, switch)| switch.release.cancel());
        stopped(&switches, HANDOVER_MAX, self.ground).await
    }

    async fn start_sinks(&mut self) -> Result<(), String> {
        let mut waiting: Vec<(Arc<Site>, Arc<Health>)> = Vec::new();
        let mut start = |live: &mut Live, i: usize| {
            live.start_sink(i, self.ground);
            waiting.push((live.sinks[i].planned.sink.site.clone(), live.sinks[i].health.clone()));
        };
        for step in &mut self.steps {
            for i in 0..step.diff.sinks.len() {
                if !matches!(step.diff.sinks[i], SinkFate::Kept { .. }) {
                    start(&mut step.next, i);
                    step.sinks.push(i);
                }
            }
        }
        for live in &mut self.fresh {
            (0..live.sinks.len()).for_each(|i| start(live, i));
        }
        started(waiting.iter().map(|(_, health)| health), &self.ground.flow).await;
        failure(&waiting).map_or(Ok(()), Err)?;
        // The end does not wait for them, and those before them know how to empty their buffers.
        let unknown = waiting.iter().any(|(_, health)| health.state() == State::Starting);
        if unknown && self.ground.flow.is_draining() {
            return Err("weir is shutting down".to_owned());
        }
        Ok(())
    }

    async fn start_sources(&mut self) -> Result<(), String> {
        let mut waiting: Vec<(Arc<Site>, Arc<Health>)> = Vec::new();
        let mut start = |live: &mut Live, i: usize| {
            live.start_source(i, self.ground);
            waiting.push((live.sources[i].planned.site.clone(), live.sources[i].health.clone()));
        };
        for step in &mut self.steps {
            for i in 0..step.diff.source_kept.len() {
                if !step.diff.source_kept[i] {
                    start(&mut step.next, i);
                    step.sources.push(i);
                }
            }
        }
        for live in &mut self.fresh {
            live.hold_new();
            live.shepherd();
            (0..live.sources.len()).for_each(|i| start(live, i));
        }
        started(waiting.iter().map(|(_, health)| health), &self.ground.flow).await;
        failure(&waiting).map_or(Ok(()), Err)
    }

    /// The new state is the state: what is left of the old one ends.
    async fn commit(&mut self) {
        let mut leaving = Vec::new();
        for step in std::mem::take(&mut self.steps) {
            let before = step.before.expect("rows were led away before anything is committed");
            let gone = &self.stopped_sinks;
            let sinks: Vec<(LiveSink, bool)> = (step.diff.sinks_ended.iter())
                .map(|&i| (self.old[step.old].sinks[i].clone(), gone.contains(&(step.old, i))))
                .collect();
            leaving.push(leave(before, step.next.clone(), sinks, self.patience, self.ground));
            self.old[step.old] = step.next;
        }
        let (patience, ground) = (self.patience, self.ground);
        let mut ended = Vec::new();
        ended.extend(self.ended.iter().filter(|(_, done)| !done).map(|&(at, _)| &self.old[at]));
        let ends = join_all(ended.into_iter().map(|live| async move {
            let mut notes = Vec::new();
            end_pipeline(live, patience, ground, &mut notes).await;
            notes
        }));
        let (left, ends) = futures_util::join!(join_all(leaving), ends);
        self.notes.extend(left.into_iter().chain(ends).flatten());
        let mut at = 0;
        let ended: Vec<usize> = self.ended.iter().map(|(at, _)| *at).collect();
        self.old.retain(|_| {
            at += 1;
            !ended.contains(&(at - 1))
        });
        for live in std::mem::take(&mut self.fresh) {
            live.let_go();
            self.old.push(live);
        }
    }

    /// Undoes what was done: what was started ends, rows go back to the old course, what was stopped starts.
    async fn back(&mut self) {
        let (patience, ground) = (self.patience, self.ground);
        for live in std::mem::take(&mut self.fresh) {
            end_unfinished(&live, patience, ground).await;
        }
        for step in &self.steps {
            let started = step.sources.iter().map(|&i| &step.next.sources[i]);
            let switches: Vec<(&Site, &Switch)> = started.map(|s| (&*s.planned.site, &s.switch)).collect();
            switches.iter().for_each(|(_, switch)| switch.stop.drain());
            self.notes.extend(stopped(&switches, patience, ground).await.err());
        }
        let mut leaving = Vec::new();
        for step in std::mem::take(&mut self.steps) {
            self.take_back(&step);
            // The parts are those of before, with what their filters remember.
            let (old, next) = (&self.old[step.old], &step.next);
            let course = if step.before.is_some() { old.lead() } else { old.intake.course() };
            let (taking, added): (Vec<usize>, Vec<usize>) =
                step.sinks.iter().partition(|&&i| matches!(step.diff.sinks[i], SinkFate::TakesOver(_)));
            let switches: Vec<(&Site, &Switch)> =
                taking.iter().map(|&i| (&*next.sinks[i].planned.sink.site, &next.sinks[i].switch)).collect();
            switches.iter().for_each(|(_, switch)| switch.release.cancel());
            self.notes.extend(stopped(&switches, HANDOVER_MAX, ground).await.err());
            let added = added.into_iter().map(|i| (next.sinks[i].clone(), false)).collect();
            leaving.push((course, old.clone(), added));
        }
        let back: Vec<_> = self.moved.iter().map(|(from, to)| (to.clone(), from.clone())).collect();
        ground.shared.get::<Router>().rename(&back);
        ground.shared.get::<Listeners>().release_unused(|_| false);
        self.restart().await;
        // Held until now, so that no pipeline ended for want of sources.
        for (course, old, added) in leaving {
            self.notes.extend(leave(course, old, added, patience, ground).await);
        }
    }

    /// Buffers are those of before, but for files that rows may be in. None are before rows were led away.
    fn take_back(&mut self, step: &Step) {
        for (i, fate) in step.diff.sinks.iter().enumerate() {
            let SinkFate::TakesOver(from) = *fate else { continue };
            if !self.old[step.old].take_back(from, &step.next.sinks[i]) {
                let id = step.next.sinks[i].planned.sink.site.id();
                self.notes.push(format!(
                    "{id}: its buffer had moved to disk before the reload failed, and stays there; until it is empty, \
                     start weir with `buffer.type = \"disk\"` only"
                ));
            }
        }
    }

    /// Starts again what was stopped.
    async fn restart(&mut self) {
        let ground = self.ground;
        let mut waiting: Vec<Arc<Health>> = Vec::new();
        for &(at, _) in self.ended.iter().filter(|(_, done)| *done) {
            self.old[at] = Live::wire(self.old[at].plan.clone(), ground);
            for i in 0..self.old[at].sinks.len() {
                self.old[at].start_sink(i, ground);
                waiting.push(self.old[at].sinks[i].health.clone());
            }
        }
        for &(at, i) in &self.stopped_sinks {
            self.old[at].start_sink(i, ground);
            waiting.push(self.old[at].sinks[i].health.clone());
        }
        started(waiting.iter(), &ground.flow).await;
        for &(at, _) in self.ended.iter().filter(|(_, done)| *done) {
            self.old[at].hold_new();
            self.old[at].shepherd();
            (0..self.old[at].sources.len()).for_each(|i| self.old[at].start_source(i, ground));
            self.old[at].let_go();
        }
        for &(at, i) in &self.stopped_sources {
            self.old[at].start_source(i, ground);
            waiting.push(self.old[at].sources[i].health.clone());
        }
        started(waiting.iter(), &ground.flow).await;
    }
}

/// Waits until all have ended; what takes longer than `patience` is aborted. The error names what is not gone even
/// then: a thread that hangs in a system call.
async fn stopped(switches: &[(&Site, &Switch)], patience: Duration, ground: &Ground) -> Result<(), String> {
    let ended = || join_all(switches.iter().map(|(_, switch)| switch.ended.cancelled()));
    if within(patience, ground, ended()).await {
        return Ok(());
    }
    switches.iter().filter(|(_, s)| !s.ended.is_cancelled()).for_each(|(_, s)| s.stop.abort());
    if aborted(ended()).await {
        return Ok(());
    }
    let stuck = switches.iter().filter(|(_, s)| !s.ended.is_cancelled()).map(|(site, _)| site.id());
    Err(format!("{} did not stop: it hangs in a system call", stuck.collect::<Vec<_>>().join(", ")))
}

/// Whether `done` was done in time; less time when the process is ending.
async fn within<T>(patience: Duration, ground: &Ground, done: impl Future<Output = T>) -> bool {
    tokio::pin!(done);
    tokio::select! {
        biased;
        _ = &mut done => return true,
        () = tokio::time::sleep(patience) => return false,
        () = ground.flow.draining() => {}
    }
    tokio::select! {
        biased;
        _ = done => true,
        () = tokio::time::sleep(patience.min(ENDING_MAX)) => false,
        () = ground.flow.aborted() => false,
    }
}

/// Waits for what was aborted to be gone, also while the process is forced to its end: whatever starts in its place
/// would find its files locked and its addresses taken. False for what hangs in a system call.
async fn aborted(gone: impl Future<Output = impl Sized>) -> bool {
    tokio::time::timeout(ABORT_MAX, gone).await.is_ok()
}

/// Ends a running pipeline in order: sources, filters, sinks. What is left at the end of `patience` is given up, or
/// stays in its files. Sources hear that it is lost: if the pipeline comes back, be it because the reload fails,
/// those that can read it again.
async fn end_pipeline(live: &Live, patience: Duration, ground: &Ground, notes: &mut Vec<String>) {
    live.stop.drain();
    if within(patience, ground, live.over.cancelled()).await {
        return;
    }
    let before: Vec<u64> = live.sinks.iter().map(|s| s.meter().snapshot().dropped_total()).collect();
    live.stop.abort();
    live.sinks.iter().for_each(|s| s.buffer.front.abort());
    let gone = aborted(live.over.cancelled()).await;
    for (sink, before) in live.sinks.iter().zip(before) {
        notes.extend(left_behind(sink, before, ground));
    }
    if !gone {
        notes.push(format!("pipeline {}: something still hangs in a system call", live.plan.name));
    }
}

/// What became of the rows that a sink did not get to deliver, if there were any.
fn left_behind(sink: &LiveSink, dropped_before: u64, ground: &Ground) -> Option<String> {
    let (id, counts) = (sink.planned.sink.site.id(), sink.meter().snapshot());
    let dropped = counts.dropped_total() - dropped_before + counts.queued_events - counts.stored_events;
    let dir = crate::flow::disk::directory(&ground.state_dir, &sink.planned.sink.site);
    match (counts.stored_events, dropped) {
        (0, 0) => None,
        (0, n) => Some(format!("{id} ended before its buffer was empty: {n} events were dropped")),
        (kept, 0) => Some(format!("{id} is gone; {kept} events stay in its disk buffer {}", dir.display())),
        (kept, n) => Some(format!(
            "{id} is gone; {kept} events stay in its disk buffer {}, {n} were dropped",
            dir.display()
        )),
    }
}

/// Ends a pipeline that may have been started in part.
async fn end_unfinished(live: &Live, patience: Duration, ground: &Ground) {
    live.stop.drain();
    if !live.is_ending() {
        live.let_go();
        if !within(patience, ground, live.over.cancelled()).await {
            live.stop.abort();
        }
    }
    live.stop.abort();
    live.sinks.iter().for_each(|s| s.buffer.front.abort());
    aborted(join_all(live.sinks.iter().map(LiveSink::gone))).await;
}

/// Leaves a course: what its filters held goes on to its sinks, and once nothing is on its way there, the sinks
/// that have no successor (`true`: has ended already) end after the last row. `live` was held, and is let go.
async fn leave(
    course: Arc<Course>,
    live: Live,
    sinks: Vec<(LiveSink, bool)>,
    patience: Duration,
    ground: &Ground,
) -> Vec<String> {
    let (left, onto) = (course.left(), live.intake.course());
    if Arc::ptr_eq(&course, &onto) {
        drop((course, onto));
        live.let_go();
        left_by_sinks(None, &sinks, patience, ground).await
    } else {
        // By itself: a full buffer that stays may keep it waiting for long, and nothing of it must be lost.
        drop(task::spawn(async move {
            course.flush(Some(&onto)).await;
            drop((course, onto));
            live.let_go();
        }));
        left_by_sinks(Some(left), &sinks, patience, ground).await
    }
}

/// See [`leave`]: `left` is cancelled when nothing is on its way to the sinks any more.
async fn left_by_sinks(
    left: Option<CancellationToken>,
    sinks: &[(LiveSink, bool)],
    patience: Duration,
    ground: &Ground,
) -> Vec<String> {
    if sinks.is_empty() {
        return Vec::new();
    }
    let emptied = async {
        if let Some(left) = left {
            left.cancelled().await;
        }
        sinks.iter().for_each(|(sink, _)| sink.buffer.front.close());
        let running = sinks.iter().filter(|(_, ended)| !ended);
        join_all(running.map(|(sink, _)| sink.gone())).await;
    };
    // What is left shows below.
    within(patience, ground, emptied).await;
    let mut notes = Vec::new();
    for (sink, _) in sinks {
        let before = sink.meter().snapshot().dropped_total();
        sink.buffer.front.abandon();
        sink.switch.stop.abort();
        // One that was released before keeps its files open.
        sink.buffer.sink_gone();
        aborted(sink.gone()).await;
        notes.extend(left_behind(sink, before, ground));
    }
    notes
}
