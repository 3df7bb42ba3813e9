//! The buffer with its thread, as a pipeline uses it: rows pushed at one end, leased at the other, over a file system
//! that may be full, read-only or gone.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::format::Compression;
use super::model_tests::{Model, Survives};
use super::stage::{DiskBuffer, RunningBuffer};
use super::storage::{Disk, Storage};
use super::{BufferStatus, DiskFull, DiskOptions, Limits};
use crate::batch::{Batch, Outcome, Receipt};
use crate::config::ComponentKind;
use crate::flow::{Fault, Inlet, Meter, Queue, Reason, TaskCx};
use crate::testing;

fn options(when_full: DiskFull) -> DiskOptions {
    DiskOptions {
        limits: Limits { bytes_max: 1 << 20, events_max: None, compression: Compression::None },
        when_full,
        sync_interval: Duration::from_millis(1),
        memory_bytes: 256 << 10,
    }
}

struct Rig {
    front: Arc<Queue>,
    inlet: Inlet,
    running: RunningBuffer,
    cx: TaskCx,
    meter: Arc<Meter>,
    status: Arc<BufferStatus>,
}

fn rig(storage: impl Storage + 'static, dir: &Path, options: DiskOptions) -> Rig {
    let cx = testing::task_cx(ComponentKind::Sink, "null", dir);
    let meter = cx.meter.clone();
    let (front, buffer, inlet) = DiskBuffer::on(Arc::new(storage), options, meter.clone());
    let status = buffer.status().clone();
    let running = buffer.start(&cx).unwrap();
    Rig { front, inlet, running, cx, meter, status }
}

/// Ten lines of 1 KiB, and where their outcome goes.
fn batch(number: u64, heard: &Arc<Mutex<Vec<(u64, Outcome)>>>) -> Batch {
    let to = heard.clone();
    let receipt = Receipt::new(move |outcome| to.lock().unwrap().push((number, outcome)));
    Batch::from_lines("t", (0..10).map(|row| format!("{number:06}.{row} {}", "z".repeat(1000))))
        .with_receipt(receipt)
}

