//! Not by seed but one after the other: a reload of each kind at every step of a small flow, and in the middle of it
//! a crash at every write, or a shutdown at every step.

use std::time::Duration;

use super::disk::model::Survives;
use super::scenario::{DiskPlan, End, Life, Manner, Reload, Scenario, SinkPlan, Then, Trouble, When};
use super::shape::Change;
use super::{Figures, judged, number};

/// Each kind of change alone.
const CHANGES: [Change; 10] = [
    Change::Filter,
    Change::Source(0),
    Change::Sink(0),
    Change::Sink(1),
    Change::OwnFilter(1),
    Change::Swap,
    Change::Guest(2),
    Change::Aside,
    Change::Trade(2),
    Change::ToDisk(0),
];
const TROUBLES: [Trouble; 3] = [Trouble::None, Trouble::Sinks, Trouble::Sources];

fn sink(manner: Manner, disk: Option<DiskPlan>) -> SinkPlan {
    SinkPlan { manner, when_full: "block", only: None, buffer_events: 15, disk, later: None }
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
            SinkPlan { later: Some(disk), ..sink(Manner::Slow, None) },
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
        linked_later: None,
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
    let changes = [
        Change::Filter,
        Change::Sink(1),
        Change::Source(0),
        Change::Guest(2),
        Change::Aside,
        Change::ToDisk(0),
    ];
    for change in changes {
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

/// What a sink's buffer on disk is like once it has moved there.
fn later(when_full: &'static str, sync_millis: u64) -> DiskPlan {
    DiskPlan { when_full, bytes_max: 60 << 10, memory_bytes: 3000, sync_millis, compress: None }
}

/// The first sink's buffer moves to disk at that step, with that trouble, and a while later again, without.
fn move_twice(manner: Manner, trouble: Trouble, at: u64, disk: DiskPlan) -> Scenario {
    let mut moves = step(Change::ToDisk(0), trouble, at);
    // With a source, so that one can fail.
    moves.changes.push(Change::Source(0));
    let mut scenario = small(moves, End::Completion, Survives::Everything);
    scenario.sinks[0] = SinkPlan { later: Some(disk), ..sink(manner, None) };
    let again = Reload {
        when: When::After(Duration::from_millis(40)),
        changes: vec![Change::ToDisk(0)],
        trouble: Trouble::None,
    };
    scenario.lives[0].reloads.insert(1, again);
    scenario.seed = at;
    scenario
}

#[test]
fn a_buffer_moves_to_disk_at_every_step_and_after_every_trouble() {
    let mut figures = Figures::default();
    let troubles =
        [Trouble::None, Trouble::Sinks, Trouble::Sources, Trouble::Late, Trouble::Disk, Trouble::Full];
    let manners = [Manner::Prompt, Manner::Slow, Manner::Juggling(4), Manner::Failing, Manner::Hanging];
    for (trouble, manner) in troubles.into_iter().flat_map(|trouble| manners.map(|manner| (trouble, manner)))
    {
        let every = if is_thorough() { 1 } else { 3 };
        for at in (0..30).step_by(every) {
            let disk = later(["block", "overflow"][at as usize % 2], [0, 5, 1000][at as usize / 2 % 3]);
            let name = format!("to disk before {manner:?} with trouble {trouble:?} at step {at}");
            figures.add(&judged(move_twice(manner, trouble, at, disk), at, &name));
        }
    }
    println!("a buffer moves to disk at every step: {figures}, no violation");
}

#[test]
fn an_end_at_every_moment_of_a_buffer_on_its_way_to_disk_loses_nothing() {
    let mut figures = Figures::default();
    let troubles = [Trouble::None, Trouble::Sinks, Trouble::Sources, Trouble::Disk, Trouble::Full];
    let thens = |at: u64| match at {
        0..12 => Then::Step(at),
        _ => Then::After(Duration::from_millis((at - 12) * (at - 12))),
    };
    for (trouble, at) in troubles.into_iter().flat_map(|trouble| (0..24).map(move |at| (trouble, at))) {
        for (manner, second) in
            [(Manner::Slow, None), (Manner::Hanging, Some(at * 3)), (Manner::Dead, Some(at))]
        {
            let mut scenario = move_twice(manner, trouble, 12, later("block", 5));
            let last = scenario.lives.remove(0);
            let mut first = last.clone();
            first.reloads.truncate(2);
            first.end = match at % 3 {
                0 => End::Crash(When::Reload(0, thens(at))),
                _ => End::Drain(When::Reload(0, thens(at))),
            };
            first.survives = Survives::ALL[at as usize % 4];
            first.second_signal = second.map(Duration::from_millis);
            scenario.lives = vec![first, Life { reloads: last.reloads[2..].to_vec(), ..last }];
            let name = format!(
                "to disk before {manner:?} with trouble {trouble:?}, an end {:?} after it began",
                thens(at)
            );
            figures.add(&judged(scenario, at, &name));
        }
    }
    println!("an end at every moment of a buffer on its way to disk: {figures}, no violation");
}
