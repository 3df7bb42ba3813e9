//! Hints from the operating system: which paths changed, and when the tree has to be looked at again. Hints only
//! make things quick; everything is found without them, later.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::ModifyKind;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::base::clock::{self, Instant};

/// Most directories that are watched; files in others are polled.
const DIRS_MAX: usize = 8192;
/// Most changed paths that are remembered one by one.
const PATHS_MAX: usize = 4096;
/// How long the watching thread rests after an event, so that a thousand writes to one file become one event in
/// the kernel's queue.
const REST: Duration = Duration::from_millis(5);

/// What changed since the last look.
#[derive(Debug, Default)]
pub struct Hints {
    /// Files that were written to or whose metadata changed.
    pub paths: HashSet<PathBuf>,
    /// Files appeared, vanished or were renamed.
    pub rescan: bool,
    /// Events were lost: every file may have changed.
    pub all: bool,
}

#[derive(Debug, Default)]
struct Shared {
    hints: Mutex<Hints>,
    wake: Notify,
}

/// Watches directories.
pub struct Watch {
    shared: Arc<Shared>,
    watcher: Option<RecommendedWatcher>,
    dirs: HashSet<PathBuf>,
    failed: HashSet<PathBuf>,
    warned: bool,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("dirs", &self.dirs.len()).field("failed", &self.failed.len()).finish()
    }
}

impl Watch {
    /// A watch over nothing. Where the system has none to give, every file is polled.
    pub fn start() -> Watch {
        let shared = Arc::new(Shared::default());
        let tell = shared.clone();
        let mut rested: Option<Instant> = None;
        let heard = move |event: notify::Result<notify::Event>| {
            if !tell.note(event) {
                return;
            }
            let now = clock::now();
            if rested.is_none_or(|at| now - at > REST / 5) {
                std::thread::sleep(REST);
                rested = Some(clock::now());
            }
        };
        let watcher = notify::recommended_watcher(heard);
        if let Err(e) = &watcher {
            tracing::warn!("file changes are found by polling only: {e}");
        }
        let (dirs, failed) = (HashSet::new(), HashSet::new());
        Watch { shared, watcher: watcher.ok(), dirs, failed, warned: false }
    }

    /// Watches exactly `wanted`, or as many of them as possible.
    pub fn set(&mut self, wanted: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: HashSet<PathBuf> =
            wanted.iter().filter_map(|dir| std::path::absolute(dir).ok()).collect();
        for dir in self.dirs.extract_if(|dir| !wanted.contains(dir)) {
            // A directory that is gone is no longer watched anyway.
            watcher.unwatch(&dir).ok();
        }
        self.failed.retain(|dir| wanted.contains(dir));
        for dir in wanted {
            if self.dirs.len() >= DIRS_MAX || self.dirs.contains(&dir) {
                continue;
            }
            if !dir.is_dir() {
                // When it appears, nobody tells.
                self.failed.insert(dir);
                continue;
            }
            match watcher.watch(&dir, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.failed.remove(&dir);
                    self.dirs.insert(dir);
                }
                Err(e) => {
                    if !std::mem::replace(&mut self.warned, true) {
                        tracing::warn!(path = %dir.display(), "cannot watch a directory, its files are polled: {e}");
                    }
                    self.failed.insert(dir);
                }
            }
        }
    }

    /// The directory at `dir` may have been replaced by another one of that name: watch it anew.
    pub fn renew(&mut self, dir: &Path) {
        if let (true, Some(watcher)) = (self.dirs.remove(dir), &mut self.watcher) {
            watcher.unwatch(dir).ok();
        }
    }

    /// Whether changes in the directory of `path` (absolute) are reported.
    pub fn covers(&self, path: &Path) -> bool {
        path.parent().is_some_and(|dir| self.dirs.contains(dir))
    }

    /// Whether every directory that should be watched is.
    pub fn is_complete(&self) -> bool {
        self.watcher.is_some() && self.failed.is_empty() && self.dirs.len() < DIRS_MAX
    }

    /// Takes what changed.
    pub fn take(&self) -> Hints {
        std::mem::take(&mut self.shared.hints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something changed. Cancel-safe.
    pub async fn changed(&self) {
        self.shared.wake.notified().await;
    }
}

impl Shared {
    /// Remembers an event; whether it said anything.
    fn note(&self, event: notify::Result<notify::Event>) -> bool {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(event) if event.need_rescan() => (hints.all, hints.rescan) = (true, true),
            // Our own reading is access, too.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => return false,
            Ok(event) => {
                let content =
                    matches!(event.kind, EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)));
                hints.rescan |= !content;
                if hints.paths.len() + event.paths.len() > PATHS_MAX {
                    (hints.all, hints.rescan) = (true, true);
                    hints.paths.clear();
                } else if !hints.all {
                    hints.paths.extend(event.paths);
                }
            }
            Err(_) => (hints.all, hints.rescan) = (true, true),
        }
        drop(hints);
        self.wake.notify_one();
        true
    }
}

#[cfg(test)]
mod tests {
    use notify::Event;
    use notify::event::{CreateKind, DataChange, Flag};

    use super::*;

    fn written(path: &str) -> notify::Result<Event> {
        let kind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        Ok(Event::new(kind).add_path(path.into()))
    }

    #[test]
    fn a_queue_that_overflowed_makes_everything_be_looked_at() {
        let watch = Watch { watcher: None, ..Watch::start() };
        watch.shared.note(written("/a"));
        let hints = watch.take();
        assert!(hints.paths.contains(Path::new("/a")) && !hints.rescan && !hints.all);
        for lost in
            [Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)), Err(notify::Error::generic("lost"))]
        {
            assert!(watch.shared.note(lost));
            let hints = watch.take();
            assert!(hints.rescan && hints.all);
        }
        watch.shared.note(Ok(Event::new(EventKind::Create(CreateKind::File)).add_path("/b".into())));
        let hints = watch.take();
        assert!(hints.rescan && !hints.all);
    }

    #[test]
    fn more_paths_than_are_remembered_are_every_path() {
        let watch = Watch { watcher: None, ..Watch::start() };
        for i in 0..=PATHS_MAX {
            watch.shared.note(written(&format!("/{i}")));
        }
        let hints = watch.take();
        assert!(hints.all && hints.rescan && hints.paths.is_empty());
    }
}
