//! Files of settled segments are kept and written over by the next ones: their blocks and pages are there already, which
//! saves the kernel a good part of the work of a write. What is left of old records behind the new ones has smaller numbers than
//! the segment, and zeros stand before it.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::storage::{Open, StoredFile};
use super::store::{Segment, Store, segment_path};

/// Zeros that are written behind the last record where older bytes follow; as long as a record's header.
pub(super) const END_MARK: [u8; 64] = [0; 64];

/// Files that are kept at most. A sink that is a little behind settles several while one is written.
const SPARES_MAX: usize = 8;

/// A file that is kept to be written over. It has its old name: after a crash it is a segment like others, settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spare {
    /// Number in its name.
    number: u64,
    len: u64,
}

impl Segment {
    /// Bytes of its file.
    pub(super) fn occupied(&self) -> u64 {
        self.file_len.max(self.len)
    }

    /// The zeros to write behind its last record, which ends at `end`: none at the end of the file.
    pub(super) fn end_mark(&self, end: u64) -> &'static [u8] {
        let rest = usize::try_from(self.file_len.saturating_sub(end)).unwrap_or(usize::MAX);
        &END_MARK[..rest.min(END_MARK.len())]
    }
}

impl Store {
    /// Bytes of the files that are kept.
    pub(super) fn spare_bytes(&self) -> u64 {
        self.spares.iter().map(|spare| spare.len).sum()
    }

    /// Bytes of the file that the next segment is written over.
    pub(super) fn next_spare_bytes(&self) -> u64 {
        self.spares.last().map_or(0, |spare| spare.len)
    }

    /// Keeps the file of a segment of which every record is settled, and says so, if one is wanted. The positions must
    /// be on the disk.
    pub(super) fn keep_spare(&mut self, segment: &Segment) -> bool {
        let whole = segment.occupied() >= self.limits.segment_bytes();
        let room = self.spare_bytes() + segment.occupied() <= self.limits.bytes_max / 4;
        let wanted = whole && room && self.spares.len() < SPARES_MAX;
        if wanted {
            self.spares.push(Spare { number: segment.start.seq, len: segment.occupied() });
        }
        wanted
    }

    /// Gives the room of the files back that are kept. True if there were any.
    ///
    /// # Errors
    /// From the file system.
    pub(super) fn drop_spares(&mut self) -> io::Result<bool> {
        let any = !self.spares.is_empty();
        while let Some(spare) = self.spares.last() {
            match self.storage.remove(&segment_path(&self.dir, spare.number)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => drop(self.spares.pop()),
            }
        }
        Ok(any)
    }

    /// The file that was kept last, hot still, as that of the segment `seq`, with its length.
    ///
    /// # Errors
    /// From the file system.
    pub(super) fn take_spare(&mut self, seq: u64) -> io::Result<Option<(Arc<dyn StoredFile>, u64)>> {
        let Some(spare) = self.spares.last().copied() else { return Ok(None) };
        let (own, path) = (segment_path(&self.dir, spare.number), segment_path(&self.dir, seq));
        if let Err(e) = self.storage.rename(&own, &path) {
            // Unless somebody has removed it, its room must not be forgotten: a new file does as well.
            if e.kind() != io::ErrorKind::NotFound {
                self.storage.remove(&own)?;
            }
            self.spares.pop();
            return Ok(None);
        }
        self.spares.pop();
        Ok(Some((self.storage.open(&path, Open::Write)?, spare.len)))
    }

    /// Cuts off what is left of old records in a segment to which nothing more is appended.
    pub(super) fn trim_last(&mut self) {
        let (Some(file), Some(segment)) = (&self.active, self.segments.back_mut()) else { return };
        if segment.file_len > segment.len && file.truncate(segment.len).is_ok() {
            segment.file_len = segment.len;
        }
    }
}

/// A segment's header with the zeros behind it.
pub(super) fn begin(file: &dyn StoredFile, header: &[u8], segment: &Segment) -> io::Result<()> {
    let mark = segment.end_mark(header.len() as u64);
    file.write_at(&mut [IoSlice::new(header), IoSlice::new(mark)], 0)
}
