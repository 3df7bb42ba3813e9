//! Queues that get files behind them in any weather: decided early, late, or against it, with rows coming, options that
//! change and sinks that end meanwhile. Given back, the queue is as it was; kept, each row is accounted for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::lives_tests::{POLICIES, any_options, each};
use super::passing_tests::{Heard, batch, number, pause};
use super::stage::{DiskBuffer, Stage};
use super::weather_tests::{BAD, Weather, away};
use crate::base::rng::Rng;
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::flow::{Bounds, Inlet, Meter, Queue, WhenFull};

const SEEDS: u64 = 200;
const STEPS: u64 = 30;

/// Takes what there is, in order unless a sink has lost some.
fn deliver(inlet: &mut Inlet, last: &mut Option<u64>, lost: bool) -> u64 {
    let mut events = 0;
    while let Some(lease) = inlet.try_recv() {
        let number = number(lease.batch());
        assert!(lost || last.is_none_or(|last| last < number), "{number} after {last:?}");
        *last = Some(number);
        events += lease.batch().events();
        lease.delivered();
    }
    events
}

async fn live(seed: u64) {
    let (mut rng, disk, heard) = (Rng::seeded(seed), Weather::default(), Heard::default());
    let (meter, shutdown) = (Arc::new(Meter::default()), Shutdown::new());
    let bounds = Bounds { events_max: 10_000, bytes_max: 64 << 20, when_full: WhenFull::Block };
    let queue = Queue::new(bounds, meter.clone());
    let (mut pushed, mut last, mut delivered, mut lost) = (0..5, None, 0, false);
    for n in pushed.by_ref() {
        queue.push(batch(n, &heard)).await;
    }
    let mut numbers = 5..;
    if rng.below(3) > 0 {
        disk.turns(if rng.below(2) == 0 { away } else { BAD[rng.below(BAD.len() as u64) as usize] });
    }
    let (mut buffer, inlet, handover) = DiskBuffer::take_over(&queue, any_options(&mut rng, &POLICIES));
    buffer.storage = Arc::new(disk.clone());
    let (control, back, status) = (buffer.control().clone(), buffer.back.clone(), buffer.status().clone());
    let (mut inlet, mut gone) = (inlet, CancellationToken::new());
    let (ends, sink) = (shutdown.clone(), gone.clone());
    let stage = task::spawn(async move {
        let tell = oneshot::channel().0;
        if let Some(stage) = Stage::open(buffer, "/b".into(), "t".into(), ends, sink, tell).await {
            stage.run().await;
        }
    });
    let (decision, keeps) = (rng.below(STEPS), rng.below(3) > 0);
    for step in 0..STEPS {
        if step == decision {
            let before = Inlet::releasable(queue.clone(), CancellationToken::new());
            assert_eq!((before.waiting_events(), meter.snapshot().dropped_total()), (numbers.start * 3, 0));
            drop(before.give_back());
            if !keeps {
                break;
            }
            control.set(any_options(&mut rng, &POLICIES));
            assert!(handover.keep());
        }
        let decided = step >= decision;
        match rng.below(9) {
            0..=2 => {
                for n in numbers.by_ref().take(rng.below(5) as usize) {
                    let (queue, batch) = (queue.clone(), batch(n, &heard));
                    tokio::time::timeout(Duration::from_secs(3_600), queue.push(batch)).await.ok();
                }
            }
            3 => disk.turns(BAD[rng.below(BAD.len() as u64) as usize]),
            4 => disk.clears_up(),
            5 if decided => control.set(any_options(&mut rng, &POLICIES)),
            6 if decided => {
                // It fails for good, and another one follows.
                drop(inlet);
                gone.cancel();
                pause(rng.below(9_000)).await;
                gone = control.another_sink();
                tokio::time::timeout(Duration::from_secs(1), back.reopened())
                    .await
                    .expect("it starts at once");
                (inlet, lost) = (Inlet::new(back.clone()), true);
            }
            _ => delivered += deliver(&mut inlet, &mut last, lost),
        }
        assert!(decided || delivered == 0);
        pause([0, 20, 400, 3_000, 9_000][rng.below(5) as usize]).await;
    }
    if !keeps {
        assert!(handover.give_back() && !inlet.is_finished());
        tokio::time::timeout(Duration::from_secs(1), stage).await.expect("it ends").unwrap();
        delivered += deliver(&mut Inlet::new(queue.clone()), &mut last, lost);
        assert_eq!((delivered, meter.snapshot().queued_events), (numbers.start * 3, 0));
        return;
    }
    disk.clears_up();
    for _ in 0..600 {
        delivered += deliver(&mut inlet, &mut last, lost);
        pause(50).await;
    }
    let counts = meter.snapshot();
    let context = format!("{lost} {counts:?} {:?}", status.snapshot());
    assert!(counts.balances() && (counts.queued_events, counts.stored_events) == (0, 0), "{context}");
    assert_eq!(
        (counts.received_events, counts.delivered_events),
        (numbers.start * 3, delivered),
        "{context}"
    );
    assert_eq!(heard.lock().unwrap().len() as u64, numbers.start, "{context}");
    assert_eq!(status.snapshot().state(), "ok", "{context}");
    queue.close();
    assert!(inlet.recv().await.is_none());
    tokio::time::timeout(Duration::from_secs(1), stage).await.expect("it ends").unwrap();
}

#[test]
fn whatever_the_weather_a_queue_goes_on_or_back_as_a_whole() {
    each(0..SEEDS, live);
}
