//! Keeps one component running: starts it, catches its faults and panics, starts a fresh one after a backoff, and
//! ends it when shutdown says so. A component's end never takes another down.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::plan::Planned;
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

/// The same reason for another start is logged once in this time.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(60);

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

/// Who tells the operator that a component failed before it was ever ready: while this is set, whoever ordered the
/// start, and it would be said twice otherwise. What fails meanwhile may be undone.
pub(super) type Starting = Arc<watch::Sender<bool>>;

/// The restart policy of one component.
struct Supervisor<'a> {
    cx: &'a TaskCx,
    backoff: Backoff,
    starting: Starting,
    /// Cancelled when another component takes the sink's queue over.
    release: CancellationToken,
    /// Whether it was ever at work.
    was_ready: bool,
    /// What was logged last, and when.
    said: Option<(String, clock::Instant)>,
}

impl Supervisor<'_> {
    fn new(cx: &TaskCx, starting: Starting, release: CancellationToken) -> Supervisor<'_> {
        let backoff = Backoff::new(BACKOFF_INITIAL, BACKOFF_MAX, Rng::from_entropy());
        Supervisor { cx, backoff, starting, release, was_ready: false, said: None }
    }

    /// Down for good.
    fn failed(&self, why: String) -> Next {
        if self.was_ready || !*self.starting.borrow() {
            tracing::error!(component = %self.cx.site.id(), "failed for good: {}", one_line(&why));
        }
        self.cx.meter.error();
        self.cx.health.set(State::Failed { why });
        Next::Failed
    }

    /// Waits while a reload that is not decided may give the buffer of a failed sink, and all that waits there, back to
    /// the sink before it.
    async fn undone_or_not(&self, inlet: &Inlet) {
        let mut starting = self.starting.subscribe();
        tokio::select! {
            // The sender is held by this very supervisor.
            decided = starting.wait_for(|starting| !starting) => drop(decided),
            () = self.release.cancelled() => {}
            () = inlet.closed() => {}
            () = self.cx.shutdown.aborted() => {}
        }
    }

    /// Says why it starts again: the same reason once a minute only.
    fn say(&mut self, why: &str, pause: Duration) {
        let now = clock::now();
        let known = |(last, at): &(String, clock::Instant)| last == why && now - *at < SAY_AGAIN_AFTER;
        if self.said.as_ref().is_some_and(known) {
            return;
        }
        self.said = Some((why.to_owned(), now));
        tracing::error!(component = %self.cx.site.id(), "{}; starting again in {pause:.1?}", one_line(why));
    }

    /// Runs one start and waits out the pause before the next, if there is to be one. Once
    /// shutdown has begun a source is not started again (`stop_when_draining`); a sink is, at once.
    async fn once(&mut self, run: impl Future<Output = Result<(), Fault>>, stop_when_draining: bool) -> Next {
        let started = clock::now();
        let ended = guarded(run, self.cx).await;
        self.was_ready |= self.cx.health.state() == State::Ready;
        let (why, after) = match ended {
            Ended::Ok => return Next::Finished,
            Ended::Aborted => return Next::Aborted,
            Ended::Fault(Fault::Fatal { why }) => return self.failed(why),
            Ended::Fault(Fault::Unavailable { why }) if !self.was_ready => return self.failed(why),
            Ended::Fault(Fault::Unavailable { why }) => (why, None),
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
        self.say(&why, pause);
        self.cx.meter.error();
        self.cx.health.set(State::Restarting { why });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.cx.shutdown.aborted() => return Next::Aborted,
            () = self.release.cancelled() => return Next::Finished,
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

async fn supervise_source(make: SourceFactory, out: Outlet, cx: TaskCx, starting: Starting) {
    let mut supervisor = Supervisor::new(&cx, starting, CancellationToken::new());
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
async fn supervise_sink(make: SinkFactory, mut inlet: Inlet, cx: TaskCx, starting: Starting, keeps: bool) {
    let mut supervisor = Supervisor::new(&cx, starting, inlet.release_token());
    loop {
        let mut sink = make();
        let next = supervisor.once(sink.run(&mut inlet, &cx), false).await;
        drop(sink);
        match next {
            Next::Again => {}
            Next::Failed => {
                supervisor.undone_or_not(&inlet).await;
                if keeps || inlet.is_released() {
                    return;
                }
                return refuse(&mut inlet, &cx).await;
            }
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
pub(super) fn start_source(
    planned: &Planned<SourceFactory>,
    out: Outlet,
    cx: TaskCx,
    starting: Starting,
) -> Running {
    let run = supervise_source(planned.make.clone(), out, cx.clone(), starting);
    place(planned.placement, planned.site.type_name, cx, run)
}

/// Starts a sink where it belongs.
pub(super) fn start_sink(
    planned: &Planned<SinkFactory>,
    inlet: Inlet,
    cx: TaskCx,
    starting: Starting,
    keeps: bool,
) -> Running {
    let run = supervise_sink(planned.make.clone(), inlet, cx.clone(), starting, keeps);
    place(planned.placement, planned.site.type_name, cx, run)
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
