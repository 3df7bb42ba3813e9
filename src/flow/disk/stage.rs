//! The buffer's thread: takes what the sources send, writes, syncs, hands over and notes what is settled. One thread
//! owns the log, so nothing in it is locked; only waiting for the disk happens elsewhere, while it goes on.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::again::{Again, Attended};
use super::format::Point;
use super::handover::{Given, Handover};
use super::passing::Passing;
use super::safety::PERSIST_EVERY;
use super::status::BufferStatus;
use super::storage::{Disk, FileSystem, Storage};
use super::store::Store;
use super::trouble::Trouble;
use super::window::{Settlements, Window};
use super::writer::{Appended, SyncTicket};
use super::{DiskOptions, directory};
use crate::base::clock::{self, Instant};
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::batch::{Batch, Receipt};
use crate::flow::Lease;
use crate::flow::component::Fault;
use crate::flow::context::TaskCx;
use crate::flow::ledger::Ledger;
use crate::flow::meter::Meter;
use crate::flow::queue::{Bounds, Inlet, Queue, WhenFull};

/// Pauses between tries after the file system failed.
pub(super) const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Between two rounds that no news called for.
const LEAST_PAUSE: Duration = Duration::from_millis(1);
/// How long a forced end waits for the sink to let go.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Events before the thread takes them.
const FRONT_EVENTS: u64 = 1_000_000;

/// A disk buffer before its thread is started.
#[derive(Debug)]
pub struct DiskBuffer {
    /// Before the end of the queue that it is about, which must not be dropped first.
    pub(super) given: Option<Given>,
    pub(super) front: Inlet,
    pub(super) back: Arc<Queue>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) options: DiskOptions,
    control: Arc<Control>,
    pub(super) attended: Attended,
    pub(super) wishes: watch::Receiver<DiskOptions>,
    pub(super) meter: Arc<Meter>,
    pub(super) status: Arc<BufferStatus>,
    pub(super) storage: Arc<dyn Storage>,
}

/// Changes the options of a disk buffer, whether or not it runs and whatever is in it.
#[derive(Debug)]
pub struct Control {
    front: Arc<Queue>,
    wishes: watch::Sender<DiskOptions>,
    sink_gone: watch::Sender<CancellationToken>,
}

impl Control {
    /// The buffer goes on with `options`. Where it holds more than they allow, it is full until that is delivered.
    pub fn set(&self, options: DiskOptions) {
        self.front.set_bounds(front_bounds(&options));
        self.wishes.send_replace(options);
    }

    /// Another sink takes over after one that has ended: what that one left is handed over to it, what it had lost
    /// first. Its queue yields rows once it is open again. Returns what to cancel when this one takes nothing more.
    pub fn another_sink(&self) -> CancellationToken {
        let gone = CancellationToken::new();
        self.sink_gone.send_replace(gone.clone());
        gone
    }
}

fn front_bounds(options: &DiskOptions) -> Bounds {
    let bytes_max = (options.memory_bytes / 2).max(1);
    Bounds { events_max: FRONT_EVENTS, bytes_max, when_full: WhenFull::Block }
}

/// A disk buffer at work.
#[derive(Debug)]
pub struct RunningBuffer {
    /// Tells whether the buffer could be opened. What may pass does not count as failure: it is tried again.
    pub opened: oneshot::Receiver<Result<(), Fault>>,
    /// Resolves when everything is written and settled, or the end was forced.
    pub done: oneshot::Receiver<()>,
    /// Cancel it when the sink takes nothing more: what is on disk stays there.
    pub sink_gone: CancellationToken,
}

impl DiskBuffer {
    /// A buffer, the queue that sources fill, and the sink's end. All count on `meter`, the sink's.
    pub fn new(options: DiskOptions, meter: Arc<Meter>) -> (Arc<Queue>, DiskBuffer, Inlet) {
        DiskBuffer::on(Arc::new(Disk), options, meter)
    }

    /// The same on another file system.
    pub fn on(
        storage: Arc<dyn Storage>,
        options: DiskOptions,
        meter: Arc<Meter>,
    ) -> (Arc<Queue>, DiskBuffer, Inlet) {
        let front = Queue::new(front_bounds(&options), meter);
        let (buffer, inlet) = DiskBuffer::behind(&front, Inlet::new(front.clone()), options, storage);
        (front, buffer, inlet)
    }

    /// A buffer behind a queue that had a sink behind it and keeps its bounds until they are set, and the sink's new end.
    /// Nothing is taken from the queue before it is decided that the buffer keeps it; that sink must be gone by then.
    pub fn take_over(queue: &Arc<Queue>, options: DiskOptions) -> (DiskBuffer, Inlet, Arc<Handover>) {
        let release = CancellationToken::new();
        let handover = Handover::new(release.clone());
        let front = Inlet::releasable(queue.clone(), release);
        let (mut buffer, inlet) = DiskBuffer::behind(queue, front, options, Arc::new(Disk));
        buffer.given = Some(Given(handover.clone()));
        (buffer, inlet, handover)
    }

