//! Checkpoints on disk: an append-only file of checksummed records, the last one of a file wins, rewritten to a
//! temporary file and renamed into place when most of it is history. Chosen over a database because ten thousand
//! files cost one small append per flush, a torn tail is cut on the next start, and a damaged file costs only
//! what follows the damage.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::identity::{FileId, Fingerprint};
use crate::base::clock;
use crate::flow::Fault;

/// Least time between two waits for the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);
const MAGIC: &[u8] = b"weir checkpoints 1\n";
/// Longest record that is believed: a path of 4096 bytes and the numbers.
const RECORD_BYTES_MAX: usize = 8192;
const NUMBERS_BYTES: usize = 8 * 5 + 4 + 1;

/// What is known of a file across restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where it was last seen.
    pub path: Arc<Path>,
    /// How it starts.
    pub fingerprint: Fingerprint,
    /// Everything before this byte was dealt with (for a compressed file: byte of its content).
    pub offset: u64,
    /// The offset lies within a line of which the rest is to be skipped.
    pub skipping: bool,
    /// When it was last seen, in seconds since the Unix epoch.
    pub seen: i64,
}

/// Checkpoints by file, and when they were written.
pub type Loaded = (HashMap<FileId, Checkpoint>, SystemTime);

/// A fault of the state directory: rights, a file in its place and a read-only disk need somebody's hand.
fn unusable(e: &io::Error, why: String) -> Fault {
    use io::ErrorKind::{AlreadyExists, NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    match e.kind() {
        AlreadyExists | NotADirectory | PermissionDenied | ReadOnlyFilesystem => {
            Fault::fatal(format!("{why}\nhint: set `state_dir` to a directory that weir may write"))
        }
        _ => Fault::retry(why),
    }
}

/// The file that holds the checkpoints of one source, locked against a second process.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    lock_path: PathBuf,
    lock: Option<File>,
    file: Option<File>,
    bytes: u64,
    /// The next write replaces the file: it is torn, unknown, or mostly history.
    replace: bool,
    /// When appended records were last forced to disk.
    synced: Option<clock::Instant>,
}

