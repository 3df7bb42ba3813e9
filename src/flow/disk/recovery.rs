//! Opening a buffer. The number of segments decides how long it takes, not their size: headers are read, and of the
//! last segment only what was written after the last sync is checked. A torn tail is cut; nothing else is changed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::format::{Point, Positions, SEGMENT_HEADER};
use super::giving_up::Gaps;
use super::positions::PositionFile;
use super::scan::{CHUNK_BYTES, Found, Scanner};
use super::segments::{Unreadable, find_segments, set_aside};
use super::storage::{Open, Storage, StoredFile};
use super::store::{LOCK_FILE, Limits, Losses, Segment, Store, segment_path};
use super::trouble::{READS_MAX, speaks_of_the_file};
use crate::batch::ChunkPool;
use crate::flow::component::Fault;

/// Chunks that are kept for reading on.
const CHUNKS_KEPT: usize = 4;

/// What a buffer held when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Events that wait, as far as the headers say.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of a torn record that were cut off.
    pub cut_bytes: u64,
    /// What else was found, in words.
    pub notes: Vec<String>,
}

/// Tries to open one buffer, one after the other.
#[derive(Debug, Default)]
pub struct Tries {
    /// That ended at a file which the disk did not give back.
    unreadable: u32,
    /// What was moved aside, in words, until it is taken: also by a try that failed further on.
    pub notes: Vec<String>,
}

impl Tries {
    /// Whether a file that cannot be read is given up: after some tries, where it is the file that fails.
    pub(super) fn give_up(&mut self, e: &io::Error) -> bool {
        if !speaks_of_the_file(e) || self.unreadable >= READS_MAX {
            return speaks_of_the_file(e);
        }
        self.unreadable += 1;
        false
    }
}

fn fault(dir: &Path, what: &str, e: &io::Error) -> Fault {
    use io::ErrorKind::{AlreadyExists, NotADirectory, PermissionDenied};
    let why = format!("cannot {what} the disk buffer {}: {e}", dir.display());
    match e.kind() {
        AlreadyExists | NotADirectory | PermissionDenied => {
            Fault::fatal(format!("{why}\nhint: set `state_dir` to a directory that weir may write"))
        }
        _ => Fault::retry(why),
    }
}

impl Store {
    /// Opens the buffer in `dir`, making it if there is none.
    ///
    /// # Errors
    /// Fatal when another process has it, when it may not be written, or when a file is of an unknown version (which
    /// is named and kept). What may pass, such as a full disk, may be tried again.
    pub fn open(storage: Arc<dyn Storage>, dir: &Path, limits: Limits) -> Result<(Store, Recovered), Fault> {
        let mut tries = Tries::default();
        let (store, mut recovered) = Store::open_trying(storage, dir, limits, &mut tries)?;
        recovered.notes.append(&mut tries.notes);
        Ok((store, recovered))
    }

