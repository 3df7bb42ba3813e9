//! Ten minutes against a receiver that resets, hangs, refuses, breaks off, drips and goes away, in simulated time and
//! from a seed: nothing is lost, nothing is repeated without cause, memory stays flat, and every refused row is kept.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::base::clock;
use crate::base::rng::Rng;
use crate::base::task;
use crate::base::units::ByteCount;
use crate::batch::Batch;
use crate::codec::compression::Compression;
use crate::codec::encode::Format;
use crate::config::{BatchOptions, ComponentKind, Environment, RetryOptions, defaults};
use crate::flow::{Bounds, Inlet, Links, Meter, Queue, Reason, TaskCx, WhenFull};
use crate::net::dial::{Connection, Dial, Endpoint};
use crate::net::upstream::{BreakerPolicy, Strategy, Upstreams};
use crate::testing;

const TIMEOUT: Duration = Duration::from_secs(10);
const STORM: Duration = Duration::from_secs(600);
/// Larger requests are answered 413.
const REQUEST_BYTES_MAX: usize = 1500;
const BUFFER_EVENTS: u64 = 500;
const REQUEST_EVENTS: u64 = 100;

/// What became of the rows, as the receiver knows it.
#[derive(Debug, Default)]
struct Record {
    /// Rows in the order in which a whole 2xx answered them.
    confirmed: Vec<u32>,
    /// How often each row was confirmed.
    times: HashMap<u32, u32>,
    /// Rows sent although a whole 2xx had answered them.
    repeated_without_cause: Vec<u32>,
    /// Rows taken, and taken again because the first answer did not arrive whole.
    stored: HashMap<u32, u32>,
    acts: HashMap<&'static str, u32>,
}

#[derive(Debug)]
struct Hostile {
    rng: Mutex<Rng>,
    begun: clock::Instant,
    record: Mutex<Record>,
    coding: Option<Compression>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Take,
    Say(&'static str),
    Hang,
    Reset,
    TakeAndBreakOff,
    Drip(u64),
}

impl Hostile {
    fn below(&self, n: u64) -> u64 {
        self.rng.lock().unwrap().below(n)
    }

    /// Ten seconds up, a few down, and so on, while the storm lasts.
    fn is_down(&self) -> bool {
        let at = self.begun.elapsed();
        at < STORM && (at.as_secs() % 30) >= 24
    }

    fn note(&self, act: &'static str) {
        *self.record.lock().unwrap().acts.entry(act).or_default() += 1;
    }

    fn act(&self) -> (&'static str, Act) {
        if self.begun.elapsed() >= STORM {
            return ("take", Act::Take);
        }
        match self.below(20) {
            0 => ("500", Act::Say("500 Oh No\r\ncontent-length: 2\r\n\r\nno")),
            1 => ("429", Act::Say("429 Slow\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n")),
            2 => ("503", Act::Say("503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n")),
            3 => ("hang", Act::Hang),
            4 => ("reset", Act::Reset),
            5 => ("break off", Act::TakeAndBreakOff),
            6 => ("drip", Act::Drip(1)),
            7 => ("drip too long", Act::Drip(100)),
            8 => ("408", Act::Say("408 Late\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")),
            9 => ("401", Act::Say("401 Who\r\ncontent-length: 0\r\n\r\n")),
            _ => ("take", Act::Take),
        }
    }

    async fn serve(self: Arc<Self>, mut io: DuplexStream) {
        let mut buffer = Vec::new();
        loop {
            let Some((length, at)) = read_head(&mut io, &mut buffer).await else { return };
            if self.is_down() {
                return self.note("down");
            }
            let (name, act) = self.act();
            self.note(name);
            if act == Act::Reset && self.below(2) == 0 {
                return;
            }
            while buffer.len() < at + length {
                let mut chunk = [0; 4096];
                match io.read(&mut chunk).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => buffer.extend_from_slice(&chunk[..n]),
                }
            }
            let body: Vec<u8> = buffer.drain(..at + length).skip(at).collect();
            let body = self.coding.map_or(body.clone(), |coding| coding.decompress(&body, 1 << 20).unwrap());
            if self.answer(&mut io, act, &body).await.is_none() {
                return;
            }
        }
    }

