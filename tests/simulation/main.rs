//! The seeded simulation: the real engine, entrances, chains, buffers and supervisors under paused time, between
//! sources that remember what was acknowledged and sinks that are slow, fail, hang and panic; reloads change what
//! runs, or fail; lives end by a crash or a shutdown at any moment, also within a reload, and the next one goes on
//! from what the sources know. An oracle watches that nothing is lost, nothing is invented, order is kept, the
//! accounts balance, what did not change is not touched, and everything ends.
//!
//! `TEST_SEED=17` repeats one seed, with `TEST_VERBOSE=1` aloud; `TEST_SEEDS=10000 cargo test --release --test
//! simulation` runs many.

#![allow(clippy::print_stdout, reason = "the figures are what this test states")]

mod accounts;
mod disk;
mod oracle;
mod reloads;
mod scenario;
mod shape;
mod sink;
mod source;
mod sweeps;
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use logweir::base::shutdown::Shutdown;
use logweir::base::{clock, rng, task};
use logweir::engine::{self, Services, Started};
use logweir::flow::disk::storage::FileSystem;
use logweir::flow::{Board, Shared};
use tokio::task::JoinHandle;

use reloads::Configuration;
use scenario::{End, Life, Scenario, Then, Trouble, When};
use world::{PLANNED_PANIC, World, lock};

/// Longer than any life may take, in simulated time.
const LIFE_MAX: Duration = Duration::from_secs(6 * 3600);
/// How long a step may not come before the life ends without it.
const STEP_PATIENCE: Duration = Duration::from_secs(60);
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::vars().find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok())
}

/// What may help to understand a seed.
fn say(what: impl FnOnce() -> String) {
    if number("TEST_VERBOSE").is_some() {
        println!("{}", what());
    }
}

#[test]
fn nothing_is_lost_whatever_happens() {
    let (first, seeds) = match number("TEST_SEED") {
        Some(seed) => (seed, number("TEST_SEEDS").unwrap_or(1)),
        None => (1, number("TEST_SEEDS").unwrap_or(SEEDS)),
    };
    let mut figures = Figures::default();
    for seed in first..first + seeds {
        let scenario = Scenario::new(seed);
        say(|| scenario.describe());
        let repeat = format!("seed {seed} (repeat: TEST_SEED={seed} cargo test --test simulation)");
        figures.add(&judged(scenario, seed, &repeat));
    }
    println!("{seeds} seeds from {first}: {figures}, no violation");
}

/// What was simulated.
#[derive(Default)]
struct Figures {
    rows: u64,
    lives: usize,
    reloads: BTreeMap<&'static str, u64>,
    moves: BTreeMap<&'static str, u64>,
}

impl Figures {
    fn add(&mut self, world: &World) {
        self.rows += world.scenario.rows_total();
        self.lives += world.scenario.lives.len();
        lock(&world.outcomes).iter().for_each(|(what, n)| *self.reloads.entry(what).or_default() += n);
        lock(&world.moves).iter().for_each(|(what, n)| *self.moves.entry(what).or_default() += n);
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} rows through {} lives, {} reloads",
            self.rows,
            self.lives,
            self.reloads.values().sum::<u64>()
        )?;
        let each: Vec<String> = self.reloads.iter().map(|(what, n)| format!("{n} {what}")).collect();
        write!(f, " ({})", each.join(", ").replace('_', " "))?;
        let each: Vec<String> = self.moves.iter().map(|(what, n)| format!("{n} {what}")).collect();
        write!(f, ", buffers to disk: {}", if each.is_empty() { "none".to_owned() } else { each.join(", ") })
    }
}

/// The world at the end of all lives; a violation fails the test.
fn judged(scenario: Scenario, seed: u64, name: &str) -> Arc<World> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let planned = info.payload().downcast_ref::<&str>().is_some_and(|text| *text == PLANNED_PANIC);
            if !planned {
                println!("{info}");
            }
        }));
    });
    let world = simulate(scenario, seed);
    let violations = world.violations();
    assert!(violations.is_empty(), "{name}\n{}\n{}", world.scenario.describe(), violations.join("\n"));
    world
}

/// All lives of one seed.
fn simulate(scenario: Scenario, seed: u64) -> Arc<World> {
    let world = Arc::new(World::new(scenario));
    task::simulate();
    for life in 0..world.scenario.lives.len() {
        world.begin_life(life);
        rng::simulate(seed.wrapping_mul(31).wrapping_add(life as u64));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(one_life(&world, life));
        // What settles now was never heard.
        world.crashed.store(true, Ordering::Relaxed);
        drop(runtime);
        world.reboot(world.scenario.lives[life].survives);
        if !world.violations().is_empty() {
            break;
        }
    }
    oracle::at_the_end(&world);
    world
}

