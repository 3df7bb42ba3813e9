//! Walks the records of one segment file. What does not verify is stepped over: to the end of a record whose header
//! can be trusted, else to the next place where a record starts.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::format::{RECORD_HEADER, RECORD_MAGIC, RecordHeader, decode_header};
use super::record::is_intact;
use super::storage::StoredFile;
use crate::batch::ChunkPool;

/// Bytes that are read at once.
pub const CHUNK_BYTES: usize = 1 << 20;

/// What lies at a place of a segment.
#[derive(Debug)]
pub enum Found {
    /// A record that verifies.
    Record(RecordHeader, Bytes),
    /// Bytes that are no record, up to an offset where there is one, or the end.
    Damage {
        /// Where to go on.
        until: u64,
        /// Whether a record verifies there.
        record_follows: bool,
    },
    /// The end of the segment.
    End,
}

/// A reader of one segment file.
#[derive(Debug)]
pub struct Scanner {
    file: Arc<dyn StoredFile>,
    salt: u32,
    /// Records with smaller numbers are left of an older segment.
    least: u64,
    pool: ChunkPool,
    /// What was read last, and where it lies.
    window: Bytes,
    window_at: u64,
}

impl Scanner {
    /// A reader of `file`, whose header gave `salt` and the number `least` of its first record. Chunks come from `pool`.
    pub fn new(file: Arc<dyn StoredFile>, salt: u32, least: u64, pool: ChunkPool) -> Scanner {
        Scanner { file, salt, least, pool, window: Bytes::new(), window_at: 0 }
    }

    /// Bytes of the file, fewer than `len` only where the file (or what of it counts, `limit`) ends.
    fn fetch(&mut self, offset: u64, len: u64, limit: u64) -> io::Result<Bytes> {
        let len = len.min(limit.saturating_sub(offset)) as usize;
        let start = offset.checked_sub(self.window_at).map(|n| n as usize);
        if let Some(start) = start.filter(|s| s + len <= self.window.len()) {
            return Ok(self.window.slice(start..start + len));
        }
        let wanted = (CHUNK_BYTES as u64).max(len as u64).min(limit - offset) as usize;
        let mut chunk = self.pool.take();
        chunk.grow(wanted);
        let read = self.file.read_at(&mut chunk.as_mut_slice()[..wanted], offset)?;
        self.window = chunk.freeze(read);
        self.window_at = offset;
        Ok(self.window.slice(..len.min(read)))
    }

    /// The header of a record of this segment that fits into `room` bytes.
    fn header(&self, head: &[u8], room: u64) -> Option<RecordHeader> {
        decode_header(head, self.salt).filter(|h| h.seq >= self.least && h.record_len() <= room)
    }

    /// What lies at `offset` of a segment of which `limit` bytes count.
    ///
    /// # Errors
    /// When the file cannot be read; the same call may be made again.
    pub fn at(&mut self, offset: u64, limit: u64) -> io::Result<Found> {
        if offset >= limit {
            return Ok(Found::End);
        }
        let head = self.fetch(offset, RECORD_HEADER as u64, limit)?;
        let Some(header) = self.header(&head, limit - offset) else {
            let found = self.resync(offset + 1, limit)?;
            // Zeros, and nothing of this segment behind them: old records are being written over.
            let nothing = matches!(found, Found::Damage { record_follows: false, .. });
            return Ok(if nothing && head.iter().all(|byte| *byte == 0) { Found::End } else { found });
        };
        let record = self.fetch(offset, header.record_len(), limit)?;
        if record.len() as u64 == header.record_len() {
            let payload = record.slice(RECORD_HEADER..);
            if is_intact(&header, &payload, self.salt) {
                return Ok(Found::Record(header, payload));
            }
        }
        self.resync(offset + header.record_len(), limit)
    }

    /// The first place from `offset` on where a record verifies, or the end.
    fn resync(&mut self, mut offset: u64, limit: u64) -> io::Result<Found> {
        let finder = memchr::memmem::Finder::new(RECORD_MAGIC);
        while offset + (RECORD_HEADER as u64) <= limit {
            let stretch = self.fetch(offset, CHUNK_BYTES as u64, limit)?;
            if stretch.len() < RECORD_HEADER {
                break;
            }
            let Some(found) = finder.find(&stretch) else {
                offset += (stretch.len() - (RECORD_MAGIC.len() - 1)) as u64;
                continue;
            };
            offset += found as u64;
            if self.verifies(offset, limit)? {
                return Ok(Found::Damage { until: offset, record_follows: true });
            }
            offset += 1;
        }
        Ok(Found::Damage { until: limit, record_follows: false })
    }

    fn verifies(&mut self, offset: u64, limit: u64) -> io::Result<bool> {
        let head = self.fetch(offset, RECORD_HEADER as u64, limit)?;
        let Some(header) = self.header(&head, limit - offset) else { return Ok(false) };
        let record = self.fetch(offset, header.record_len(), limit)?;
        Ok(record.len() as u64 == header.record_len()
            && is_intact(&header, &record[RECORD_HEADER..], self.salt))
    }
}
