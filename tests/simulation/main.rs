//! The seeded simulation: the real engine, entrances, chains, buffers and supervisors under paused time, between
//! sources that remember what was acknowledged and sinks that are slow, fail, hang and panic; lives end by a crash
//! or a shutdown at any moment, and the next one goes on from what the sources know. An oracle watches that nothing
//! is lost, nothing is invented, order is kept, the accounts balance, and everything ends.
//!
//! `TEST_SEED=17` repeats one seed, `TEST_SEEDS=10000 cargo test --release --test simulation` runs many.

mod oracle;
mod scenario;
mod sink;
mod source;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use logweir::base::shutdown::Shutdown;
use logweir::base::{rng, task};
use logweir::engine::{self, Services};
use logweir::flow::{Board, Shared};

use scenario::{End, Scenario};
use world::World;

/// Longer than any life may take, in simulated time.
const LIFE_MAX: Duration = Duration::from_secs(6 * 3600);
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::vars().find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok())
}

#[test]
fn nothing_is_lost_whatever_happens() {
    let (first, seeds) = match number("TEST_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("TEST_SEEDS").unwrap_or(SEEDS)),
    };
    std::panic::set_hook(Box::new(|info| {
        let planned = info.payload().downcast_ref::<&str>().is_some_and(|text| *text == world::PLANNED_PANIC);
        if !planned {
            println!("{info}");
        }
    }));
    let (mut rows, mut lives) = (0, 0);
    for seed in first..first + seeds {
        let world = simulate(seed);
        let violations = world.violations();
        assert!(
            violations.is_empty(),
            "seed {seed} (repeat: TEST_SEED={seed} cargo test --test simulation)\n{}\n{}",
            world.scenario.describe(),
            violations.join("\n"),
        );
        rows += world.scenario.rows_total();
        lives += world.scenario.lives.len();
    }
    println!("{seeds} seeds from {first}: {rows} rows through {lives} lives, no violation");
}

/// All lives of one seed.
fn simulate(seed: u64) -> Arc<World> {
    let world = Arc::new(World::new(Scenario::new(seed)));
    for life in 0..world.scenario.lives.len() {
        world.begin_life(life);
        rng::simulate(seed.wrapping_mul(31).wrapping_add(life as u64));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(one_life(&world, life));
        // A crash: everything in flight is gone, and what settles now was never heard.
        world.crashed.store(true, Ordering::Relaxed);
        drop(runtime);
        if !world.violations().is_empty() {
            break;
        }
    }
    oracle::at_the_end(&world);
    world
}

async fn one_life(world: &Arc<World>, life: usize) {
    let plan = world.scenario.plan(world);
    let shared = Arc::new(Shared::default());
    let state_dir = std::env::temp_dir().as_path().into();
    let services = Services {
        shared: shared.clone(),
        state_dir,
        serve: Box::new(|_, _| Box::pin(std::future::ready(()))),
        load: None,
    };
    let shutdown = Shutdown::new();
    let (stop, end) = (shutdown.clone(), world.scenario.lives[life]);
    let run = task::spawn(async move { engine::run(plan, services, shutdown, |_| {}).await });
    match end {
        End::Crash(after) => {
            tokio::time::timeout(after, run).await.ok();
            return;
        }
        End::Drain(after) => {
            let late = tokio::time::sleep(after);
            tokio::pin!(run);
            tokio::select! {
                done = &mut run => oracle::ended(world, done),
                () = late => {
                    stop.drain();
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
                return;
            }
        },
    }
    oracle::at_rest(world, &shared.get::<Board>());
    oracle::losses_are_counted(world, &shared.get::<Board>());
}
