//! What a source pushes into. The rate limit, the filter chain and the fan-out run right here, on the thread that
//! read the rows and while they are still in its cache; the only queues of a pipeline are those before its sinks.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, join_all};
use smallvec::{SmallVec, smallvec};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::chain::Chain;
use super::limit::TokenBucket;
use super::memory::Memory;
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
#[derive(Debug, Clone)]
pub struct Branch {
    /// The sink's own filters; they see rows that the pipeline's chain let through.
    pub chain: Option<Arc<Mutex<Chain>>>,
    /// The sink's buffer.
    pub queue: Arc<Queue>,
}

/// What lies behind the entrance of a pipeline: its limit, its filters and the ways to its sinks. A reload makes a
/// new one of the parts that stay and those that change.
#[derive(Debug)]
pub struct Course {
    /// The pipeline's limit.
    pub limit: Option<Arc<Mutex<RateLimit>>>,
    /// The pipeline's filters.
    pub chain: Arc<Mutex<Chain>>,
    /// The sinks' entrances, in the order of the config.
    pub branches: Vec<Branch>,
    /// Cancelled when nobody is on this course any more.
    _gone: DropGuard,
    left: CancellationToken,
}

/// The entrance of a pipeline, shared by its sources.
#[derive(Debug)]
pub struct Intake {
    course: RwLock<Arc<Course>>,
    /// Sources that wait for tokens get them in turn.
    turn: tokio::sync::Mutex<()>,
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

impl Course {
    /// A course of these parts.
    pub fn new(
        limit: Option<Arc<Mutex<RateLimit>>>,
        chain: Arc<Mutex<Chain>>,
        branches: Vec<Branch>,
    ) -> Arc<Course> {
        let left = CancellationToken::new();
        Arc::new(Course { limit, chain, branches, _gone: left.clone().drop_guard(), left })
    }

    /// Cancelled once the course was dropped by all: no row is on its way to one of its sinks any more.
    pub fn left(&self) -> CancellationToken {
        self.left.clone()
    }

    fn ticks(&self) -> bool {
        let own = |chain: &Arc<Mutex<Chain>>| lock(chain).ticks();
        own(&self.chain) || self.branches.iter().any(|b| b.chain.as_ref().is_some_and(own))
    }

    /// Everything that filters hold goes on to the sinks, except in the chains that `successor` has as well.
    pub async fn flush(&self, successor: Option<&Course>) {
        let goes_on = |chain: &Arc<Mutex<Chain>>| {
            let chains = successor
                .iter()
                .flat_map(|s| s.branches.iter().filter_map(|b| b.chain.as_ref()).chain([&s.chain]));
            chains.into_iter().any(|other| Arc::ptr_eq(chain, other))
        };
        if !goes_on(&self.chain) {
            let released = lock(&self.chain).finish();
            self.fan_out(released).await;
        }
        for branch in &self.branches {
            let Some(chain) = branch.chain.as_ref().filter(|chain| !goes_on(chain)) else { continue };
            let released = lock(chain).finish();
            branch.push(released).await;
        }
    }

