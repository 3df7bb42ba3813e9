//! The ledger of one source: which bytes of which file were dealt with. Receipts settle into it from any thread,
//! also after the source has returned, and the last one writes it; so an orderly stop leaves exactly what was
//! delivered, and a crash repeats at most what was delivered since the last write.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::identity::{FileId, Fingerprint};
use super::journal::{Checkpoint, Journal, encode};
use crate::base::clock;
use crate::batch::{Outcome, Receipt};
use crate::flow::Fault;

/// Least time between two writes: what `kill -9` can make a restart repeat.
const WRITE_EVERY: Duration = Duration::from_millis(50);
/// Checkpoints of files that nobody has seen for this long are forgotten.
const EXPIRE_SECS: i64 = 7 * 24 * 3600;
/// Most checkpoints that are kept of files that are gone.
const GONE_MAX: usize = 100_000;

/// The offset of a compressed file that was read to its end.
pub const ARCHIVE_DONE: u64 = u64::MAX;
/// The device of content that is no longer in any file; its inode is the hash of its first bytes.
pub const FORMER_DEV: u64 = u64::MAX;

/// The record of the last look at the file system: its offset is the time, in nanoseconds since the Unix epoch.
const LOOKED: FileId = FileId { dev: u64::MAX - 1, ino: 0 };

/// Rows under way: they end at `end`.
#[derive(Debug)]
struct Pending {
    number: u64,
    end: u64,
    skipping: bool,
    done: bool,
}

#[derive(Debug)]
struct Entry {
    checkpoint: Checkpoint,
    /// Counts the files that were at this device and inode, and the truncations of each.
    generation: u32,
    next_number: u64,
    pending: VecDeque<Pending>,
    dirty: bool,
    /// Rows were lost: reading has to go back to the checkpoint, and until it does nothing counts.
    lost: bool,
}

impl Entry {
    fn new(checkpoint: Checkpoint, generation: u32) -> Entry {
        Entry { checkpoint, generation, next_number: 0, pending: VecDeque::new(), dirty: false, lost: false }
    }

    /// Rows were dealt with; whether the checkpoint moved. Of neighbours behind rows that were not, only the last is
    /// kept: one row that a sink never settles must not make all that pass it pile up.
    fn settle(&mut self, number: u64) -> bool {
        let Ok(at) = self.pending.binary_search_by_key(&number, |p| p.number) else { return false };
        self.pending[at].done = true;
        let mut moved = false;
        while let Some(first) = self.pending.pop_front_if(|p| p.done) {
            (self.checkpoint.offset, self.checkpoint.skipping) = (first.end, first.skipping);
            moved = true;
        }
        if moved {
            return true;
        }
        let is_done = |at: usize| self.pending.get(at).is_some_and(|p| p.done);
        let (before, behind) = (is_done(at - 1), is_done(at + 1));
        if behind {
            self.pending.remove(at);
        }
        if before {
            self.pending.remove(at - 1);
        }
        false
    }

    /// Rows never settled: what is under way behind them must not move the checkpoint past them.
    fn lose(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.pending.clear();
        self.lost = true;
    }
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<FileId, Entry>,
    dirty: Vec<FileId>,
    forgotten: Vec<FileId>,
    /// Files of which rows were lost.
    lost: Vec<FileId>,
    /// Receipts that have not settled.
    outstanding: u64,
    /// Whether a source is at work.
    at_work: bool,
    writer: bool,
    failing: bool,
    /// When files were last looked for, in nanoseconds since the epoch, and what of that is on disk.
    looked: u64,
    looked_written: u64,
}

