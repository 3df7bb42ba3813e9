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

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use proptest::prelude::*;

    use super::*;
    use crate::base::clock;

    /// Time in seconds, and what the line is told by.
    fn block(source: &str, lines: &[(u32, &str)]) -> Block {
        let text = |(at, name): &(u32, &str)| match at {
            0 => (*name).to_owned(),
            at => format!("2026-11-21T10:{:02}:{:02}Z {name}", at / 60, at % 60),
        };
        let origin = std::sync::Arc::new(crate::batch::Origin::new("t", source));
        let mut builder = crate::batch::BatchBuilder::new(origin);
        lines.iter().for_each(|line| builder.push(text(line).as_bytes()));
        Block::lines(builder.finish(crate::batch::Receipt::none()))
    }

    fn printed(show: impl FnOnce(&mut Printer)) -> Vec<String> {
        let mut file = tempfile::tempfile().unwrap();
        let mut printer = Printer::into_file(file.try_clone().unwrap());
        show(&mut printer);
        printer.write().unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_is_late_by_less_than_the_window_finds_its_place() {
        let start = clock::now();
        let at = |millis| Some(start + Duration::from_millis(millis));
        let mut window = Window::default();
        let lines = printed(|printer| {
            window.push(block("a", &[(10, "a10"), (0, "a10+"), (30, "a30")]), start);
            window.release(at(99), printer).unwrap();
            window.push(block("b", &[(20, "b20"), (40, "b40")]), start + Duration::from_millis(99));
            assert_eq!(window.due(), at(100));
            window.release(at(100), printer).unwrap();
            window.push(block("a", &[(35, "a35")]), start + Duration::from_millis(150));
            window.release(at(199), printer).unwrap();
            assert_eq!(window.due(), None, "what is earlier than what is due goes before it");
            window.push(block("c", &[(1, "c01")]), start + Duration::from_millis(200));
            window.release(None, printer).unwrap();
            assert_eq!((window.due(), window.held_bytes), (None, 0));
        });
        assert_eq!(lines, ["a10", "a10+", "b20", "a30", "a35", "b40", "c01"]);
    }

    struct Held(VecDeque<Block>);

    impl Backlog for Held {
        fn next(&mut self, _: &mut Wanted) -> Result<Option<Block>, crate::cli::exit::Failure> {
            Ok(self.0.pop_front())
        }
    }

    proptest! {
        #[test]
        fn sorted_inputs_come_out_sorted_and_each_in_its_order(
            inputs in proptest::collection::vec(proptest::collection::vec(1u32..3600, 0..30), 1..6), cut in 1usize..9) {
            let mut all: Vec<(u32, usize, usize)> = Vec::new();
            let mut held: Vec<Box<dyn Backlog>> = Vec::new();
            for (source, times) in inputs.iter().enumerate() {
                let mut times = times.clone();
                times.sort_unstable();
                all.extend(times.iter().enumerate().map(|(index, at)| (*at, source, index)));
                let names: Vec<String> =
                    times.iter().enumerate().map(|(index, at)| format!("{at}/{source}/{index}")).collect();
                let lines: Vec<(u32, &str)> = times.iter().copied().zip(names.iter().map(String::as_str)).collect();
                let blocks = lines.chunks(cut).map(|lines| block(&source.to_string(), lines)).collect();
                held.push(Box::new(Held(blocks)));
            }
            let mut wanted = Wanted::everything();
            let lines = printed(|printer| backlogs(&mut held, &mut wanted, printer).unwrap());
            let read: Vec<(u32, usize, usize)> = lines
                .iter()
                .map(|line| {
                    let mut parts = line.split('/').map(|part| part.parse::<usize>().unwrap());
                    let mut next = || parts.next().unwrap();
                    (next() as u32, next(), next())
                })
                .collect();
            prop_assert!(read.is_sorted_by_key(|(at, ..)| *at), "{read:?}");
            for source in 0..inputs.len() {
                prop_assert!(read.iter().filter(|r| r.1 == source).is_sorted_by_key(|r| r.2));
            }
            all.sort_unstable();
            let mut sorted = read;
            sorted.sort_unstable();
            prop_assert_eq!(sorted, all);
        }
    }
}
