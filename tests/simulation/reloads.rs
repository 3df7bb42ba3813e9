//! The reloads of a life: each at its moment, with its changes and its trouble, and what must hold after it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use logweir::engine::{Loader, Plan, ReloadOutcome, ReloadReport, Reloads};
use logweir::flow::{Board, Shared};

use super::accounts;
use super::scenario::{Reload, Trouble, When};
use super::shape::Shape;
use super::world::{Component, World, lock};

/// Longer than any reload may take, in simulated time.
const RELOAD_MAX: Duration = Duration::from_secs(120);

type Read = Result<Plan, Vec<String>>;

/// What the engine finds when it reads the configuration.
#[derive(Clone, Default)]
pub(crate) struct Configuration(Arc<Mutex<Option<Read>>>);

impl Configuration {
    pub(crate) fn loader(&self) -> Loader {
        let next = self.0.clone();
        Arc::new(move || lock(&next).take().unwrap_or_else(|| Err(vec!["asked without a reload".to_owned()])))
    }
}

/// All reloads of a life that has started; then sources may be done.
pub(crate) async fn drive(world: Arc<World>, shared: Arc<Shared>, configuration: Configuration) {
    let reloads = &world.scenario.lives[world.life()].reloads;
    for reload in reloads {
        match reload.when {
            When::After(after) => tokio::time::sleep(after).await,
            When::Step(step) => super::until_step(&world, step, || {}).await,
            When::Operation(_) | When::Reload(..) => unreachable!("a reload comes after some time or a step"),
        }
        if !world.is_undisturbed() {
            break;
        }
        one(&world, &shared, &configuration, reload).await;
    }
    world.reloaded.store(true, Ordering::Relaxed);
}

/// What a plan would put on the board.
fn ids(plan: &Plan) -> BTreeSet<String> {
    let pipelines = plan.pipelines.iter();
    pipelines
        .flat_map(|p| {
            let sources = p.sources.iter().map(|s| s.site.id());
            let own = p.sinks.iter().flat_map(|s| &s.filters);
            let filters = p.filters.iter().chain(own).map(|f| f.site.id());
            sources.chain(filters).chain(p.sinks.iter().map(|s| s.sink.site.id())).collect::<Vec<_>>()
        })
        .collect()
}

