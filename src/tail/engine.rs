//! Turns: files that grew stand in line, each is read up to about a mebibyte and goes to the end of the line, so a
//! huge file delays a thousand small ones by no more than that. While the line is empty the thread sleeps until the
//! system reports a change or a file is due to be looked at.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use super::archive::Compression;
use super::backlog::Backlog;
use super::checkpoint::ARCHIVE_DONE;
use super::follow::{Followed, Read, stamp};
use super::identity::{FileId, Fingerprint};
use super::journal::Checkpoint;
use super::options::Settings;
use super::scan::Known;
use super::session::Session;
use super::text::{Rows, Until};
use super::watch::Watch;
use crate::base::clock::{self, Instant};
use crate::batch::{Arena, Batch, ChunkPool, Outcome, Timestamp};
use crate::codec::lines::count_oversize;
use crate::flow::{Fault, Outlet, TaskCx};

const CHUNK_BYTES: usize = 256 * 1024;
const CHUNKS_FREE_MAX: usize = 8;
/// Chunks a file may read in one turn.
const TURN_CHUNKS: usize = 4;
/// Longest time between looks at a quiet file whose growth the system reports.
const WATCHED_INTERVAL: Duration = Duration::from_secs(4);
/// The same where it does not.
const UNWATCHED_INTERVAL: Duration = Duration::from_millis(900);
/// A compressed file is read when it was not written to for this long.
const ARCHIVE_SETTLE: Duration = Duration::from_secs(1);
/// After a want of descriptors a source makes do with fewer for this long.
const SCARCE_FOR: Duration = Duration::from_secs(60);
/// Rows that were lost are read again after this pause: what lost them may do so again.
const LOST_PAUSE: Duration = Duration::from_secs(1);

/// Follows the files of `settings` until the source has to stop.
///
/// # Errors
/// When the state directory cannot be used, or a directory that has to be there is not.
pub async fn run(settings: &Settings, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
    if let Some(dir) = settings.required_dir.as_ref().filter(|dir| !dir.is_dir()) {
        return Err(Fault::retry(format!(
            "cannot read the directory {}: it does not exist or is no directory",
            dir.display()
        )));
    }
    let reads = |path: &std::path::Path| settings.patterns.matches(path) && !settings.is_excluded(path);
    let mut tail = Tail::new(settings, Session::open(cx, &settings.checkpoints, reads)?, cx);
    tail.first_scan();
    tail.backlog.say(&cx.meter);
    cx.ready();
    while !cx.shutdown.is_draining() {
        let now = clock::now();
        tail.look(now);
        if let Some(id) = tail.ready.pop_front() {
            tail.turn(id, out).await;
            continue;
        }
        let next = tail.next_look(now);
        tokio::select! {
            () = tail.watch.changed() => {}
            () = tokio::time::sleep_until(next) => {}
            () = cx.shutdown.draining() => {}
        }
    }
    Ok(())
}

/// The state of a running source of files.
#[derive(Debug)]
pub(super) struct Tail<'a> {
    pub(super) settings: &'a Settings,
    pub(super) ledger: Session,
    pub(super) cx: &'a TaskCx,
    pub(super) watch: Watch,
    pub(super) files: HashMap<FileId, Followed>,
    /// Absolute paths of the followed files.
    pub(super) by_path: HashMap<PathBuf, FileId>,
    /// Files that grew, in line.
    pub(super) ready: VecDeque<FileId>,
    /// Files that may have a descriptor, oldest first.
    open: VecDeque<FileId>,
    open_max: usize,
    /// When the process last had no descriptor to spare.
    scarce: Option<Instant>,
    /// Files that could not be opened, and whether they were there at the first scan.
    pub(super) unreadable: HashMap<PathBuf, bool>,
    /// Paths whose file left and was not replaced yet, and when.
    pub(super) vacant: HashMap<PathBuf, Instant>,
    pub(super) known: Known,
    pub(super) expired: Option<Instant>,
    pub(super) prefix: Vec<u8>,
    pub(super) scanned: Instant,
    pub(super) scanned_wall: std::time::SystemTime,
    pub(super) scan_cost: Duration,
    pub(super) scan_wanted: bool,
    next_sweep: Instant,
    pool: ChunkPool,
    last_read: Option<Instant>,
    pub(super) backlog: Backlog,
}

