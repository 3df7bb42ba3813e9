//! What outlives a crash: which rows each source was told are safe, and which rows each sink has taken.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use logweir::batch::Outcome;
use logweir::flow::{Fault, Inlet, Outlet, Sink, Source, TaskCx};
use tokio::sync::watch;

use super::accounts::Accounts;
use super::disk::model::{Model, Survives};
use super::scenario::{LINK, Scenario, Trouble};
use super::shape::Shape;

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
    /// Rows offered in this life, counted as often as they were.
    pub(crate) offered: u64,
    /// Where a source that was told to end left off, and in which pass: its successor goes on there.
    pub(crate) left_off: Option<(u64, u64)>,
    /// The same when this life began.
    pub(crate) passes_before: u64,
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
    /// Rows delivered in this life.
    pub(crate) in_this_life: u64,
}

/// A component that the simulation brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Component {
    Source(usize),
    Sink(usize),
}

/// By which plan a component is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) component: Component,
    /// The reload that brought the plan, counted over all lives.
    pub(crate) generation: u64,
    /// What its configuration says.
    pub(crate) version: u64,
    pub(crate) trouble: Trouble,
}

impl Start {
    /// Whether this start is one that is to fail.
    pub(crate) fn fails(&self, world: &World) -> bool {
        let meant = match (self.trouble, self.component) {
            (Trouble::Sinks, Component::Sink(_)) => true,
            (Trouble::Sources | Trouble::Disk, Component::Source(_)) => true,
            (Trouble::Sink(this), Component::Sink(which)) => this == which,
            _ => false,
        };
        meant && lock(&world.reloading).is_some_and(|r| r == self.generation)
    }

    /// Whether this start is one that takes too long.
    pub(crate) fn is_late(&self, world: &World) -> bool {
        self.trouble == Trouble::Late && lock(&world.reloading).is_some_and(|r| r == self.generation)
    }
}

/// A component that fails for good at once.
pub(crate) struct Broken(pub(crate) std::sync::Arc<World>);

impl Broken {
    fn fail(&self) -> Result<(), Fault> {
        self.0.broken.store(true, Ordering::Relaxed);
        Err(Fault::fatal("a planned fault of a start"))
    }
}

#[async_trait]
impl Source for Broken {
    async fn run(&mut self, _: &Outlet, _: &TaskCx) -> Result<(), Fault> {
        self.fail()
    }
}

#[async_trait]
impl Sink for Broken {
    async fn run(&mut self, _: &mut Inlet, _: &TaskCx) -> Result<(), Fault> {
        self.fail()
    }
}

