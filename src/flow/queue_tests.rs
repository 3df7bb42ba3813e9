//! What a buffer owes under each policy, and what it must survive: races at its end, several producers, leases that come back late or out of order,
//! sinks that panic or vanish.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::lease::Lease;
use super::meter::{Meter, Reason};
use super::queue::{Bounds, Inlet, Queue, WhenFull};
use crate::base::task;
use crate::batch::{Batch, BatchBuilder, Origin, Outcome, Receipt};

fn queue(events_max: u64, when_full: WhenFull) -> (Arc<Queue>, Inlet) {
    let bounds = Bounds { events_max, bytes_max: 1 << 20, when_full };
    let queue = Queue::new(bounds, Arc::new(Meter::default()));
    (queue.clone(), Inlet::new(queue))
}

fn numbered(range: std::ops::Range<u32>) -> Batch {
    Batch::from_lines("t", range.map(|i| i.to_string()))
}

fn rows(lease: &Lease) -> Vec<u32> {
    lease.batch().lines().map(|(_, l)| std::str::from_utf8(l).unwrap().parse().unwrap()).collect()
}

fn drain(inlet: &mut Inlet) -> Vec<u32> {
    let mut all = Vec::new();
    while let Some(lease) = inlet.try_recv() {
        all.extend(rows(&lease));
        lease.delivered();
    }
    all
}

#[tokio::test]
async fn drop_newest_keeps_exactly_what_fits() {
    let (queue, mut inlet) = queue(10, WhenFull::DropNewest);
    queue.push(numbered(0..7)).await;
    queue.push(numbered(7..20)).await;
    assert_eq!(drain(&mut inlet), (0..10).collect::<Vec<_>>());
    let m = queue.meter().snapshot();
    assert_eq!((m.dropped(Reason::BufferFullNewest), m.balances()), (10, true));
}

#[tokio::test]
async fn drop_oldest_keeps_exactly_the_latest() {
    let (queue, mut inlet) = queue(10, WhenFull::DropOldest);
    queue.push(numbered(0..7)).await;
    queue.push(numbered(7..12)).await;
    assert_eq!(drain(&mut inlet), (2..12).collect::<Vec<_>>());
    queue.push(numbered(0..100)).await;
    assert_eq!(drain(&mut inlet), (90..100).collect::<Vec<_>>());
    assert!(queue.meter().snapshot().balances());
}

#[tokio::test]
async fn block_waits_and_loses_nothing() {
    let (queue, mut inlet) = queue(10, WhenFull::Block);
    let pushing = crate::base::task::spawn({
        let queue = queue.clone();
        async move {
            for i in 0..20 {
                queue.push(numbered(i * 7..i * 7 + 7)).await;
            }
            queue.close();
        }
    });
    let mut rows = Vec::new();
    while let Some(lease) = inlet.recv().await {
        assert!(inlet.waiting_events() <= 10);
        rows.extend(
            lease.batch().lines().map(|(_, l)| std::str::from_utf8(l).unwrap().parse::<u32>().unwrap()),
        );
        lease.delivered();
    }
    pushing.await.unwrap();
    assert_eq!(rows, (0..140).collect::<Vec<_>>());
    assert!(queue.meter().snapshot().balances());
}

#[tokio::test]
async fn an_unsettled_lease_returns_to_the_front() {
    let (queue, mut inlet) = queue(10, WhenFull::Block);
    queue.push(numbered(0..3)).await;
    queue.push(numbered(3..5)).await;
    let lease = inlet.recv().await.unwrap();
    assert_eq!(queue.meter().snapshot().queued_events, 5);
    drop(lease);
    assert_eq!(drain(&mut inlet), [0, 1, 2, 3, 4]);
    assert!(queue.meter().snapshot().balances());
}

#[tokio::test]
async fn a_cancelled_push_is_counted_and_its_receipt_is_lost() {
    let (queue, mut inlet) = queue(2, WhenFull::Block);
    let heard = Arc::new(Mutex::new(None));
    let tell = heard.clone();
    let mut builder = crate::batch::BatchBuilder::new(Arc::new(crate::batch::Origin::new("t", "t")));
    (0..5).for_each(|i: u32| builder.push(i.to_string().as_bytes()));
    let batch = builder.finish(crate::batch::Receipt::new(move |o| *tell.lock().unwrap() = Some(o)));
    let push = queue.push(batch);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(20), push).await.is_err());
    assert_eq!(drain(&mut inlet), [0, 1]);
    assert_eq!(*heard.lock().unwrap(), Some(Outcome::Lost));
    let m = queue.meter().snapshot();
    assert_eq!((m.dropped(Reason::Aborted), m.balances()), (3, true));
}

