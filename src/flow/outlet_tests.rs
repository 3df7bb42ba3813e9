//! What the entrance of a pipeline must survive: limits that block several sources, limits on size, forced ends,
//! many sinks behind a filter that keeps little.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::chain::Chain;
use super::limit::TokenBucket;
use super::memory::Memory;
use super::meter::{Meter, Reason};
use super::outlet::{Branch, Intake, Outlet, RateLimit};
use super::queue::{Bounds, Inlet, Queue, WhenFull};
use crate::base::{clock, task};
use crate::batch::{Batch, BatchBuilder, Origin, Outcome, Receipt};

fn branch(events_max: u64, when_full: WhenFull) -> (Branch, Inlet, Arc<Meter>) {
    let meter = Arc::new(Meter::default());
    let queue = Queue::new(Bounds { events_max, bytes_max: 1 << 30, when_full }, meter.clone());
    (Branch { chain: None, queue: queue.clone() }, Inlet::new(queue), meter)
}

fn intake(limit: Option<RateLimit>, branches: Vec<Branch>) -> Arc<Intake> {
    Arc::new(Intake::new(limit, Chain::default(), branches, Arc::new(Meter::default())))
}

fn outlet(intake: &Arc<Intake>) -> Outlet {
    Outlet::new(intake.clone(), Arc::new(Meter::default()))
}

fn numbered(range: std::ops::Range<u32>) -> Batch {
    Batch::from_lines("t", range.map(|i| i.to_string()))
}

#[tokio::test]
async fn a_blocking_limit_serves_its_sources_in_turn() {
    let (branch, _inlet, _) = branch(10, WhenFull::DropOldest);
    let bucket = Some(TokenBucket::new(1000.0, 100.0, clock::now()));
    let intake = intake(Some(RateLimit { bucket, block: true, event_bytes_max: None }), vec![branch]);
    let (large, small) = (outlet(&intake), outlet(&intake));
    let small = task::spawn(async move {
        loop {
            small.send(numbered(0..1)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    let turns = tokio::time::timeout(Duration::from_secs(3), large.send(numbered(0..300)));
    turns.await.expect("300 of 1000 tokens a second take well under a second");
    small.abort();
}

#[tokio::test]
async fn a_source_hears_of_rows_that_were_too_long() {
    let (branch, mut inlet, _) = branch(10, WhenFull::Block);
    let limit = RateLimit { bucket: None, block: false, event_bytes_max: Some(3) };
    let intake = intake(Some(limit), vec![branch]);
    let heard = Arc::new(Mutex::new(None));
    let tell = heard.clone();
    let mut builder = BatchBuilder::new(Arc::new(Origin::new("t", "t")));
    builder.push(b"ok");
    builder.push(b"too long");
    outlet(&intake).send(builder.finish(Receipt::new(move |o| *tell.lock().unwrap() = Some(o)))).await;
    inlet.try_recv().unwrap().delivered();
    assert_eq!(*heard.lock().unwrap(), Some(Outcome::Dropped));
    assert!(intake.meter().snapshot().balances());
}

#[tokio::test]
async fn a_forced_end_counts_the_rows_of_every_sink() {
    let (a, _a, a_meter) = branch(10, WhenFull::Block);
    let (b, _b, b_meter) = branch(10, WhenFull::Block);
    let intake = intake(None, vec![a, b]);
    let out = outlet(&intake);
    let mut send = Box::pin(out.send(numbered(0..25)));
    assert!(futures_util::poll!(&mut send).is_pending());
    drop(send);
    for meter in [a_meter, b_meter] {
        let m = meter.snapshot();
        assert_eq!(m.received_events, 25);
        assert!(m.dropped(Reason::Aborted) >= 15 && m.balances());
    }
}

#[tokio::test]
async fn a_stuck_sink_does_not_keep_rows_from_its_neighbours() {
    let (stuck, _stuck, _) = branch(10, WhenFull::Block);
    let (lively, mut inlet, _) = branch(100, WhenFull::Block);
    let intake = intake(None, vec![stuck, lively]);
    let out = outlet(&intake);
    let mut send = Box::pin(out.send(numbered(0..25)));
    assert!(futures_util::poll!(&mut send).is_pending());
    assert_eq!(inlet.try_recv().map(|l| l.batch().events()), Some(25));
}

#[tokio::test]
async fn survivors_are_copied_once_for_all_sinks() {
    let (a, mut a_inlet, _) = branch(1000, WhenFull::Block);
    let (b, mut b_inlet, _) = branch(1000, WhenFull::Block);
    let intake = intake(None, vec![a, b]);
    let mut batch = numbered(0..1000);
    batch.retain(|_, row| row % 10 == 0);
    outlet(&intake).send(batch).await;
    let (a, b) = (a_inlet.try_recv().unwrap(), b_inlet.try_recv().unwrap());
    assert_eq!(a.batch().arena().text().as_ptr(), b.batch().arena().text().as_ptr());
}

#[tokio::test(start_paused = true)]
async fn beyond_max_memory_sources_wait_for_their_own_sinks_and_no_others() {
    let memory = Arc::new(Memory::default());
    memory.set_max(Some(100));
    let (slow, mut inlet, _) = branch(1000, WhenFull::DropNewest);
    let (idle, _other, other) = branch(1000, WhenFull::DropNewest);
    let behind = outlet(&intake(None, vec![slow])).bounded_by(memory.clone());
    let at_rest = outlet(&intake(None, vec![idle])).bounded_by(memory.clone());
    behind.send(numbered(0..5)).await;
    memory.measured(101, 0);
    assert!(!behind.has_room(Duration::from_secs(1)).await && at_rest.has_room(Duration::ZERO).await);
    let sent = task::spawn(async move { behind.send(numbered(5..6)).await });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!sent.is_finished(), "its sink is behind");
    at_rest.send(numbered(0..1)).await;
    assert_eq!(other.snapshot().queued_events, 1, "nothing waited there: waiting would free nothing");
    while let Some(lease) = inlet.try_recv() {
        lease.delivered();
    }
    sent.await.unwrap();
    memory.measured(101, 0);
    assert!(memory.is_over());
    memory.measured(99, 120);
    assert!(memory.is_over(), "what the system counts matters too");
    memory.set_max(None);
    assert!(!memory.is_over());
}

#[tokio::test(start_paused = true)]
async fn between_two_measurements_no_more_comes_in_than_there_is_room_for() {
    let memory = Arc::new(Memory::default());
    memory.set_max(Some(10_000));
    memory.measured(0, 4_000);
    let (slow, _inlet, meter) = branch(1_000_000, WhenFull::DropNewest);
    let behind = outlet(&intake(None, vec![slow])).bounded_by(memory.clone());
    let weight = numbered(0..5).weight();
    let flood = task::spawn(async move {
        loop {
            behind.send(numbered(0..5)).await;
        }
    });
    memory.stale().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let queued = meter.snapshot().queued_events / 5 * weight;
    assert!(queued <= 6_000 && queued + weight > 6_000, "{queued}");
    memory.measured(0, 9_000);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let more = meter.snapshot().queued_events / 5 * weight - queued;
    assert!(more <= 1_000 + weight, "{more}");
    flood.abort();
}
