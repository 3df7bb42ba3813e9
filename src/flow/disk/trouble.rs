//! A file system that fails. Writing and reading pause each on their own account, since either may work while the other
//! does not; and a fault is over when what failed has been seen to work, not before.

use std::io;

use rustix::io::Errno;

use super::stage::{RETRY, Stage};
use crate::base::backoff::Backoff;
use crate::base::clock::{self, Instant};
use crate::base::rng::Rng;

/// Failed reads of one place before its segment is given up.
pub(super) const READS_MAX: u32 = 6;

/// Whether a read failed because of what is read, rather than for want of descriptors, memory or permission.
pub(super) fn speaks_of_the_file(e: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::ACCESS, Errno::PERM];
    !Errno::from_io_error(e).is_some_and(|errno| wants.contains(&errno))
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    Write,
    MakeRoom,
    Sync,
    Position,
    Removal,
    Read,
}

impl Failed {
    /// Before "the disk buffer".
    fn in_words(self) -> &'static str {
        match self {
            Failed::Write => "write",
            Failed::MakeRoom => "make room in",
            Failed::Sync => "sync",
            Failed::Position => "write the position of",
            Failed::Removal => "remove settled segments of",
            Failed::Read => "read",
        }
    }
}

/// Until when something that failed is left alone.
#[derive(Debug)]
pub(super) struct Pause {
    /// `None`: it works, as far as is known. It may be past: then it is due to be tried.
    until: Option<Instant>,
    backoff: Backoff,
    why: Option<String>,
}

impl Pause {
    fn new() -> Pause {
        Pause { until: None, backoff: Backoff::new(RETRY.0, RETRY.1, Rng::from_entropy()), why: None }
    }

    /// Whether it failed a moment ago.
    pub(super) fn is_on(&self) -> bool {
        self.until.is_some_and(|at| clock::now() < at)
    }

    /// Its end, if that is after `now`.
    pub(super) fn ends_after(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|at| *at > now)
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|at| at <= clock::now())
    }
}

/// The file system failed and is tried again.
#[derive(Debug)]
pub(super) struct Trouble {
    /// All that changes something.
    pub(super) writing: Pause,
    pub(super) reading: Pause,
    /// Reads of the same place that failed.
    pub(super) failed_reads: u32,
    /// There is no room on the disk, which is the reason that counts drops.
    no_space: bool,
    /// A write that succeeds is no proof that it is over: what failed was something else.
    not_writes: bool,
}

impl Trouble {
    pub(super) fn none() -> Trouble {
        let (writing, reading) = (Pause::new(), Pause::new());
        Trouble { writing, reading, failed_reads: 0, no_space: false, not_writes: false }
    }

    /// Whether the disk had no room when it was last tried.
    pub(super) fn is_out_of_space(&self) -> bool {
        self.writing.until.is_some() && self.no_space
    }

    /// There may be room now: it is tried at once.
    pub(super) fn hasten(&mut self) {
        self.writing.until = self.writing.until.map(|at| at.min(clock::now()));
    }
}

impl Stage {
    /// The file system failed: said once, counted each time, tried again after a while.
    pub(super) fn note_trouble(&mut self, failed: Failed, e: &io::Error) {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let what = failed.in_words();
        let why = format!("cannot {what} the disk buffer {}: {e}", self.store.dir.display());
        let pause =
            if failed == Failed::Read { &mut self.trouble.reading } else { &mut self.trouble.writing };
        if pause.why.as_ref() != Some(&why) {
            tracing::warn!(component = %self.name, "{why}; trying again");
        }
        pause.why = Some(why);
        pause.until = Some(clock::now() + pause.backoff.next_delay());
        if failed != Failed::Read {
            self.trouble.no_space = matches!(e.kind(), StorageFull | QuotaExceeded | FileTooLarge);
            self.trouble.not_writes = !matches!(failed, Failed::Write | Failed::MakeRoom);
        }
        self.meter.error();
        self.tell_trouble();
    }

    fn tell_trouble(&self) {
        let Trouble { writing, reading, .. } = &self.trouble;
        self.status.set_trouble(writing.why.clone().or_else(|| reading.why.clone()));
    }

    fn clear(&mut self, of: fn(&mut Trouble) -> &mut Pause) {
        let pause = of(&mut self.trouble);
        if pause.until.take().is_some() {
            pause.backoff.reset();
            pause.why = None;
            tracing::info!(component = %self.name, "disk buffer {}: at work again", self.store.dir.display());
            self.tell_trouble();
        }
    }

    /// Rows were written.
    pub(super) fn has_written(&mut self) {
        if !self.trouble.not_writes {
            self.clear(|trouble| &mut trouble.writing);
        }
    }

    /// What could not be read was read, or is not wanted any more.
    pub(super) fn has_read(&mut self) {
        self.trouble.failed_reads = 0;
        self.clear(|trouble| &mut trouble.reading);
    }

    /// After trouble that no write has ended: does what else may have failed.
    pub(super) fn try_again(&mut self) {
        // A log that is full tells nothing of the disk.
        let unwritten = !self.inbox.is_empty() && self.held_until.is_none() && !self.store.is_full();
        // Rows that pass and are not due yet are no work either: a sink that keeps up settles them before.
        if !self.trouble.writing.is_over() || unwritten || self.must_commit() {
            return;
        }
        match self.store.persist(true) {
            Err(e) => self.note_trouble(Failed::Position, &e),
            Ok(()) => match self.store.remove_settled() {
                Err(e) => self.note_trouble(Failed::Removal, &e),
                Ok(()) => self.clear(|trouble| &mut trouble.writing),
            },
        }
    }
}
