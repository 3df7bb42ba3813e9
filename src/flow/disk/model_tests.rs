//! A file system in memory that knows what was synced. It can crash at any operation and come back with what a real
//! one might have kept: nothing that was not synced, all of it, a torn end, or a hole.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::storage::{Held, Open, Storage, StoredFile};

/// What survives of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survives {
    Nothing,
    Everything,
    /// Of each file's last write only the first half.
    TornEnd,
    /// Of each file's first write only its length: zeros in the middle, what came after is there.
    Hole,
}

impl Survives {
    pub(crate) const ALL: [Survives; 4] =
        [Survives::Nothing, Survives::Everything, Survives::TornEnd, Survives::Hole];
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Debug, Clone, Default)]
struct Content {
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// What is read: the durable bytes with every change.
    now: Vec<u8>,
}

impl Content {
    fn of(durable: Vec<u8>) -> Content {
        Content { now: durable.clone(), durable, pending: Vec::new() }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.pending.push(change);
    }

    fn after(&self, survives: Survives) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (at, change) in self.pending.iter().enumerate() {
            let last = at + 1 == self.pending.len();
            match (survives, change) {
                (Survives::Nothing, _) => {}
                (Survives::TornEnd, Change::Write(offset, data)) if last => {
                    apply(&mut bytes, &Change::Write(*offset, data[..data.len() / 2].to_vec()));
                }
                (Survives::Hole, Change::Write(offset, data)) if at == 0 => {
                    apply(&mut bytes, &Change::Write(*offset, vec![0; data.len()]));
                }
                _ => apply(&mut bytes, change),
            }
        }
        bytes
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Truncate(len) => bytes.resize(*len as usize, 0),
        Change::Write(offset, data) => {
            let end = *offset as usize + data.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*offset as usize..end].copy_from_slice(data);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    contents: Vec<Content>,
    locks: HashSet<PathBuf>,
    operations: usize,
    crash_at: Option<usize>,
    /// Syncs say that they succeeded and do nothing: the bug that the oracle must catch.
    lies: bool,
    /// What lets time pass at each change, and how much.
    takes: Option<(fn(Duration), Duration)>,
    /// No write succeeds, for this reason.
    refuses: Option<io::ErrorKind>,
    /// From this byte of that file on nothing can be read.
    unreadable: Option<(usize, u64)>,
}

/// The file system; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model(Arc<Mutex<State>>);

impl Model {
    pub(crate) fn crashing_at(operation: usize) -> Model {
        let model = Model::default();
        model.crash_after(operation);
        model
    }

    /// The machine goes down in the operation after so many more.
    #[allow(dead_code, reason = "the simulation under tests/ includes this file, and uses it")]
    pub(crate) fn crash_after(&self, operations: usize) {
        let mut state = self.0.lock().unwrap();
        state.crash_at = Some(state.operations + operations);
    }

    pub(crate) fn lying(self) -> Model {
        self.0.lock().unwrap().lies = true;
        self
    }

    /// Each change takes `time` from now on, which `pass` lets pass.
    #[allow(dead_code, reason = "others include this file and do not use it")]
    pub(crate) fn slow_down(&self, pass: fn(Duration), time: Duration) {
        self.0.lock().unwrap().takes = Some((pass, time));
    }

    pub(crate) fn refuse(&self, kind: Option<io::ErrorKind>) {
        self.0.lock().unwrap().refuses = kind;
    }

    /// The disk does not give back what a file holds from a byte on.
    #[allow(dead_code, reason = "the simulation under tests/ includes this file and does not use it")]
    pub(crate) fn unreadable(&self, path: &Path, from: u64) {
        let mut state = self.0.lock().unwrap();
        state.unreadable = state.names.get(path).map(|id| (*id, from));
    }

    pub(crate) fn operations(&self) -> usize {
        self.0.lock().unwrap().operations
    }

    /// The file system after the machine came back.
    pub(crate) fn after_crash(&self, survives: Survives) -> Model {
        let state = self.0.lock().unwrap();
        let names = if survives == Survives::Nothing { &state.durable_names } else { &state.names };
        let contents = state.contents.iter();
        let contents = contents.map(|c| Content::of(c.after(survives))).collect();
        Model(Arc::new(Mutex::new(State {
            names: names.clone(),
            durable_names: names.clone(),
            contents,
            ..State::default()
        })))
    }

    /// Counts an operation that changes something; false: this is the one in which the machine dies.
    fn tick(&self, state: &mut State) -> io::Result<bool> {
        if state.crash_at.is_some_and(|at| state.operations > at) {
            return Err(io::Error::other("the machine is down"));
        }
        if let Some(kind) = state.refuses {
            return Err(kind.into());
        }
        if let Some((pass, time)) = state.takes {
            pass(time);
        }
        state.operations += 1;
        Ok(state.crash_at.is_none_or(|at| state.operations <= at))
    }

    fn change(&self, act: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if self.tick(&mut state)? { act(&mut state) } else { Err(io::Error::other("the machine went down")) }
    }
}

#[derive(Debug)]
struct ModelLock(Model, PathBuf);

impl Held for ModelLock {}

impl Drop for ModelLock {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().locks.remove(&self.1);
    }
}

#[derive(Debug)]
struct ModelFile(Model, usize);

impl Storage for Model {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        if !self.0.lock().unwrap().locks.insert(path.to_owned()) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "1"));
        }
        Ok(Box::new(ModelLock(self.clone(), path.to_owned())))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let state = self.0.lock().unwrap();
        let inside = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(inside
            .map(|(path, id)| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, state.contents[*id].now.len() as u64)
            })
            .collect())
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        let known = self.0.lock().unwrap().names.get(path).copied();
        match (known, how) {
            (Some(_), Open::Create) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(id), _) => Ok(Arc::new(ModelFile(self.clone(), id))),
            (None, Open::Create) => {
                let mut made = 0;
                self.change(|state| {
                    made = state.contents.len();
                    state.contents.push(Content::default());
                    state.names.insert(path.to_owned(), made);
                    Ok(())
                })?;
                Ok(Arc::new(ModelFile(self.clone(), made)))
            }
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| {
            let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), id);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|state| state.names.remove(path).map(|_| ()).ok_or(io::ErrorKind::NotFound.into()))
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.change(|state| {
            if !state.lies {
                state.durable_names = state.names.clone();
            }
            Ok(())
        })
    }
}

impl StoredFile for ModelFile {
    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let data: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
        let mut state = self.0.0.lock().unwrap();
        let lives = self.0.tick(&mut state)?;
        // The machine goes down halfway through a write.
        let len = if lives { data.len() } else { data.len() * 2 / 3 };
        state.contents[self.1].change(Change::Write(offset, data[..len].to_vec()));
        if lives { Ok(()) } else { Err(io::Error::other("the machine went down")) }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.0.0.lock().unwrap();
        let end = offset + buffer.len() as u64;
        if state.unreadable.is_some_and(|(id, from)| id == self.1 && end > from) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let bytes = &state.contents[self.1].now;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.change(|state| {
            state.contents[self.1].change(Change::Truncate(len));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.0.change(|state| {
            let content = &mut state.contents[self.1];
            if !state.lies {
                content.durable = content.now.clone();
                content.pending.clear();
            }
            Ok(())
        })
    }
}
