//! A sink that takes rows the way the scenario says: promptly, slowly, many at a time and out of order, with
//! faults and panics while it has rows in hand, with pauses as long as a dead receiver's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use logweir::base::rng::Rng;
use logweir::flow::{Fault, Inlet, Lease, Reason, Sink, TaskCx};

use super::scenario::Manner;
use super::world::{PLANNED_PANIC, Row, Start, World, lock};

pub(crate) struct SimSink {
    pub(crate) world: Arc<World>,
    pub(crate) index: usize,
    pub(crate) manner: Manner,
    pub(crate) start: Start,
    pub(crate) rng: Rng,
}

impl SimSink {
    fn deliver(&self, lease: Lease) {
        self.world.step();
        if self.world.crashed.load(Ordering::Relaxed) {
            return;
        }
        let in_order = self.manner.keeps_order();
        // What comes and goes finds in its files what it had not noted as settled.
        let plan = &self.world.scenario.sinks[self.index];
        let comes_back = !self.world.scenario.is_steady(self.index) && plan.may_have_disk();
        let mut log = lock(&self.world.sinks[self.index]);
        for (_, line) in lease.batch().lines() {
            let Some(row) = Row::parse(line) else {
                let shown = String::from_utf8_lossy(line).into_owned();
                self.world.violation(format!("sink {} got a line that nobody wrote: {shown:?}", self.index));
                continue;
            };
            if !self.world.scenario.may_pass(self.index, row) {
                self.world.violation(format!("sink {} got {row:?}, which its filters hold back", self.index));
            }
            let life = self.world.life();
            let times = log.delivered.entry(row).or_insert((0, usize::MAX));
            // Two buffers in a row may both bring rows of an earlier life again.
            let repeats = self.world.has_two_disks() && self.world.is_from_before(row) || comes_back;
            if times.1 == life && !repeats {
                self.world.violation(format!("sink {} got {row:?} twice for one offer", self.index));
            }
            if self.world.ended_in_order(times.1) && !comes_back {
                let before = times.1;
                self.world.violation(format!(
                    "sink {} got {row:?} again, after life {before}, which had it and ended in order",
                    self.index
                ));
            }
            *times = (times.0 + 1, life);
            log.in_this_life += 1;
            let last = log.last.insert(row.source, row);
            if let Some(last) = last.filter(|last| in_order && !repeats && *last >= row) {
                self.world.violation(format!("sink {} got {row:?} after {last:?}", self.index));
            }
        }
        drop(log);
        lease.delivered();
    }

    fn reject(&self, lease: Lease) {
        self.world.step();
        let mut log = lock(&self.world.sinks[self.index]);
        for row in lease.batch().lines().filter_map(|(_, line)| Row::parse(line)) {
            *log.rejected.entry(row).or_default() += 1;
        }
        drop(log);
        lease.dropped(Reason::Rejected);
    }

    async fn nothing_after_a_crash(&self) {
        if self.world.crashed.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }

    async fn pause(&mut self, millis_max: u64) {
        tokio::time::sleep(Duration::from_millis(self.rng.below(millis_max))).await;
    }

    /// Several leases in hand, settled in any order; when it fails, with all of them in hand.
    async fn juggle(&mut self, inlet: &mut Inlet, in_hand_max: usize) -> Result<(), Fault> {
        let mut in_hand: Vec<Lease> = Vec::new();
        loop {
            self.nothing_after_a_crash().await;
            let full = in_hand.len() >= in_hand_max;
            tokio::select! {
                lease = inlet.recv(), if !full => match lease {
                    Some(lease) => in_hand.push(lease),
                    None => break,
                },
                () = tokio::time::sleep(Duration::from_millis(30)), if !in_hand.is_empty() => {
                    let chosen = self.rng.below(in_hand.len() as u64) as usize;
                    self.deliver(in_hand.swap_remove(chosen));
                }
            }
            if self.rng.below(200) == 0 {
                return Err(Fault::retry("a planned fault"));
            }
        }
        in_hand.into_iter().for_each(|lease| self.deliver(lease));
        Ok(())
    }
}

#[async_trait]
impl Sink for SimSink {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        let world = self.world.clone();
        let _at_work = world.starts(&self.start);
        if self.start.is_late(&world) {
            self.pause(15_000).await;
        }
        if self.rng.below(10) == 0 && self.manner != Manner::Prompt {
            self.pause(2000).await;
            return Err(Fault::retry("a planned fault at the start"));
        }
        cx.ready();
        if let Manner::Juggling(in_hand_max) = self.manner {
            return self.juggle(inlet, in_hand_max).await;
        }
        while let Some(lease) = inlet.recv().await {
            self.nothing_after_a_crash().await;
            match self.manner {
                Manner::Slow => self.pause(300).await,
                Manner::Failing if self.rng.below(8) == 0 => {
                    self.pause(50).await;
                    return Err(Fault::retry("a planned fault"));
                }
                Manner::Panicking if self.rng.below(12) == 0 => {
                    self.world.panics.fetch_add(lease.batch().events(), Ordering::Relaxed);
                    std::panic::panic_any(PLANNED_PANIC);
                }
                Manner::Rejecting if self.rng.below(6) == 0 => {
                    self.reject(lease);
                    continue;
                }
                Manner::Hanging if self.rng.below(40) == 0 => self.pause(120_000).await,
                Manner::Dead if !self.world.scenario.is_last_life(self.world.life()) => {
                    std::future::pending().await
                }
                _ => {}
            }
            self.deliver(lease);
        }
        Ok(())
    }
}
