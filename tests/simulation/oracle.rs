//! What must hold, and when.

use logweir::config::ComponentKind;
use logweir::engine::{RunReport, StartError};
use logweir::flow::{Board, Reason};

use tokio::task::JoinError;

use super::world::{Row, World, lock};

/// A source was told that these rows are safe: then every sink that wants them has them.
pub(crate) fn acknowledged(world: &World, source: usize, pass: u64, from: u64, to: u64) {
    for (index, sink) in world.sinks.iter().enumerate() {
        if world.scenario.has_disk(index) {
            continue;
        }
        let log = lock(sink);
        for number in from..to {
            let row = Row { source, pass, number };
            if world.scenario.passes(index, row) && !log.delivered.contains_key(&row) {
                world.violation(format!("{row:?} was acknowledged before sink {index} had it"));
            }
        }
    }
}

/// A run has come back.
pub(crate) fn ended(world: &World, done: Result<Result<RunReport, StartError>, JoinError>) {
    match done {
        Ok(Ok(report)) if report.forced && !world.scenario.may_be_forced() => {
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

/// A run is over: all accounts balance, and nothing waits that nobody knows of.
pub(crate) fn at_rest(world: &World, board: &Board) {
    for pipeline in board.pipelines().iter() {
        let entrance = pipeline.meter.snapshot();
        if !entrance.balances() {
            world.violation(format!("the entrance of {} does not balance: {entrance:?}", pipeline.name));
        }
        for component in &pipeline.components {
            let meter = component.meter.snapshot();
            if !meter.balances() {
                world.violation(format!("{} does not balance: {meter:?}", component.site.id()));
            }
        }
    }
}

/// A run is over: each disk buffer began with all the events that the life before left in it.
pub(crate) fn carried_over(world: &World, board: &Board) {
    let mut stored = lock(&world.stored);
    let before = std::mem::take(&mut *stored);
    for component in board.pipelines().iter().flat_map(|pipeline| &pipeline.components) {
        let (meter, id) = (component.meter.snapshot(), component.site.id());
        // Rows that were settled out of turn come again.
        if let Some(left) = before.get(&id).filter(|left| **left > meter.recovered_events) {
            world.violation(format!("{id} was left with {left} events on disk, then: {meter:?}"));
        }
        stored.insert(id, meter.stored_events);
    }
}

/// A run is over in which every row was offered once: what a sink did not get, and has not refused, is what its
/// meter counts as dropped, row for row.
pub(crate) fn losses_are_counted(world: &World, board: &Board) {
    let once = world.scenario.lives.len() == 1 && world.sources.iter().all(|source| lock(source).passes == 1);
    if !once || world.scenario.drops_before_the_sinks() {
        return;
    }
    let pipelines = board.pipelines();
    let Some(last) = pipelines.last() else { return };
    for (index, sink) in world.sinks.iter().enumerate() {
        let log = lock(sink);
        let rows = |source| (0..world.scenario.rows).map(move |number| Row { source, pass: 1, number });
        let missing = (0..world.scenario.sources)
            .flat_map(rows)
            .filter(|row| world.scenario.passes(index, *row))
            .filter(|row| !log.delivered.contains_key(row) && !log.rejected.contains_key(row))
            .count() as u64;
        let of_sinks = last.components.iter().filter(|c| c.site.kind == ComponentKind::Sink);
        let Some(meter) = of_sinks.map(|c| c.meter.snapshot()).nth(index) else { continue };
        let dropped = meter.dropped_total() - meter.dropped(Reason::Rejected);
        if missing != dropped {
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
                |number: &u64| world.scenario.passes(index, Row { source, pass: 0, number: *number });
            let missing: Vec<u64> =
                (0..world.scenario.rows).filter(wanted).filter(|n| !seen[*n as usize]).collect();
            if !missing.is_empty() && !world.scenario.may_drop() {
                world.violation(format!("sink {index} never got rows {missing:?} of source {source}"));
            }
        }
    }
}
