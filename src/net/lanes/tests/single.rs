//! One fault at a time.

use super::network::{End, Mood, Network};
use super::*;
use crate::base::clock;
use crate::flow::{Reason, State};

/// The network on its own, stepping.
fn network(receivers: usize) -> Arc<Network> {
    let network = Network::new(receivers, false);
    drop(task::spawn(network.clone().run(Duration::from_millis(5), 3)));
    network
}

#[tokio::test(start_paused = true)]
async fn rows_are_settled_when_acknowledged_and_the_end_is_orderly() {
    let network = network(1);
    let subject = Subject::start(&network, Strategy::Failover, LIMITS, 1);
    assert_eq!(subject.ending(&["a", "", "b"]).await, Outcome::Delivered);
    network.set(0, Mood::Hangs);
    subject.push(&["c"]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(subject.queue.meter().snapshot().delivered_events, 3, "written is not delivered");
    network.set(0, Mood::Well);
    subject.finish().await;
    assert_eq!(
        (network.rows(), network.dials(), network.goodbyes()),
        (vec!["a".into(), String::new(), "b".into(), "c".into()], 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_leaves_in_a_quiet_moment_is_noticed_then() {
    let network = network(1);
    let subject = Subject::start(&network, Strategy::Failover, LIMITS, 1);
    subject.ending(&["a"]).await;
    network.end(0, End::Closed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = clock::now();
    assert_eq!(subject.ending(&["b"]).await, Outcome::Delivered);
    assert!(clock::now() - before < Duration::from_millis(100), "no pause: nothing had failed");
    assert_eq!(subject.cx.meter.snapshot().errors, 0);
    subject.finish().await;
    let rows: Vec<_> = network.deliveries().into_iter().map(|(_, rows, _)| rows).collect();
    assert_eq!(rows, [["a"], ["b"]], "nothing twice");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_is_left_and_only_what_it_did_not_take_goes_again() {
    let network = network(1);
    let subject = Subject::start(&network, Strategy::Failover, LIMITS, 1);
    network.set(0, Mood::Slow(3));
    subject.push(&["aa", "bb", "cc"]).await;
    tokio::time::sleep(Duration::from_millis(8)).await;
    network.set(0, Mood::Hangs);
    let before = clock::now();
    while network.dials() < 2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let waited = clock::now() - before;
    assert!(waited >= Duration::from_secs(29) && waited < Duration::from_secs(33), "{waited:?}");
    network.set(0, Mood::Well);
    subject.finish().await;
    let deliveries = network.deliveries();
    assert_eq!(deliveries[1].1.len(), 3 - deliveries[0].2, "{deliveries:?}");
}

#[tokio::test(start_paused = true)]
async fn while_nobody_is_there_events_wait_and_readiness_says_so() {
    let network = network(1);
    network.set(0, Mood::Down);
    let subject = Subject::start(&network, Strategy::Failover, LIMITS, 1);
    subject.cx.ready();
    subject.push(&["a"]).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(matches!(subject.cx.health.state(), State::Restarting { .. }));
    let dials = network.dials();
    assert!((120..300).contains(&dials), "{dials} attempts in an hour, pauses grow to 15 to 30 s");
    network.set(0, Mood::Well);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!((subject.cx.health.state(), network.rows()), (State::Ready, vec!["a".to_owned()]));
    subject.finish().await;
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_receiver_that_returns_gets_the_rest_within_the_deadline() {
    let network = network(1);
    network.set(0, Mood::Down);
    let subject = Subject::start(&network, Strategy::Failover, LIMITS, 1);
    subject.push(&["a"]).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    subject.cx.shutdown.drain();
    network.set(0, Mood::Well);
    let before = clock::now();
    subject.finish().await;
    assert!(clock::now() - before < Duration::from_secs(2), "the pause is cut short");
    assert_eq!(network.rows(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn attempts_have_an_end_if_they_are_given_one() {
    let network = network(1);
    network.set(0, Mood::Down);
    let limits = LaneLimits { attempts_max: Some(3), ..LIMITS };
    let subject = Subject::start(&network, Strategy::Failover, limits, 1);
    assert_eq!(subject.ending(&["a", "b"]).await, Outcome::Rejected);
    assert_eq!(network.dials(), 3);
    assert_eq!(subject.queue.meter().snapshot().dropped(Reason::Rejected), 2);
    subject.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_second_takes_over_and_the_first_comes_back() {
    let network = network(2);
    let subject = Subject::start(&network, Strategy::Failover, LIMITS, 1);
    subject.ending(&["a"]).await;
    network.set(0, Mood::Down);
    network.end(0, End::Reset);
    subject.ending(&["b"]).await;
    let before = clock::now();
    subject.ending(&["c"]).await;
    assert!(clock::now() - before < Duration::from_millis(50), "it does not try the first with our rows");
    network.set(0, Mood::Well);
    tokio::time::sleep(Duration::from_secs(31)).await;
    subject.ending(&["d"]).await;
    subject.finish().await;
    let by_receiver = |n| -> Vec<String> {
        network.deliveries().into_iter().filter(|(r, ..)| *r == n).flat_map(|(_, rows, _)| rows).collect()
    };
    assert_eq!(
        (by_receiver(0), by_receiver(1)),
        (vec!["a".into(), "d".into()], vec!["b".into(), "c".into()])
    );
}

#[tokio::test(start_paused = true)]
async fn turns_are_taken_and_a_full_one_is_passed_over() {
    for strategy in [Strategy::RoundRobin, Strategy::LeastPending] {
        let network = network(3);
        let limits = LaneLimits { window_bytes_max: 64, ..LIMITS };
        let subject = Subject::start(&network, strategy, limits, 1);
        network.set(1, Mood::Hangs);
        let mut rows: Vec<String> = (0..60).map(|i| format!("row {i:03}")).collect();
        for row in &rows {
            tokio::time::timeout(Duration::from_secs(5), subject.push(&[row])).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let taken: Vec<usize> = (0..3)
            .map(|n| network.deliveries().iter().filter(|d| d.0 == n).map(|d| d.1.len()).sum())
            .collect();
        assert!(taken[0] > 20 && taken[1] == 0 && taken[2] > 20, "{strategy:?}: {taken:?}");
        network.set(1, Mood::Well);
        subject.finish().await;
        let mut found = network.rows();
        found.sort();
        rows.sort();
        assert_eq!(found, rows, "{strategy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_window_does_not_wait_long_for_a_fast_receiver() {
    let network = network(1);
    let limits = LaneLimits { window_bytes_max: 64, ..LIMITS };
    let subject = Subject::start(&network, Strategy::Failover, limits, 1);
    let begun = crate::base::clock::now();
    for row in 0..500 {
        subject.push(&[&format!("row {row:03} {}", "z".repeat(64))]).await;
    }
    subject.finish().await;
    assert_eq!(network.rows().len(), 500);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "500 windows took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn old_connections_are_made_anew_without_a_repeat() {
    let network = network(1);
    let limits = LaneLimits { reconnect_after: Some(Duration::from_secs(10)), ..LIMITS };
    let subject = Subject::start(&network, Strategy::Failover, limits, 1);
    let rows: Vec<String> = (0..100).map(|i| format!("row {i:03}")).collect();
    for row in &rows {
        subject.push(&[row]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    subject.finish().await;
    assert_eq!(network.rows(), rows);
    assert!((9..=11).contains(&network.dials()), "{}", network.dials());
    assert_eq!(network.goodbyes(), network.dials());
}

#[tokio::test(start_paused = true)]
async fn dropped_while_it_waits_it_gives_everything_back() {
    let network = network(1);
    network.set(0, Mood::Hangs);
    let subject = Subject::start(&network, Strategy::Failover, LIMITS, 1);
    subject.push(&["a", "b"]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let Subject { queue, running, .. } = subject;
    running.abort();
    assert!(running.await.is_err());
    // The inlet went with it, so that what it gave back is counted as what it is.
    let counts = queue.meter().snapshot();
    assert!(counts.balances() && counts.dropped(Reason::Aborted) == 2, "{counts:?}");
}

/// A reload gives the rows of a receiver that hangs, or is gone, to a new sink: the old one lets go in time for that.
#[tokio::test(start_paused = true)]
async fn what_was_not_acknowledged_is_handed_over() {
    for mood in [Mood::Hangs, Mood::Down, Mood::Silent] {
        let network = network(2);
        (0..2).for_each(|receiver| network.set(receiver, mood));
        let subject = Subject::start(&network, Strategy::RoundRobin, LIMITS, 1);
        let rows: Vec<String> = (0..60).map(|i| format!("row {i:03}")).collect();
        for few in rows.chunks(3) {
            subject.push(&few.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
        tokio::time::sleep(Duration::from_secs(100)).await;
        let before = clock::now();
        subject.release.cancel();
        subject.running.await.unwrap();
        assert!(clock::now() - before < Duration::from_secs(2), "{mood:?}: {:?}", clock::now() - before);
        let mut next = Inlet::new(subject.queue.clone());
        assert_eq!(
            testing::take_lines(&mut next),
            rows.iter().map(|r| r.as_bytes()).collect::<Vec<_>>(),
            "{mood:?}"
        );
        assert_eq!(subject.queue.meter().snapshot().dropped_total(), 0);
    }
}

/// Under TLS it is not known which of our bytes have arrived, only how many of those on the wire.
#[tokio::test(start_paused = true)]
async fn a_slow_receiver_is_not_taken_for_one_that_stands_still() {
    for opaque in [false, true] {
        let network = Network::new(1, opaque);
        drop(task::spawn(network.clone().run(Duration::from_millis(50), 3)));
        network.set(0, Mood::Slow(2));
        let subject = Subject::start(&network, Strategy::Failover, LIMITS, 1);
        let row = "x".repeat(3500);
        let ending = tokio::time::timeout(Duration::from_secs(600), subject.ending(&[&row])).await;
        assert_eq!(ending.ok(), Some(Outcome::Delivered), "encrypted: {opaque}");
        assert_eq!((network.dials(), network.rows()), (1, vec![row]), "encrypted: {opaque}");
        subject.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_comes_back_with_the_receiver_whoever_found_it() {
    let network = network(1);
    let subject = Subject::start(&network, Strategy::Failover, LIMITS, 1);
    subject.ending(&["a"]).await;
    network.set(0, Mood::Hangs);
    subject.push(&["b"]).await;
    subject.push(&["c"]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    network.end(0, End::Reset);
    network.set(0, Mood::Well);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(matches!(subject.cx.health.state(), State::Restarting { .. }));
    // As on a machine that was held up: the pause is over, and the look at what was acknowledged is due, too.
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(subject.ending(&["d"]).await, Outcome::Delivered);
    assert_eq!(subject.cx.health.state(), State::Ready);
    subject.finish().await;
}

#[tokio::test(start_paused = true)]
async fn only_what_was_sent_has_used_up_an_attempt() {
    let network = network(1);
    let limits = LaneLimits { attempts_max: Some(3), ..LIMITS };
    let subject = Subject::start(&network, Strategy::Failover, limits, 1);
    // A receiver that reads on and closes its connections now and then: 4 KiB of 12 are written at a time.
    network.set(0, Mood::Hangs);
    let rows: Vec<String> = (0..12).map(|i| format!("row {i:02} {}", "x".repeat(1000))).collect();
    for row in &rows {
        subject.push(&[row]).await;
    }
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        network.set(0, Mood::Slow(3500));
        network.set(0, Mood::Hangs);
        network.end(0, End::Closed);
    }
    network.set(0, Mood::Well);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let counts = subject.queue.meter().snapshot();
    assert_eq!((counts.dropped(Reason::Rejected), counts.delivered_events), (0, 12));
    subject.finish().await;
}
