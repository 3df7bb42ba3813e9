//! Rows out over connections to one or several endpoints, each row counted as delivered only once the receiver's
//! system has acknowledged its last byte.
//!
//! **What is promised.** Rows keep their order on each connection. When a connection breaks, the rows that were not
//! acknowledged go again, in order, on the next one; a row that had arrived in part begins anew there. So a row may
//! arrive twice, and none is lost while the receiver lives.
//!
//! **What TCP cannot promise.** An acknowledgement says that the receiver's *system* has the bytes, not that its
//! program has read them. What lies in the socket of a receiver that dies is gone, and nobody can tell. Where that
//! matters, use a protocol whose receiver answers, such as HTTP (`http_client`).
//!
//! Everything runs in the task that calls [`Lanes::run`]: no task and no timer per batch.

mod lane;
mod link;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Sleep;

use self::lane::{Event, Lane};
use self::link::Leftover;
use super::dial::Dial;
use super::upstream::{Pick, Slot, Upstreams};
use crate::base::clock::{self, Instant};
use crate::codec::outgoing::Outgoing;
use crate::flow::{Inlet, Lease, Reason, State, TaskCx};

/// The shortest and the longest time between two looks at what was acknowledged.
const TICK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// The shortest while work waits for what is acknowledged, and it is.
const TICK_FULL: Duration = Duration::from_millis(1);
/// How long a receiver has for its goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest pause of an endpoint once shutdown has begun: its deadline is short.
const PAUSE_DRAINING_MAX: Duration = Duration::from_secs(1);

/// How long a receiver has to acknowledge what is under way once another sink takes over.
const LETTING_GO: Duration = Duration::from_secs(1);

/// What a lane may hold, and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    /// Most memory kept alive by what was given to a connection and is not acknowledged, in bytes; one batch may go
    /// beyond it.
    pub window_bytes_max: u64,
    /// How long nothing may move before a connection is given up.
    pub write_timeout: Duration,
    /// Age at which a connection is made anew, once all it carries was acknowledged.
    pub reconnect_after: Option<Duration>,
    /// Attempts to send a piece of work after which it is dropped as rejected; none: no end.
    pub attempts_max: Option<u64>,
}

/// Rows that go out together.
pub(super) struct Work {
    lease: Lease,
    slot: Option<Slot>,
    /// Its place among all work.
    number: u64,
    /// Attempts that failed.
    attempts: u64,
}

impl Work {
    /// Memory it keeps alive, in bytes.
    fn weight(&self) -> u64 {
        self.lease.batch().weight()
    }

    fn delivered(self) {
        self.lease.delivered();
        if let Some(slot) = self.slot {
            slot.succeeded();
        }
    }
}

/// See the module.
pub struct Lanes {
    upstreams: Upstreams,
    lanes: Vec<Lane>,
    outgoing: Outgoing,
    limits: LaneLimits,
    /// Taken from the queue and not given to a lane, ascending by number.
    waiting: VecDeque<Work>,
    next_number: u64,
    /// When an endpoint may be tried again, while work waits for that.
    pick_at: Option<Instant>,
    tick: std::pin::Pin<Box<Sleep>>,
    tick_every: Duration,
    tick_is_set: bool,
}

impl Lanes {
    /// A lane per endpoint of `upstreams`, which probes ([`Trials::Probe`](super::upstream::Trials)); connections
    /// are made when there is something to send. Call it within a runtime.
    pub fn new(upstreams: Upstreams, dial: &Arc<dyn Dial>, outgoing: Outgoing, limits: LaneLimits) -> Lanes {
        let lane = |endpoint: &super::dial::Endpoint| Lane::new(endpoint.clone(), dial.clone(), limits);
        let lanes = upstreams.endpoints().iter().map(lane).collect();
        Lanes {
            upstreams,
            lanes,
            outgoing,
            limits,
            waiting: VecDeque::new(),
            next_number: 0,
            pick_at: None,
            tick: Box::pin(tokio::time::sleep(TICK.0)),
            tick_every: TICK.0,
            tick_is_set: false,
        }
    }

