//! A queue that had a sink gets a disk buffer behind it: nothing is taken from it before that is decided, whatever
//! happens, and then everything is, in order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::format::Compression;
use super::model_tests::Model;
use super::stage::{DiskBuffer, RunningBuffer};
use super::storage::FileSystem;
use super::{DiskFull, DiskOptions, Handover, Limits};
use crate::base::task;
use crate::batch::Batch;
use crate::config::ComponentKind;
use crate::flow::{Bounds, Inlet, Queue, Reason, TaskCx, WhenFull};
use crate::testing;

fn options(when_full: DiskFull) -> DiskOptions {
    DiskOptions {
        limits: Limits { bytes_max: 1 << 20, events_max: None, compression: Compression::None },
        when_full,
        sync_interval: Duration::from_millis(1),
        memory_bytes: 256 << 10,
    }
}

/// A queue with five rows in it, of which a sink had the first two in hand when it went.
struct Rig {
    cx: TaskCx,
    model: Model,
    queue: Arc<Queue>,
}

impl Rig {
    async fn new() -> Rig {
        let cx = testing::task_cx(ComponentKind::Sink, "null", Path::new("/state"));
        let model = Model::default();
        cx.shared.get::<FileSystem>().replace(Arc::new(model.clone()));
        let bounds = Bounds { events_max: 100, bytes_max: 1 << 20, when_full: WhenFull::DropNewest };
        let queue = Queue::new(bounds, cx.meter.clone());
        for n in 0..5 {
            queue.push(Batch::from_lines("t", [n.to_string()])).await;
        }
        let mut old = Inlet::releasable(queue.clone(), tokio_util::sync::CancellationToken::new());
        let in_hand = (old.try_recv().expect("a batch"), old.try_recv().expect("a batch"));
        old.release_token().cancel();
        drop(in_hand);
        Rig { cx, model, queue }
    }

    fn start(&self, when_full: DiskFull) -> (RunningBuffer, Inlet, Arc<Handover>) {
        let (buffer, inlet, handover) = DiskBuffer::take_over(&self.queue, options(when_full));
        (buffer.start(&self.cx).unwrap(), inlet, handover)
    }

    /// The queue is as it was, and its old sink, or another, goes on with it.
    async fn is_as_before(&self) {
        let mut next = Inlet::new(self.queue.clone());
        for n in 0..5 {
            let lease = next.try_recv().expect("a batch");
            assert_eq!(lease.batch().lines().next().unwrap().1, n.to_string().as_bytes());
            lease.delivered();
        }
        let counts = self.cx.meter.snapshot();
        assert!(counts.balances() && counts.queued_events == 0, "{counts:?}");
        assert_eq!(counts.delivered_events, 5);
    }
}

/// On stopped clocks, where the buffer's thread is a task.
fn simulated<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let run = move || {
        task::simulate();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(test());
    };
    std::thread::spawn(run).join().unwrap();
}

async fn a_while() {
    tokio::time::sleep(Duration::from_secs(20)).await;
}

#[test]
fn what_it_keeps_it_hands_over_in_order() {
    simulated(|| async {
        let rig = Rig::new().await;
        let (running, mut inlet, handover) = rig.start(DiskFull::Block);
        running.opened.await.unwrap().unwrap();
        a_while().await;
        assert_eq!(inlet.waiting_events(), 0, "nothing before it is decided");
        assert!(handover.keep() && !handover.give_back() && handover.keep());
        for n in 0..5 {
            let lease = inlet.recv().await.expect("a batch");
            assert_eq!(lease.batch().lines().next().unwrap().1, n.to_string().as_bytes());
            lease.delivered();
        }
        rig.queue.close();
        assert!(inlet.recv().await.is_none());
        running.done.await.unwrap();
        let counts = rig.cx.meter.snapshot();
        assert!(
            counts.balances() && counts.delivered_events == 5 && counts.received_events == 5,
            "{counts:?}"
        );
    });
}

#[test]
fn what_is_given_back_is_as_it_was() {
    simulated(|| async {
        // Never started.
        let rig = Rig::new().await;
        drop(DiskBuffer::take_over(&rig.queue, options(DiskFull::Block)));
        rig.is_as_before().await;
        // Open.
        let rig = Rig::new().await;
        let (running, inlet, handover) = rig.start(DiskFull::Block);
        running.opened.await.unwrap().unwrap();
        assert!(handover.give_back() && !handover.keep());
        running.done.await.unwrap();
        assert!(!inlet.is_finished(), "its sink is released, and must not take it for an end");
        rig.is_as_before().await;
        // Not open yet, with rows that the policy would drop.
        let rig = Rig::new().await;
        rig.model.refuse(Some(std::io::ErrorKind::StorageFull));
        let (running, _inlet, handover) = rig.start(DiskFull::DropNewest);
        running.opened.await.unwrap().unwrap();
        a_while().await;
        assert!(handover.give_back());
        running.done.await.unwrap();
        rig.is_as_before().await;
    });
}

#[test]
fn what_is_given_back_before_its_files_were_tried_ends_however_long_they_fail() {
    simulated(|| async {
        let rig = Rig::new().await;
        rig.model.refuse(Some(std::io::ErrorKind::StorageFull));
        let (running, _inlet, handover) = rig.start(DiskFull::Block);
        assert!(handover.give_back());
        tokio::time::timeout(Duration::from_secs(60), running.done).await.expect("it ends").unwrap();
        rig.is_as_before().await;
    });
}

#[test]
fn an_end_by_force_leaves_the_queue_to_whoever_ends_it() {
    simulated(|| async {
        let rig = Rig::new().await;
        let (running, _inlet, handover) = rig.start(DiskFull::Block);
        running.opened.await.unwrap().unwrap();
        rig.cx.shutdown.abort();
        running.done.await.unwrap();
        assert!(!handover.keep());
        rig.is_as_before().await;
    });
}

#[test]
fn rows_go_by_the_policy_only_once_they_are_its_own() {
    simulated(|| async {
        let rig = Rig::new().await;
        rig.model.refuse(Some(std::io::ErrorKind::StorageFull));
        let (running, _inlet, handover) = rig.start(DiskFull::DropNewest);
        running.opened.await.unwrap().unwrap();
        a_while().await;
        assert_eq!(rig.cx.meter.snapshot().dropped_total(), 0);
        assert!(handover.keep());
        a_while().await;
        assert_eq!(rig.cx.meter.snapshot().dropped(Reason::BufferFault), 5);
        rig.cx.shutdown.abort();
        running.done.await.unwrap();
        assert!(rig.cx.meter.snapshot().balances());
    });
}
