//! Buffers that a reload moves to a disk that fails: what cannot be used leaves the buffer in memory, and sinks that
//! follow each other do not wait for it.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::lost_tests::{Act, Rig, SINK, one, simulated};
use super::*;
use crate::base::{clock, task};
use crate::flow::disk::model_tests::Model;
use crate::flow::disk::storage::FileSystem;
use crate::flow::{Fault, Inlet, Sink, TaskCx};

/// At work after a while, if `ready` at all, and then ends.
#[derive(Clone, Copy)]
struct Brief {
    after: Duration,
    ready: bool,
    fails: bool,
}

#[async_trait]
impl Sink for Brief {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        tokio::time::sleep(self.after).await;
        if self.ready {
            cx.ready();
            tokio::time::sleep(self.after).await;
        }
        if self.fails {
            return Err(Fault::fatal("no such receiver"));
        }
        while let Some(lease) = inlet.recv().await {
            lease.delivered();
        }
        Ok(())
    }
}

fn with(sink: Brief, port: u16) -> Plan {
    let mut plan = one(Act::Take, port, "disk");
    plan.pipelines[0].sinks[0].sink.make = Arc::new(move || Box::new(sink));
    plan
}

/// Takes everything, from its second start on.
struct Late(bool);

#[async_trait]
impl Sink for Late {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        cx.ready();
        if self.0 {
            inlet.released().await;
        }
        while let Some(lease) = inlet.recv().await {
            lease.delivered();
        }
        Ok(())
    }
}

/// A disk of the rig's own that takes nothing, for this reason.
fn bad_disk(rig: &Rig, why: ErrorKind) -> Model {
    let disk = Model::default();
    rig.shared.get::<FileSystem>().replace(Arc::new(disk.clone()));
    disk.refuse(Some(why));
    disk
}

#[test]
fn files_that_turn_out_unusable_while_it_is_undecided_leave_the_buffer_in_memory() {
    simulated(|| async {
        let rig = Rig::start(one(Act::Hoard, 1001, "memory")).await;
        let waiting = rig.counts(SINK).queued_events;
        let disk = bad_disk(&rig, ErrorKind::StorageFull);
        let turns = task::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            disk.refuse(Some(ErrorKind::PermissionDenied));
        });
        let slow = Brief { after: Duration::from_secs(2), ready: true, fails: false };
        let report = rig.try_reload(with(slow, 1001)).await;
        turns.await.unwrap();
        assert_eq!(report.outcome, ReloadOutcome::RolledBack, "{report:?}");
        assert!(report.errors[0].contains(SINK) && report.notes.is_empty(), "{report:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let after = rig.counts(SINK);
        assert!(after.queued_events > waiting && after.dropped_total() == 0, "{after:?}");
        rig.reload(one(Act::Take, 1002, "memory")).await;
        let (report, _, counts) = rig.end(SINK).await;
        assert_eq!(report, RunReport::default());
        assert_eq!((counts.delivered_events, counts.dropped_total()), (counts.received_events, 0));
    });
}

#[test]
fn a_sink_after_one_that_failed_is_started_though_the_buffer_cannot_be_opened_yet() {
    simulated(|| async {
        let rig = Rig::start(one(Act::Hoard, 1001, "memory")).await;
        let disk = bad_disk(&rig, ErrorKind::StorageFull);
        let dies = Brief { after: Duration::from_millis(50), ready: true, fails: true };
        rig.reload(with(dies, 1001)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // One that cannot start undoes the reload, as ever.
        let never = Brief { ready: false, ..dies };
        let report = rig.try_reload(with(never, 1002)).await;
        assert_eq!(report.outcome, ReloadOutcome::RolledBack, "{report:?}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        let asked = clock::now();
        rig.reload(one(Act::Take, 1003, "disk")).await;
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        // It may come to its end, too, before the disk works, and another one after it.
        rig.reload(with(dies, 1004)).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = rig.counts(SINK);
        assert!(before.balances() && before.delivered_events == 0, "{before:?}");
        disk.refuse(None);
        tokio::time::sleep(Duration::from_secs(10)).await;
        rig.reload(one(Act::Take, 1005, "disk")).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = rig.counts(SINK);
        assert!(after.delivered_events > 0 && after.balances(), "{after:?}");
        let (report, _, counts) = rig.end(SINK).await;
        assert_eq!(report, RunReport::default());
        assert!(counts.balances() && counts.queued_events == 0, "{counts:?}");
    });
}

#[test]
fn an_end_that_is_asked_for_while_it_is_undecided_delivers_what_waits() {
    for why in [None, Some(ErrorKind::StorageFull)] {
        simulated(move || async move {
            let (mut plan, starts) = (one(Act::Take, 1001, "memory"), AtomicU32::new(0));
            let first = move || starts.fetch_add(1, Ordering::Relaxed) == 0;
            plan.pipelines[0].sinks[0].sink.make = Arc::new(move || Box::new(Late(first())));
            let rig = Rig::start(plan).await;
            let disk = Model::default();
            rig.shared.get::<FileSystem>().replace(Arc::new(disk.clone()));
            disk.refuse(why);
            let slow = Brief { after: Duration::from_secs(3), ready: true, fails: false };
            tokio::select! {
                report = rig.try_reload(with(slow, 1001)) => panic!("{report:?}"),
                () = tokio::time::sleep(Duration::from_millis(300)) => {}
            }
            let waiting = rig.counts(SINK);
            assert!(waiting.queued_events > 500 && waiting.stored_events == 0, "{waiting:?}");
            let (report, took, counts) = rig.end(SINK).await;
            assert_eq!(report, RunReport::default());
            assert!(took < Duration::from_secs(2), "{took:?}");
            assert!(counts.queued_events == 0 && counts.dropped_total() == 0, "{counts:?}");
            assert_eq!(counts.delivered_events, counts.received_events);
        });
    }
}
