//! Keeps requests under way: gathers rows while a lane is free, gives each delivery an endpoint when one takes
//! work, sends again what failed, cuts in two what was refused, and settles each row as it is answered. Everything
//! runs inside the sink's own task, so that dropping it gives every row back to the queue.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::header::{HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;

use super::client::{Answer, Client, NoAnswer};
use super::concurrency::{Concurrency, Finished};
use super::delivery::{Delivery, Prepared};
use super::encode::BodyEncoder;
use super::headers::Headers;
use super::notices::Notices;
use super::probes::Probes;
use super::rejects::Rejects;
use super::verdict::Verdict;
use crate::base::clock::{self, Instant};
use crate::base::rng::Rng;
use crate::config::{BatchOptions, RetryOptions};
use crate::flow::{Gather, GatherLimits, Gathered, Inlet, TaskCx};
use crate::net::upstream::{Pick, Slot, Upstreams};

/// Names the rows of a request: the same at every attempt (draft-ietf-httpapi-idempotency-key-header).
const ID_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest pause once shutdown has begun: its deadline is short.
const DRAINING_DELAY_MAX: Duration = Duration::from_secs(1);
/// How long rows wait for a receiver that failed before, while another one works.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long requests under way have to be answered once another sink takes over; then its rows may come twice.
const LETTING_GO: Duration = Duration::from_secs(1);

/// What a dispatch needs.
#[derive(Debug)]
pub struct DispatchOptions {
    /// One client per endpoint of `upstreams`, in their order.
    pub clients: Vec<Arc<Client>>,
    /// Who takes the next request.
    pub upstreams: Upstreams,
    /// Makes bodies.
    pub encoder: BodyEncoder,
    /// The header fields.
    pub headers: Headers,
    /// How much goes into a request.
    pub batch: BatchOptions,
    /// When it is sent again.
    pub retry: RetryOptions,
    /// How many are under way.
    pub concurrency: Concurrency,
    /// The pipeline that takes what is refused for good.
    pub dead_letter: Option<String>,
    /// How receivers that failed are asked whether they are back; without it, the next request finds out.
    pub probes: Option<Probes>,
    /// For pauses and the names of requests.
    pub rng: Rng,
}

/// See the module.
#[derive(Debug)]
pub struct Dispatch<'a> {
    cx: &'a TaskCx,
    clients: Vec<Arc<Client>>,
    upstreams: Upstreams,
    encoder: BodyEncoder,
    headers: Headers,
    batch: BatchOptions,
    retry: RetryOptions,
    concurrency: Mutex<Concurrency>,
    rejects: Rejects,
    probes: Option<Probes>,
    notices: Notices,
    rng: Mutex<Rng>,
    run_id: u64,
    requests: AtomicU64,
    /// Requests under way are given up: another sink takes over.
    lets_go: CancellationToken,
}

/// An attempt that ended, with the delivery it was for.
struct Attempted {
    delivery: Delivery,
    /// What the rows took, where they were encoded whole for the first time: estimated and real.
    sizes: Option<(u64, u64)>,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, Default)]
struct Failure {
    /// The receiver that failed it, unless it came to no attempt.
    endpoint: Option<usize>,
    /// How long it asked to be left alone.
    wait: Option<Duration>,
    /// Somebody must mend something.
    setup: bool,
}

/// The deliveries that are not settled.
struct Lanes<'a> {
    under_way: FuturesUnordered<BoxFuture<'a, Attempted>>,
    waiting: Vec<Delivery>,
}