impl State {
    /// Whether something has to be written soon. Of when files were looked for, only that they ever were.
    fn is_changed(&self) -> bool {
        !self.dirty.is_empty() || !self.forgotten.is_empty() || (self.looked > 0 && self.looked_written == 0)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    state: Mutex<State>,
    journal: Mutex<Journal>,
    changed: Condvar,
    /// When an earlier weir last looked; `None` if this is the first start.
    looked: Option<SystemTime>,
}

impl Ledger {
    pub(super) fn open(state_dir: &Path, id: &str) -> Result<Ledger, Fault> {
        let mut journal = Journal::open(state_dir, id)?;
        let loaded = journal.load()?;
        let (mut checkpoints, written) = loaded.map_or_else(Default::default, |(all, at)| (all, Some(at)));
        let looked =
            checkpoints.remove(&LOOKED).map(|c| SystemTime::UNIX_EPOCH + Duration::from_nanos(c.offset));
        let looked = looked.or(written);
        let entries = checkpoints.into_iter().map(|(id, c)| (id, Entry::new(c, 0))).collect();
        let state = Mutex::new(State { entries, ..State::default() });
        Ok(Ledger { state, journal: Mutex::new(journal), changed: Condvar::new(), looked })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When an earlier weir last looked at the file system; what was born later it cannot know. `None` if there was
    /// none.
    pub fn looked_before(&self) -> Option<SystemTime> {
        self.looked
    }

    /// The file system was looked at; what was there at `at` is known.
    pub fn looked(&self, at: SystemTime) {
        self.state().looked = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        self.changed.notify_one();
    }

    /// Where reading `id` goes on: behind what is under way, or at the checkpoint if nothing is.
    pub fn find(&self, id: FileId) -> Option<Checkpoint> {
        let state = self.state();
        let entry = state.entries.get(&id)?;
        let mut found = entry.checkpoint.clone();
        if let Some(last) = entry.pending.back() {
            (found.offset, found.skipping) = (last.end, last.skipping);
        }
        Some(found)
    }

    /// All files known, with their checkpoints.
    pub fn all(&self) -> Vec<(FileId, Checkpoint)> {
        self.state().entries.iter().map(|(id, e)| (*id, e.checkpoint.clone())).collect()
    }

    /// The checkpoint offset of a file whose content starts with `prefix`, other than `own`: the furthest one.
    pub fn same_content(&self, prefix: &[u8], own: FileId) -> Option<(FileId, u64)> {
        let state = self.state();
        let others = state.entries.iter().filter(|(id, _)| **id != own);
        let candidates = others.map(|(id, e)| (&e.checkpoint.fingerprint, (*id, e.checkpoint.offset)));
        Fingerprint::among(prefix, candidates).max_by_key(|(_, offset)| *offset)
    }

    /// Starts to account for a file, or starts again after it was truncated or replaced: what is under way of the
    /// old content no longer moves the checkpoint. The old content is remembered, so that a compressed copy of it
    /// is recognised.
    pub fn begin(&self, id: FileId, checkpoint: Checkpoint) {
        let mut state = self.state();
        let old = state.entries.remove(&id);
        let generation = old.as_ref().map_or(0, |e| e.generation.wrapping_add(1));
        if let Some(Checkpoint { path, fingerprint, offset, .. }) = old.map(|e| e.checkpoint)
            && fingerprint.len > 0
            && (1..ARCHIVE_DONE).contains(&offset)
        {
            let former = FileId { dev: FORMER_DEV, ino: fingerprint.hash };
            let seen = checkpoint.seen;
            let checkpoint = Checkpoint { path, fingerprint, offset, skipping: false, seen };
            state.entries.insert(former, Entry::new(checkpoint, 0));
            self.touch(&mut state, former);
        }
        state.entries.insert(id, Entry::new(checkpoint, generation));
        self.touch(&mut state, id);
    }

    /// Changes what is known of a file besides its offset.
    pub fn describe(&self, id: FileId, fingerprint: Fingerprint, path: &Arc<Path>) {
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(&id) else { return };
        if entry.checkpoint.fingerprint != fingerprint || entry.checkpoint.path != *path {
            entry.checkpoint.fingerprint = fingerprint;
            entry.checkpoint.path = path.clone();
            self.touch(&mut state, id);
        }
    }

    /// Forgets a file whose checkpoint moved to another identity.
    pub fn forget(&self, id: FileId) {
        let mut state = self.state();
        if state.entries.remove(&id).is_some() {
            state.forgotten.push(id);
            self.changed.notify_one();
        }
    }

    /// The receipt for rows that end at `end`, which must not be before earlier ends.
    pub fn submit(self: &Arc<Ledger>, id: FileId, end: u64, skipping: bool) -> Receipt {
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(&id).filter(|entry| !entry.lost) else {
            return Receipt::none();
        };
        let (number, generation) = (entry.next_number, entry.generation);
        entry.next_number += 1;
        entry.pending.push_back(Pending { number, end, skipping, done: false });
        state.outstanding += 1;
        drop(state);
        let ledger = self.clone();
        Receipt::new(move |outcome| ledger.settle(id, generation, number, outcome))
    }

    fn settle(&self, id: FileId, generation: u32, number: u64, outcome: Outcome) {
        let mut state = self.state();
        state.outstanding -= 1;
        let current = state.entries.get_mut(&id).filter(|entry| entry.generation == generation);
        if outcome == Outcome::Lost {
            if let Some(entry) = current {
                entry.lose();
                state.lost.push(id);
            }
        } else if let Some(entry) = current
            && entry.settle(number)
        {
            self.touch(&mut state, id);
        }
        self.close_if_done(state);
    }

    /// Files of which rows were lost since the last call, with the checkpoints where reading has to go on.
    pub fn take_lost(&self) -> Vec<(FileId, Checkpoint)> {
        let mut state = self.state();
        let lost = std::mem::take(&mut state.lost);
        let mut back = Vec::with_capacity(lost.len());
        for id in lost {
            // A file that began anew meanwhile has lost nothing.
            if let Some(entry) = state.entries.get_mut(&id).filter(|entry| entry.lost) {
                entry.lost = false;
                back.push((id, entry.checkpoint.clone()));
            }
        }
        back
    }

    /// How many notes of rows under way, or settled behind those, are kept of a file.
    #[cfg(test)]
    pub(super) fn noted(&self, id: FileId) -> usize {
        self.state().entries[&id].pending.len()
    }

    fn touch(&self, state: &mut State, id: FileId) {
        if let Some(entry) = state.entries.get_mut(&id) {
            entry.checkpoint.seen = clock::unix_nanos() / 1_000_000_000;
            if !std::mem::replace(&mut entry.dirty, true) {
                state.dirty.push(id);
                self.changed.notify_one();
            }
        }
    }

    /// Forgets files that are not in `present` and were last seen long ago, and the oldest of too many.
    pub fn expire(&self, present: &HashSet<FileId>) {
        let mut state = self.state();
        let oldest = clock::unix_nanos() / 1_000_000_000 - EXPIRE_SECS;
        let mut gone: Vec<(i64, FileId)> = state
            .entries
            .iter()
            .filter(|(id, e)| !present.contains(id) && e.pending.is_empty())
            .map(|(id, e)| (e.checkpoint.seen, *id))
            .collect();
        gone.sort_unstable();
        let surplus = gone.len().saturating_sub(GONE_MAX);
        for (_, id) in
            gone.iter().enumerate().filter(|(i, (seen, _))| *i < surplus || *seen < oldest).map(|(_, g)| g)
        {
            state.entries.remove(id);
            state.forgotten.push(*id);
        }
        let present_dirty = present
            .iter()
            .filter(|id| state.entries.get(id).is_some_and(|e| e.checkpoint.seen < oldest + EXPIRE_SECS / 2));
        for id in present_dirty.copied().collect::<Vec<_>>() {
            self.touch(&mut state, id);
        }
    }

    /// Writes what changed.
    fn write(&self) {
        let mut journal = self.journal();
        let mut state = self.state();
        if !state.is_changed() && state.looked == state.looked_written {
            return;
        }
        let looked_at = state.looked;
        let (dirty, forgotten) = (std::mem::take(&mut state.dirty), std::mem::take(&mut state.forgotten));
        let all = journal.wants_all(state.entries.len());
        let mut records = Vec::with_capacity(dirty.len() * 128);
        if all {
            state.entries.iter().for_each(|(id, e)| encode(*id, Some(&e.checkpoint), &mut records));
        } else {
            forgotten.iter().for_each(|id| encode(*id, None, &mut records));
        }
        if looked_at > 0 {
            let (path, fingerprint) = (Path::new("").into(), Fingerprint::EMPTY);
            let looked = Checkpoint { path, fingerprint, offset: looked_at, skipping: false, seen: 0 };
            encode(LOOKED, Some(&looked), &mut records);
        }
        for id in &dirty {
            if let Some(entry) = state.entries.get_mut(id) {
                entry.dirty = false;
                if !all {
                    encode(*id, Some(&entry.checkpoint), &mut records);
                }
            }
        }
        drop(state);
        let wrote = if all { journal.replace(&records) } else { journal.append(&records) };
        let mut state = self.state();
        match wrote {
            Ok(()) => (state.failing, state.looked_written) = (false, looked_at),
            Err(e) => {
                if !std::mem::replace(&mut state.failing, true) {
                    tracing::error!(
                        "cannot write checkpoints: {e}; reading goes on, and a crash now would repeat lines"
                    );
                }
                // The next write holds everything, so only the fact that something changed has to be kept.
                for id in dirty {
                    self.touch(&mut state, id);
                }
                state.forgotten = forgotten;
            }
        }
    }

    /// Whether a source is at work.
    pub(super) fn is_at_work(&self) -> bool {
        self.state().at_work
    }

    /// Whether it knows a file whose path is wanted.
    pub(super) fn knows(&self, wanted: impl Fn(&Path) -> bool) -> bool {
        self.state().entries.values().any(|entry| wanted(&entry.checkpoint.path))
    }

    /// A source begins: from now on what changes is written by a thread.
    pub(super) fn start_work(self: &Arc<Ledger>) {
        let mut state = self.state();
        state.at_work = true;
        if std::mem::replace(&mut state.writer, true) {
            return;
        }
        drop(state);
        let ledger = self.clone();
        let spawned = std::thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || ledger.write_until_done());
        if let Err(e) = spawned {
            tracing::warn!("no thread for checkpoints: {e}; they are written at shutdown only");
            self.state().writer = false;
        }
    }

    /// The source has ended: the last receipt to settle writes the ledger.
    pub(super) fn end_work(&self) {
        let mut state = self.state();
        state.at_work = false;
        self.close_if_done(state);
    }

    /// The writer's thread: sleeps until something changed, and then for as long as writes are to be apart.
    fn write_until_done(&self) {
        let mut state = self.state();
        while state.at_work || state.outstanding > 0 {
            if !state.is_changed() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(state);
            self.write();
            let working = |s: &mut State| s.at_work || s.outstanding > 0;
            let waited = self.changed.wait_timeout_while(self.state(), WRITE_EVERY, working);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.writer = false;
    }

    /// When no source is at work and nothing is under way: the last write, then others may have the files.
    fn close_if_done(&self, state: MutexGuard<'_, State>) {
        if state.at_work || state.outstanding > 0 {
            return;
        }
        drop(state);
        self.write();
        let mut journal = self.journal();
        // A new session may have begun in between.
        if !self.state().at_work {
            journal.unlock();
        }
        self.changed.notify_all();
    }
}
