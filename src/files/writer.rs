//! Writes batches to the files that a template names: opens them as rows need them and closes the one longest
//! unused, rotates at the exact row, and waits when a disk is full.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use smallvec::{SmallVec, smallvec};

use super::{Names, OutputFile, PathTemplate, Scope, Tidier};
use crate::base::clock;
use crate::batch::{Batch, Mask};
use crate::codec::encode::{self, Format, RowEncoder};
use crate::codec::write::{write_all, write_batch};
use crate::flow::{Fault, State, TaskCx};

/// How long to wait before looking again whether there is room on a full disk.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(1);
/// Free space is asked for again after this many bytes.
const DISK_CHECK_BYTES: u64 = 8 << 20;
/// A file that nobody wrote to for this many ticks (seconds) is closed.
const IDLE_TICKS_MAX: u64 = 300;

/// When files are rotated, and what must stay free.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Largest file in bytes; one row alone may be larger.
    pub size_max: Option<u64>,
    /// Length of a period.
    pub every: Option<Duration>,
    /// Bytes that must stay free on the disk.
    pub disk_free_min: Option<u64>,
    /// Most files open at once, at least 1.
    pub open_max: usize,
}

/// See the module.
#[derive(Debug)]
pub struct FileWriter {
    template: PathTemplate,
    names: Names,
    format: Format,
    limits: Limits,
    tidier: Tidier,
    open: HashMap<String, Open>,
    /// Counts writes, to find the file longest unused.
    writes: u64,
    /// Counts [`FileWriter::tick`]s.
    ticks: u64,
    /// Bytes until free space is asked for again.
    unchecked: u64,
    buffer: Vec<u8>,
    /// A whole batch as [`FileWriter::fitting`] found it encoded, until it is written.
    encoded: Option<Bytes>,
    format_key: Arc<str>,
}

#[derive(Debug)]
struct Open {
    file: OutputFile,
    used_write: u64,
    used_tick: u64,
}

impl FileWriter {
    /// A writer with no file open.
    pub fn new(
        template: PathTemplate,
        names: Names,
        format: Format,
        limits: Limits,
        tidier: Tidier,
    ) -> FileWriter {
        let (open, buffer, format_key) = (HashMap::new(), Vec::new(), format.key());
        FileWriter {
            template,
            names,
            format,
            limits,
            tidier,
            open,
            writes: 0,
            ticks: 0,
            unchecked: 0,
            buffer,
            encoded: None,
            format_key,
        }
    }

    /// Opens the file of a template that names only one, so that a path that cannot work is known at the start.
    ///
    /// # Errors
    /// A fault that names the path.
    pub fn open_early(&mut self) -> Result<(), Fault> {
        if self.template.scope() == Scope::Process {
            let mut path = String::new();
            self.template.write(&Batch::from_lines("", [""]), 0, &self.names, &mut path);
            self.file(&path, clock::unix_nanos())?;
        }
        Ok(())
    }

    /// Writes all live rows of `batch`. Waits as long as a disk is full: nothing is lost, and nothing is written
    /// twice. Dropped while it waits, it leaves whole rows only.
    ///
    /// # Errors
    /// A fault that names the path. Rows of the batch that went to other files, or were rotated away, stay there.
    pub async fn write(&mut self, batch: &Batch, cx: &TaskCx) -> Result<(), Fault> {
        let parts = self.by_path(batch);
        if parts.len() > 1 {
            self.open_all(parts.iter().map(|(path, _)| path.as_str()))?;
        }
        for (path, rows) in parts {
            let mut rest = rows;
            while !rest.is_empty() {
                let pieces = self.write_piece(&path, &mut rest, cx);
                let Err(full) = pieces? else { continue };
                if cx.health.state() == State::Ready {
                    tracing::warn!(component = %cx.site.id(), "{full}; waiting for room");
                    cx.meter.error();
                    cx.health.set(State::Restarting { why: full });
                }
                tokio::time::sleep(FULL_DISK_PAUSE).await;
                // Somebody may have removed files to make room, and has none as long as they are open.
                self.tick();
            }
            if cx.health.state() != State::Ready {
                tracing::info!(component = %cx.site.id(), "{path}: there is room again");
                cx.ready();
            }
        }
        Ok(())
    }

