//! Segments that the policy gives up while the sink still has older records in hand: everything before the sink's first
//! open record is settled, what lies between its last one and the next segment was dropped and counted. The positions
//! say so before a file goes, so that a crash does not make missing files of dropped ones.

use std::collections::VecDeque;
use std::io;

use super::format::{GivenUp, Point};
use super::recovery::Recovered;
use super::store::{Store, segment_path};

/// Stretches of the log that were dropped on purpose, and of which the settled place is not past.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// From the last record that was handed over to the next segment. Ascending; neighbours are one.
    done: VecDeque<(Point, Point)>,
    /// The one whose segment is being removed.
    doing: Option<(Point, Point)>,
}

fn between(from: &Point, to: &Point) -> GivenUp {
    let events = to.events.saturating_sub(from.events);
    GivenUp { events, bytes: to.bytes.saturating_sub(from.bytes), upto: *to }
}

impl Gaps {
    /// Forgets what is settled.
    fn settled(&mut self, acked: Point) {
        while self.done.front().is_some_and(|(_, to)| to.seq <= acked.seq) {
            self.done.pop_front();
        }
    }

    fn add(&mut self, from: Point, to: Point) {
        match self.done.back_mut().filter(|(_, end)| end.seq == from.seq) {
            Some((_, end)) => *end = to,
            None => self.done.push_back((from, to)),
        }
    }

    /// What was given up, and what is about to be, for the position file.
    pub(super) fn told(&mut self, acked: Point) -> (GivenUp, GivenUp) {
        self.settled(acked);
        let done =
            self.done.iter().map(|(from, to)| between(from, to)).fold(GivenUp::default(), |sum, gap| {
                GivenUp { events: sum.events + gap.events, bytes: sum.bytes + gap.bytes, upto: gap.upto }
            });
        (done, self.doing.map_or_else(GivenUp::default, |(from, to)| between(&from, &to)))
    }
}

impl Store {
    /// Makes room by giving up the oldest segment. Returns the events and bytes in it that were not read yet, `None`
    /// when there is nothing left to give up.
    ///
    /// # Errors
    /// From the file system; nothing was given up.
    pub fn drop_oldest(&mut self) -> io::Result<Option<(u64, u64)>> {
        let Some(oldest) = self.segments.front().copied() else { return Ok(None) };
        // What is missing before it was not dropped, but is lost, too.
        self.step_to(oldest.start);
        let after = match self.segments.get(1) {
            Some(next) => next.start,
            None => {
                self.active = None;
                self.end
            }
        };
        let from = if self.read.seq > oldest.start.seq { self.read } else { oldest.start };
        let GivenUp { events, bytes, .. } = between(&from, &after);
        self.gaps.doing = (from.seq < after.seq).then_some((from, after));
        let removed = self.remove_first(1, false);
        if let (Some((from, after)), Ok(())) = (self.gaps.doing.take(), &removed) {
            self.gaps.add(from, after);
        }
        self.positions_changed = true;
        removed?;
        if self.read.seq < after.seq {
            self.read = after;
        }
        self.settle(events, bytes);
        Ok(Some((events, bytes)))
    }

    /// After a start: what an earlier run gave up is neither delivered nor missing. What of it was in the sink's hands
    /// then is lost with the files, and counted.
    pub(super) fn step_over(&mut self, told: (GivenUp, GivenUp), recovered: &mut Recovered) {
        let (done, doing) = told;
        if done.upto.seq > self.acked.seq {
            // A machine that went down may have brought removed files back.
            while let Some(segment) = self.segments.front().filter(|s| s.start.seq < done.upto.seq).copied() {
                if let Err(e) = self.storage.remove(&segment_path(&self.dir, segment.start.seq)) {
                    recovered.notes.push(format!("cannot remove segment {}: {e}", segment.start.seq));
                }
                self.segments.pop_front();
            }
        }
        let is_gone = self.segments.front().is_none_or(|s| s.start.seq >= doing.upto.seq);
        let (mut events, mut bytes, mut upto) = (done.events, done.bytes, done.upto);
        if doing.upto.seq > self.acked.seq && is_gone {
            (events, bytes, upto) = (events + doing.events, bytes + doing.bytes, doing.upto);
        }
        if upto.seq <= self.acked.seq {
            return;
        }
        let in_hand = between(&self.acked, &upto);
        let (lost, lost_bytes) = (in_hand.events.saturating_sub(events), in_hand.bytes.saturating_sub(bytes));
        self.losses.events += lost;
        self.losses.bytes += lost_bytes;
        self.losses.missing += u64::from(lost > 0);
        recovered.events += lost;
        recovered.bytes += lost_bytes;
        if upto.seq > self.end.seq {
            (self.end, self.active) = (upto, None);
        }
        (self.acked, self.read) = (upto, upto);
    }
}
