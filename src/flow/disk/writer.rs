//! Appending: records go to the end of the active segment in one system call for as many as there are; a segment that
//! has grown long is closed and another begun. What was written counts as safe once a [`SyncTicket`] has run.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use super::format::{Point, SEGMENT_HEADER, SegmentHeader, encode_segment};
use super::record::{Encoded, encode};
use super::recycle;
use super::storage::{Open, Storage, StoredFile};
use super::store::{Segment, Store, segment_path};
use crate::batch::Batch;

/// Why a batch was not appended.
#[derive(Debug)]
pub enum Refused {
    /// There is no room for it within the limits.
    Full,
    /// It is too long for any record: its index alone takes over 512 MiB.
    TooLarge,
    /// The file system failed.
    Io(io::Error),
}

/// A record that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Before it.
    pub start: Point,
    /// After it.
    pub end: Point,
}

/// What is to be forced to the disk; runs on any thread, while more is appended.
#[derive(Debug)]
pub struct SyncTicket {
    storage: Arc<dyn Storage>,
    dir: Option<PathBuf>,
    files: Vec<Arc<dyn StoredFile>>,
    upto: Point,
}

impl SyncTicket {
    /// Everything before it is safe once the ticket has run.
    pub fn upto(&self) -> Point {
        self.upto
    }

    /// Forces it to the disk. Blocks.
    ///
    /// # Errors
    /// From the file system: the records are then not known to be safe, whatever a later call says.
    pub fn run(&self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| file.sync())?;
        self.dir.as_ref().map_or(Ok(()), |dir| self.storage.sync_dir(dir))
    }
}

/// Records that are written together.
#[derive(Debug, Default)]
struct Group {
    records: Vec<Encoded>,
    planned: Vec<Appended>,
    len: u64,
    events: u64,
}

/// An upper bound of the length of a batch's record.
fn record_bytes_most(batch: &Batch) -> u64 {
    let origin = batch.arena().origin();
    let names = (origin.component().len() + origin.label().len()) as u64;
    // A delimiter and a varint per row; a varint takes a byte, and another for each 128 of the length at most.
    96 + names + batch.bytes() + batch.bytes() / 128 + batch.events() * 2
}

