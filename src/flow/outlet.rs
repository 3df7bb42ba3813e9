//! What a source pushes into. The rate limit, the filter chain and the fan-out run right here, on the thread that
//! read the rows and while they are still in its cache; the only queues of a pipeline are those before its sinks.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use smallvec::{SmallVec, smallvec};

use super::chain::Chain;
use super::limit::TokenBucket;
use super::meter::{Meter, Reason};
use super::queue::Queue;
use crate::base::clock;
use crate::batch::{Batch, Outcome};

/// A pipeline's `rate_limit`.
#[derive(Debug)]
pub struct RateLimit {
    /// Tokens are events; `None` limits sizes only.
    pub bucket: Option<TokenBucket>,
    /// Wait for tokens instead of dropping what exceeds them.
    pub block: bool,
    /// Longer events are dropped, in bytes.
    pub event_bytes_max: Option<u64>,
}

/// How long a limited source gathers tokens at most before it sends a piece of its batch: long enough to keep pieces
/// from shrinking to single rows.
const GATHER_MAX: Duration = Duration::from_millis(100);

/// One sink of the fan-out: its own filters, then its buffer.
#[derive(Debug)]
pub struct Branch {
    /// The sink's own filters; they see rows that the pipeline's chain let through.
    pub chain: Option<Mutex<Chain>>,
    /// The sink's buffer.
    pub queue: Arc<Queue>,
}

/// The entrance of a pipeline, shared by its sources.
#[derive(Debug)]
pub struct Intake {
    limit: Option<Mutex<RateLimit>>,
    /// Sources that wait for tokens get them in turn.
    turn: tokio::sync::Mutex<()>,
    chain: Mutex<Chain>,
    branches: Vec<Branch>,
    meter: Arc<Meter>,
}

/// Rows that entered the pipeline and are not yet past its chain; counted if the passage is cancelled.
struct Passage<'a> {
    meter: &'a Meter,
    events: u64,
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if self.events > 0 {
            self.meter.dropped(Reason::Aborted, self.events);
        }
    }
}

impl Intake {
    /// An entrance that counts on the pipeline's `meter`.
    pub fn new(limit: Option<RateLimit>, chain: Chain, branches: Vec<Branch>, meter: Arc<Meter>) -> Intake {
        let (limit, turn) = (limit.map(Mutex::new), tokio::sync::Mutex::default());
        Intake { limit, turn, chain: Mutex::new(chain), branches, meter }
    }

    /// The pipeline's meter.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// The sinks' entrances, in the order of the config.
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// Whether some filter wants [`Intake::tick`].
    pub fn ticks(&self) -> bool {
        let own = |chain: &Mutex<Chain>| chain.lock().unwrap_or_else(PoisonError::into_inner).ticks();
        own(&self.chain) || self.branches.iter().any(|b| b.chain.as_ref().is_some_and(own))
    }

    /// Lets filters release what they held long enough.
    pub async fn tick(&self) {
        let now = clock::now();
        let released = self.chain.lock().unwrap_or_else(PoisonError::into_inner).tick(now);
        self.fan_out(released).await;
        self.release_branches(|chain| chain.tick(now)).await;
    }

    /// The sources have ended: everything held goes on to the sinks, and their queues close.
    pub async fn finish(&self) {
        let released = self.chain.lock().unwrap_or_else(PoisonError::into_inner).finish();
        self.fan_out(released).await;
        self.release_branches(Chain::finish).await;
        self.branches.iter().for_each(|b| b.queue.close());
    }

    async fn release_branches(&self, call: impl Fn(&mut Chain) -> SmallVec<[Batch; 2]>) {
        for branch in &self.branches {
            let Some(chain) = &branch.chain else { continue };
            let released = call(&mut chain.lock().unwrap_or_else(PoisonError::into_inner));
            branch.push(released).await;
        }
    }

    /// Returns how many events the rate limit refused: the last ones of those that were not too long.
    async fn enter(&self, mut batch: Batch) -> u64 {
        self.meter.received(batch.events(), batch.bytes());
        let mut passage = Passage { meter: &self.meter, events: batch.events() };
        let Some(limit) = &self.limit else {
            self.pass(batch, &mut passage).await;
            return 0;
        };
        self.drop_oversize(limit, &mut batch, &mut passage);
        while !batch.is_empty() {
            let admitted = self.tokens(limit, batch.events()).await;
            if admitted == batch.events() {
                self.pass(batch, &mut passage).await;
                return 0;
            }
            if admitted > 0 {
                let piece = batch.split_to(admitted);
                self.pass(piece, &mut passage).await;
            }
            if !self.waits(limit) {
                let refused = batch.events();
                self.meter.dropped(Reason::RateLimit, refused);
                passage.events -= refused;
                batch.settle(Outcome::Dropped);
                return refused;
            }
        }
        // Only reached when everything was oversize.
        batch.settle(Outcome::Dropped);
        0
    }

    /// Whether the limit makes sources wait.
    fn waits(&self, limit: &Mutex<RateLimit>) -> bool {
        limit.lock().unwrap_or_else(PoisonError::into_inner).block
    }

