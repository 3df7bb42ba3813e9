//! Lives in which anything happens: rows come, are settled in any order, in parts, elsewhere or never, the disk fails in
//! one way and another, options change, sinks end and come. Once the weather is fair, nothing of it may be left: no row
//! unaccounted for, no source waiting, no word of trouble, and a thread that sleeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::format::Compression;
use super::model_tests::Survives;
use super::passing_tests::{Life, batch, options, pause, recovered};
use super::weather_tests::{BAD, Breaks, Weather};
use super::{DiskFull, DiskOptions};
use crate::base::rng::Rng;
use crate::base::task;
use crate::batch::{Batch, Outcome};
use crate::flow::queue::Inlet;
use crate::flow::{Lease, Reason};

const SEEDS: u64 = 150;
/// Rounds in two seconds in which nobody but a source that waited does anything. A thread that spins takes 2,000.
const IDLE_ROUNDS: u64 = 300;

fn row(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..8]).into_owned()
}

/// What a sink has, and what it has done.
#[derive(Default)]
struct Hands {
    leases: Vec<Lease>,
    onward: Vec<Batch>,
    /// Rows may be lost. Where the disk does not take them, they come again after newer ones.
    loses: bool,
    last: String,
    /// Rows that were refused for good.
    rejected: BTreeSet<String>,
    delivered: BTreeMap<String, u32>,
}

impl Hands {
    fn take(&mut self, life: &mut Life) {
        while let Some(lease) = life.inlet.as_mut().and_then(Inlet::try_recv) {
            for (_, line) in lease.batch().lines() {
                let before = std::mem::replace(&mut self.last, row(line));
                assert!(self.loses || before < self.last, "{} after {before}", self.last);
            }
            self.leases.push(lease);
        }
    }

    fn note(&mut self, batch: &Batch) {
        batch.lines().for_each(|(_, line)| *self.delivered.entry(row(line)).or_default() += 1);
    }

    fn deliver(&mut self, lease: Lease) {
        self.note(lease.batch());
        lease.delivered();
    }

    /// Something happens to a batch in hand, and to one that went on.
    fn act(&mut self, rng: &mut Rng) {
        if !self.leases.is_empty() {
            let at = rng.below(self.leases.len() as u64) as usize;
            let mut lease = self.leases.remove(at);
            match rng.below(8) {
                0 if lease.batch().events() > 1 => {
                    self.deliver(lease.split_to(1));
                    self.leases.insert(at, lease);
                }
                1 => self.onward.extend(lease.forward()),
                2 => {
                    self.rejected.extend(lease.batch().lines().map(|(_, line)| row(line)));
                    lease.dropped(Reason::Rejected);
                }
                _ => self.deliver(lease),
            }
        }
        if !self.onward.is_empty() {
            let batch = self.onward.remove(rng.below(self.onward.len() as u64) as usize);
            match rng.below(4) {
                0 if self.loses => drop(batch),
                1 => {
                    self.note(&batch);
                    batch.settle(Outcome::Delivered);
                }
                _ => self.onward.push(batch),
            }
        }
    }

    fn deliver_all(&mut self) {
        while let Some(lease) = self.leases.pop() {
            self.deliver(lease);
        }
        for batch in std::mem::take(&mut self.onward) {
            self.note(&batch);
            batch.settle(Outcome::Delivered);
        }
    }
}

pub(super) const POLICIES: [DiskFull; 4] =
    [DiskFull::Block, DiskFull::Overflow, DiskFull::DropNewest, DiskFull::DropOldest];

pub(super) fn any_options(rng: &mut Rng, policies: &[DiskFull]) -> DiskOptions {
    let mut options = options(policies[rng.below(policies.len() as u64) as usize]);
    options.limits.bytes_max = [16 << 10, 64 << 10, 1 << 20][rng.below(3) as usize];
    options.limits.events_max = [None, None, Some(3), Some(30)][rng.below(4) as usize];
    options.limits.compression = [Compression::None, Compression::Lz4][rng.below(2) as usize];
    options.sync_interval = Duration::from_millis([0, 1, 50, 200][rng.below(4) as usize]);
    options.memory_bytes = [1, 8 << 10, 64 << 10][rng.below(3) as usize];
    options
}

impl Life {
    /// The sink ends with what it has, and another one takes over.
    async fn change_sinks(&mut self, hands: &mut Hands, apart: u64) {
        drop(self.inlet.take());
        self.gone.cancel();
        hands.leases.clear();
        pause(apart).await;
        self.gone = self.control.another_sink();
        self.back.reopened().await;
        self.inlet = Some(Inlet::new(self.back.clone()));
    }

    /// Nobody does anything for a while, and nor does the thread.
    async fn rests(&self, rounds_most: u64) {
        pause(1_000).await;
        let before = self.rounds();
        pause(2_000).await;
        let rounds = self.rounds() - before;
        assert!(rounds <= rounds_most, "{rounds} rounds: {:?} {:?}", self.counts(), self.status.snapshot());
    }
}

/// Numbers that are sent here are pushed, in order.
fn source(life: &Life) -> (mpsc::Sender<u64>, JoinHandle<()>) {
    let (send, mut numbers) = mpsc::channel(1_024);
    let (front, heard) = (life.front.clone(), life.heard.clone());
    let pushes = task::spawn(async move {
        while let Some(number) = numbers.recv().await {
            front.push(batch(number, &heard)).await;
        }
    });
    (send, pushes)
}