    /// The same, one try after others; files that the disk has not given back in some of them are moved aside.
    ///
    /// # Errors
    /// As of [`Store::open`].
    pub fn open_trying(
        storage: Arc<dyn Storage>,
        dir: &Path,
        limits: Limits,
        tries: &mut Tries,
    ) -> Result<(Store, Recovered), Fault> {
        let failed = |what: &'static str| move |e: io::Error| fault(dir, what, &e);
        storage.create_dir(dir).map_err(failed("make"))?;
        let lock_path = dir.join(LOCK_FILE);
        let lock = storage.lock(&lock_path).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => Fault::fatal(format!(
                "the disk buffer is in use by another weir: {} is locked by pid {e}\n\
                 hint: stop that process, or give each its own `state_dir`",
                lock_path.display()
            )),
            _ => fault(dir, "lock", &e),
        })?;
        let mut recovered = Recovered::default();
        let (positions, found) = PositionFile::open(storage.clone(), dir, tries).map_err(failed("open"))?;
        let (segments, salt) =
            find_segments(storage.as_ref(), dir, found.map(|p| p.salt), tries, &mut recovered.notes)
                .map_err(|e| match e {
                    Unreadable::Io(e) => fault(dir, "read", &e),
                    Unreadable::Version(why) => Fault::fatal(why),
                })?;
        if found.is_none() && !segments.is_empty() {
            recovered.notes.push("no valid position: delivery starts with the oldest record".to_owned());
        }
        let mut store = Store {
            storage,
            dir: dir.to_owned(),
            limits,
            lock,
            salt,
            segments,
            active: None,
            end: Point::default(),
            queued: (0, 0),
            read: Point::default(),
            scanner: None,
            origin: None,
            pool: ChunkPool::new(CHUNK_BYTES, CHUNKS_KEPT),
            acked: Point::default(),
            synced: Point::default(),
            positions,
            positions_changed: true,
            dirty: Vec::new(),
            dir_dirty: true,
            losses: Losses::default(),
            gaps: Gaps::default(),
            spares: Vec::new(),
            refused: None,
        };
        store.settle_points(found, tries, &mut recovered).map_err(failed("read"))?;
        if let Some(found) = found {
            store.step_over((found.given_up, found.giving_up), &mut recovered);
        }
        let (end, acked) = (store.end, store.acked);
        store.queued = (end.events.saturating_sub(acked.events), end.bytes.saturating_sub(acked.bytes));
        recovered.events += store.queued.0;
        recovered.bytes += store.queued.1;
        // A file system that takes no writes must not keep what is there from being delivered.
        if let Err(e) = store.remove_settled().and_then(|()| store.persist(true)) {
            recovered.notes.push(format!("cannot write positions: {e}"));
        }
        Ok((store, recovered))
    }

    /// Finds where the log ends and where delivery goes on.
    fn settle_points(
        &mut self,
        found: Option<Positions>,
        tries: &mut Tries,
        recovered: &mut Recovered,
    ) -> io::Result<()> {
        let first = self.segments.front().map(|s| s.start);
        let Positions { acked, synced, .. } = found.unwrap_or_else(|| Positions {
            acked: first.unwrap_or_default(),
            synced: first.unwrap_or_default(),
            ..Positions::default()
        });
        let (acked, synced) = (self.plausible(acked), self.plausible(synced));
        self.end = loop {
            let Some(last) = self.segments.back().copied() else { break Point::default() };
            match self.find_end(last, synced, recovered) {
                Ok(end) => break end,
                Err(e) if tries.give_up(&e) => {
                    let path = segment_path(&self.dir, last.start.seq);
                    set_aside(self.storage.as_ref(), &path, &e, &mut tries.notes)?;
                    self.active = None;
                    self.segments.pop_back();
                    self.losses.damaged += 1;
                }
                Err(e) => return Err(e),
            }
        };
        // The tail that a power failure took may have been settled, or synced and lost otherwise: numbers go on
        // after it, and what is missing shows as a gap.
        for point in [acked, synced] {
            if point.seq > self.end.seq {
                self.active = None;
                self.end = point;
            }
        }
        (self.acked, self.read, self.synced) = (acked, acked, self.end);
        Ok(())
    }

    /// A place of the position file, without its offset where the segment of that number cannot be the one that was meant.
    fn plausible(&self, point: Point) -> Point {
        let meant = |s: &&Segment| s.start.seq == point.segment;
        let segment = self.segments.iter().find(meant);
        let fits = segment.is_none_or(|s| s.start.events <= point.events && point.offset <= s.len);
        if fits { point } else { Point { offset: SEGMENT_HEADER, ..point } }
    }

    /// The place after the last record of the last segment, which is made ready for appending if it is sound.
    fn find_end(&mut self, last: Segment, synced: Point, recovered: &mut Recovered) -> io::Result<Point> {
        let path = segment_path(&self.dir, last.start.seq);
        let known =
            synced.segment == last.start.seq && synced.offset > SEGMENT_HEADER && synced.offset <= last.len;
        let mut end = if known { synced } else { last.start };
        let file = match self.storage.open(&path, Open::Write) {
            // Read-only: what is there can be delivered.
            Err(_) => {
                recovered.notes.push(format!("{} cannot be written", path.display()));
                self.storage.open(&path, Open::Read)?
            }
            Ok(file) => {
                self.active = Some(file.clone());
                file
            }
        };
        let mut scanner = Scanner::new(file.clone(), self.salt, last.start.seq, self.pool.clone());
        loop {
            match scanner.at(end.offset, last.len)? {
                Found::End => {
                    self.cut_last(&file, end.offset);
                    return Ok(end);
                }
                Found::Record(header, _) => {
                    end = Point {
                        seq: header.seq + 1,
                        events: header.events_before + u64::from(header.rows),
                        bytes: header.bytes_before + u64::from(header.row_bytes),
                        segment: last.start.seq,
                        offset: end.offset + header.record_len(),
                    };
                }
                Found::Damage { until, record_follows: true } => {
                    // Left as it is; the reader skips and counts it.
                    self.active = None;
                    end.offset = until;
                }
                Found::Damage { record_follows: false, .. } => {
                    recovered.cut_bytes = last.len - end.offset;
                    self.cut_last(&file, end.offset);
                    return Ok(end);
                }
            }
        }
    }

    /// The last segment ends here.
    fn cut_last(&mut self, file: &Arc<dyn StoredFile>, end: u64) {
        let Some(segment) = self.segments.back_mut().filter(|s| s.len > end) else { return };
        segment.len = end;
        if self.active.is_some() && file.truncate(end).is_err() {
            self.active = None;
        }
    }
}
