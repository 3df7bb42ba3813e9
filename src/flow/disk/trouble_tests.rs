//! What fails is said, waits for nothing that works, and is over when it works again, whether or not anything comes or
//! goes meanwhile.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::model_tests::Model;
use super::passing_tests::{Life, flood, number, options, pause};
use super::stage::{DiskBuffer, Stage};
use super::weather_tests::{
    Act, Breaks, Weather, away, full, no_files, no_position, no_rename, small, unreadable, unsynced,
    unwritable,
};
use super::{DiskFull, DiskOptions};
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::batch::{Batch, Outcome};
use crate::flow::queue::Inlet;
use crate::flow::{Meter, Reason};

#[tokio::test(start_paused = true)]
async fn trouble_that_is_over_is_no_trouble_though_a_source_is_always_ahead() {
    let model = Model::default();
    let mut life = Life::on(&model, options(DiskFull::Block)).await.unwrap();
    life.push(999_999).await;
    let lease = life.next().await;
    pause(200).await;
    assert_eq!(life.outcome(999_999), Some(Outcome::Delivered), "it is on the disk");
    model.refuse(Some(ErrorKind::StorageFull));
    lease.delivered();
    pause(200).await;
    assert!(life.status.snapshot().trouble.is_some(), "the place of delivery cannot be noted");
    model.refuse(None);
    let (source, written) = (flood(&life, 10_000), model.operations());
    for _ in 0..9_000 {
        life.next().await.delivered();
        pause(1).await;
    }
    assert!(!source.is_finished() && model.operations() < written + 20, "{}", model.operations() - written);
    assert_eq!(life.status.snapshot().trouble, None);
    source.abort();
    life.kill().await;
}

impl Life {
    /// The sink delivers all there is; how many batches.
    pub(super) fn deliver_all(&mut self) -> usize {
        let leases = std::iter::from_fn(|| self.inlet.as_mut().and_then(Inlet::try_recv));
        leases.map(|lease| lease.delivered()).count()
    }
}