    /// `None` ends the connection.
    async fn answer(&self, io: &mut DuplexStream, act: Act, body: &[u8]) -> Option<()> {
        let rows: Vec<(bool, u32)> =
            body.split(|b| *b == b'\n').filter(|row| !row.is_empty()).map(row).collect();
        {
            let mut record = self.record.lock().unwrap();
            let again: Vec<u32> = rows.iter().map(|r| r.1).filter(|n| record.times.contains_key(n)).collect();
            record.repeated_without_cause.extend(again);
        }
        let refusal = if body.len() > REQUEST_BYTES_MAX {
            Some("413 Too Much\r\ncontent-length: 0\r\n\r\n")
        } else if rows.iter().any(|r| r.0) {
            Some("400 Bad\r\ncontent-length: 7\r\n\r\nbad row")
        } else {
            None
        };
        match (act, refusal) {
            (Act::Hang, _) => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                None
            }
            (Act::Reset, _) => None,
            (Act::Say(answer), _) => say(io, answer).await,
            (_, Some(refusal)) => {
                self.note(if refusal.starts_with("413") { "413" } else { "400" });
                say(io, refusal).await
            }
            (Act::Take | Act::Drip(_) | Act::TakeAndBreakOff, None) => {
                for (_, n) in &rows {
                    *self.record.lock().unwrap().stored.entry(*n).or_default() += 1;
                }
                match act {
                    Act::TakeAndBreakOff => {
                        say(io, "200 OK\r\ncontent-length: 50\r\n\r\nhalf").await;
                        return None;
                    }
                    Act::Drip(seconds) => {
                        say(io, &format!("200 OK\r\ncontent-length: {seconds}\r\n\r\n")).await?;
                        for _ in 0..seconds {
                            tokio::time::sleep(Duration::from_millis(900)).await;
                            io.write_all(b".").await.ok()?;
                        }
                    }
                    _ => {
                        tokio::time::sleep(Duration::from_millis(self.below(40))).await;
                        say(io, "204 Thanks\r\n\r\n").await?;
                    }
                }
                let mut record = self.record.lock().unwrap();
                for (_, n) in rows {
                    record.confirmed.push(n);
                    *record.times.entry(n).or_default() += 1;
                }
                Some(())
            }
        }
    }
}

pub(super) async fn say(io: &mut DuplexStream, answer: &str) -> Option<()> {
    io.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.ok()
}

/// `bad 17` or `row 17`.
fn row(line: &[u8]) -> (bool, u32) {
    let text = std::str::from_utf8(line).unwrap();
    let number = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    (text.starts_with("bad"), number)
}

/// The length of the body and where it begins.
async fn read_head(io: &mut DuplexStream, buffer: &mut Vec<u8>) -> Option<(usize, usize)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
            assert!(head.contains("idempotency-key: \"weir-"), "{head}");
            return Some((length, end + 4));
        }
        let mut chunk = [0; 1024];
        match io.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => buffer.extend_from_slice(&chunk[..n]),
        }
    }
}

#[derive(Debug)]
struct HostileDial(Arc<Hostile>);

#[async_trait]
impl Dial for HostileDial {
    async fn dial(&self, _: &Endpoint) -> io::Result<Connection> {
        if self.0.is_down() {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused"));
        }
        let (ours, theirs) = tokio::io::duplex(2048);
        task::spawn(self.0.clone().serve(theirs));
        Ok(Connection::over(ours))
    }
}

pub(super) struct Scene {
    hostile: Arc<Hostile>,
    pub(super) cx: TaskCx,
    pub(super) queue: Arc<Queue>,
    pub(super) inlet: Inlet,
    pub(super) options: DispatchOptions,
}

