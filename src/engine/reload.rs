//! From a request to a report: load the configuration anew, plan it, compare it with what runs, apply the
//! difference.

use std::sync::Arc;

use super::apply;
use super::diff::{self, Diff, PipelineDiff, SinkFate};
use super::live::{Ground, Live};
use super::memory;
use super::plan::{PipelinePlan, Plan};
use super::report::{Change, PipelineChange, ReloadOutcome, ReloadReport};
use super::requests::Loader;
use crate::base::task;
use crate::config::{Node, RootOptions, Table};
use crate::flow::{Board, Links, Memory, Site};
use crate::net::Router;
use crate::tail::CheckpointNames;

/// Options of the root that take effect at once; all others are read at the start.
const LIVE_OPTIONS: [&str; 3] = ["config_auto_reload", "max_memory", "shutdown_timeout"];

/// What runs.
pub(super) struct Engine {
    pub(super) lives: Vec<Live>,
    pub(super) root: RootOptions,
    /// The root's options as they were written.
    pub(super) written: Node,
    pub(super) ground: Ground,
}

/// One reload. Whatever goes wrong, what ran before runs afterwards.
pub(super) async fn reload(engine: &mut Engine, load: Option<&Loader>, board: &Arc<Board>) -> ReloadReport {
    let Some(load) = load.cloned() else {
        return ReloadReport::refused(vec!["this run was not made from configuration files".to_owned()]);
    };
    // The files may be on a disk that hangs: the end does not wait for them.
    let loaded = tokio::select! {
        biased;
        () = engine.ground.flow.draining() => None,
        loaded = task::spawn_blocking(move || load()) => Some(loaded),
    };
    let plan = match loaded {
        None => return ReloadReport::refused(vec!["weir is shutting down".to_owned()]),
        Some(Ok(Ok(plan))) => plan,
        Some(Ok(Err(errors))) => return ReloadReport::refused(errors),
        Some(Err(e)) => return ReloadReport::refused(vec![format!("bug in reading the configuration: {e}")]),
    };
    let Plan { root, written, pipelines, .. } = plan;
    let old: Vec<&PipelinePlan> = engine.lives.iter().map(|live| &live.plan).collect();
    let changes = diff::compare(&old, &pipelines);
    let mut report = ReloadReport::new(ReloadOutcome::Unchanged);
    report.pipelines = described(&old, &pipelines, &changes);
    report.needs_restart = needs_restart(&engine.written, &written);
    let staying = buffers_that_stay(&engine.lives, &pipelines, &changes);
    report.needs_restart.extend(staying.iter().map(|site| format!("{}.buffer", site.id())));
    let state_dir = engine.ground.state_dir.clone();
    let moves = report.pipelines.iter().any(|p| p.change != Change::Unchanged);
    engine.ground.starting.send_replace(true);
    let patience = root.shutdown_timeout;
    let known = engine.ground.shared.get::<CheckpointNames>();
    let runs = super::claims::checkpoints(engine.lives.iter().map(|live| &live.plan));
    known.set(super::claims::checkpoints(pipelines.iter()));
    let (notes, done) = apply::apply(&mut engine.lives, pipelines, changes, patience, &engine.ground).await;
    engine.ground.starting.send_replace(false);
    report.notes = notes;
    match done {
        Ok(()) => {
            report.outcome = if moves { ReloadOutcome::Applied } else { ReloadOutcome::Unchanged };
            // The server, the log and the like go on as they were started.
            report.notes.extend(staying.iter().map(|site| stays_on_disk(site, &state_dir)));
            engine.root.shutdown_timeout = root.shutdown_timeout;
            engine.root.max_memory = root.max_memory;
            engine.ground.shared.get::<Memory>().set_max(memory::bound(&engine.root));
        }
        Err(why) => {
            report.outcome = ReloadOutcome::RolledBack;
            known.set(runs);
            report.errors.push(why.replace("\nhint: ", "; hint: "));
        }
    }
    publish(engine, board);
    if moves {
        tokio::select! {
            () = engine.ground.flow.draining() => {}
            unowned = unowned(engine) => report.notes.extend(unowned),
        }
    }
    report
}

/// The sinks whose buffers the new configuration wants in memory instead of files.
fn buffers_that_stay(lives: &[Live], new: &[PipelinePlan], diff: &Diff) -> Vec<Arc<Site>> {
    let mut found = Vec::new();
    for (plan, fate) in new.iter().zip(&diff.pipelines) {
        let Some((at, changes)) = fate else { continue };
        for (i, sink) in plan.sinks.iter().enumerate() {
            let before = changes.predecessor(i).map(|from| lives[*at].sinks[from].planned.buffer);
            if before.is_some_and(|before| !before.becomes(&sink.buffer)) {
                found.push(sink.sink.site.clone());
            }
        }
    }
    found
}

fn stays_on_disk(site: &Site, state_dir: &std::path::Path) -> String {
    format!(
        "{}: its buffer stays on disk, since rows that are safe there have been acknowledged; the next start makes it one \
         in memory, and whatever {} holds by then waits for a start with `buffer.type = \"disk\"`: let it run empty \
         first",
        site.id(),
        crate::flow::disk::directory(state_dir, site).display()
    )
}