    /// Writes as many of the first rows of `rest` as the file takes before it is rotated; the inner error says
    /// that the disk is full.
    fn write_piece(
        &mut self,
        path: &str,
        rest: &mut Batch,
        cx: &TaskCx,
    ) -> Result<Result<(), String>, Fault> {
        let now = clock::unix_nanos();
        let file = match self.file(path, now) {
            Ok(file) => file,
            Err(Fault::Retry { why, .. }) if why.ends_with(NO_SPACE) => return Ok(Err(why)),
            Err(fault) => return Err(fault),
        };
        let size = file.size();
        if let Some(why) = self.disk_is_low(path) {
            return Ok(Err(why));
        }
        let size_max = self.limits.size_max;
        let room = size_max.map_or(u64::MAX, |max| max.saturating_sub(size));
        let (mut events, mut bytes) = self.fitting(rest, room, cx);
        let due = self.open.get(path).is_some_and(|o| {
            o.file.is_due(if events == 0 { u64::MAX - size } else { 0 }, size_max, self.limits.every, now)
        });
        if due {
            self.rotate(path, now)?;
            return Ok(Ok(()));
        }
        if events == 0 {
            // One row larger than a file may be has a file of its own.
            let alone = rest.view().split_to(1);
            (events, bytes) = (1, self.fitting(&alone, u64::MAX, cx).1);
        }
        let mut piece = rest.view();
        let piece = if events == rest.events() { piece } else { piece.split_to(events) };
        let FileWriter { open, buffer, encoded, format, .. } = self;
        let Some(open) = open.get_mut(path) else { return Ok(Ok(())) };
        let written = open.file.append(bytes, |fd| match format {
            Format::Raw => write_batch(fd, &piece, format, &cx.site.pipeline, buffer),
            _ => match encoded.take() {
                Some(all) => write_all(fd, &all),
                None => {
                    buffer.truncate(bytes as usize);
                    write_all(fd, buffer)
                }
            },
        });
        if let Err(e) = written {
            return match is_full(&e) {
                true => Ok(Err(format!("{path}: {NO_SPACE}"))),
                false => {
                    self.open.remove(path);
                    Err(fault(path, &e))
                }
            };
        }
        self.unchecked = self.unchecked.saturating_sub(bytes);
        // Dropping the written rows settles nothing: these are views.
        drop(rest.split_to(events));
        Ok(Ok(()))
    }

    /// How many of the first rows of `batch` fit into `room` bytes, and the bytes they take. Encoded rows are in
    /// the buffer then, perhaps with some more after them.
    fn fitting(&mut self, batch: &Batch, room: u64, cx: &TaskCx) -> (u64, u64) {
        let (mut events, mut bytes) = (0, 0);
        if self.format == Format::Raw {
            let all = batch.bytes() + batch.events();
            if all <= room {
                return (batch.events(), all);
            }
            for (_, line) in batch.lines() {
                let next = bytes + line.len() as u64 + 1;
                if next > room {
                    break;
                }
                (events, bytes) = (events + 1, next);
            }
            return (events, bytes);
        }
        if room == u64::MAX {
            // All of it, in bytes that other sinks of the same format share.
            let all = encode::lines(batch, &self.format, &self.format_key, &cx.site.pipeline);
            let bytes = all.len() as u64;
            self.encoded = Some(all);
            return (batch.events(), bytes);
        }
        self.buffer.clear();
        let encoder = RowEncoder::new(batch, &self.format, &cx.site.pipeline);
        for row in batch.live().iter() {
            encoder.write(row, &mut self.buffer);
            self.buffer.push(b'\n');
            if self.buffer.len() as u64 > room {
                break;
            }
            (events, bytes) = (events + 1, self.buffer.len() as u64);
        }
        (events, bytes)
    }

    fn rotate(&mut self, path: &str, now: i64) -> Result<(), Fault> {
        let Some(mut open) = self.open.remove(path) else { return Ok(()) };
        if !open.file.is_current() {
            // Somebody else rotated it a moment ago; what is at the path now is not ours to move.
            return open.file.sync().map_err(|e| fault(path, &e));
        }
        open.file.rotate(now).map_err(|e| Fault::retry(format!("{path}: cannot be rotated: {e}")))?;
        self.tidier.ask(Path::new(path));
        Ok(())
    }

    /// The rows of `batch` by the path they go to, in the order of their first rows.
    fn by_path(&self, batch: &Batch) -> SmallVec<[(String, Batch); 1]> {
        let mut rows = batch.live().iter();
        let Some(first) = rows.next() else { return smallvec![] };
        let mut path = String::new();
        self.template.write(batch, first, &self.names, &mut path);
        if self.template.scope() < Scope::Row {
            return smallvec![(path, batch.view())];
        }
        let mut masks: Vec<(String, Mask)> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        let mut last: Option<usize> = None;
        for row in batch.live().iter() {
            self.template.write(batch, row, &self.names, &mut path);
            // Neighbours mostly go the same way.
            let known = last.filter(|i| masks[*i].0 == path).or_else(|| index.get(&path).copied());
            let at = known.unwrap_or_else(|| {
                index.insert(path.clone(), masks.len());
                masks.push((path.clone(), batch.mask()));
                masks.len() - 1
            });
            masks[at].1.set(row);
            last = Some(at);
        }
        let narrowed = |(path, mask)| {
            let mut rows = batch.view();
            rows.narrow(mask);
            (path, rows)
        };
        masks.into_iter().map(narrowed).collect()
    }

