//! The buffer's directory as one log: numbered segments, a place where records are appended, one where they are read,
//! and one before which everything is settled. No threads and no clocks here; [`super::stage`] drives it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{Compression, Point, Positions};
use super::giving_up::Gaps;
use super::positions::PositionFile;
use super::recycle::Spare;
use super::scan::Scanner;
use super::storage::{Held, Storage, StoredFile};
use crate::batch::{ChunkPool, Origin};

/// End of a segment file's name.
pub const SEGMENT_SUFFIX: &str = ".seg";
/// Name of the lock file.
pub const LOCK_FILE: &str = "lock";
/// Shortest and longest segments, in bytes; an eighth of the buffer in between.
const SEGMENT_BYTES: (u64, u64) = (16 << 10, 16 << 20);

/// Bounds of a buffer on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of segment files. One record is always admitted to an empty buffer.
    pub bytes_max: u64,
    /// Most events that wait.
    pub events_max: Option<u64>,
    /// How records are written.
    pub compression: Compression,
}

impl Limits {
    /// A segment is closed when it has grown beyond this.
    pub fn segment_bytes(&self) -> u64 {
        (self.bytes_max / 8).clamp(SEGMENT_BYTES.0, SEGMENT_BYTES.1)
    }
}

/// A segment file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// Where its records start.
    pub(super) start: Point,
    /// Bytes of it that count.
    pub(super) len: u64,
    /// Length of its file, where that is more: of old records that are written over.
    pub(super) file_len: u64,
}

/// Events that could not be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// Events.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Damaged stretches that were skipped.
    pub damaged: u64,
    /// Gaps between segments.
    pub missing: u64,
}

/// A buffer's log, locked against other processes.
#[derive(Debug)]
pub struct Store {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) dir: PathBuf,
    pub(super) limits: Limits,
    #[expect(dead_code, reason = "held for its lock")]
    pub(super) lock: Box<dyn Held>,
    /// One for the whole buffer.
    pub(super) salt: u32,
    /// Ascending.
    pub(super) segments: VecDeque<Segment>,
    /// The last segment, while it is open for appending.
    pub(super) active: Option<Arc<dyn StoredFile>>,
    /// After the last record.
    pub(super) end: Point,
    /// Events that wait or are in the sink's hands, and their bytes.
    pub(super) queued: (u64, u64),
    /// Before the next record to read.
    pub(super) read: Point,
    /// Reads the segment of that number.
    pub(super) scanner: Option<(u64, Scanner)>,
    pub(super) origin: Option<Arc<Origin>>,
    pub(super) pool: ChunkPool,
    /// Everything before it is settled.
    pub(super) acked: Point,
    /// Everything before it is on the disk.
    pub(super) synced: Point,
    pub(super) positions: PositionFile,
    pub(super) positions_changed: bool,
    /// Files with bytes that were not synced, in the order of writing.
    pub(super) dirty: Vec<(u64, Arc<dyn StoredFile>)>,
    /// The directory has entries that were not synced.
    pub(super) dir_dirty: bool,
    pub(super) losses: Losses,
    /// What was dropped on purpose.
    pub(super) gaps: Gaps,
    /// Written over by the next segments. Bounded.
    pub(super) spares: Vec<Spare>,
    /// Bytes and events of a record for which there was no room when it was last asked for.
    pub(super) refused: Option<(u64, u64)>,
}

/// The path of the segment that starts with record `seq`.
pub fn segment_path(dir: &Path, seq: u64) -> PathBuf {
    dir.join(format!("{seq:020}{SEGMENT_SUFFIX}"))
}

/// The number in a segment file's name.
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

impl Store {
    /// After the last record.
    pub fn end(&self) -> Point {
        self.end
    }

    /// Before the next record to read.
    pub fn read_point(&self) -> Point {
        self.read
    }

    /// Everything before it is settled.
    pub fn acked(&self) -> Point {
        self.acked
    }

    /// Everything before it is on the disk.
    pub fn synced(&self) -> Point {
        self.synced
    }

    /// Events and bytes of events that are not settled, given up or known to be lost.
    pub fn queued(&self) -> (u64, u64) {
        self.queued
    }

    /// Events were settled, whatever their place.
    pub fn settle(&mut self, events: u64, bytes: u64) {
        self.queued.0 = self.queued.0.saturating_sub(events);
        self.queued.1 = self.queued.1.saturating_sub(bytes);
    }

    /// Bytes of segment files.
    pub fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(Segment::occupied).sum::<u64>() + self.spare_bytes()
    }

    /// Number of segment files.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// What could not be read back since the last call.
    pub fn take_losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    /// Everything before `point` is settled: it is not delivered again.
    pub(super) fn note_settled(&mut self, point: Point) {
        if point.seq > self.acked.seq {
            self.acked = point;
            self.positions_changed = true;
        }
    }

    /// The same, and segments that hold nothing else go.
    ///
    /// # Errors
    /// From the file system; what was not removed is removed another time.
    pub fn ack_to(&mut self, point: Point) -> io::Result<()> {
        self.note_settled(point);
        self.remove_settled()
    }

    /// Removes the segments of which every record is settled, except the last.
    pub(super) fn remove_settled(&mut self) -> io::Result<()> {
        let settled = self.segments.iter().skip(1).take_while(|s| s.start.seq <= self.acked.seq).count();
        if settled > 0 { self.remove_first(settled, true) } else { Ok(()) }
    }

    /// Removes the oldest segments, or keeps one of them to be written over. The positions are forced to the disk
    /// before: a segment that is missing then is known to be one that was meant to go.
    pub(super) fn remove_first(&mut self, count: usize, keep: bool) -> io::Result<()> {
        self.persist(true)?;
        for _ in 0..count {
            let Some(segment) = self.segments.front().copied() else { break };
            if !(keep && self.keep_spare(&segment)) {
                match self.storage.remove(&segment_path(&self.dir, segment.start.seq)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            self.segments.pop_front();
            // What is gone need not be forced to the disk, and an open file keeps its room, whatever its name.
            self.dirty.retain(|(number, _)| *number != segment.start.seq);
            if self.scanner.as_ref().is_some_and(|(number, _)| *number == segment.start.seq) {
                self.scanner = None;
            }
        }
        Ok(())
    }

    /// Writes the positions if they changed, and forces them to the disk if `sync`.
    ///
    /// # Errors
    /// From the file system.
    pub fn persist(&mut self, sync: bool) -> io::Result<()> {
        if self.positions_changed || sync {
            let (given_up, giving_up) = self.gaps.told(self.acked);
            let (acked, synced) = (self.acked, self.synced);
            let positions = Positions { generation: 0, salt: self.salt, acked, synced, given_up, giving_up };
            self.positions.write(positions, sync)?;
            self.positions_changed = false;
        }
        Ok(())
    }
}
