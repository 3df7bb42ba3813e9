//! The filter chain: synchronous, in place, one stage after the other. A stage that panics loses only the batch
//! it had in hand (counted) and is replaced by a fresh one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::component::{Emit, Filter, FilterFactory};
use super::context::Site;
use super::meter::{Meter, Reason};
use crate::base::clock::Instant;
use crate::base::task::panic_text;
use crate::batch::{Batch, Outcome};

/// One filter of a chain, with what is needed to count and replace it.
pub struct Stage {
    filter: Box<dyn Filter>,
    factory: FilterFactory,
    meter: Arc<Meter>,
    site: Arc<Site>,
}

impl Stage {
    /// A fresh filter that counts on `meter`.
    pub fn new(factory: FilterFactory, meter: Arc<Meter>, site: Arc<Site>) -> Stage {
        Stage { filter: factory(), factory, meter, site }
    }

    /// Runs `call` on the filter. Counts what came out; what is missing was filtered, dropped or is held.
    fn run(&mut self, events_in: u64, call: impl FnOnce(&mut dyn Filter, &mut Emit)) -> SmallVec<[Batch; 2]> {
        let held_before = self.filter.held_events();
        let mut emit = Emit::default();
        let outcome = catch_unwind(AssertUnwindSafe(|| call(self.filter.as_mut(), &mut emit)));
        if let Err(payload) = outcome {
            let why = panic_text(payload.as_ref());
            tracing::error!(component = %self.site.id(), "filter failed, its batch is dropped: {why}");
            self.meter.error();
            self.meter.restarted();
            self.meter.dropped(Reason::Fault, events_in + held_before);
            self.meter.queued(0, 0);
            self.filter = (self.factory)();
            emit.take().into_iter().for_each(|b| b.settle(Outcome::Rejected));
            return SmallVec::new();
        }
        let out = emit.take();
        let (events, bytes) =
            out.iter().fold((0, 0), |(e, b), batch| (e + batch.events(), b + batch.bytes()));
        let held = self.filter.held_events();
        let mut dropped = 0;
        while let Some((reason, events)) = self.filter.take_dropped() {
            self.meter.dropped(reason, events);
            dropped += events;
        }
        self.meter.delivered(events, bytes);
        out.iter().for_each(|batch| self.meter.tap().show(batch));
        self.meter.filtered((events_in + held_before).saturating_sub(events + held + dropped));
        self.meter.queued(held, 0);
        out
    }
}

/// Filters in order.
#[derive(Default)]
pub struct Chain {
    stages: Vec<Stage>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.stages.iter().map(|s| s.site.id())).finish()
    }
}

impl Chain {
    /// A chain of `stages`.
    pub fn new(stages: Vec<Stage>) -> Chain {
        Chain { stages }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Whether any filter wants to be ticked.
    pub fn ticks(&self) -> bool {
        self.stages.iter().any(|s| s.filter.ticks())
    }

    /// Passes a batch through all filters.
    pub fn apply(&mut self, batch: Batch) -> SmallVec<[Batch; 2]> {
        self.pass(0, smallvec![batch])
    }

    /// Lets filters emit what they held long enough; it passes the filters behind them.
    pub fn tick(&mut self, now: Instant) -> SmallVec<[Batch; 2]> {
        self.flush(|filter, emit| filter.tick(now, emit))
    }

    /// The input has ended: everything held comes out.
    pub fn finish(&mut self) -> SmallVec<[Batch; 2]> {
        self.flush(|filter, emit| filter.finish(emit))
    }

    fn flush(&mut self, call: impl Fn(&mut dyn Filter, &mut Emit)) -> SmallVec<[Batch; 2]> {
        let mut done = SmallVec::new();
        for index in 0..self.stages.len() {
            let released = self.stages[index].run(0, &call);
            done.extend(self.pass(index + 1, released));
        }
        done
    }

    fn pass(&mut self, from: usize, mut batches: SmallVec<[Batch; 2]>) -> SmallVec<[Batch; 2]> {
        for stage in &mut self.stages[from..] {
            let mut next = SmallVec::new();
            for batch in batches {
                let events = batch.events();
                stage.meter.received(events, batch.bytes());
                next.extend(stage.run(events, |filter, emit| filter.apply(batch, emit)));
            }
            batches = next;
            if batches.is_empty() {
                break;
            }
        }
        batches
    }
}
