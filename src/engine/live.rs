//! A pipeline that runs: its components with the switches to stop each alone, and the task that ends it when its
//! sources have ended. Parts are handles, so that a reload can make the next state of a pipeline next to the one
//! that runs, and go back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::buffers::{self, Buffer};
use super::claims;
use super::diff::{PipelineDiff, SinkFate};
use super::patience;
use super::plan::{PipelinePlan, Planned, PlannedSink};
use super::supervise::{self, Starting};
use super::wire::{self, WiredChain};
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::flow::{
    Branch, ComponentEntry, Course, Health, Inlet, Intake, Links, Memory, Meter, Outlet, PipelineEntry,
    RateLimit, Shared, Site, SourceFactory, State, TaskCx,
};
use crate::net::Listeners;

/// How often filters that hold rows are asked to let go.
const TICK: Duration = Duration::from_millis(100);

/// What all components of a process are started with.
#[derive(Clone)]
pub(super) struct Ground {
    /// What components share.
    pub(super) shared: Arc<Shared>,
    /// Where state survives restarts.
    pub(super) state_dir: Arc<std::path::Path>,
    /// Ends all pipelines.
    pub(super) flow: Shutdown,
    /// Set while whoever started components reports the failure of a start.
    pub(super) starting: Starting,
}

/// What keeps a pipeline going.
#[derive(Debug, Clone, Copy)]
struct Pulse {
    /// Sources at work, and reloads that will start some.
    sources: usize,
    /// Some filter holds rows for a while.
    ticks: bool,
}

/// The switches of a component, new at each start.
#[derive(Debug, Clone)]
pub(super) struct Switch {
    /// Stops it alone.
    pub(super) stop: Shutdown,
    /// Ends a sink that hands its buffer over.
    pub(super) release: CancellationToken,
    /// Cancelled when it has ended.
    pub(super) ended: CancellationToken,
}

impl Switch {
    /// Of a component below `above` that is not started.
    fn new(above: &Shutdown) -> Switch {
        let ended = CancellationToken::new();
        ended.cancel();
        Switch { stop: above.child(), release: CancellationToken::new(), ended }
    }
}

/// A source.
#[derive(Clone)]
pub(super) struct LiveSource {
    pub(super) planned: Planned<SourceFactory>,
    pub(super) meter: Arc<Meter>,
    pub(super) health: Arc<Health>,
    pub(super) switch: Switch,
}

/// A sink with what lies before it.
#[derive(Clone)]
pub(super) struct LiveSink {
    pub(super) planned: PlannedSink,
    own: Option<WiredChain>,
    pub(super) buffer: Buffer,
    pub(super) health: Arc<Health>,
    pub(super) switch: Switch,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) plan: PipelinePlan,
    pub(super) intake: Arc<Intake>,
    limit: Option<Arc<Mutex<RateLimit>>>,
    filters: WiredChain,
    pub(super) sources: Vec<LiveSource>,
    pub(super) sinks: Vec<LiveSink>,
    pulse: Arc<watch::Sender<Pulse>>,
    sinks_at_work: Arc<watch::Sender<usize>>,
    /// Ends the pipeline alone.
    pub(super) stop: Shutdown,
    /// Cancelled when it has ended.
    pub(super) over: CancellationToken,
}

impl Live {
    /// A pipeline whose parts are there, and of which nothing runs.
    pub(super) fn wire(plan: PipelinePlan, ground: &Ground) -> Live {
        let stop = ground.flow.child();
        let filters = wire::chain(&plan.filters);
        let limit = plan.rate_limit.as_ref().map(|limit| Arc::new(Mutex::new(wire::rate_limit(limit))));
        let sinks: Vec<LiveSink> = plan.sinks.iter().map(|sink| LiveSink::wire(sink, None, &stop)).collect();
        let course = course(limit.clone(), &filters, &sinks);
        let intake = Arc::new(Intake::onto(course, Arc::new(Meter::default())));
        let sources = plan.sources.iter().map(|source| LiveSource::wire(source, &stop)).collect();
        Live {
            plan,
            intake,
            limit,
            filters,
            sources,
            sinks,
            pulse: Arc::new(watch::Sender::new(Pulse { sources: 0, ticks: false })),
            sinks_at_work: Arc::default(),
            stop,
            over: CancellationToken::new(),
        }
    }

