//! The endpoints of a client sink: which of them takes the next piece of work. A breaker per endpoint keeps work
//! away from one that fails, lets a single trial through when its pause is over, and closes when that succeeds.
//!
//! Takes no time of its own and spawns nothing: whoever asks brings the moment, so that minutes pass in a test in no
//! time.

mod breaker;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use self::breaker::{Breaker, Gate};
use super::dial::Endpoint;
use crate::base::clock::{self, Instant};
use crate::base::rng::Rng;
use crate::config::choices;

choices! {
    /// Who takes the next piece of work, among the endpoints that work.
    pub enum Strategy {
        /// The first in the order of the configuration; it takes over again when it is back.
        Failover = "failover",
        /// Each in turn.
        RoundRobin = "round_robin",
        /// The one with the least in hand; equals take turns.
        LeastPending = "least_pending",
    }
}

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row after which an endpoint is left alone, at least 1.
    pub failures_max: u32,
    /// The limit of the first pause. A pause is drawn between half its limit and all of it.
    pub pause_initial: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// Whether the limit doubles from pause to pause, until work succeeds.
    pub doubles: bool,
    /// Who finds out that an endpoint is back.
    pub trials: Trials,
}

impl Default for BreakerPolicy {
    fn default() -> BreakerPolicy {
        BreakerPolicy {
            failures_max: 1,
            pause_initial: Duration::from_millis(200),
            pause_max: Duration::from_secs(30),
            doubles: true,
            trials: Trials::Work,
        }
    }
}

/// Who finds out that an endpoint is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trials {
    /// The next piece of work whose turn it is.
    Work,
    /// A probe ([`Upstreams::probe`]); work is risked only when no endpoint is known to work.
    Probe,
}

/// What to do with a piece of work.
#[derive(Debug)]
pub enum Pick {
    /// Give it to this endpoint.
    Use(Slot),
    /// No endpoint takes work now; ask again then, or when [`Upstreams::changed`].
    WaitUntil(Instant),
}

/// The endpoints of one sink. Clones share them.
#[derive(Debug, Clone)]
pub struct Upstreams {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoints: Vec<Endpoint>,
    strategy: Strategy,
    policy: BreakerPolicy,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    breakers: Vec<Breaker>,
    /// Slots out per endpoint.
    pending: Vec<u64>,
    /// Where the next turn begins.
    turn: usize,
    rng: Rng,
}

impl Upstreams {
    /// All of `endpoints` (at least one), each believed to work.
    pub fn new(endpoints: Vec<Endpoint>, strategy: Strategy, policy: BreakerPolicy, rng: Rng) -> Upstreams {
        debug_assert!(!endpoints.is_empty());
        let (breakers, pending) = (vec![Breaker::default(); endpoints.len()], vec![0; endpoints.len()]);
        let state = Mutex::new(State { breakers, pending, turn: 0, rng });
        Upstreams { shared: Arc::new(Shared { endpoints, strategy, policy, state, changed: Notify::new() }) }
    }

