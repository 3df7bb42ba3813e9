//! What must hold, and when.

use logweir::batch::Outcome;
use logweir::engine::{RunReport, StartError};
use logweir::flow::{Board, Meter, Reason};

use tokio::task::JoinError;

use super::accounts;
use super::world::{Row, World, lock};

/// A source was told what became of these rows: then every sink that wants them has them, unless it may drop some
/// and the source was told of that.
pub(crate) fn acknowledged(world: &World, source: usize, pass: u64, from: u64, to: u64, outcome: Outcome) {
    for (index, sink) in world.sinks.iter().enumerate() {
        let told = outcome != Outcome::Delivered && world.scenario.may_miss(index);
        if told || world.has_disk(index) {
            continue;
        }
        let log = lock(sink);
        for number in from..to {
            let row = Row { source, pass, number };
            if world.scenario.must_pass(index, row) && !log.delivered.contains_key(&row) {
                world.violation(format!("{row:?} was settled as {outcome:?} before sink {index} had it"));
            }
        }
    }
}

/// A run has come back.
pub(crate) fn ended(world: &World, done: Result<Result<RunReport, StartError>, JoinError>) {
    super::say(|| format!("{done:?}"));
    match done {
        Ok(Ok(report)) if report.forced && !world.scenario.may_be_forced(world.life()) => {
            world.violation(format!("forced although every sink works: {report:?}"));
        }
        Ok(Ok(report)) if !report.forced && report.failed.is_empty() && report.kept_events == 0 => {
            world.end_in_order()
        }
        Ok(Ok(_)) => {}
        Ok(Err(error)) => world.violation(format!("did not start: {error:?}")),
        Err(error) => world.violation(format!("the engine panicked: {error}")),
    }
}

/// A run is over: all accounts balance, also those of what reloads took away.
pub(crate) fn at_rest(world: &World, board: &Board) {
    accounts::observe(world, board);
    let complaints = lock(&world.accounts).complaints(world);
    complaints.into_iter().for_each(|complaint| world.violation(complaint));
    losses_are_counted(world);
    let pipelines = board.pipelines();
    let components = pipelines.iter().flat_map(|pipeline| &pipeline.components);
    components.for_each(|component| retired(world, &component.site.id(), &component.meter));
}

/// An account is closed, by a reload or at the end: if it is of a disk buffer, that began with all the events that
/// the one before it in this place left on the disk.
pub(crate) fn retired(world: &World, id: &str, meter: &Meter) {
    let (mut stored, meter) = (lock(&world.stored), meter.snapshot());
    // Rows that were settled out of turn come again.
    if let Some(left) = stored.get(id).filter(|left| **left > meter.recovered_events) {
        world.violation(format!("{id} was left with {left} events on disk, then: {meter:?}"));
    }
    stored.insert(id.to_owned(), meter.stored_events);
}

/// A run is over in which every row was offered once: what a sink did not get, and has not refused, is what its
/// meter counts as dropped, row for row.
fn losses_are_counted(world: &World) {
    let own = || (0..world.scenario.sources).filter(|source| !world.scenario.is_source_aside(*source));
    let once =
        world.scenario.lives.len() == 1 && own().all(|source| lock(&world.sources[source]).passes == 1);
    if !once || world.scenario.drops_before_the_sinks() {
        return;
    }
    for index in 0..world.scenario.steady {
        let log = lock(&world.sinks[index]);
        let rows = |source| (0..world.scenario.rows).map(move |number| Row { source, pass: 1, number });
        let missing = own()
            .flat_map(rows)
            .filter(|row| world.scenario.must_pass(index, *row))
            .filter(|row| !log.delivered.contains_key(row) && !log.rejected.contains_key(row))
            .count() as u64;
        let accounts = lock(&world.accounts);
        let Some(meter) = accounts.of_steady_sink(index).map(|meter| meter.snapshot()) else { continue };
        let dropped = meter.dropped_total() - meter.dropped(Reason::Rejected);
        // A filter that was away for a while let rows through that nobody asks for.
        let exact = world.scenario.held_back.is_none();
        if missing > dropped || (exact && missing != dropped) {
            world.violation(format!("sink {index} misses {missing} rows and counts {dropped} as dropped"));
        }
    }
}

/// After the last life: every row has reached every sink that wants it, or something that may drop counted it.
pub(crate) fn at_the_end(world: &World) {
    if !world.violations().is_empty() {
        return;
    }
    for (index, sink) in world.sinks.iter().enumerate() {
        let log = lock(sink);
        for source in 0..world.scenario.sources {
            let mut seen = vec![false; world.scenario.rows as usize];
            for row in log.delivered.keys().chain(log.rejected.keys()).filter(|row| row.source == source) {
                seen[row.number as usize] = true;
            }
            let wanted =
                |number: &u64| world.scenario.must_pass(index, Row { source, pass: 0, number: *number });
            let missing: Vec<u64> =
                (0..world.scenario.rows).filter(wanted).filter(|n| !seen[*n as usize]).collect();
            if !missing.is_empty() && !world.scenario.may_miss(index) {
                world.violation(format!("sink {index} never got rows {missing:?} of source {source}"));
            }
        }
    }
}
