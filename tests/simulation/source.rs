//! A source with a durable log behind it: it offers rows from where it was acknowledged, offers lost ones again,
//! and now and then fails, panics or pauses between two sends. Told to end by a reload, it leaves word where it was.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use logweir::base::rng::Rng;
use logweir::batch::{Batch, BatchBuilder, Origin, Receipt};
use logweir::flow::{Fault, Outlet, Source, TaskCx};

use super::world::{PLANNED_PANIC, Row, Start, World, lock};

/// Most passes of a life that end in a fault. One that always fails offers the same rows again faster than a slow sink
/// takes them, and gets nowhere.
const FAULTY_PASSES_MAX: u64 = 30;

pub(crate) struct SimSource {
    pub(crate) world: Arc<World>,
    pub(crate) index: usize,
    pub(crate) start: Start,
    pub(crate) rng: Rng,
}

impl SimSource {
    fn batch(&mut self, pass: u64, from: u64, to: u64) -> Batch {
        let mut builder = BatchBuilder::new(Arc::new(Origin::new("simulated", "simulated")));
        for number in from..to {
            builder.push(Row { source: self.index, pass, number }.line().as_bytes());
        }
        let (world, source) = (self.world.clone(), self.index);
        builder.finish(Receipt::new(move |outcome| world.settled(source, pass, from, to, outcome)))
    }

    /// Where to begin, and the number of the pass: where the source that this one succeeds left off, if nothing was
    /// lost since.
    fn begin(&self) -> (u64, u64) {
        let mut log = lock(&self.world.sources[self.index]);
        if let Some(left_off) = log.left_off.take().filter(|_| !log.again) {
            return left_off;
        }
        log.again = false;
        log.passes += 1;
        (log.acknowledged, log.passes)
    }

    /// The last pass of this life that may end in a fault.
    fn faulty_until(&self) -> u64 {
        lock(&self.world.sources[self.index]).passes_before + FAULTY_PASSES_MAX
    }

    fn wants_again(&self) -> bool {
        lock(&self.world.sources[self.index]).again
    }

    /// Reloads find their sources at work.
    fn is_done(&self) -> bool {
        let reloaded = self.world.reloaded.load(std::sync::atomic::Ordering::Relaxed);
        reloaded && lock(&self.world.sources[self.index]).acknowledged >= self.world.scenario.rows
    }
}

#[async_trait]
impl Source for SimSource {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        let world = self.world.clone();
        let _at_work = world.starts(&self.start);
        cx.ready();
        let rows = self.world.scenario.rows;
        let (mut at, mut pass) = self.begin();
        while !cx.shutdown.is_draining() && !self.is_done() {
            if self.wants_again() {
                (at, pass) = self.begin();
            }
            if at >= rows {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(20)) => continue,
                    () = cx.shutdown.draining() => break,
                }
            }
            let to = (at + 1 + self.rng.below(self.world.scenario.batch_rows_max)).min(rows);
            let batch = self.batch(pass, at, to);
            self.world.step();
            lock(&self.world.sources[self.index]).offered += to - at;
            out.send(batch).await;
            at = to;
            let fails = self.world.scenario.source_faults && pass <= self.faulty_until();
            match self.rng.below(100) {
                0 if fails => return Err(Fault::retry("a planned fault")),
                1 if fails => std::panic::panic_any(PLANNED_PANIC),
                2..20 => tokio::time::sleep(Duration::from_millis(self.rng.below(200))).await,
                20..40 => tokio::task::yield_now().await,
                _ => {}
            }
        }
        lock(&self.world.sources[self.index]).left_off = Some((at, pass));
        Ok(())
    }
}