/// What happens to a buffer.
struct Story {
    rng: Rng,
    disk: Weather,
    bad: &'static [Breaks],
    policies: &'static [DiskFull],
    life: Life,
    hands: Hands,
    numbers: std::ops::RangeFrom<u64>,
    send: mpsc::Sender<u64>,
    pushes: JoinHandle<()>,
}

impl Story {
    async fn new(seed: u64, bad: &'static [Breaks], policies: &'static [DiskFull]) -> Story {
        let (mut rng, disk) = (Rng::seeded(seed), Weather::default());
        let life = Life::on(&disk, any_options(&mut rng, policies)).await.unwrap();
        let (send, pushes) = source(&life);
        let hands = Hands { loses: seed.is_multiple_of(2), ..Hands::default() };
        Story { rng, disk, bad, policies, life, hands, numbers: 0.., send, pushes }
    }

    async fn goes_on(&mut self) {
        let Story { rng, disk, life, hands, numbers, .. } = self;
        match rng.below(12) {
            0..=3 => numbers.take(rng.below(12) as usize).for_each(|n| self.send.try_send(n).unwrap()),
            4 => disk.turns(self.bad[rng.below(self.bad.len() as u64) as usize]),
            5 => disk.clears_up(),
            6 => life.control.set(any_options(rng, self.policies)),
            7 if hands.loses => life.change_sinks(hands, rng.below(300)).await,
            8 => life.rests(IDLE_ROUNDS).await,
            _ => (0..rng.below(12)).for_each(|_| {
                hands.take(life);
                hands.act(rng);
            }),
        }
        pause([0, 1, 20, 60, 250][rng.below(5) as usize]).await;
        assert!(life.counts().balances(), "{:?}", life.counts());
    }
}

async fn live(seed: u64) {
    let mut story = Story::new(seed, &BAD, &POLICIES).await;
    for _ in 0..60 {
        story.goes_on().await;
    }
    let Story { disk, mut life, mut hands, numbers, send, pushes, .. } = story;
    disk.clears_up();
    drop(send);
    for _ in 0..600 {
        hands.take(&mut life);
        hands.deliver_all();
        pause(50).await;
    }
    let (counts, pushed) = (life.counts(), numbers.start);
    let context = format!("{counts:?} {:?}", life.status.snapshot());
    assert!(pushes.is_finished(), "the source waits: {context}");
    assert!(counts.balances() && (counts.queued_events, counts.stored_events) == (0, 0), "{context}");
    let delivered = hands.delivered.values().map(|times| u64::from(*times)).sum();
    assert_eq!((counts.received_events, counts.delivered_events), (pushed * 3, delivered), "{context}");
    assert!(hands.delivered.values().all(|times| *times == 1), "twice: {context}");
    assert_eq!(life.heard.lock().unwrap().len() as u64, pushed, "every receipt is settled: {context}");
    assert_eq!((life.state(), life.ledger.entries()), ("ok", 0), "{context}");
    assert_eq!(disk.segment_bytes(), life.disk_bytes(), "no file is forgotten: {context}");
    life.rests(0).await;
    life.front.close();
    assert!(life.inlet.as_mut().unwrap().recv().await.is_none(), "{context}");
    tokio::time::timeout(Duration::from_secs(1), &mut life.stage).await.expect("it ends").unwrap();
}

/// The machine goes down at the end of a story: what sources were told to be safe comes back, unless it was settled.
async fn go_down(seed: u64) {
    let reads_fail = BAD.len() - 1;
    let mut story = Story::new(seed, &BAD[..reads_fail], &POLICIES[..2]).await;
    for _ in 0..20 + seed % 40 {
        story.goes_on().await;
    }
    let Story { disk, life, hands, .. } = story;
    let heard = life.heard.lock().unwrap().clone();
    let told = heard.iter().filter(|(_, outcome)| **outcome == Outcome::Delivered).map(|(number, _)| *number);
    let is_settled = |row: &String| hands.delivered.contains_key(row) || hands.rejected.contains(row);
    let owed: Vec<u64> = told.filter(|n| !(0..3).all(|row| is_settled(&format!("{n:06}.{row}")))).collect();
    for (survives, disk) in Survives::ALL.map(|survives| (survives, disk.model.after_crash(survives))) {
        let back = recovered(disk).await;
        let lost = owed.iter().find(|number| !back.contains(number));
        assert_eq!(lost, None, "{survives:?}: {back:?} {:?}", life.counts());
        assert!(back.is_sorted_by(|a, b| a < b), "{survives:?}: {back:?}");
    }
    life.kill().await;
}

pub(super) fn each(seeds: std::ops::Range<u64>, story: impl AsyncFn(u64) + std::panic::RefUnwindSafe) {
    for seed in seeds {
        let lived = std::panic::catch_unwind(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().start_paused(true).build().unwrap().block_on(story(seed));
        });
        assert!(lived.is_ok(), "seed {seed}");
    }
}

#[test]
fn whatever_the_weather_was_nothing_of_it_is_left() {
    each(0..SEEDS, live);
}

#[test]
fn in_any_weather_what_was_acknowledged_outlives_the_machine() {
    each(0..SEEDS, go_down);
}
