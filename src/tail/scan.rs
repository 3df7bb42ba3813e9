//! What the scan does with what it finds: known files keep their offset under a new name, unknown ones are taken
//! on, those that no path leads to any more are read to their end.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use super::archive::Compression;
use super::checkpoint::ARCHIVE_DONE;
use super::engine::{Tail, age_nanos};
use super::follow::{Followed, read_full, stamp};
use super::identity::{FileId, Fingerprint};
use super::journal::Checkpoint;
use super::text::Coding;
use crate::base::clock::{self, Instant};
use crate::batch::Origin;

/// How far back from the end a line start is looked for.
const END_SEARCH_BYTES: u64 = 64 * 1024;

const EXPIRE_EVERY: Duration = Duration::from_secs(3600);

/// What was known when weir started, for the first scan.
#[derive(Debug, Default)]
pub(super) struct Known {
    paths: HashSet<Arc<Path>>,
    /// Also later: a file system may be mounted late.
    by_inode: HashMap<u64, Vec<FileId>>,
}

/// Where a file comes from that is taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was there when weir started.
    AtStart,
    /// It appeared while weir was running.
    Later,
    /// It was rotated while weir was not running; no pattern leads to it.
    Rotated,
}

impl Tail<'_> {
    /// The first look at everything, with what happened while weir was not running.
    pub(super) fn first_scan(&mut self) {
        let before = self.ledger.all();
        for (id, checkpoint) in &before {
            self.known.paths.insert(checkpoint.path.clone());
            self.known.by_inode.entry(id.ino).or_default().push(*id);
        }
        self.scan(true);
        self.recover(&before);
        self.known.paths = HashSet::new();
        if self.files.is_empty() && self.unreadable.is_empty() {
            let wanted = self.settings.patterns.written();
            tracing::warn!(component = %self.settings.component, "no file matches yet: {wanted}; files are read when they appear");
        }
    }

    /// Walks the tree and takes note of what changed in it.
    pub(super) fn scan(&mut self, first: bool) {
        let start = clock::now();
        let start_wall = clock::file_time();
        let found = self.settings.patterns.scan();
        if found.partial && first {
            tracing::warn!(component = %self.settings.component, "more files or directories than one source follows; some are left out");
        }
        self.watch.set(&found.dirs);
        let mut here: HashMap<FileId, PathBuf> = HashMap::with_capacity(found.files.len());
        let mut new = Vec::new();
        let mut paths = HashSet::with_capacity(found.files.len());
        for path in found.files {
            let Ok(meta) = fs::metadata(&path) else { continue };
            if !meta.is_file() {
                continue;
            }
            paths.insert(path.clone());
            let id = FileId::of(&meta);
            // The name a file had is preferred to other names of it.
            let is_old_name = self.files.get(&id).is_some_and(|f| *f.path == *path);
            if is_old_name || !here.contains_key(&id) {
                if !self.files.contains_key(&id) && !here.contains_key(&id) {
                    new.push((id, path.clone(), meta));
                }
                here.insert(id, path);
            }
        }
        self.unreadable.retain(|path, _| paths.contains(path));
        let left = self.settle_known(&here);
        for (id, path, meta) in new {
            let arrival = if first { Arrival::AtStart } else { Arrival::Later };
            self.take_on(id, &path, &meta, arrival, &path);
        }
        let somebody_left = !left.is_empty() || !self.vacant.is_empty();
        if somebody_left && !first {
            let since = born_after(self.scanned_wall, start_wall, (start - self.scanned) + self.scan_cost);
            self.recover_between(&left, since);
        }
        // At first, old checkpoints may still be of rotated files that are yet to be found.
        if !first {
            self.expire(start);
        }
        self.scanned_wall = start_wall;
        self.ledger.looked(start_wall);
        self.scanned = clock::now();
        self.scan_cost = self.scanned - start;
        self.scan_wanted = false;
    }

    /// Now and then, checkpoints of files that are gone are forgotten.
    fn expire(&mut self, now: Instant) {
        if self.expired.is_none_or(|at| now - at > EXPIRE_EVERY) {
            self.expired = Some(now);
            let present: HashSet<FileId> = self.files.keys().copied().collect();
            self.ledger.expire(&present);
        }
    }

    /// Files that are followed: under which name are they now, if any?
    /// Returns those that left their path.
    fn settle_known(&mut self, here: &HashMap<FileId, PathBuf>) -> Vec<FileId> {
        let now = clock::now();
        let mut renamed = Vec::new();
        let mut gone = Vec::new();
        for (id, file) in &mut self.files {
            match here.get(id) {
                Some(path) => {
                    file.gone = None;
                    if *file.path != **path {
                        renamed.push((*id, path.clone()));
                    }
                }
                // A directory that could not be read, for want of descriptors perhaps, says nothing.
                None if file.gone.is_none() && !may_be_at(&file.path, *id) => {
                    file.gone = Some(now);
                    file.left = Some(file.path.clone());
                    file.due = now;
                    gone.push(*id);
                }
                None => {}
            }
        }
        let mut left = gone.clone();
        for (id, path) in renamed {
            if let Some(file) = self.files.get_mut(&id) {
                file.left = Some(file.path.clone());
                left.push(id);
            }
            self.rename(id, &path);
            self.at_home(id);
        }
        for id in gone {
            let lost = self.files.get(&id).is_some_and(|f| f.file.is_none());
            if lost
                && let Some((file, path)) =
                    self.files.get(&id).map(|f| f.path.clone()).and_then(|p| self.sibling(&p, id))
            {
                self.rename(id, &path);
                self.keep_open(id, file);
            } else if lost {
                self.remove(id);
                continue;
            }
            self.enqueue(id);
        }
        left
    }

    fn rename(&mut self, id: FileId, path: &Path) {
        let Some(file) = self.files.get_mut(&id) else { return };
        tracing::debug!(from = %file.path.display(), to = %path.display(), "renamed");
        if let Ok(old) = std::path::absolute(&file.path)
            && self.by_path.get(&old) == Some(&id)
        {
            self.by_path.remove(&old);
        }
        file.path = path.into();
        file.watched = false;
        file.origin = Arc::new(Origin::new(&self.settings.component, &path.display().to_string()));
        if let Ok(path) = std::path::absolute(path) {
            file.watched = self.watch.covers(&path);
            self.by_path.insert(path, id);
        }
    }

    /// A pattern leads to the file where it is now.
    fn at_home(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id) {
            file.home = file.path.clone();
            self.ledger.describe(id, file.fingerprint, &file.home);
        }
    }

    /// The file `id` under another name in the directory of `path`.
    fn sibling(&mut self, path: &Path, id: FileId) -> Option<(File, PathBuf)> {
        let entries =
            fs::read_dir(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
                .ok()?;
        let path = entries.flatten().find(|e| e.ino() == id.ino)?.path();
        let file = self.open_file(&path).ok()?;
        let same = file.metadata().is_ok_and(|meta| FileId::of(&meta) == id);
        same.then_some((file, path))
    }

    /// Takes on a file that is not followed yet. `home` is the path that a pattern leads to it by, or led.
    pub(super) fn take_on(
        &mut self,
        id: FileId,
        path: &Path,
        meta: &Metadata,
        arrival: Arrival,
        home: &Path,
    ) {
        let arrival = match self.unreadable.get(path) {
            Some(true) => Arrival::AtStart,
            _ => arrival,
        };
        match self.try_take_on(id, path, meta, arrival, home) {
            Ok(()) => {
                self.unreadable.remove(path);
            }
            // Gone again, or replaced: the next scan knows.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                if self.unreadable.insert(path.to_path_buf(), arrival == Arrival::AtStart).is_none() {
                    self.cx.meter.error();
                    tracing::warn!(path = %path.display(), "cannot read a file, trying again: {e}");
                }
            }
        }
    }

    fn try_take_on(
        &mut self,
        id: FileId,
        path: &Path,
        meta: &Metadata,
        arrival: Arrival,
        home: &Path,
    ) -> io::Result<()> {
        let file = self.open_file(path)?;
        let opened = file.metadata()?;
        if FileId::of(&opened) != id {
            self.scan_wanted = true;
            return Ok(());
        }
        let mut prefix = vec![0; self.settings.fingerprint_bytes];
        let known = read_full(&file, &mut prefix, 0)?;
        prefix.truncate(known);
        let compression = Compression::of(path);
        let resumed = self.resumed(id, path, &prefix, meta);
        let (offset, skipping) = match &resumed {
            Some(checkpoint) => (checkpoint.offset, checkpoint.skipping),
            None => (self.start(&file, &prefix, path, meta, arrival, compression.is_some())?, false),
        };
        let fingerprint = Fingerprint::of(&prefix);
        let shared: Arc<Path> = path.into();
        let home: Arc<Path> = if home == path { shared.clone() } else { home.into() };
        if resumed.is_none() {
            let seen = clock::unix_nanos() / 1_000_000_000;
            self.ledger.begin(id, Checkpoint { path: home.clone(), fingerprint, offset, skipping, seen });
        } else {
            self.ledger.describe(id, fingerprint, &home);
        }
        let now = clock::now();
        let absolute = std::path::absolute(path).ok();
        let after = absolute.as_ref().and_then(|p| self.by_path.get(p)).copied();
        let linked = meta.nlink() > 1 || fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
        let watched = !linked && absolute.as_ref().is_some_and(|p| self.watch.covers(p));
        let followed = Followed {
            id,
            path: shared,
            home,
            origin: Arc::new(Origin::new(&self.settings.component, &path.display().to_string())),
            file: None,
            fingerprint,
            offset,
            skipping,
            seen: (0, 0),
            due: now,
            interval: self.settings.poll_interval,
            gone: (arrival == Arrival::Rotated).then_some(now),
            left: None,
            flush_at: None,
            flush_partial: false,
            watched,
            queued: false,
            used: false,
            after,
            compression,
            archive: None,
            hole: 0,
            reported: false,
            size: meta.len(),
            counted: (0, false),
        };
        if self.files.insert(id, followed).is_none() {
            self.backlog.joined();
        }
        if let Some(path) = absolute.filter(|_| arrival != Arrival::Rotated) {
            self.by_path.insert(path, id);
        }
        self.keep_open(id, file);
        self.enqueue(id);
        Ok(())
    }

    /// The checkpoint of the file, if this is the content it was taken of.
    fn resumed(&mut self, id: FileId, path: &Path, prefix: &[u8], meta: &Metadata) -> Option<Checkpoint> {
        let fits = |c: &Checkpoint| {
            let whole = c.offset == ARCHIVE_DONE || Compression::of(path).is_some() || c.offset <= meta.len();
            c.fingerprint.matches(prefix) && whole
        };
        if let Some(found) = self.ledger.find(id) {
            return Some(found).filter(fits);
        }
        // Device numbers may change when a machine starts anew; name, inode and content do not.
        let others = self.known.by_inode.get(&id.ino)?.iter().filter(|other| other.dev != id.dev);
        let mut moved = others.filter_map(|other| Some((*other, self.ledger.find(*other)?)));
        let (old, checkpoint) = moved.find(|(_, c)| c.fingerprint.len > 0 && *c.path == *path && fits(c))?;
        self.ledger.begin(id, checkpoint.clone());
        self.ledger.forget(old);
        Some(checkpoint)
    }

    /// Where reading starts in a file without a checkpoint.
    fn start(
        &self,
        file: &File,
        prefix: &[u8],
        path: &Path,
        meta: &Metadata,
        arrival: Arrival,
        compressed: bool,
    ) -> io::Result<u64> {
        if let Some(read) = self.settings.starts.get(&FileId::of(meta)) {
            return Ok(*read);
        }
        let old = self
            .settings
            .ignore_older
            .is_some_and(|limit| age_nanos(&stamp(meta)) > limit.as_nanos() as i128);
        let at_end = match arrival {
            _ if old => true,
            Arrival::Later | Arrival::Rotated => false,
            Arrival::AtStart => self.settings.start_at_end && !self.appeared_meanwhile(path, meta),
        };
        if !at_end {
            return Ok(0);
        }
        if compressed {
            return Ok(ARCHIVE_DONE);
        }
        // Behind the last complete line, so that the one being written is read as a whole.
        let coding = Coding::of(prefix, self.settings.encoding);
        let from = meta.len().saturating_sub(END_SEARCH_BYTES) & !1;
        let mut end = vec![0; (meta.len() - from) as usize];
        let read = read_full(file, &mut end, from)?;
        Ok(match coding.last_break(&end[..read]) {
            0 if from == 0 => coding.mark_bytes.min(meta.len()),
            0 => meta.len(),
            at => from + at as u64,
        })
    }

    /// Whether the file came to its path after an earlier weir stopped: as the next one of a rotated file, or by
    /// its time of birth.
    fn appeared_meanwhile(&self, path: &Path, meta: &Metadata) -> bool {
        let Some(looked) = self.ledger.looked_before() else { return false };
        meta.created().is_ok_and(|born| born >= looked) || self.known.paths.contains(path)
    }
}

