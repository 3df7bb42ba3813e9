//! Who uses which ledger: a source opens the one of its name, joins the one whose receipts are still under way, or
//! takes over one that no source uses any more.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::checkpoint::Ledger;
use super::journal::Journal;
use crate::flow::{Fault, TaskCx};

/// The ledgers of the process, by name, so that a restarted source finds the one its receipts settle into.
#[derive(Debug, Default)]
struct Ledgers(Mutex<HashMap<String, Weak<Ledger>>>);

/// The names of the checkpoints that the sources of the configuration write, found in
/// [`Shared`](crate::flow::Shared). Others in the state directory belong to sources that are gone or were changed.
#[derive(Debug, Default)]
pub struct CheckpointNames(Mutex<HashSet<String>>);

impl CheckpointNames {
    /// Says which there are; called before their sources start.
    pub fn set(&self, names: impl IntoIterator<Item = String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names.into_iter().collect();
    }

    fn contains(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

/// A source's hold on its ledger; when it is dropped, the last receipt to settle writes the ledger.
#[derive(Debug)]
pub struct Session(Arc<Ledger>);

impl std::ops::Deref for Session {
    type Target = Arc<Ledger>;

    fn deref(&self) -> &Arc<Ledger> {
        &self.0
    }
}

impl Session {
    /// Opens the ledger `name` for the component `cx` is for, or joins the one whose receipts are still under way.
    /// Where there is none of that name, one of the same pipeline that no source uses any more, and that knows a
    /// file for which `reads` holds, is taken over and renamed: the source had other globs, or was named by its
    /// position by an earlier version. Of two sources with one name the second goes by its position.
    ///
    /// # Errors
    /// When the state directory cannot be used, or another process uses it.
    pub fn open(cx: &TaskCx, name: &str, reads: impl Fn(&Path) -> bool) -> Result<Session, Fault> {
        let ledgers = cx.shared.get::<Ledgers>();
        let mut known = ledgers.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, ledger| ledger.strong_count() > 0);
        let taken = known.get(name).and_then(Weak::upgrade).is_some_and(|l| l.is_at_work());
        let id = cx.site.id();
        let name = if taken { &id } else { name };
        let ledger = match known.get(name).and_then(Weak::upgrade) {
            Some(ledger) => ledger,
            None => match Session::succeed(cx, name, &known, reads) {
                Some(ledger) => ledger,
                None => Arc::new(Ledger::open(&cx.state_dir, name)?),
            },
        };
        known.retain(|_, other| other.upgrade().is_none_or(|other| !Arc::ptr_eq(&other, &ledger)));
        known.insert(name.to_owned(), Arc::downgrade(&ledger));
        // Before anybody else asks whether it is in use.
        ledger.start_work();
        drop(known);
        let session = Session(ledger);
        // Only now that it counts as at work, so that an ending session does not let the lock go again.
        session.journal().lock()?;
        Ok(session)
    }

    /// The ledger that a source of this name takes over: one whose receipts are under way, or one on disk.
    fn succeed(
        cx: &TaskCx,
        name: &str,
        known: &HashMap<String, Weak<Ledger>>,
        reads: impl Fn(&Path) -> bool,
    ) -> Option<Arc<Ledger>> {
        if cx.state_dir.as_os_str().is_empty() || Journal::exists(&cx.state_dir, name) {
            return None;
        }
        let names = cx.shared.get::<CheckpointNames>();
        let pipeline = format!("{}.", cx.site.pipeline);
        let mut others = Journal::names(&cx.state_dir);
        // The disk may not have the first checkpoints yet of one whose receipts are under way.
        others.extend(known.keys().cloned());
        others.sort_unstable();
        others.dedup();
        for other in others {
            if !other.starts_with(&pipeline) || names.contains(&other) {
                continue;
            }
            let ledger = match known.get(&other).and_then(Weak::upgrade) {
                Some(ledger) if ledger.is_at_work() => continue,
                Some(ledger) => ledger,
                // In use elsewhere or unreadable: then it is none to take over.
                None => match Ledger::open(&cx.state_dir, &other) {
                    Ok(ledger) => Arc::new(ledger),
                    Err(_) => continue,
                },
            };
            if ledger.knows(&reads) && ledger.journal().rename(&cx.state_dir, name) {
                tracing::info!(component = %cx.site.id(), "goes on with the checkpoints of {other}");
                return Some(ledger);
            }
        }
        None
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.0.end_work();
    }
}
