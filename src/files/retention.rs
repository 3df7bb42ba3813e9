//! Rotated files: how they are named, compressed, and removed when there are too many, too much, or too old ones.
//! All of it happens beside the writing, one job at a time, and every step may be cut short by a crash.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::base::clock;

/// How rotated files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        }
    }
}

/// What becomes of the rotated files of one path.
#[derive(Debug, Clone)]
pub struct Retention {
    /// How they are compressed.
    pub compress: Compression,
    /// Most of them.
    pub keep: Option<usize>,
    /// Most bytes in all of them and the file itself.
    pub total_bytes_max: Option<u64>,
    /// The greatest age, by the time of their rotation.
    pub age_max: Option<Duration>,
}

/// Length of `.20261121T031500.000`.
const STAMP_LEN: usize = 20;

/// The name under which `path` is moved aside: `app.log.20261121T031500.000`, the time in UTC to the millisecond, or
/// the next one that is free. Names sort by age, also when older ones of the same second are gone already.
pub fn rotated_path(path: &Path, now: i64) -> PathBuf {
    let mut time = jiff::Timestamp::from_nanosecond(i128::from(now)).unwrap_or_default();
    loop {
        let stamp = time.to_zoned(jiff::tz::TimeZone::UTC).strftime(".%Y%m%dT%H%M%S%.3f").to_string();
        let name = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(&stamp);
            name.push(suffix);
            PathBuf::from(name)
        };
        if !["", ".gz", ".zst"].iter().any(|suffix| name(suffix).exists()) {
            return name("");
        }
        time = time.saturating_add(jiff::SignedDuration::from_millis(1)).unwrap_or_default();
    }
}

/// The rotation's time in nanoseconds since the epoch, if `name` is a rotated file of `of`.
fn rotated_at(name: &str, of: &str) -> Option<i64> {
    let stamp = name.strip_prefix(of)?.strip_prefix('.')?;
    let stamp = stamp.strip_suffix(".gz").or_else(|| stamp.strip_suffix(".zst")).unwrap_or(stamp);
    let (time, number) = stamp.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if time.len() != STAMP_LEN - 5 || number.len() < 3 || !digits(number) {
        return None;
    }
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", time).ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_nanosecond();
    i64::try_from(time).ok()
}

impl Retention {
    /// Whether there is anything to do about rotated files.
    pub fn is_needed(&self) -> bool {
        let Retention { compress, keep, total_bytes_max, age_max } = self;
        *compress != Compression::None || keep.is_some() || total_bytes_max.is_some() || age_max.is_some()
    }

    /// Compresses and removes the rotated files of `path` as they have to be. Blocks.
    ///
    /// # Errors
    /// The first of the system's; what could be done was done.
    pub fn tidy(&self, path: &Path, now: i64) -> io::Result<()> {
        let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Some(own) = path.file_name().and_then(|n| n.to_str()) else { return Ok(()) };
        let mut first_error = None;
        let mut note = |outcome: io::Result<()>| {
            if let Err(e) = outcome {
                first_error.get_or_insert(e);
            }
        };
        let mut rotated = BTreeSet::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(unfinished) = name.strip_suffix(".tmp") {
                if rotated_at(unfinished, own).is_some() {
                    note(fs::remove_file(dir.join(name)));
                }
            } else if rotated_at(name, own).is_some() {
                rotated.insert(name.to_owned());
            }
        }
        if self.compress != Compression::None {
            for name in rotated.clone().iter().filter(|n| !n.ends_with(".gz") && !n.ends_with(".zst")) {
                let outcome = compress(&dir.join(name), self.compress);
                if outcome.is_ok() {
                    rotated.remove(name);
                    rotated.insert(format!("{name}{}", self.compress.suffix()));
                }
                note(outcome);
            }
        }
        for name in self.surplus(&rotated, dir, own, now) {
            note(fs::remove_file(dir.join(name)));
        }
        first_error.map_or(Ok(()), Err)
    }

    /// The rotated files that have to go, oldest first.
    fn surplus(&self, rotated: &BTreeSet<String>, dir: &Path, own: &str, now: i64) -> Vec<String> {
        let size = |name: &str| fs::metadata(dir.join(name)).map_or(0, |m| m.len());
        let mut total = size(own);
        let mut surplus = Vec::new();
        // The newest first: what is kept is a run of the newest.
        for (i, name) in rotated.iter().rev().enumerate() {
            total += size(name);
            let age = now.saturating_sub(rotated_at(name, own).unwrap_or(now));
            let too_old = self.age_max.is_some_and(|max| i128::from(age) > max.as_nanos() as i128);
            let too_much = self.total_bytes_max.is_some_and(|max| total > max);
            if self.keep.is_some_and(|keep| i >= keep) || too_old || too_much {
                surplus.push(name.clone());
            }
        }
        surplus.reverse();
        surplus
    }
}

