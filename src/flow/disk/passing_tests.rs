//! Rows that pass by the disk, in whole lives of a buffer with sinks that settle at once, late, never and out of order,
//! and a machine that goes down at every operation. The oracle: what a source was told to be safe was settled by the
//! sink or comes back; order, no row twice in a life, accounts that balance.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::format::Compression;
use super::model_tests::{Model, Survives};
use super::stage::{DiskBuffer, Stage};
use super::storage::Storage;
use super::{BufferStatus, Control, DiskFull, DiskOptions, Limits};
use crate::base::rng::Rng;
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::batch::{Batch, Outcome, Receipt};
use crate::flow::Lease;
use crate::flow::ledger::Ledger;
use crate::flow::meter::Meter;
use crate::flow::queue::{Inlet, Queue};
use crate::flow::{MeterSnapshot, Reason};

pub(super) type Heard = Arc<Mutex<BTreeMap<u64, Outcome>>>;

pub(super) fn options(when_full: DiskFull) -> DiskOptions {
    DiskOptions {
        limits: Limits { bytes_max: 1 << 20, events_max: None, compression: Compression::None },
        when_full,
        sync_interval: Duration::from_millis(50),
        memory_bytes: 64 << 10,
    }
}

pub(super) fn batch(number: u64, heard: &Heard) -> Batch {
    let to = heard.clone();
    let receipt = Receipt::new(move |outcome| {
        assert!(to.lock().unwrap().insert(number, outcome).is_none(), "{number} was settled twice");
    });
    Batch::from_lines("t", (0..3).map(|row| format!("{number:06}.{row} {}", "z".repeat(700))))
        .with_receipt(receipt)
}

pub(super) fn number(batch: &Batch) -> u64 {
    let (_, line) = batch.lines().next().unwrap();
    std::str::from_utf8(&line[..6]).unwrap().parse().unwrap()
}

/// A buffer at work on this runtime, whose clock is paused.
pub(super) struct Life {
    pub(super) front: Arc<Queue>,
    pub(super) back: Arc<Queue>,
    pub(super) inlet: Option<Inlet>,
    pub(super) meter: Arc<Meter>,
    pub(super) shutdown: Shutdown,
    pub(super) gone: CancellationToken,
    pub(super) heard: Heard,
    pub(super) stage: tokio::task::JoinHandle<()>,
    pub(super) status: Arc<BufferStatus>,
    pub(super) control: Arc<Control>,
    pub(super) ledger: Arc<Ledger>,
}

