//! Start and end of a whole plan. Start: listener, sinks, sources, each ready before the next. End, in the order
//! of the flow: sources stop, chains finish, sinks empty their buffers, streams say goodbye; what is left at the
//! deadline is dropped and counted.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::plan::Plan;
use super::supervise::{self, Running};
use super::wire::{WiredPipeline, wire};
use crate::base::clock;
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::flow::{Board, Health, Intake, MeterSnapshot, PipelineEntry, Reason, Shared, State, TaskCx};
use crate::net::entrance::BindError;
use crate::net::{Entrance, EntranceConfig};

/// How often filters that hold rows are asked to let go.
const TICK: Duration = Duration::from_millis(100);
/// How long the start waits for components that are slow to bind or open before it goes on without them.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// How long the shared server may take to say goodbye to its clients: at least, even after the deadline, and at most.
const FAREWELL_MIN: Duration = Duration::from_millis(200);
const FAREWELL_MAX: Duration = Duration::from_secs(3);

/// What a run is given from outside.
pub struct Services {
    /// What components share; its board and router are read by the HTTP API.
    pub shared: Arc<Shared>,
    /// Where state survives restarts.
    pub state_dir: Arc<Path>,
    /// Serves the shared HTTP listener until shutdown, as a task of its own; given by the layer above, which knows the API.
    pub serve: Box<dyn FnOnce(Entrance, Shutdown) -> Running + Send>,
}

/// What is known once everything is started.
#[derive(Debug, Clone)]
pub struct Started {
    /// Where the shared router listens.
    pub server: Option<SocketAddr>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The pipelines' names, in the order of the config.
    pub pipelines: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunReport {
    /// The deadline passed, or a second signal came, before everything was delivered.
    pub forced: bool,
    /// Events dropped because of that.
    pub undelivered_events: u64,
    /// Events that stay in disk buffers and are delivered by the next run.
    pub kept_events: u64,
    /// Components that were down for good at the end, each with why; a run whose only source failed ends by itself.
    pub failed: Vec<String>,
}

/// Why nothing was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    /// What failed and why.
    pub message: String,
    /// The way out, if there is a usual one.
    pub hint: Option<String>,
    /// The exit code: 69 unavailable, 73 cannot create, 74 I/O.
    pub exit_code: u8,
}

/// Runs a plan until its sources have ended or `shutdown` drains, then empties it.
///
/// # Errors
/// When the shared listener cannot be bound, or a component fails for good before it was ever ready.
pub async fn run(
    plan: Plan,
    services: Services,
    shutdown: Shutdown,
    on_started: impl FnOnce(&Started),
) -> Result<RunReport, StartError> {
    let entrance = match &plan.server {
        Some(server) => Some(bind(server, &services.shared).await?),
        None => None,
    };
    let server = entrance.as_ref().map(Entrance::local_addr);
    let encrypted = entrance.as_ref().is_some_and(Entrance::is_encrypted);
    let timeout = plan.root.shutdown_timeout;
    let fed: Vec<_> = plan.pipelines.iter().map(|p| (p.name.clone(), p.fed_by)).collect();
    for (name, senders) in fed {
        services.shared.get::<crate::flow::Links>().expect(&name, senders);
    }
    let pipelines: Vec<WiredPipeline> = plan.pipelines.into_iter().map(wire).collect();
    let board = services.shared.get::<Board>();
    board.publish(pipelines.iter().map(|p| p.entry.clone()).collect());
    let names = pipelines.iter().map(|p| p.name.to_string()).collect();
    let intakes: Vec<Arc<Intake>> = pipelines.iter().map(|p| p.intake.clone()).collect();

    let (flow, server_stop) = (shutdown.child(), Shutdown::new());
    let mut serving = None;
    // Whoever connects earlier waits in the listener's queue, rather than hear that a stream is not there.
    let serve = || serving = entrance.map(|e| task::spawn((services.serve)(e, server_stop.clone())));
    let running = match start(pipelines, &services.shared, &services.state_dir, &board, &flow, serve).await {
        Ok(running) => running,
        Err(failed) => {
            flow.abort();
            server_stop.abort();
            return Err(failed);
        }
    };
    on_started(&Started { server, encrypted, pipelines: names });

    let all = join_all(running);
    tokio::pin!(all);
    let mut deadline = None;
    let forced = tokio::select! {
        _ = &mut all => false,
        () = shutdown.draining() => {
            let end = *deadline.insert(clock::now() + timeout);
            tokio::select! {
                _ = &mut all => false,
                () = tokio::time::sleep_until(end) => true,
                () = shutdown.aborted() => true,
            }
        }
    };
    if forced {
        flow.abort();
        intakes.iter().flat_map(|i| i.branches()).for_each(|b| b.queue.abort());
        // Aborted futures are dropped at their next await; a thread stuck in a system call is left behind.
        tokio::time::timeout(Duration::from_millis(500), &mut all).await.ok();
        intakes.iter().flat_map(|i| i.branches()).for_each(|b| b.queue.abort());
    }
    server_stop.drain();
    if let Some(serving) = serving {
        let now = clock::now();
        let end = deadline.unwrap_or(now + timeout).clamp(now + FAREWELL_MIN, now + FAREWELL_MAX);
        let ended = async {
            tokio::select! {
                done = tokio::time::timeout_at(end, serving) => done.is_ok(),
                () = shutdown.aborted(), if !forced => false,
            }
        };
        if !ended.await {
            server_stop.abort();
        }
    }
    Ok(RunReport {
        forced,
        undelivered_events: undelivered(&board),
        kept_events: kept(&board),
        failed: failures(&board).collect(),
    })
}