    /// The plan of a reload as far as it can be done: what cannot become another kind of buffer stays as it is; the
    /// report says so.
    pub(super) fn as_it_can_be(&self, mut plan: PipelinePlan, diff: &PipelineDiff) -> PipelinePlan {
        for (i, sink) in plan.sinks.iter_mut().enumerate() {
            let before = diff.predecessor(i).map(|from| self.sinks[from].planned.buffer);
            sink.buffer = before.filter(|b| !b.becomes(&sink.buffer)).unwrap_or(sink.buffer);
        }
        plan
    }

    /// The pipeline as a reload wants it: parts that stay are shared with this one, the others are there and not
    /// started. This one is not touched.
    pub(super) fn next(&self, plan: PipelinePlan, diff: &PipelineDiff) -> Live {
        let plan = self.as_it_can_be(plan, diff);
        let filters = if diff.filters { wire::chain(&plan.filters) } else { self.filters.clone() };
        let limit = match diff.limit {
            true => plan.rate_limit.as_ref().map(|limit| Arc::new(Mutex::new(wire::rate_limit(limit)))),
            false => self.limit.clone(),
        };
        let source = |(i, planned): (usize, &Planned<SourceFactory>)| match diff.source_kept[i] {
            true => LiveSource { planned: planned.clone(), ..self.sources[i].clone() },
            false => LiveSource::wire(planned, &self.stop),
        };
        let sink = |(i, planned): (usize, &PlannedSink)| match diff.sinks[i] {
            SinkFate::Kept { filters, .. } => {
                let own = if filters { own_chain(planned) } else { self.sinks[i].own.clone() };
                LiveSink { planned: planned.clone(), own, ..self.sinks[i].clone() }
            }
            SinkFate::TakesOver(from) => {
                let buffer = self.sinks[from].buffer.becoming(&planned.buffer);
                LiveSink::wire(planned, Some(buffer), &self.stop)
            }
            SinkFate::Added => LiveSink::wire(planned, None, &self.stop),
        };
        Live {
            sources: plan.sources.iter().enumerate().map(source).collect(),
            sinks: plan.sinks.iter().enumerate().map(sink).collect(),
            plan,
            limit,
            filters,
            ..self.clone()
        }
    }

    /// Leads the rows through this state's parts, under this state's bounds; returns what was before.
    pub(super) fn lead(&self) -> Arc<Course> {
        for sink in &self.sinks {
            sink.buffer.adapt(&sink.planned.buffer);
        }
        let before = self.intake.lead(course(self.limit.clone(), &self.filters, &self.sinks));
        let ticks = self.intake.ticks();
        self.pulse.send_modify(|pulse| pulse.ticks = ticks);
        before
    }

    /// A sink of this pipeline gets its buffer back from `successor`. False if that has moved to disk: rows may be in
    /// files, so it stays there, here too.
    pub(super) fn take_back(&mut self, index: usize, successor: &LiveSink) -> bool {
        let sink = &mut self.sinks[index];
        if sink.buffer.is_disk() || successor.buffer.give_back() {
            return true;
        }
        sink.buffer = successor.buffer.clone();
        sink.planned.buffer = successor.planned.buffer;
        self.plan.sinks[index].buffer = successor.planned.buffer;
        false
    }