impl Life {
    pub(super) async fn on(storage: &(impl Storage + Clone + 'static), options: DiskOptions) -> Option<Life> {
        // On a machine that is down it is tried for ever.
        Life::within(Duration::from_millis(50), storage, options).await
    }

    /// The same, tried for so long.
    pub(super) async fn within(
        patience: Duration,
        storage: &(impl Storage + Clone + 'static),
        options: DiskOptions,
    ) -> Option<Life> {
        let (meter, shutdown) = (Arc::new(Meter::default()), Shutdown::new());
        let gone = CancellationToken::new();
        let (front, buffer, inlet) = DiskBuffer::on(Arc::new(storage.clone()), options, meter.clone());
        let (back, ledger) = (buffer.back.clone(), buffer.ledger.clone());
        let (status, control) = (buffer.status().clone(), buffer.control().clone());
        let (tell, _) = oneshot::channel();
        let opening =
            Stage::open(buffer, PathBuf::from("/b"), "t".into(), shutdown.clone(), gone.clone(), tell);
        let stage = tokio::time::timeout(patience, opening).await.ok()??;
        let stage = task::spawn(stage.run());
        Some(Life {
            front,
            back,
            inlet: Some(inlet),
            meter,
            shutdown,
            gone,
            heard: Heard::default(),
            stage,
            status,
            control,
            ledger,
        })
    }

    pub(super) async fn push(&self, number: u64) {
        self.front.push(batch(number, &self.heard)).await;
    }

    pub(super) async fn next(&mut self) -> Lease {
        self.inlet.as_mut().unwrap().recv().await.expect("open")
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.status.snapshot().disk_bytes
    }

    pub(super) fn outcome(&self, number: u64) -> Option<Outcome> {
        self.heard.lock().unwrap().get(&number).copied()
    }

    pub(super) fn counts(&self) -> MeterSnapshot {
        self.meter.snapshot()
    }

    /// A forced end.
    pub(super) async fn kill(mut self) -> (MeterSnapshot, Heard) {
        self.shutdown.abort();
        drop(self.inlet.take());
        self.stage.await.unwrap();
        self.front.abort();
        (self.meter.snapshot(), self.heard)
    }
}

pub(super) async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Everything that a next life delivers.
pub(super) async fn recovered(model: Model) -> Vec<u64> {
    let mut life = Life::on(&model, options(DiskFull::Block)).await.expect("a crash never blocks the start");
    life.front.close();
    let mut numbers = Vec::new();
    while let Some(lease) = life.inlet.as_mut().unwrap().recv().await {
        numbers.push(number(lease.batch()));
        lease.delivered();
    }
    life.stage.await.unwrap();
    numbers
}

#[tokio::test(start_paused = true)]
async fn what_the_sink_settles_soon_is_never_written() {
    for when_full in [DiskFull::Block, DiskFull::DropNewest, DiskFull::DropOldest, DiskFull::Overflow] {
        let mut life = Life::on(&Model::default(), options(when_full)).await.unwrap();
        for n in 0..200 {
            life.push(n).await;
            let lease = life.next().await;
            pause(20).await;
            assert_eq!((number(lease.batch()), life.outcome(n)), (n, None));
            lease.delivered();
            assert_eq!(life.outcome(n), Some(Outcome::Delivered), "from the sink's own call");
        }
        pause(200).await;
        assert_eq!(life.disk_bytes(), 0, "{when_full:?}");
        let counts = life.counts();
        assert!(
            counts.balances() && counts.queued_events == 0 && counts.delivered_events == 600,
            "{counts:?}"
        );
        life.kill().await;
    }
}

/// A source that is always ahead of its sink.
pub(super) fn flood(life: &Life, batches: u64) -> tokio::task::JoinHandle<()> {
    let (front, heard) = (life.front.clone(), life.heard.clone());
    task::spawn(async move {
        for n in 0..batches {
            front.push(batch(n, &heard)).await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_faster_source_waits_for_a_sink_that_keeps_up_and_nothing_is_written() {
    let mut life = Life::on(&Model::default(), options(DiskFull::Block)).await.unwrap();
    let source = flood(&life, 1_000);
    for n in 0..1_000 {
        let lease = life.next().await;
        assert_eq!(number(lease.batch()), n);
        if n % 10 == 0 {
            pause(10).await;
        }
        lease.delivered();
        assert_eq!(life.disk_bytes(), 0, "at {n}");
    }
    source.await.unwrap();
    assert!(life.counts().balances() && life.counts().delivered_events == 3_000, "{:?}", life.counts());
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn it_does_not_wait_for_a_slow_one_and_is_held_back_again_once_that_has_caught_up() {
    let mut life = Life::on(&Model::default(), options(DiskFull::Block)).await.unwrap();
    let source = flood(&life, 300);
    let held = life.next().await;
    pause(350).await;
    assert!(source.is_finished(), "four intervals and a moment of writing");
    assert_eq!(life.heard.lock().unwrap().len(), 300, "all is safe");
    held.delivered();
    for n in 1..300 {
        let lease = life.next().await;
        assert_eq!(number(lease.batch()), n);
        lease.delivered();
    }
    pause(10).await;
    life.heard.lock().unwrap().clear();
    let (source, written) = (flood(&life, 300), life.disk_bytes());
    for n in 0..300 {
        let lease = life.next().await;
        assert_eq!(number(lease.batch()), n);
        if n % 10 == 0 {
            pause(10).await;
        }
        lease.delivered();
    }
    source.await.unwrap();
    assert_eq!(life.disk_bytes(), written, "nothing more is written");
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn by_a_policy_that_drops_no_source_waits_for_a_sink() {
    for when_full in [DiskFull::DropNewest, DiskFull::DropOldest] {
        let mut life = Life::on(&Model::default(), options(when_full)).await.unwrap();
        let source = flood(&life, 300);
        let _held = life.next().await;
        pause(5).await;
        assert!(source.is_finished(), "{when_full:?}");
        life.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_slow_disk_a_source_is_never_held_back_for_good() {
    for micros in (0..40_000).step_by(500) {
        let model = Model::default();
        let mut life = Life::on(&model, options(DiskFull::Block)).await.unwrap();
        // The first poll moves the clock; the rest would only let others run.
        let pass = |time| {
            tokio::time::advance(time).now_or_never();
        };
        model.slow_down(pass, Duration::from_micros(micros));
        let source = flood(&life, 100);
        let _held = life.next().await;
        let done = tokio::time::timeout(Duration::from_secs(60), source).await;
        assert!(done.is_ok(), "changes that take {micros} us: {:?}", life.counts());
        life.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_it_does_not_settle_is_safe_within_the_interval_and_not_handed_over_twice() {
    let model = Model::default();
    let mut life = Life::on(&model, options(DiskFull::Block)).await.unwrap();
    for n in 0..3 {
        life.push(n).await;
    }
    let (first, second) = (life.next().await, life.next().await);
    pause(30).await;
    assert!((life.outcome(0), life.disk_bytes(), life.counts().stored_events) == (None, 0, 0));
    pause(40).await;
    assert_eq!(life.heard.lock().unwrap().len(), 3, "written and synced");
    assert_eq!((life.counts().stored_events, life.counts().queued_events), (9, 9));
    second.delivered();
    life.push(3).await;
    assert_eq!(number(life.next().await.batch()), 2);
    first.delivered();
    pause(1).await;
    assert!(life.counts().balances());
    let after = model.after_crash(Survives::Nothing);
    assert_eq!(recovered(after).await, [0, 1, 2], "a machine that went down now has what was acknowledged");
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_dies_leaves_what_it_had_on_disk() {
    let model = Model::default();
    let mut life = Life::on(&model, options(DiskFull::Block)).await.unwrap();
    for n in 0..4 {
        life.push(n).await;
    }
    life.next().await.delivered();
    drop(life.inlet.take());
    life.gone.cancel();
    pause(20).await;
    life.front.close();
    let (heard, meter) = (life.heard.clone(), life.meter.clone());
    life.stage.await.unwrap();
    assert!(heard.lock().unwrap().values().all(|o| *o == Outcome::Delivered), "{heard:?}");
    let counts = meter.snapshot();
    assert!(counts.balances() && counts.stored_events == 9 && counts.dropped_total() == 0, "{counts:?}");
    assert_eq!(recovered(model).await, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_forced_end_writes_what_passes_and_says_what_it_cannot() {
    for refuses in [false, true] {
        let model = Model::default();
        let mut life = Life::on(&model, options(DiskFull::Block)).await.unwrap();
        for n in 0..3 {
            life.push(n).await;
        }
        let lease = life.next().await;
        model.refuse(refuses.then_some(ErrorKind::StorageFull));
        pause(5).await;
        drop(lease);
        let (counts, heard) = life.kill().await;
        assert!(counts.balances(), "{counts:?}");
        let (stored, aborted, outcome) =
            if refuses { (0, 9, Outcome::Lost) } else { (9, 0, Outcome::Delivered) };
        assert_eq!((counts.stored_events, counts.dropped(Reason::Aborted)), (stored, aborted));
        assert!(heard.lock().unwrap().len() == 3 && heard.lock().unwrap().values().all(|o| *o == outcome));
        model.refuse(None);
        assert_eq!(recovered(model).await.len() as u64 * 3, stored);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_does_not_stop_a_sink_that_keeps_up() {
    let model = Model::default();
    let mut life = Life::on(&model, options(DiskFull::Block)).await.unwrap();
    model.refuse(Some(ErrorKind::StorageFull));
    for n in 0..100 {
        life.push(n).await;
        let lease = life.next().await;
        // Now and then too late, so that it would have been written.
        pause(if n % 10 == 0 { 80 } else { 5 }).await;
        assert_eq!((number(lease.batch()), life.outcome(n)), (n, None));
        lease.delivered();
    }
    let (counts, _) = life.kill().await;
    assert!(counts.balances() && counts.delivered_events == 300 && counts.dropped_total() == 0, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_ends_in_parts_is_counted_once() {
    // Whether it is on disk when it ends, and whether it may be written at all.
    for (when_full, late, refuses) in [
        (DiskFull::Block, false, false),
        (DiskFull::Block, true, false),
        (DiskFull::Block, false, true),
        (DiskFull::Overflow, false, false),
    ] {
        let model = Model::default();
        let mut life = Life::on(&model, options(when_full)).await.unwrap();
        for n in 0..4 {
            life.push(n).await;
        }
        let (mut parts, whole) = (life.next().await, life.next().await);
        let (lost, taken) = (life.next().await, life.next().await);
        pause(if late { 100 } else { 5 }).await;
        model.refuse(refuses.then_some(ErrorKind::StorageFull));
        parts.split_to(1).delivered();
        whole.delivered();
        let (lost, taken) = (lost.forward().unwrap(), taken.diverted().unwrap());
        pause(5).await;
        let counts = life.counts();
        assert!(counts.balances() && counts.queued_events == 8, "{counts:?}");
        taken.settle(Outcome::Delivered);
        drop(lost);
        drop(parts);
        let context = format!("{when_full:?} {late} {refuses}");
        let (counts, _) = life.kill().await;
        assert!(counts.balances(), "{context}: {counts:?}");
        assert_eq!((counts.delivered_events, counts.dropped(Reason::Rejected)), (4, 3), "{context}");
        let kept = when_full != DiskFull::Overflow && !refuses;
        let (stored, aborted) = if kept { (5, 0) } else { (0, 5) };
        // Behind the first that is open, records come again.
        let back = match (kept, late) {
            (true, true) => vec![0, 1, 2, 3],
            (true, false) => vec![0, 2],
            (false, _) => vec![],
        };
        assert_eq!((counts.stored_events, counts.dropped(Reason::Aborted)), (stored, aborted), "{context}");
        model.refuse(None);
        assert_eq!(recovered(model).await, back, "{context}");
    }
}

#[tokio::test(start_paused = true)]
async fn options_change_while_rows_wait() {
    let model = Model::default();
    let mut small = options(DiskFull::Block);
    small.limits.bytes_max = 64 << 10;
    let mut life = Life::on(&model, small).await.unwrap();
    let (front, heard) = (life.front.clone(), life.heard.clone());
    let pushed = Arc::new(Mutex::new(0));
    let count = pushed.clone();
    let source = task::spawn(async move {
        for n in 0..400 {
            front.push(batch(n, &heard)).await;
            *count.lock().unwrap() = n + 1;
        }
    });
    pause(5_000).await;
    let before = *pushed.lock().unwrap();
    assert!(before < 200 && life.disk_bytes() <= 64 << 10, "{before}");
    // Larger, and compressed.
    let mut large = options(DiskFull::Block);
    large.limits.compression = Compression::Lz4;
    life.control.set(large);
    source.await.unwrap();
    pause(1_000).await;
    assert_eq!(life.counts().queued_events, 1200);
    // Smaller than what is in it, and dropping: nothing of what is there is dropped, new rows are.
    let mut tiny = options(DiskFull::DropNewest);
    tiny.limits.bytes_max = 16 << 10;
    life.control.set(tiny);
    pause(100).await;
    for n in 400..500 {
        life.push(n).await;
    }
    pause(1_000).await;
    let counts = life.counts();
    assert!(counts.balances() && counts.dropped(Reason::BufferFullNewest) > 200, "{counts:?}");
    life.front.close();
    let mut numbers = Vec::new();
    while let Some(lease) = life.inlet.as_mut().unwrap().recv().await {
        numbers.push(number(lease.batch()));
        lease.delivered();
    }
    assert!(numbers.len() >= 400 && numbers[..400].iter().copied().eq(0..400), "{numbers:?}");
    let (counts, _) = life.kill().await;
    assert!(counts.balances() && counts.queued_events == 0, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_the_disk_does_not_give_back_is_set_aside_and_the_rest_arrives() {
    let model = Model::default();
    let life = Life::on(&model, options(DiskFull::Block)).await.unwrap();
    for n in 0..200 {
        life.push(n).await;
        pause(10).await;
    }
    pause(200).await;
    let (counts, _) = life.kill().await;
    assert_eq!(counts.stored_events, 600);
    let dir = std::path::Path::new("/b");
    let names = |model: &Model| model.list(dir).unwrap().into_iter().map(|(name, _)| name);
    let segments: Vec<String> = names(&model).filter(|name| name.ends_with(".seg")).collect();
    assert!(segments.len() > 2, "{segments:?}");
    let (second, third) = (number_of(&segments[1]), number_of(&segments[2]));
    // Its header can be read, what follows cannot.
    model.unreadable(&dir.join(&segments[1]), 64);
    let mut life = Life::on(&model, options(DiskFull::Block)).await.unwrap();
    life.front.close();
    let mut numbers = Vec::new();
    while let Some(lease) = life.inlet.as_mut().unwrap().recv().await {
        numbers.push(number(lease.batch()));
        lease.delivered();
    }
    assert_eq!(numbers, (0..second).chain(third..200).collect::<Vec<_>>());
    let (counts, _) = life.kill().await;
    assert!(counts.balances() && counts.errors >= 6, "{counts:?}");
    assert_eq!(counts.dropped(Reason::BufferFault), (third - second) * 3);
    assert!(names(&model).any(|name| name == format!("{}.damaged", segments[1])), "kept for who can read it");
}

fn number_of(segment: &str) -> u64 {
    super::store::segment_number(segment).unwrap()
}

/// What was seen of a life.
#[derive(Debug, Default)]
struct Seen {
    told: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    balances: bool,
}

/// A life with a sink that does as the seed says; it ends by force.
async fn live(model: &Model, seed: u64) -> Result<Seen, String> {
    let mut rng = Rng::seeded(seed);
    let when_full = if seed % 4 == 3 { DiskFull::DropNewest } else { DiskFull::Block };
    let Some(mut life) = Life::on(model, options(when_full)).await else {
        return Ok(Seen { balances: true, ..Seen::default() });
    };
    let (mut hands, mut onward): (Vec<Lease>, VecDeque<Batch>) = Default::default();
    let (mut seen, mut last) = (Seen::default(), None);
    let manner = rng.below(4);
    for n in 0..40 {
        let to_front = life.push(n);
        // A buffer that waits for a disk that is gone waits for ever.
        if tokio::time::timeout(Duration::from_millis(300), to_front).await.is_err() {
            break;
        }
        pause(rng.below(25)).await;
        while let Some(lease) = life.inlet.as_mut().unwrap().try_recv() {
            let number = number(lease.batch());
            if last.is_some_and(|last| number <= last) {
                return Err(format!("{number} after {last:?}"));
            }
            last = Some(number);
            hands.push(lease);
        }
        while let Some(at) = (!hands.is_empty()).then(|| match manner {
            // At once, late, never, in any order.
            0 => Some(0),
            1 => (hands.len() > 4).then_some(0),
            2 => (n < 10).then_some(0),
            _ => (rng.below(3) > 0).then(|| rng.below(hands.len() as u64) as usize),
        }) {
            let Some(at) = at else { break };
            let mut lease = hands.remove(at);
            if manner == 3 && rng.below(5) == 0 && lease.batch().events() > 1 {
                lease.split_to(1).delivered();
                hands.insert(at, lease);
                break;
            }
            if rng.below(8) == 0 {
                onward.extend(lease.forward());
                continue;
            }
            if rng.below(4) == 0 {
                let batch = onward.pop_front();
                seen.delivered.extend(batch.iter().map(self::number));
                batch.into_iter().for_each(|batch| batch.settle(Outcome::Delivered));
            }
            seen.delivered.insert(number(lease.batch()));
            lease.delivered();
        }
    }
    pause(rng.below(150)).await;
    hands.clear();
    onward.clear();
    let (counts, heard) = life.kill().await;
    let told = heard.lock().unwrap();
    seen.told.extend(told.iter().filter(|(_, o)| **o == Outcome::Delivered).map(|(n, _)| *n));
    seen.balances = counts.balances();
    Ok(seen)
}

fn paused<T>(run: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(run)
}

fn crash_everywhere(seed: u64, lies: bool) -> Result<usize, String> {
    let whole = Model::default();
    paused(live(&whole, seed))?;
    let operations = whole.operations();
    for at in 0..=operations {
        let model = Model::crashing_at(at);
        let model = if lies { model.lying() } else { model };
        let seen = paused(live(&model, seed))?;
        let context = |e: String| format!("seed {seed}, operation {at} of {operations}: {e}");
        if !seen.balances {
            return Err(context("the accounts do not balance".into()));
        }
        for survives in Survives::ALL {
            let back = paused(recovered(model.after_crash(survives)));
            if let Some(pair) = back.windows(2).find(|w| w[0] >= w[1]) {
                return Err(context(format!("{survives:?}: out of order or twice: {pair:?}")));
            }
            let safe = |n: &&u64| seen.delivered.contains(n) || back.binary_search(n).is_ok();
            if let Some(lost) = seen.told.iter().find(|n| !safe(n)) {
                return Err(context(format!("{survives:?}: {lost} was acknowledged and is lost")));
            }
        }
    }
    Ok(operations)
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_acknowledged() {
    let operations: usize =
        (1..=24).map(|seed| crash_everywhere(seed, false).unwrap_or_else(|e| panic!("{e}"))).sum();
    assert!(operations > 300, "{operations} operations are too few to mean anything");
}

#[test]
fn a_skipped_sync_is_caught() {
    let caught = (1..=24).find_map(|seed| crash_everywhere(seed, true).err());
    assert!(caught.as_ref().is_some_and(|e| e.contains("acknowledged and is lost")), "{caught:?}");
}