    /// Sends all that comes out of `inlet`, until it has ended and everything was acknowledged. Never fails: what
    /// cannot be sent waits, and `cx` says so. Dropped at any await, what was not acknowledged returns to the queue;
    /// so it does a moment after the inlet is released.
    pub async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) {
        let (mut ended, mut draining) = (false, false);
        let (release, mut let_go_at) = (inlet.release_token(), None::<Instant>);
        loop {
            if let_go_at.is_some() {
                self.waiting.clear();
            }
            if let_go_at.is_some_and(|at| at <= clock::now()) {
                self.lanes.iter_mut().for_each(Lane::let_go);
            }
            self.dispatch(cx);
            if ended && self.is_empty() {
                return self.goodbye().await;
            }
            let wake_at = self.wake_at().into_iter().chain(let_go_at).min();
            let wants = !ended && self.waiting.is_empty();
            self.set_tick();
            let Lanes { lanes, outgoing, tick, .. } = self;
            tokio::select! {
                biased;
                events = poll_fn(|task| poll_lanes(lanes, outgoing, task)) => {
                    events.into_iter().for_each(|(index, event)| self.handle(index, event, cx));
                }
                lease = inlet.recv(), if wants => match lease {
                    Some(lease) => self.take_in(lease, inlet),
                    None => ended = true,
                },
                () = tick, if self.tick_is_set => self.on_tick(cx),
                () = tokio::time::sleep_until(wake_at.unwrap_or_else(clock::now)), if wake_at.is_some() => {
                    self.probe_due();
                }
                () = release.cancelled(), if let_go_at.is_none() => {
                    ended = true;
                    let_go_at = Some(clock::now() + LETTING_GO);
                }
                () = cx.shutdown.draining(), if !draining => draining = true,
            }
            if draining {
                self.upstreams.hasten(clock::now() + PAUSE_DRAINING_MAX);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.lanes.iter().all(Lane::is_empty)
    }

    /// Takes a batch in, and the small ones behind it, so that they leave in one system call.
    fn take_in(&mut self, lease: Lease, inlet: &mut Inlet) {
        /// Enough for a good system call, in bytes.
        const TOGETHER: u64 = 256 << 10;
        let (mut bytes, mut next) = (0, Some(lease));
        while let Some(lease) = next {
            bytes += lease.batch().weight();
            self.waiting.push_back(Work { lease, slot: None, number: self.next_number, attempts: 0 });
            self.next_number += 1;
            next = if bytes < TOGETHER { inlet.try_recv() } else { None };
        }
    }

    /// Gives waiting work to lanes, as far as they have room.
    fn dispatch(&mut self, cx: &TaskCx) {
        self.pick_at = None;
        if self.waiting.is_empty() {
            return;
        }
        let now = clock::now();
        while let Some(mut work) = self.waiting.pop_front() {
            match self.upstreams.pick_among(now, |i| self.lanes[i].has_room()) {
                Some(Pick::Use(slot)) => {
                    let index = slot.index();
                    work.slot = Some(slot);
                    self.lanes[index].push(work);
                    continue;
                }
                Some(Pick::WaitUntil(at)) => {
                    self.pick_at = Some(at);
                    // A connection that is up is on trial still; the next one would not come to say that all is well.
                    let down = !self.lanes.iter().any(Lane::is_up) && cx.health.state() == State::Ready;
                    if let Some(why) = self.upstreams.trouble().filter(|_| down) {
                        cx.health.set(State::Restarting { why });
                    }
                }
                None => {}
            }
            return self.waiting.push_front(work);
        }
    }

    fn handle(&mut self, index: usize, event: Event, cx: &TaskCx) {
        match event {
            Event::Freed => {}
            Event::Up => {
                tracing::info!(component = %cx.site.id(), "connected to {}", self.upstreams.endpoints()[index]);
                cx.ready();
            }
            Event::Lost { why, leftover, probe, undialed } => {
                let in_hand = !leftover.is_empty();
                if !in_hand && !undialed {
                    // Closed in a quiet moment, as receivers do: the next rows open it anew.
                    tracing::info!(component = %cx.site.id(), "{why}");
                    return;
                }
                cx.meter.error();
                if let Some(probe) = probe {
                    probe.failed(&why);
                    self.count_attempt_of_waiting(cx);
                }
                self.give_back(leftover, &why, cx);
                let pause = self.upstreams.paused_until(index).map(|at| at - clock::now());
                tracing::warn!(component = %cx.site.id(), "{why}; trying again in {:.1?}", pause.unwrap_or_default());
            }
        }
    }

    /// Puts work back in its place, unless its attempts are used up.
    fn give_back(&mut self, leftover: Leftover, why: &str, cx: &TaskCx) {
        for mut work in leftover {
            if let Some(slot) = work.slot.take() {
                slot.failed(why);
            }
            if self.limits.attempts_max.is_some_and(|max| work.attempts >= max) {
                give_up(work, cx);
                continue;
            }
            let at = self.waiting.partition_point(|other| other.number < work.number);
            self.waiting.insert(at, work);
        }
    }

    /// While no endpoint works, a probe that failed is an attempt to send what waits.
    fn count_attempt_of_waiting(&mut self, cx: &TaskCx) {
        let Some(max) = self.limits.attempts_max else { return };
        if (0..self.lanes.len()).any(|i| self.upstreams.works(i)) {
            return;
        }
        for mut work in std::mem::take(&mut self.waiting) {
            work.attempts += 1;
            if work.attempts >= max {
                give_up(work, cx);
            } else {
                self.waiting.push_back(work);
            }
        }
    }

    fn set_tick(&mut self) {
        if !self.tick_is_set && self.lanes.iter().any(Lane::wants_tick) {
            self.tick.as_mut().reset(clock::now() + self.tick_every);
            self.tick_is_set = true;
        }
    }

    fn on_tick(&mut self, cx: &TaskCx) {
        self.tick_is_set = false;
        let now = clock::now();
        let mut freed = false;
        for index in 0..self.lanes.len() {
            if let Some(event) = self.lanes[index].tick(now) {
                freed |= matches!(event, Event::Freed);
                self.handle(index, event, cx);
            }
        }
        self.tick_every = match freed {
            true if self.waiting.is_empty() => TICK.0,
            true => TICK_FULL,
            false => (self.tick_every * 2).min(TICK.1),
        };
    }

    /// The next moment at which something is due besides the tick: a probe, a trial, a connection's old age.
    fn wake_at(&self) -> Option<Instant> {
        let due = |i: usize, lane: &Lane| match lane.is_down() {
            true => self.upstreams.paused_until(i),
            false => lane.old_at(),
        };
        self.lanes.iter().enumerate().filter_map(|(i, lane)| due(i, lane)).chain(self.pick_at).min()
    }

    fn probe_due(&mut self) {
        let now = clock::now();
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            lane.retire_if_old(now);
            if lane.is_down()
                && let Some(slot) = self.upstreams.probe(index, now)
            {
                lane.probe(slot);
            }
        }
    }

    /// Ends all connections in order, so that receivers see an end and not a reset.
    async fn goodbye(&mut self) {
        self.lanes.iter_mut().for_each(Lane::close);
        let closed = poll_fn(|task| {
            let outgoing = &self.outgoing;
            self.lanes.iter_mut().for_each(|lane| drop(lane.poll(task, outgoing)));
            if self.lanes.iter().any(Lane::is_closing) { Poll::Pending } else { Poll::Ready(()) }
        });
        tokio::time::timeout(CLOSE_TIMEOUT, closed).await.ok();
    }
}

type Events = SmallVec<[(usize, Event); 2]>;

/// Each lane goes on as far as it can; ready when something happened that changes what can be dispatched.
fn poll_lanes(lanes: &mut [Lane], outgoing: &Outgoing, task: &mut Context<'_>) -> Poll<Events> {
    let polled = lanes.iter_mut().enumerate().filter_map(|(i, lane)| Some((i, lane.poll(task, outgoing)?)));
    let events: Events = polled.collect();
    if events.is_empty() { Poll::Pending } else { Poll::Ready(events) }
}

fn give_up(work: Work, cx: &TaskCx) {
    let events = work.lease.batch().events();
    tracing::error!(component = %cx.site.id(), "{events} events given up after {} attempts", work.attempts);
    work.lease.dropped(Reason::Rejected);
}