impl<'a> Tail<'a> {
    pub(super) fn new(settings: &'a Settings, ledger: Session, cx: &'a TaskCx) -> Tail<'a> {
        let now = clock::now();
        Tail {
            settings,
            ledger,
            cx,
            watch: Watch::start(),
            files: HashMap::new(),
            by_path: HashMap::new(),
            ready: VecDeque::new(),
            open: VecDeque::new(),
            open_max: most_open(),
            scarce: None,
            unreadable: HashMap::new(),
            vacant: HashMap::new(),
            known: Known::default(),
            expired: None,
            prefix: Vec::new(),
            scanned: now,
            scanned_wall: std::time::SystemTime::UNIX_EPOCH,
            scan_cost: Duration::ZERO,
            scan_wanted: false,
            next_sweep: now,
            pool: ChunkPool::new(CHUNK_BYTES, CHUNKS_FREE_MAX),
            last_read: None,
            backlog: Backlog::new(now),
        }
    }

    /// When the next scan is due.
    fn next_scan(&self) -> Instant {
        let rest = if self.scan_wanted {
            (self.scan_cost * 20).max(Duration::from_millis(20))
        } else if self.watch.is_complete() {
            (self.scan_cost * 200).max(Duration::from_secs(5))
        } else {
            (self.scan_cost * 100).max(Duration::from_millis(800))
        };
        self.scanned + rest
    }

    fn next_look(&self, now: Instant) -> Instant {
        let least = now + Duration::from_millis(1);
        self.next_scan().min(self.next_sweep).max(least)
    }

    /// Takes note of what changed: hints first, then what is due.
    pub(super) fn look(&mut self, now: Instant) {
        self.go_back(now);
        let hints = self.watch.take();
        self.scan_wanted |= hints.rescan;
        for path in hints.paths {
            if hints.rescan {
                self.watch.renew(&path);
            }
            match self.by_path.get(&path) {
                Some(&id) => self.enqueue(id),
                None => self.scan_wanted |= self.unreadable.contains_key(&path),
            }
        }
        if hints.all {
            self.files.values_mut().for_each(|f| f.due = now);
            self.next_sweep = now;
        }
        if now >= self.next_scan() {
            self.scan(false);
        }
        // Who stands in line may have grown since.
        if now >= self.backlog.due && !self.ready.is_empty() {
            self.measure();
        }
        if now >= self.next_sweep {
            self.sweep(now);
        }
    }

    pub(super) fn enqueue(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id)
            && !std::mem::replace(&mut file.queued, true)
        {
            self.ready.push_back(id);
        }
    }

    /// Goes back to the checkpoints of files of which rows were lost.
    fn go_back(&mut self, now: Instant) {
        for (id, checkpoint) in self.ledger.take_lost() {
            let Some(file) = self.files.get_mut(&id) else { continue };
            tracing::warn!(path = %file.path.display(), read = file.offset, again_from = checkpoint.offset, "lines were lost on their way, reading them again");
            (file.offset, file.skipping) = (checkpoint.offset, checkpoint.skipping);
            (file.seen, file.flush_at, file.archive, file.hole) = ((0, 0), None, None, 0);
            file.due = now + LOST_PAUSE;
            file.queued = false;
            self.backlog.count(file, &self.cx.meter);
            self.ready.retain(|other| *other != id);
            self.next_sweep = self.next_sweep.min(file.due);
        }
    }

    /// Looks at the files that are due.
    fn sweep(&mut self, now: Instant) {
        if self.last_read.is_some_and(|at| now - at > Duration::from_secs(1)) {
            self.last_read = None;
            self.pool.shrink();
        }
        if self.scarce.is_some_and(|at| now - at > SCARCE_FOR) {
            (self.scarce, self.open_max) = (None, most_open());
        }
        let mut grown = Vec::new();
        let mut next = now + WATCHED_INTERVAL;
        let max = |watched| if watched { WATCHED_INTERVAL } else { UNWATCHED_INTERVAL };
        for (id, file) in &mut self.files {
            if file.due <= now && !file.queued {
                let meta = match (&file.file, file.gone) {
                    (Some(open), Some(_)) => open.metadata(),
                    _ => fs::metadata(&file.path),
                };
                let here = meta.ok().filter(|meta| FileId::of(meta) == *id);
                // What is no longer at its path the scan finds out about.
                self.scan_wanted |= here.is_none() && file.gone.is_none();
                let changed = here.as_ref().is_some_and(|meta| stamp(meta) != file.seen);
                if let Some(meta) = here.as_ref().filter(|_| changed) {
                    file.size = meta.len();
                    self.backlog.count(file, &self.cx.meter);
                }
                let ends = file.gone.is_some_and(|since| now - since >= self.settings.rotate_wait);
                if changed {
                    if file.watched && file.interval >= WATCHED_INTERVAL / 2 {
                        // Nobody told: a network file system, or a mount over the directory.
                        file.watched = here.is_none_or(|meta| age_nanos(&stamp(&meta)) <= 1_000_000_000);
                    }
                    file.gone = file.gone.map(|_| now);
                    file.interval = self.settings.poll_interval;
                } else {
                    let limit = max(file.watched).max(self.settings.poll_interval);
                    file.interval = if file.gone.is_some() {
                        self.settings.poll_interval
                    } else {
                        (file.interval * 2).min(limit)
                    };
                }
                if changed || ends || file.flush_at.is_some_and(|at| at <= now) {
                    grown.push(*id);
                }
                file.due = now + file.interval;
            }
            next = next.min(file.due).min(file.flush_at.unwrap_or(next));
            if let Some(since) = file.gone {
                next = next.min((since + self.settings.rotate_wait).max(now));
            }
        }
        // Files that are due at about the same time are looked at together.
        self.next_sweep = next.max(now + self.settings.poll_interval.min(Duration::from_millis(100)));
        grown.into_iter().for_each(|id| self.enqueue(id));
    }

    /// One file's turn.
    pub(super) async fn turn(&mut self, id: FileId, out: &Outlet) {
        let now = clock::now();
        let Some(file) = self.files.get_mut(&id) else { return };
        file.queued = false;
        if let Some(before) = file.after {
            if self.files.get(&before).is_some_and(|b| b.queued) && !self.waits_for(before, id) {
                return self.enqueue(id);
            }
            self.files.entry(id).and_modify(|f| f.after = None);
        }
        let prepared = self.prepare(id);
        let Some(file) = self.files.get_mut(&id) else { return };
        let waited_out = file.gone.is_some_and(|since| now - since >= self.settings.rotate_wait);
        match prepared {
            Ok(true) => {}
            _ if waited_out => return self.remove(id),
            Ok(false) => return,
            Err(e) => return self.failed(id, &e),
        }
        let Some(Ok(meta)) = file.file.as_ref().map(File::metadata) else { return };
        file.size = meta.len();
        self.backlog.count(file, &self.cx.meter);
        let unchanged = stamp(&meta) == file.seen;
        let over = unchanged && waited_out;
        let waited = file.flush_at.is_some_and(|at| at <= now);
        let until = if over || (waited && unchanged && file.flush_partial) {
            Until::End
        } else if waited && !file.flush_partial {
            Until::Waited
        } else {
            Until::Complete
        };
        for _ in 0..TURN_CHUNKS {
            let Some(file) = self.files.get_mut(&id) else { return };
            match file.read(self.settings, &self.pool, &mut self.prefix, until) {
                Ok(Read::Rows(rows, ended)) => {
                    self.last_read = Some(now);
                    self.send(id, rows, ended, out).await;
                    if ended && until != Until::End {
                        return self.at_end(id, stamp(&meta), until);
                    }
                }
                Ok(Read::End) if over => return self.remove(id),
                Ok(Read::End) => return self.at_end(id, stamp(&meta), until),
                Ok(Read::Replaced) => self.replaced(id, "its first bytes changed"),
                Ok(Read::Hole) => self.backlog.count(file, &self.cx.meter),
                Err(e) => {
                    self.unread(id, &e, stamp(&meta));
                    if waited_out {
                        self.remove(id);
                    }
                    return;
                }
            }
        }
        self.enqueue(id);
    }

    /// Whether `first` is itself to be read after `id`, directly or not, as when names were exchanged.
    fn waits_for(&self, first: FileId, id: FileId) -> bool {
        let before = |of: &FileId| self.files.get(of).and_then(|f| f.after);
        std::iter::successors(Some(first), before).take(64).any(|one| one == id)
    }

    /// Opens the file and finds out whether it is still what it was; false if there is nothing to read now.
    fn prepare(&mut self, id: FileId) -> io::Result<bool> {
        if !self.opened(id)? {
            return Ok(false);
        }
        let Some(file) = self.files.get_mut(&id) else { return Ok(false) };
        let Some(open) = &file.file else { return Ok(false) };
        let meta = open.metadata()?;
        let Some(compression) = file.compression else {
            if meta.len() < file.seen.0.max(file.offset) {
                self.replaced(id, "it became shorter");
            }
            return Ok(true);
        };
        self.prefix.resize(self.settings.fingerprint_bytes, 0);
        let known = super::follow::read_full(open, &mut self.prefix, 0)?;
        if !file.fingerprint.matches(&self.prefix[..known]) {
            self.replaced(id, "its first bytes changed");
        }
        let Some(file) = self.files.get_mut(&id) else { return Ok(false) };
        file.fingerprint = Fingerprint::of(&self.prefix[..known]);
        self.ledger.describe(id, file.fingerprint, &file.home);
        if file.offset == ARCHIVE_DONE || known == 0 {
            file.seen = stamp(&meta);
            return Ok(false);
        }
        let age = age_nanos(&stamp(&meta));
        if file.archive.is_none() && (0..ARCHIVE_SETTLE.as_nanos() as i128).contains(&age) {
            file.due = clock::now() + ARCHIVE_SETTLE;
            return Ok(false);
        }
        self.start_archive(id, compression)?;
        Ok(true)
    }

    fn start_archive(&mut self, id: FileId, compression: Compression) -> io::Result<()> {
        let Some(file) = self.files.get_mut(&id) else { return Ok(()) };
        if file.archive.is_some() {
            return Ok(());
        }
        let Some(open) = file.file.as_ref().map(File::try_clone).transpose()? else { return Ok(()) };
        let ledger = &self.ledger;
        let known =
            |prefix: &[u8]| ledger.same_content(prefix, id).map(|(_, offset)| offset).filter(|o| *o > 0);
        file.open_archive(open, compression, self.settings, known)
    }

    /// Sends rows and takes account of them.
    async fn send(&mut self, id: FileId, rows: Rows, ended: bool, out: &Outlet) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.offset += rows.consumed as u64;
        file.skipping = rows.skipping;
        if ended && file.archive.take().is_some() {
            file.offset = ARCHIVE_DONE;
        }
        count_oversize(self.settings.oversize, rows.oversize_events, out.meter());
        self.backlog.count(file, &self.cx.meter);
        self.ledger.describe(id, file.fingerprint, &file.home);
        let receipt = self.ledger.submit(id, file.offset, rows.skipping);
        if rows.spans.is_empty() {
            return receipt.settle(Outcome::Delivered);
        }
        let received = Timestamp(clock::unix_nanos());
        let arena = Arena::new(rows.text, rows.spans, rows.framing, file.origin.clone(), received);
        let mut sending = pin!(out.send(Batch::new(arena, receipt)));
        loop {
            tokio::select! {
                biased;
                () = &mut sending => return,
                () = tokio::time::sleep_until(self.backlog.due) => self.measure(),
            }
        }
    }

    /// The file was read to what was its end when it had this `stamp`.
    fn at_end(&mut self, id: FileId, stamp: (u64, i128), until: Until) {
        let now = clock::now();
        let Some(file) = self.files.get_mut(&id) else { return };
        if file.compression.is_some() && file.archive.take().is_some() {
            // The content ended without a last row.
            file.offset = ARCHIVE_DONE;
            self.ledger.submit(id, ARCHIVE_DONE, false).settle(Outcome::Delivered);
        }
        let grew = file.seen != stamp;
        file.seen = stamp;
        self.backlog.count(file, &self.cx.meter);
        file.used = true;
        file.reported = false;
        let holds = file.offset < stamp.0 && file.compression.is_none();
        let partial = self.settings.partial_line_timeout;
        let wait = match (until, &self.settings.multiline) {
            _ if !holds => None,
            (Until::Complete, _) if !grew => file.flush_at.map(|at| (at, file.flush_partial)),
            (Until::Complete, Some(multiline)) => Some((now + multiline.timeout(), false)),
            (Until::Complete, None) | (Until::Waited, _) => partial.map(|wait| (now + wait, true)),
            (Until::End, _) => None,
        };
        file.flush_at = wait.map(|(at, _)| at);
        file.flush_partial = wait.is_some_and(|(_, partial)| partial);
        if grew {
            file.interval = self.settings.poll_interval;
            file.gone = file.gone.map(|_| now);
        }
        file.due = now + file.interval;
        self.next_sweep = self.next_sweep.min(file.due).min(file.flush_at.unwrap_or(file.due));
        self.ledger.describe(id, file.fingerprint, &file.home);
    }

    /// The content under this identity is another one now: it is read from its start.
    fn replaced(&mut self, id: FileId, why: &str) {
        let Some(file) = self.files.get_mut(&id) else { return };
        tracing::info!(path = %file.path.display(), read = file.offset, "truncated or replaced ({why}), reading from its start");
        let (path, seen) = (file.home.clone(), clock::unix_nanos() / 1_000_000_000);
        let fingerprint = Fingerprint::EMPTY;
        self.ledger.begin(id, Checkpoint { path, fingerprint, offset: 0, skipping: false, seen });
        file.offset = 0;
        file.skipping = false;
        file.fingerprint = Fingerprint::EMPTY;
        file.seen = (0, 0);
        file.flush_at = None;
        file.archive = None;
        file.hole = 0;
        self.backlog.count(file, &self.cx.meter);
    }

    /// Reading what had this `stamp` failed. Content that is damaged is read again once it was written to; what the
    /// system could not read, soon, and by a descriptor that is not stale.
    fn unread(&mut self, id: FileId, error: &io::Error, stamp: (u64, i128)) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.archive = None;
        file.seen = stamp;
        if error.raw_os_error().is_some() && file.gone.is_none() {
            (file.seen, file.file) = ((0, 0), None);
            self.backlog.count(file, &self.cx.meter);
        }
        self.failed(id, error);
    }

    /// Reading failed; it is tried again.
    fn failed(&mut self, id: FileId, error: &io::Error) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.due = clock::now() + Duration::from_secs(1);
        self.next_sweep = self.next_sweep.min(file.due);
        if !std::mem::replace(&mut file.reported, true) {
            self.cx.meter.error();
            tracing::warn!(path = %file.path.display(), "cannot read a file, trying again: {error}");
        }
    }

    /// The file is followed no longer; its checkpoint stays for a while.
    pub(super) fn remove(&mut self, id: FileId) {
        let Some(file) = self.files.remove(&id) else { return };
        tracing::debug!(path = %file.path.display(), read = file.offset, "no longer followed");
        if let Ok(path) = std::path::absolute(&file.path)
            && self.by_path.get(&path) == Some(&id)
        {
            self.by_path.remove(&path);
        }
        self.backlog.left(file, &self.cx.meter);
    }

    /// Makes sure the file has a descriptor; false if its path leads elsewhere by now.
    fn opened(&mut self, id: FileId) -> io::Result<bool> {
        let Some(file) = self.files.get(&id) else { return Ok(false) };
        if file.file.is_some() {
            return Ok(true);
        }
        let path = file.path.clone();
        let open = self.open_file(&path)?;
        if FileId::of(&open.metadata()?) != id {
            self.scan_wanted = true;
            return Ok(false);
        }
        self.keep_open(id, open);
        Ok(true)
    }

    /// Opens a file, closing others if descriptors are scarce.
    pub(super) fn open_file(&mut self, path: &std::path::Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        // A pipe that took the file's place must not hold up the thread.
        options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        match options.open(path) {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
                self.close_for_others();
                options.open(path)
            }
            opened => opened,
        }
    }

    /// Descriptors are scarce: half of the open files have to do for now.
    pub(super) fn close_for_others(&mut self) {
        self.open_max = (self.open.len() / 2).max(1);
        self.scarce = Some(clock::now());
        self.close_surplus(self.open_max);
    }

    /// Lets the file keep `open` while there is room. Others make room first: among files that were all read a
    /// moment ago, the new one would be the first to go.
    pub(super) fn keep_open(&mut self, id: FileId, open: File) {
        self.close_surplus(self.open_max - 1);
        if let Some(file) = self.files.get_mut(&id) {
            file.file = Some(open);
            file.used = false;
            self.open.push_back(id);
            self.backlog.count(file, &self.cx.meter);
        }
    }

    /// Closes files that were not read for long, until `keep` are left: each that was read gets a second chance.
    fn close_surplus(&mut self, keep: usize) {
        let mut chances = self.open.len() * 2;
        while self.open.len() > keep && chances > 0 {
            chances -= 1;
            let Some(id) = self.open.pop_front() else { break };
            let Some(file) = self.files.get_mut(&id) else { continue };
            // A file that is gone could not be opened again.
            let spare = file.gone.is_none() && file.archive.is_none();
            if spare && !std::mem::replace(&mut file.used, false) {
                file.file = None;
                self.backlog.count(file, &self.cx.meter);
            } else {
                self.open.push_back(id);
            }
        }
    }
}

/// Most files that a source holds open: a quarter of what the process may.
fn most_open() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(2048);
    usize::try_from(limit / 4).unwrap_or(1024).clamp(8, 1024)
}

/// How long ago a file was last written to; negative if its clock is ahead.
pub(super) fn age_nanos(stamp: &(u64, i128)) -> i128 {
    i128::from(clock::unix_nanos()) - stamp.1
}