/// Steps the wall clock now and then, and back at the end.
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn start(steps: &[(Duration, i64)]) -> Clock {
        let total = Arc::new(AtomicI64::new(0));
        for (after, seconds) in steps.iter().copied() {
            let total = total.clone();
            drop(task::spawn(async move {
                tokio::time::sleep(after).await;
                clock::step_wall(seconds * 1_000_000_000);
                total.fetch_add(seconds, Ordering::Relaxed);
            }));
        }
        Clock(total)
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        clock::step_wall(-self.0.load(Ordering::Relaxed) * 1_000_000_000);
    }
}

async fn one_life(world: &Arc<World>, life: usize) {
    let plan = lock(&world.shape).clone().plan(world, 0, Trouble::None);
    let shared = Arc::new(Shared::default());
    shared.get::<FileSystem>().replace(Arc::new(lock(&world.disk).clone()));
    let configuration = Configuration::default();
    let services = Services {
        shared: shared.clone(),
        state_dir: Path::new("/state").into(),
        serve: Box::new(|_, _| Box::pin(std::future::ready(()))),
        load: Some(configuration.loader()),
    };
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let Life { end, clock_steps, second_signal, .. } = &world.scenario.lives[life];
    let _clock = Clock::start(clock_steps);
    let reloads = {
        let (world, shared) = (world.clone(), shared.clone());
        move |_: &Started| {
            accounts::observe(&world, &shared.get::<Board>());
            drop(task::spawn(reloads::drive(world, shared, configuration)));
        }
    };
    let mut run = task::spawn(async move { engine::run(plan, services, shutdown, reloads).await });
    match *end {
        End::Crash(when) => {
            crash(world, when, &mut run).await;
            lock(&world.stored).clear();
            return;
        }
        End::Drain(when) => {
            let late = async {
                match since(world, when).await {
                    When::After(after) => tokio::time::sleep(after).await,
                    When::Step(step) => until_step(world, step, || {}).await,
                    When::Operation(_) | When::Reload(..) => unreachable!("a disk that goes down is a crash"),
                }
            };
            tokio::select! {
                done = &mut run => oracle::ended(world, done),
                () = late => {
                    world.ending.store(true, Ordering::Relaxed);
                    stop.drain();
                    if let Some(after) = *second_signal {
                        let stop = stop.clone();
                        drop(task::spawn(async move {
                            tokio::time::sleep(after).await;
                            stop.abort();
                        }));
                    }
                    match tokio::time::timeout(LIFE_MAX, &mut run).await {
                        Ok(done) => oracle::ended(world, done),
                        Err(_) => world.violation("the run did not end after a shutdown".to_owned()),
                    }
                }
            }
        }
        End::Completion => match tokio::time::timeout(LIFE_MAX, run).await {
            Ok(done) => oracle::ended(world, done),
            Err(_) => {
                world.violation(
                    "stuck: the last life, which nothing disturbs for good, does not end".to_owned(),
                );
                say_counts(&shared);
                return;
            }
        },
    }
    // Who heard of a reload in the last moment writes down what it came to.
    tokio::time::sleep(Duration::from_millis(1)).await;
    say_counts(&shared);
    oracle::at_rest(world, &shared.get::<Board>());
}

fn say_counts(shared: &Shared) {
    for component in shared.get::<Board>().pipelines().iter().flat_map(|p| &p.components) {
        let (state, counts) = (component.health.state(), component.meter.snapshot());
        say(|| format!("{} is {state:?}: {counts:?}", component.site.id()));
    }
}

/// What is left of a moment once the reload that it counts from has begun, or does not come for long.
async fn since(world: &World, when: When) -> When {
    let When::Reload(number, then) = when else { return when };
    let mut begun = world.begun.subscribe();
    tokio::time::timeout(STEP_PATIENCE, begun.wait_for(|begun| *begun > number)).await.ok();
    match then {
        Then::After(after) => When::After(after),
        Then::Step(step) => When::Step(step),
        Then::Operation(operation) => When::Operation(operation),
    }
}

/// Does something at that send or settlement, and is woken after it, or when it does not come for long.
async fn until_step(world: &World, step: u64, act: impl FnOnce() + Send + 'static) {
    let (tell, told) = tokio::sync::oneshot::channel();
    world.after_steps(step, move || {
        act();
        tell.send(()).ok();
    });
    tokio::time::timeout(STEP_PATIENCE, told).await.ok();
}

/// Waits for the moment of a crash, or the run's end.
async fn crash<T>(world: &Arc<World>, when: When, run: &mut JoinHandle<T>) {
    let when = tokio::select! {
        _ = &mut *run => return,
        when = since(world, when) => when,
    };
    match when {
        When::After(after) => drop(tokio::time::timeout(after, run).await),
        When::Step(step) => {
            let at_once = world.clone();
            tokio::select! {
                _ = run => {}
                () = until_step(world, step, move || at_once.crash()) => {}
            }
        }
        // The disk is gone at once, the rest a moment later.
        When::Operation(operation) => {
            lock(&world.disk).crash_after(operation);
            drop(tokio::time::timeout(Duration::from_secs(3), run).await);
        }
        When::Reload(..) => unreachable!("it counts from the reload now"),
    }
}