proptest! {
    #[test]
    fn conserves_under_any_traffic(
        events_max in 1u64..50, bytes_max in 1u64..4000, oldest in any::<bool>(),
        steps in proptest::collection::vec((0u32..80, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let when_full = if oldest { WhenFull::DropOldest } else { WhenFull::DropNewest };
        let queue = Queue::new(Bounds { events_max, bytes_max, when_full }, Arc::new(Meter::default()));
        let mut inlet = Inlet::new(queue.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (rows, take, settle) in steps {
            runtime.block_on(queue.push(numbered(0..rows)));
            prop_assert!(inlet.waiting_events() <= events_max);
            if take && let Some(lease) = inlet.try_recv() && settle {
                lease.delivered();
            }
            prop_assert!(queue.meter().snapshot().balances());
        }
        queue.abort();
        let end = queue.meter().snapshot();
        prop_assert!(end.balances() && end.queued_events == 0);
    }
}

/// Panics with the lease in hand, as a sink does whose bug these rows meet.
fn panic_with(lease: Lease) {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _in_hand = lease;
        std::panic::resume_unwind(Box::new("bug"));
    }));
    assert!(outcome.is_err());
}

/// The last push and the close may both fall between the consumer's look and its decision to end. The batch is large
/// so that the push holds the lock for long; the consumer looks without a pause.
#[test]
fn the_last_batch_before_the_close_is_never_overlooked() {
    let (next, queues) = std::sync::mpsc::sync_channel::<(Arc<Queue>, Batch)>(0);
    let pushing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (queue, batch) in queues {
            runtime.block_on(queue.push(batch));
            queue.close();
        }
    });
    for round in 0..500 {
        let (queue, mut inlet) = queue(10, WhenFull::DropOldest);
        let mut large = numbered(0..20_000);
        large.retain(|_, row| row % 2 == 0);
        next.send((queue, large)).unwrap();
        let (mut got, mut ended) = (0, false);
        while !ended {
            match inlet.recv().now_or_never() {
                Some(Some(lease)) => {
                    got += lease.batch().events();
                    lease.delivered();
                }
                Some(None) => ended = true,
                None => {}
            }
        }
        assert_eq!(got, 10, "round {round}");
    }
    drop(next);
    pushing.join().unwrap();
}

#[tokio::test]
async fn leases_return_to_their_places_in_whatever_order() {
    let (queue, mut inlet) = queue(10, WhenFull::Block);
    for i in 0..4 {
        queue.push(numbered(i..i + 1)).await;
    }
    let leases: Vec<Lease> = (0..3).filter_map(|_| inlet.try_recv()).collect();
    drop(leases);
    assert_eq!(drain(&mut inlet), [0, 1, 2, 3]);
    assert!(queue.meter().snapshot().balances());
}

#[tokio::test]
async fn rows_that_panic_twice_are_given_up() {
    let (queue, mut inlet) = queue(10, WhenFull::Block);
    queue.push(numbered(0..3)).await;
    queue.push(numbered(3..4)).await;
    panic_with(inlet.try_recv().unwrap());
    let again = inlet.try_recv().unwrap();
    assert_eq!(rows(&again), [0, 1, 2], "one more try");
    panic_with(again);
    assert_eq!(drain(&mut inlet), [3]);
    let m = queue.meter().snapshot();
    assert_eq!((m.dropped(Reason::Fault), m.queued_events, m.balances()), (3, 0, true));
}

#[tokio::test]
async fn a_consumer_that_is_gone_stalls_nobody() {
    let (queue, mut inlet) = queue(2, WhenFull::Block);
    queue.push(numbered(0..2)).await;
    let late = inlet.try_recv().unwrap();
    queue.push(numbered(2..4)).await;
    drop(inlet);
    tokio::time::timeout(Duration::from_secs(1), queue.push(numbered(4..9))).await.expect("does not wait");
    drop(late);
    let m = queue.meter().snapshot();
    assert_eq!((m.dropped(Reason::Aborted), m.queued_events, m.balances()), (9, 0, true));
}

#[tokio::test]
async fn a_lease_that_returns_after_the_abort_is_counted() {
    let (queue, mut inlet) = queue(5, WhenFull::DropOldest);
    let heard = Arc::new(Mutex::new(None));
    let tell = heard.clone();
    let mut builder = BatchBuilder::new(Arc::new(Origin::new("t", "t")));
    builder.push(b"x");
    queue.push(builder.finish(Receipt::new(move |o| *tell.lock().unwrap() = Some(o)))).await;
    let lease = inlet.recv().await.unwrap();
    queue.abort();
    drop(lease);
    let m = queue.meter().snapshot();
    assert_eq!((m.dropped(Reason::Aborted), m.queued_events, m.balances()), (1, 0, true));
    assert_eq!(*heard.lock().unwrap(), Some(Outcome::Lost));
}

/// A stuck sink is a state to look at, not a moment that passes.
/// Otherwise the sinks that stay would get again what they have had, and a disk buffer before a link would wait for it
/// for ever.
#[tokio::test]
async fn what_the_sink_of_an_abandoned_queue_had_in_hand_is_dropped_and_not_lost() {
    let (queue, mut inlet) = queue(10, WhenFull::Block);
    let heard: Arc<Mutex<Vec<Outcome>>> = Arc::default();
    let batch = || {
        let (tell, mut builder) = (heard.clone(), BatchBuilder::new(Arc::new(Origin::new("t", "t"))));
        builder.push(b"x");
        builder.finish(Receipt::new(move |outcome| tell.lock().unwrap().push(outcome)))
    };
    queue.push(batch()).await;
    queue.push(batch()).await;
    let in_hand = inlet.recv().await.unwrap();
    queue.abandon();
    drop((in_hand, inlet));
    queue.push(batch()).await;
    assert_eq!(*heard.lock().unwrap(), [Outcome::Dropped; 3]);
    assert!(queue.meter().snapshot().balances());
}

