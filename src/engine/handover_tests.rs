//! Buffers in memory that a reload moves to disk: with all that waits, each row once, and back where the reload fails
//! before rows may be in files.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::lost_tests::{Act, Rig, SINK, one, simulated};
use super::*;
use crate::flow::disk::model_tests::Model;
use crate::flow::disk::storage::{Disk, FileSystem};
use crate::flow::disk::{audit, format, store};
use crate::flow::{Board, Fault, Inlet, Outlet, Sink, Source, TaskCx};

/// Fails for good at once.
struct Broken;

#[async_trait]
impl Source for Broken {
    async fn run(&mut self, _: &Outlet, _: &TaskCx) -> Result<(), Fault> {
        Err(Fault::fatal("no such source"))
    }
}

#[async_trait]
impl Sink for Broken {
    async fn run(&mut self, _: &mut Inlet, _: &TaskCx) -> Result<(), Fault> {
        Err(Fault::fatal("no such sink"))
    }
}

/// The same configuration with a source that is another one.
fn another_source(mut plan: Plan, broken: bool) -> Plan {
    let source = &mut plan.pipelines[0].sources[0];
    let node = serde_json::json!({"events_per_second": 7.0});
    source.config = Arc::new(crate::config::Node::from_json(&node, &crate::config::Origin::Default).unwrap());
    if broken {
        source.make = Arc::new(|| Box::new(Broken));
    }
    plan
}

impl Rig {
    /// Whether the sink's buffer is on disk, as status says it.
    fn is_on_disk(&self) -> bool {
        let board = self.shared.get::<Board>().pipelines();
        let sink = board.iter().flat_map(|p| &p.components).find(|c| c.site.id() == SINK);
        sink.expect("the sink").buffer.is_some()
    }

    /// Events in the files of its buffer, as `weir buffer` sees them.
    fn in_files(&self) -> u64 {
        let dir = self.state.path().join("buffers/a/tcp-0");
        audit::report(&Disk, &dir, false).map_or(0, |report| report.waiting_events)
    }

    /// Runs until everything is delivered, each row once.
    async fn ends_well(self) {
        let (report, _, counts) = self.end(SINK).await;
        assert_eq!(report, RunReport::default());
        assert!(
            counts.delivered_events == counts.received_events && counts.dropped_total() == 0,
            "{counts:?}"
        );
    }
}

async fn a_while() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

#[test]
fn what_waits_in_memory_goes_on_from_disk() {
    simulated(|| async {
        let rig = Rig::start(one(Act::Hoard, 1001, "memory")).await;
        let waiting = rig.counts(SINK);
        assert!(waiting.queued_events > 300 && waiting.stored_events == 0 && !rig.is_on_disk());
        // One that takes nothing: all that waited is safe on disk now, what the old sink had in hand too.
        let report = rig.try_reload(one(Act::Hoard, 1001, "disk")).await;
        assert_eq!(
            (report.outcome, report.needs_restart.len(), report.notes.len()),
            (ReloadOutcome::Applied, 0, 0)
        );
        a_while().await;
        let after = rig.counts(SINK);
        assert!(after.stored_events > waiting.queued_events && after.balances(), "{after:?}");
        assert_eq!((after.delivered_events, after.recovered_events), (0, 0));
        assert!(rig.is_on_disk() && rig.in_files() >= after.stored_events);
        // The same once more is nothing, and other options take effect while rows wait.
        assert_eq!(rig.try_reload(one(Act::Take, 1001, "disk")).await.outcome, ReloadOutcome::Unchanged);
        rig.reload(one(Act::Take, 1002, "disk")).await;
        a_while().await;
        assert!(rig.counts(SINK).delivered_events >= after.stored_events);
        rig.ends_well().await;
    });
}

#[test]
fn more_than_the_new_bounds_allow_waits_till_it_is_gone() {
    simulated(|| async {
        let rig = Rig::start(one(Act::Hoard, 1001, "memory")).await;
        let mut plan = one(Act::Take, 1001, "disk");
        let BufferPlan::Disk(options) = &mut plan.pipelines[0].sinks[0].buffer else {
            panic!("a disk buffer")
        };
        (options.memory_bytes, options.limits.bytes_max) = (64, 4 << 10);
        let before = rig.counts(SINK);
        rig.reload(plan).await;
        a_while().await;
        assert!(rig.counts(SINK).delivered_events > before.queued_events);
        rig.ends_well().await;
    });
}

