//! One file that lines are appended to. A write either takes place as a whole or is cut back, so that a batch that
//! is offered again is not there twice; a line that a crash left unfinished is ended before the next begins.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::io::Errno;

use super::retention::rotated_path;

/// An open file and what is known of it.
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    path: PathBuf,
    /// Bytes in it; 0 for what is no regular file.
    size: u64,
    is_regular: bool,
    /// The period of its first line, see [`period_of`].
    period: i64,
    /// Written to since the last [`OutputFile::sync`].
    dirty: bool,
    identity: (u64, u64),
}

/// Which period of length `every` a moment lies in; periods are aligned to the Unix epoch, hence to UTC hours and
/// days.
pub fn period_of(unix_nanos: i64, every: Duration) -> i64 {
    let every = i64::try_from(every.as_nanos()).unwrap_or(i64::MAX).max(1);
    unix_nanos.div_euclid(every)
}

impl OutputFile {
    /// Opens `path` to append, with the directories above it; ends an unfinished last line. `every` is the length
    /// of a rotation period, if there is one, and `now` the time in nanoseconds since the epoch.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path, every: Option<Duration>, now: i64) -> io::Result<OutputFile> {
        let file = match open_to_append(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                open_to_append(path)?
            }
            opened => opened?,
        };
        let meta = file.metadata()?;
        let is_regular = meta.is_file();
        let size = if is_regular { meta.len() } else { 0 };
        let written = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let written = written.and_then(|d| i64::try_from(d.as_nanos()).ok()).filter(|_| size > 0);
        let period = every.map_or(0, |every| period_of(written.unwrap_or(now), every));
        let identity = (meta.dev(), meta.ino());
        let path = path.to_owned();
        let mut output = OutputFile { file, path, size, is_regular, period, dirty: false, identity };
        output.end_last_line()?;
        Ok(output)
    }

    /// A last line without its newline was cut by a crash (or by hand): the next line must not continue it.
    fn end_last_line(&mut self) -> io::Result<()> {
        let mut last = [b'\n'];
        if self.size > 0 {
            match self.file.read_exact_at(&mut last, self.size - 1) {
                // Opened for writing only: nothing can be known.
                Err(e) if e.raw_os_error() == Some(Errno::BADF.raw_os_error()) => {}
                read => read?,
            }
        }
        if last == *b"\n" { Ok(()) } else { self.append(1, |fd| crate::codec::write::write_all(fd, b"\n")) }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Appends the `bytes` that `write` writes. When that fails midway, what was written is cut off again.
    ///
    /// # Errors
    /// The one of `write`.
    pub fn append(
        &mut self,
        bytes: u64,
        write: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        self.dirty = true;
        if self.is_regular {
            // Somebody may have truncated it since: what fails is cut back to where it began.
            self.size = self.file.metadata()?.len();
        }
        match write(self.file.as_fd()) {
            Ok(()) => {
                self.size += if self.is_regular { bytes } else { 0 };
                Ok(())
            }
            Err(e) => {
                if self.is_regular
                    && let Err(cut) = self.file.set_len(self.size)
                {
                    tracing::warn!(
                        "{}: a partly written batch stays in the file: {cut}",
                        self.path.display()
                    );
                }
                Err(e.into())
            }
        }
    }

    /// Brings what was written to the disk itself.
    ///
    /// # Errors
    /// The system's; what was written since the last call may then be lost with the machine.
    pub fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.dirty) && self.is_regular {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Whether `more` bytes would make it larger than `size_max`, or its period has passed. Empty files and what
    /// is no regular file are never due.
    pub fn is_due(&self, more: u64, size_max: Option<u64>, every: Option<Duration>, now: i64) -> bool {
        let too_large = size_max.is_some_and(|max| self.size + more > max);
        let too_old = every.is_some_and(|every| period_of(now, every) > self.period);
        self.is_regular && self.size > 0 && (too_large || too_old)
    }

    /// Moves the file aside, under a name that tells when, and returns that name. The next line opens a new one.
    ///
    /// # Errors
    /// The system's; the file then stays as it is.
    pub fn rotate(mut self, now: i64) -> io::Result<PathBuf> {
        self.sync()?;
        let aside = rotated_path(&self.path, now);
        std::fs::rename(&self.path, &aside)?;
        Ok(aside)
    }

    /// Looks at the path again: whether it still leads to this file (someone may have rotated or removed it), and
    /// how large that is now (someone may have truncated it).
    pub fn is_current(&mut self) -> bool {
        if !self.is_regular {
            return true;
        }
        match std::fs::metadata(&self.path) {
            Ok(meta) => {
                let same = (meta.dev(), meta.ino()) == self.identity;
                if same {
                    self.size = meta.len();
                }
                same
            }
            Err(e) => {
                let elsewhere = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].map(Errno::raw_os_error);
                !e.raw_os_error().is_some_and(|code| elsewhere.contains(&code))
            }
        }
    }

    /// Bytes that may still be written to the file's disk.
    ///
    /// # Errors
    /// The system's.
    pub fn disk_free(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.file)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Readable too, to see how the file ends; where that is not allowed, to append only.