#[tokio::test]
async fn accounts_balance_while_a_producer_waits() {
    let (queue, mut inlet) = queue(10, WhenFull::Block);
    let mut push = Box::pin(queue.push(numbered(0..25)));
    assert!(futures_util::poll!(&mut push).is_pending());
    let m = queue.meter().snapshot();
    assert_eq!((m.received_events, m.queued_events), (10, 10));
    inlet.try_recv().unwrap().delivered();
    assert!(futures_util::poll!(&mut push).is_pending());
    assert!(queue.meter().snapshot().balances());
    drop(push);
    assert_eq!(drain(&mut inlet), (10..20).collect::<Vec<_>>());
    let m = queue.meter().snapshot();
    assert_eq!((m.received_events, m.dropped(Reason::Aborted), m.balances()), (25, 5, true));
}

/// A producer of single rows takes whatever room a slow sink makes; one that needs more room must get its turn.
#[tokio::test]
async fn a_large_batch_is_not_starved_by_small_ones() {
    let (queue, mut inlet) = queue(100, WhenFull::Block);
    queue.push(numbered(0..100)).await;
    assert_eq!(drain(&mut inlet).len(), 100);
    for i in 0..100 {
        queue.push(numbered(i..i + 1)).await;
    }
    let large = task::spawn({
        let queue = queue.clone();
        async move { queue.push(numbered(0..60)).await }
    });
    tokio::task::yield_now().await;
    let small = task::spawn({
        let queue = queue.clone();
        async move {
            loop {
                queue.push(numbered(0..1)).await;
            }
        }
    });
    for _ in 0..300 {
        inlet.recv().await.unwrap().delivered();
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    assert!(large.is_finished());
    small.abort();
}

/// What a producer, its sink or an impatient caller may do next.
#[derive(Debug, Clone)]
enum Step {
    Push(u32),
    Cancel(usize),
    Take,
    Settle(usize),
    GiveBack(usize),
    Panic(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..60).prop_map(Step::Push),
        1 => (0usize..8).prop_map(Step::Cancel),
        3 => Just(Step::Take),
        2 => (0usize..8).prop_map(Step::Settle),
        1 => (0usize..8).prop_map(Step::GiveBack),
        1 => (0usize..8).prop_map(Step::Panic),
    ]
}

proptest! {
    /// Whatever happens, the accounts balance at every step, rows stay in order, and nobody waits for ever.
    #[test]
    fn blocking_conserves_orders_and_ends(
        events_max in 1u64..50, bytes_max in 1u64..2000, steps in proptest::collection::vec(step(), 1..80),
    ) {
        let bounds = Bounds { events_max, bytes_max, when_full: WhenFull::Block };
        let queue = Queue::new(bounds, Arc::new(Meter::default()));
        let mut inlet = Inlet::new(queue.clone());
        let (mut pushes, mut leases, mut next, mut got) = (Vec::new(), Vec::new(), 0, Vec::new());
        let at = |i: usize, len: usize| i.min(len.saturating_sub(1));
        for step in steps {
            match step {
                Step::Push(n) => {
                    pushes.push(Box::pin(queue.push(numbered(next..next + n))));
                    next += n;
                }
                Step::Cancel(i) if !pushes.is_empty() => drop(pushes.remove(at(i, pushes.len()))),
                Step::Take => leases.extend(inlet.try_recv()),
                Step::Settle(i) if !leases.is_empty() => {
                    let lease: Lease = leases.remove(at(i, leases.len()));
                    got.extend(rows(&lease));
                    lease.delivered();
                }
                Step::GiveBack(i) if !leases.is_empty() => drop(leases.remove(at(i, leases.len()))),
                Step::Panic(i) if !leases.is_empty() => panic_with(leases.remove(at(i, leases.len()))),
                _ => {}
            }
            pushes.retain_mut(|push| push.now_or_never().is_none());
            prop_assert!(queue.meter().snapshot().balances());
        }
        leases.clear();
        let mut rest = Vec::new();
        for _ in 0..10_000 {
            let taken = inlet.try_recv();
            let idle = taken.is_none();
            rest.extend(taken.iter().flat_map(rows));
            taken.into_iter().for_each(Lease::delivered);
            pushes.retain_mut(|push| push.now_or_never().is_none());
            if idle && pushes.is_empty() {
                break;
            }
        }
        prop_assert!(pushes.is_empty(), "somebody waits for ever");
        prop_assert!(rest.is_sorted());
        let end = queue.meter().snapshot();
        prop_assert!(end.balances() && end.queued_events == 0);
        prop_assert_eq!(end.delivered_events as usize, got.len() + rest.len());
        prop_assert_eq!(end.received_events, u64::from(next));
    }
}
