//! `weir run` and `weir demo`: from a loaded configuration to a running process and its exit code. The runtime is
//! started only here; everything before it is plain code that can fail with a message.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::banner::{Banner, Live};
use super::config_source::{ConfigSource, Mode, avoid_taken_port, without_server};
use super::control;
use super::exit::{Exit, Failure};
use super::logging::{self, LogFile};
use super::reload::{self, Watched};
use super::service::Supervisor;
use super::signals::{Answers, Signals};
use super::state_dir::StateDir;
use super::status_line;
use super::terminal::{self, Terminal};
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::config::{Diagnostics, Node};
use crate::engine::{self, Plan, Reloads, RunReport, Services, StartError, Started};
use crate::flow::{Board, ExitStatusSlot, OutputClosed, ReopenSignal, SecretSource, Shared};
use crate::net::CorsOrigins;
use crate::web;

/// Most threads of the shared runtime: beyond these, cores are better left to the programs that log.
const WORKERS_MAX: usize = 4;

/// Runs until the sources have ended or a signal comes.
///
/// # Errors
/// With exit code 78 or 66 when the configuration cannot be used, 69 to 74 when something cannot be started.
pub fn run(source: &ConfigSource, terminal: Terminal) -> Result<Exit, Failure> {
    // Before anything that takes its time: a signal that comes meanwhile is no end without a word.
    let runtime = runtime()?;
    let shutdown = Shutdown::new();
    let signals = obey_signals(&runtime, &shutdown)?;
    let mut findings = Diagnostics::new();
    let Some(mut loaded) = source.load(&mut findings)? else { return Err(Failure::config(findings)) };
    let mode = source.mode(&loaded);
    let port_was_taken = mode != Mode::Files && {
        without_server(&mut loaded.tree);
        avoid_taken_port(&mut loaded.tree)
    };
    let Some(plan) = engine::plan(&loaded.tree, &mut findings) else { return Err(Failure::config(findings)) };
    terminal::complain(&findings.render_human(terminal.color_stderr));
    let log = logging::start(&plan.root.logging, terminal.color_stderr, source.environment())?;
    let state = StateDir::choose(plan.root.state_dir.as_deref(), mode, source.environment());
    if plan.root.state_dir.is_some() || remembers(&loaded.tree) {
        state.prepare()?;
    }
    source.create_outputs()?;
    let banner = (mode != Mode::Files || terminal.stderr_is_terminal).then(|| Banner {
        live: Live::of(&loaded.tree),
        files: loaded.files.iter().map(|f| f.display().to_string()).collect(),
        port_was_taken,
        color: terminal.color_stderr,
    });
    raise_descriptor_limit();
    if shutdown.is_draining() {
        tracing::info!("stopped before anything was started");
        state.clean();
        return Ok(Exit::OK);
    }
    let shared = Arc::new(Shared::default());
    shared.get::<SecretSource>().set(source.environment().clone());
    let outside = Outside { source: source.clone(), files: loaded.files, banner, shutdown, signals };
    let ended = runtime.block_on(drive(plan, mode, log, &state, (shared, outside)));
    // What still hangs in a system call must not keep the process.
    runtime.shutdown_background();
    state.clean();
    ended
}

/// What a run has to do with besides its plan.
struct Outside {
    source: ConfigSource,
    files: Vec<PathBuf>,
    banner: Option<Banner>,
    shutdown: Shutdown,
    signals: Obeyed,
}

/// The signals of a run, obeyed since it began.
struct Obeyed {
    task: JoinHandle<()>,
    /// Takes what answers them once everything has started.
    started: oneshot::Sender<Answers>,
}

fn runtime() -> Result<Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(WORKERS_MAX))
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::UNAVAILABLE, format!("cannot start threads: {e}")))
}

fn obey_signals(runtime: &Runtime, shutdown: &Shutdown) -> Result<Obeyed, Failure> {
    let _within = runtime.enter();
    let signals = Signals::catch()
        .map_err(|e| Failure::new(Exit::UNAVAILABLE, format!("cannot catch signals: {e}")))?;
    let (started, answers) = oneshot::channel();
    Ok(Obeyed { task: task::spawn(signals.obey(shutdown.clone(), answers)), started })
}