#[test]
fn a_sink_that_does_not_start_leaves_the_buffer_in_memory() {
    simulated(|| async {
        let rig = Rig::start(one(Act::Hoard, 1001, "memory")).await;
        let waiting = rig.counts(SINK).queued_events;
        for _ in 0..3 {
            let mut plan = one(Act::Take, 1001, "disk");
            plan.pipelines[0].sinks[0].sink.make = Arc::new(|| Box::new(Broken));
            let report = rig.try_reload(plan).await;
            assert_eq!((report.outcome, report.notes.len()), (ReloadOutcome::RolledBack, 0), "{report:?}");
            a_while().await;
            let after = rig.counts(SINK);
            assert!(
                after.queued_events > waiting && after.stored_events == 0 && after.balances(),
                "{after:?}"
            );
            assert!(!rig.is_on_disk() && rig.in_files() == 0);
        }
        rig.reload(one(Act::Take, 1001, "disk")).await;
        a_while().await;
        assert!(rig.is_on_disk() && rig.counts(SINK).delivered_events > waiting);
        rig.ends_well().await;
    });
}

#[test]
fn files_that_cannot_be_used_leave_the_buffer_in_memory() {
    simulated(|| async {
        let rig = Rig::start(one(Act::Hoard, 1001, "memory")).await;
        let waiting = rig.counts(SINK).queued_events;
        // As a later version would leave it.
        let dir = rig.state.path().join("buffers/a/tcp-0");
        std::fs::create_dir_all(&dir).unwrap();
        let segment = store::segment_path(&dir, 1);
        let mut header =
            format::encode_segment(&format::SegmentHeader { salt: 1, start: format::Point::default() });
        header[8] = 9;
        let sum = crc32c::crc32c(&header[..60]);
        header[60..].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(&segment, header).unwrap();
        let report = rig.try_reload(one(Act::Take, 1001, "disk")).await;
        assert_eq!(report.outcome, ReloadOutcome::RolledBack, "{report:?}");
        a_while().await;
        let after = rig.counts(SINK);
        assert!(
            after.queued_events > waiting && after.dropped_total() == 0 && !rig.is_on_disk(),
            "{after:?}"
        );
        std::fs::remove_file(segment).unwrap();
        rig.reload(one(Act::Take, 1001, "disk")).await;
        a_while().await;
        assert!(rig.counts(SINK).delivered_events > waiting);
        rig.ends_well().await;
        // A directory that cannot be made is no better.
        let rig = Rig::start(one(Act::Hoard, 1001, "memory")).await;
        std::fs::write(rig.state.path().join("buffers"), "").unwrap();
        let report = rig.try_reload(one(Act::Take, 1001, "disk")).await;
        assert_eq!(report.outcome, ReloadOutcome::RolledBack, "{report:?}");
        rig.reload(one(Act::Take, 1002, "memory")).await;
        rig.ends_well().await;
    });
}

#[test]
fn a_reload_that_fails_after_rows_were_led_away_leaves_the_buffer_on_disk_and_says_so() {
    simulated(|| async {
        let rig = Rig::start(one(Act::Hoard, 1001, "memory")).await;
        let waiting = rig.counts(SINK).queued_events;
        let report = rig.try_reload(another_source(one(Act::Hoard, 1001, "disk"), true)).await;
        assert_eq!((report.outcome, report.notes.len()), (ReloadOutcome::RolledBack, 1), "{report:?}");
        assert!(report.notes[0].contains("a.sink.0.tcp: its buffer had moved to disk"), "{report:?}");
        a_while().await;
        let after = rig.counts(SINK);
        assert!(rig.is_on_disk() && after.stored_events > waiting && after.dropped_total() == 0, "{after:?}");
        // The old configuration again: it stays there, and the report says why. Nobody calls its files unowned.
        for _ in 0..2 {
            let report = rig.try_reload(one(Act::Hoard, 1001, "memory")).await;
            assert_eq!(report.needs_restart, ["a.sink.0.tcp.buffer"]);
            assert!(report.notes.len() == 1 && report.notes[0].contains("stays on disk"), "{report:?}");
        }
        let report = rig.try_reload(another_source(one(Act::Hoard, 1001, "memory"), false)).await;
        assert_eq!((report.outcome, report.notes.len()), (ReloadOutcome::Applied, 1), "{report:?}");
        // And the new one: there is nothing to move any more.
        let report = rig.try_reload(another_source(one(Act::Take, 1002, "disk"), false)).await;
        assert_eq!((report.outcome, report.notes.len()), (ReloadOutcome::Applied, 0), "{report:?}");
        a_while().await;
        assert!(rig.counts(SINK).delivered_events > after.stored_events);
        rig.ends_well().await;
    });
}

#[test]
fn a_disk_that_is_full_for_a_while_lets_rows_through_in_the_end() {
    simulated(|| async {
        let rig = Rig::start(one(Act::Hoard, 1001, "memory")).await;
        let waiting = rig.counts(SINK).queued_events;
        let disk = Model::default();
        rig.shared.get::<FileSystem>().replace(Arc::new(disk.clone()));
        disk.refuse(Some(std::io::ErrorKind::StorageFull));
        rig.reload(one(Act::Take, 1001, "disk")).await;
        a_while().await;
        let counts = rig.counts(SINK);
        assert!(counts.queued_events > waiting && counts.delivered_events + counts.dropped_total() == 0);
        disk.refuse(None);
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(rig.counts(SINK).delivered_events > waiting);
        rig.ends_well().await;
    });
}
