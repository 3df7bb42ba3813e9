//! States that a receiver's answers bring a sink into, and that it must leave again, in simulated time.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use tokio::io::AsyncReadExt;

use super::hostile_tests::{Deaf, Scene, say, scene};
use super::*;
use crate::base::clock::{self, Instant};
use crate::base::rng::Rng;
use crate::base::task;
use crate::batch::Batch;
use crate::flow::{Reason, State};
use crate::net::dial::{Connection, Dial, Endpoint};
use crate::net::upstream::{BreakerPolicy, Strategy, Trials, Upstreams};

/// Answers every request at once, differently from its second minute on, and counts them.
#[derive(Debug)]
struct Mends {
    begun: Instant,
    answers: [&'static str; 2],
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Dial for Mends {
    async fn dial(&self, _: &Endpoint) -> io::Result<Connection> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let (begun, answers, asked) = (self.begun, self.answers, self.asked.clone());
        task::spawn(async move {
            let (mut chunk, mut seen) = ([0; 4096], Vec::new());
            while let Ok(n @ 1..) = theirs.read(&mut chunk).await {
                seen.extend_from_slice(&chunk[..n]);
                let is_whole =
                    seen.ends_with(b"\n") && (seen.starts_with(b"GET") || !seen.ends_with(b"\r\n"));
                if is_whole {
                    seen.clear();
                    asked.fetch_add(1, Relaxed);
                    let answer = answers[usize::from(begun.elapsed() >= Duration::from_secs(60))];
                    say(&mut theirs, &format!("{answer}\r\ncontent-length: 0\r\n\r\n")).await;
                }
            }
        });
        Ok(Connection::over(ours))
    }
}

fn client(path: &str, method: Method, dial: Arc<dyn Dial>) -> Arc<Client> {
    let target = Target::parse(&format!("http://receiver.test{path}")).unwrap();
    Arc::new(Client::new(target, method, Duration::from_secs(30), dial))
}

fn mends(answers: [&'static str; 2]) -> (Arc<dyn Dial>, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    (Arc::new(Mends { begun: clock::now(), answers, asked: asked.clone() }), asked)
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_was_mended_is_ready_though_it_refuses_the_row() {
    let Scene { mut cx, queue, mut inlet, options, .. } = scene(1, Concurrency::Fixed(1), None, 1);
    cx.shared = Arc::default();
    cx.ready();
    let (dial, _) = mends(["401 Who", "422 Not That"]);
    let clients = vec![client("/", Method::POST, dial)];
    queue.push(Batch::from_lines("t", ["row"])).await;
    let health = cx.health.clone();
    let between = Arc::new(Mutex::new(None));
    let watching = task::spawn({
        let (between, queue) = (between.clone(), queue.clone());
        async move {
            tokio::time::sleep(Duration::from_secs(50)).await;
            *between.lock().unwrap() = Some(matches!(health.state(), State::Restarting { .. }));
            tokio::time::sleep(Duration::from_secs(100)).await;
            queue.close();
        }
    });
    let dispatch = Dispatch::new(DispatchOptions { clients, dead_letter: None, ..options }, &cx);
    dispatch.run(&mut inlet).await;
    watching.await.unwrap();
    assert_eq!(*between.lock().unwrap(), Some(true), "somebody must mend something");
    assert_eq!(queue.meter().snapshot().dropped(Reason::Rejected), 1);
    assert_eq!((cx.health.state(), cx.health.is_failing()), (State::Ready, false));
}

#[tokio::test(start_paused = true)]
async fn one_that_never_answers_for_its_health_keeps_no_other_from_being_asked() {
    let Scene { mut cx, queue, mut inlet, options, .. } = scene(1, Concurrency::Fixed(1), None, 3);
    cx.shared = Arc::default();
    let (away, asked) = mends(["500 No", "200 OK"]);
    let (broken, _) = mends(["500 No", "500 No"]);
    let (well, _) = mends(["200 OK", "200 OK"]);
    let clients = [broken, away.clone(), well.clone()].map(|dial| client("/in", Method::POST, dial)).to_vec();
    let probes = [Arc::new(Deaf) as Arc<dyn Dial>, away, well].map(|dial| client("/up", Method::GET, dial));
    let probes = Some(Probes { clients: probes.to_vec(), interval: Duration::from_secs(1) });
    let (trials, pause_max) = (Trials::Probe, Duration::from_secs(1));
    let policy = BreakerPolicy { trials, pause_max, ..BreakerPolicy::default() };
    let places = ["a", "b", "c"].map(|host| Endpoint::new(host, 80)).to_vec();
    let upstreams = Upstreams::new(places, Strategy::Failover, policy, Rng::seeded(1));
    let options = DispatchOptions { clients, upstreams, probes, dead_letter: None, ..options };
    queue.push(Batch::from_lines("t", ["row"])).await;
    let ending = task::spawn(async move {
        tokio::time::sleep(Duration::from_secs(50)).await;
        queue.close();
    });
    Dispatch::new(options, &cx).run(&mut inlet).await;
    ending.await.unwrap();
    let asked = asked.load(Relaxed);
    assert!((40..=60).contains(&asked), "asked {asked} times in 50 s");
}
