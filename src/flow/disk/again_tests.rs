//! Rows that the sink has lost come again within the same life: to a sink that is still there, and to one that takes
//! over from one that has ended. Each row once, in order, with accounts that balance at every step.

use super::DiskFull;
use super::model_tests::Model;
use super::passing_tests::{Life, batch, options, pause, recovered};
use crate::batch::Outcome;
use crate::flow::MeterSnapshot;
use crate::flow::queue::Inlet;

fn assert_at_rest(counts: &MeterSnapshot, delivered: u64) {
    assert!(counts.balances(), "{counts:?}");
    assert_eq!(
        (counts.delivered_events, counts.queued_events, counts.dropped_total()),
        (delivered, 0, 0),
        "{counts:?}"
    );
}

impl Life {
    /// The sink ends with what it has in hand, and stays away.
    async fn sink_ends(&mut self) {
        drop(self.inlet.take());
        self.gone.cancel();
        pause(20).await;
    }

    /// Another one takes over.
    async fn sink_comes(&mut self) {
        self.gone = self.control.another_sink();
        self.back.reopened().await;
        self.inlet = Some(Inlet::new(self.back.clone()));
    }

    /// Takes what there is, row by row, as a sink that settles at once.
    async fn rows(&mut self, events: usize) -> Vec<String> {
        let mut rows = Vec::new();
        while rows.len() < events {
            let lease = tokio::time::timeout(std::time::Duration::from_secs(30), self.next());
            let lease = lease.await.unwrap_or_else(|_| panic!("only {rows:?}"));
            rows.extend(lease.batch().lines().map(|(_, l)| String::from_utf8_lossy(&l[..8]).into_owned()));
            lease.delivered();
        }
        rows
    }
}

fn rows_of(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.flat_map(|n| (0..3).map(move |row| format!("{n:06}.{row}"))).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_pipeline_behind_the_sink_has_lost_comes_again_before_what_is_newer() {
    // Whether it is on disk when it is lost.
    for late in [0, 200] {
        let mut life = Life::on(&Model::default(), options(DiskFull::Block)).await.unwrap();
        for n in 0..3 {
            life.push(n).await;
        }
        let (first, second) = (life.next().await.forward().unwrap(), life.next().await.forward().unwrap());
        pause(late).await;
        second.settle(Outcome::Delivered);
        drop(first);
        pause(10).await;
        life.push(3).await;
        let counts = life.counts();
        assert!(counts.balances() && counts.queued_events == 9, "{counts:?}");
        pause(200).await;
        let rows = life.rows(9).await;
        assert_eq!(rows, [rows_of(0..1), rows_of(2..4)].concat(), "{late}");
        pause(200).await;
        assert_at_rest(&life.counts(), 12);
        assert!(life.heard.lock().unwrap().values().all(|o| *o == Outcome::Delivered));
        life.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_batch_that_ended_in_parts_only_the_lost_part_comes_again() {
    let model = Model::default();
    let mut life = Life::on(&model, options(DiskFull::Block)).await.unwrap();
    life.push(0).await;
    life.push(1).await;
    let mut lease = life.next().await;
    pause(100).await;
    lease.split_to(1).delivered();
    let lost = lease.split_to(1).forward().unwrap();
    lease.dropped(crate::flow::Reason::Rejected);
    drop(lost);
    let rows = life.rows(4).await;
    assert_eq!(rows[..3], rows_of(1..2), "it had been handed over before");
    assert_eq!(rows[3], "000000.1");
    pause(200).await;
    let counts = life.counts();
    assert!(counts.balances() && counts.queued_events == 0, "{counts:?}");
    assert_eq!((counts.delivered_events, counts.dropped(crate::flow::Reason::Rejected)), (5, 1));
    life.kill().await;
    assert!(recovered(model).await.is_empty(), "all of it is settled");
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_loses_rows_for_long_stalls_nothing_and_gets_them_in_the_end() {
    let mut life = Life::on(&Model::default(), options(DiskFull::Block)).await.unwrap();
    // Ten times what may be in the sink's hands, all of it lost time and again.
    let (front, heard) = (life.front.clone(), life.heard.clone());
    let source = crate::base::task::spawn(async move {
        for n in 0..300 {
            front.push(batch(n, &heard)).await;
        }
    });
    let (until, mut lost) = (crate::base::clock::now() + std::time::Duration::from_secs(20), 0);
    // To the end of what was handed over together: what is left of that would come before what was lost of it.
    loop {
        match tokio::time::timeout(std::time::Duration::from_millis(50), life.next()).await {
            Ok(lease) => {
                drop(lease.forward());
                lost += 1;
            }
            Err(_) if crate::base::clock::now() >= until => break,
            Err(_) => {}
        }
    }
    assert!(lost > 300, "after pauses, each time what fits: {lost}");
    assert!(lost < 3_000, "it does not spin: {lost}");
    assert_eq!(life.rows(900).await, rows_of(0..300));
    source.await.unwrap();
    pause(200).await;
    assert_at_rest(&life.counts(), 900);
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_takes_over_gets_what_the_one_before_had_lost_first() {
    let model = Model::default();
    let mut life = Life::on(&model, options(DiskFull::Block)).await.unwrap();
    for n in 0..4 {
        life.push(n).await;
    }
    let mut lease = life.next().await;
    lease.split_to(2).delivered();
    let onward = life.next().await.forward().unwrap();
    drop(lease);
    life.sink_ends().await;
    for n in 4..60 {
        life.push(n).await;
    }
    pause(200).await;
    let counts = life.counts();
    assert!(counts.balances() && counts.stored_events == 178, "{counts:?}");
    life.sink_comes().await;
    drop(onward);
    let rows = life.rows(178).await;
    let (first, again) = (vec!["000000.2".to_owned()], rows_of(1..2));
    let others: Vec<_> = rows.iter().filter(|row| !again.contains(row)).cloned().collect();
    assert_eq!(others, [first, rows_of(2..60)].concat(), "in order");
    pause(200).await;
    assert_at_rest(&life.counts(), 180);
    // And it is a sink like any other: it may end, and be followed.
    life.push(60).await;
    let held = life.next().await;
    life.sink_ends().await;
    drop(held);
    life.sink_comes().await;
    assert_eq!(life.rows(3).await, rows_of(60..61));
    life.front.close();
    assert!(life.inlet.as_mut().unwrap().recv().await.is_none(), "it ends in order");
    life.kill().await;
    assert!(recovered(model).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_takes_again_is_delivered_after_the_restart() {
    let model = Model::default();
    let mut life = Life::on(&model, options(DiskFull::Block)).await.unwrap();
    for n in 0..3 {
        life.push(n).await;
    }
    let lost = life.next().await.forward().unwrap();
    pause(100).await;
    // The end comes between the loss and the next try.
    drop(lost);
    pause(10).await;
    let (counts, _) = life.kill().await;
    assert!(counts.balances() && counts.stored_events == 9 && counts.dropped_total() == 0, "{counts:?}");
    assert_eq!(recovered(model).await, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_ends_when_nothing_more_comes_is_the_end_of_the_buffer() {
    let model = Model::default();
    let mut life = Life::on(&model, options(DiskFull::Block)).await.unwrap();
    life.push(0).await;
    let held = life.next().await;
    life.front.close();
    // On disk, handed over, and nothing behind it: the sink's queue is closed.
    pause(1_000).await;
    drop(held);
    drop(life.inlet.take());
    pause(10).await;
    life.gone.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(5), &mut life.stage).await.expect("it ends").unwrap();
    assert_eq!(recovered(model).await, [0]);
}