pub(super) fn scene(
    seed: u64,
    concurrency: Concurrency,
    coding: Option<Compression>,
    endpoints: usize,
) -> Scene {
    let rng = Mutex::new(Rng::seeded(seed));
    let hostile = Arc::new(Hostile { rng, begun: clock::now(), record: Mutex::default(), coding });
    let dial: Arc<dyn Dial> = Arc::new(HostileDial(hostile.clone()));
    let target = Target::parse("http://hostile.test/").unwrap();
    let client = || Arc::new(Client::new(target.clone(), Method::POST, TIMEOUT, dial.clone()));
    let (rng, policy) =
        (Rng::seeded(seed + 1), BreakerPolicy { failures_max: 3, ..BreakerPolicy::default() });
    let places = vec![target.endpoint.clone(); endpoints];
    let bounds = Bounds { events_max: BUFFER_EVENTS, bytes_max: 1 << 20, when_full: WhenFull::Block };
    let queue = Queue::new(bounds, Arc::new(Meter::default()));
    let mut cx = testing::task_cx(ComponentKind::Sink, "http_client", std::path::Path::new("/none"));
    cx.meter = queue.meter().clone();
    let max_wait = Duration::from_millis(200);
    let batch = BatchOptions { max_events: REQUEST_EVENTS, max_bytes: ByteCount::kib(4), max_wait };
    let retry = RetryOptions { max_delay: Duration::from_secs(5), ..defaults() };
    let options = DispatchOptions {
        clients: (0..endpoints).map(|_| client()).collect(),
        upstreams: Upstreams::new(places, Strategy::RoundRobin, policy, rng.clone()),
        encoder: BodyEncoder::new(Format::Raw, Layout::Lines, coding, "p".into()),
        headers: Headers::new(HeaderMap::new()),
        batch,
        retry,
        concurrency,
        dead_letter: Some("rejects".to_owned()),
        probes: None,
        rng,
    };
    Scene { hostile, cx, inlet: Inlet::new(queue.clone()), queue, options }
}

/// Rows for ten minutes, some of them bad; returns how many.
async fn produce(queue: Arc<Queue>, seed: u64) -> (u32, Vec<u32>) {
    let (mut rng, start) = (Rng::seeded(seed + 2), clock::now());
    let (mut next, mut bad) = (0, Vec::new());
    while start.elapsed() < STORM {
        let lines: Vec<String> = (0..rng.below(80))
            .map(|_| {
                let is_bad = rng.below(200) == 0;
                bad.extend(is_bad.then_some(next));
                next += 1;
                let padding = "x".repeat(rng.below(60) as usize);
                format!("{} {} {padding}", if is_bad { "bad" } else { "row" }, next - 1)
            })
            .collect();
        queue.push(Batch::from_lines("t", lines)).await;
        tokio::time::sleep(Duration::from_millis(rng.below(1500))).await;
        let held = queue.meter().snapshot();
        // Waiting, and in the hands of as many requests as there may be.
        let bound = BUFFER_EVENTS + (ADAPTIVE_MAX as u64 + 2) * REQUEST_EVENTS;
        assert!(held.queued_events <= bound && held.queued_bytes <= bound * 100, "{held:?}");
    }
    queue.close();
    (next, bad)
}