#[tokio::test(start_paused = true)]
async fn full_is_over_when_there_is_room_though_nothing_more_comes() {
    for when_full in [DiskFull::DropNewest, DiskFull::Block] {
        let mut life = Life::on(&Weather::default(), small(when_full)).await.unwrap();
        let source = flood(&life, 100);
        pause(1_000).await;
        assert_eq!(life.state(), "full", "{when_full:?}");
        source.abort();
        for _ in 0..200 {
            life.deliver_all();
            pause(10).await;
        }
        assert_eq!((life.state(), life.counts().queued_events), ("ok", 0), "{when_full:?}");
        life.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_full() {
    let disk = Weather::default();
    let mut life = Life::on(&disk, options(DiskFull::DropNewest)).await.unwrap();
    disk.turns(full);
    let source = flood(&life, 100);
    pause(1_000).await;
    let status = life.status.snapshot();
    assert!(status.full && status.trouble.is_some() && source.is_finished(), "{status:?}");
    assert!(life.counts().dropped(Reason::NoSpace) > 0, "{:?}", life.counts());
    disk.clears_up();
    for _ in 0..600 {
        life.deliver_all();
        pause(10).await;
    }
    assert_eq!((life.state(), life.status.snapshot().full), ("ok", false));
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn trouble_is_over_though_the_log_is_full_and_rows_wait_to_be_written() {
    let disk = Weather::default();
    let life = Life::on(&disk, small(DiskFull::Block)).await.unwrap();
    disk.turns(unsynced);
    let source = flood(&life, 400);
    pause(20_000).await;
    assert!(life.state() == "trouble" && !source.is_finished(), "{:?}", life.status.snapshot());
    disk.clears_up();
    pause(10_000).await;
    assert_eq!(life.state(), "full", "{:?}", life.status.snapshot());
    source.abort();
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_alone_is_trouble_until_it_works_though_writes_succeed() {
    for bad in [unsynced, no_position] as [Breaks; 2] {
        let disk = Weather::default();
        let mut life = Life::on(&disk, options(DiskFull::Block)).await.unwrap();
        disk.turns(bad);
        let source = flood(&life, 100_000);
        let mut words = Vec::new();
        for _ in 0..600 {
            pause(100).await;
            // So late that all goes through the log.
            let lease = life.next().await;
            pause(50).await;
            lease.delivered();
            words.push(life.state());
        }
        let first = words.iter().position(|word| *word == "trouble").expect("it is noticed");
        assert!(words[first..].iter().all(|word| *word == "trouble"), "{words:?}");
        let errors = life.counts().errors;
        assert!(errors < 60, "{errors} tries in a minute and a half");
        disk.clears_up();
        for _ in 0..100 {
            life.next().await.delivered();
            pause(100).await;
        }
        assert_ne!(life.state(), "trouble");
        source.abort();
        assert!(life.kill().await.0.balances());
    }
}

fn first_unreadable(act: Act, name: &str) -> Option<Errno> {
    (act == Act::Read && name == "00000000000000000000.seg").then_some(Errno::IO)
}

/// A buffer with sixty batches on disk, the first segment of which has become unreadable.
async fn with_a_bad_segment(disk: &Weather, when_full: DiskFull) -> Life {
    let options = DiskOptions { memory_bytes: 1, ..options(when_full) };
    let mut life = Life::on(disk, options).await.unwrap();
    for n in 0..200 {
        life.push(n).await;
        pause(5).await;
    }
    pause(100).await;
    disk.turns(first_unreadable);
    assert_eq!(life.deliver_all(), 1);
    life
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_cannot_be_read_is_set_aside_though_a_source_goes_on_writing() {
    for when_full in [DiskFull::Block, DiskFull::DropNewest] {
        let disk = Weather::default();
        let mut life = with_a_bad_segment(&disk, when_full).await;
        let (mut pushed, mut last) = (200, 0);
        for _ in 0..2_000 {
            if pushed < 400 {
                life.push(pushed).await;
                pushed += 1;
            }
            pause(10).await;
            while let Some(lease) = life.inlet.as_mut().unwrap().try_recv() {
                last = number(lease.batch());
                lease.delivered();
            }
        }
        let counts = life.counts();
        assert_eq!((last, counts.queued_events), (399, 0), "{when_full:?}: {counts:?}");
        // What is new is written, as the disk takes it: nothing is dropped but what cannot be read.
        let lost = counts.dropped(Reason::BufferFault);
        assert!(lost > 0 && lost < 200 && counts.dropped_total() == lost, "{when_full:?}: {counts:?}");
        assert_eq!((life.state(), counts.balances()), ("ok", true), "{counts:?}");
        life.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_makes_room_for_a_source_that_waits() {
    let disk = Weather::default();
    let mut options = DiskOptions { memory_bytes: 1, ..options(DiskFull::Block) };
    options.limits.events_max = Some(6);
    let mut life = Life::on(&disk, options).await.unwrap();
    let source = flood(&life, 20);
    pause(1_000).await;
    assert!(!source.is_finished() && life.state() == "full");
    disk.turns(unreadable);
    assert_eq!(life.deliver_all(), 1);
    pause(60_000).await;
    disk.clears_up();
    for _ in 0..200 {
        life.deliver_all();
        pause(50).await;
    }
    assert!(source.is_finished(), "{:?}", life.counts());
    let counts = life.counts();
    assert!(counts.balances() && counts.queued_events == 0 && life.state() == "ok", "{counts:?}");
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_before_the_oldest_segment_is_counted_when_that_is_dropped() {
    let disk = Weather::default();
    let mut life = with_a_bad_segment(&disk, DiskFull::DropOldest).await;
    // Six reads have failed, and before the next comes so much that the oldest goes.
    while !disk.has("00000000000000000000.seg.damaged") {
        pause(10).await;
    }
    for n in 200..800 {
        life.push(n).await;
    }
    disk.clears_up();
    for _ in 0..1_000 {
        life.deliver_all();
        pause(20).await;
    }
    let counts = life.counts();
    assert!(counts.dropped(Reason::BufferFullOldest) > 0 && counts.dropped(Reason::BufferFault) > 0);
    assert!(counts.balances() && (counts.queued_events, counts.stored_events) == (0, 0), "{counts:?}");
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn settled_segments_go_after_trouble_though_nothing_more_comes() {
    let disk = Weather::default();
    let mut life = Life::on(&disk, options(DiskFull::Block)).await.unwrap();
    let source = flood(&life, 300);
    pause(2_000).await;
    assert!(source.is_finished() && life.disk_bytes() > 500 << 10);
    disk.turns(unwritable);
    for _ in 0..300 {
        life.deliver_all();
        pause(10).await;
    }
    assert_eq!((life.state(), life.counts().queued_events), ("trouble", 0));
    disk.clears_up();
    pause(20_000).await;
    // But for the last one, and those that are kept to be written over.
    assert!(life.state() == "ok" && life.disk_bytes() < 450 << 10, "{}", life.disk_bytes());
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_renamed_is_not_forgotten() {
    let disk = Weather::default();
    let options = DiskOptions { sync_interval: Duration::ZERO, ..options(DiskFull::Block) };
    let mut life = Life::on(&disk, options).await.unwrap();
    disk.turns(no_rename);
    for n in 0..3_000 {
        life.push(n).await;
        pause(1).await;
        life.deliver_all();
    }
    pause(10_000).await;
    life.deliver_all();
    pause(10_000).await;
    assert_eq!((disk.segment_bytes(), life.counts().delivered_events), (life.disk_bytes(), 9_000));
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_the_sink_never_settles_holds_no_memory_of_those_that_it_did() {
    let mut life = Life::on(&Model::default(), options(DiskFull::Overflow)).await.unwrap();
    life.push(0).await;
    let _held = life.next().await;
    // More than may pass behind it, so that the rest goes through the log.
    for n in 0..18_000 {
        life.front.push(Batch::from_lines("t", [format!("{n:06}.0 z")])).await;
        if n % 60 == 0 {
            pause(1).await;
            life.deliver_all();
        }
    }
    pause(100).await;
    life.deliver_all();
    pause(500).await;
    assert_eq!((life.counts().queued_events, life.ledger.entries()), (3, 1));
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_fault_of_a_file_does_not_set_it_aside() {
    // No descriptors are left, and a disk that is gone for a while.
    for bad in [no_files, away] as [Breaks; 2] {
        let disk = Weather::default();
        let options = DiskOptions { memory_bytes: 1, ..options(DiskFull::Block) };
        let mut life = Life::on(&disk, options).await.unwrap();
        let source = flood(&life, 200);
        pause(2_000).await;
        disk.turns(bad);
        for _ in 0..600 {
            life.deliver_all();
            pause(500).await;
        }
        assert_eq!(life.state(), "trouble");
        disk.clears_up();
        for _ in 0..2_000 {
            life.deliver_all();
            pause(20).await;
        }
        let counts = life.counts();
        assert!(source.is_finished() && life.state() == "ok", "{counts:?}");
        assert_eq!((counts.delivered_events, counts.dropped_total()), (600, 0), "{counts:?}");
        life.kill().await;
    }
}

fn unreadable_headers_and_ends(act: Act, name: &str) -> Option<Errno> {
    let bad = name == "00000000000000000000.seg" || name == "00000000000000000180.seg";
    (act == Act::Read && bad).then_some(Errno::IO)
}

#[tokio::test(start_paused = true)]
async fn segments_that_cannot_be_read_at_all_do_not_keep_a_buffer_from_opening() {
    let disk = Weather::default();
    let life = Life::on(&disk, options(DiskFull::Block)).await.unwrap();
    for n in 0..200 {
        life.push(n).await;
        pause(5).await;
    }
    pause(500).await;
    let (counts, _) = life.kill().await;
    let names = disk.segments();
    assert!(
        counts.stored_events == 600 && names.last().is_some_and(|last| last.contains("180")),
        "{names:?}"
    );
    disk.turns(unreadable_headers_and_ends);
    let opened = Life::within(Duration::from_secs(60), &disk, options(DiskFull::Block)).await;
    let mut life = opened.expect("it opens");
    for _ in 0..100 {
        life.deliver_all();
        pause(50).await;
    }
    let counts = life.counts();
    assert!(counts.balances() && counts.queued_events == 0 && life.state() == "ok", "{counts:?}");
    let lost = counts.dropped(Reason::BufferFault);
    assert!(lost > 0 && lost < 600 && counts.delivered_events == 600 - lost, "{counts:?}");
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_what_a_buffer_does_that_cannot_be_opened_yet() {
    let disk = Weather::default();
    disk.turns(away);
    let (meter, shutdown) = (Arc::new(Meter::default()), Shutdown::new());
    let (front, buffer, inlet) =
        DiskBuffer::on(Arc::new(disk.clone()), options(DiskFull::DropNewest), meter.clone());
    let control = buffer.control().clone();
    let (tell, _) = oneshot::channel();
    let stage = task::spawn(async move {
        let gone = CancellationToken::new();
        let opened = Stage::open(buffer, "/b".into(), "t".into(), shutdown, gone, tell).await;
        opened.expect("it opens in the end").run().await;
    });
    pause(20).await;
    front.push(Batch::from_lines("t", ["dropped"])).await;
    pause(1_000).await;
    assert_eq!(meter.snapshot().dropped(Reason::BufferFault), 1);
    control.set(options(DiskFull::Block));
    pause(10).await;
    front.push(Batch::from_lines("t", ["waits"])).await;
    pause(30_000).await;
    assert_eq!((meter.snapshot().dropped_total(), meter.snapshot().queued_events), (1, 1));
    disk.clears_up();
    let mut inlet = inlet;
    inlet.recv().await.unwrap().delivered();
    front.close();
    assert!(inlet.recv().await.is_none());
    stage.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_has_failed_for_good_holds_nobody_up_though_its_buffer_cannot_be_opened() {
    let disk = Weather::default();
    disk.turns(away);
    let (meter, shutdown) = (Arc::new(Meter::default()), Shutdown::new());
    let (front, buffer, _inlet) =
        DiskBuffer::on(Arc::new(disk.clone()), options(DiskFull::Block), meter.clone());
    let (tell, _) = oneshot::channel();
    let gone = buffer.control().another_sink();
    let (own, ends) = (gone.clone(), shutdown.clone());
    let stage =
        task::spawn(
            async move { Stage::open(buffer, "/b".into(), "t".into(), ends, own, tell).await.is_none() },
        );
    let source = task::spawn(async move {
        for n in 0..300 {
            front.push(Batch::from_lines("t", [format!("{n} {}", "z".repeat(2_000))])).await;
        }
    });
    pause(10_000).await;
    assert!(!source.is_finished(), "for a sink that is there, a source waits");
    gone.cancel();
    pause(10_000).await;
    let counts = meter.snapshot();
    assert!(source.is_finished() && counts.balances(), "{counts:?}");
    assert_eq!(counts.dropped(Reason::BufferFault), 300);
    shutdown.abort();
    assert!(stage.await.unwrap());
}