    fn behind(
        queue: &Arc<Queue>,
        front: Inlet,
        options: DiskOptions,
        storage: Arc<dyn Storage>,
    ) -> (DiskBuffer, Inlet) {
        let meter = queue.meter().clone();
        let (send, wishes) = watch::channel(options);
        let (sink_gone, attended) = watch::channel(CancellationToken::new());
        let control = Arc::new(Control { front: queue.clone(), wishes: send, sink_gone });
        let ledger = Ledger::new(meter.clone());
        let back = Queue::relay(ledger.clone());
        let status = Arc::default();
        let inlet = Inlet::new(back.clone());
        let buffer = DiskBuffer {
            given: None,
            front,
            back,
            ledger,
            options,
            control,
            attended,
            wishes,
            meter,
            status,
            storage,
        };
        (buffer, inlet)
    }

    /// Its state, readable from anywhere.
    pub fn status(&self) -> &Arc<BufferStatus> {
        &self.status
    }

    /// What changes its options later.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Starts the thread of the sink's buffer.
    ///
    /// # Errors
    /// When the operating system refuses another thread.
    pub fn start(mut self, cx: &TaskCx) -> io::Result<RunningBuffer> {
        if let Some(other) = cx.shared.get::<FileSystem>().replaced() {
            self.storage = other;
        }
        let (tell, opened) = oneshot::channel();
        let sink_gone = self.attended.borrow().clone();
        let (dir, shutdown) = (directory(&cx.state_dir, &cx.site), cx.shutdown.clone());
        let (name, gone) = (cx.site.id(), sink_gone.clone());
        let done = task::spawn_thread("disk buffer", async move {
            if let Some(stage) = Stage::open(self, dir, name, shutdown, gone, tell).await {
                stage.run().await;
            }
        })?;
        Ok(RunningBuffer { opened, done, sink_gone })
    }
}

/// Rows that were appended and are kept in memory for handing over.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) batch: Batch,
    pub(super) place: Appended,
}

/// A source's receipt that waits until its rows are safe.
#[derive(Debug)]
pub(super) struct Unsafe {
    /// After the rows' record.
    pub(super) end: Point,
    pub(super) receipt: Receipt,
    /// When they were written.
    pub(super) since: Instant,
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) store: Store,
    pub(super) front: Inlet,
    pub(super) back: Arc<Queue>,
    pub(super) options: DiskOptions,
    pub(super) wishes: watch::Receiver<DiskOptions>,
    pub(super) attended: Attended,
    pub(super) meter: Arc<Meter>,
    pub(super) status: Arc<BufferStatus>,
    pub(super) shutdown: Shutdown,
    pub(super) gone: CancellationToken,
    pub(super) name: String,
    /// Taken from the front and not written yet.
    pub(super) inbox: VecDeque<Lease>,
    /// The front is closed and empty.
    pub(super) input_done: bool,
    /// Neighbours, ending with the record before the first that has to be read from the disk.
    pub(super) kept: VecDeque<Kept>,
    pub(super) kept_weight: u64,
    pub(super) window: Window,
    pub(super) settlements: Arc<Settlements>,
    pub(super) again: Again,
    /// Handed over without being written.
    pub(super) passing: Passing,
    /// Until when the inbox waits for the sink.
    pub(super) held_until: Option<Instant>,
    /// Receipts of sources in the order of their records.
    pub(super) unsafe_yet: VecDeque<Unsafe>,
    /// The same after a failed sync: only the sink can settle them.
    pub(super) sink_only: VecDeque<Unsafe>,
    pub(super) syncing: Option<(JoinHandle<io::Result<()>>, Arc<SyncTicket>)>,
    pub(super) last_sync: Option<Instant>,
    pub(super) last_persist: Option<Instant>,
    /// Something changed that is worth persisting.
    pub(super) unpersisted: bool,
    pub(super) trouble: Trouble,
}

impl Stage {
    pub(super) async fn run(mut self) {
        loop {
            self.take_options();
            self.take_successor();
            self.take_settlements();
            self.admit();
            if !self.is_held_up() {
                // Before the first new row comes: or the sink would not wait for the second.
                self.back.set_starved(false);
            }
            self.hand_over();
            self.back.set_starved(self.is_held_up());
            self.settle_safe();
            self.begin_sync();
            self.persist(false);
            self.try_again();
            self.publish();
            if self.is_done() {
                return self.finish().await;
            }
            self.wait().await;
        }
    }

    /// A reload may want the buffer otherwise.
    pub(super) fn take_options(&mut self) {
        // Also the last word of a reload that has taken its sink back.
        let wish = self.wishes.borrow_and_update();
        if !wish.has_changed() {
            return;
        }
        self.options = *wish;
        drop(wish);
        self.store.limits = self.options.limits;
        self.window.set_weight_max(self.options.ahead());
        // What was refused may be taken now.
        self.passing.offer_again();
    }

