//! What the scan does with what it finds: known files keep their offset under a new name, unknown ones are taken
//! on, those that no path leads to any more are read to their end. After a restart, files that were rotated
//! meanwhile are looked for among their siblings.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::Compression;
use super::checkpoint::{ARCHIVE_DONE, FORMER_DEV};
use super::engine::{Tail, age_nanos};
use super::follow::{Followed, read_full, stamp};
use super::identity::{FileId, Fingerprint};
use super::journal::Checkpoint;
use super::text::Coding;
use crate::base::clock;
use crate::batch::Origin;

/// How far back from the end a line start is looked for.
const END_SEARCH_BYTES: u64 = 64 * 1024;

/// Where a file comes from that is taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
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
        self.scan(true);
        self.recover(&before);
        let present: HashSet<FileId> = self.files.keys().copied().collect();
        self.ledger.expire(&present);
        if self.files.is_empty() && self.unreadable.is_empty() {
            tracing::warn!(component = %self.settings.component, "no file matches yet; files are read when they appear");
        }
    }

    /// Walks the tree and takes note of what changed in it.
    pub(super) fn scan(&mut self, first: bool) {
        let start = clock::now();
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
        self.settle_known(&here);
        for (id, path, meta) in new {
            let arrival = if first { Arrival::AtStart } else { Arrival::Later };
            self.take_on(id, &path, &meta, arrival);
        }
        self.scanned = clock::now();
        self.scan_cost = self.scanned - start;
        self.scan_wanted = false;
    }

    /// Files that are followed: under which name are they now, if any?
    fn settle_known(&mut self, here: &HashMap<FileId, PathBuf>) {
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
                None if file.gone.is_none() => {
                    file.gone = Some(now);
                    file.due = now;
                    gone.push(*id);
                }
                None => {}
            }
        }
        for (id, path) in renamed {
            self.rename(id, &path);
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
        self.ledger.describe(id, file.fingerprint, &file.path);
        if let Ok(path) = std::path::absolute(path) {
            file.watched = self.watch.covers(&path);
            self.by_path.insert(path, id);
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

    /// Takes on a file that is not followed yet.
    fn take_on(&mut self, id: FileId, path: &Path, meta: &Metadata, arrival: Arrival) {
        let arrival = match self.unreadable.get(path) {
            Some(true) => Arrival::AtStart,
            _ => arrival,
        };
        match self.try_take_on(id, path, meta, arrival) {
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

    fn try_take_on(&mut self, id: FileId, path: &Path, meta: &Metadata, arrival: Arrival) -> io::Result<()> {
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
        if resumed.is_none() {
            let seen = clock::unix_nanos() / 1_000_000_000;
            self.ledger.begin(id, Checkpoint { path: shared.clone(), fingerprint, offset, skipping, seen });
        } else {
            self.ledger.describe(id, fingerprint, &shared);
        }
        let now = clock::now();
        let absolute = std::path::absolute(path).ok();
        let after = absolute.as_ref().and_then(|p| self.by_path.get(p)).copied();
        let linked = meta.nlink() > 1 || fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
        let watched = !linked && absolute.as_ref().is_some_and(|p| self.watch.covers(p));
        let followed = Followed {
            id,
            path: shared,
            origin: Arc::new(Origin::new(&self.settings.component, &path.display().to_string())),
            file: None,
            fingerprint,
            offset,
            skipping,
            seen: (0, 0),
            due: now,
            interval: self.settings.poll_interval,
            gone: (arrival == Arrival::Rotated).then_some(now),
            flush_at: None,
            watched,
            queued: false,
            used: false,
            after,
            compression,
            archive: None,
            reported: false,
        };
        self.files.insert(id, followed);
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
        let moved = self.ledger.all().into_iter().find(|(other, c)| {
            other.dev != id.dev && other.ino == id.ino && c.fingerprint.len > 0 && *c.path == *path && fits(c)
        });
        let (old, checkpoint) = moved?;
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
        let Some(written) = self.ledger.written() else { return false };
        meta.created().is_ok_and(|born| born > written)
            || self.ledger.all().iter().any(|(_, c)| *c.path == *path)
    }

    /// Looks for files of the last run that no pattern leads to any more, and for those that came and went at
    /// their paths meanwhile: among the siblings, oldest first, before what is at the path now.
    fn recover(&mut self, before: &[(FileId, Checkpoint)]) {
        let known: HashSet<FileId> = before.iter().map(|(id, _)| *id).collect();
        let mut by_dir: HashMap<&Path, Vec<(FileId, &Checkpoint)>> = HashMap::new();
        for (id, checkpoint) in before.iter().filter(|(id, _)| id.dev != FORMER_DEV) {
            if let Some(dir) = checkpoint.path.parent() {
                by_dir.entry(dir).or_default().push((*id, checkpoint));
            }
        }
        for (dir, checkpoints) in by_dir {
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            let current =
                |path: &Path| std::path::absolute(path).ok().and_then(|p| self.by_path.get(&p)).copied();
            // Paths where another file is now than any that was known there.
            let rotated: HashSet<&Path> = checkpoints
                .iter()
                .map(|(_, c)| &*c.path)
                .filter(|path| !current(path).is_some_and(|id| known.contains(&id)))
                .collect();
            let unfinished: HashMap<u64, FileId> = checkpoints
                .iter()
                .map(|(id, _)| *id)
                .filter(|id| !self.files.contains_key(id))
                .map(|id| (id.ino, id))
                .collect();
            if rotated.is_empty() && unfinished.is_empty() {
                continue;
            }
            self.recover_in(dir, &rotated, &unfinished, &checkpoints);
        }
    }

    fn recover_in(
        &mut self,
        dir: &Path,
        rotated: &HashSet<&Path>,
        unfinished: &HashMap<u64, FileId>,
        checkpoints: &[(FileId, &Checkpoint)],
    ) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        let mut found: Vec<(i128, FileId, PathBuf, Metadata, PathBuf)> = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let family = rotated.iter().find(|p| {
                p.file_name().is_some_and(|base| {
                    name.len() > base.len() && name.as_encoded_bytes().starts_with(base.as_encoded_bytes())
                })
            });
            if !unfinished.contains_key(&entry.ino())
                && (family.is_none() || self.settings.is_excluded(&path))
            {
                continue;
            }
            let Ok(meta) = fs::metadata(&path) else { continue };
            let id = FileId::of(&meta);
            if !meta.is_file() || self.files.contains_key(&id) {
                continue;
            }
            let owner = match checkpoints.iter().find(|(known, _)| *known == id) {
                Some((_, c)) if c.offset < meta.len() => c.path.to_path_buf(),
                Some(_) => continue,
                None => match (family, self.ledger.written()) {
                    (Some(base), Some(written)) if meta.created().is_ok_and(|born| born > written) => {
                        base.to_path_buf()
                    }
                    _ => continue,
                },
            };
            found.push((stamp(&meta).1, id, path, meta, owner));
        }
        found.sort_by_key(|(modified, ..)| *modified);
        let mut last: HashMap<PathBuf, FileId> = HashMap::new();
        for (_, id, path, meta, owner) in found {
            tracing::info!(path = %path.display(), of = %owner.display(), "rotated while weir was not running, reading the rest");
            self.take_on(id, &path, &meta, Arrival::Rotated);
            if let Some(file) = self.files.get_mut(&id) {
                file.after = last.insert(owner, id);
            }
        }
        for (owner, id) in last {
            let current = std::path::absolute(&owner).ok().and_then(|p| self.by_path.get(&p)).copied();
            if let Some(file) = current.and_then(|current| self.files.get_mut(&current)) {
                file.after = Some(id);
            }
        }
    }
}
