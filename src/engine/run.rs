//! A whole process from start to end. Start: listener, sinks, sources, each ready before the next. In between:
//! reloads. End, in the order of the flow: sources stop, chains finish, sinks empty their buffers, streams say
//! goodbye; what is left at the deadline is dropped and counted.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use super::live::{Ground, Live};
use super::memory;
use super::plan::Plan;
use super::reload::{self, Engine};
use super::requests::{Loader, Reloads};
use super::supervise::Running;
use super::watchdog;
use crate::base::clock;
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::flow::{Board, Health, Memory, MeterSnapshot, PipelineEntry, Reason, Shared, Site, State};
use crate::net::entrance::BindError;
use crate::net::{Entrance, EntranceConfig};
use crate::tail::CheckpointNames;

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
    /// Reads the configuration anew; without it, reloads are refused.
    pub load: Option<Loader>,
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
    let (board, reloads) = (services.shared.get::<Board>(), services.shared.get::<Reloads>());
    if services.load.is_some() {
        // What is asked for during the start is done after it.
        reloads.open();
    }
    let flow = shutdown.child();
    let starting = Arc::new(watch::Sender::new(true));
    let ground = Ground { shared: services.shared, state_dir: services.state_dir, flow, starting };
    let Plan { root, written, pipelines, .. } = plan;
    let names = super::claims::checkpoints(pipelines.iter());
    ground.shared.get::<CheckpointNames>().set(names);
    let mut lives: Vec<Live> = pipelines.into_iter().map(|plan| Live::wire(plan, &ground)).collect();
    board.publish(lives.iter().map(Live::entry).collect());
    let names = lives.iter().map(|live| live.plan.name.to_string()).collect();

    let server_stop = Shutdown::new();
    let mut serving = None;
    // Whoever connects earlier waits in the listener's queue, rather than hear that a stream is not there.
    let serve = || serving = entrance.map(|e| task::spawn((services.serve)(e, server_stop.clone())));
    if let Err(failed) = start(&mut lives, &ground, serve).await {
        reloads.close();
        ground.flow.abort();
        server_stop.abort();
        return Err(failed);
    }
    ground.starting.send_replace(false);
    on_started(&Started { server, encrypted, pipelines: names });

    ground.shared.get::<Memory>().set_max(memory::bound(&root));
    let beside =
        [task::spawn(memory::watch(ground.shared.clone())), task::spawn(watchdog::watch(board.clone()))];
    let mut engine = Engine { lives, root, written, ground };
    // The configuration may be another than that of the last run.
    let unowned = super::reload::unowned(&engine);
    drop(task::spawn(async move { unowned.await.iter().for_each(|note| tracing::warn!("{note}")) }));
    let ended = drive(&mut engine, services.load, &shutdown, &board).await;
    beside.iter().for_each(tokio::task::JoinHandle::abort);
    server_stop.drain();
    if let Some(serving) = serving
        && !farewell(serving, &ended, engine.root.shutdown_timeout, &shutdown).await
    {
        server_stop.abort();
    }
    Ok(RunReport {
        forced: ended.forced,
        undelivered_events: undelivered(&board),
        kept_events: kept(&board),
        failed: failures(&board).collect(),
    })
}

/// How the pipelines ended.
struct Ended {
    forced: bool,
    /// By when they had to, if they were told to.
    deadline: Option<clock::Instant>,
}

/// Lets the server say goodbye to those who are connected; false if the time for it, or a second signal, came first.
async fn farewell(
    serving: tokio::task::JoinHandle<()>,
    ended: &Ended,
    timeout: Duration,
    shutdown: &Shutdown,
) -> bool {
    let now = clock::now();
    let end = ended.deadline.unwrap_or(now + timeout).clamp(now + FAREWELL_MIN, now + FAREWELL_MAX);
    tokio::select! {
        done = tokio::time::timeout_at(end, serving) => done.is_ok(),
        () = shutdown.aborted(), if !ended.forced => false,
    }
}