    /// Whether everything that was taken in is dealt with, or the end is forced.
    fn is_done(&mut self) -> bool {
        if self.shutdown.is_aborted() {
            return true;
        }
        let written = self.input_done && self.inbox.is_empty();
        let lost = self.window.has_lost() && !self.back.is_closed();
        let handed_over = !lost && self.kept.is_empty() && !self.is_unread();
        if written && handed_over {
            self.back.close();
        }
        let over = handed_over && self.window.is_empty();
        // A sink that is gone may have handed rows on, to another pipeline.
        let left = self.gone.is_cancelled() && !self.window.is_awaited() && !self.passing.is_awaited();
        written && self.unsafe_yet.is_empty() && (over || left)
    }

    async fn wait(&mut self) {
        let wake = self.next_wake();
        let (front, inbox, settlements) = (&mut self.front, &mut self.inbox, &self.settlements);
        let (wishes, attended) = (&mut self.wishes, &mut self.attended);
        let takes = inbox.is_empty() && !self.input_done;
        let synced = async {
            match &mut self.syncing {
                Some((handle, _)) => handle.await,
                None => std::future::pending().await,
            }
        };
        let mut ended = None;
        tokio::select! {
            biased;
            () = self.shutdown.aborted() => {}
            done = synced => ended = Some(done),
            () = settlements.news() => {}
            Ok(()) = wishes.changed() => wishes.mark_changed(),
            Ok(()) = attended.changed() => attended.mark_changed(),
            lease = front.recv(), if takes => match lease {
                Some(lease) => inbox.push_back(lease),
                None => self.input_done = true,
            },
            () = async { tokio::time::sleep_until(wake.unwrap_or_else(clock::now)).await }, if wake.is_some() => {}
            // Also where nothing is left to hand over: then this is the end.
            () = self.gone.cancelled(), if !self.again.alone => {
                self.again.alone = true;
                self.back.close();
            }
        }
        if let Some(result) = ended {
            self.end_sync(result.unwrap_or_else(|e| Err(io::Error::other(e))));
        }
    }

    /// When there is something to do without news.
    fn next_wake(&mut self) -> Option<Instant> {
        let now = clock::now();
        // Of records whose segments were given up, only the sink's word is still to come.
        let syncs = self.syncing.is_none() && !self.unsafe_yet.is_empty() && self.store.has_unsynced();
        let sync = syncs.then(|| self.sync_due().unwrap_or(now));
        let persist = self.unpersisted.then(|| self.last_persist.map_or(now, |at| at + PERSIST_EVERY));
        // Noted when it was decided: by now that time may have passed, and nothing else would tell.
        let soonest =
            [sync, persist, self.held_until, self.commit_due(), self.again_due()].into_iter().flatten().min();
        // What could not be done a moment ago is not tried at once again.
        let retry = self.trouble.writing.ends_after(now);
        let soonest = soonest.map(|at| at.max(now + LEAST_PAUSE)).map(|at| retry.map_or(at, |r| at.max(r)));
        [soonest, retry, self.trouble.reading.ends_after(now)].into_iter().flatten().min()
    }

    pub(super) fn publish(&self) {
        let ((events, bytes), in_hand) = (self.store.queued(), self.window.open());
        self.meter.stored(events.saturating_sub(in_hand.0), bytes.saturating_sub(in_hand.1));
        self.status.disk_bytes.store(self.store.disk_bytes(), Relaxed);
        self.status.segments.store(self.store.segments() as u64, Relaxed);
        self.status.safe.store(self.is_safe(), Relaxed);
        self.status.full.store(self.store.is_full() || self.trouble.is_out_of_space(), Relaxed);
        #[cfg(test)]
        self.status.rounds.fetch_add(1, Relaxed);
    }

    /// The last words: what can still be made safe is.
    async fn finish(mut self) {
        self.back.close();
        // What the sink settles with its last breath is counted.
        let until = clock::now() + LAST_WORDS;
        while !self.window.is_empty() && !self.back.is_aborted() && clock::now() < until {
            tokio::time::sleep(LEAST_PAUSE * 2).await;
            self.take_settlements();
        }
        if let Some((handle, _)) = &mut self.syncing {
            let result = handle.await.unwrap_or_else(|e| Err(io::Error::other(e)));
            self.end_sync(result);
        }
        self.commit_last();
        if !self.unsafe_yet.is_empty()
            && let Some(ticket) = self.store.begin_sync()
        {
            let succeeded = ticket.run().is_ok();
            self.store.end_sync(&ticket, succeeded);
        }
        self.take_settlements();
        self.settle_safe();
        self.persist(true);
        self.publish();
        let (events, _) = self.store.queued();
        if events > 0 {
            tracing::info!(component = %self.name, "{events} events stay in the disk buffer {}", self.store.dir.display());
        }
    }
}
