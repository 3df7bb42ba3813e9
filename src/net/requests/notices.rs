//! What a client sink says in the log and about its health: the first failure, now and then that it lasts, and
//! that it is over. Never a line per request.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::clock::{self, Instant};
use crate::flow::{State, TaskCx};

/// The least time between two lines on the same matter.
const REPEAT_AFTER: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Notices {
    cx: TaskCx,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    /// When attempts began to fail, and how many have.
    failing: Option<(Instant, u64)>,
    failure_said: Option<Instant>,
    /// The log knows of this failure, so that it must hear of its end.
    told: bool,
    /// Somebody must mend something; health says so.
    unready: bool,
    rejected_said: Option<Instant>,
    rejected_unsaid: u64,
}

fn is_due(said: Option<Instant>, now: Instant) -> bool {
    said.is_none_or(|at| now.duration_since(at) >= REPEAT_AFTER)
}

impl Notices {
    pub(super) fn new(cx: &TaskCx) -> Notices {
        Notices { cx: cx.clone(), said: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt has failed and will be made again. `setup`: it will go on failing until somebody mends something,
    /// so the sink counts as not ready.
    pub(super) fn failed(&self, target: &str, why: &str, setup: bool) {
        self.cx.meter.error();
        self.cx.health.set_failing(true);
        let now = clock::now();
        let mut said = self.lock();
        let failures = said.failing.map_or(0, |(_, n)| n) + 1;
        said.failing = Some((said.failing.map_or(now, |(since, _)| since), failures));
        if setup && !said.unready {
            said.unready = true;
            said.failure_said = None;
            self.cx.health.set(State::Restarting { why: format!("{target}: {why}") });
        }
        if is_due(said.failure_said, now) {
            said.failure_said = Some(now);
            said.told = true;
            let hint = if setup { "; nothing is lost, rows wait until this is mended" } else { "" };
            tracing::warn!(component = %self.cx.site.id(), failures, "{target}: {why}{hint}");
        }
    }

    /// The receiver answers as it should: it has taken rows, or has looked at them and wants others.
    pub(super) fn works(&self) {
        self.cx.health.set_failing(false);
        let mut said = self.lock();
        let told = std::mem::take(&mut said.told);
        if let Some((since, failures)) = said.failing.take()
            && told
        {
            let after = since.elapsed();
            tracing::info!(component = %self.cx.site.id(), failures, "answers again after {after:.1?}");
        }
        if std::mem::take(&mut said.unready) {
            self.cx.ready();
        }
    }

    /// Rows were refused for good.
    pub(super) fn rejected(&self, target: &str, why: &str, events: u64, goes_to: Option<&str>) {
        self.cx.meter.error();
        let now = clock::now();
        let mut said = self.lock();
        said.rejected_unsaid += events;
        if is_due(said.rejected_said, now) {
            said.rejected_said = Some(now);
            let events = std::mem::take(&mut said.rejected_unsaid);
            let fate = goes_to.map_or("dropped".to_owned(), |name| format!("sent to pipeline {name}"));
            tracing::warn!(component = %self.cx.site.id(), events, "{target}: {why}; refused events are {fate}");
        }
    }
}
