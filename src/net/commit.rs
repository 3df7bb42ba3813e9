//! Group commit: requests that arrive together share one batch and one receipt, so that a crowd of small requests
//! costs the pipeline little more than one. A lone request waits for nobody. Who asked hears what became of exactly
//! its own events as far as the entrance of the pipeline decides it, and the worst of the batch beyond.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Sleep;

use super::body::Share;
use crate::base::clock::{self, Instant};
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::batch::{Arena, Batch, BatchBuilder, Origin, Outcome, Receipt, Timestamp};
use crate::codec::decode::Events;
use crate::flow::Outlet;

/// A batch takes no further request once it holds this much.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_EVENTS: usize = 4096;
/// The events of a request from this size on are a batch of their own, in which their text is not copied.
const WHOLE_BYTES: usize = 32 << 10;
const WHOLE_EVENTS: usize = 1024;
/// How many of the batches that wait, from the newest on, are looked at for one of the same sender.
const LOOK_BACK: usize = 64;

/// Who sends, as far as rows tell: their `source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The address.
    pub address: IpAddr,
    /// The user or the name in the client's certificate, which is then what rows tell.
    pub name: Option<Arc<str>>,
}

impl Sender {
    fn origin(&self, component: &str) -> Arc<Origin> {
        let label = self.name.as_ref().map_or_else(|| self.address.to_string(), ToString::to_string);
        Arc::new(Origin::new(component, &label))
    }
}

/// What became of a request's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is settled.
    Settled {
        /// The worst that befell an event of the batch, which other requests may share; a drop by the rate limit
        /// counts here, too.
        outcome: Outcome,
        /// Events of this request that the pipeline's rate limit refused.
        rate_limited: u64,
        /// Events of this request that the pipeline refused as too long.
        oversize: u64,
    },
    /// Nothing was taken in: the pipeline is full, or ends.
    Refused,
    /// The events are in the pipeline, but were not settled in time. They are delivered later, if nothing happens.
    Unsettled,
}

/// Not settled yet.
const OPEN: u8 = u8::MAX;
const REFUSED: u8 = u8::MAX - 1;
const UNSETTLED: u8 = u8::MAX - 2;
/// Not sent yet.
const UNSENT: u64 = u64::MAX;

/// The requests of one batch.
#[derive(Debug)]
struct Group {
    /// An [`Outcome`] or one of the codes above.
    end: AtomicU8,
    /// How many of the batch's last events (of those that are not too long) the rate limit refused.
    rate_limited: AtomicU64,
    /// Events of the batch that are not too long, known once it is sent.
    events: AtomicU64,
    told: Notify,
}

impl Group {
    fn new() -> Arc<Group> {
        let (end, told) = (AtomicU8::new(OPEN), Notify::new());
        Arc::new(Group { end, rate_limited: AtomicU64::new(UNSENT), events: AtomicU64::new(0), told })
    }

    /// The first end counts.
    fn end(&self, code: u8) {
        if self.end.compare_exchange(OPEN, code, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.told.notify_waiters();
        }
    }

    /// The batch has passed the entrance. A receipt may settle before that is known here; then who waits hears of the
    /// end now. Sequentially consistent, as is [`Group::end`]: of the two, whichever comes last sees the other.
    fn sent(&self, rate_limited: u64) {
        self.rate_limited.store(rate_limited, Ordering::SeqCst);
        if self.end.load(Ordering::SeqCst) != OPEN {
            self.told.notify_waiters();
        }
    }

    fn is_open(&self) -> bool {
        self.end.load(Ordering::SeqCst) == OPEN
    }

    fn verdict(&self, place: &Place) -> Option<Verdict> {
        let outcome = match self.end.load(Ordering::SeqCst) {
            OPEN => return None,
            REFUSED => return Some(Verdict::Refused),
            UNSETTLED => return Some(Verdict::Unsettled),
            code => [Outcome::Delivered, Outcome::Dropped, Outcome::Rejected, Outcome::Lost]
                .into_iter()
                .find(|outcome| *outcome as u8 == code)
                .unwrap_or(Outcome::Lost),
        };
        let rate_limited = match self.rate_limited.load(Ordering::SeqCst) {
            // Lost before it was sent, or a moment before that is said.
            UNSENT if outcome != Outcome::Lost => return None,
            UNSENT => 0,
            all => {
                let passed = self.events.load(Ordering::Relaxed).saturating_sub(all);
                (place.first + place.events).saturating_sub(passed.max(place.first))
            }
        };
        Some(Verdict::Settled { outcome, rate_limited, oversize: place.oversize })
    }
}

/// Where a request's events lie among those of its batch that are not too long.
#[derive(Debug, Clone, Copy)]
struct Place {
    first: u64,
    events: u64,
    oversize: u64,
}