    /// How many of `wanted` events may pass now. Under the policy `block` it waits for its turn, then until there
    /// are enough tokens, or some and [`GATHER_MAX`] has passed.
    async fn tokens(&self, limit: &Mutex<RateLimit>, wanted: u64) -> u64 {
        let _turn = if self.waits(limit) { Some(self.turn.lock().await) } else { None };
        let mut gathered = false;
        loop {
            let wait = {
                let mut limit = limit.lock().unwrap_or_else(PoisonError::into_inner);
                let (block, now) = (limit.block, clock::now());
                let Some(bucket) = &mut limit.bucket else { return wanted };
                let there = bucket.available(now);
                if !block || there >= wanted || (gathered && there > 0) {
                    return bucket.take_up_to(wanted, now);
                }
                bucket.wait_for(wanted)
            };
            tokio::time::sleep(wait.min(GATHER_MAX)).await;
            gathered = true;
        }
    }

    fn drop_oversize(&self, limit: &Mutex<RateLimit>, batch: &mut Batch, passage: &mut Passage<'_>) {
        let max = limit.lock().unwrap_or_else(PoisonError::into_inner).event_bytes_max;
        let Some(max) = max else { return };
        if batch.bytes() <= max {
            return;
        }
        let before = batch.events();
        batch.retain(|b, row| b.line(row).len() as u64 <= max);
        let dropped = before - batch.events();
        if dropped > 0 {
            self.meter.dropped(Reason::Oversize, dropped);
            passage.events -= dropped;
            // The source hears of it, whatever becomes of the others.
            batch.split_to(0).settle(Outcome::Dropped);
        }
    }

    async fn pass(&self, batch: Batch, passage: &mut Passage<'_>) {
        let events = batch.events();
        let passed = {
            let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
            if chain.is_empty() { smallvec![batch] } else { chain.apply(batch) }
        };
        passage.events -= events;
        let (out, bytes) = passed.iter().fold((0, 0), |(e, n), b| (e + b.events(), n + b.bytes()));
        self.meter.delivered(out, bytes);
        self.meter.filtered(events.saturating_sub(out));
        self.fan_out(passed).await;
    }

    /// Hands each batch to every sink, to all at once: a full `block` buffer keeps nothing from the other sinks.
    /// When cancelled, each sink counts what it did not get.
    async fn fan_out(&self, batches: SmallVec<[Batch; 2]>) {
        match self.branches.as_slice() {
            [] => batches.into_iter().for_each(|b| b.settle(Outcome::Delivered)),
            [only] => only.take(batches).await,
            branches => {
                // Before the ways part, so that all sinks share one copy and its encodings.
                let batches: SmallVec<[Batch; 2]> = batches.into_iter().map(Batch::compacted).collect();
                let takes = join_all(branches.iter().map(|branch| branch.take(batches.clone())));
                batches.into_iter().for_each(|b| b.settle(Outcome::Delivered));
                takes.await;
            }
        }
    }
}

impl Branch {
    /// Passes the sink's own filters now, and what is left to its buffer when polled.
    fn take(&self, batches: SmallVec<[Batch; 2]>) -> impl Future<Output = ()> + Send + '_ {
        let passed = match &self.chain {
            None => batches,
            Some(chain) => {
                let mut chain = chain.lock().unwrap_or_else(PoisonError::into_inner);
                batches.into_iter().flat_map(|batch| chain.apply(batch)).collect()
            }
        };
        self.push(passed)
    }

    fn push(&self, batches: SmallVec<[Batch; 2]>) -> impl Future<Output = ()> + Send + '_ {
        let pushes: SmallVec<[_; 2]> = batches.into_iter().map(|batch| self.queue.push(batch)).collect();
        async move {
            for push in pushes {
                push.await;
            }
        }
    }
}

/// A source's way into its pipeline. Clones share the pipeline and the source's meter.
#[derive(Debug, Clone)]
pub struct Outlet {
    intake: Arc<Intake>,
    meter: Arc<Meter>,
}

impl Outlet {
    /// The way into `intake` for the source that counts on `meter`.
    pub fn new(intake: Arc<Intake>, meter: Arc<Meter>) -> Outlet {
        Outlet { intake, meter }
    }

    /// Sends a batch through the pipeline's limit and filters to all its sinks; waits where a policy says `block`.
    /// Rows of one source keep their order. Not cancel-safe, but accountable: when cancelled, what had not passed
    /// is counted as aborted and its receipt reports it lost.
    pub async fn send(&self, batch: Batch) {
        self.offer(batch).await;
    }

    /// The same; returns how many events the pipeline's rate limit refused by its policy `drop`. They are the last
    /// ones of those that are not longer than [`Outlet::event_bytes_max`]. For sources that can tell their sender.
    pub async fn offer(&self, batch: Batch) -> u64 {
        let (events, bytes) = (batch.events(), batch.bytes());
        self.meter.received(events, bytes);
        self.meter.delivered(events, bytes);
        if events == 0 {
            batch.settle(Outcome::Delivered);
            return 0;
        }
        self.intake.enter(batch).await
    }

    /// The longest event that the pipeline's rate limit lets in, in bytes.
    pub fn event_bytes_max(&self) -> Option<u64> {
        let limit = self.intake.limit.as_ref()?;
        limit.lock().unwrap_or_else(PoisonError::into_inner).event_bytes_max
    }

    /// The source's meter, to count what it drops before sending.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }
}
