//! What the committer promises: who comes together goes together, a lone request waits for nobody, each hears of its
//! own events, and nobody waits for ever.

use std::net::Ipv4Addr;

use bytes::Bytes;

use super::*;
use crate::base::task;
use crate::codec::decode::{BodyKind, decode};
use crate::flow::{Bounds, Branch, Chain, Inlet, Intake, Meter, Queue, RateLimit, TokenBucket, WhenFull};
use crate::net::body::Budget;
use crate::testing;

const SETTLE: Duration = Duration::from_secs(30);

fn sender(last: u8) -> Sender {
    Sender { address: Ipv4Addr::new(10, 0, 0, last).into(), name: None }
}

fn lines(text: &str) -> Events {
    decode(BodyKind::Lines, Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

struct Bench {
    committer: Arc<Committer>,
    shutdown: Shutdown,
    budget: Arc<Budget>,
    event_bytes_max: Option<u64>,
}

impl Bench {
    /// A committer that runs into `out`.
    fn over(out: Outlet) -> Bench {
        let (committer, shutdown) =
            (Committer::new("test.source.0.http".to_owned(), SETTLE), Shutdown::new());
        let running = (committer.clone(), shutdown.clone());
        let event_bytes_max = out.event_bytes_max();
        drop(task::spawn(async move { running.0.run(&out, &running.1).await }));
        Bench { committer, shutdown, budget: Budget::new(1 << 20), event_bytes_max }
    }

    fn submit(&self, from: u8, text: &str) -> Ticket {
        let events = lines(text);
        self.committer.submit(&sender(from), events, self.event_bytes_max, self.budget.share()).unwrap()
    }
}

/// A pipeline whose buffer holds `events_max`, with a rate limit.
fn pipeline(events_max: u64, limit: Option<RateLimit>) -> (Outlet, Inlet) {
    let bounds = Bounds { events_max, bytes_max: 1 << 20, when_full: WhenFull::Block };
    let queue = Queue::new(bounds, Arc::new(Meter::default()));
    let branches = vec![Branch { chain: None, queue: queue.clone() }];
    let intake = Intake::new(limit, Chain::default(), branches, Arc::new(Meter::default()));
    (Outlet::new(Arc::new(intake), Arc::new(Meter::default())), Inlet::new(queue))
}

fn settled(outcome: Outcome, rate_limited: u64, oversize: u64) -> Verdict {
    Verdict::Settled { outcome, rate_limited, oversize }
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_together_share_a_batch_by_sender() {
    let (out, mut inlet) = testing::pipeline();
    let bench = Bench::over(out);
    let tickets = [bench.submit(1, "a\nb"), bench.submit(2, "c"), bench.submit(1, "d")];
    let first = inlet.recv().await.unwrap();
    let rows: Vec<_> = first.batch().lines().map(|(_, l)| String::from_utf8_lossy(l).into_owned()).collect();
    assert_eq!(rows, ["a", "b", "d"]);
    assert_eq!(first.batch().arena().origin().label(), "10.0.0.1");
    let second = inlet.recv().await.unwrap();
    assert_eq!(second.batch().arena().origin().label(), "10.0.0.2");
    first.delivered();
    assert_eq!(tickets[0].verdict().await, settled(Outcome::Delivered, 0, 0));
    assert_eq!(tickets[2].verdict().await, settled(Outcome::Delivered, 0, 0));
    drop(second);
    drop(inlet);
    // The sink is gone and has given nothing back.
    assert_eq!(tickets[1].verdict().await, settled(Outcome::Lost, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lone_request_waits_for_no_clock() {
    let (out, mut inlet) = testing::pipeline();
    let bench = Bench::over(out);
    let before = clock::now();
    for _ in 0..100 {
        let ticket = bench.submit(1, "x");
        inlet.recv().await.unwrap().delivered();
        assert_eq!(ticket.verdict().await, settled(Outcome::Delivered, 0, 0));
    }
    assert_eq!(clock::now(), before);
}

#[tokio::test(start_paused = true)]
async fn each_request_hears_how_many_of_its_own_events_the_limit_refused() {
    let bucket = TokenBucket::new(1.0, 4.0, clock::now());
    let limit = RateLimit { bucket: Some(bucket), block: false, event_bytes_max: Some(3) };
    let (out, mut inlet) = pipeline(100, Some(limit));
    let bench = Bench::over(out);
    let tickets = [
        bench.submit(1, "a\nlong\nb"),
        bench.submit(1, "c\nd\ne"),
        bench.submit(1, "f\ng"),
        bench.submit(1, "longer"),
    ];
    assert_eq!(testing::wait_lines(&mut inlet, 4).await, [b"a", b"b", b"c", b"d"]);
    let mut heard = Vec::new();
    for ticket in &tickets {
        heard.push(ticket.verdict().await);
    }
    let dropped = |rate_limited, oversize| settled(Outcome::Dropped, rate_limited, oversize);
    assert_eq!(heard, [dropped(0, 1), dropped(1, 0), dropped(2, 0), dropped(0, 1)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_sent_in_time_is_taken_back_and_what_is_sent_goes_on() {
    let (out, mut inlet) = pipeline(1, None);
    let bench = Bench::over(out);
    let began = clock::now();
    let first = bench.submit(1, "first");
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    // The buffer is full now: this one is on its way in, and waits.
    let second = bench.submit(1, "second");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let third = bench.submit(1, "third");
    assert_eq!(first.verdict().await, Verdict::Unsettled);
    assert_eq!(clock::now() - began, SETTLE);
    assert_eq!(second.verdict().await, Verdict::Unsettled);
    assert_eq!(third.verdict().await, Verdict::Refused);
    assert_eq!(clock::now() - began, SETTLE + Duration::from_secs(1));
    // What had been sent is delivered all the same, once; what was taken back is not.
    let fourth = bench.submit(1, "fourth");
    assert_eq!(testing::wait_lines(&mut inlet, 3).await, [&b"first"[..], b"second", b"fourth"]);
    assert_eq!(fourth.verdict().await, settled(Outcome::Delivered, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_end_sends_what_waits_and_takes_in_no_more() {
    let (out, mut inlet) = testing::pipeline();
    let bench = Bench::over(out);
    let last = bench.submit(1, "last");
    bench.shutdown.drain();
    assert_eq!(testing::wait_lines(&mut inlet, 1).await, [b"last"]);
    assert_eq!(last.verdict().await, settled(Outcome::Delivered, 0, 0));
    let refused = bench.committer.submit(&sender(1), lines("late"), None, bench.budget.share());
    assert!(refused.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_make_anybody_wait_for_ever() {
    let (out, mut inlet) = testing::pipeline();
    let bench = Bench::over(out);
    let began = clock::now();
    let last = bench.submit(1, "last");
    let lease = inlet.recv().await.unwrap();
    bench.shutdown.drain();
    let waited = tokio::time::timeout(SETTLE * 2, last.verdict()).await;
    assert_eq!(waited, Ok(Verdict::Unsettled));
    assert_eq!(clock::now() - began, SETTLE);
    lease.delivered();
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_given_up_refuses_what_it_has_not_sent() {
    let (out, _inlet) = testing::pipeline();
    let committer = Committer::new("test.source.0.http".to_owned(), SETTLE);
    let budget = Budget::new(100);
    let shutdown = Shutdown::new();
    let running = Box::pin(committer.run(&out, &shutdown));
    let ticket = committer.submit(&sender(1), lines("x"), None, budget.share()).unwrap();
    // Polled once, so that it has begun, and then dropped.
    let mut running = running;
    assert!(futures_util::poll!(&mut running).is_pending());
    drop(running);
    assert_eq!(ticket.verdict().await, Verdict::Refused);
}

#[tokio::test(start_paused = true)]
async fn large_requests_are_batches_of_their_own_and_are_not_copied() {
    let (out, mut inlet) = testing::pipeline();
    let bench = Bench::over(out);
    let text = format!("{}\n", "x".repeat(WHOLE_BYTES));
    let events = lines(&text);
    let place = events.text.as_ptr();
    let mut share = bench.budget.share();
    assert!(share.resize(events.text.len()));
    let large = bench.committer.submit(&sender(1), events, None, share).unwrap();
    let small = bench.submit(1, "small");
    let first = inlet.recv().await.unwrap();
    assert_eq!(first.batch().arena().text().as_ptr(), place);
    assert_eq!(inlet.recv().await.unwrap().batch().events(), 1);
    first.delivered();
    assert_eq!(large.verdict().await, settled(Outcome::Delivered, 0, 0));
    drop(small);
    assert!(bench.budget.share().resize(1 << 20), "the memory is free again once it is sent");
}