async fn ten_minutes(seed: u64, concurrency: Concurrency, coding: Option<Compression>, endpoints: usize) {
    let in_order = concurrency.limit() == 1 && matches!(concurrency, Concurrency::Fixed(_));
    let Scene { hostile, cx, queue, mut inlet, options } = scene(seed, concurrency, coding, endpoints);
    let links = cx.shared.get::<Links>();
    links.sender_starts("rejects");
    let (out, mut rejects) = testing::pipeline();
    let receiving = task::spawn({
        let links = links.clone();
        async move { links.receive("rejects", out).await }
    });
    let producing = task::spawn(produce(queue.clone(), seed));
    let dispatch = Dispatch::new(options, &cx);
    let end = tokio::time::timeout(STORM * 3, dispatch.run(&mut inlet)).await;
    assert!(end.is_ok(), "it comes to its end: {:?}", queue.meter().snapshot());
    // As the engine says of a sink that has ended.
    links.sender_ended("rejects");
    receiving.await.unwrap();
    let (total, bad) = producing.await.unwrap();

    let record = hostile.record.lock().unwrap_or_else(PoisonError::into_inner);
    let requests: u32 =
        record.acts.iter().filter(|(name, _)| !["413", "400"].contains(name)).map(|a| a.1).sum();
    let repeats: u32 = record.stored.values().map(|n| n - 1).sum();
    println!(
        "seed {seed}: {total} rows, {} refused, {requests} requests, {repeats} rows twice: {:?}",
        bad.len(),
        record.acts
    );
    assert!(total > 1500 && bad.len() > 5, "{total} rows, {bad:?} bad");
    // What issue and house demand of a storm, each at least once.
    for act in ["reset", "hang", "500", "429", "413", "400", "break off", "drip", "drip too long", "down"] {
        assert!(record.acts.contains_key(act), "no {act}: {:?}", record.acts);
    }
    let mut refused: Vec<u32> = testing::take_lines(&mut rejects).iter().map(|line| row(line).1).collect();
    if !in_order {
        refused.sort_unstable();
    }
    assert_eq!(refused, bad, "every bad row is kept once, and nothing else");
    assert_eq!(record.repeated_without_cause, Vec::<u32>::new(), "rows sent again after a whole 2xx");
    let lost: Vec<u32> =
        (0..total).filter(|n| !record.times.contains_key(n) && bad.binary_search(n).is_err()).collect();
    assert_eq!(lost, Vec::<u32>::new(), "lost rows");
    assert!(record.times.values().all(|n| *n == 1));
    assert!(record.stored.values().any(|n| *n > 1), "some answers broke off, so some rows came twice");
    if in_order {
        assert!(record.confirmed.is_sorted(), "order with one request at a time");
    }
    let counts = queue.meter().snapshot();
    assert_eq!(counts.received_events, u64::from(total));
    assert_eq!(counts.dropped(Reason::Rejected), bad.len() as u64);
    assert_eq!(counts.delivered_events, u64::from(total) - bad.len() as u64);
    assert_eq!((counts.queued_events, counts.queued_bytes, counts.balances()), (0, 0, true), "{counts:?}");
}