/// Keeps the pipelines going, reloads when asked, and ends them when told.
async fn drive(engine: &mut Engine, load: Option<Loader>, shutdown: &Shutdown, board: &Arc<Board>) -> Ended {
    let reloads = engine.ground.shared.get::<Reloads>();
    loop {
        let over: Vec<_> = engine.lives.iter().map(|live| live.over.clone()).collect();
        tokio::select! {
            _ = join_all(over.iter().map(|over| over.cancelled())) => {
                reloads.close();
                return Ended { forced: false, deadline: None };
            }
            () = shutdown.draining() => break,
            answers = reloads.next() => {
                let report = Arc::new(reload::reload(engine, load.as_ref(), board).await);
                report.log();
                reloads.done(&report);
                for answer in answers {
                    // Who asked may have gone away.
                    answer.send(report.clone()).ok();
                }
            }
        }
    }
    reloads.close();
    let deadline = clock::now() + engine.root.shutdown_timeout;
    let all = || join_all(engine.lives.iter().map(|live| live.over.cancelled()));
    let forced = tokio::select! {
        _ = all() => false,
        () = tokio::time::sleep_until(deadline) => true,
        () = shutdown.aborted() => true,
    };
    if forced {
        let abort_queues = || engine.lives.iter().flat_map(|l| &l.sinks).for_each(|s| s.buffer.front.abort());
        engine.ground.flow.abort();
        abort_queues();
        // Aborted futures are dropped at their next await; a thread stuck in a system call is left behind.
        tokio::time::timeout(Duration::from_millis(500), all()).await.ok();
        abort_queues();
    }
    Ended { forced, deadline: Some(deadline) }
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

/// Starts all sinks, then, when they are ready, the shared server by `serve` and all sources. When a sink fails for
/// good no source is started: rows that nobody can take are not read.
async fn start(lives: &mut [Live], ground: &Ground, serve: impl FnOnce()) -> Result<(), StartError> {
    let mut waiting = Vec::new();
    for live in &mut *lives {
        for i in 0..live.sinks.len() {
            live.start_sink(i, ground);
            waiting.push((live.sinks[i].planned.sink.site.clone(), live.sinks[i].health.clone()));
        }
    }
    started(waiting.iter().map(|(_, health)| health), &ground.flow).await;
    failure(&waiting).map_or(Ok(()), |said| Err(start_error(&said)))?;
    serve();
    waiting.clear();
    for live in &mut *lives {
        live.hold_new();
        live.shepherd();
        for i in 0..live.sources.len() {
            live.start_source(i, ground);
            waiting.push((live.sources[i].planned.site.clone(), live.sources[i].health.clone()));
        }
        live.let_go();
    }
    started(waiting.iter().map(|(_, health)| health), &ground.flow).await;
    failure(&waiting).map_or(Ok(()), |said| Err(start_error(&said)))
}

/// Waits until all have started, but not beyond [`START_PATIENCE`], nor once shutdown has begun.
pub(super) async fn started(healths: impl Iterator<Item = &Arc<Health>>, flow: &Shutdown) {
    let started = join_all(healths.map(|h| h.started()));
    tokio::select! {
        done = tokio::time::timeout(START_PATIENCE, started) => drop(done),
        () = flow.draining() => {}
    }
}

/// A component that failed for good before it was ever ready makes the start fail. The first one is returned, the
/// others are logged here: whoever ordered the start reports one.
pub(super) fn failure(components: &[(Arc<Site>, Arc<Health>)]) -> Option<String> {
    let mut failed = components.iter().filter_map(|(site, health)| match health.state() {
        State::Failed { why } => Some(format!("{}: {why}", site.id())),
        _ => None,
    });
    let first = failed.next();
    failed.for_each(|other| tracing::error!("{}", other.replace("\nhint: ", "; hint: ")));
    first
}

fn start_error(said: &str) -> StartError {
    let (message, hint) = match said.split_once("\nhint: ").or_else(|| said.split_once("; hint: ")) {
        Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
        None => (said.to_owned(), None),
    };
    StartError { message, hint, exit_code: 69 }
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