/// A request's claim on what became of its events. Dropped, it changes nothing: the events go their way.
#[derive(Debug)]
pub struct Ticket {
    group: Arc<Group>,
    place: Place,
}

impl Ticket {
    /// Waits for the end of the events, for as long as the committer lets a batch wait. Cancel-safe.
    pub async fn verdict(&self) -> Verdict {
        loop {
            let told = self.group.told.notified();
            if let Some(verdict) = self.group.verdict(&self.place) {
                return verdict;
            }
            told.await;
        }
    }
}

/// A batch that is not sent yet.
struct Gathering {
    sender: Sender,
    text: Text,
    /// Events that are not too long.
    events: u64,
    group: Arc<Group>,
    deadline: Instant,
    share: Share,
}

enum Text {
    Gathered(BatchBuilder),
    Whole(Events),
}

impl Gathering {
    fn has_room(&self, sender: &Sender) -> bool {
        match &self.text {
            Text::Gathered(b) => {
                b.text_len() < BATCH_BYTES && b.rows() < BATCH_EVENTS && self.sender == *sender
            }
            Text::Whole(_) => false,
        }
    }

    fn into_batch(self, component: &str) -> (Batch, Arc<Group>, Share) {
        let group = self.group.clone();
        group.events.store(self.events, Ordering::Relaxed);
        let receipt = Receipt::new(move |outcome| group.end(outcome as u8));
        let batch = match self.text {
            Text::Gathered(builder) => builder.finish(receipt),
            Text::Whole(events) => {
                let (origin, now) = (self.sender.origin(component), Timestamp(clock::unix_nanos()));
                let arena = Arena::new(events.text, events.spans.into_vec(), events.framing, origin, now);
                Batch::new(arena, receipt)
            }
        };
        (batch, self.group, self.share)
    }
}

#[derive(Default)]
struct Waiting {
    gatherings: VecDeque<Gathering>,
    /// Text of the batch that was sent last: what the next one will probably need.
    last_bytes: usize,
    closed: bool,
}

/// Gathers the events of requests and sends them on.
pub struct Committer {
    component: String,
    settle_timeout: Duration,
    waiting: Mutex<Waiting>,
    /// Woken when there is a first batch to send.
    arrived: Notify,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Committer of {}", self.component)
    }
}

/// Says to all who wait that nothing of theirs is taken in, when a run ends in whatever way.
struct Closing<'a>(&'a Committer);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.closed = true;
        let left = std::mem::take(&mut waiting.gatherings);
        drop(waiting);
        left.iter().for_each(|gathering| gathering.group.end(REFUSED));
    }
}

