//! A disk that does one thing and not another, for tests of what goes on meanwhile and of what is left of it.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::model_tests::Model;
use super::passing_tests::{Life, options};
use super::storage::{Held, Open, Storage, StoredFile};
use super::{DiskFull, DiskOptions};

/// What a file system is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Open,
    Write,
    Sync,
    Read,
    Rename,
    Remove,
}

/// Why an act on the file of that name fails, as the system says it.
pub(super) type Breaks = fn(Act, &str) -> Option<Errno>;

/// A model of which some acts fail.
#[derive(Debug, Clone, Default)]
pub(super) struct Weather {
    pub(super) model: Model,
    breaks: Arc<Mutex<Option<Breaks>>>,
}

#[derive(Debug)]
struct File(Weather, Arc<dyn StoredFile>, String);

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Weather {
    pub(super) fn turns(&self, breaks: Breaks) {
        *self.breaks.lock().unwrap() = Some(breaks);
    }

    pub(super) fn clears_up(&self) {
        *self.breaks.lock().unwrap() = None;
    }

    fn allows(&self, act: Act, name: &str) -> io::Result<()> {
        let breaks = *self.breaks.lock().unwrap();
        breaks.and_then(|breaks| breaks(act, name)).map_or(Ok(()), |errno| Err(errno.into()))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.model.list(Path::new("/b")).unwrap().iter().any(|(other, _)| other == name)
    }

    pub(super) fn segments(&self) -> Vec<String> {
        let files = self.model.list(Path::new("/b")).unwrap().into_iter();
        files.map(|(name, _)| name).filter(|name| name.ends_with(".seg")).collect()
    }

    /// Bytes of all segment files, whoever knows of them.
    pub(super) fn segment_bytes(&self) -> u64 {
        let files = self.model.list(Path::new("/b")).unwrap();
        files.iter().filter(|(name, _)| name.ends_with(".seg")).map(|(_, len)| len).sum()
    }
}

impl Storage for Weather {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.model.create_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        self.model.lock(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        self.model.list(dir)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        self.allows(Act::Open, &name_of(path))?;
        Ok(Arc::new(File(self.clone(), self.model.open(path, how)?, name_of(path))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.allows(Act::Rename, &name_of(from))?;
        self.model.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.allows(Act::Remove, &name_of(path))?;
        self.model.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.allows(Act::Sync, "")?;
        self.model.sync_dir(dir)
    }
}

impl StoredFile for File {
    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.0.allows(Act::Write, &self.2)?;
        self.1.write_at(slices, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.allows(Act::Read, &self.2)?;
        self.1.read_at(buffer, offset)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.allows(Act::Write, &self.2)?;
        self.1.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.allows(Act::Sync, &self.2)?;
        self.1.sync()
    }
}

fn is_position(name: &str) -> bool {
    name == super::positions::POSITION_FILE
}

pub(super) fn full(act: Act, _: &str) -> Option<Errno> {
    (act == Act::Write).then_some(Errno::NOSPC)
}

pub(super) fn unwritable(act: Act, _: &str) -> Option<Errno> {
    (!matches!(act, Act::Open | Act::Read)).then_some(Errno::IO)
}

pub(super) fn unsynced(act: Act, _: &str) -> Option<Errno> {
    (act == Act::Sync).then_some(Errno::IO)
}

pub(super) fn no_position(act: Act, name: &str) -> Option<Errno> {
    (act == Act::Write && is_position(name)).then_some(Errno::IO)
}

pub(super) fn no_rename(act: Act, _: &str) -> Option<Errno> {
    (act == Act::Rename).then_some(Errno::IO)
}

pub(super) fn no_remove(act: Act, _: &str) -> Option<Errno> {
    (act == Act::Remove).then_some(Errno::IO)
}

pub(super) fn unreadable(act: Act, name: &str) -> Option<Errno> {
    (act == Act::Read && !is_position(name)).then_some(Errno::IO)
}

pub(super) fn no_files(act: Act, _: &str) -> Option<Errno> {
    (act == Act::Open).then_some(Errno::MFILE)
}

/// The disk is not there.
pub(super) fn away(_: Act, _: &str) -> Option<Errno> {
    Some(Errno::IO)
}

pub(super) const BAD: [Breaks; 8] =
    [full, unwritable, unsynced, no_position, no_rename, no_remove, no_files, unreadable];

pub(super) fn small(when_full: DiskFull) -> DiskOptions {
    let mut options = options(when_full);
    options.limits.bytes_max = 64 << 10;
    options
}

impl Life {
    pub(super) fn rounds(&self) -> u64 {
        self.status.rounds.load(Relaxed)
    }

    pub(super) fn state(&self) -> &'static str {
        self.status.snapshot().state()
    }
}