    /// Hands each batch to every sink, to all at once: a full `block` buffer keeps nothing from the other sinks. The
    /// sinks' own filters run now, the rest when polled. When cancelled, each sink counts what it did not get.
    fn fan_out(&self, batches: SmallVec<[Batch; 2]>) -> impl Future<Output = ()> + Send + '_ {
        match self.branches.as_slice() {
            [only] => Either::Left(only.take(batches)),
            branches => {
                // Before the ways part, so that all sinks share one copy and its encodings.
                let batches: SmallVec<[Batch; 2]> = batches.into_iter().map(Batch::compacted).collect();
                let takes = join_all(branches.iter().map(|branch| branch.take(batches.clone())));
                batches.into_iter().for_each(|b| b.settle(Outcome::Delivered));
                Either::Right(takes.map(drop))
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Intake {
    /// An entrance that counts on the pipeline's `meter`.
    pub fn new(limit: Option<RateLimit>, chain: Chain, branches: Vec<Branch>, meter: Arc<Meter>) -> Intake {
        let limit = limit.map(|limit| Arc::new(Mutex::new(limit)));
        Intake::onto(Course::new(limit, Arc::new(Mutex::new(chain)), branches), meter)
    }

    /// The same onto a course.
    pub fn onto(course: Arc<Course>, meter: Arc<Meter>) -> Intake {
        Intake { course: RwLock::new(course), turn: tokio::sync::Mutex::default(), meter }
    }

    /// The pipeline's meter.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// What lies behind it now.
    pub fn course(&self) -> Arc<Course> {
        self.course.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leads all rows that come from now on onto another course, and returns the one before. Rows that were under
    /// way go on to where they were going; the caller flushes the filters that are not in use any more.
    pub fn lead(&self, course: Arc<Course>) -> Arc<Course> {
        std::mem::replace(&mut *self.course.write().unwrap_or_else(PoisonError::into_inner), course)
    }

    /// Whether some filter wants [`Intake::tick`].
    pub fn ticks(&self) -> bool {
        self.course().ticks()
    }

    /// Lets filters release what they held long enough.
    pub async fn tick(&self) {
        let (now, course) = (clock::now(), self.course());
        let released = lock(&course.chain).tick(now);
        course.fan_out(released).await;
        for branch in &course.branches {
            let Some(chain) = &branch.chain else { continue };
            let released = lock(chain).tick(now);
            branch.push(released).await;
        }
    }

    /// The sources have ended: everything held goes on to the sinks, and their queues close.
    pub async fn finish(&self) {
        let course = self.course();
        course.flush(None).await;
        course.branches.iter().for_each(|b| b.queue.close());
    }

    /// Whether rows wait before one of its sinks.
    fn waits(&self) -> bool {
        self.course().branches.iter().any(|branch| branch.queue.meter().snapshot().queued_events > 0)
    }

    /// Returns how many events the rate limit refused: the last ones of those that were not too long.
    async fn enter(&self, mut batch: Batch, memory: Option<&Memory>) -> u64 {
        self.meter.received(batch.events(), batch.bytes());
        let mut passage = Passage { meter: &self.meter, events: batch.events() };
        if let Some(memory) = memory {
            memory.room(|| self.waits()).await;
        }
        let Some(limit) = self.course().limit.clone() else {
            self.pass(batch, &mut passage).await;
            return 0;
        };
        self.drop_oversize(&limit, &mut batch, &mut passage);
        while !batch.is_empty() {
            let (admitted, waits) = self.tokens(batch.events()).await;
            if admitted == batch.events() {
                self.pass(batch, &mut passage).await;
                return 0;
            }
            if admitted > 0 {
                let piece = batch.split_to(admitted);
                self.pass(piece, &mut passage).await;
            }
            if !waits {
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

    /// How many of `wanted` events may pass now, and whether the others may wait. Under the policy `block` it waits
    /// for its turn, then until there are enough tokens, or some and [`GATHER_MAX`] has passed. A reload may change
    /// the limit or lift it meanwhile.
    async fn tokens(&self, wanted: u64) -> (u64, bool) {
        let waits = |limit: &Arc<Mutex<RateLimit>>| lock(limit).block;
        let _turn =
            if self.course().limit.as_ref().is_some_and(waits) { Some(self.turn.lock().await) } else { None };
        let mut gathered = false;
        loop {
            let wait = {
                let Some(limit) = self.course().limit.clone() else { return (wanted, true) };
                let mut limit = lock(&limit);
                let (block, now) = (limit.block, clock::now());
                let Some(bucket) = &mut limit.bucket else { return (wanted, block) };
                let there = bucket.available(now);
                if !block || there >= wanted || (gathered && there > 0) {
                    return (bucket.take_up_to(wanted, now), block);
                }
                bucket.wait_for(wanted)
            };
            tokio::time::sleep(wait.min(GATHER_MAX)).await;
            gathered = true;
        }
    }

    fn drop_oversize(&self, limit: &Mutex<RateLimit>, batch: &mut Batch, passage: &mut Passage<'_>) {
        let Some(max) = lock(limit).event_bytes_max else { return };
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
        let course;
        let under_way = {
            // Held while filters run: once a reload has led rows elsewhere, nobody enters the old filters.
            let current = self.course.read().unwrap_or_else(PoisonError::into_inner);
            course = current.clone();
            let passed = {
                let mut chain = lock(&course.chain);
                if chain.is_empty() { smallvec![batch] } else { chain.apply(batch) }
            };
            passage.events -= events;
            let (out, bytes) = passed.iter().fold((0, 0), |(e, n), b| (e + b.events(), n + b.bytes()));
            self.meter.delivered(out, bytes);
            passed.iter().for_each(|batch| self.meter.tap().show(batch));
            self.meter.filtered(events.saturating_sub(out));
            course.fan_out(passed)
        };
        under_way.await;
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
    memory: Option<Arc<Memory>>,
}

impl Outlet {
    /// The way into `intake` for the source that counts on `meter`.
    pub fn new(intake: Arc<Intake>, meter: Arc<Meter>) -> Outlet {
        Outlet { intake, meter, memory: None }
    }

    /// The same, waiting while `memory` is over its bound and rows wait in the pipeline. Not for links between
    /// pipelines: there, waiting would keep rows in memory.
    #[must_use]
    pub fn bounded_by(self, memory: Arc<Memory>) -> Outlet {
        Outlet { memory: Some(memory), ..self }
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
        self.meter.tap().show(&batch);
        if events == 0 {
            batch.settle(Outcome::Delivered);
            return 0;
        }
        let memory = self.memory.as_deref();
        memory.inspect(|memory| memory.sending(batch.weight()));
        let memory = memory.filter(|memory| memory.is_over());
        self.intake.enter(batch, memory).await
    }

    /// Whether memory allows more, waiting for `patience` at most where it may; false only where rows would wait for a
    /// sink of this pipeline. For sources that can refuse instead of waiting. Cancel-safe.
    pub async fn has_room(&self, patience: Duration) -> bool {
        let Some(memory) = self.memory.as_deref().filter(|memory| memory.is_over()) else { return true };
        tokio::time::timeout(patience, memory.room(|| self.intake.waits())).await.is_ok()
    }

    /// The longest event that the pipeline's rate limit lets in, in bytes.
    pub fn event_bytes_max(&self) -> Option<u64> {
        let limit = self.intake.course().limit.clone()?;
        lock(&limit).event_bytes_max
    }

    /// The source's meter, to count what it drops before sending.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }
}
