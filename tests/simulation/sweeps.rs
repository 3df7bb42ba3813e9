//! Not by seed but one after the other: a reload of each kind at every step of a small flow, and in the middle of it
//! a crash at every write, or a shutdown at every step.

use std::time::Duration;

use super::disk::model::Survives;
use super::scenario::{DiskPlan, End, Life, Manner, Reload, Scenario, SinkPlan, Then, Trouble, When};
use super::shape::Change;
use super::{Figures, judged, number};

/// Each kind of change alone.
const CHANGES: [Change; 9] = [
    Change::Filter,
    Change::Source(0),
    Change::Sink(0),
    Change::Sink(1),
    Change::OwnFilter(1),
    Change::Swap,
    Change::Guest(2),
    Change::Aside,
    Change::Trade(2),
];
const TROUBLES: [Trouble; 3] = [Trouble::None, Trouble::Sinks, Trouble::Sources];

fn sink(manner: Manner, disk: Option<DiskPlan>) -> SinkPlan {
    SinkPlan { manner, when_full: "block", only: None, buffer_events: 15, disk }
}

/// A slow sink, one that juggles behind a disk buffer, a guest with a disk buffer, and a pipeline aside: a reload,
/// and if `end` says so a second life.
fn small(reload: Reload, end: End, survives: Survives) -> Scenario {
    let disk = DiskPlan {
        when_full: "block",
        bytes_max: 2 << 10,
        memory_bytes: 600,
        sync_millis: 5,
        compress: None,
    };
    // The aside pipeline, a guest perhaps gone, has to be there at the end.
    let back = Reload {
        when: When::After(Duration::from_millis(100)),
        changes: vec![Change::AsideBack],
        trouble: Trouble::None,
    };
    let life = |end, reloads| Life { end, survives, clock_steps: Vec::new(), reloads, second_signal: None };
    let lives = match end {
        End::Completion => vec![life(End::Completion, vec![reload, back])],
        _ => vec![life(end, vec![reload]), life(End::Completion, vec![back])],
    };
    Scenario {
        seed: 1,
        sources: 2,
        rows: 60,
        batch_rows_max: 8,
        source_faults: false,
        sinks: vec![
            sink(Manner::Slow, None),
            sink(Manner::Juggling(3), Some(disk)),
            sink(Manner::Slow, Some(disk)),
            sink(Manner::Failing, None),
        ],
        steady: 2,
        aside: true,
        lives,
        held_back: None,
        rate: None,
        linked: false,
        linked_disk: None,
    }
}

/// Whether to take long.
fn is_thorough() -> bool {
    number("TEST_SEEDS").is_some_and(|seeds| seeds >= 1000)
}

/// Each change with each trouble at each of so many steps; with trouble, but for the long form, at every third.
fn kinds(steps: u64) -> impl Iterator<Item = (Change, Trouble, u64)> {
    let each = move |(change, trouble)| {
        let every = if trouble == Trouble::None || is_thorough() { 1 } else { 3 };
        (0..steps).step_by(every).map(move |at| (change, trouble, at))
    };
    CHANGES.into_iter().flat_map(|change| TROUBLES.map(|trouble| (change, trouble))).flat_map(each)
}

fn step(change: Change, trouble: Trouble, step: u64) -> Reload {
    Reload { when: When::Step(step), changes: vec![change], trouble }
}

#[test]
fn a_reload_at_every_step_loses_nothing() {
    let mut figures = Figures::default();
    for (change, trouble, at) in kinds(30) {
        let scenario = small(step(change, trouble, at), End::Completion, Survives::Everything);
        let name = format!("{change:?} with trouble {trouble:?} at step {at}");
        figures.add(&judged(scenario, at, &name));
    }
    println!("a reload at every step: {figures}, no violation");
}

