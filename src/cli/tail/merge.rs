//! Several inputs as one, in the order of time. What is there already is merged as a whole; what comes while we watch
//! is held for a moment, so that lines of different inputs that are late by less find their place. The lines of one
//! input keep their order, and a line without a time stays with the one before it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use super::block::Block;
use super::input::Backlog;
use super::output::{Ended, Printer};
use super::wanted::Wanted;
use crate::base::clock::Instant;

/// How long what comes is held.
pub(super) const WINDOW: Duration = Duration::from_millis(100);
/// Bytes that are held at most; beyond them the oldest go on at once.
const HELD_BYTES_MAX: u64 = 32 << 20;

/// Sources of lines of which the last time is remembered while they are silent.
const LANES_MAX: usize = 1024;

/// A block, and how far it was dealt with.
#[derive(Debug)]
struct Cursor {
    block: Block,
    rows: Vec<u32>,
    at: usize,
    /// The time of the row at `at`.
    key: i64,
}

impl Cursor {
    /// At the first row; `before` is the time of the row before it.
    fn new(block: Block, before: i64) -> Option<Cursor> {
        let rows: Vec<u32> = block.batch.live().iter().collect();
        let mut cursor = Cursor { block, rows, at: 0, key: before };
        cursor.look().then_some(cursor)
    }

    /// Finds the time of the row at `at`; false if there is none.
    fn look(&mut self) -> bool {
        let Some(row) = self.rows.get(self.at) else { return false };
        if let Some(time) = self.block.stated_time(*row) {
            self.key = time.0;
        }
        true
    }

    /// Prints rows as long as they are not later than `limit`; at least one. False once none is left.
    fn print_until(&mut self, limit: Option<i64>, printer: &mut Printer) -> Result<bool, Ended> {
        let from = self.at;
        let mut more = true;
        while more && (self.at == from || limit.is_none_or(|limit| self.key <= limit)) {
            self.at += 1;
            more = self.look();
        }
        printer.rows(&self.block, self.rows[from..self.at].iter().copied())?;
        Ok(more)
    }
}

/// Prints what the inputs hold, merged.
pub(super) fn backlogs(
    inputs: &mut [Box<dyn Backlog>],
    wanted: &mut Wanted,
    printer: &mut Printer,
) -> Result<(), Ended> {
    if let [only] = inputs {
        if wanted.is_everything()
            && wanted.since.is_none()
            && let Some(out) = printer.untouched()?
            && let Some(copied) = only.copy_to(out)
        {
            return copied.map_err(Ended::from);
        }
        while let Some(block) = only.next(wanted)? {
            printer.block(&block)?;
        }
        return printer.write();
    }
    let mut cursors: Vec<Option<Cursor>> = Vec::with_capacity(inputs.len());
    let mut heads = BinaryHeap::with_capacity(inputs.len());
    for (index, input) in inputs.iter_mut().enumerate() {
        let cursor = next_cursor(input.as_mut(), i64::MIN, wanted)?;
        heads.extend(cursor.as_ref().map(|c| Reverse((c.key, index))));
        cursors.push(cursor);
    }
    while let Some(Reverse((_, index))) = heads.pop() {
        let limit = heads.peek().map(|Reverse((key, _))| *key);
        let Some(cursor) = &mut cursors[index] else { continue };
        if !cursor.print_until(limit, printer)? {
            let before = cursor.key;
            cursors[index] = next_cursor(inputs[index].as_mut(), before, wanted)?;
        }
        heads.extend(cursors[index].as_ref().map(|c| Reverse((c.key, index))));
    }
    printer.write()
}

fn next_cursor(input: &mut dyn Backlog, before: i64, wanted: &mut Wanted) -> Result<Option<Cursor>, Ended> {
    while let Some(block) = input.next(wanted)? {
        if let Some(cursor) = Cursor::new(block, before) {
            return Ok(Some(cursor));
        }
    }
    Ok(None)
}

/// What one source of lines has sent that waits.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<(Cursor, Instant)>,
    /// The time of its last row.
    last: Option<i64>,
}

/// Holds what comes; see the module.
#[derive(Debug, Default)]
pub(super) struct Window {
    lanes: BTreeMap<String, Lane>,
    held_bytes: u64,
}

impl Window {
    /// Takes rows that came at `now`.
    pub(super) fn push(&mut self, block: Block, now: Instant) {
        if block.batch.is_empty() {
            return;
        }
        let arrived = block.batch.arena().received().0;
        let label = block.batch.arena().origin().label().to_owned();
        self.held_bytes += block.weight();
        let lane = self.lanes.entry(label).or_default();
        if let Some(cursor) = Cursor::new(block, lane.last.unwrap_or(arrived)) {
            // What the lane's next rows inherit, if they state no time.
            let last = cursor.rows.iter().rev().find_map(|row| cursor.block.stated_time(*row));
            lane.last = last.map(|time| time.0).or(lane.last);
            lane.waiting.push_back((cursor, now));
        }
    }

    /// When the next rows are due.
    pub(super) fn due(&self) -> Option<Instant> {
        let first = |lane: &Lane| lane.waiting.front().map(|(_, came)| *came + WINDOW);
        self.lanes.values().filter_map(first).min()
    }

    /// Prints what is due at `now`, and before it whatever is earlier; all if `now` is `None`.
    pub(super) fn release(&mut self, now: Option<Instant>, printer: &mut Printer) -> Result<(), Ended> {
        let due = |lane: &Lane| {
            lane.waiting.front().is_some_and(|(_, came)| now.is_none_or(|now| *came + WINDOW <= now))
        };
        while self.held_bytes > HELD_BYTES_MAX || self.lanes.values().any(due) {
            let mut heads: Vec<(i64, &String)> = self
                .lanes
                .iter()
                .filter_map(|(label, lane)| Some((lane.waiting.front()?.0.key, label)))
                .collect();
            heads.sort_unstable();
            let Some(label) = heads.first().map(|(_, label)| (*label).clone()) else { break };
            let limit = heads.get(1).map(|(key, _)| *key);
            let Some(lane) = self.lanes.get_mut(&label) else { break };
            let Some((cursor, _)) = lane.waiting.front_mut() else { break };
            if !cursor.print_until(limit, printer)? {
                self.held_bytes -= cursor.block.weight();
                lane.waiting.pop_front();
                if lane.waiting.is_empty() && self.lanes.len() > LANES_MAX {
                    self.lanes.remove(&label);
                }
            }
        }
        Ok(())
    }
}