/// Binds the shared listener.
async fn bind(server: &EntranceConfig, shared: &Arc<Shared>) -> Result<Entrance, StartError> {
    server.bind_as("server", shared).await.map_err(|e| {
        let (message, hint) = match e {
            BindError::Tls(e) => (e.message, Some(e.hint)),
            BindError::Guard(why) => (format!("server.auth: {why}"), None),
            BindError::Address(e) => {
                let said = e.to_string();
                let (message, hint) = said.split_once("; hint: ").unwrap_or((&said, ""));
                let hint = match e.kind() {
                    std::io::ErrorKind::AddrInUse => "another weir may be running; choose another port with --server.listen 127.0.0.1:PORT, or end the other program",
                    _ => hint,
                };
                (message.to_owned(), Some(hint.to_owned()).filter(|hint| !hint.is_empty()))
            }
        };
        StartError { message, hint, exit_code: 69 }
    })
}

/// Starts all sinks, then, when they are ready, the shared server by `serve` and all sources. Each returned future is one pipeline. When a sink fails
/// for good no source is started: rows that nobody can take are not read.
async fn start(
    pipelines: Vec<WiredPipeline>,
    shared: &Arc<Shared>,
    state_dir: &Arc<Path>,
    board: &Board,
    shutdown: &Shutdown,
    serve: impl FnOnce(),
) -> Result<Vec<Running>, StartError> {
    let mut waiting = Vec::new();
    let mut begun = Vec::new();
    for pipeline in pipelines {
        let mut sinks = Vec::new();
        for wired in pipeline.sinks {
            // Sinks end when their buffer is closed and empty, not when sources are told to stop.
            let cx = context(&wired, shared, state_dir, shutdown);
            waiting.push(wired.health.clone());
            sinks.push(supervise::start_sink(wired, cx));
        }
        begun.push((pipeline.intake, pipeline.sources, sinks));
    }
    all_started(std::mem::take(&mut waiting), shutdown).await;
    first_failure(board).map_or(Ok(()), Err)?;
    serve();
    let mut running = Vec::new();
    for (intake, wired_sources, sinks) in begun {
        let mut sources = Vec::new();
        for wired in wired_sources {
            let cx = context(&wired, shared, state_dir, shutdown);
            waiting.push(wired.health.clone());
            sources.push(supervise::start_source(wired, cx));
        }
        let handle = task::spawn(pipeline(intake, sources, sinks, shutdown.clone()));
        running.push(Box::pin(async move { drop(handle.await) }) as Running);
    }
    all_started(waiting, shutdown).await;
    first_failure(board).map_or(Ok(running), Err)
}

fn context<F, E>(
    wired: &super::wire::Wired<F, E>,
    shared: &Arc<Shared>,
    state_dir: &Arc<Path>,
    shutdown: &Shutdown,
) -> TaskCx {
    TaskCx {
        site: wired.planned.site.clone(),
        shutdown: shutdown.clone(),
        meter: wired.meter.clone(),
        shared: shared.clone(),
        state_dir: state_dir.clone(),
        health: wired.health.clone(),
    }
}

/// Waits until all have started, but not beyond [`START_PATIENCE`], nor once shutdown has begun.
async fn all_started(healths: Vec<Arc<Health>>, shutdown: &Shutdown) {
    let started = join_all(healths.iter().map(|h| h.started()));
    tokio::select! {
        done = tokio::time::timeout(START_PATIENCE, started) => drop(done),
        () = shutdown.draining() => {}
    }
}

/// One pipeline from start to end: its sources, then the chain's last words, then its sinks.
async fn pipeline(intake: Arc<Intake>, sources: Vec<Running>, sinks: Vec<Running>, shutdown: Shutdown) {
    let sources = join_all(sources);
    tokio::pin!(sources);
    if intake.ticks() {
        let mut beat = tokio::time::interval(TICK);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = &mut sources => break,
                _ = beat.tick() => intake.tick().await,
            }
        }
    } else {
        sources.await;
    }
    tokio::select! {
        () = intake.finish() => {}
        () = shutdown.aborted() => {}
    }
    join_all(sinks).await;
}

/// A component that failed for good before it was ever ready makes the start fail.
fn first_failure(board: &Board) -> Option<StartError> {
    let said = failures(board).next()?;
    let (message, hint) = match said.split_once("\nhint: ") {
        Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
        None => (said, None),
    };
    Some(StartError { message, hint, exit_code: 69 })
}

/// The components that are down for good, and why.
fn failures(board: &Board) -> impl Iterator<Item = String> {
    board.not_ready().into_iter().filter_map(|c| match c.state {
        State::Failed { why } => Some(format!("{}: {why}", c.component)),
        _ => None,
    })
}

/// What was dropped at the deadline, and what threads that did not come back in time still hold.
fn undelivered(board: &Board) -> u64 {
    let meters = meters(board);
    meters.map(|m| m.dropped(Reason::Aborted) + m.queued_events.saturating_sub(m.stored_events)).sum()
}

/// What is on disk.
fn kept(board: &Board) -> u64 {
    meters(board).map(|m| m.stored_events).sum()
}

fn meters(board: &Board) -> impl Iterator<Item = MeterSnapshot> {
    let pipelines = board.pipelines();
    let of = |p: &PipelineEntry| {
        let components: Vec<_> = p.components.iter().map(|c| c.meter.snapshot()).collect();
        components.into_iter().chain([p.meter.snapshot()])
    };
    pipelines.iter().flat_map(of).collect::<Vec<_>>().into_iter()
}