impl Committer {
    /// For the source `component`. Whoever waits hears [`Verdict::Refused`] or [`Verdict::Unsettled`] after
    /// `settle_timeout` at the latest.
    pub fn new(component: String, settle_timeout: Duration) -> Arc<Committer> {
        let (waiting, arrived) = (Mutex::default(), Notify::new());
        Arc::new(Committer { component, settle_timeout, waiting, arrived })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands in the events of one request, all of them; `None` when the source ends. `event_bytes_max` is what the
    /// pipeline lets in, `share` the memory that the events are accounted to.
    pub fn submit(
        &self,
        sender: &Sender,
        events: Events,
        event_bytes_max: Option<u64>,
        share: Share,
    ) -> Option<Ticket> {
        let too_long = |max| events.iter().filter(|line| line.len() as u64 > max).count();
        let oversize = event_bytes_max.map_or(0, too_long) as u64;
        let fitting = events.len() as u64 - oversize;
        let mut waiting = self.lock();
        if waiting.closed {
            return None;
        }
        let (first_of_all, bytes) = (waiting.gatherings.is_empty(), events.bytes());
        let small = bytes < WHOLE_BYTES && events.len() < WHOLE_EVENTS;
        if small {
            let newest = waiting.gatherings.iter_mut().rev().take(LOOK_BACK);
            if let Some(gathering) = newest.into_iter().find(|g| g.has_room(sender)) {
                let place = gathering.join(&events, fitting, oversize, share);
                return Some(Ticket { group: gathering.group.clone(), place });
            }
        }
        let room = waiting.last_bytes.max(bytes + events.len());
        let builder = || BatchBuilder::with_capacity(sender.origin(&self.component), room, events.len());
        let place = Place { first: 0, events: fitting, oversize };
        let text = if small {
            let mut builder = builder();
            events.iter().for_each(|line| builder.push(line));
            Text::Gathered(builder)
        } else {
            Text::Whole(events)
        };
        let deadline = clock::now() + self.settle_timeout;
        let (sender, group) = (sender.clone(), Group::new());
        let gathering = Gathering { sender, text, events: fitting, group, deadline, share };
        let group = gathering.group.clone();
        waiting.gatherings.push_back(gathering);
        drop(waiting);
        if first_of_all {
            self.arrived.notify_one();
        }
        Some(Ticket { group, place })
    }

    /// Sends what requests hand in until `shutdown` drains; then sends the rest and takes in no more. Dropped, it
    /// takes in no more at once.
    pub async fn run(&self, out: &Outlet, shutdown: &Shutdown) {
        let _closing = Closing(self);
        let mut watch = Watch::new(self.settle_timeout);
        loop {
            tokio::select! {
                () = self.arrived.notified() => {}
                () = watch.alarm.as_mut() => { watch.ring(self); continue; }
                () = shutdown.draining() => break,
            }
            // Requests that have arrived, but whose tasks have not run yet, come along.
            tokio::task::yield_now().await;
            self.send_all(out, &mut watch).await;
        }
        self.lock().closed = true;
        self.send_all(out, &mut watch).await;
        // Who waits beyond that hears of the end by the receipts, or that there was none in time.
        drop(task::spawn(watch.see_off()));
    }

    async fn send_all(&self, out: &Outlet, watch: &mut Watch) {
        loop {
            let Some(gathering) = self.next() else { return };
            let deadline = gathering.deadline;
            let (batch, group, share) = gathering.into_batch(&self.component);
            watch.follow(deadline, &group);
            let mut sending = std::pin::pin!(out.offer(batch));
            let rate_limited = loop {
                tokio::select! {
                    biased;
                    rate_limited = &mut sending => break rate_limited,
                    () = watch.alarm.as_mut() => watch.ring(self),
                }
            };
            group.sent(rate_limited);
            drop(share);
        }
    }

    fn next(&self) -> Option<Gathering> {
        let mut waiting = self.lock();
        let gathering = waiting.gatherings.pop_front()?;
        if let Text::Gathered(builder) = &gathering.text {
            waiting.last_bytes = builder.text_len();
        }
        Some(gathering)
    }

    /// Takes back the batches that have waited too long to be sent.
    fn withdraw(&self, now: Instant) {
        let mut late = Vec::new();
        let mut waiting = self.lock();
        while waiting.gatherings.front().is_some_and(|g| g.deadline <= now) {
            late.extend(waiting.gatherings.pop_front());
        }
        drop(waiting);
        late.iter().for_each(|gathering| gathering.group.end(REFUSED));
    }
}

impl Gathering {
    fn join(&mut self, events: &Events, fitting: u64, oversize: u64, share: Share) -> Place {
        self.share.merge(share);
        if let Text::Gathered(builder) = &mut self.text {
            events.iter().for_each(|line| builder.push(line));
        }
        let place = Place { first: self.events, events: fitting, oversize };
        self.events += fitting;
        place
    }
}

/// Watches the deadlines of batches with one timer for all of them.
struct Watch {
    settle_timeout: Duration,
    /// Batches that are sent, ascending by deadline.
    sent: VecDeque<(Instant, Arc<Group>)>,
    alarm: std::pin::Pin<Box<Sleep>>,
}

impl Watch {
    fn new(settle_timeout: Duration) -> Watch {
        let alarm = Box::pin(tokio::time::sleep(settle_timeout));
        Watch { settle_timeout, sent: VecDeque::new(), alarm }
    }

    fn follow(&mut self, deadline: Instant, group: &Arc<Group>) {
        self.forget_settled();
        self.sent.push_back((deadline, group.clone()));
    }

    fn forget_settled(&mut self) {
        while self.sent.front().is_some_and(|(_, group)| !group.is_open()) {
            self.sent.pop_front();
        }
    }

    /// Watches on what is sent, until the last of it is settled or late.
    async fn see_off(mut self) {
        loop {
            self.forget_settled();
            let Some((deadline, group)) = self.sent.front() else { return };
            tokio::time::sleep_until(*deadline).await;
            group.end(UNSETTLED);
        }
    }

    /// Ends what is late and sets the alarm to the next deadline. Every batch comes after the alarm was last set,
    /// or was there then: none is late before it rings.
    fn ring(&mut self, committer: &Committer) {
        let now = clock::now();
        committer.withdraw(now);
        while self.sent.front().is_some_and(|(deadline, group)| *deadline <= now || !group.is_open()) {
            if let Some((_, group)) = self.sent.pop_front() {
                group.end(UNSETTLED);
            }
        }
        let mut next = now + self.settle_timeout;
        next = self.sent.front().map_or(next, |(deadline, _)| next.min(*deadline));
        if let Some(gathering) = committer.lock().gatherings.front() {
            next = next.min(gathering.deadline);
        }
        self.alarm.as_mut().reset(next);
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