/// `TEST_SEED=N` runs that one alone.
fn seeds() -> Vec<u64> {
    let environment = Environment::from_process();
    environment.get("TEST_SEED").map_or((1..=8).collect(), |seed| vec![seed.parse().unwrap()])
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_with_adaptive_concurrency() {
    for seed in seeds() {
        println!("TEST_SEED={seed}");
        ten_minutes(seed, Concurrency::adaptive(1 << 10), None, 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn order_is_kept_with_one_request_at_a_time() {
    for seed in seeds() {
        println!("TEST_SEED={seed}");
        ten_minutes(seed, Concurrency::Fixed(1), Some(Compression::Zstd), 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_between_several_endpoints() {
    for seed in seeds() {
        println!("TEST_SEED={seed}");
        ten_minutes(seed, Concurrency::Fixed(4), None, 3).await;
    }
}

/// Nobody answers, and the end is forced: everything is given back and counted, at once.
#[tokio::test(start_paused = true)]
async fn a_forced_end_gives_everything_back() {
    let Scene { cx, queue, mut inlet, options, .. } = scene(1, Concurrency::Fixed(8), None, 1);
    let deaf: Arc<dyn Dial> = Arc::new(Deaf);
    let target = Target::parse("http://deaf.test/").unwrap();
    let clients = vec![Arc::new(Client::new(target, Method::POST, TIMEOUT, deaf))];
    let dispatch = Dispatch::new(DispatchOptions { clients, ..options }, &cx);
    queue.push(Batch::from_lines("t", (0..400).map(|i| format!("row {i} {:60}", ' ')))).await;
    let ended = {
        let run = dispatch.run(&mut inlet);
        tokio::time::timeout(Duration::from_secs(45), run).await
    };
    assert!(ended.is_err());
    assert_eq!(queue.meter().snapshot().queued_events, 400);
    // In order, as if nobody had touched them.
    let lines = testing::take_lines(&mut inlet);
    assert_eq!(lines.iter().map(|line| row(line).1).collect::<Vec<_>>(), (0..400).collect::<Vec<_>>());
    drop(inlet);
    assert!(queue.meter().snapshot().balances());
}

/// Takes connections, and no word on them.
#[derive(Debug)]
pub(super) struct Deaf;

#[async_trait]
impl Dial for Deaf {
    async fn dial(&self, _: &Endpoint) -> io::Result<Connection> {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        task::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            drop(theirs);
        });
        Ok(Connection::over(ours))
    }
}

/// Who was asked, after how many seconds, what.
type Asked = Arc<Mutex<Vec<(&'static str, u64, String)>>>;

/// Two receivers; the first is away for a minute. Probes find out when it is back, no rows are risked on it.
#[derive(Debug)]
struct Away {
    begun: clock::Instant,
    host: &'static str,
    seen: Asked,
}

#[async_trait]
impl Dial for Away {
    async fn dial(&self, _: &Endpoint) -> io::Result<Connection> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let (host, seen, begun) = (self.host, self.seen.clone(), self.begun);
        task::spawn(async move {
            let mut buffer = Vec::new();
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = theirs.read(&mut chunk).await {
                buffer.extend_from_slice(&chunk[..n]);
                if !buffer.ends_with(b"\n") {
                    continue;
                }
                let line = String::from_utf8_lossy(&buffer).lines().next().unwrap().to_owned();
                let at = begun.elapsed().as_secs();
                seen.lock().unwrap().push((host, at, line));
                let answer = if host == "first" && at < 60 { "500 No" } else { "200 OK" };
                say(&mut theirs, &format!("{answer}\r\ncontent-length: 0\r\n\r\n")).await;
                buffer.clear();
            }
        });
        Ok(Connection::over(ours))
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_failed_is_asked_before_it_gets_rows_again() {
    let Scene { mut cx, queue, mut inlet, options, .. } = scene(1, Concurrency::Fixed(1), None, 1);
    cx.shared = Arc::default();
    let (begun, seen) = (clock::now(), Asked::default());
    let client = |host, path: &str, method| {
        let dial = Arc::new(Away { begun, host, seen: seen.clone() });
        let target = Target::parse(&format!("http://{host}{path}")).unwrap();
        Arc::new(Client::new(target, method, TIMEOUT, dial))
    };
    let clients =
        |path, method: Method| vec![client("first", path, method.clone()), client("second", path, method)];
    let probes = Some(Probes { clients: clients("/up", Method::GET), interval: Duration::from_secs(5) });
    let policy = BreakerPolicy { trials: crate::net::upstream::Trials::Probe, ..BreakerPolicy::default() };
    let places = vec![Endpoint::new("first", 80), Endpoint::new("second", 80)];
    let upstreams = Upstreams::new(places, Strategy::Failover, policy, Rng::seeded(1));
    let clients = clients("/in", Method::POST);
    let options = DispatchOptions { clients, upstreams, probes, dead_letter: None, ..options };
    let writing = task::spawn(async move {
        for i in 0..120 {
            queue.push(Batch::from_lines("t", [format!("row {i}")])).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        queue.close();
    });
    Dispatch::new(options, &cx).run(&mut inlet).await;
    writing.await.unwrap();
    let seen = seen.lock().unwrap();
    let rows = |host| seen.iter().filter(move |s| s.0 == host && s.2.starts_with("POST /in ")).map(|s| s.1);
    assert_eq!(rows("first").filter(|at| *at < 60).count(), 1, "one failure is enough: {seen:?}");
    let back = rows("first").find(|at| *at >= 60).unwrap();
    assert!((60..=95).contains(&back) && rows("second").all(|at| at <= back), "{seen:?}");
    assert_eq!(rows("first").count() + rows("second").count(), 121);
    assert!(seen.iter().any(|s| s.0 == "first" && s.2.starts_with("GET /up ")));
}
