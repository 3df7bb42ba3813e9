//! What outlives a crash: which rows each source was told are safe, and which rows each sink has taken.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use logweir::batch::Outcome;

use super::disk::model::{Model, Survives};
use super::scenario::Scenario;

/// The payload of panics that the simulation itself throws.
pub(crate) const PLANNED_PANIC: &str = "a planned panic";

/// A row: its source, the pass in which the source offered it, its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) source: usize,
    pub(crate) pass: u64,
    pub(crate) number: u64,
}

impl Row {
    /// The line: who it is, a word for filters, and a sum over both.
    pub(crate) fn line(self) -> String {
        let word = self.word();
        let Row { source, pass, number } = self;
        let sum = crc32c::crc32c(format!("{source} {pass} {number} {word}").as_bytes());
        format!("{source} {pass} {number} {word} {sum:08x}")
    }

    /// The row of a line, unless the line is not what was written.
    pub(crate) fn parse(line: &[u8]) -> Option<Row> {
        let text = std::str::from_utf8(line).ok()?;
        let mut words = text.split(' ');
        let mut next = || words.next()?.parse().ok();
        let (source, pass, number) = (next()?, next()?, next()?);
        let row = Row { source: usize::try_from(source).ok()?, pass, number };
        (row.line() == text).then_some(row)
    }

    /// What the filters of the scenario look at.
    pub(crate) fn word(self) -> &'static str {
        let mixed = (self.source as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ self.number.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ["red", "green", "blue"][(mixed >> 40) as usize % 3]
    }
}

/// What a source knows.
#[derive(Debug, Default)]
pub(crate) struct SourceLog {
    /// Rows below were acknowledged: a new life starts here.
    pub(crate) acknowledged: u64,
    /// Acknowledged ranges beyond, by their start.
    pub(crate) beyond: BTreeMap<u64, u64>,
    /// A range was reported lost: offer again from the acknowledged prefix.
    pub(crate) again: bool,
    /// Passes begun so far, over all lives.
    pub(crate) passes: u64,
    /// The same when this life began.
    passes_before: u64,
}

impl SourceLog {
    fn settled(&mut self, from: u64, to: u64) {
        if to > self.acknowledged {
            let end = self.beyond.entry(from).or_insert(to);
            *end = (*end).max(to);
        }
        while let Some((&from, &to)) = self.beyond.first_key_value() {
            if from > self.acknowledged {
                break;
            }
            self.acknowledged = self.acknowledged.max(to);
            self.beyond.remove(&from);
        }
    }
}

/// What a sink has taken.
#[derive(Debug, Default)]
pub(crate) struct SinkLog {
    /// How often each row was delivered, and in which life last.
    pub(crate) delivered: HashMap<Row, (u32, usize)>,
    /// Rows it refused for good.
    pub(crate) rejected: HashMap<Row, u32>,
    /// The last row delivered of each source in this life.
    pub(crate) last: HashMap<usize, Row>,
}

/// Something that happens once.
struct Fuse(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Fuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fuse")
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) sources: Vec<Mutex<SourceLog>>,
    pub(crate) sinks: Vec<Mutex<SinkLog>>,
    /// Nothing that happens now is heard by anybody.
    pub(crate) crashed: AtomicBool,
    /// Rows of this life that the engine may lose and has to count: by panics of a sink.
    pub(crate) panics: AtomicU64,
    life: AtomicU64,
    /// What buffers are on.
    pub(crate) disk: Mutex<Model>,
    /// Sends and settlements until something happens, and what.
    fuse: Mutex<Option<(u64, Fuse)>>,
    /// Lives that came to an end with everything delivered or on the disk.
    in_order: Mutex<Vec<usize>>,
    /// Events that each disk buffer held when the life before ended, unless that was a crash.
    pub(crate) stored: Mutex<HashMap<String, u64>>,
    violations: Mutex<Vec<String>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> World {
        World {
            sources: (0..scenario.sources).map(|_| Mutex::default()).collect(),
            sinks: (0..scenario.sinks.len()).map(|_| Mutex::default()).collect(),
            crashed: AtomicBool::new(false),
            panics: AtomicU64::new(0),
            life: AtomicU64::new(0),
            disk: Mutex::default(),
            fuse: Mutex::default(),
            in_order: Mutex::default(),
            stored: Mutex::default(),
            violations: Mutex::default(),
            scenario,
        }
    }

    pub(crate) fn begin_life(&self, life: usize) {
        self.life.store(life as u64, Ordering::Relaxed);
        self.crashed.store(false, Ordering::Relaxed);
        for sink in &self.sinks {
            lock(sink).last.clear();
        }
        for source in &self.sources {
            let mut log = lock(source);
            (log.beyond, log.again, log.passes_before) = (BTreeMap::new(), false, log.passes);
        }
    }

    /// Whether the row was offered in an earlier life.
    pub(crate) fn is_from_before(&self, row: Row) -> bool {
        row.pass <= lock(&self.sources[row.source]).passes_before
    }

    /// Does something at the send or settlement after so many more.
    pub(crate) fn after_steps(&self, steps: u64, act: impl FnOnce() + Send + 'static) {
        *lock(&self.fuse) = Some((steps, Fuse(Box::new(act))));
    }

    /// A source is about to send, or a sink to settle.
    pub(crate) fn step(&self) {
        let mut fuse = lock(&self.fuse);
        match fuse.as_mut() {
            Some((0, _)) => {
                let act = fuse.take();
                drop(fuse);
                act.into_iter().for_each(|(_, act)| (act.0)());
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
    }

    /// Nothing of what is done from now on is heard, and nothing reaches the disk.
    pub(crate) fn crash(&self) {
        self.crashed.store(true, Ordering::Relaxed);
        lock(&self.disk).crash_after(0);
    }

    /// The machine comes back, with what of the disk survives.
    pub(crate) fn reboot(&self, survives: Survives) {
        let mut disk = lock(&self.disk);
        *disk = disk.after_crash(survives);
        *lock(&self.fuse) = None;
    }

    /// This life came to its end without force: what a sink has, it has for good.
    pub(crate) fn end_in_order(&self) {
        lock(&self.in_order).push(self.life());
    }

    pub(crate) fn ended_in_order(&self, life: usize) -> bool {
        lock(&self.in_order).contains(&life)
    }

    pub(crate) fn life(&self) -> usize {
        self.life.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn violation(&self, what: String) {
        let mut violations = lock(&self.violations);
        if violations.len() < 10 {
            violations.push(format!("life {}: {what}", self.life()));
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// A source hears of rows `from..to` of one pass.
    pub(crate) fn settled(&self, source: usize, pass: u64, from: u64, to: u64, outcome: Outcome) {
        if self.crashed.load(Ordering::Relaxed) {
            return;
        }
        let mut log = lock(&self.sources[source]);
        if outcome == Outcome::Lost {
            log.again = true;
            return;
        }
        log.settled(from, to);
        drop(log);
        if outcome == Outcome::Delivered {
            super::oracle::acknowledged(self, source, pass, from, to);
        } else if !self.scenario.may_drop() {
            self.violation(format!(
                "rows {from}..{to} of source {source} ended as {outcome:?}, and nothing here drops"
            ));
        }
    }
}
