//! One file that is followed: a descriptor, an offset and a few numbers, no buffer. Reading is `pread` at the start
//! of the first line that was not complete, so a held-back partial line costs no memory.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::archive::{Archive, Compression};
use super::identity::{FileId, Fingerprint};
use super::options::Settings;
use super::text::{Coding, Rows, Until, rows};
use crate::base::clock::{self, Instant};
use crate::batch::{ChunkPool, Origin};

/// A run of NUL bytes at the start of a line is a hole that truncation left, from this length on; at the start of
/// the file, from one byte on.
const HOLE_BYTES_MIN: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Followed {
    /// Which file.
    pub id: FileId,
    /// Where it was last seen.
    pub path: Arc<Path>,
    /// The path that a pattern led to it by, which its checkpoint names.
    pub home: Arc<Path>,
    /// What its batches say of where they come from.
    pub origin: Arc<Origin>,
    /// Its descriptor, while one is to spare.
    pub file: Option<File>,
    /// How it starts.
    pub fingerprint: Fingerprint,
    /// The start of the first line that was not sent; of the content, if it is compressed.
    pub offset: u64,
    /// Whether the offset is within a line whose rest is to be skipped; of a compressed file: all was read.
    pub skipping: bool,
    /// Size and modification time when it was last read to its end.
    pub seen: (u64, i128),
    /// When to look at it next.
    pub due: Instant,
    /// How long after that.
    pub interval: Duration,
    /// Since when no path that is followed leads to it, or when it last grew after that.
    pub gone: Option<Instant>,
    /// The path it was at before it was renamed or lost.
    pub left: Option<Arc<Path>>,
    /// When an event that waits for more lines, or a line for its newline, is sent as it is.
    pub flush_at: Option<Instant>,
    /// Whether that includes a line without its newline.
    pub flush_partial: bool,
    /// Whether the system reports its growth.
    pub watched: bool,
    /// Whether it is in line to be read.
    pub queued: bool,
    /// Whether it was read since descriptors were last scarce.
    pub used: bool,
    /// The file that was at this path before: it is read to its end first.
    pub after: Option<FileId>,
    /// Compression of the file.
    pub compression: Option<Compression>,
    /// A compressed file's reader, while it is read.
    pub archive: Option<Box<Archive>>,
    /// NUL bytes before the offset that were skipped, of a hole that may go on.
    pub hole: u64,
    /// Whether a failure to read it was reported.
    pub reported: bool,
    /// Its size when that was last looked at.
    pub size: u64,
    /// What the backlog of its source holds of it: bytes still to be read, and whether it is open.
    pub counted: (u64, bool),
}

/// Size and modification time.
pub fn stamp(meta: &Metadata) -> (u64, i128) {
    (meta.len(), i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()))
}

/// What one read found.
#[derive(Debug)]
pub enum Read {
    /// Rows, and whether the end of the file was met.
    Rows(Rows, bool),
    /// Nothing but NUL bytes that truncation left, and there may be more of them.
    Hole,
    /// The end of what is complete.
    End,
    /// The file starts differently: its content was replaced.
    Replaced,
}

