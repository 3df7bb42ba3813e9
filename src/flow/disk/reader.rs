//! Reading back: records in order, from wherever reading stands to the last one that was appended. Damage and missing
//! segments are stepped over; what they held is known from the counts in the next record or segment.

use std::io;

use super::format::{Point, SEGMENT_HEADER};
use super::record::decode;
use super::scan::{Found, Scanner};
use super::segments::free_name;
use super::storage::Open;
use super::store::{Segment, Store, segment_path};
use crate::batch::Batch;

/// A record that was read.
#[derive(Debug)]
pub struct ReadBack {
    /// Its rows.
    pub batch: Batch,
    /// Before it.
    pub start: Point,
    /// After it.
    pub end: Point,
}

impl Store {
    /// Goes on after `point`, the end of a record that the caller has in memory.
    pub fn skip_to(&mut self, point: Point) {
        if point.seq > self.read.seq {
            self.read = point;
        }
    }

    /// The next record, or `None` after the last one. Never waits for another to be written.
    ///
    /// # Errors
    /// When a segment cannot be read; reading stands where it stood.
    pub fn read_next(&mut self) -> io::Result<Option<ReadBack>> {
        while self.read.seq < self.end.seq {
            let Some(segment) = self.segment_at(self.read) else {
                self.next_segment();
                continue;
            };
            if self.read.segment != segment.start.seq || self.read.offset < SEGMENT_HEADER {
                self.read = Point { segment: segment.start.seq, offset: SEGMENT_HEADER, ..self.read };
            }
            if !self.open_scanner(segment)? {
                continue;
            }
            let Some((_, scanner)) = &mut self.scanner else { continue };
            match scanner.at(self.read.offset, segment.len)? {
                Found::End => self.next_segment(),
                Found::Damage { until, .. } => {
                    self.losses.damaged += 1;
                    self.read.offset = until;
                }
                Found::Record(header, payload) => {
                    let after = self.read.offset + header.record_len();
                    if header.seq < self.read.seq {
                        // Settled before.
                        self.read.offset = after;
                        continue;
                    }
                    self.count_lost(header.events_before, header.bytes_before);
                    let start = Point {
                        seq: header.seq,
                        events: header.events_before,
                        bytes: header.bytes_before,
                        ..self.read
                    };
                    let Some(batch) = decode(&header, payload, &mut self.origin) else {
                        self.losses.damaged += 1;
                        self.read = Point { offset: after, ..start };
                        continue;
                    };
                    let end = Point {
                        seq: header.seq + 1,
                        events: header.events_before + u64::from(header.rows),
                        bytes: header.bytes_before + u64::from(header.row_bytes),
                        offset: after,
                        ..start
                    };
                    self.read = end;
                    return Ok(Some(ReadBack { batch, start, end }));
                }
            }
        }
        Ok(None)
    }

    /// The segment in which the record after `point` lies, if it is there.
    fn segment_at(&self, point: Point) -> Option<Segment> {
        let at = self.segments.partition_point(|s| s.start.seq <= point.seq);
        let segment = self.segments.get(at.checked_sub(1)?)?;
        // The end of a segment that another follows, or after which some are missing.
        (point.segment != segment.start.seq || point.offset < segment.len).then_some(*segment)
    }

    /// Reads go on with the segment after the one they stand in, or end.
    fn next_segment(&mut self) {
        let next =
            self.segments.iter().find(|s| s.start.seq > self.read.segment && s.start.seq >= self.read.seq);
        let next = next.map_or(self.end, |s| s.start);
        self.step_to(next);
        self.read = next;
    }

    /// Reads go on at `point`, if they stand before it: what lay in between is missing.
    pub(super) fn step_to(&mut self, point: Point) {
        if point.seq > self.read.seq {
            self.losses.missing += 1;
            self.count_lost(point.events, point.bytes);
            self.read = point;
        }
    }

    /// Events between where reading stands and a place that is known to come later are lost.
    fn count_lost(&mut self, events: u64, bytes: u64) {
        let lost = (events.saturating_sub(self.read.events), bytes.saturating_sub(self.read.bytes));
        self.losses.events += lost.0;
        self.losses.bytes += lost.1;
        self.settle(lost.0, lost.1);
        self.read.events = self.read.events.max(events);
        self.read.bytes = self.read.bytes.max(bytes);
    }

    /// False when the segment's file is gone, and with it the segment.
    fn open_scanner(&mut self, segment: Segment) -> io::Result<bool> {
        let number = segment.start.seq;
        if self.scanner.as_ref().is_some_and(|(open, _)| *open == number) {
            return Ok(true);
        }
        match self.storage.open(&segment_path(&self.dir, number), Open::Read) {
            Ok(file) => {
                self.scanner = Some((number, Scanner::new(file, self.salt, number, self.pool.clone())));
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let last = self.segments.back().is_some_and(|s| s.start.seq == number);
                if last {
                    self.active = None;
                }
                self.segments.retain(|s| s.start.seq != number);
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Gives up the segment that reading stands in, whose file cannot be read: it is moved aside, not removed. False
    /// where that fails, too: then it is the disk that is away, and may come back with all it had.
    pub fn set_aside_unreadable(&mut self) -> bool {
        let Some(segment) = self.segment_at(self.read) else { return false };
        let path = segment_path(&self.dir, segment.start.seq);
        match self.storage.rename(&path, &free_name(self.storage.as_ref(), &path)) {
            Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem) => {
                return false;
            }
            _ => {}
        }
        if self.segments.back().is_some_and(|s| s.start.seq == segment.start.seq) {
            self.active = None;
        }
        self.segments.retain(|s| s.start.seq != segment.start.seq);
        self.scanner = None;
        true
    }
}