impl Store {
    /// Appends batches in order, each as one record, and says of each where it lies. When it fails, `appended` tells
    /// how many were written before; the file ends after the last of them.
    ///
    /// # Errors
    /// When a batch does not fit, or the file system fails.
    pub fn append<'a>(
        &mut self,
        batches: impl IntoIterator<Item = &'a Batch>,
        appended: &mut Vec<Appended>,
    ) -> Result<(), Refused> {
        let mut group = Group::default();
        for batch in batches {
            let most = record_bytes_most(batch);
            let in_segment = self.segments.back().map_or(0, |s| s.len) + group.len;
            let grown = in_segment >= self.limits.segment_bytes();
            let fits = self.fits(group.len + most, group.events + batch.events());
            if self.active.is_none() || grown || !fits {
                self.flush(&mut group, appended)?;
                self.make_room(most, batch.events())?;
            }
            let at = group.planned.last().map_or(self.end, |a| a.end);
            let Some(record) = encode(batch, &at, self.limits.compression, self.salt) else {
                self.flush(&mut group, appended)?;
                return Err(Refused::TooLarge);
            };
            let end = Point {
                seq: at.seq + 1,
                events: at.events + batch.events(),
                bytes: at.bytes + batch.bytes(),
                segment: at.segment,
                offset: at.offset + record.stored_len(),
            };
            group.len += record.stored_len();
            group.events += batch.events();
            group.planned.push(Appended { start: at, end });
            group.records.push(record);
        }
        self.flush(&mut group, appended)
    }

    /// Whether `len` more bytes with `events` more events stay within the limits.
    fn fits(&self, len: u64, events: u64) -> bool {
        let events_fit = self.limits.events_max.is_none_or(|max| self.queued.0 + events <= max);
        // There may be room in the file already, from before.
        let room = self.segments.back().filter(|_| self.active.is_some());
        let room = room.map_or(0, |s| s.file_len.saturating_sub(s.len));
        events_fit && self.disk_bytes() + len.saturating_sub(room) <= self.limits.bytes_max
    }

    /// Whether every record is settled.
    pub fn is_settled(&self) -> bool {
        self.acked.seq >= self.end.seq
    }

    /// Whether there is still no room for what was refused last.
    pub fn is_full(&self) -> bool {
        let refused = self.refused.filter(|_| !self.is_settled());
        refused.is_some_and(|(len, events)| !self.fits(len.saturating_sub(self.spare_bytes()), events))
    }

    /// Sees to it that there is an active segment with room for a record of at most `len` bytes.
    fn make_room(&mut self, len: u64, events: u64) -> Result<(), Refused> {
        let grown = self.segments.back().is_some_and(|s| s.len >= self.limits.segment_bytes());
        let begins = self.active.is_none() || grown;
        if grown {
            self.trim_last();
        }
        let header = if begins { SEGMENT_HEADER } else { 0 };
        let in_spare = if begins { self.next_spare_bytes() } else { 0 };
        self.refused = None;
        if !self.fits((header + len).saturating_sub(in_spare), events) {
            let more = self.drop_spares().map_err(Refused::Io)?;
            if more && self.fits(header + len, events) {
                // What was kept to be written over makes room.
            } else if !self.is_settled() {
                self.refused = Some((header + len, events));
                return Err(Refused::Full);
            } else {
                // Nothing waits: what is there may go, and any one record may come.
                self.reclaim().map_err(Refused::Io)?;
            }
        }
        if self.active.is_none() || grown {
            self.start_segment().map_err(Refused::Io)?;
        }
        Ok(())
    }

    /// Gives back the room of settled records, when all are. True if there was any.
    ///
    /// # Errors
    /// From the file system.
    pub fn reclaim(&mut self) -> io::Result<bool> {
        let spare = self.drop_spares()?;
        let any = self.disk_bytes() > self.segments.len() as u64 * SEGMENT_HEADER;
        if !self.is_settled() {
            return Ok(spare);
        }
        self.active = None;
        self.remove_first(self.segments.len(), false)?;
        Ok(any || spare)
    }

    fn start_segment(&mut self) -> io::Result<()> {
        self.active = None;
        let seq = self.end.seq;
        let path = segment_path(&self.dir, seq);
        let over = self.take_spare(seq)?;
        let file_len = over.as_ref().map_or(0, |(_, len)| *len);
        let file = match over.map_or_else(|| self.storage.open(&path, Open::Create), |(file, _)| Ok(file)) {
            // Left by a start that failed halfway: it holds no record.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let file = self.storage.open(&path, Open::Write)?;
                file.truncate(0)?;
                self.segments.retain(|s| s.start.seq != seq);
                file
            }
            opened => opened?,
        };
        self.dir_dirty = true;
        let start = Point { segment: seq, offset: SEGMENT_HEADER, ..self.end };
        let header = encode_segment(&SegmentHeader { start, salt: self.salt });
        let segment = Segment { start, len: SEGMENT_HEADER, file_len };
        recycle::begin(file.as_ref(), &header, &segment)?;
        self.end = start;
        if self.read.seq == start.seq {
            self.read = start;
        }
        self.segments.push_back(segment);
        self.active = Some(file);
        Ok(())
    }

    /// Writes a group in one go; it is empty afterwards.
    fn flush(&mut self, group: &mut Group, appended: &mut Vec<Appended>) -> Result<(), Refused> {
        let Group { records, planned, .. } = std::mem::take(group);
        let (Some(file), Some(segment), Some(first), Some(last)) =
            (self.active.clone(), self.segments.back_mut(), planned.first(), planned.last())
        else {
            return Ok(());
        };
        let mut slices = Vec::with_capacity(records.len() * 3);
        for record in &records {
            slices.push(IoSlice::new(&record.head));
            slices.push(IoSlice::new(&record.body));
            if record.newline {
                slices.push(IoSlice::new(b"\n"));
            }
        }
        let mark = segment.end_mark(last.end.offset);
        if !mark.is_empty() {
            slices.push(IoSlice::new(mark));
        }
        let number = segment.start.seq;
        if self.dirty.last().is_none_or(|(last, _)| *last != number) {
            self.dirty.push((number, file.clone()));
        }
        if let Err(e) = file.write_at(&mut slices, segment.len) {
            // Half a record must not stand before the next one; where it cannot be cut, another segment follows.
            match file.truncate(segment.len) {
                Ok(()) => segment.file_len = segment.len,
                Err(_) => self.active = None,
            }
            return Err(Refused::Io(e));
        }
        segment.len = last.end.offset;
        self.queued.0 += last.end.events - first.start.events;
        self.queued.1 += last.end.bytes - first.start.bytes;
        self.end = last.end;
        self.refused = None;
        appended.extend_from_slice(&planned);
        Ok(())
    }

    /// Whether there is something that a sync would make safe.
    pub fn has_unsynced(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// What was appended and not synced yet, if anything was.
    pub fn begin_sync(&mut self) -> Option<SyncTicket> {
        if self.dirty.is_empty() {
            return None;
        }
        let dir = std::mem::take(&mut self.dir_dirty).then(|| self.dir.clone());
        let files = std::mem::take(&mut self.dirty).into_iter().map(|(_, file)| file).collect();
        Some(SyncTicket { storage: self.storage.clone(), dir, files, upto: self.end })
    }

    /// Takes note of how a ticket ended. After a failure nothing more is appended to the files that it was for.
    pub fn end_sync(&mut self, ticket: &SyncTicket, succeeded: bool) {
        if succeeded {
            self.synced = ticket.upto;
            self.positions_changed = true;
        } else {
            self.active = None;
            self.dir_dirty |= ticket.dir.is_some();
        }
    }
}