    /// The endpoints in the order of the configuration.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.shared.endpoints
    }

    /// Who takes the next piece of work.
    pub fn pick(&self, now: Instant) -> Pick {
        self.pick_among(now, |_| true).unwrap_or(Pick::WaitUntil(now + self.shared.policy.pause_initial))
    }

    /// Who of those that `has_room` takes the next piece of work; `None` when all that could are full.
    pub fn pick_among(&self, now: Instant, has_room: impl Fn(usize) -> bool) -> Option<Pick> {
        let mut state = self.shared.lock();
        let state = &mut *state;
        let count = self.shared.endpoints.len();
        let by_work = self.shared.policy.trials == Trials::Work;
        let gates: Vec<Gate> = state.breakers.iter().map(|b| b.gate(now)).collect();
        let any_closed = gates.contains(&Gate::Closed);
        let open_to = |i: usize| match gates[i] {
            Gate::Closed => true,
            Gate::Due => by_work || !any_closed,
            Gate::Trial | Gate::Open(_) => false,
        };
        let turn = state.turn;
        let in_turn = (0..count).map(|i| (turn + i) % count).filter(|&i| open_to(i));
        let chosen = match self.shared.strategy {
            // The first that works is waited for when it is full: order is worth more than a second lane.
            Strategy::Failover => match (0..count).find(|&i| open_to(i)) {
                Some(first) if !has_room(first) => return None,
                first => first,
            },
            Strategy::RoundRobin => in_turn.clone().find(|&i| has_room(i)),
            Strategy::LeastPending => {
                in_turn.clone().filter(|&i| has_room(i)).min_by_key(|&i| state.pending[i])
            }
        };
        if let Some(index) = chosen {
            state.turn = (index + 1) % count;
            return Some(Pick::Use(self.take(state, index)));
        }
        if in_turn.count() > 0 {
            return None;
        }
        let soonest = gates.iter().filter_map(|gate| match gate {
            Gate::Open(until) => Some(*until),
            // Its end is announced by `changed`.
            Gate::Trial => Some(now + self.shared.policy.pause_max),
            Gate::Closed | Gate::Due => None,
        });
        Some(Pick::WaitUntil(soonest.min().unwrap_or(now)))
    }

    /// Waits for an endpoint that takes work. Cancel-safe.
    pub async fn ready(&self) -> Slot {
        loop {
            let changed = self.changed();
            match self.pick(clock::now()) {
                Pick::Use(slot) => return slot,
                Pick::WaitUntil(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }

    /// A trial of endpoint `index`, if it failed and its pause is over. [`Slot::succeeded`] lets work in again, but
    /// only work that succeeds makes pauses short again.
    pub fn probe(&self, index: usize, now: Instant) -> Option<Slot> {
        let mut state = self.shared.lock();
        (state.breakers[index].gate(now) == Gate::Due).then(|| {
            let mut slot = self.take(&mut state, index);
            slot.is_probe = true;
            slot
        })
    }

    /// When the pause of endpoint `index` is over, if it has one.
    pub fn paused_until(&self, index: usize) -> Option<Instant> {
        self.shared.lock().breakers[index].open_until()
    }

    fn take(&self, state: &mut State, index: usize) -> Slot {
        state.pending[index] += 1;
        let is_trial = !state.breakers[index].is_closed();
        let epoch = state.breakers[index].enter();
        Slot { shared: self.shared.clone(), index, epoch, is_trial, is_probe: false, is_open: true }
    }

    /// Ends every pause at `latest`, for the end of the process: its deadline is short.
    pub fn hasten(&self, latest: Instant) {
        let mut hastened = false;
        self.shared.lock().breakers.iter_mut().for_each(|b| hastened |= b.hasten(latest));
        // Whoever asks for it again and again is not woken by that alone.
        if hastened {
            self.shared.changed.notify_waiters();
        }
    }

    /// Resolves when an endpoint may take work again that did not before. Cancel-safe; hears from the moment it is
    /// called.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + '_ {
        self.shared.changed.notified()
    }

    /// Slots of endpoint `index` that are out.
    pub fn pending(&self, index: usize) -> u64 {
        self.shared.lock().pending[index]
    }

    /// Whether endpoint `index` is believed to work.
    pub fn works(&self, index: usize) -> bool {
        self.shared.lock().breakers[index].is_closed()
    }

    /// Whether an endpoint other than `index` is believed to work.
    pub fn works_elsewhere(&self, index: usize) -> bool {
        let state = self.shared.lock();
        state.breakers.iter().enumerate().any(|(i, breaker)| i != index && breaker.is_closed())
    }

    /// The last failure of an endpoint that is left alone now, of the first such endpoint.
    pub fn trouble(&self) -> Option<String> {
        self.shared.lock().breakers.iter().find_map(|b| b.why().map(str::to_owned))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece of work given to an endpoint. Say how it went; dropped in silence, it counts as neither success nor
/// failure.
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
    index: usize,
    /// Which period of the breaker it belongs to: what it says of an earlier one is not news.
    epoch: u64,
    is_trial: bool,
    is_probe: bool,
    is_open: bool,
}

impl Slot {
    /// Which endpoint, by its place.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether it finds out if an endpoint that failed is back.
    pub fn is_trial(&self) -> bool {
        self.is_trial
    }

    /// Which endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoints[self.index]
    }

    /// The work was done: the endpoint works.
    pub fn succeeded(mut self) {
        let is_probe = self.is_probe;
        self.end(|breaker, epoch, _, _| breaker.succeeded(epoch, is_probe));
    }

    /// The work failed in a way that tells of the endpoint.
    pub fn failed(self, why: &str) {
        self.failed_until(why, None);
    }

    /// The same, and the endpoint asked to be left alone until `not_before` at least (`Retry-After`), which no
    /// count of failures has to reach.
    pub fn failed_until(mut self, why: &str, not_before: Option<Instant>) {
        self.end(|breaker, epoch, policy, rng| breaker.failed(epoch, why, not_before, policy, rng));
    }

    fn end(&mut self, say: impl FnOnce(&mut Breaker, u64, &BreakerPolicy, &mut Rng) -> bool) {
        if !std::mem::replace(&mut self.is_open, false) {
            return;
        }
        let mut state = self.shared.lock();
        let State { breakers, pending, rng, .. } = &mut *state;
        pending[self.index] -= 1;
        let changed = say(&mut breakers[self.index], self.epoch, &self.shared.policy, rng);
        drop(state);
        if changed {
            self.shared.changed.notify_waiters();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.end(|breaker, epoch, _, _| breaker.abandoned(epoch));
    }
}
