//! Disk buffers whose sink ends, loses rows further on, or gets nothing done: with the real engine, its reloads and
//! its end, on stopped clocks. What is on disk goes to whoever comes next, and holds nobody up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::tests::{planned, services};
use super::*;
use crate::base::clock;
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::batch::Batch;
use crate::flow::{Board, Fault, Inlet, MeterSnapshot, Outlet, Shared, Sink, Source, State, TaskCx};

/// Sends a row every millisecond until it is told to end.
struct Ticking;

#[async_trait]
impl Source for Ticking {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        cx.ready();
        while !cx.shutdown.is_draining() {
            out.send(Batch::from_lines("t", ["x"])).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// Takes all rows at once.
    Take,
    /// Takes one batch, and fails for good with the second in hand.
    Fail,
    /// Holds what it gets, and is otherwise fine.
    Hoard,
    /// The same, and says that what it tries fails.
    Try,
    /// The same, as one that waits for its next start.
    Restart,
    /// Fails time and again, and gets a batch out every second.
    Struggle,
}

struct Actor(Act);

#[async_trait]
impl Sink for Actor {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        cx.ready();
        let mut held = Vec::new();
        while let Some(lease) = inlet.recv().await {
            match self.0 {
                Act::Take => lease.delivered(),
                Act::Fail if held.is_empty() => held.push(lease.batch().events()),
                Act::Fail => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    return Err(Fault::fatal("no such receiver"));
                }
                Act::Struggle => {
                    cx.health.set_failing(true);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    lease.delivered();
                }
                Act::Hoard | Act::Try | Act::Restart => {
                    match self.0 {
                        Act::Try => cx.health.set_failing(true),
                        Act::Restart => cx.health.set(State::Restarting { why: "away".into() }),
                        _ => {}
                    }
                    inlet.released().await;
                }
            }
        }
        Ok(())
    }
}

/// Runs `test` on a thread of its own with stopped clocks, where the buffer's thread is a task, too.
pub(super) fn simulated<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let run = move || {
        task::simulate();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(test());
    };
    std::thread::spawn(run).join().unwrap();
}

type Plans = Arc<Mutex<VecDeque<Result<Plan, Vec<String>>>>>;

pub(super) struct Rig {
    pub(super) shared: Arc<Shared>,
    shutdown: Shutdown,
    next: Plans,
    run: tokio::task::JoinHandle<Result<RunReport, StartError>>,
    /// Removed when the test ends.
    pub(super) state: tempfile::TempDir,
}

impl Rig {
    pub(super) async fn start(plan: Plan) -> Rig {
        let (shared, shutdown) = (Arc::new(Shared::default()), Shutdown::new());
        let (next, state) = (Plans::default(), tempfile::tempdir().unwrap());
        let plans = next.clone();
        let mut services = services(&shared);
        services.state_dir = state.path().into();
        services.load = Some(Arc::new(move || plans.lock().unwrap().pop_front().unwrap()));
        let run = task::spawn(run(plan, services, shutdown.clone(), |_| {}));
        tokio::time::sleep(Duration::from_millis(500)).await;
        Rig { shared, shutdown, next, run, state }
    }

    pub(super) async fn try_reload(&self, plan: Plan) -> Arc<ReloadReport> {
        self.next.lock().unwrap().push_back(Ok(plan));
        self.shared.get::<Reloads>().reload().await
    }

    pub(super) async fn reload(&self, plan: Plan) {
        let report = self.try_reload(plan).await;
        assert_eq!(report.outcome, ReloadOutcome::Applied, "{report:?}");
    }

    pub(super) fn counts(&self, id: &str) -> MeterSnapshot {
        let board = self.shared.get::<Board>().pipelines();
        let mut all = board.iter().flat_map(|p| &p.components);
        all.find(|c| c.site.id() == id).unwrap_or_else(|| panic!("no {id}")).meter.snapshot()
    }

    /// An orderly end, how long it took, and the counts of the sink `id`.
    pub(super) async fn end(self, id: &str) -> (RunReport, Duration, MeterSnapshot) {
        let asked = clock::now();
        self.shutdown.drain();
        let Rig { shared, run, .. } = self;
        let report = run.await.unwrap().unwrap();
        let board = shared.get::<Board>().pipelines();
        for component in board.iter().flat_map(|p| &p.components) {
            let counts = component.meter.snapshot();
            assert!(counts.balances(), "{}: {counts:?}", component.site.id());
        }
        let sink = board.iter().flat_map(|p| &p.components).find(|c| c.site.id() == id);
        (report, asked.elapsed(), sink.unwrap().meter.snapshot())
    }
}

fn plan_of(pipelines: Value, act: Act) -> Plan {
    let config = json!({"server": {"enabled": false}, "shutdown_timeout": "20s", "pipelines": pipelines});
    let mut plan = planned(&config).unwrap_or_else(|e| panic!("{e:?}"));
    for pipeline in &mut plan.pipelines {
        for source in pipeline.sources.iter_mut().filter(|s| s.site.type_name == "generate") {
            source.make = Arc::new(|| Box::new(Ticking));
        }
        for sink in pipeline.sinks.iter_mut().filter(|s| s.sink.site.type_name == "tcp") {
            sink.sink.make = Arc::new(move || Box::new(Actor(act)));
        }
    }
    plan
}