fn number(batch: &Batch) -> u64 {
    let (_, line) = batch.lines().next().unwrap();
    std::str::from_utf8(&line[..6]).unwrap().parse().unwrap()
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let waited = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn take(inlet: &mut Inlet) -> u64 {
    let lease =
        tokio::time::timeout(Duration::from_secs(20), inlet.recv()).await.expect("a batch").expect("open");
    let number = number(lease.batch());
    lease.delivered();
    number
}

impl Rig {
    /// Everything ends in order.
    async fn end(mut self) -> Vec<u64> {
        self.front.close();
        let mut numbers = Vec::new();
        while let Some(lease) = self.inlet.recv().await {
            numbers.push(number(lease.batch()));
            lease.delivered();
        }
        self.running.done.await.unwrap();
        let counts = self.meter.snapshot();
        assert!(counts.balances() && counts.queued_events == 0, "{counts:?}");
        numbers
    }

    /// The end is forced.
    async fn kill(self) {
        self.cx.shutdown.abort();
        drop(self.inlet);
        self.running.done.await.unwrap();
        self.front.abort();
        assert!(self.meter.snapshot().balances(), "{:?}", self.meter.snapshot());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_pass_in_order_are_safe_before_the_sink_has_them_and_balance() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::default();
    let mut rig = rig(Disk, dir.path(), options(DiskFull::Block));
    for n in 0..30 {
        rig.front.push(batch(n, &heard)).await;
    }
    until("all safe", || heard.lock().unwrap().len() == 30).await;
    assert!(heard.lock().unwrap().iter().all(|(_, outcome)| *outcome == Outcome::Delivered));
    until("all counted", || rig.meter.snapshot().stored_events == 300).await;
    let counts = rig.meter.snapshot();
    assert_eq!((counts.received_events, counts.queued_events, counts.stored_events), (300, 300, 300));
    assert!(counts.balances());
    for n in 0..10 {
        assert_eq!(take(&mut rig.inlet).await, n);
    }
    assert_eq!(rig.end().await, (10..30).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_event_does_not_wait_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::default();
    let mut slow = options(DiskFull::Block);
    slow.sync_interval = Duration::from_secs(60);
    let mut rig = rig(Disk, dir.path(), slow);
    for n in 0..3 {
        rig.front.push(batch(n, &heard)).await;
        assert_eq!(take(&mut rig.inlet).await, n);
        until("settled without a sync", || heard.lock().unwrap().len() as u64 == n + 1).await;
    }
    assert!(rig.end().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_forced_end_leaves_is_delivered_by_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::default();
    let mut first = rig(Disk, dir.path(), options(DiskFull::Block));
    for n in 0..40 {
        first.front.push(batch(n, &heard)).await;
    }
    for n in 0..5 {
        assert_eq!(take(&mut first.inlet).await, n);
    }
    let in_hand = first.inlet.recv().await.unwrap();
    until("all safe", || heard.lock().unwrap().len() == 40).await;
    drop(in_hand);
    let meter = first.meter.clone();
    first.kill().await;
    let counts = meter.snapshot();
    assert_eq!((counts.dropped_total(), counts.stored_events), (0, 350), "what is on disk is not dropped");
    let second = rig(Disk, dir.path(), options(DiskFull::Block));
    until("opened", || second.meter.snapshot().recovered_events == 350).await;
    assert_eq!(second.meter.snapshot().received_events, 350);
    second.front.push(batch(40, &heard)).await;
    assert_eq!(second.end().await, (5..41).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_memory_holds_is_read_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::default();
    let mut small = options(DiskFull::Block);
    small.memory_bytes = 64 << 10;
    let mut rig = rig(Disk, dir.path(), small);
    let (front, pushed) = (rig.front.clone(), Arc::new(AtomicU64::new(0)));
    let (count, to) = (pushed.clone(), Arc::clone(&heard));
    let source = crate::base::task::spawn(async move {
        for n in 0..400 {
            front.push(batch(n, &to)).await;
            count.store(n + 1, SeqCst);
        }
    });
    until("full", || rig.status.snapshot().full).await;
    // A hundred on disk, sixty-four that are to be written next, and what the queues and the sink's memory hold.
    assert!(rig.status.snapshot().disk_bytes <= 1 << 20 && pushed.load(SeqCst) < 200);
    let counts = rig.meter.snapshot();
    assert!(counts.memory_bytes + (800 << 10) < counts.queued_bytes, "files are no memory: {counts:?}");
    for n in 0..400 {
        assert_eq!(take(&mut rig.inlet).await, n);
    }
    source.await.unwrap();
    assert!(rig.end().await.is_empty());
    assert_eq!(heard.lock().unwrap().len(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_drop_and_count_when_full() {
    for (when_full, reason) in
        [(DiskFull::DropNewest, Reason::BufferFullNewest), (DiskFull::DropOldest, Reason::BufferFullOldest)]
    {
        let dir = tempfile::tempdir().unwrap();
        let heard = Arc::default();
        let rig = rig(Disk, dir.path(), options(when_full));
        for n in 0..300 {
            rig.front.push(batch(n, &heard)).await;
        }
        until("all taken in", || heard.lock().unwrap().len() == 300).await;
        let meter = rig.meter.clone();
        let numbers = rig.end().await;
        let dropped = meter.snapshot().dropped(reason);
        assert_eq!((300 - numbers.len() as u64) * 10, dropped, "{when_full:?}");
        assert!(dropped > 1500 && numbers.windows(2).all(|w| w[0] < w[1]), "{when_full:?} {dropped}");
        let last = *numbers.last().unwrap();
        assert_eq!(last == 299, when_full == DiskFull::DropOldest, "{when_full:?} kept {last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overflow_touches_the_disk_only_when_memory_is_full_and_keeps_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::default();
    let mut rig = rig(Disk, dir.path(), options(DiskFull::Overflow));
    for n in 0..10 {
        rig.front.push(batch(n, &heard)).await;
    }
    until("handed over", || rig.meter.snapshot().queued_events == 100 && rig.inlet.waiting_events() == 100)
        .await;
    assert_eq!(
        (rig.status.snapshot().disk_bytes, heard.lock().unwrap().len()),
        (0, 0),
        "nothing on disk, nothing settled"
    );
    for n in 10..80 {
        rig.front.push(batch(n, &heard)).await;
    }
    until("spilled", || heard.lock().unwrap().len() > 30).await;
    assert!(rig.status.snapshot().disk_bytes > 300_000);
    for n in 0..40 {
        assert_eq!(take(&mut rig.inlet).await, n);
    }
    for n in 80..100 {
        rig.front.push(batch(n, &heard)).await;
    }
    assert_eq!(rig.end().await, (40..100).collect::<Vec<_>>());
    assert_eq!(heard.lock().unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn overflow_says_what_a_forced_end_loses() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::default();
    let rig = rig(Disk, dir.path(), options(DiskFull::Overflow));
    for n in 0..5 {
        rig.front.push(batch(n, &heard)).await;
    }
    until("handed over", || rig.inlet.waiting_events() == 50).await;
    let meter = rig.meter.clone();
    rig.kill().await;
    assert_eq!(meter.snapshot().dropped(Reason::Aborted), 50);
    assert!(
        heard.lock().unwrap().iter().all(|(_, outcome)| *outcome == Outcome::Lost),
        "the source offers them again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_makes_block_wait_and_comes_back_by_itself() {
    for kind in [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem] {
        let (model, heard) = (Model::default(), Arc::default());
        let mut rig = rig(model.clone(), Path::new("/state"), options(DiskFull::Block));
        rig.front.push(batch(0, &heard)).await;
        assert_eq!(take(&mut rig.inlet).await, 0);
        model.refuse(Some(kind));
        rig.front.push(batch(1, &heard)).await;
        until("trouble", || rig.status.snapshot().trouble.is_some_and(|why| why.contains("write"))).await;
        assert_eq!((rig.status.snapshot().state(), rig.meter.snapshot().dropped_total()), ("trouble", 0));
        assert!(!heard.lock().unwrap().iter().any(|(n, _)| *n == 1));
        model.refuse(None);
        assert_eq!(take(&mut rig.inlet).await, 1);
        until("over", || rig.status.snapshot().trouble.is_none()).await;
        assert!(rig.end().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_makes_drop_policies_count_with_the_reason() {
    let cases =
        [(ErrorKind::StorageFull, Reason::NoSpace), (ErrorKind::ReadOnlyFilesystem, Reason::BufferFault)];
    for (kind, reason) in cases {
        let (model, heard) = (Model::default(), Arc::default());
        let rig = rig(model.clone(), Path::new("/state"), options(DiskFull::DropNewest));
        rig.front.push(batch(0, &heard)).await;
        until("safe", || heard.lock().unwrap().len() == 1).await;
        model.refuse(Some(kind));
        // As many as memory holds are in the sink's hands and lose nothing.
        let mut n = 1;
        while rig.meter.snapshot().dropped(reason) == 0 {
            rig.front.push(batch(n, &heard)).await;
            n += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(n > 20, "memory was not used: {n}");
        let dropped = n - 1;
        model.refuse(None);
        while rig.status.snapshot().trouble.is_some() {
            rig.front.push(batch(n, &heard)).await;
            n += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let numbers = rig.end().await;
        assert!(
            numbers.contains(&0) && numbers.contains(&1) && !numbers.contains(&dropped),
            "what was there before is delivered: {numbers:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_a_receipt_loses_nothing() {
    let (model, heard) = (Model::default(), Arc::default());
    let rig = rig(model.clone(), Path::new("/state"), options(DiskFull::Block));
    for n in 0..25 {
        rig.front.push(batch(n, &heard)).await;
    }
    until("some safe", || heard.lock().unwrap().len() >= 5).await;
    let after = model.after_crash(Survives::Nothing);
    let safe: Vec<u64> = heard.lock().unwrap().iter().map(|(n, _)| *n).collect();
    let safe_then = safe.len();
    // Receipts that were settled before the snapshot are in it; nothing is said of those settled since.
    rig.kill().await;
    let back = rig_numbers(after).await;
    let first: Vec<u64> = safe.into_iter().take(5.min(safe_then)).collect();
    assert!(first.iter().all(|n| back.contains(n)), "{first:?} {back:?}");
}

async fn rig_numbers(model: Model) -> Vec<u64> {
    rig(model, Path::new("/state"), options(DiskFull::Block)).end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_gone_leaves_its_rows_on_disk_and_stalls_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::default();
    let first = rig(Disk, dir.path(), options(DiskFull::Block));
    first.front.push(batch(0, &heard)).await;
    until("safe", || heard.lock().unwrap().len() == 1).await;
    drop(first.inlet);
    first.running.sink_gone.cancel();
    for n in 1..200 {
        tokio::time::timeout(Duration::from_secs(20), first.front.push(batch(n, &heard)))
            .await
            .expect("no stall");
    }
    first.front.close();
    first.running.done.await.unwrap();
    let counts = first.meter.snapshot();
    assert!(
        counts.balances() && counts.dropped(Reason::Rejected) > 500 && counts.stored_events > 900,
        "{counts:?}"
    );
    let numbers = rig(Disk, dir.path(), options(DiskFull::Block)).end().await;
    assert_eq!(numbers, (0..counts.stored_events / 10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buffer_in_use_is_a_fatal_fault() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = rig(Disk, dir.path(), options(DiskFull::Block));
    (&mut first.running.opened).await.unwrap().unwrap();
    let second = rig(Disk, dir.path(), options(DiskFull::Block));
    let Err(Fault::Fatal { why }) = second.running.opened.await.unwrap() else { panic!("both") };
    assert!(why.contains("in use by another weir"), "{why}");
    first.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_middle_is_counted_as_dropped_and_the_rest_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::default();
    let first = rig(Disk, dir.path(), options(DiskFull::Block));
    for n in 0..20 {
        first.front.push(batch(n, &heard)).await;
    }
    until("all safe", || heard.lock().unwrap().len() == 20).await;
    first.kill().await;
    let buffer = dir.path().join("buffers/test/null-0");
    let segment = super::store::segment_path(&buffer, 0);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[25_000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let second = rig(Disk, dir.path(), options(DiskFull::Block));
    let (meter, status) = (second.meter.clone(), second.status.clone());
    let numbers = second.end().await;
    assert_eq!(numbers, (0..20).filter(|n| *n != 2).collect::<Vec<_>>());
    assert_eq!(
        (meter.snapshot().dropped(Reason::BufferFault), status.snapshot().damaged, status.snapshot().missing),
        (10, 1, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_a_sink_that_is_gone_again_do_not_keep_it_busy() {
    let (dir, heard) = (tempfile::tempdir().unwrap(), Arc::default());
    let cx = testing::task_cx(ComponentKind::Sink, "null", dir.path());
    let (front, buffer, mut inlet) = DiskBuffer::new(options(DiskFull::Block), cx.meter.clone());
    // Said before it runs, by somebody who says nothing more.
    buffer.control().set(options(DiskFull::Overflow));
    let running = buffer.start(&cx).unwrap();
    front.push(batch(0, &heard)).await;
    assert_eq!(take(&mut inlet).await, 0);
    running.sink_gone.cancel();
    front.close();
    tokio::time::timeout(Duration::from_secs(20), running.done).await.expect("it ends").unwrap();
}
