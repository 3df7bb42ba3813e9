//! What gathering owes: bounds that hold, rows in order and each exactly once, accounts that balance after cuts,
//! and nothing kept back at the end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::gather::{Gather, GatherLimits, Gathered};
use super::meter::{Meter, Reason};
use super::queue::{Bounds, Inlet, Queue, WhenFull};
use crate::base::clock;
use crate::base::shutdown::Shutdown;
use crate::base::units::ByteCount;
use crate::batch::{Batch, BatchBuilder, Origin, Outcome, Receipt};
use crate::config::BatchOptions;

fn queue() -> (Arc<Queue>, Inlet) {
    let bounds = Bounds { events_max: 1_000_000, bytes_max: 1 << 30, when_full: WhenFull::Block };
    let queue = Queue::new(bounds, Arc::new(Meter::default()));
    (queue.clone(), Inlet::new(queue))
}

fn gather(max_events: u64, max_bytes: u64, max_wait_ms: u64) -> Gather {
    let max_wait = Duration::from_millis(max_wait_ms);
    let options = BatchOptions { max_events, max_bytes: ByteCount(max_bytes), max_wait };
    Gather::new(GatherLimits { options, row_overhead: 1 })
}

fn numbered(range: std::ops::Range<u32>) -> Batch {
    Batch::from_lines("t", range.map(|i| i.to_string()))
}

fn rows(gathered: &Gathered) -> Vec<u32> {
    let lines = gathered.leases.iter().flat_map(|lease| lease.batch().lines());
    lines.map(|(_, l)| std::str::from_utf8(l).unwrap().parse().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_row_starts_the_clock() {
    let (queue, mut inlet) = queue();
    let (mut gather, shutdown) = (gather(100, 1 << 20, 200), Shutdown::new());
    queue.push(numbered(0..3)).await;
    let start = clock::now();
    let writer = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        queue.push(numbered(3..5)).await;
    };
    let (gathered, ()) = tokio::join!(gather.next(&mut inlet, &shutdown, true), writer);
    let gathered = gathered.unwrap();
    assert_eq!((rows(&gathered), start.elapsed().as_millis()), ((0..5).collect(), 200));
    queue.push(numbered(5..205)).await;
    let full = gather.next(&mut inlet, &shutdown, true).await.unwrap();
    assert_eq!((full.events, start.elapsed().as_millis()), (100, 200), "full: no wait");
}

#[tokio::test(start_paused = true)]
async fn the_end_and_a_shutdown_wait_for_nothing() {
    let (queue, mut inlet) = queue();
    let (mut gather, shutdown) = (gather(100, 1 << 20, 60_000), Shutdown::new());
    let start = clock::now();
    queue.push(numbered(0..3)).await;
    // Cancelled once it holds rows: they stay.
    assert!(gather.next(&mut inlet, &shutdown, true).now_or_never().is_none());
    assert_eq!(gather.held_events(), 3);
    shutdown.drain();
    let first = gather.next(&mut inlet, &shutdown, true).await.unwrap();
    assert_eq!(rows(&first), [0, 1, 2]);
    queue.push(numbered(3..4)).await;
    queue.close();
    let last = gather.next(&mut inlet, &shutdown, true).await.unwrap();
    assert_eq!(rows(&last), [3]);
    assert!(gather.next(&mut inlet, &shutdown, true).await.is_none());
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_goes_back_in_order_when_dropped() {
    let (queue, mut inlet) = queue();
    let (mut gather, shutdown) = (gather(4, 1 << 20, 1000), Shutdown::new());
    queue.push(numbered(0..10)).await;
    queue.push(numbered(10..12)).await;
    let first = gather.next(&mut inlet, &shutdown, true).await.unwrap();
    let second = gather.next(&mut inlet, &shutdown, true).await.unwrap();
    assert_eq!((rows(&first), rows(&second)), (vec![0, 1, 2, 3], vec![4, 5, 6, 7]));
    let before = queue.meter().snapshot();
    drop(first);
    drop(gather);
    drop(second);
    assert_eq!(queue.meter().snapshot().queued_events, 12);
    let mut all = Vec::new();
    while let Some(lease) = inlet.try_recv() {
        all.extend(
            lease.batch().lines().map(|(_, l)| std::str::from_utf8(l).unwrap().parse::<u32>().unwrap()),
        );
        lease.delivered();
    }
    assert_eq!(all, (0..12).collect::<Vec<_>>());
    let after = queue.meter().snapshot();
    assert_eq!((after.queued_events, after.queued_bytes, after.balances()), (0, 0, true), "was {before:?}");
}

#[tokio::test]
async fn a_cut_batch_tells_its_source_the_worst_once() {
    let (queue, mut inlet) = queue();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let tell = heard.clone();
    let mut builder = BatchBuilder::new(Arc::new(Origin::new("t", "t")));
    (0..8).for_each(|i| builder.push(format!("{i}").as_bytes()));
    queue.push(builder.finish(Receipt::new(move |o| tell.lock().unwrap().push(o)))).await;
    let mut rest = inlet.try_recv().unwrap();
    rest.split_to(3).delivered();
    let bad = rest.split_to(1);
    rest.split_to(0).delivered();
    rest.delivered();
    assert!(heard.lock().unwrap().is_empty());
    // Rejected here, but whoever takes it decides what its source hears.
    let batch = bad.diverted().unwrap();
    batch.settle(Outcome::Delivered);
    assert_eq!(*heard.lock().unwrap(), [Outcome::Delivered]);
    let counts = queue.meter().snapshot();
    assert_eq!((counts.delivered_events, counts.dropped(Reason::Rejected), counts.queued_bytes), (7, 1, 0));
    assert!(counts.balances());
}

proptest! {
    /// Whatever comes in whatever pieces leaves within the bounds, in order, once.
    #[test]
    fn bounds_hold_and_nothing_is_lost(
        batches in proptest::collection::vec(proptest::collection::vec(0usize..60, 1..20), 1..12),
        max_events in 1u64..25,
        max_bytes in 1u64..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (queue, mut inlet) = queue();
            let (mut gather, shutdown) = (gather(max_events, max_bytes, 50), Shutdown::new());
            let mut expected = Vec::new();
            for lengths in &batches {
                let lines: Vec<String> = lengths.iter().map(|n| "x".repeat(*n)).collect();
                expected.extend(lines.iter().cloned());
                queue.push(Batch::from_lines("t", lines)).await;
            }
            queue.close();
            let mut got = Vec::new();
            while let Some(gathered) = gather.next(&mut inlet, &shutdown, true).await {
                let lines: Vec<String> = gathered.leases.iter()
                    .flat_map(|l| l.batch().lines().map(|(_, l)| String::from_utf8_lossy(l).into_owned()))
                    .collect();
                assert_eq!(gathered.events as usize, lines.len());
                assert_eq!(gathered.bytes as usize, lines.iter().map(|l| l.len() + 1).sum::<usize>());
                assert!(gathered.events <= max_events && gathered.events > 0);
                got.extend(lines);
                gathered.leases.into_iter().for_each(|l| l.delivered());
            }
            assert_eq!(got, expected);
            let counts = queue.meter().snapshot();
            assert!(counts.balances() && counts.queued_events == 0 && counts.queued_bytes == 0, "{counts:?}");
        });
    }
}