/// Reads until `buffer` is full or the file ends.
pub fn read_full(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read_at(&mut buffer[len..], at + len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(len)
}

impl Followed {
    /// A file that is read once, from `offset` on, and that nobody waits for; [`Followed::file`] is yet to be set.
    pub fn reading(id: FileId, path: Arc<Path>, origin: Arc<Origin>, offset: u64) -> Followed {
        Followed {
            id,
            home: path.clone(),
            path,
            origin,
            file: None,
            fingerprint: Fingerprint::EMPTY,
            offset,
            skipping: false,
            seen: (0, 0),
            due: clock::now(),
            interval: Duration::ZERO,
            gone: None,
            left: None,
            flush_at: None,
            flush_partial: false,
            watched: false,
            queued: false,
            used: false,
            after: None,
            compression: None,
            archive: None,
            hole: 0,
            reported: false,
            size: 0,
            counted: (0, false),
        }
    }

    /// Reads one chunk's worth of rows. `prefix` is scratch room for the first bytes.
    ///
    /// # Errors
    /// From the file system, or a compressed file's format.
    pub fn read(
        &mut self,
        settings: &Settings,
        pool: &ChunkPool,
        prefix: &mut Vec<u8>,
        until: Until,
    ) -> io::Result<Read> {
        if self.archive.is_some() {
            return self.read_archive(settings, pool);
        }
        let Some(file) = &self.file else { return Ok(Read::End) };
        let mut chunk = pool.take();
        let mut len = 0;
        loop {
            let room = chunk.len();
            len += read_full(file, &mut chunk.as_mut_slice()[len..], self.offset + len as u64)?;
            // After the reading, so that what was read is known to be of this content.
            prefix.resize(settings.fingerprint_bytes, 0);
            let known = read_full(file, prefix, 0)?;
            prefix.truncate(known);
            if !self.fingerprint.matches(prefix) {
                return Ok(Read::Replaced);
            }
            if known > self.fingerprint.len as usize {
                self.fingerprint = Fingerprint::of(prefix);
            }
            let coding = Coding::of(prefix, settings.encoding);
            let ended = len < room;
            let (lead, is_hole) = self.lead(&chunk.as_slice()[..len], coding, self.hole > 0);
            if lead > 0 {
                self.offset += lead as u64;
                self.hole += if is_hole { lead as u64 } else { 0 };
                if is_hole && lead == len && !ended {
                    // Others have their turns meanwhile.
                    return Ok(Read::Hole);
                }
                chunk.as_mut_slice().copy_within(lead..len, 0);
                len -= lead;
                continue;
            }
            if self.hole > 0 {
                let path = self.path.display();
                tracing::warn!(%path, bytes = std::mem::take(&mut self.hole), "skipped NUL bytes that truncation left");
            }
            if len == 0 {
                return Ok(Read::End);
            }
            let now = if ended { until } else { Until::Complete };
            match rows(chunk, len, coding, self.skipping, now, settings) {
                Ok(rows) => return Ok(Read::Rows(rows, ended)),
                Err(_) if ended => return Ok(Read::End),
                Err(back) => {
                    chunk = back;
                    let larger = (room * 2).min(settings.stretch_bytes_max().max(room + 4096));
                    chunk.grow(larger);
                }
            }
        }
    }

    /// How many bytes at the offset are no text (a byte order mark, or a hole that truncation left), and whether
    /// they are a hole.
    fn lead(&self, bytes: &[u8], coding: Coding, in_hole: bool) -> (usize, bool) {
        if self.offset < coding.mark_bytes {
            return ((coding.mark_bytes - self.offset).min(bytes.len() as u64) as usize, false);
        }
        if bytes.first() != Some(&0) || coding.is_wide() || self.skipping {
            return (0, false);
        }
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        let is_hole = in_hole || self.offset == coding.mark_bytes || zeros >= HOLE_BYTES_MIN;
        (if is_hole { zeros } else { 0 }, is_hole)
    }

    /// Begins to read a compressed file; its reader then stands at the offset. `known` tells how far content that
    /// starts with the given bytes was read before, under another name.
    ///
    /// # Errors
    /// From the file or its format.
    pub fn open_archive(
        &mut self,
        file: File,
        compression: Compression,
        settings: &Settings,
        known: impl FnOnce(&[u8]) -> Option<u64>,
    ) -> io::Result<()> {
        let mut archive = Archive::open(file.try_clone()?, compression)?;
        let mut prefix = vec![0; settings.fingerprint_bytes];
        let len = archive.fill(&mut prefix)?;
        prefix.truncate(len);
        archive.coding = Coding::of(&prefix, settings.encoding);
        archive.carry = prefix;
        if self.offset == 0
            && let Some(read) = known(&archive.carry)
        {
            self.offset = read;
        }
        self.offset = self.offset.max(archive.coding.mark_bytes);
        if !archive.skip(self.offset)? {
            // Less content than was read of the other: another file after all.
            let coding = archive.coding;
            archive = Archive::open(file, compression)?;
            archive.coding = coding;
            self.offset = archive.coding.mark_bytes;
            archive.skip(self.offset)?;
        }
        self.archive = Some(Box::new(archive));
        Ok(())
    }

    fn read_archive(&mut self, settings: &Settings, pool: &ChunkPool) -> io::Result<Read> {
        let Some(archive) = &mut self.archive else { return Ok(Read::End) };
        let mut chunk = pool.take();
        if archive.carry.len() * 2 > chunk.len() {
            chunk.grow(archive.carry.len() * 2);
        }
        loop {
            let len = archive.fill(chunk.as_mut_slice())?;
            if len == 0 {
                return Ok(Read::End);
            }
            let until = if archive.ended { Until::End } else { Until::Complete };
            let copy = if archive.ended { Vec::new() } else { chunk.as_slice()[..len].to_vec() };
            match rows(chunk, len, archive.coding, self.skipping, until, settings) {
                Ok(rows) => {
                    archive.carry = copy.get(rows.consumed..).unwrap_or_default().to_vec();
                    return Ok(Read::Rows(rows, archive.ended));
                }
                Err(back) if !archive.ended => {
                    archive.carry = copy;
                    chunk = back;
                    chunk.grow(len * 2);
                }
                Err(_) => return Ok(Read::End),
            }
        }
    }
}
