//! Reloads of small plans: what is not touched, what is handed over, and that a failure at any step changes nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::tests::{planned, services};
use super::*;
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::flow::{Board, Fault, Inlet, MeterSnapshot, Outlet, Shared, Sink, Source, TaskCx};

type Plans = Arc<Mutex<VecDeque<Result<Plan, Vec<String>>>>>;

/// A run whose configurations the test brings.
struct Rig {
    shared: Arc<Shared>,
    shutdown: Shutdown,
    next: Plans,
    run: JoinHandle<Result<RunReport, StartError>>,
}

impl Rig {
    async fn start(plan: Plan) -> Rig {
        let (shared, shutdown) = (Arc::new(Shared::default()), Shutdown::new());
        let next = Plans::default();
        let mut services = services(&shared);
        let plans = next.clone();
        services.load = Some(Arc::new(move || plans.lock().unwrap().pop_front().unwrap()));
        let (up, started) = tokio::sync::oneshot::channel();
        let run = run(plan, services, shutdown.clone(), |_| up.send(()).unwrap());
        let run = task::spawn(run);
        started.await.unwrap();
        Rig { shared, shutdown, next, run }
    }

    async fn reload(&self, plan: Plan) -> Arc<ReloadReport> {
        self.next.lock().unwrap().push_back(Ok(plan));
        let reloads = self.shared.get::<Reloads>();
        tokio::time::timeout(Duration::from_secs(60), reloads.reload()).await.expect("a reload ends")
    }

    fn counts(&self, id: &str) -> MeterSnapshot {
        let board = self.shared.get::<Board>().pipelines();
        let mut all = board.iter().flat_map(|p| &p.components);
        all.find(|c| c.site.id() == id).unwrap_or_else(|| panic!("no {id}")).meter.snapshot()
    }

    fn ids(&self) -> Vec<String> {
        let board = self.shared.get::<Board>().pipelines();
        board.iter().flat_map(|p| &p.components).map(|c| c.site.id()).collect()
    }

    /// Ends the run; everything on the board balances, and nothing was dropped.
    async fn end(self) -> RunReport {
        self.shutdown.drain();
        let report = self.run.await.unwrap().unwrap();
        for pipeline in self.shared.get::<Board>().pipelines().iter() {
            for component in &pipeline.components {
                let counts = component.meter.snapshot();
                assert!(
                    counts.balances() && counts.dropped_total() == 0,
                    "{}: {counts:?}",
                    component.site.id()
                );
            }
            assert!(pipeline.meter.snapshot().balances());
        }
        report
    }
}

/// Sends a row every millisecond, whatever its options say, and counts its starts.
struct Ticking(Arc<AtomicUsize>);