/// A component at work, until dropped.
pub(crate) struct AtWork<'a>(&'a World, Component);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        *lock(&self.0.at_work).entry(self.1).or_default() -= 1;
    }
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
    /// It takes nothing just now, or did when this life was told to end.
    refuses: AtomicBool,
    /// Sends and settlements until something happens, and what.
    fuses: Mutex<Vec<(u64, Fuse)>>,
    /// The configuration that runs.
    pub(crate) shape: Mutex<Shape>,
    /// The one that the reload under way brings.
    pub(crate) next_shape: Mutex<Option<Shape>>,
    /// Sinks whose buffers have moved to disk, or may have: the configuration of the next life says so.
    pub(crate) moved: Mutex<BTreeSet<usize>>,
    /// Those of them that a failed reload of this life has left on disk.
    pub(crate) left_on_disk: Mutex<BTreeSet<usize>>,
    /// Reloads so far, over all lives.
    pub(crate) generation: AtomicU64,
    /// The one that is under way.
    pub(crate) reloading: Mutex<Option<u64>>,
    /// What it must not start: what is there already, and stays as it is.
    pub(crate) untouched: Mutex<Vec<Component>>,
    /// A start that was to fail has.
    pub(crate) broken: AtomicBool,
    /// Reloads of this life that have begun.
    pub(crate) begun: watch::Sender<usize>,
    /// All reloads of this life are over.
    pub(crate) reloaded: AtomicBool,
    /// This life was told to end.
    pub(crate) ending: AtomicBool,
    /// A sink came or went in this life: what it had not delivered is dropped.
    pub(crate) removes: AtomicBool,
    /// How many instances of each component are at work, and what the last one's configuration said.
    at_work: Mutex<HashMap<Component, u64>>,
    pub(crate) versions: Mutex<HashMap<Component, u64>>,
    pub(crate) accounts: Mutex<Accounts>,
    /// What reloads came to, over all lives.
    pub(crate) outcomes: Mutex<BTreeMap<&'static str, u64>>,
    /// What became of buffers that were to move to disk.
    pub(crate) moves: Mutex<BTreeMap<&'static str, u64>>,
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
            refuses: AtomicBool::new(false),
            fuses: Mutex::default(),
            shape: Mutex::new(Shape::new(&scenario)),
            next_shape: Mutex::default(),
            moved: Mutex::default(),
            left_on_disk: Mutex::default(),
            generation: AtomicU64::new(0),
            reloading: Mutex::default(),
            untouched: Mutex::default(),
            broken: AtomicBool::new(false),
            begun: watch::Sender::new(0),
            reloaded: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            removes: AtomicBool::new(false),
            at_work: Mutex::default(),
            versions: Mutex::default(),
            accounts: Mutex::default(),
            outcomes: Mutex::default(),
            moves: Mutex::default(),
            in_order: Mutex::default(),
            stored: Mutex::default(),
            violations: Mutex::default(),
            scenario,
        }
    }

    pub(crate) fn begin_life(&self, life: usize) {
        self.life.store(life as u64, Ordering::Relaxed);
        for flag in [&self.crashed, &self.reloaded, &self.ending, &self.removes, &self.broken] {
            flag.store(false, Ordering::Relaxed);
        }
        self.begun.send_replace(0);
        // After a crash in a reload the next life reads the one configuration or the other.
        let next = lock(&self.next_shape).take();
        if let Some(next) = next.filter(|_| self.generation.load(Ordering::Relaxed).is_multiple_of(2)) {
            *lock(&self.shape) = next;
        }
        lock(&self.moved).iter().for_each(|which| lock(&self.shape).move_to_disk(*which));
        lock(&self.left_on_disk).clear();
        *lock(&self.reloading) = None;
        *lock(&self.accounts) = Accounts::default();
        for map in [&self.at_work, &self.versions] {
            lock(map).clear();
        }
        for sink in &self.sinks {
            let mut log = lock(sink);
            log.last.clear();
            log.in_this_life = 0;
        }
        for source in &self.sources {
            let mut log = lock(source);
            (log.beyond, log.again, log.passes_before) = (BTreeMap::new(), false, log.passes);
            (log.offered, log.left_off) = (0, None);
        }
    }

    /// Whether that sink's rows are safe before it has them.
    pub(crate) fn has_disk(&self, sink: usize) -> bool {
        let moved = lock(&self.moved);
        self.scenario.has_disk(sink) || moved.contains(&sink) || moved.contains(&LINK)
    }

    /// Whether rows may lie in two buffers that follow each other.
    pub(crate) fn has_two_disks(&self) -> bool {
        self.scenario.linked_disk.is_some() || lock(&self.moved).contains(&LINK)
    }

    /// A component begins to work.
    pub(crate) fn starts(&self, start: &Start) -> AtWork<'_> {
        let component = start.component;
        let at_once = {
            let mut at_work = lock(&self.at_work);
            let count = at_work.entry(component).or_default();
            *count += 1;
            *count
        };
        // A guest that moves finds the files of its new place, while the one before it empties those of the old.
        let moves = matches!(component, Component::Sink(which) if self.scenario.guests().contains(&which));
        if at_once > 1 && !moves {
            self.violation(format!("{component:?} works {at_once} times at once"));
        }
        let by_this_reload = lock(&self.reloading).is_some_and(|r| r == start.generation);
        if by_this_reload && lock(&self.untouched).contains(&component) {
            self.violation(format!("{component:?} was started again by a reload that does not change it"));
        }
        lock(&self.versions).insert(component, start.version);
        AtWork(self, component)
    }

    /// Whether what happens is judged: nobody hears anything after a crash, and an end cuts reloads short.
    pub(crate) fn is_undisturbed(&self) -> bool {
        !self.crashed.load(Ordering::Relaxed) && !self.ending.load(Ordering::Relaxed)
    }

    /// Whether the row was offered in an earlier life.
    pub(crate) fn is_from_before(&self, row: Row) -> bool {
        row.pass <= lock(&self.sources[row.source]).passes_before
    }

    /// Does something at the send or settlement after so many more.
    pub(crate) fn after_steps(&self, steps: u64, act: impl FnOnce() + Send + 'static) {
        lock(&self.fuses).push((steps, Fuse(Box::new(act))));
    }

    /// A source is about to send, or a sink to settle.
    pub(crate) fn step(&self) {
        let due: Vec<Fuse> = {
            let mut fuses = lock(&self.fuses);
            let due = fuses.extract_if(.., |(left, _)| *left == 0).map(|(_, fuse)| fuse).collect();
            fuses.iter_mut().for_each(|(left, _)| *left -= 1);
            due
        };
        due.into_iter().for_each(|fuse| (fuse.0)());
    }

    /// Nothing of what is done from now on is heard, and nothing reaches the disk.
    pub(crate) fn crash(&self) {
        self.crashed.store(true, Ordering::Relaxed);
        lock(&self.disk).crash_after(0);
    }

    /// The machine comes back, with what of the disk survives.
    pub(crate) fn reboot(&self, survives: Survives) {
        self.refuses.store(false, Ordering::Relaxed);
        let mut disk = lock(&self.disk);
        *disk = disk.after_crash(survives);
        lock(&self.fuses).clear();
    }

    /// This life came to its end without force: what a sink has, it has for good.
    pub(crate) fn end_in_order(&self) {
        // On a disk that takes nothing, nobody could write down how far a sink has come.
        if !self.refuses.load(Ordering::Relaxed) {
            lock(&self.in_order).push(self.life());
        }
    }

    /// The disk takes nothing from now on, or takes things again.
    pub(crate) fn refuse(&self, refuses: bool) {
        // A buffer that ends meanwhile has written its last.
        if refuses || !self.ending.load(Ordering::Relaxed) {
            self.refuses.store(refuses, Ordering::Relaxed);
        }
        lock(&self.disk).refuse(refuses.then_some(ErrorKind::StorageFull));
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
        super::oracle::acknowledged(self, source, pass, from, to, outcome);
        let may_drop = self.scenario.may_drop() || self.removes.load(Ordering::Relaxed);
        if outcome != Outcome::Delivered && !may_drop {
            self.violation(format!(
                "rows {from}..{to} of source {source} ended as {outcome:?}, and nothing here drops"
            ));
        }
    }
}
