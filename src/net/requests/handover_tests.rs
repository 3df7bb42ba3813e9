//! What is not the receiver's fault alone: another sink takes over while nothing moves, and one of several receivers
//! is dead, in simulated time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use super::hostile_tests::{Deaf, Scene, say, scene};
use super::*;
use crate::base::clock;
use crate::base::task;
use crate::batch::Batch;
use crate::flow::Inlet;
use crate::net::dial::{Connection, Dial, Endpoint};
use crate::net::upstream::{BreakerPolicy, Strategy, Upstreams};
use crate::testing;

const TIMEOUT: Duration = Duration::from_secs(30);

fn client(host: &str, dial: Arc<dyn Dial>) -> Arc<Client> {
    let target = Target::parse(&format!("http://{host}/")).unwrap();
    Arc::new(Client::new(target, Method::POST, TIMEOUT, dial))
}

/// Nobody is there.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Dial for Nobody {
    async fn dial(&self, _: &Endpoint) -> io::Result<Connection> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

/// A reload gives the rows of a dead receiver to a new sink: the old one lets go in time for that.
#[tokio::test(start_paused = true)]
async fn what_a_dead_receiver_did_not_take_is_handed_over() {
    let dead: [Arc<dyn Dial>; 2] = [Arc::new(Deaf), Arc::new(Nobody)];
    for dial in dead {
        let Scene { cx, queue, options, inlet: mut next, .. } = scene(1, Concurrency::Fixed(3), None, 1);
        let release = CancellationToken::new();
        let mut inlet = Inlet::releasable(queue.clone(), release.clone());
        let clients = vec![client("dead.test", dial)];
        queue.push(Batch::from_lines("t", (0..400).map(|i| format!("row {i} {:60}", ' ')))).await;
        let running = task::spawn(async move {
            let dispatch = Dispatch::new(DispatchOptions { clients, ..options }, &cx);
            dispatch.run(&mut inlet).await;
        });
        tokio::time::sleep(Duration::from_secs(100)).await;
        let before = clock::now();
        release.cancel();
        running.await.unwrap();
        assert!(clock::now() - before < Duration::from_secs(2), "{:?}", clock::now() - before);
        let lines = testing::take_lines(&mut next);
        assert_eq!(lines.len(), 400);
        let in_order = |i: usize, line: &Vec<u8>| line.starts_with(format!("row {i} ").as_bytes());
        assert!(lines.iter().enumerate().all(|(i, line)| in_order(i, line)), "in order");
        assert_eq!(queue.meter().snapshot().dropped_total(), 0);
    }
}

/// Answers every request at once with the same status.
#[derive(Debug)]
struct Says(&'static str);

#[async_trait]
impl Dial for Says {
    async fn dial(&self, _: &Endpoint) -> io::Result<Connection> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let answer = self.0;
        task::spawn(async move {
            let mut chunk = [0; 4096];
            let mut seen = Vec::new();
            while let Ok(n @ 1..) = theirs.read(&mut chunk).await {
                seen.extend_from_slice(&chunk[..n]);
                if seen.ends_with(b"\n") && !seen.ends_with(b"\r\n") {
                    seen.clear();
                    say(&mut theirs, &format!("{answer}\r\ncontent-length: 0\r\n\r\n")).await;
                }
            }
        });
        Ok(Connection::over(ours))
    }
}

/// A row a second for ten minutes, one request at a time, the first of three receivers dead in some way: returns the
/// longest time a row waited after the first minute, and how many seconds rows waited together, per row.
async fn with_a_dead_first(first: Arc<dyn Dial>, strategy: Strategy) -> (u64, u64) {
    let Scene { cx, queue, mut inlet, options, .. } = scene(3, Concurrency::Fixed(1), None, 3);
    let well = || -> Arc<dyn Dial> { Arc::new(Says("204 Thanks")) };
    let clients = vec![client("a", first), client("b", well()), client("c", well())];
    let places = ["a", "b", "c"].map(|host| Endpoint::new(host, 80)).to_vec();
    let upstreams =
        Upstreams::new(places, strategy, BreakerPolicy::default(), crate::base::rng::Rng::seeded(1));
    let writing = task::spawn({
        let queue = queue.clone();
        async move {
            let (mut longest, mut together) = (0, 0);
            for i in 0..600 {
                queue.push(Batch::from_lines("t", [format!("row {i}")])).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                let waiting = queue.meter().snapshot().queued_events;
                if i > 60 {
                    longest = longest.max(waiting);
                    together += waiting;
                }
            }
            queue.close();
            (longest, together)
        }
    });
    Dispatch::new(DispatchOptions { clients, upstreams, ..options }, &cx).run(&mut inlet).await;
    let counts = queue.meter().snapshot();
    assert_eq!((counts.delivered_events, counts.dropped_total()), (600, 0));
    writing.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_dead_receiver_of_three_does_not_stall_the_others() {
    for strategy in [Strategy::Failover, Strategy::RoundRobin, Strategy::LeastPending] {
        let (longest, together) = with_a_dead_first(Arc::new(Deaf), strategy).await;
        println!("{strategy:?}, hangs: {longest} s at most, {together} row seconds");
        assert!(longest <= 6 && together < 600, "{strategy:?}, hangs: {longest} {together}");
        for answer in ["404 Not Here", "429 Slow\r\nretry-after: 20", "500 Oh No"] {
            let (longest, together) = with_a_dead_first(Arc::new(Says(answer)), strategy).await;
            println!("{strategy:?}, {answer}: {longest} s at most, {together} row seconds");
            assert!(longest <= 1 && together < 60, "{strategy:?}, {answer}: {longest} {together}");
        }
        let (longest, together) = with_a_dead_first(Arc::new(Nobody), strategy).await;
        assert!(longest <= 1 && together < 60, "{strategy:?}, refuses: {longest} {together}");
    }
}
