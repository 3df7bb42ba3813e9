//! Keeps one component running: starts it, catches its faults and panics, starts a fresh one after a backoff, and
//! ends it when shutdown says so. A component's end never takes another down.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::buffers;
use super::wire::Wired;
use crate::base::backoff::Backoff;
use crate::base::clock;
use crate::base::rng::Rng;
use crate::base::task::{self, panic_text};
use crate::flow::{
    Fault, Inlet, Meter, Outlet, Placement, Reason, SinkFactory, SourceFactory, State, TaskCx,
};

const BACKOFF_INITIAL: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The longest pause once shutdown has begun: its deadline is short, and the sink's buffer may be full.
const BACKOFF_DRAINING_MAX: Duration = Duration::from_secs(1);
/// A component that ran this long starts its backoff anew.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// How one start of a component ended.
enum Ended {
    Ok,
    Fault(Fault),
    Panic(String),
    Aborted,
}

async fn guarded(run: impl Future<Output = Result<(), Fault>>, cx: &TaskCx) -> Ended {
    let outcome = AssertUnwindSafe(async {
        tokio::select! {
            biased;
            () = cx.shutdown.aborted() => Ended::Aborted,
            done = run => done.map_or_else(Ended::Fault, |()| Ended::Ok),
        }
    });
    outcome.catch_unwind().await.unwrap_or_else(|payload| Ended::Panic(panic_text(payload.as_ref())))
}

/// What to do after a start ended.
enum Next {
    Finished,
    Failed,
    Again,
    Aborted,
}

/// The restart policy of one component.
struct Supervisor<'a> {
    cx: &'a TaskCx,
    backoff: Backoff,
}

impl Supervisor<'_> {
    fn new(cx: &TaskCx) -> Supervisor<'_> {
        Supervisor { cx, backoff: Backoff::new(BACKOFF_INITIAL, BACKOFF_MAX, Rng::from_entropy()) }
    }

    /// Runs one start and waits out the pause before the next, if there is to be one. Once
    /// shutdown has begun a source is not started again (`stop_when_draining`); a sink is, at once.
    async fn once(&mut self, run: impl Future<Output = Result<(), Fault>>, stop_when_draining: bool) -> Next {
        let started = clock::now();
        let (why, after) = match guarded(run, self.cx).await {
            Ended::Ok => return Next::Finished,
            Ended::Aborted => return Next::Aborted,
            Ended::Fault(Fault::Fatal { why }) => {
                tracing::error!(component = %self.cx.site.id(), "failed for good: {}", one_line(&why));
                self.cx.meter.error();
                self.cx.health.set(State::Failed { why });
                return Next::Failed;
            }
            Ended::Fault(Fault::Retry { why, after }) => (why, after),
            Ended::Panic(why) => (format!("bug in the component: {why}"), None),
        };
        if started.elapsed() > SETTLED_AFTER {
            self.backoff.reset();
        }
        let draining = self.cx.shutdown.is_draining();
        let mut pause = self.backoff.next_delay().max(after.unwrap_or_default());
        if draining {
            pause = pause.min(BACKOFF_DRAINING_MAX);
        }
        tracing::error!(component = %self.cx.site.id(), "{}; starting again in {pause:.1?}", one_line(&why));
        self.cx.meter.error();
        self.cx.health.set(State::Restarting { why });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.cx.shutdown.aborted() => return Next::Aborted,
            () = self.cx.shutdown.draining(), if stop_when_draining || !draining => {
                if stop_when_draining {
                    return Next::Finished;
                }
            }
        }
        self.cx.meter.restarted();
        Next::Again
    }
}

/// A fault with its hint, as one line of the log.
fn one_line(why: &str) -> String {
    why.replace("\nhint: ", " (hint: ").replace('\n', "; ") + if why.contains("\nhint: ") { ")" } else { "" }
}

async fn supervise_source(make: SourceFactory, out: Outlet, cx: TaskCx) {
    let mut supervisor = Supervisor::new(&cx);
    loop {
        let mut source = make();
        match supervisor.once(source.run(&out, &cx), true).await {
            Next::Again => {}
            Next::Failed => return,
            Next::Finished | Next::Aborted => return cx.health.set(State::Finished),
        }
    }
}

/// `keeps`: what the sink does not take stays in its buffer for the next run.
async fn supervise_sink(make: SinkFactory, mut inlet: Inlet, cx: TaskCx, keeps: bool) {
    let mut supervisor = Supervisor::new(&cx);
    loop {
        let mut sink = make();
        let next = supervisor.once(sink.run(&mut inlet, &cx), false).await;
        drop(sink);
        match next {
            Next::Again => {}
            Next::Failed if keeps => return,
            Next::Failed => return refuse(&mut inlet, &cx).await,
            Next::Aborted => return cx.health.set(State::Finished),
            Next::Finished => {
                cx.health.set(State::Finished);
                if keeps {
                    return;
                }
                return refuse(&mut inlet, &cx).await;
            }
        }
    }
}

/// A sink that has ended takes nothing more: what still comes is counted as rejected, and stalls nobody.
async fn refuse(inlet: &mut Inlet, cx: &TaskCx) {
    loop {
        tokio::select! {
            lease = inlet.recv() => match lease {
                Some(lease) => lease.dropped(Reason::Rejected),
                None => return,
            },
            () = cx.shutdown.aborted() => return,
        }
    }
}

/// A running component: resolves when it has ended.
pub(super) type Running = futures_util::future::BoxFuture<'static, ()>;

/// Starts a source where it belongs.
pub(super) fn start_source(wired: Wired<SourceFactory, Outlet>, cx: TaskCx) -> Running {
    let name = wired.planned.site.type_name;
    place(wired.planned.placement, name, cx.clone(), supervise_source(wired.planned.make, wired.end, cx))
}

/// Starts a sink where it belongs.
pub(super) fn start_sink(mut wired: Wired<SinkFactory, Inlet>, cx: TaskCx) -> Running {
    let name = wired.planned.site.type_name;
    let disk = wired.disk.take();
    let keeps = disk.is_some();
    let outer = cx.clone();
    let start = move || {
        let supervised = supervise_sink(wired.planned.make, wired.end, cx.clone(), keeps);
        place(wired.planned.placement, name, cx, supervised)
    };
    match disk {
        Some(disk) => buffers::start_behind(disk, outer, start),
        None => start(),
    }
}

fn place(
    placement: Placement,
    name: &str,
    cx: TaskCx,
    future: impl Future<Output = ()> + Send + 'static,
) -> Running {
    match placement {
        Placement::Task => {
            let handle = task::spawn(future);
            async move {
                if let Err(e) = handle.await {
                    fallen(&cx, &cx.meter, &e.to_string());
                }
            }
            .boxed()
        }
        Placement::Thread => match task::spawn_thread(name, future) {
            Ok(done) => async move {
                if done.await.is_err() {
                    fallen(&cx, &cx.meter, "its thread ended without a word");
                }
            }
            .boxed(),
            Err(e) => {
                fallen(&cx, &cx.meter, &format!("no thread for it: {e}"));
                futures_util::future::ready(()).boxed()
            }
        },
    }
}

/// The supervisor itself failed: a bug, or a machine out of threads.
fn fallen(cx: &TaskCx, meter: &Arc<Meter>, why: &str) {
    tracing::error!(component = %cx.site.id(), "supervision failed: {why}");
    meter.error();
    cx.health.set(State::Failed { why: why.to_owned() });
}