fn open_to_append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    match options.clone().read(true).open(path) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => options.open(path),
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::write::write_all;

    fn line(file: &mut OutputFile, text: &str) {
        file.append(text.len() as u64, |fd| write_all(fd, text.as_bytes())).unwrap();
    }

    #[test]
    fn an_unfinished_line_is_ended_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c.log");
        line(&mut OutputFile::open(&path, None, 0).unwrap(), "whole\nto");
        line(&mut OutputFile::open(&path, None, 0).unwrap(), "next\n");
        let file = OutputFile::open(&path, None, 0).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\nto\nnext\n");
        assert_eq!(file.size(), 14);
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut file = OutputFile::open(&path, None, 0).unwrap();
        line(&mut file, "kept\n");
        let failed = file.append(100, |fd| {
            write_all(fd, b"half a ba")?;
            Err(rustix::io::Errno::NOSPC)
        });
        assert!(failed.is_err());
        line(&mut file, "after\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept\nafter\n");
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind_in_a_file_that_somebody_truncated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut file = OutputFile::open(&path, None, 0).unwrap();
        line(&mut file, "before copytruncate\n");
        File::create(&path).unwrap();
        let failed = file.append(100, |fd| {
            write_all(fd, b"half a ba")?;
            Err(rustix::io::Errno::NOSPC)
        });
        assert!(failed.is_err());
        line(&mut file, "after\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
        assert_eq!(file.size(), 6);
    }

    #[test]
    fn notices_that_something_else_took_the_place_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut file = OutputFile::open(&at("logs/x.log"), None, 0).unwrap();
        assert!(file.is_current());
        std::fs::rename(at("logs"), at("old")).unwrap();
        std::fs::write(at("logs"), "").unwrap();
        assert!(!file.is_current(), "a file");
        std::fs::remove_file(at("logs")).unwrap();
        std::os::unix::fs::symlink("logs", at("logs")).unwrap();
        assert!(!file.is_current(), "a loop");
    }

    #[test]
    fn notices_rotation_and_truncation_by_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut file = OutputFile::open(&path, None, 0).unwrap();
        line(&mut file, "one\n");
        File::create(&path).unwrap();
        assert!(file.is_current() && file.size() == 0);
        std::fs::rename(&path, dir.path().join("y.log")).unwrap();
        assert!(!file.is_current());
    }

    #[test]
    fn periods_are_aligned_and_a_file_of_yesterday_is_due() {
        let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86400));
        let at = |h: i64| h * 3_600_000_000_000;
        assert_eq!(period_of(at(1) - 1, hour), 0);
        assert_eq!(period_of(at(1), hour), 1);
        assert_eq!(period_of(-1, day), -1);
        let dir = tempfile::tempdir().unwrap();
        let mut file = OutputFile::open(&dir.path().join("x"), Some(hour), at(5)).unwrap();
        assert!(!file.is_due(10, Some(5), Some(hour), at(9)), "an empty file is never due");
        line(&mut file, "x\n");
        assert!(!file.is_due(3, Some(5), Some(hour), at(6) - 1));
        assert!(file.is_due(4, Some(5), Some(hour), at(6) - 1));
        assert!(file.is_due(0, None, Some(hour), at(6)));
    }
}
