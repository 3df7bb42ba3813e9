//! The circuit breaker of one endpoint: closed while it works, open for a pause after it failed, then one trial.

use std::time::Duration;

use super::BreakerPolicy;
use crate::base::clock::{self, Instant};
use crate::base::rng::Rng;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Breaker {
    position: Position,
    /// Failures since the last success.
    failures: u32,
    /// Pauses since work last succeeded; the next one's limit follows from it.
    pauses: u32,
    /// Counts changes of position; a slot from before one says nothing new.
    epoch: u64,
    why: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Position {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    /// One slot is out to find out.
    Trial,
}

/// What a breaker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Works.
    Closed,
    /// The pause is over, one may try.
    Due,
    /// One is trying.
    Trial,
    /// To be left alone until then.
    Open(Instant),
}

impl Breaker {
    pub(super) fn gate(&self, now: Instant) -> Gate {
        match self.position {
            Position::Closed => Gate::Closed,
            Position::Open { until } if until <= now => Gate::Due,
            Position::Open { until } => Gate::Open(until),
            Position::Trial => Gate::Trial,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.position == Position::Closed
    }

    pub(super) fn open_until(&self) -> Option<Instant> {
        match self.position {
            Position::Open { until } => Some(until),
            _ => None,
        }
    }

    /// The last failure, unless it works again.
    pub(super) fn why(&self) -> Option<&str> {
        (!self.is_closed()).then_some(&self.why)
    }

    /// A slot goes out; the caller has asked [`Breaker::gate`]. Returns the slot's epoch.
    pub(super) fn enter(&mut self) -> u64 {
        if !self.is_closed() {
            self.move_to(Position::Trial);
        }
        self.epoch
    }

    /// Each of these returns whether work may be let in that was not before.
    pub(super) fn succeeded(&mut self, epoch: u64, is_probe: bool) -> bool {
        if epoch != self.epoch {
            // Work from before the failure got through after all: good, but not a sign of life now.
            return false;
        }
        self.failures = 0;
        if !is_probe {
            self.pauses = 0;
        }
        let was_open = !self.is_closed();
        if was_open {
            self.move_to(Position::Closed);
        }
        was_open
    }

    pub(super) fn failed(
        &mut self,
        epoch: u64,
        why: &str,
        not_before: Option<Instant>,
        policy: &BreakerPolicy,
        rng: &mut Rng,
    ) -> bool {
        if epoch != self.epoch {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        why.clone_into(&mut self.why);
        let on_trial = self.position == Position::Trial;
        if !on_trial && self.failures < policy.failures_max && not_before.is_none() {
            return false;
        }
        let until = clock::now() + self.next_pause(policy, rng);
        self.move_to(Position::Open { until: not_before.map_or(until, |at| at.max(until)) });
        // Whoever waits for the trial's end must look again.
        on_trial
    }

    /// A slot was dropped in silence: a trial that found out nothing may be made again at once.
    pub(super) fn abandoned(&mut self, epoch: u64) -> bool {
        let on_trial = epoch == self.epoch && self.position == Position::Trial;
        if on_trial {
            self.move_to(Position::Open { until: clock::now() });
        }
        on_trial
    }

    /// Whether its pause has become shorter.
    pub(super) fn hasten(&mut self, latest: Instant) -> bool {
        match &mut self.position {
            Position::Open { until } if *until > latest => {
                *until = latest;
                true
            }
            _ => false,
        }
    }

    fn next_pause(&mut self, policy: &BreakerPolicy, rng: &mut Rng) -> Duration {
        let factor = if policy.doubles { 1u32 << self.pauses.min(30) } else { 1 };
        self.pauses = self.pauses.saturating_add(1);
        let limit = policy.pause_initial.saturating_mul(factor).min(policy.pause_max);
        limit.mul_f64(0.5 + rng.unit() / 2.0)
    }

    fn move_to(&mut self, position: Position) {
        self.position = position;
        self.epoch += 1;
    }
}