impl Journal {
    /// The journal of the component `id` under `state_dir`, whose directory is made (mode 0700) if it is missing. An
    /// empty `state_dir` is none: nothing is kept.
    ///
    /// # Errors
    /// When the directory cannot be made or written, or another process holds the lock: none of it passes by
    /// itself. Anything else, such as a full disk, may pass.
    pub fn open(state_dir: &Path, id: &str) -> Result<Journal, Fault> {
        if state_dir.as_os_str().is_empty() {
            let (path, lock_path) = (PathBuf::new(), PathBuf::new());
            return Ok(Journal {
                path,
                lock_path,
                lock: None,
                file: None,
                bytes: 0,
                replace: false,
                synced: None,
            });
        }
        let dir = state_dir.join("checkpoints");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|e| unusable(&e, format!("cannot make the state directory {}: {e}", dir.display())))?;
        let path = dir.join(format!("{id}.log"));
        let lock_path = dir.join(format!("{id}.lock"));
        let mut journal =
            Journal { path, lock_path, lock: None, file: None, bytes: 0, replace: true, synced: None };
        journal.lock()?;
        Ok(journal)
    }

    /// Whether there are checkpoints of this name.
    pub fn exists(state_dir: &Path, id: &str) -> bool {
        state_dir.join("checkpoints").join(format!("{id}.log")).exists()
    }

    /// The names of all checkpoints under `state_dir`, in order.
    pub fn names(state_dir: &Path) -> Vec<String> {
        let files = fs::read_dir(state_dir.join("checkpoints")).into_iter().flatten().flatten();
        let name = |file: fs::DirEntry| Some(file.file_name().to_str()?.strip_suffix(".log")?.to_owned());
        let mut names: Vec<String> = files.filter_map(name).collect();
        names.sort();
        names
    }

    /// Goes on under another name, whose lock it takes; false when that cannot be done, and nothing has changed.
    pub fn rename(&mut self, state_dir: &Path, id: &str) -> bool {
        let dir = state_dir.join("checkpoints");
        let lock_path = std::mem::replace(&mut self.lock_path, dir.join(format!("{id}.lock")));
        let lock = self.lock.take();
        let path = dir.join(format!("{id}.log"));
        let moved =
            self.lock().map_err(|e| e.to_string()).and_then(|()| match fs::rename(&self.path, &path) {
                // Nothing was written yet.
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.to_string()),
                _ => Ok(()),
            });
        match moved {
            Ok(()) => {
                // Held until now; nobody needs the file any more.
                drop(lock);
                fs::remove_file(lock_path).ok();
                self.path = path;
                true
            }
            Err(e) => {
                tracing::warn!("cannot rename {} to {}: {e}", self.path.display(), path.display());
                (self.lock, self.lock_path) = (lock, lock_path);
                false
            }
        }
    }

    /// Takes the lock again after [`Journal::unlock`].
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn lock(&mut self) -> Result<(), Fault> {
        if self.lock.is_some() || self.is_nowhere() {
            return Ok(());
        }
        let at = self.lock_path.display();
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.lock_path);
        let mut file = open.map_err(|e| unusable(&e, format!("cannot open the lock file {at}: {e}")))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).ok();
                let pid = if pid.trim().is_empty() { "unknown" } else { pid.trim() };
                return Err(Fault::fatal(format!(
                    "the checkpoints are in use by another weir: {at} is locked by pid {pid}\n\
                     hint: stop that process, or give each its own `state_dir`"
                )));
            }
            Err(fs::TryLockError::Error(e)) => {
                return Err(Fault::retry(format!("cannot lock {at}: {e}")));
            }
        }
        // The pid is for people; the lock holds without it.
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).ok();
        self.lock = Some(file);
        Ok(())
    }

    fn is_nowhere(&self) -> bool {
        self.path.as_os_str().is_empty()
    }

    /// Lets another process have the checkpoints.
    pub fn unlock(&mut self) {
        self.lock = None;
        self.file = None;
    }

    /// All checkpoints and when they were last written; `None` if there is no earlier state. Damaged state is
    /// moved aside with a warning, and what precedes the damage is used.
    ///
    /// # Errors
    /// When the file cannot be read, which may pass: to start over would repeat or skip lines.
    pub fn load(&mut self) -> Result<Option<Loaded>, Fault> {
        if self.is_nowhere() {
            return Ok(None);
        }
        let found = File::open(&self.path).and_then(|mut file| {
            let modified = file.metadata()?.modified()?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok((bytes, modified))
        });
        let (bytes, modified) = match found {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => {
                let at = self.path.display();
                return Err(unusable(&e, format!("cannot read the checkpoint file {at}: {e}")));
            }
        };
        let Some((entries, rest)) = read(&bytes) else {
            self.set_aside(if bytes.is_empty() { "is empty" } else { "is not a checkpoint file" });
            return Ok(None);
        };
        // A torn last record is what a crash leaves; more than that is damage.
        if rest.len() > RECORD_BYTES_MAX {
            self.set_aside("is damaged; what precedes the damage is used");
        }
        Ok(Some((entries, modified)))
    }

    fn set_aside(&mut self, why: &str) {
        let aside = self.path.with_extension(format!("damaged-{}", clock::unix_nanos() / 1_000_000_000));
        let moved = fs::rename(&self.path, &aside);
        tracing::warn!(path = %self.path.display(), aside = %aside.display(), moved = moved.is_ok(), "checkpoint file {why}");
    }

    /// Whether the next write should hold every checkpoint rather than the changed ones.
    pub fn wants_all(&self, entries: usize) -> bool {
        self.replace || self.bytes > 64 * 1024 + entries as u64 * 512
    }

    /// Replaces the file by `records`: temporary file, fsync, rename.
    ///
    /// # Errors
    /// From the file system; the old file is still there.
    pub fn replace(&mut self, records: &[u8]) -> io::Result<()> {
        if self.is_nowhere() {
            return Ok(());
        }
        self.replace = true;
        self.file = None;
        let temporary = self.path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(MAGIC)?;
        file.write_all(records)?;
        file.sync_data()?;
        fs::rename(&temporary, &self.path)?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_data()?;
        }
        self.bytes = (MAGIC.len() + records.len()) as u64;
        self.file = Some(file);
        self.replace = false;
        Ok(())
    }

    /// Appends changed records. They survive the death of the process at once, and that of the machine after at
    /// most [`SYNC_EVERY`] of further writes; until then a restart reads some lines again.
    ///
    /// # Errors
    /// From the file system; the next write then replaces the file, so a torn record has nothing behind it.
    pub fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if self.is_nowhere() {
            return Ok(());
        }
        self.replace = true;
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(OpenOptions::new().write(true).open(&self.path)?),
        };
        file.seek(SeekFrom::End(0))?;
        file.write_all(records)?;
        if self.synced.is_none_or(|at| at.elapsed() >= SYNC_EVERY) {
            file.sync_data()?;
            self.synced = Some(clock::now());
        }
        self.bytes += records.len() as u64;
        self.replace = false;
        Ok(())
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Appends a record: length, CRC-32, then identity and checkpoint; without a checkpoint the file is forgotten.
pub fn encode(id: FileId, entry: Option<&Checkpoint>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&id.dev.to_le_bytes());
    out.extend_from_slice(&id.ino.to_le_bytes());
    if let Some(entry) = entry {
        out.extend_from_slice(&entry.fingerprint.hash.to_le_bytes());
        out.extend_from_slice(&entry.fingerprint.len.to_le_bytes());
        out.extend_from_slice(&entry.offset.to_le_bytes());
        out.extend_from_slice(&entry.seen.to_le_bytes());
        out.push(u8::from(entry.skipping));
        let path = entry.path.as_os_str().as_bytes();
        out.extend_from_slice(&path[..path.len().min(RECORD_BYTES_MAX / 2)]);
    }
    let payload = &out[start + 8..];
    let (len, sum) = (payload.len() as u32, checksum(payload));
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// What a journal of `bytes` says, up to its first damage, and the bytes from there on; `None` if it is no journal.
pub fn read(bytes: &[u8]) -> Option<(HashMap<FileId, Checkpoint>, &[u8])> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut entries = HashMap::new();
    while let Some((id, entry, after)) = decode(rest) {
        match entry {
            Some(entry) => entries.insert(id, entry),
            None => entries.remove(&id),
        };
        rest = after;
    }
    Some((entries, rest))
}