    /// Starts a sink of this pipeline, and first the thread of its buffer if that does not run yet.
    pub(super) fn start_sink(&mut self, index: usize, ground: &Ground) {
        let sink = &mut self.sinks[index];
        sink.switch = Switch { ended: CancellationToken::new(), ..Switch::new(&self.stop) };
        sink.health.set(State::Starting);
        let buffer = sink.buffer.clone();
        let (planned, meter) = (sink.planned.sink.clone(), buffer.front.meter().clone());
        let inlet = Inlet::releasable(buffer.back.clone(), sink.switch.release.clone());
        let cx = ground.context(&planned.site, &meter, &sink.health, &sink.switch.stop);
        // The thread goes on when the sink is exchanged.
        let stage = buffer.start(&TaskCx { shutdown: self.stop.clone(), ..cx.clone() });
        let (starting, keeps) = (ground.starting.clone(), buffer.is_disk());
        let feeds = claims::feeds(&planned.claims).map(str::to_owned);
        let (links, listeners) = (ground.shared.get::<Links>(), ground.shared.get::<Listeners>());
        let ended_site = planned.site.clone();
        feeds.iter().for_each(|name| links.sender_starts(name));
        let Switch { ended, release, .. } = sink.switch.clone();
        let (at_work, end) = (self.sinks_at_work.clone(), ground.flow.clone());
        let (opened, done) = stage.unzip();
        if let Some(done) = done.flatten() {
            at_work.send_modify(|n| *n += 1);
            let at_work = at_work.clone();
            drop(task::spawn(async move {
                done.await;
                at_work.send_modify(|n| *n -= 1);
            }));
        }
        at_work.send_modify(|n| *n += 1);
        drop(task::spawn(async move {
            let outer = cx.clone();
            let start = move || supervise::start_sink(&planned, inlet, cx, starting, keeps);
            let sink = async {
                match opened {
                    Some(opened) => buffers::behind(opened, outer.clone(), release.clone(), start).await,
                    None => start().await,
                }
            };
            patience::run(sink, &outer, &buffer, &end).await;
            listeners.component_ended(&ended_site);
            feeds.iter().for_each(|name| links.sender_ended(name));
            if !release.is_cancelled() {
                buffer.sink_gone();
            }
            ended.cancel();
            at_work.send_modify(|n| *n -= 1);
        }));
    }

    /// Starts a source of this pipeline.
    pub(super) fn start_source(&mut self, index: usize, ground: &Ground) {
        let source = &mut self.sources[index];
        source.switch = Switch { ended: CancellationToken::new(), ..Switch::new(&self.stop) };
        source.health.set(State::Starting);
        let planned = &source.planned;
        let out = Outlet::new(self.intake.clone(), source.meter.clone());
        let out = match planned.site.type_name {
            "pipeline" => out,
            _ => out.bounded_by(ground.shared.get::<Memory>()),
        };
        let cx = ground.context(&planned.site, &source.meter, &source.health, &source.switch.stop);
        let running = supervise::start_source(planned, out, cx, ground.starting.clone());
        let (ended, pulse) = (source.switch.ended.clone(), self.pulse.clone());
        let (site, listeners) = (planned.site.clone(), ground.shared.get::<Listeners>());
        pulse.send_modify(|p| p.sources += 1);
        drop(task::spawn(async move {
            running.await;
            listeners.component_ended(&site);
            ended.cancel();
            pulse.send_modify(|p| p.sources -= 1);
        }));
    }

    /// Begins to wait for the end of the sources, which must have been started or be held off by [`Live::hold`].
    pub(super) fn shepherd(&self) {
        let ticks = self.intake.ticks();
        self.pulse.send_modify(|pulse| pulse.ticks = ticks);
        let (intake, pulse) = (self.intake.clone(), self.pulse.subscribe());
        let (sinks, stop) = (self.sinks_at_work.subscribe(), self.stop.clone());
        let over = self.over.clone();
        drop(task::spawn(async move {
            shepherd(intake, pulse, sinks, stop).await;
            over.cancel();
        }));
    }

    /// Keeps the pipeline going without sources until [`Live::let_go`]; false if it is ending already.
    pub(super) fn hold(&self) -> bool {
        self.pulse.send_if_modified(|pulse| {
            let alive = pulse.sources > 0;
            pulse.sources += usize::from(alive);
            alive
        })
    }

    /// The same for a pipeline of which nothing runs yet.
    pub(super) fn hold_new(&self) {
        self.pulse.send_modify(|pulse| pulse.sources += 1);
    }

    /// See [`Live::hold`].
    pub(super) fn let_go(&self) {
        self.pulse.send_modify(|pulse| pulse.sources -= 1);
    }

