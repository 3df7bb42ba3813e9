//! The seam between a disk buffer and the file system. Everything that a buffer does to its directory goes through
//! [`Storage`], so that a test can put a model behind it that forgets what was not synced.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Most slices that one system call takes on every system of interest (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A file that must not exist yet, mode 0600, to read and write.
    Create,
}

/// A lock that is held until it is dropped.
pub trait Held: Send + Sync + Debug {}

/// The operations on a buffer's directory.
pub trait Storage: Send + Sync + Debug {
    /// Makes a directory and its parents, mode 0700.
    ///
    /// # Errors
    /// From the file system.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the exclusive lock of `path`, a file made for it (mode 0600).
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] with the holder's pid as text when another process holds it; else from the
    /// file system.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>>;

    /// The names of the files in a directory, and their lengths in bytes.
    ///
    /// # Errors
    /// From the file system.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;

    /// Opens a file.
    ///
    /// # Errors
    /// From the file system.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>>;

    /// Moves a file within the directory; durable after [`Storage::sync_dir`].
    ///
    /// # Errors
    /// From the file system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; durable after [`Storage::sync_dir`].
    ///
    /// # Errors
    /// From the file system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Forces the directory's entries to the disk.
    ///
    /// # Errors
    /// From the file system.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file.
pub trait StoredFile: Send + Sync + Debug {
    /// Writes all slices, one after the other, from `offset` on.
    ///
    /// # Errors
    /// From the file system; some of the bytes may have been written.
    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Reads what there is, less than `buffer` holds only at the end of the file.
    ///
    /// # Errors
    /// From the file system.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// From the file system.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Forces the file's contents and length to the disk.
    ///
    /// # Errors
    /// From the file system; what was written since the last success may then be lost, whatever a later call says.
    fn sync(&self) -> io::Result<()>;
}

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

/// What buffers of a process are on, found in [`Shared`](crate::flow::Shared): the file system of the machine, unless
/// a simulation has put another in its place.
#[derive(Debug, Default)]
pub struct FileSystem(OnceLock<Arc<dyn Storage>>);

impl FileSystem {
    /// Buffers that are started from now on are on `storage`; the first call counts.
    pub fn replace(&self, storage: Arc<dyn Storage>) {
        self.0.get_or_init(|| storage);
    }

    /// What was put in place of the machine's.
    pub fn replaced(&self) -> Option<Arc<dyn Storage>> {
        self.0.get().cloned()
    }
}

/// A locked file; closing it lets the lock go.
#[derive(Debug)]
struct LockFile(#[expect(dead_code, reason = "held for its lock")] File);

impl Held for LockFile {}

impl Storage for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = match open {
            // The lock is taken on the open file, which need not be writable.
            Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(path)?,
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).ok();
                return Err(io::Error::new(io::ErrorKind::WouldBlock, pid.trim().to_owned()));
            }
            Err(fs::TryLockError::Error(e)) => return Err(e),
        }
        // The pid is for people; the lock holds without it.
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).ok();
        Ok(Box::new(LockFile(file)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if let (true, Ok(name)) = (about.is_file(), entry.file_name().into_string()) {
                found.push((name, about.len()));
            }
        }
        Ok(found)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(how != Open::Read).create_new(how == Open::Create).mode(0o600);
        Ok(Arc::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl StoredFile for File {
    fn write_at(&self, mut slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let count = slices.len().min(SLICES_MAX);
            match rustix::io::pwritev(self, &slices[..count], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut slices, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
