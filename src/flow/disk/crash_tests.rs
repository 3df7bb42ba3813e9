//! The machine goes down at every single operation of a run that appends, syncs, delivers and acknowledges, and comes
//! back with more or less of what was not synced. The oracle: what was told to be safe and was not acknowledged is
//! there, whole, once and in order.

use std::path::Path;
use std::sync::Arc;

use super::format::{Compression, Point};
use super::model_tests::{Model, Survives};
use super::store::{Limits, Store};
use crate::base::rng::Rng;
use crate::batch::Batch;

const DIR: &str = "/buffer";
const LIMITS: Limits = Limits { bytes_max: 256 << 10, events_max: None, compression: Compression::None };

fn line(number: u64) -> String {
    format!("{number:08} {}", "x".repeat(300 + (number * 37 % 400) as usize))
}

fn numbers(batch: &Batch) -> Vec<u64> {
    let parse = |(_, text): (u32, &[u8])| {
        let text = std::str::from_utf8(text).expect("text is what was written");
        let number = text[..8].parse().expect("a number");
        assert_eq!(text, line(number), "a line is whole");
        number
    };
    batch.lines().map(parse).collect()
}

/// What a life of the buffer promised.
#[derive(Debug, Default)]
struct Promises {
    /// Lines that were appended.
    written: u64,
    /// Lines before this one were told to be safe.
    safe: u64,
    /// Lines before this one were settled by the sink.
    acked: u64,
    /// Lines before this one were settled when positions were last forced to the disk.
    acked_for_sure: u64,
}

/// Runs until it is done or the machine is down.
fn live(model: &Model, seed: u64, rounds: u64, promises: &mut Promises) -> Option<()> {
    let mut rng = Rng::seeded(seed);
    let (mut store, _) = Store::open(Arc::new(model.clone()), Path::new(DIR), LIMITS).ok()?;
    let mut delivered: Vec<(Point, u64)> = Vec::new();
    for _ in 0..rounds {
        match rng.below(8) {
            0..=3 => {
                let mut next = promises.written;
                let batches: Vec<Batch> = (0..1 + rng.below(4))
                    .map(|_| {
                        let first = next;
                        next += 1 + rng.below(6);
                        Batch::from_lines("t", (first..next).map(line))
                    })
                    .collect();
                let mut appended = Vec::new();
                let result = store.append(&batches, &mut appended);
                for (batch, _) in batches.iter().zip(&appended) {
                    promises.written += batch.events();
                }
                if let Err(super::Refused::Io(_)) = result {
                    return None;
                }
            }
            4 => {
                if let Some(ticket) = store.begin_sync() {
                    ticket.run().ok()?;
                    store.end_sync(&ticket, true);
                    promises.safe = ticket.upto().events;
                    store.persist(false).ok()?;
                }
            }
            5 | 6 => {
                for _ in 0..rng.below(4) {
                    let Some(record) = store.read_next().ok()? else { break };
                    delivered
                        .push((record.end, *numbers(&record.batch).last().expect("no empty record") + 1));
                }
            }
            _ => {
                if delivered.is_empty() {
                    continue;
                }
                let count = 1 + rng.below(delivered.len() as u64) as usize;
                let (point, upto) = delivered.drain(..count).next_back().expect("some");
                promises.acked = upto;
                store.ack_to(point).ok()?;
                store.persist(rng.below(2) == 0).ok().map(|()| promises.acked_for_sure = upto)?;
            }
        }
    }
    Some(())
}

/// Opens what survived and reads all of it.
fn recovered(model: &Model) -> Vec<u64> {
    let (mut store, _) =
        Store::open(Arc::new(model.clone()), Path::new(DIR), LIMITS).expect("a crash never blocks the start");
    let mut lines = Vec::new();
    while let Some(record) = store.read_next().expect("readable") {
        lines.extend(numbers(&record.batch));
    }
    lines
}

/// What is wrong with what came back.
fn violation(promises: &Promises, lines: &[u64], survives: Survives) -> Option<String> {
    if let Some(pair) = lines.windows(2).find(|w| w[0] >= w[1]) {
        return Some(format!("out of order or twice: {pair:?}"));
    }
    let wanted = promises.acked..promises.safe;
    if let Some(lost) = wanted.clone().find(|n| lines.binary_search(n).is_err()) {
        return Some(format!("line {lost} of {wanted:?} was safe and is lost"));
    }
    // What was being written when the machine went down may be there, too.
    if let Some(odd) = lines.iter().find(|n| **n > promises.written + 24) {
        return Some(format!("line {odd} was never written"));
    }
    let repeated =
        survives == Survives::Everything && lines.first().is_some_and(|n| *n < promises.acked_for_sure);
    repeated.then(|| format!("line {} was settled on disk and came again", lines[0]))
}