    /// Whether its sources have ended.
    pub(super) fn is_ending(&self) -> bool {
        self.pulse.borrow().sources == 0
    }

    /// Its place on the board.
    pub(super) fn entry(&self) -> PipelineEntry {
        let mut components: Vec<ComponentEntry> = self.sources.iter().map(LiveSource::entry).collect();
        components.extend(self.filters.entries.iter().cloned());
        components.extend(self.sinks.iter().filter_map(|s| s.own.as_ref()).flat_map(|c| c.entries.clone()));
        components.extend(self.sinks.iter().map(LiveSink::entry));
        PipelineEntry { name: self.plan.name.clone(), meter: self.intake.meter().clone(), components }
    }
}

impl LiveSource {
    fn wire(planned: &Planned<SourceFactory>, above: &Shutdown) -> LiveSource {
        let (meter, health) = (Arc::new(Meter::default()), Arc::new(Health::default()));
        LiveSource { planned: planned.clone(), meter, health, switch: Switch::new(above) }
    }

    fn entry(&self) -> ComponentEntry {
        let site = self.planned.site.clone();
        ComponentEntry {
            site,
            meter: self.meter.clone(),
            health: self.health.clone(),
            buffer: None,
            capacity: None,
        }
    }
}

impl LiveSink {
    fn wire(planned: &PlannedSink, buffer: Option<Buffer>, above: &Shutdown) -> LiveSink {
        let buffer = buffer.unwrap_or_else(|| planned.buffer.make(Arc::new(Meter::default())));
        let (own, health) = (own_chain(planned), Arc::new(Health::default()));
        LiveSink { planned: planned.clone(), own, buffer, health, switch: Switch::new(above) }
    }

    /// Its counters.
    pub(super) fn meter(&self) -> &Arc<Meter> {
        self.buffer.front.meter()
    }

    /// Waits until it has ended, and the thread of its buffer too. Cancel-safe.
    pub(super) async fn gone(&self) {
        self.switch.ended.cancelled().await;
        self.buffer.ended().await;
    }

    fn entry(&self) -> ComponentEntry {
        let site = self.planned.sink.site.clone();
        let (meter, health) = (self.meter().clone(), self.health.clone());
        let capacity = Some(self.planned.buffer.capacity());
        ComponentEntry { site, meter, health, buffer: self.buffer.status(), capacity }
    }
}

impl Ground {
    fn context(&self, site: &Arc<Site>, meter: &Arc<Meter>, health: &Arc<Health>, stop: &Shutdown) -> TaskCx {
        TaskCx {
            site: site.clone(),
            shutdown: stop.clone(),
            meter: meter.clone(),
            shared: self.shared.clone(),
            state_dir: self.state_dir.clone(),
            health: health.clone(),
        }
    }
}

fn own_chain(planned: &PlannedSink) -> Option<WiredChain> {
    (!planned.filters.is_empty()).then(|| wire::chain(&planned.filters))
}

fn course(limit: Option<Arc<Mutex<RateLimit>>>, filters: &WiredChain, sinks: &[LiveSink]) -> Arc<Course> {
    let branch = |sink: &LiveSink| Branch {
        chain: sink.own.as_ref().map(|own| own.chain.clone()),
        queue: sink.buffer.front.clone(),
    };
    Course::new(limit, filters.chain.clone(), sinks.iter().map(branch).collect())
}

/// One pipeline to its end: its sources, then the chain's last words, then its sinks.
async fn shepherd(
    intake: Arc<Intake>,
    mut pulse: watch::Receiver<Pulse>,
    mut sinks: watch::Receiver<usize>,
    stop: Shutdown,
) {
    let mut beat = tokio::time::interval(TICK);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let Pulse { sources, ticks } = *pulse.borrow_and_update();
        if sources == 0 {
            break;
        }
        tokio::select! {
            // The sender lives as long as the pipeline.
            changed = pulse.changed() => if changed.is_err() { break },
            _ = beat.tick(), if ticks => intake.tick().await,
        }
    }
    tokio::select! {
        () = intake.finish() => {}
        () = stop.aborted() => {}
    }
    sinks.wait_for(|at_work| *at_work == 0).await.ok();
}
