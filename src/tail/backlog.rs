//! How much of the followed files is still to be read: a sum that is kept up as files grow and are read, and measured
//! anew while the source waits for its pipeline, since that is when it matters.

use std::fs;
use std::time::Duration;

use super::checkpoint::ARCHIVE_DONE;
use super::engine::Tail;
use super::follow::Followed;
use super::identity::FileId;
use crate::base::clock::{self, Instant};
use crate::flow::{Lag, Meter};

/// Shortest time between two measurements of all files.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// Of the time, a twentieth at most goes into them.
const MEASURE_SHARE: u32 = 20;

/// What all files of a source have ahead of them.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes: u64,
    files: u64,
    open: u64,
    /// When all files may be measured again.
    pub(super) due: Instant,
}

impl Backlog {
    pub(super) fn new(now: Instant) -> Backlog {
        Backlog { bytes: 0, files: 0, open: 0, due: now + MEASURE_EVERY }
    }

    /// Counts a file that is followed from now on.
    pub(super) fn joined(&mut self) {
        self.files += 1;
    }

    /// Counts what is ahead of a file now, and whether it is open.
    pub(super) fn count(&mut self, file: &mut Followed, meter: &Meter) {
        let now = (file.behind(), file.file.is_some());
        let (bytes, open) = std::mem::replace(&mut file.counted, now);
        self.bytes = self.bytes - bytes + now.0;
        self.open = self.open - u64::from(open) + u64::from(now.1);
        self.say(meter);
    }

    /// Counts a file no more.
    pub(super) fn left(&mut self, mut file: Followed, meter: &Meter) {
        (file.file, file.size) = (None, 0);
        self.files -= 1;
        self.count(&mut file, meter);
    }

    /// Puts it where status and metrics find it.
    pub(super) fn say(&self, meter: &Meter) {
        meter.set_lag(Lag { behind_bytes: self.bytes, files: self.files, open: self.open });
    }
}

impl Followed {
    /// Bytes that are there and were not taken yet, a line that is not complete among them. Of a compressed file it is
    /// its size until it was read to its end.
    fn behind(&self) -> u64 {
        match self.compression {
            Some(_) if self.offset == ARCHIVE_DONE => 0,
            Some(_) => self.size,
            None => self.size.saturating_sub(self.offset),
        }
    }
}

impl Tail<'_> {
    /// Looks how large every file is.
    pub(super) fn measure(&mut self) {
        let began = clock::now();
        for file in self.files.values_mut() {
            let meta = match &file.file {
                Some(open) => open.metadata().ok(),
                None => fs::metadata(&file.path).ok().filter(|meta| FileId::of(meta) == file.id),
            };
            if let Some(meta) = meta {
                file.size = meta.len();
                self.backlog.count(file, &self.cx.meter);
            }
        }
        let now = clock::now();
        self.backlog.due = now + MEASURE_EVERY.max((now - began) * MEASURE_SHARE);
    }
}