/// One pipeline with a sink that acts, on a port that tells one configuration from the next.
pub(super) fn one(act: Act, port: u16, buffer: &str) -> Plan {
    let sink = json!({"type": "tcp", "listen": format!("127.0.0.1:{port}"), "buffer": {"type": buffer, "when_full": "block"}});
    plan_of(json!([{"name": "a", "sources": [{"type": "generate"}], "sinks": [sink]}]), act)
}

pub(super) const SINK: &str = "a.sink.0.tcp";

#[test]
fn a_sink_that_failed_for_good_is_followed_by_one_that_gets_all_its_rows() {
    simulated(|| async {
        let rig = Rig::start(one(Act::Fail, 1001, "disk")).await;
        let waiting = rig.counts(SINK);
        assert!(waiting.stored_events > 300 && waiting.delivered_events == 0, "{waiting:?}");
        // Once more, so that a successor can fail, too.
        rig.reload(one(Act::Fail, 1002, "disk")).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(rig.counts(SINK).delivered_events, 0);
        rig.reload(one(Act::Take, 1003, "disk")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let after = rig.counts(SINK);
        assert!(after.delivered_events >= waiting.stored_events && after.balances(), "{after:?}");
        let (report, _, counts) = rig.end(SINK).await;
        assert_eq!(report, RunReport::default());
        assert_eq!(counts.delivered_events, counts.received_events, "each once");
    });
}

#[test]
fn what_a_pipeline_that_is_removed_had_not_delivered_goes_to_the_one_in_its_place() {
    simulated(|| async {
        let plan = |to: &str, act| {
            let sink = json!({"type": "pipeline", "name": to, "buffer": {"type": "disk"}});
            let taker = json!({"type": "tcp", "listen": "127.0.0.1:1001"});
            plan_of(
                json!([
                    {"name": "a", "sources": [{"type": "generate"}], "sinks": [sink]},
                    {"name": to, "sources": [{"type": "pipeline"}], "sinks": [taker]},
                ]),
                act,
            )
        };
        let rig = Rig::start(plan("d", Act::Hoard)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let held = rig.counts("a.sink.0.pipeline");
        assert!(held.queued_events > 500 && held.delivered_events == 0, "{held:?}");
        rig.reload(plan("e", Act::Take)).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = rig.counts("a.sink.0.pipeline");
        assert!(after.balances() && after.delivered_events >= held.queued_events, "{after:?}");
        let arrived = rig.counts("e.sink.0.tcp").delivered_events;
        assert!(arrived >= held.queued_events, "{arrived}");
        let (report, _, counts) = rig.end("a.sink.0.pipeline").await;
        assert_eq!((report.kept_events, report.undelivered_events), (0, 0), "{report:?}");
        assert_eq!(counts.delivered_events, counts.received_events, "each once");
    });
}

#[test]
fn the_end_does_not_wait_for_a_sink_that_fails_when_all_is_on_disk() {
    for act in [Act::Try, Act::Restart] {
        simulated(move || async move {
            let rig = Rig::start(one(act, 1001, "disk")).await;
            let (report, took, counts) = rig.end(SINK).await;
            assert!(took < Duration::from_secs(4), "{act:?}: {took:?} {report:?}");
            assert!(!report.forced && report.undelivered_events == 0, "{report:?}");
            assert!(report.kept_events > 400 && counts.stored_events == report.kept_events, "{report:?}");
        });
    }
}

#[test]
fn a_reload_gives_a_failing_sink_all_its_time_since_no_run_comes_back_to_its_rows() {
    simulated(|| async {
        let rig = Rig::start(one(Act::Try, 1001, "disk")).await;
        let before = clock::now();
        rig.reload(plan_of(json!([{"name": "b", "sources": [{"type": "generate"}], "sinks": [{"type": "tcp", "listen": "127.0.0.1:1002"}]}]), Act::Take)).await;
        assert!(before.elapsed() >= Duration::from_secs(19), "{:?}", before.elapsed());
    });
}

#[test]
fn the_end_waits_for_a_sink_that_may_deliver_and_for_rows_in_memory() {
    // What is slow may be about to succeed, and memory is all there is of the others.
    for (act, buffer) in [(Act::Hoard, "disk"), (Act::Try, "memory")] {
        simulated(move || async move {
            let rig = Rig::start(one(act, 1001, buffer)).await;
            let (report, took, _) = rig.end(SINK).await;
            assert!(report.forced && took >= Duration::from_secs(20), "{act:?}: {report:?} {took:?}");
            assert_eq!(report.undelivered_events > 0, buffer == "memory", "{report:?}");
        });
    }
    // One that gets something out has its time, however often it fails in between.
    simulated(|| async {
        let rig = Rig::start(one(Act::Struggle, 1001, "disk")).await;
        let before = rig.counts(SINK).delivered_events;
        let (report, took, counts) = rig.end(SINK).await;
        assert!(took >= Duration::from_secs(19), "{took:?}");
        assert!(report.kept_events > 0 && counts.delivered_events >= before + 15, "{report:?} {counts:?}");
    });
}