/// No file that was made in the last `elapsed`, until `now`, is older than this. That is the time of the last look,
/// `looked`, or an earlier one where the clock was set back meanwhile: what was made since is stamped by the new time.
fn born_after(looked: SystemTime, now: SystemTime, elapsed: Duration) -> SystemTime {
    // A tick of the clock that stamps files, twice over.
    const TICKS: Duration = Duration::from_millis(20);
    let by_the_new_time = now.checked_sub(elapsed + TICKS).unwrap_or(SystemTime::UNIX_EPOCH);
    if by_the_new_time + TICKS * 2 < looked { by_the_new_time } else { looked }
}

/// Whether the file may still be at `path`: only another file there, or none, says that it is not.
fn may_be_at(path: &Path, id: FileId) -> bool {
    match fs::metadata(path) {
        Ok(meta) => FileId::of(&meta) == id,
        Err(e) => {
            let elsewhere = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].map(Errno::raw_os_error);
            !e.raw_os_error().is_some_and(|code| elsewhere.contains(&code))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_made_after_the_clock_was_set_back_are_not_older_than_the_last_look() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let (looked, elapsed) = (at(1_000_000), Duration::from_secs(5));
        assert_eq!(born_after(looked, at(1_000_005), elapsed), looked, "the clock went as it should");
        assert_eq!(born_after(looked, at(1_003_600), elapsed), looked, "it was set forward");
        // An hour back right after the look: a file made a moment later is of that time.
        let made = at(1_000_000 - 3_600);
        assert!(born_after(looked, made + elapsed, elapsed) <= made, "it was set back");
        assert!(born_after(looked, at(2), elapsed) <= at(0), "to the beginning of time");
    }
}