/// The first record of `bytes` and what follows it; `None` at the end or at damage.
fn decode(bytes: &[u8]) -> Option<(FileId, Option<Checkpoint>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len) as usize;
    if !(16..=RECORD_BYTES_MAX).contains(&len) {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(len)?;
    if checksum(payload) != u32::from_le_bytes(*sum) {
        return None;
    }
    let u64_at = |at: usize| Some(u64::from_le_bytes(payload.get(at..at + 8)?.try_into().ok()?));
    let id = FileId { dev: u64_at(0)?, ino: u64_at(8)? };
    if len < NUMBERS_BYTES {
        return Some((id, None, rest));
    }
    let entry = Checkpoint {
        fingerprint: Fingerprint {
            hash: u64_at(16)?,
            len: u32::from_le_bytes(payload.get(24..28)?.try_into().ok()?),
        },
        offset: u64_at(28)?,
        seen: u64_at(36)?.cast_signed(),
        skipping: payload[44] != 0,
        path: Path::new(OsStr::from_bytes(&payload[NUMBERS_BYTES..])).into(),
    };
    Some((id, Some(entry), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(n: u64) -> (FileId, Checkpoint) {
        let path = Path::new("/var/log/app.log").into();
        let fingerprint = Fingerprint::of(b"first");
        (
            FileId { dev: 1, ino: n },
            Checkpoint { path, fingerprint, offset: n * 10, skipping: n.is_multiple_of(2), seen: 5 },
        )
    }

    fn write(dir: &Path, numbers: std::ops::Range<u64>) -> PathBuf {
        let mut journal = Journal::open(dir, "t").unwrap();
        let mut records = Vec::new();
        numbers.map(entry).for_each(|(id, e)| encode(id, Some(&e), &mut records));
        journal.replace(&records).unwrap();
        journal.path.clone()
    }

    #[test]
    fn the_last_record_of_a_file_wins_and_a_torn_tail_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), 0..100);
        let mut journal = Journal::open(dir.path(), "t").unwrap();
        journal.replace = false;
        let (id, mut changed) = entry(7);
        changed.offset = 7777;
        let mut records = Vec::new();
        encode(id, Some(&changed), &mut records);
        encode(FileId { dev: 1, ino: 8 }, None, &mut records);
        journal.append(&records).unwrap();
        let full = fs::read(&path).unwrap();
        fs::write(&path, &full[..full.len() - 3]).unwrap();
        let (entries, _) = journal.load().unwrap().unwrap();
        assert_eq!((entries.len(), entries[&id].offset), (100, 7777), "the torn record forgot file 8");
        fs::write(&path, &full).unwrap();
        let (entries, _) = journal.load().unwrap().unwrap();
        assert_eq!((entries.len(), &entries[&entry(3).0]), (99, &entry(3).1));
    }

    #[test]
    fn zero_bytes_or_garbage_are_moved_aside_and_never_fatal() {
        for damage in [&b""[..], b"\0\0\0\0garbage", b"weir checkpoints 9\nxx"] {
            let dir = tempfile::tempdir().unwrap();
            let path = write(dir.path(), 0..3);
            fs::write(&path, damage).unwrap();
            let mut journal = Journal::open(dir.path(), "t").unwrap();
            assert!(journal.load().unwrap().is_none());
            assert!(!path.exists());
            let aside = fs::read_dir(path.parent().unwrap())
                .unwrap()
                .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("damaged"));
            assert_eq!(aside.count(), 1);
        }
    }

    #[test]
    fn a_second_instance_is_refused_by_name_and_pid() {
        let dir = tempfile::tempdir().unwrap();
        let first = Journal::open(dir.path(), "t").unwrap();
        let Err(Fault::Fatal { why }) = Journal::open(dir.path(), "t") else { panic!("two hold the lock") };
        assert!(why.contains("t.lock") && why.contains(&std::process::id().to_string()), "{why}");
        drop(first);
        Journal::open(dir.path(), "t").unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_load_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..400) {
            let mut log = Vec::new();
            (0..3).map(entry).for_each(|(id, e)| encode(id, Some(&e), &mut log));
            log.truncate(cut);
            log.extend_from_slice(&bytes);
            let mut rest = &log[..];
            while let Some((_, _, after)) = decode(rest) {
                rest = after;
            }
        }
    }
}