#[async_trait]
impl Source for Ticking {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        self.0.fetch_add(1, Relaxed);
        cx.ready();
        while !cx.shutdown.is_draining() {
            out.send(crate::batch::Batch::from_lines("t", ["x"])).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

/// Fails for good at once.
struct Broken;

#[async_trait]
impl Source for Broken {
    async fn run(&mut self, _: &Outlet, _: &TaskCx) -> Result<(), Fault> {
        Err(Fault::fatal("no such source"))
    }
}

#[derive(Clone)]
enum Act {
    /// Takes all rows.
    Take,
    /// Is ready and takes none until it is told to end.
    Hoard,
    /// Fails for good at once.
    Fail,
}

struct Actor(Act, Arc<AtomicUsize>);

#[async_trait]
impl Sink for Actor {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        self.1.fetch_add(1, Relaxed);
        match self.0 {
            Act::Fail => return Err(Fault::unavailable("port taken")),
            Act::Hoard => {
                cx.ready();
                let held = inlet.recv().await;
                inlet.released().await;
                drop(held);
                return Ok(());
            }
            Act::Take => cx.ready(),
        }
        while let Some(lease) = inlet.recv().await {
            lease.delivered();
        }
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Starts {
    sources: Arc<AtomicUsize>,
    sinks: Arc<AtomicUsize>,
}

fn pipeline(name: &str, rate: f64, filters: Value, sinks: Value) -> Value {
    let sources = json!([{"type": "generate", "events_per_second": rate}]);
    json!({"name": name, "sources": sources, "filters": filters, "sinks": sinks})
}

/// A plan in which sources tick and sinks act, each start counted.
fn plan_of(pipelines: Value, act: &Act, starts: &Starts) -> Plan {
    let config = json!({"server": {"enabled": false}, "shutdown_timeout": "2s", "pipelines": pipelines});
    let mut plan = planned(&config).ok().unwrap();
    for pipeline in &mut plan.pipelines {
        for source in &mut pipeline.sources {
            let count = starts.sources.clone();
            source.make = Arc::new(move || Box::new(Ticking(count.clone())));
        }
        for sink in &mut pipeline.sinks {
            let (act, count) = (act.clone(), starts.sinks.clone());
            sink.sink.make = Arc::new(move || Box::new(Actor(act.clone(), count.clone())));
        }
    }
    plan
}

fn null() -> Value {
    json!([{"type": "null"}])
}

fn no_filters() -> Value {
    json!([])
}

#[tokio::test(start_paused = true)]
async fn what_did_not_change_is_not_touched() {
    let (first, second) = (Starts::default(), Starts::default());
    let (a, b) = (pipeline("a", 1.0, no_filters(), null()), pipeline("b", 1.0, no_filters(), null()));
    let rig = Rig::start(plan_of(json!([a, b]), &Act::Take, &first)).await;
    let report = rig.reload(plan_of(json!([a, b]), &Act::Take, &second)).await;
    assert_eq!(report.outcome, ReloadOutcome::Unchanged);
    // A filter and a source of `a` change: its sink and all of `b` stay.
    let sample = json!([{"type": "sample", "one_in": 2}]);
    let changed = pipeline("a", 2.0, sample, null());
    tokio::time::sleep(Duration::from_millis(50)).await;
    let report = rig.reload(plan_of(json!([changed, b]), &Act::Take, &second)).await;
    assert_eq!(report.outcome, ReloadOutcome::Applied, "{report:?}");
    assert_eq!((first.sources.load(Relaxed), first.sinks.load(Relaxed)), (2, 2));
    assert_eq!((second.sources.load(Relaxed), second.sinks.load(Relaxed)), (1, 0));
    let changes: Vec<Change> = report.pipelines.iter().map(|p| p.change).collect();
    assert_eq!(changes, [Change::Changed, Change::Unchanged]);
    let of = |id: &str| report.pipelines[0].components.iter().find(|(i, _)| i == id).unwrap().1;
    assert_eq!(of("a.source.0.generate"), Change::Changed);
    assert_eq!((of("a.filter.0.sample"), of("a.sink.0.null")), (Change::Added, Change::Unchanged));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(rig.counts("a.filter.0.sample").received_events > 10);
    assert_eq!(rig.end().await, RunReport::default());
}

#[tokio::test(start_paused = true)]
async fn a_changed_sink_is_given_what_the_old_one_left() {
    let starts = Starts::default();
    let sink = |listen: &str| json!([{"type": "tcp", "listen": listen}]);
    let old =
        plan_of(json!([pipeline("a", 1.0, no_filters(), sink("127.0.0.1:1001"))]), &Act::Hoard, &starts);
    let rig = Rig::start(old).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let waiting = rig.counts("a.sink.0.tcp");
    assert!(waiting.queued_events > 50 && waiting.delivered_events == 0);
    let new = plan_of(json!([pipeline("a", 1.0, no_filters(), sink("127.0.0.1:1002"))]), &Act::Take, &starts);
    assert_eq!(rig.reload(new).await.outcome, ReloadOutcome::Applied);
    tokio::time::sleep(Duration::from_millis(10)).await;
    let after = rig.counts("a.sink.0.tcp");
    assert!(after.delivered_events >= waiting.queued_events && after.balances());
    assert_eq!(starts.sources.load(Relaxed), 1, "the source was not touched");
    // Another kind in the same place is given them too.
    let other = plan_of(json!([pipeline("a", 1.0, no_filters(), null())]), &Act::Take, &starts);
    assert_eq!(rig.reload(other).await.outcome, ReloadOutcome::Applied);
    assert_eq!(rig.ids(), ["a.source.0.generate", "a.sink.0.null"]);
    assert_eq!(rig.end().await, RunReport::default());
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_does_not_start_changes_nothing() {
    let (old, new) = (Starts::default(), Starts::default());
    let a = pipeline("a", 1.0, no_filters(), null());
    let rig = Rig::start(plan_of(json!([a]), &Act::Take, &old)).await;
    let sinks = json!([{"type": "null"}, {"type": "null"}]);
    let filters = json!([{"type": "sample", "one_in": 2}]);
    let failing = plan_of(
        json!([pipeline("a", 2.0, filters, sinks), pipeline("b", 1.0, no_filters(), null())]),
        &Act::Fail,
        &new,
    );
    let report = rig.reload(failing).await;
    assert_eq!(report.outcome, ReloadOutcome::RolledBack);
    assert!(report.errors[0].contains("port taken"), "{report:?}");
    assert_eq!(rig.ids(), ["a.source.0.generate", "a.sink.0.null"]);
    assert_eq!(new.sources.load(Relaxed), 0);
    assert_eq!(old.sources.load(Relaxed), 2, "the old source was started again");
    let before = rig.counts("a.sink.0.null").delivered_events;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(rig.counts("a.sink.0.null").delivered_events > before + 10, "it goes on");
    assert_eq!(rig.end().await, RunReport::default());
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_takes_nothing_of_the_buffer_it_was_given() {
    let starts = Starts::default();
    let plan = |listen: &str, act: &Act| {
        let sinks = json!([{"type": "tcp", "listen": listen}]);
        plan_of(json!([pipeline("a", 1.0, no_filters(), sinks)]), act, &starts)
    };
    let rig = Rig::start(plan("127.0.0.1:1001", &Act::Hoard)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let waiting = rig.counts("a.sink.0.tcp").queued_events;
    assert!(waiting > 50);
    let report = rig.reload(plan("127.0.0.1:1002", &Act::Fail)).await;
    assert_eq!(report.outcome, ReloadOutcome::RolledBack);
    let after = rig.counts("a.sink.0.tcp");
    assert!(after.queued_events >= waiting && after.dropped_total() == 0, "{after:?}");
    assert_eq!(rig.reload(plan("127.0.0.1:1003", &Act::Take)).await.outcome, ReloadOutcome::Applied);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(rig.counts("a.sink.0.tcp").delivered_events >= waiting);
    assert_eq!(rig.end().await, RunReport::default());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_start_is_undone_after_rows_were_led_away() {
    let (old, new) = (Starts::default(), Starts::default());
    let sink = |listen: &str| json!([{"type": "tcp", "listen": listen}]);
    let rig = Rig::start(plan_of(
        json!([pipeline("a", 1.0, no_filters(), sink("127.0.0.1:1001"))]),
        &Act::Take,
        &old,
    ))
    .await;
    let filters = json!([{"type": "sample", "one_in": 2}]);
    let mut sinks = sink("127.0.0.1:1002");
    sinks.as_array_mut().unwrap().push(json!({"type": "null"}));
    let mut failing = plan_of(json!([pipeline("a", 2.0, filters, sinks)]), &Act::Take, &new);
    failing.pipelines[0].sources[0].make = Arc::new(|| Box::new(Broken));
    let report = rig.reload(failing).await;
    assert_eq!(report.outcome, ReloadOutcome::RolledBack);
    assert!(report.errors[0].contains("no such source") && report.notes.is_empty(), "{report:?}");
    assert_eq!(rig.ids(), ["a.source.0.generate", "a.sink.0.tcp"]);
    assert_eq!((old.sources.load(Relaxed), old.sinks.load(Relaxed), new.sinks.load(Relaxed)), (2, 2, 2));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let counts = rig.counts("a.sink.0.tcp");
    assert!(counts.delivered_events > 20 && counts.balances());
    assert_eq!(rig.end().await, RunReport::default());
}

#[tokio::test(start_paused = true)]
async fn a_removed_sink_and_a_removed_pipeline_empty_their_buffers() {
    let starts = Starts::default();
    let two = json!([{"type": "null"}, {"type": "tcp", "listen": "127.0.0.1:1001"}]);
    let (a, b) = (pipeline("a", 1.0, no_filters(), two), pipeline("b", 1.0, no_filters(), null()));
    let rig = Rig::start(plan_of(json!([a, b]), &Act::Take, &starts)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let removed = rig.shared.get::<Board>().pipelines();
    let report =
        rig.reload(plan_of(json!([pipeline("a", 1.0, no_filters(), null())]), &Act::Take, &starts)).await;
    assert_eq!(report.outcome, ReloadOutcome::Applied);
    assert!(report.notes.is_empty(), "{report:?}");
    assert_eq!(rig.ids(), ["a.source.0.generate", "a.sink.0.null"]);
    for component in removed.iter().flat_map(|p| &p.components).filter(|c| !c.site.id().starts_with("a.s")) {
        let counts = component.meter.snapshot();
        assert!(counts.balances() && counts.queued_events == 0 && counts.dropped_total() == 0, "{counts:?}");
    }
    assert_eq!(rig.end().await, RunReport::default());
}

/// Takes its time to be ready.
struct Late;

#[async_trait]
impl Source for Late {
    async fn run(&mut self, _: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        cx.ready();
        cx.shutdown.draining().await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_during_the_start_is_done_after_it() {
    let starts = Starts::default();
    let plan = || plan_of(json!([pipeline("a", 1.0, no_filters(), null())]), &Act::Take, &starts);
    let (shared, shutdown) = (Arc::new(Shared::default()), Shutdown::new());
    let mut services = services(&shared);
    let next = Mutex::new(Some(Ok(plan())));
    services.load = Some(Arc::new(move || next.lock().unwrap().take().unwrap()));
    let mut slow = plan();
    slow.pipelines[0].sources[0].make = Arc::new(|| Box::new(Late));
    let run = task::spawn(run(slow, services, shutdown.clone(), |_| {}));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = shared.get::<Reloads>().reload().await;
    assert_eq!(report.outcome, ReloadOutcome::Unchanged, "{report:?}");
    shutdown.drain();
    assert_eq!(run.await.unwrap().unwrap(), RunReport::default());
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_configuration_that_cannot_be_read() {
    let starts = Starts::default();
    let (shared, shutdown) = (Arc::new(Shared::default()), Shutdown::new());
    let mut services = services(&shared);
    // As on a file server that is away; it ends with the test.
    let (_hold, hangs) = std::sync::mpsc::sync_channel::<()>(1);
    let (hangs, (reads, mut reading)) = (Mutex::new(hangs), tokio::sync::mpsc::channel(4));
    services.load = Some(Arc::new(move || {
        reads.try_send(()).ok();
        hangs.lock().unwrap().recv().ok();
        Err(Vec::new())
    }));
    let plan = plan_of(json!([pipeline("a", 1.0, no_filters(), null())]), &Act::Take, &starts);
    let run = task::spawn(run(plan, services, shutdown.clone(), |_| {}));
    let reloads = shared.get::<Reloads>();
    let asked = task::spawn(async move { reloads.reload().await });
    reading.recv().await.unwrap();
    shutdown.drain();
    let ended = tokio::time::timeout(Duration::from_secs(20), run).await.expect("it ends");
    assert_eq!(ended.unwrap().unwrap(), RunReport::default());
    assert_eq!(asked.await.unwrap().errors, ["weir is shutting down"]);
}

#[tokio::test(start_paused = true)]
async fn errors_and_a_shutdown_refuse_a_reload() {
    let starts = Starts::default();
    let a = json!([pipeline("a", 1.0, no_filters(), null())]);
    let rig = Rig::start(plan_of(a, &Act::Take, &starts)).await;
    rig.next.lock().unwrap().push_back(Err(vec!["line 3 is wrong".to_owned()]));
    let reloads = rig.shared.get::<Reloads>();
    let report = reloads.reload().await;
    assert_eq!(
        (report.outcome, &report.errors[..]),
        (ReloadOutcome::Refused, &["line 3 is wrong".to_owned()][..])
    );
    assert_eq!(rig.end().await, RunReport::default());
    let report = reloads.reload().await;
    assert_eq!(report.errors, ["weir is shutting down"]);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_reloads_leave_nothing_behind() {
    let starts = Starts::default();
    let state = |n: usize| {
        let filters =
            if n.is_multiple_of(2) { no_filters() } else { json!([{"type": "sample", "one_in": 1}]) };
        let http = json!([{"type": "http"}]);
        let mut all = vec![pipeline("a", 1.0 + (n % 3) as f64, filters, null())];
        if n % 2 == 1 {
            all.push(pipeline("b", 1.0, no_filters(), http));
        }
        let mut plan = plan_of(json!(all), &Act::Take, &starts);
        // The real sink mounts a stream.
        if let Some(b) = plan.pipelines.get_mut(1) {
            let config = json!({"server": {"enabled": false}, "pipelines": [pipeline("b", 1.0, no_filters(), json!([{"type": "http"}]))]});
            b.sinks[0].sink.make = planned(&config).ok().unwrap().pipelines[0].sinks[0].sink.make.clone();
        }
        plan
    };
    let rig = Rig::start(state(0)).await;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    rig.reload(state(1)).await;
    rig.reload(state(2)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let tasks = alive();
    for n in 3..=102 {
        let report = rig.reload(state(n)).await;
        assert!(report.is_ok(), "{n}: {report:?}");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(alive() <= tasks, "{} tasks, {tasks} before", alive());
    assert_eq!(rig.ids(), ["a.source.0.generate", "a.sink.0.null"]);
    let router = rig.shared.get::<crate::net::Router>();
    assert!(router.streams().is_empty() && router.held_bytes() == 0);
    assert_eq!(rig.end().await, RunReport::default());
}
