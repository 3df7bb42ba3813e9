//! Starts and ends that go wrong: sinks that fail, hang, or come back at the last moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::tests::{planned, services};
use super::*;
use crate::base::shutdown::Shutdown;
use crate::base::{clock, task};
use crate::flow::{Board, Fault, Inlet, Outlet, Shared, Sink, Source, TaskCx};

#[derive(Clone, Copy)]
enum Act {
    Fail,
    Hang,
    Hoard,
    FailOnce,
}

struct Actor(Act, Arc<AtomicU32>);

#[async_trait]
impl Sink for Actor {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        match self.0 {
            Act::Fail => return Err(Fault::fatal("no such thing")),
            Act::Hang => std::future::pending::<()>().await,
            Act::Hoard => {
                cx.ready();
                // As a thread would that is stuck in a system call.
                std::mem::forget(inlet.recv().await);
                std::future::pending::<()>().await;
            }
            Act::FailOnce if self.1.fetch_add(1, Ordering::Relaxed) == 0 => {
                return Err(Fault::Retry { why: "away".into(), after: Some(Duration::from_secs(60)) });
            }
            Act::FailOnce => cx.ready(),
        }
        while let Some(lease) = inlet.recv().await {
            lease.delivered();
        }
        Ok(())
    }
}

struct Watched(Arc<AtomicBool>);

#[async_trait]
impl Source for Watched {
    async fn run(&mut self, _: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        self.0.store(true, Ordering::Relaxed);
        cx.ready();
        Ok(())
    }
}

/// Is at work for a moment, then fails for good.
struct Mortal;

#[async_trait]
impl Source for Mortal {
    async fn run(&mut self, _: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        cx.ready();
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(Fault::fatal("the disk is gone"))
    }
}

fn plan_with(act: Act) -> Plan {
    let config = json!({
        "server": {"enabled": false},
        "shutdown_timeout": "300ms",
        "pipelines": [{
            "name": "a",
            "sources": [{"type": "generate", "events_per_second": 0.0, "count": 10}],
            "sinks": [{"type": "null"}],
        }],
    });
    let mut plan = planned(&config).ok().unwrap();
    let starts = Arc::new(AtomicU32::new(0));
    plan.pipelines[0].sinks[0].sink.make = Arc::new(move || Box::new(Actor(act, starts.clone())));
    plan
}

/// Runs the plan, drains after `drain_after`; the report and how long it took.
async fn run_and_drain(plan: Plan, drain_after: Duration) -> (RunReport, Duration, Arc<Shared>) {
    let (shared, shutdown, begun) = (Arc::new(Shared::default()), Shutdown::new(), clock::now());
    let stop = shutdown.clone();
    task::spawn(async move {
        tokio::time::sleep(drain_after).await;
        stop.drain();
    });
    let report = run(plan, services(&shared), shutdown, |_| {}).await.unwrap();
    (report, begun.elapsed(), shared)
}

#[tokio::test]
async fn no_source_starts_when_a_sink_cannot() {
    let mut plan = plan_with(Act::Fail);
    let read = Arc::new(AtomicBool::new(false));
    let seen = read.clone();
    plan.pipelines[0].sources[0].make = Arc::new(move || Box::new(Watched(seen.clone())));
    let shared = Arc::new(Shared::default());
    let error = run(plan, services(&shared), Shutdown::new(), |_| {}).await.unwrap_err();
    assert!(error.message.contains("no such thing"), "{}", error.message);
    assert!(!read.load(Ordering::Relaxed), "rows were read that nobody could take");
}

#[tokio::test]
async fn a_run_that_ends_because_its_source_failed_says_so() {
    let mut plan = plan_with(Act::FailOnce);
    plan.pipelines[0].sinks[0].sink.make = Arc::new(|| Box::new(Actor(Act::FailOnce, Arc::new(1.into()))));
    plan.pipelines[0].sources[0].make = Arc::new(|| Box::new(Mortal));
    let shared = Arc::new(Shared::default());
    let report = run(plan, services(&shared), Shutdown::new(), |_| {}).await.unwrap();
    assert_eq!(report.failed, ["a.source.0.generate: the disk is gone"]);
}

#[tokio::test]
async fn a_sink_in_its_backoff_gets_one_more_chance_at_the_end() {
    let (report, _, shared) = run_and_drain(plan_with(Act::FailOnce), Duration::from_millis(100)).await;
    assert_eq!(report, RunReport::default());
    let pipeline = shared.get::<Board>().pipeline("a").unwrap();
    assert_eq!(pipeline.components.last().unwrap().meter.snapshot().delivered_events, 10);
}

#[tokio::test]
async fn what_a_stuck_sink_holds_is_undelivered() {
    let (report, ..) = run_and_drain(plan_with(Act::Hoard), Duration::from_millis(100)).await;
    assert_eq!((report.forced, report.undelivered_events), (true, 10));
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_start_that_hangs() {
    let (report, took, _) = run_and_drain(plan_with(Act::Hang), Duration::from_millis(50)).await;
    assert!(report.forced && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn the_server_serves_while_pipelines_run() {
    let config = json!({
        "server": {"listen": "127.0.0.1:0"},
        "pipelines": [{
            "name": "a",
            "sources": [{"type": "generate", "events_per_second": 10.0}],
            "sinks": [{"type": "null"}],
        }],
    });
    let (shared, shutdown) = (Arc::new(Shared::default()), Shutdown::new());
    let stop = shutdown.clone();
    let mut services = services(&shared);
    services.serve = Box::new(move |_, ended| {
        Box::pin(async move {
            stop.drain();
            ended.draining().await;
        })
    });
    let run = run(planned(&config).ok().unwrap(), services, shutdown, |_| {});
    let report = tokio::time::timeout(Duration::from_secs(5), run).await.expect("the server was polled");
    assert_eq!(report.unwrap(), RunReport::default());
}