/// Replaces `path` by its compressed form, which appears under its name only when it is whole and on the disk.
fn compress(path: &Path, how: Compression) -> io::Result<()> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (done, unfinished) = (with(how.suffix()), with(&format!("{}.tmp", how.suffix())));
    let mut from = BufReader::with_capacity(128 << 10, File::open(path)?);
    let to = BufWriter::with_capacity(128 << 10, File::create(&unfinished)?);
    let outcome = (|| {
        let mut to = match how {
            Compression::None => return Ok(()),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(to, flate2::Compression::default());
                io::copy(&mut from, &mut encoder)?;
                encoder.finish()?
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(to, 0)?;
                io::copy(&mut from, &mut encoder)?;
                encoder.finish()?
            }
        };
        to.flush()?;
        to.get_ref().sync_all()?;
        fs::rename(&unfinished, &done)?;
        fs::remove_file(path)
    })();
    if outcome.is_err() {
        fs::remove_file(&unfinished).ok();
    }
    outcome
}

/// Most paths that wait for their turn; one that is left out gets it with its next rotation.
const WAITING_MAX: usize = 10_000;

/// Runs [`Retention::tidy`] beside the writing, one path at a time.
#[derive(Debug)]
pub struct Tidier {
    retention: Arc<Retention>,
    waiting: BTreeSet<PathBuf>,
    running: Option<JoinHandle<()>>,
}

impl Tidier {
    /// A tidier with nothing to do.
    pub fn new(retention: Retention) -> Tidier {
        Tidier { retention: Arc::new(retention), waiting: BTreeSet::new(), running: None }
    }

    /// Asks for the rotated files of `path` to be looked after, now or soon.
    pub fn ask(&mut self, path: &Path) {
        if self.retention.is_needed() && self.waiting.len() < WAITING_MAX {
            self.waiting.insert(path.to_owned());
        }
        self.go_on();
    }

    /// Starts the next job if none is running; call it now and then.
    pub fn go_on(&mut self) {
        if self.running.as_ref().is_some_and(|job| !job.is_finished()) {
            return;
        }
        self.running = self.waiting.pop_first().map(|path| {
            let retention = self.retention.clone();
            tokio::task::spawn_blocking(move || {
                if let Err(e) = retention.tidy(&path, clock::unix_nanos()) {
                    tracing::warn!("rotated files of {}: {e}", path.display());
                }
            })
        });
    }

    /// Waits until everything asked for is done.
    pub async fn finish(&mut self) {
        while let Some(job) = self.running.take() {
            // A job that panicked has been reported by the panic hook.
            job.await.ok();
            self.go_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const NOW: i64 = 1_795_230_000_000_000_000;
    const HOUR: i64 = 3_600_000_000_000;

    fn listing(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn rotate(path: &Path, text: &str, now: i64) -> String {
        let to = rotated_path(path, now);
        fs::write(&to, text).unwrap();
        to.file_name().unwrap().to_str().unwrap().to_owned()
    }

    fn retention() -> Retention {
        Retention { compress: Compression::None, keep: None, total_bytes_max: None, age_max: None }
    }

    #[test]
    fn keeps_the_newest_and_touches_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        fs::write(&path, "now").unwrap();
        let names: Vec<_> = (0..5).map(|i| rotate(&path, "0123456789", NOW - (5 - i) * HOUR)).collect();
        let same_second = rotate(&path, "0123456789", NOW - HOUR);
        assert_eq!(same_second, format!("{}.001", names[4].strip_suffix(".000").unwrap()));
        for other in
            ["app.log.1", "app.log.gz", "app.log2.20261121T031500.000", "app.log.2026x121T031500.000"]
        {
            fs::write(dir.path().join(other), "x").unwrap();
        }
        let others = 5;
        Retention { keep: Some(4), ..retention() }.tidy(&path, NOW).unwrap();
        assert_eq!(listing(dir.path()).len(), others + 4);
        assert!(!dir.path().join(&names[1]).exists() && dir.path().join(&names[2]).exists());
        Retention { total_bytes_max: Some(33), ..retention() }.tidy(&path, NOW).unwrap();
        assert_eq!(listing(dir.path()).len(), others + 3);
        Retention { age_max: Some(Duration::from_secs(3601)), ..retention() }.tidy(&path, NOW).unwrap();
        assert!(!dir.path().join(&names[3]).exists() && dir.path().join(&names[4]).exists());
        assert_eq!(listing(dir.path()).len(), others + 2);
    }

    #[test]
    fn a_rotation_is_never_named_older_than_those_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let retention = Retention { keep: Some(1), ..retention() };
        for i in 0..20 {
            let newest = rotate(&path, "x", NOW + i * 2_000_000);
            retention.tidy(&path, NOW).unwrap();
            assert_eq!(listing(dir.path()), [newest], "round {i}");
        }
    }

    #[test]
    fn compresses_whole_and_clears_what_a_crash_left() {
        for (how, suffix) in [(Compression::Gzip, ".gz"), (Compression::Zstd, ".zst")] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("app.log");
            let text = "line\n".repeat(10_000);
            let name = rotate(&path, &text, NOW);
            fs::write(dir.path().join(format!("{name}{suffix}.tmp")), "half").unwrap();
            Retention { compress: how, ..retention() }.tidy(&path, NOW).unwrap();
            assert_eq!(listing(dir.path()), [format!("{name}{suffix}")]);
            let packed = File::open(dir.path().join(format!("{name}{suffix}"))).unwrap();
            let mut unpacked = String::new();
            match how {
                Compression::Gzip => flate2::read::GzDecoder::new(packed).read_to_string(&mut unpacked),
                _ => zstd::stream::read::Decoder::new(packed).unwrap().read_to_string(&mut unpacked),
            }
            .unwrap();
            assert!(unpacked == text);
        }
    }
}