fn crash_everywhere(seed: u64, rounds: u64, lies: bool) -> Result<usize, String> {
    let whole = Model::default();
    live(&whole, seed, rounds, &mut Promises::default()).expect("nothing fails");
    let operations = whole.operations();
    for at in 0..operations {
        let model = Model::crashing_at(at);
        let model = if lies { model.lying() } else { model };
        let mut promises = Promises::default();
        live(&model, seed, rounds, &mut promises);
        for survives in Survives::ALL {
            let after = model.after_crash(survives);
            let lines = recovered(&after);
            let context = |e| format!("seed {seed}, operation {at} of {operations}, {survives:?}: {e}");
            violation(&promises, &lines, survives).map_or(Ok(()), |e| Err(context(e)))?;
            go_on(&after, &lines).map_err(context)?;
        }
    }
    Ok(operations)
}

/// The buffer goes on where it was left, and its next life has both.
fn go_on(model: &Model, before: &[u64]) -> Result<(), String> {
    let open = || Store::open(Arc::new(model.clone()), Path::new(DIR), LIMITS).expect("opens");
    let (mut store, _) = open();
    let batch = Batch::from_lines("t", (90_000_000..90_000_003).map(line));
    let mut appended = Vec::new();
    match store.append([&batch], &mut appended) {
        Ok(()) => {}
        // A buffer that was full is full.
        Err(super::Refused::Full) => return Ok(()),
        Err(e) => return Err(format!("cannot append: {e:?}")),
    }
    let ticket = store.begin_sync().ok_or("nothing to sync")?;
    ticket.run().map_err(|e| e.to_string())?;
    store.end_sync(&ticket, true);
    drop(store);
    let mut wanted = before.to_vec();
    wanted.extend(90_000_000..90_000_003);
    let lines = recovered(&model.after_crash(Survives::Nothing));
    if lines == wanted { Ok(()) } else { Err(format!("after going on: {lines:?} instead of {wanted:?}")) }
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_safe() {
    let mut operations = 0;
    for seed in 1..=3 {
        operations += crash_everywhere(seed, 160, false).unwrap_or_else(|e| panic!("{e}"));
    }
    assert!(operations > 500, "{operations} operations are too few to mean anything");
}

#[test]
fn a_skipped_sync_is_caught() {
    let caught = (1..=3).filter_map(|seed| crash_everywhere(seed, 60, true).err()).next();
    assert!(caught.as_ref().is_some_and(|e| e.contains("was safe and is lost")), "{caught:?}");
}

/// A full buffer whose sink takes nothing, and whose oldest segments give way. Lines before the second number were
/// dropped or were about to be, lines before the third were told to be safe.
fn drop_oldest_until_it_crashes(model: &Model, given_up: &mut u64, safe: &mut u64) -> Option<()> {
    let (mut store, _) = Store::open(Arc::new(model.clone()), Path::new(DIR), LIMITS).ok()?;
    for first in (0..2400).step_by(40) {
        let batch = Batch::from_lines("t", (first..first + 40).map(line));
        while let Err(refused) = store.append([&batch], &mut Vec::new()) {
            let super::Refused::Full = refused else { return None };
            *given_up = store.segments.get(1).expect("several").start.events;
            store.drop_oldest().ok()?;
        }
        let ticket = store.begin_sync()?;
        ticket.run().ok()?;
        store.end_sync(&ticket, true);
        *safe = ticket.upto().events;
    }
    Some(())
}

#[test]
fn a_crash_while_the_oldest_gives_way_makes_nothing_missing() {
    let whole = Model::default();
    let (mut given_up, mut safe) = (0, 0);
    drop_oldest_until_it_crashes(&whole, &mut given_up, &mut safe).expect("nothing fails");
    assert!(given_up > 1200 && safe == 2400, "{given_up} {safe}");
    for at in 0..whole.operations() {
        let model = Model::crashing_at(at);
        let (mut given_up, mut safe) = (0, 0);
        drop_oldest_until_it_crashes(&model, &mut given_up, &mut safe);
        for survives in Survives::ALL {
            let after = model.after_crash(survives);
            let (mut store, recovered) =
                Store::open(Arc::new(after), Path::new(DIR), LIMITS).expect("a crash never blocks the start");
            let mut lines = Vec::new();
            while let Some(record) = store.read_next().expect("readable") {
                lines.extend(numbers(&record.batch));
            }
            let losses = store.take_losses();
            let context = format!("operation {at}, {survives:?}: {recovered:?} {losses:?}");
            assert_eq!(losses.missing, 0, "{context}");
            assert_eq!(recovered.events, lines.len() as u64 + losses.events, "{context}");
            let lost = (given_up..safe).find(|n| lines.binary_search(n).is_err());
            assert_eq!(lost, None, "{context}");
            assert!(lines.windows(2).all(|w| w[0] < w[1]), "{context}");
        }
    }
}