    /// The file at `path`, opened if need be.
    fn file(&mut self, path: &str, now: i64) -> Result<&mut OutputFile, Fault> {
        self.writes += 1;
        if !self.open.contains_key(path) {
            if self.open.len() >= self.limits.open_max {
                self.close_longest_unused()?;
            }
            let file =
                OutputFile::open(Path::new(path), self.limits.every, now).map_err(|e| match is_full(&e) {
                    true => Fault::retry(format!("{path}: {NO_SPACE}")),
                    false => fault(path, &e),
                })?;
            // What an earlier run left to do.
            self.tidier.ask(Path::new(path));
            self.open.insert(path.to_owned(), Open { file, used_write: 0, used_tick: 0 });
        }
        let open = self.open.get_mut(path).ok_or_else(|| Fault::retry(format!("{path}: not open")))?;
        (open.used_write, open.used_tick) = (self.writes, self.ticks);
        Ok(&mut open.file)
    }

    /// Finds out whether all of `paths` can be opened, before rows of a batch are in any of them: as long as one cannot,
    /// each new attempt would repeat them in the others.
    fn open_all<'a>(&mut self, paths: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
        let now = clock::unix_nanos();
        for path in paths {
            match self.file(path, now) {
                // That is waited out, without a new attempt.
                Err(Fault::Retry { why, .. }) if why.ends_with(NO_SPACE) => {}
                opened => drop(opened?),
            }
        }
        Ok(())
    }

    fn close_longest_unused(&mut self) -> Result<(), Fault> {
        let oldest = self.open.iter().min_by_key(|(_, open)| open.used_write).map(|(path, _)| path.clone());
        match oldest.and_then(|path| self.open.remove(&path)) {
            Some(mut open) => open.file.sync().map_err(|e| fault(&open.file.path().to_string_lossy(), &e)),
            None => Ok(()),
        }
    }

    /// Why nothing may be written now, if the disk has less free space than must stay.
    fn disk_is_low(&mut self, path: &str) -> Option<String> {
        let min = self.limits.disk_free_min?;
        if self.unchecked > 0 {
            return None;
        }
        // A disk that does not say is no reason to stop.
        let free = self.open.get(path)?.file.disk_free().ok()?;
        if free < min {
            return Some(format!("{path}: {free} bytes are free on the disk, {min} must stay free"));
        }
        self.unchecked = DISK_CHECK_BYTES.min(free - min).max(1);
        None
    }

    /// Brings everything written to the disk itself.
    ///
    /// # Errors
    /// A fault that names the first path that failed.
    pub fn sync(&mut self) -> Result<(), Fault> {
        for (path, open) in &mut self.open {
            open.file.sync().map_err(|e| fault(path, &e))?;
        }
        Ok(())
    }

    /// Once a second: closes idle files and those that somebody else rotated or removed.
    pub fn tick(&mut self) {
        self.ticks += 1;
        let ticks = self.ticks;
        self.unchecked = 0;
        self.open.retain(|path, open| {
            let keep = open.used_tick + IDLE_TICKS_MAX > ticks && open.file.is_current();
            if !keep && let Err(e) = open.file.sync() {
                tracing::warn!("{path}: {e}");
            }
            keep
        });
        self.tidier.go_on();
    }

    /// Closes all files; the next rows open them anew.
    ///
    /// # Errors
    /// When what was written cannot be brought to the disk.
    pub fn close(&mut self) -> Result<(), Fault> {
        self.sync()?;
        self.open.clear();
        Ok(())
    }

    /// Closes all files and waits for the rest of the tidying.
    ///
    /// # Errors
    /// As for [`FileWriter::close`].
    pub async fn finish(&mut self) -> Result<(), Fault> {
        self.close()?;
        self.tidier.finish().await;
        Ok(())
    }

    /// Files open now.
    pub fn open_files(&self) -> usize {
        self.open.len()
    }
}

const NO_SPACE: &str = "no space left on the disk";

fn is_full(error: &io::Error) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| full.contains(&code))
}

fn fault(path: &str, error: &io::Error) -> Fault {
    Fault::retry(format!("{path}: {error}"))
}

/// The names that paths may hold: the pipeline's, and this machine's.
pub fn names(pipeline: &Arc<str>) -> Names {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Names { pipeline: pipeline.to_string(), host }
}