impl<'a> Dispatch<'a> {
    /// A dispatch for the sink that runs in `cx`.
    pub fn new(options: DispatchOptions, cx: &'a TaskCx) -> Dispatch<'a> {
        let mut rng = options.rng;
        let run_id = rng.next_u64();
        Dispatch {
            cx,
            clients: options.clients,
            upstreams: options.upstreams,
            encoder: options.encoder,
            headers: options.headers,
            batch: options.batch,
            retry: options.retry,
            concurrency: Mutex::new(options.concurrency),
            rejects: Rejects::new(options.dead_letter, cx),
            probes: options.probes,
            notices: Notices::new(cx),
            rng: Mutex::new(rng),
            run_id,
            requests: AtomicU64::new(0),
            lets_go: CancellationToken::new(),
        }
    }

    /// Delivers all that comes, and returns when the inlet has ended and everything is settled. When the inlet is
    /// released, what waits for its next attempt goes back to the queue, and what is under way after a moment.
    pub async fn run(&'a self, inlet: &mut Inlet) {
        let row_overhead = self.encoder.row_overhead();
        let mut gather = Gather::new(GatherLimits { options: self.batch.clone(), row_overhead });
        let mut lanes = Lanes { under_way: FuturesUnordered::new(), waiting: Vec::new() };
        let (mut ended, mut hurried) = (false, false);
        let (release, mut let_go_at) = (inlet.release_token(), None);
        let mut probing = std::pin::pin!(self.probe());
        loop {
            let changed = self.upstreams.changed();
            if let_go_at.is_some() {
                lanes.waiting.clear();
            }
            let wake = self.launch(&mut lanes, inlet.waiting_events() > 0);
            let begun = lanes.under_way.len() + lanes.waiting.len();
            if ended && begun == 0 {
                break;
            }
            tokio::select! {
                Some(attempted) = lanes.under_way.next() => {
                    if let Some((estimated, encoded)) = attempted.sizes {
                        gather.learn(estimated, encoded);
                    }
                    if !attempted.delivery.is_settled() {
                        lanes.waiting.push(attempted.delivery);
                    }
                }
                gathered = gather.next(inlet, &self.cx.shutdown, begun == 0), if !ended && begun < self.limit() => {
                    match gathered {
                        Some(gathered) => lanes.waiting.push(self.delivery(gathered)),
                        None => ended = true,
                    }
                }
                () = sleep_until(wake), if wake.is_some() => {}
                () = sleep_until(let_go_at), if let_go_at.is_some() && !self.lets_go.is_cancelled() => {
                    self.lets_go.cancel();
                }
                () = release.cancelled(), if let_go_at.is_none() => {
                    ended = true;
                    let_go_at = Some(clock::now() + LETTING_GO);
                }
                () = changed => {}
                () = &mut probing => {}
                () = self.cx.shutdown.draining(), if !hurried => {
                    hurried = true;
                    let latest = clock::now() + DRAINING_DELAY_MAX;
                    lanes.waiting.iter_mut().for_each(|delivery| delivery.due = delivery.due.min(latest));
                }
            }
        }
    }

    /// Asks failed receivers whether they are back; has no end.
    async fn probe(&self) {
        match &self.probes {
            Some(probes) => probes.run(&self.upstreams, &self.headers).await,
            None => std::future::pending().await,
        }
    }

    fn delivery(&self, gathered: Gathered) -> Delivery {
        Delivery::new(gathered, &self.retry, clock::now())
    }

    fn limit(&self) -> usize {
        self.concurrency.lock().unwrap_or_else(PoisonError::into_inner).limit()
    }

    /// Begins the attempts that are due, the longest waiting first, as far as there are lanes and endpoints;
    /// returns when to look again.
    fn launch(&'a self, lanes: &mut Lanes<'a>, more_waits: bool) -> Option<Instant> {
        let limit = self.limit();
        while lanes.under_way.len() < limit {
            let now = clock::now();
            let next = lanes.waiting.iter().enumerate().min_by_key(|(_, delivery)| delivery.due)?;
            let (index, due) = (next.0, next.1.due);
            if due > now {
                return Some(due);
            }
            if self.cx.shutdown.is_draining() {
                self.upstreams.hasten(now + DRAINING_DELAY_MAX);
            }
            let slot = match self.upstreams.pick(now) {
                Pick::Use(slot) => slot,
                Pick::WaitUntil(at) => return Some(at),
            };
            let delivery = lanes.waiting.swap_remove(index);
            let at_limit = more_waits && lanes.under_way.len() + 1 >= limit;
            lanes.under_way.push(Box::pin(self.attempt(delivery, slot, at_limit)));
        }
        None
    }

    /// One attempt to deliver the first piece.
    async fn attempt(&self, mut delivery: Delivery, slot: Slot, at_limit: bool) -> Attempted {
        let (prepared, sizes) = match self.prepare(&mut delivery).await {
            Ok(ready) => ready,
            Err(why) => {
                // Nothing the endpoint could help.
                drop(slot);
                self.again(&mut delivery, "this machine", &why, Failure::default()).await;
                return Attempted { delivery, sizes: None };
            }
        };
        // Made, and found too large: its halves are next.
        let Some(Prepared { payload, id }) = prepared else { return Attempted { delivery, sizes } };
        let client = self.clients[slot.index()].clone();
        let target = client.target().to_string();
        let headers = match self.headers.resolve().await {
            Ok(headers) => headers,
            Err(why) => {
                drop(slot);
                let failure = Failure { setup: true, ..Failure::default() };
                self.again(&mut delivery, &target, &why, failure).await;
                return Attempted { delivery, sizes };
            }
        };
        let hedged = slot.is_trial() && self.upstreams.works_elsewhere(slot.index());
        let at_most = if hedged { TRIAL_TIMEOUT } else { Duration::MAX };
        let begun = clock::now();
        let answered = tokio::select! {
            answered = client.send(&headers, Some((ID_HEADER, id)), &payload, at_most) => answered,
            () = self.lets_go.cancelled() => return Attempted { delivery, sizes },
        };
        let now = clock::now();
        let (answers, overloaded) = match &answered {
            Ok(answer) => (true, answer.verdict == Verdict::Overloaded),
            // One that is known to fail says nothing about what the others can take.
            Err(no_answer) => (no_answer.timed_out && !hedged, no_answer.timed_out),
        };
        if answers {
            let finished = Finished { begun, took: now.duration_since(begun), overloaded, at_limit };
            self.concurrency.lock().unwrap_or_else(PoisonError::into_inner).finished(finished, now);
        }
        self.settle(&mut delivery, &target, answered, slot).await;
        Attempted { delivery, sizes }
    }

    /// The request of the first piece, made now if it was not yet; `None` when it came out too large and was cut in
    /// two instead.
    async fn prepare(
        &self,
        delivery: &mut Delivery,
    ) -> Result<(Option<Prepared>, Option<(u64, u64)>), String> {
        let Some(piece) = delivery.pieces.front_mut() else { return Ok((None, None)) };
        if let Some(prepared) = &piece.prepared {
            return Ok((Some(prepared.clone()), None));
        }
        let parts = self.encoder.parts(piece.leases.iter().map(|lease| lease.batch()));
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let sizes = Some((std::mem::take(&mut delivery.estimated_bytes), bytes)).filter(|(e, _)| *e > 0);
        if bytes > self.batch.max_bytes.0 && piece.events > 1 {
            delivery.split_first();
            return Ok((None, sizes));
        }
        let payload = self.encoder.payload(parts).await;
        let payload = payload.map_err(|e| format!("cannot compress a request: {e}"))?;
        let number = self.requests.fetch_add(1, Relaxed);
        let id = format!("\"weir-{:016x}-{number}\"", self.run_id);
        let id = HeaderValue::from_str(&id).expect("digits, letters and dashes in quotes");
        let prepared = Prepared { payload, id };
        piece.prepared = Some(prepared.clone());
        Ok((Some(prepared), sizes))
    }

    async fn settle(
        &self,
        delivery: &mut Delivery,
        target: &str,
        answered: Result<Answer, NoAnswer>,
        slot: Slot,
    ) {
        let endpoint = Some(slot.index());
        let answer = match answered {
            Ok(answer) => answer,
            Err(no_answer) => {
                slot.failed(&no_answer.why);
                let failure = Failure { endpoint, ..Failure::default() };
                return self.again(delivery, target, &no_answer.why, failure).await;
            }
        };
        let events = delivery.pieces.front().map_or(0, |piece| piece.events);
        match answer.verdict {
            Verdict::Taken => {
                slot.succeeded();
                self.notices.works();
                delivery.first_delivered();
            }
            Verdict::Rows => {
                // It answers, and quickly: there is nothing wrong with the endpoint.
                slot.succeeded();
                self.notices.works();
                if events > 1 {
                    delivery.split_first();
                } else {
                    self.reject(delivery, target, &answer.to_string()).await;
                }
            }
            Verdict::Later | Verdict::Overloaded | Verdict::Setup => {
                let wait = answer.retry_after.map(|wait| wait.min(self.retry.max_delay));
                let why = answer.to_string();
                slot.failed_until(&why, wait.map(|wait| clock::now() + wait));
                let setup = answer.verdict == Verdict::Setup;
                if setup {
                    self.headers.forget();
                }
                self.again(delivery, target, &why, Failure { endpoint, wait, setup }).await;
            }
        }
    }

    /// The first piece is due again after a pause, or given up when its attempts are used up.
    async fn again(&self, delivery: &mut Delivery, target: &str, why: &str, failure: Failure) {
        let Failure { endpoint, wait, setup } = failure;
        self.notices.failed(target, why, setup);
        let pause = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            if setup {
                delivery.schedule.slow_delay(&mut rng)
            } else {
                delivery.schedule.next_delay(wait, &mut rng)
            }
        };
        let Some(mut pause) = pause else {
            let why = format!("given up after {} attempts, at last: {why}", delivery.schedule.attempts());
            return self.reject(delivery, target, &why).await;
        };
        if self.cx.shutdown.is_draining() {
            pause = pause.min(DRAINING_DELAY_MAX);
        }
        // The pause is for the receiver that failed. It is left alone now; the rows go on to one that works.
        if endpoint.is_some_and(|i| !self.upstreams.works(i) && self.upstreams.works_elsewhere(i)) {
            pause = Duration::ZERO;
        }
        delivery.due = clock::now() + pause;
    }

    async fn reject(&self, delivery: &mut Delivery, target: &str, why: &str) {
        let leases = delivery.take_first();
        let events = leases.iter().map(|lease| lease.batch().events()).sum();
        self.notices.rejected(target, why, events, self.rejects.pipeline());
        self.rejects.take(leases).await;
    }
}

/// Sleeps until then; forever without a moment.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