async fn drive(
    plan: Plan,
    mode: Mode,
    log: LogFile,
    state: &StateDir,
    (shared, outside): (Arc<Shared>, Outside),
) -> Result<Exit, Failure> {
    let Outside { source, files, banner, shutdown, signals } = outside;
    let environment = source.environment().clone();
    let reopen = shared.get::<ReopenSignal>();
    let (reloads, supervisor) = (shared.get::<Reloads>(), Arc::new(Supervisor::from(source.environment())));
    let watched = Watched { enabled: plan.root.config_auto_reload, files };
    let (watched, following) = tokio::sync::watch::channel(watched);
    let load = (mode == Mode::Files).then(|| reload::loader(source, watched));
    let hang_up = {
        let (reloads, supervisor) = (reloads.clone(), supervisor.clone());
        move || drop(task::spawn(reload::now(reloads.clone(), supervisor.clone())))
    };
    let alive = supervisor.clone();
    let (stopping, ending) = (supervisor.clone(), shutdown.clone());
    let mut beside = vec![
        signals.task,
        task::spawn(reload::tell(reloads.clone(), supervisor.clone())),
        task::spawn(reload::follow(following, reloads, supervisor.clone())),
        task::spawn(async move { alive.stay_alive().await }),
        task::spawn(async move {
            ending.draining().await;
            stopping.stopping();
        }),
        task::spawn(status_line::log_regularly(shared.get::<Board>(), plan.root.logging.status_interval)),
    ];
    if mode == Mode::Quick {
        beside.push(task::spawn(end_with_reader(shared.get::<OutputClosed>(), shutdown.clone())));
    }
    let control = control::open(&plan.root.control, &environment);
    let control_stop = Shutdown::new();
    let controlling = control
        .as_ref()
        .and_then(|socket| socket.listener().ok())
        .map(|listener| task::spawn(web::control(listener, &shared, shutdown.clone(), control_stop.clone())));
    let served = Arc::clone(&shared);
    let origins = shared.get::<CorsOrigins>();
    origins.set(plan.root.server.cors_origins.clone());
    let policy = origins.policy();
    let services = Services {
        shared: Arc::clone(&shared),
        state_dir: Arc::from(state.path.as_path()),
        serve: Box::new(move |entrance, shutdown| web::serve(entrance, served, policy, shutdown)),
        load,
    };
    let ended = engine::run(plan, services, shutdown, |started| {
        announce(started, &supervisor, banner);
        let (reopen, reload) = (Box::new(move || reopen.request()), Box::new(hang_up));
        // It hears of it as long as it runs, which is longer than this.
        signals.started.send(Answers { log, reopen, reload }).ok();
    })
    .await;
    beside.iter().for_each(tokio::task::JoinHandle::abort);
    control_stop.drain();
    if let Some(controlling) = controlling {
        // It is over when it has said goodbye, which takes it a moment at most.
        controlling.await.ok();
    }
    drop(control);
    let report = ended.map_err(not_started)?;
    let program = shared.get::<ExitStatusSlot>().get().filter(|_| mode == Mode::Quick);
    Ok(conclude(&report, program))
}

/// Tells the log, who supervises weir, and who looks at the terminal.
fn announce(started: &Started, supervisor: &Supervisor, banner: Option<Banner>) {
    let count = started.pipelines.len();
    tracing::info!("started, {count} pipeline{}", if count == 1 { "" } else { "s" });
    supervisor.ready();
    if let Some(banner) = banner {
        terminal::complain(&banner.text(started));
    }
}

fn not_started(error: StartError) -> Failure {
    let failure = Failure::new(Exit(error.exit_code), error.message);
    if let Some(hint) = error.hint { failure.hint(hint) } else { failure }
}

/// Says how a run ended, and what its exit code is; a program that was run along with it has one of its own.
fn conclude(report: &RunReport, program: Option<i32>) -> Exit {
    let lost = report.undelivered_events;
    // A component that hangs in a system call cannot even say what it had in hand.
    let incomplete = lost > 0 || (report.forced && report.kept_events == 0);
    if incomplete {
        match lost {
            0 => tracing::error!("stopped by force: what was in hand may not have been delivered"),
            _ => tracing::error!("stopped before everything was delivered: {lost} events dropped"),
        }
    } else if report.failed.is_empty() {
        match report.kept_events {
            0 => tracing::info!("stopped, everything is delivered"),
            kept => tracing::info!("stopped, {kept} events stay in disk buffers for the next run"),
        }
    } else {
        tracing::error!("stopped with components down: {}", report.failed.join("; "));
    }
    match program {
        // As the system does, the lowest eight bits.
        Some(code) => Exit((code & 0xff) as u8),
        None if incomplete => Exit::IO,
        None if !report.failed.is_empty() => Exit::UNAVAILABLE,
        None => Exit::OK,
    }
}

/// Allows as many open files and clients as the administrator does: the soft limit of 1,024 is a default of another
/// time, kept for programs that use `select`.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!("cannot raise the limit of open files: {e}");
    }
}

/// A quick run is part of a shell's pipeline: when nobody reads its output any more (`app | weir | head`), it ends.
async fn end_with_reader(output: Arc<OutputClosed>, shutdown: Shutdown) {
    output.closed().await;
    shutdown.drain();
}

/// Whether a source keeps its place across restarts.
fn remembers(tree: &Node) -> bool {
    let items = |node: &Node, key: &str| node.get(key).and_then(Node::as_array).unwrap_or_default().to_vec();
    let sources = items(tree, "pipelines").into_iter().flat_map(|pipeline| items(&pipeline, "sources"));
    let mut kinds = sources.filter_map(|s| s.get("type").and_then(Node::as_str).map(str::to_owned));
    let mut sinks = items(tree, "pipelines").into_iter().flat_map(|pipeline| items(&pipeline, "sinks"));
    kinds.any(|kind| ["file", "directory"].contains(&kind.as_str()))
        || sinks.any(|s| s.get("buffer").and_then(|b| b.get("type")).and_then(Node::as_str) == Some("disk"))
}
