//! Files that were rotated away while nobody looked. Those that were known are found among their siblings by
//! inode; those that came to a followed path and left it again are found by their names and their time of birth.
//! They are read oldest first, before the file that is at the path now.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::checkpoint::{ARCHIVE_DONE, FORMER_DEV};
use super::engine::Tail;
use super::follow::stamp;
use super::identity::FileId;
use super::journal::Checkpoint;
use super::scan::Arrival;
use crate::base::clock;

/// Digits of a date that stands within a name.
const DATE_DIGITS_MIN: usize = 6;

/// How long a path that was left is kept in mind, and how many of them.
const VACANT_FOR: Duration = Duration::from_secs(600);
const VACANT_MAX: usize = 1000;

/// A rotated file that is to be read.
struct Found {
    modified: i128,
    id: FileId,
    path: PathBuf,
    meta: Metadata,
    /// The followed path it was at.
    of: PathBuf,
}

impl Tail<'_> {
    /// After a restart: looks for files of the last run that no pattern leads to any more, and for those that came
    /// and went at their paths meanwhile.
    pub(super) fn recover(&mut self, before: &[(FileId, Checkpoint)]) {
        let known: HashSet<FileId> = before.iter().map(|(id, _)| *id).collect();
        let mut by_dir: HashMap<&Path, Vec<&(FileId, Checkpoint)>> = HashMap::new();
        for entry in before.iter().filter(|(id, _)| id.dev != FORMER_DEV) {
            if let Some(dir) = entry.1.path.parent() {
                by_dir.entry(dir).or_default().push(entry);
            }
        }
        for (dir, entries) in by_dir {
            // Paths where another file is now than any that was known there.
            let is_other = |path: &&Path| !self.at(path).is_some_and(|id| known.contains(&id));
            let rotated: HashMap<PathBuf, Option<FileId>> = entries
                .iter()
                .map(|(_, c)| &*c.path)
                .filter(is_other)
                .map(|p| (p.to_path_buf(), None))
                .collect();
            let unfinished: HashMap<FileId, &Checkpoint> = entries
                .iter()
                .filter(|(id, _)| !self.files.contains_key(id))
                .map(|(id, c)| (*id, c))
                .collect();
            let room = VACANT_MAX.saturating_sub(self.vacant.len());
            let empty: Vec<_> = rotated.keys().filter(|p| self.at(p).is_none()).take(room).cloned().collect();
            self.vacant.extend(empty.into_iter().map(|path| (path, clock::now())));
            if !rotated.is_empty() || !unfinished.is_empty() {
                self.recover_in(dir, &rotated, &unfinished, self.ledger.looked_before());
            }
        }
    }

    /// While running: the files in `left` are no longer at their paths; did others come and go, there or at paths
    /// that were left a while ago, since `since`?
    pub(super) fn recover_between(&mut self, left: &[FileId], since: SystemTime) {
        let now = clock::now();
        let mut by_dir: HashMap<PathBuf, HashMap<PathBuf, Option<FileId>>> = HashMap::new();
        let mut note = |path: &Path, id| {
            if let Some(dir) = path.parent() {
                by_dir.entry(dir.to_path_buf()).or_default().insert(path.to_path_buf(), id);
            }
        };
        self.vacant.keys().for_each(|path| note(path, None));
        for id in left {
            let Some(path) = self.files.get(id).and_then(|f| f.left.clone()) else { continue };
            self.enqueue(*id);
            if let Some(current) = self.at(&path).filter(|current| current != id)
                && let Some(file) = self.files.get_mut(&current)
            {
                file.after = Some(*id);
            }
            note(&path, Some(*id));
            if self.vacant.len() < VACANT_MAX {
                self.vacant.insert(path.to_path_buf(), now);
            }
        }
        for (dir, rotated) in by_dir {
            self.recover_in(&dir, &rotated, &HashMap::new(), Some(since));
        }
        let mut vacant = std::mem::take(&mut self.vacant);
        // The file that left stays known by its path while the rest of it is read.
        let is_there = |id| self.files.get(&id).is_some_and(|file| file.gone.is_none());
        vacant.retain(|path, since| now - *since < VACANT_FOR && !self.at(path).is_some_and(is_there));
        self.vacant = vacant;
    }

    /// The file at `path` now.
    fn at(&self, path: &Path) -> Option<FileId> {
        self.by_path.get(&std::path::absolute(path).ok()?).copied()
    }

    /// `rotated`: paths whose file is another one now, and the one that was there; `unfinished`: checkpoints of
    /// files that no pattern leads to.
    fn recover_in(
        &mut self,
        dir: &Path,
        rotated: &HashMap<PathBuf, Option<FileId>>,
        unfinished: &HashMap<FileId, &Checkpoint>,
        since: Option<SystemTime>,
    ) {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let Ok(entries) = fs::read_dir(dir) else { return };
        let inodes: HashSet<u64> = unfinished.keys().map(|id| id.ino).collect();
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let of = rotated.keys().find(|p| p.file_name().is_some_and(|base| is_rotated_name(base, &name)));
            let of = of.filter(|_| !self.settings.is_excluded(&path));
            if of.is_none() && !inodes.contains(&entry.ino()) {
                continue;
            }
            let Ok(meta) = fs::metadata(&path) else { continue };
            let id = FileId::of(&meta);
            if !meta.is_file() || self.files.contains_key(&id) {
                continue;
            }
            let born_since = || since.is_some_and(|since| meta.created().is_ok_and(|born| born >= since));
            let of = match (unfinished.get(&id), of) {
                // Shorter than what was read, it was truncated before it was rotated.
                (Some(known), _) if known.offset != meta.len() && known.offset != ARCHIVE_DONE => {
                    known.path.to_path_buf()
                }
                (None, Some(of)) if self.ledger.find(id).is_none() && born_since() => of.clone(),
                _ => continue,
            };
            found.push(Found { modified: stamp(&meta).1, id, path, meta, of });
        }
        self.read_first(found, rotated);
    }

    /// Takes on what was found, each after the one before it and before the file that is at the path now.
    fn read_first(&mut self, mut found: Vec<Found>, rotated: &HashMap<PathBuf, Option<FileId>>) {
        found.sort_by_key(|f| f.modified);
        let mut last: HashMap<PathBuf, Option<FileId>> = HashMap::new();
        for Found { id, path, meta, of, .. } in found {
            if self.files.contains_key(&id) {
                // It has another name, too.
                continue;
            }
            tracing::info!(path = %path.display(), of = %of.display(), "rotated unseen, reading the rest");
            self.take_on(id, &path, &meta, Arrival::Rotated, &of);
            let before = last.insert(of.clone(), Some(id)).or_else(|| rotated.get(&of).copied());
            if let Some(file) = self.files.get_mut(&id) {
                file.after = before.flatten();
            }
        }
        for (of, id) in last {
            if let Some(file) = self.at(&of).and_then(|current| self.files.get_mut(&current)) {
                file.after = id;
            }
        }
    }
}