async fn one(world: &Arc<World>, shared: &Arc<Shared>, configuration: &Configuration, reload: &Reload) {
    let scenario = &world.scenario;
    let generation = world.generation.fetch_add(1, Ordering::Relaxed) + 1;
    let before = lock(&world.shape).clone();
    let mut after = before.clone();
    for change in &reload.changes {
        if after.change(*change, scenario, generation) {
            world.removes.store(true, Ordering::Relaxed);
        }
    }
    // Where rows may be in files, what comes back to them does so on disk.
    if !before.has_aside() {
        lock(&world.moved).iter().filter(|s| scenario.is_aside(**s)).for_each(|s| after.move_to_disk(*s));
    }
    let stays: Vec<Component> = {
        let old: Vec<_> = before.components(scenario).collect();
        after.components(scenario).filter(|c| old.contains(c)).map(|(component, _)| component).collect()
    };
    *lock(&world.untouched) = stays;
    *lock(&world.reloading) = Some(generation);
    *lock(&world.next_shape) = (reload.trouble == Trouble::None).then(|| after.clone());
    world.broken.store(false, Ordering::Relaxed);
    if reload.trouble != Trouble::Refused {
        lock(&world.moved).extend(after.on_disk());
    }
    world.refuse(matches!(reload.trouble, Trouble::Disk | Trouble::Full));
    *lock(&configuration.0) = Some(match reload.trouble {
        Trouble::Refused => Err(vec!["line 3 is wrong".to_owned()]),
        trouble => Ok(after.plan(world, generation, trouble)),
    });
    world.begun.send_modify(|begun| *begun += 1);
    let requests = shared.get::<Reloads>();
    let report = tokio::time::timeout(RELOAD_MAX, requests.reload()).await;
    if reload.trouble == Trouble::Full {
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    world.refuse(false);
    if world.crashed.load(Ordering::Relaxed) {
        return;
    }
    *lock(&world.reloading) = None;
    *lock(&world.next_shape) = None;
    let Ok(report) = report else {
        return world.violation(format!("reload {generation} does not end: {reload:?}"));
    };
    *lock(&world.outcomes).entry(report.outcome.as_str()).or_default() += 1;
    super::say(|| format!("{reload:?}\n{report:?}"));
    let undisturbed = world.is_undisturbed();
    if undisturbed {
        judge(world, reload, &before, &after, &report);
        moved(world, reload, &before, &after, &report);
    }
    if report.is_ok() {
        *lock(&world.shape) = after;
    }
    if !undisturbed {
        return;
    }
    what_runs(world, &shared.get::<Board>(), &report);
}

/// Whether it came to what it had to come to.
fn judge(world: &World, reload: &Reload, before: &Shape, after: &Shape, report: &ReloadReport) {
    let expected = match reload.trouble {
        Trouble::Refused => ReloadOutcome::Refused,
        _ if world.broken.load(Ordering::Relaxed) => ReloadOutcome::RolledBack,
        _ if before == after => ReloadOutcome::Unchanged,
        _ => ReloadOutcome::Applied,
    };
    // Changes that leave the same words are none.
    let same = [ReloadOutcome::Applied, ReloadOutcome::Unchanged];
    if report.outcome != expected && !(same.contains(&expected) && same.contains(&report.outcome)) {
        world.violation(format!("{expected:?} was due, and it came to {report:?}: {reload:?}"));
    }
    let stuck = |note: &&String| note.contains("hangs in a system call");
    if let Some(note) = report.notes.iter().find(stuck) {
        world.violation(format!("{note}: {reload:?}"));
    }
}

/// What became of buffers that were to move to disk: a reload that fails may leave them there only if it came as far
/// as to its sources.
fn moved(world: &World, reload: &Reload, before: &Shape, after: &Shape, report: &ReloadReport) {
    let tried = after.on_disk().iter().filter(|which| !before.on_disk().contains(which));
    let there: Vec<(usize, String)> = before.buffer_ids(&world.scenario).collect();
    let mut left = lock(&world.left_on_disk);
    if !before.has_aside() {
        left.retain(|which| !world.scenario.is_aside(*which));
    }
    for which in tried {
        let id = there.iter().find(|(sink, _)| sink == which).map(|(_, id)| id.as_str());
        let said =
            |note: &String| id.is_some_and(|id| note.starts_with(id)) && note.contains("had moved to disk");
        let stays = report.notes.iter().any(said);
        if stays && (report.is_ok() || reload.trouble == Trouble::Sinks) {
            world.violation(format!("sink {which} should not be on disk after {report:?}: {reload:?}"));
        }
        let what = match (left.contains(which), stays) {
            _ if report.outcome == ReloadOutcome::Refused => continue,
            (true, _) => "there already",
            _ if report.is_ok() => "moved",
            (_, true) => "left there",
            (_, false) => "given back",
        };
        if stays {
            left.insert(*which);
        }
        *lock(&world.moves).entry(what).or_default() += 1;
    }
}

/// Each sink's buffer is where it should be.
fn where_buffers_are(world: &World, shape: &Shape, board: &Board, report: &ReloadReport) {
    let pipelines = board.pipelines();
    // A guest may be given the queue of another, and what that one is left with if this one does not come to be.
    let guests = world.scenario.guests();
    for (which, id) in shape.buffer_ids(&world.scenario).filter(|(which, _)| !guests.contains(which)) {
        let should =
            shape.disk_of(&world.scenario, which).is_some() || lock(&world.left_on_disk).contains(&which);
        let entry = pipelines.iter().flat_map(|p| &p.components).find(|c| c.site.id() == id);
        if entry.is_some_and(|entry| entry.buffer.is_some() != should) {
            world.violation(format!(
                "sink {which} on disk: {should} was due, and is not so, after {report:?}"
            ));
        }
    }
}

/// What runs now is what the configuration in force says, and nothing else is on the board.
fn what_runs(world: &Arc<World>, board: &Board, report: &ReloadReport) {
    let shape = lock(&world.shape).clone();
    let expected = ids(&shape.plan(world, 0, Trouble::None));
    let on_board: BTreeSet<String> =
        board.pipelines().iter().flat_map(|p| &p.components).map(|c| c.site.id()).collect();
    if expected != on_board {
        world.violation(format!("after {report:?} there should be {expected:?}, and there is {on_board:?}"));
    }
    let versions = lock(&world.versions).clone();
    for (component, (_, version, _)) in shape.components(&world.scenario) {
        let runs = versions.get(&component);
        if runs != Some(&version) {
            world.violation(format!("{component:?} runs as {runs:?}, not as {version}, after {report:?}"));
        }
    }
    where_buffers_are(world, &shape, board, report);
    accounts::observe(world, board);
}