/// Names the disk buffers that hold events and belong to no sink any more.
pub(super) fn unowned(engine: &Engine) -> impl Future<Output = Vec<String>> + Send + use<> {
    let dir = engine.ground.state_dir.clone();
    let plans: Vec<PipelinePlan> = engine.lives.iter().map(|live| live.plan.clone()).collect();
    let say = |(dir, events): (std::path::PathBuf, u64)| {
        format!(
            "{events} events wait in {}, which no sink uses any more; they are kept, and delivered when a sink in \
             that place has a disk buffer again",
            dir.display()
        )
    };
    async move {
        let found = task::spawn_blocking(move || super::buffers::unowned(&dir, plans.iter())).await;
        found.unwrap_or_default().into_iter().map(say).collect()
    }
}

/// Puts what runs on the board, and takes what is gone off everything that is kept by name.
fn publish(engine: &Engine, board: &Board) {
    board.publish(engine.lives.iter().map(Live::entry).collect());
    let pipelines = board.pipelines();
    let ids: std::collections::HashSet<String> =
        pipelines.iter().flat_map(|p| &p.components).map(|c| c.site.id()).collect();
    let shared = &engine.ground.shared;
    shared.get::<Router>().retain(|id| ids.contains(id));
    shared.get::<Links>().retain(|name| pipelines.iter().any(|p| *p.name == *name));
}

/// Options outside the pipelines that differ and are read at the start only, as deep as they are named.
fn needs_restart(old: &Node, new: &Node) -> Vec<String> {
    let entries = |node: &Node| node.as_table().map(Table::entries).unwrap_or_default().to_vec();
    let mut keys: Vec<String> = entries(old).into_iter().chain(entries(new)).map(|e| e.key).collect();
    keys.sort();
    keys.dedup();
    let mut found = Vec::new();
    for key in keys.iter().filter(|key| !LIVE_OPTIONS.contains(&key.as_str())) {
        let (a, b) = (old.get(key), new.get(key));
        if a == b {
            continue;
        }
        let empty = Node::empty();
        let (a, b) = (a.unwrap_or(&empty), b.unwrap_or(&empty));
        if a.as_table().is_none() || b.as_table().is_none() {
            found.push(key.clone());
            continue;
        }
        let mut inner: Vec<String> = entries(a).into_iter().chain(entries(b)).map(|e| e.key).collect();
        inner.sort();
        inner.dedup();
        found.extend(inner.iter().filter(|k| a.get(k) != b.get(k)).map(|k| format!("{key}.{k}")));
    }
    found
}

fn described(old: &[&PipelinePlan], new: &[PipelinePlan], diff: &Diff) -> Vec<PipelineChange> {
    let whole = |plan: &PipelinePlan, change: Change| PipelineChange {
        name: plan.name.to_string(),
        change,
        components: ids(plan).into_iter().map(|id| (id, change)).collect(),
    };
    let mut all: Vec<PipelineChange> = new
        .iter()
        .zip(&diff.pipelines)
        .map(|(plan, fate)| match fate {
            None => whole(plan, Change::Added),
            Some((_, changes)) if changes.is_empty() => {
                let (name, components) = (plan.name.to_string(), Vec::new());
                PipelineChange { name, change: Change::Unchanged, components }
            }
            Some((at, changes)) => changed(old[*at], plan, changes),
        })
        .collect();
    all.extend(diff.ended.iter().map(|&at| whole(old[at], Change::Removed)));
    all
}

fn ids(plan: &PipelinePlan) -> Vec<String> {
    let sources = plan.sources.iter().map(|s| s.site.id());
    let own = plan.sinks.iter().flat_map(|s| &s.filters).map(|f| f.site.id());
    let filters = plan.filters.iter().map(|f| f.site.id()).chain(own);
    sources.chain(filters).chain(plan.sinks.iter().map(|s| s.sink.site.id())).collect()
}

fn changed(old: &PipelinePlan, new: &PipelinePlan, diff: &PipelineDiff) -> PipelineChange {
    let (before, after) = (ids(old), ids(new));
    let is_kept = |id: &String| {
        let source = new.sources.iter().zip(&diff.source_kept).any(|(s, kept)| *kept && s.site.id() == *id);
        let untouched = SinkFate::Kept { filters: false, bounds: false };
        let sink = |(s, fate): (&super::plan::PlannedSink, &SinkFate)| {
            let own = s.filters.iter().any(|f| f.site.id() == *id);
            let same_filters = matches!(fate, SinkFate::Kept { filters: false, .. });
            (own && same_filters) || (s.sink.site.id() == *id && *fate == untouched)
        };
        let filter = !diff.filters && new.filters.iter().any(|f| f.site.id() == *id);
        source || filter || new.sinks.iter().zip(&diff.sinks).any(sink)
    };
    let mut components: Vec<(String, Change)> = after
        .iter()
        .map(|id| {
            let change = match before.contains(id) {
                _ if is_kept(id) => Change::Unchanged,
                true => Change::Changed,
                false => Change::Added,
            };
            (id.clone(), change)
        })
        .collect();
    let gone = before.iter().filter(|id| !after.contains(id));
    components.extend(gone.map(|id| (id.clone(), Change::Removed)));
    PipelineChange { name: new.name.to_string(), change: Change::Changed, components }
}