#[test]
fn a_crash_at_every_write_of_a_reload_loses_nothing() {
    let mut figures = Figures::default();
    for change in [Change::Filter, Change::Sink(1), Change::Source(0), Change::Guest(2), Change::Aside] {
        for (turn, survives) in (0..).zip(Survives::ALL) {
            for operation in (0..24).filter(|operation| is_thorough() || operation % 4 == turn) {
                let end = End::Crash(When::Reload(0, Then::Operation(operation)));
                let scenario = small(step(change, Trouble::None, 12), end, survives);
                let name = format!("{change:?}, down at write {operation}, of which {survives:?} survives");
                figures.add(&judged(scenario, operation as u64, &name));
            }
        }
    }
    println!("a crash at every write of a reload: {figures}, no violation");
}

#[test]
fn a_shutdown_at_every_step_of_a_reload_loses_nothing() {
    let mut figures = Figures::default();
    for (change, trouble, at) in kinds(12) {
        let then = if at < 6 { Then::Step(at) } else { Then::After(Duration::from_millis((at - 6) * 40)) };
        let end = End::Drain(When::Reload(0, then));
        let scenario = small(step(change, trouble, 12), end, Survives::Everything);
        let name = format!("{change:?} with trouble {trouble:?}, told to end {then:?} after it began");
        figures.add(&judged(scenario, at, &name));
    }
    println!("a shutdown at every step of a reload: {figures}, no violation");
}

#[test]
fn a_second_signal_at_every_moment_of_a_reload_leaves_files_to_who_comes_next() {
    let mut figures = Figures::default();
    let manners = [Manner::Dead, Manner::Hanging];
    for (manner, at) in manners.into_iter().flat_map(|manner| (0..40).map(move |at| (manner, at))) {
        let end = End::Drain(When::Reload(0, Then::After(Duration::from_millis(at / 8))));
        // The pipeline aside goes, and comes back since the guest does not start.
        let mut scenario = small(step(Change::Trade(2), Trouble::Sinks, 20 + at), end, Survives::Everything);
        scenario.sinks[3] = SinkPlan { disk: scenario.sinks[2].disk, ..sink(manner, None) };
        scenario.lives[0].second_signal = Some(Duration::from_millis(at % 8 * 5));
        let name = format!("{manner:?} beside, and a second signal, {at}");
        figures.add(&judged(scenario, at, &name));
    }
    println!("a second signal at every moment of a reload: {figures}, no violation");
}

#[test]
fn a_sink_that_goes_for_another_at_every_step_ends_with_rows_in_hand() {
    let mut figures = Figures::default();
    for at in 0..40 {
        let mut scenario =
            small(step(Change::Trade(2), Trouble::None, 3), End::Completion, Survives::Everything);
        scenario.rows = 300;
        scenario.sinks[3].manner = Manner::Prompt;
        // The one that has come goes again, with much in hand, for the pipeline aside, which wants its place.
        let disk =
            scenario.sinks[2].disk.map(|disk| DiskPlan { memory_bytes: 30_000, bytes_max: 60_000, ..disk });
        scenario.sinks[2] = sink(Manner::Slow, disk);
        scenario.lives[0].reloads.insert(1, step(Change::Trade(2), Trouble::None, at));
        figures.add(&judged(scenario, at, &format!("a sink goes for another at step {at}")));
    }
    println!("a sink goes for another at every step: {figures}, no violation");
}

#[test]
fn a_link_behind_a_disk_buffer_is_exchanged_at_every_step() {
    let mut figures = Figures::default();
    for at in 0..40 {
        let reload = step(Change::Link, Trouble::None, at);
        let scenario = small(reload, End::Completion, Survives::Everything);
        let mut sinks = scenario.sinks.clone();
        sinks[0] = SinkPlan { buffer_events: 3, ..sink(Manner::Hanging, None) };
        let scenario = Scenario { linked: true, linked_disk: sinks[1].disk, sinks, seed: at, ..scenario };
        figures.add(&judged(scenario, at, &format!("a link exchanged at step {at}")));
    }
    println!("a link exchanged at every step: {figures}, no violation");
}