/// Whether a file `name` may be what rotation made of the file `base`: `app.log.1`, `app.log-20261121.gz`,
/// `app.log.old` or `app-20261121.log` of `app.log`.
fn is_rotated_name(base: &OsStr, name: &OsStr) -> bool {
    let (base, name) = (base.as_encoded_bytes(), name.as_encoded_bytes());
    let separated = |rest: &[u8]| matches!(rest.first(), Some(b'.' | b'-' | b'_' | b'~'));
    let digits = |text: &[u8]| text.iter().filter(|b| b.is_ascii_digit()).count();
    if let Some(rest) = name.strip_prefix(base) {
        return separated(rest) && (digits(rest) > 0 || matches!(rest, b".old" | b".bak" | b".prev" | b"~"));
    }
    let Some(dot) = memchr::memrchr(b'.', base) else { return false };
    let (stem, extension) = base.split_at(dot);
    let rest = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(extension));
    let is_date = |b: &u8| b.is_ascii_digit() || b"-._T:".contains(b);
    rest.is_some_and(|rest| separated(rest) && digits(rest) >= DATE_DIGITS_MIN && rest.iter().all(is_date))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_names_are_told_from_others() {
        let of = |name: &str| is_rotated_name(OsStr::new("app.log"), OsStr::new(name));
        for name in
            ["app.log.1", "app.log-20261121", "app.log.2.gz", "app.log.old", "app-2026-11-21.log", "app.log~"]
        {
            assert!(of(name), "{name}");
        }
        for name in [
            "app.log",
            "app.log.swp",
            "app.logs.1",
            "app-2.log",
            "app2.log",
            "other.log.1",
            "app-worker-20261121.log",
        ] {
            assert!(!of(name), "{name}");
        }
    }
}
