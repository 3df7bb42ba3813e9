//! What lies before a sink: a queue in memory, or a buffer on disk with its thread. Planned without I/O, made when the
//! pipeline is wired, opened when the sink is started.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::plan::PipelinePlan;
use super::supervise::Running;
use crate::base::units::ByteCount;
use crate::config::{BufferCompression, BufferFull, BufferOptions, BufferType, Diagnostics, Node, Section};
use crate::flow::disk::format::Compression;
use crate::flow::disk::{
    self, BufferStatus, Control, DiskBuffer, DiskFull, DiskOptions, Handover, Limits, RunningBuffer,
};
use crate::flow::{Bounds, Capacity, Fault, Inlet, Meter, Queue, State, TaskCx, WhenFull};

const MEMORY_EVENTS: u64 = 10_000;
const MEMORY_BYTES: ByteCount = ByteCount::mib(64);
const DISK_BYTES: ByteCount = ByteCount::gib(1);
const DISK_MEMORY: ByteCount = ByteCount::mib(32);
const SYNC_INTERVAL: Duration = Duration::from_millis(50);

/// The buffer of one sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferPlan {
    /// A queue.
    Memory(Bounds),
    /// Files and a thread.
    Disk(DiskOptions),
}

impl BufferPlan {
    /// The buffer that a sink's options ask for; complains about options of the other type.
    pub(super) fn new(
        options: &BufferOptions,
        section: &Section,
        diagnostics: &mut Diagnostics,
    ) -> Option<BufferPlan> {
        let max_bytes = |default: ByteCount| options.max_bytes.unwrap_or(default).0;
        if options.r#type == BufferType::Disk {
            let when_full = match options.when_full {
                BufferFull::Block => DiskFull::Block,
                BufferFull::DropNewest => DiskFull::DropNewest,
                BufferFull::DropOldest => DiskFull::DropOldest,
                BufferFull::Overflow => DiskFull::Overflow,
            };
            let compression = match options.compress {
                None => Compression::None,
                Some(BufferCompression::Lz4) => Compression::Lz4,
                Some(BufferCompression::Zstd) => Compression::Zstd,
            };
            let limits =
                Limits { bytes_max: max_bytes(DISK_BYTES), events_max: options.max_events, compression };
            return Some(BufferPlan::Disk(DiskOptions {
                limits,
                when_full,
                sync_interval: options.sync_interval.unwrap_or(SYNC_INTERVAL),
                memory_bytes: options.max_memory.unwrap_or(DISK_MEMORY).0,
            }));
        }
        let mut sound = true;
        let given = [
            ("sync_interval", options.sync_interval.is_some()),
            ("compress", options.compress.is_some()),
            ("max_memory", options.max_memory.is_some()),
            ("when_full", options.when_full == BufferFull::Overflow),
        ];
        for (option, _) in given.into_iter().filter(|(_, given)| *given) {
            let table = section.node.get("buffer");
            let origin = table
                .and_then(|t| t.get(option))
                .or(table)
                .map_or(&section.node.origin, |n: &Node| &n.origin);
            let what = if option == "when_full" { "`overflow`" } else { option };
            diagnostics
                .error(origin, format!("{what} is for a buffer on disk, and this one is in memory"))
                .path(&section.path.key("buffer").key(option))
                .hint("set `type = \"disk\"` in the buffer table, or leave it out");
            sound = false;
        }
        let when_full = match options.when_full {
            BufferFull::Block => WhenFull::Block,
            BufferFull::DropNewest => WhenFull::DropNewest,
            BufferFull::DropOldest => WhenFull::DropOldest,
            BufferFull::Overflow => return None,
        };
        let events_max = options.max_events.unwrap_or(MEMORY_EVENTS);
        sound.then_some(BufferPlan::Memory(Bounds {
            events_max,
            bytes_max: max_bytes(MEMORY_BYTES),
            when_full,
        }))
    }

    /// How much it holds at most.
    pub(super) fn capacity(&self) -> Capacity {
        match self {
            BufferPlan::Memory(bounds) => {
                Capacity { events: Some(bounds.events_max), bytes: bounds.bytes_max }
            }
            BufferPlan::Disk(DiskOptions { limits, .. }) => {
                Capacity { events: limits.events_max, bytes: limits.bytes_max }
            }
        }
    }

    /// The buffer, made and not opened, that counts on `meter`.
    pub(super) fn make(self, meter: Arc<Meter>) -> Buffer {
        match self {
            BufferPlan::Memory(bounds) => {
                let front = Queue::new(bounds, meter);
                Buffer { back: front.clone(), front, disk: None }
            }
            BufferPlan::Disk(options) => {
                let (front, disk, inlet) = DiskBuffer::new(options, meter);
                Buffer::in_files(front, disk, inlet, None)
            }
        }
    }

    /// Whether a buffer of this kind may go on for a sink whose options ask for `other`: options can be changed while
    /// rows wait, and a queue can get files behind it. What is in files cannot go back.
    pub(super) fn becomes(&self, other: &BufferPlan) -> bool {
        !self.is_disk() || other.is_disk()
    }

    /// Whether a buffer of this kind moves to disk for a sink whose options ask for `other`.
    pub(super) fn moves_to_disk(&self, other: &BufferPlan) -> bool {
        !self.is_disk() && other.is_disk()
    }

    /// Whether it lives in files.
    pub(super) fn is_disk(&self) -> bool {
        matches!(self, BufferPlan::Disk(_))
    }
}

/// A buffer that was made; clones share it. It outlives the starts of its sink, and the sinks that hand it over.
#[derive(Clone)]
pub(super) struct Buffer {
    /// What sources fill.
    pub(super) front: Arc<Queue>,
    /// What the sink takes from; in memory the same.
    pub(super) back: Arc<Queue>,
    disk: Option<Arc<Stage>>,
}

/// The thread behind a buffer on disk.
struct Stage {
    /// The buffer until it is started.
    waiting: Mutex<Option<DiskBuffer>>,
    /// Of a queue that was a sink's whole buffer.
    handover: Option<Arc<Handover>>,
    /// Changes its options.
    control: Arc<Control>,
    status: Arc<BufferStatus>,
    /// Cancelled when the thread has ended.
    ended: CancellationToken,
    /// Set once it runs; cancelled when no sink takes anything more. Another one when a sink takes over after that.
    sink_gone: Mutex<Option<CancellationToken>>,
}

impl Stage {
    fn sink_gone(&self) -> MutexGuard<'_, Option<CancellationToken>> {
        self.sink_gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    fn in_files(
        front: Arc<Queue>,
        disk: DiskBuffer,
        inlet: Inlet,
        handover: Option<Arc<Handover>>,
    ) -> Buffer {
        let (status, ended) = (disk.status().clone(), CancellationToken::new());
        let (control, waiting) = (disk.control().clone(), Mutex::new(Some(disk)));
        let stage = Stage { waiting, handover, control, status, ended, sink_gone: Mutex::default() };
        Buffer { front, back: inlet.give_back(), disk: Some(Arc::new(stage)) }
    }

    /// The buffer for the sink that comes next: this one, or the same queue with files behind it. Those are not begun
    /// before [`Buffer::adapt`], and this sink is gone by then.
    pub(super) fn becoming(&self, plan: &BufferPlan) -> Buffer {
        match (plan, &self.disk) {
            (BufferPlan::Disk(options), None) => {
                let (disk, inlet, handover) = DiskBuffer::take_over(&self.front, *options);
                Buffer::in_files(self.front.clone(), disk, inlet, Some(handover))
            }
            _ => self.clone(),
        }
    }

    /// Goes on as `plan` says, which is of the same kind.
    pub(super) fn adapt(&self, plan: &BufferPlan) {
        match (plan, &self.disk) {
            (BufferPlan::Memory(bounds), None) => self.front.set_bounds(*bounds),
            (BufferPlan::Disk(options), Some(disk)) => {
                disk.control.set(*options);
                self.keeps();
            }
            _ => {}
        }
    }

    /// Whether it is what it was adapted to. Not if it was to get files that turned out not to be usable: then it is the
    /// queue that it was before, with all that waits there.
    pub(super) fn keeps(&self) -> bool {
        let handover = self.disk.as_ref().and_then(|disk| disk.handover.as_ref());
        handover.is_none_or(|handover| handover.keep())
    }

    /// A sink that was to take it over does not: false if that one had a queue with files behind it made of it, and rows
    /// may be in them by now.
    pub(super) fn give_back(&self) -> bool {
        let handover = self.disk.as_ref().and_then(|disk| disk.handover.as_ref());
        handover.is_none_or(|handover| handover.give_back())
    }

    /// Whether it lives in files.
    pub(super) fn is_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// The state of its files, if it has any.
    pub(super) fn status(&self) -> Option<Arc<BufferStatus>> {
        self.disk.as_ref().map(|disk| disk.status.clone())
    }

    /// Waits until its thread has ended, if it has one that was started. Cancel-safe.
    pub(super) async fn ended(&self) {
        if let Some(disk) = self.disk.as_ref().filter(|disk| disk.sink_gone().is_some()) {
            disk.ended.cancelled().await;
        }
    }

    /// No sink takes anything more: what is in files stays there for the next run.
    pub(super) fn sink_gone(&self) {
        if let Some(gone) = self.disk.as_ref().and_then(|disk| disk.sink_gone().clone()) {
            // One that was released has left rows there for a successor, which does not come.
            self.back.abort();
            gone.cancel();
        }
    }

    /// Makes it ready for a sink: starts its thread, if it has one that does not run yet, or opens it again for a sink
    /// that takes over from one that has ended. `cx` is of the sink, but stops with the pipeline. The first future
    /// tells whether that could be done, the second ends with a thread that was started.
    pub(super) fn start(&self, cx: &TaskCx) -> Option<(Opened, Option<Running>)> {
        let disk = self.disk.as_ref()?;
        let Some(buffer) = disk.waiting.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return self.back.is_aborted().then(|| (self.open_again(disk), None));
        };
        let ended = disk.ended.clone();
        let running = match buffer.start(cx) {
            Ok(running) => running,
            Err(e) => {
                ended.cancel();
                let fault = Fault::fatal(format!("no thread for its disk buffer: {e}"));
                return Some((Box::pin(async { Some(Err(fault)) }), None));
            }
        };
        let RunningBuffer { opened, done, sink_gone } = running;
        *disk.sink_gone() = Some(sink_gone);
        let opened = Box::pin(async move { opened.await.ok() });
        let done = Box::pin(async move {
            done.await.ok();
            ended.cancel();
        });
        Some((opened, Some(done)))
    }

    fn open_again(&self, disk: &Arc<Stage>) -> Opened {
        *disk.sink_gone() = Some(disk.control.another_sink());
        let (back, ended) = (self.back.clone(), disk.ended.clone());
        Box::pin(async move {
            tokio::select! {
                () = back.reopened() => Some(Ok(())),
                () = ended.cancelled() => None,
            }
        })
    }
}

/// Whether the files of a buffer could be opened; `None` when the end came first.
pub(super) type Opened = BoxFuture<'static, Option<Result<(), Fault>>>;

/// Starts a sink once its buffer is open; not when it is released before.
pub(super) async fn behind(
    opened: Opened,
    cx: TaskCx,
    release: CancellationToken,
    start: impl FnOnce() -> Running + Send,
) {
    let opened = tokio::select! {
        opened = opened => opened,
        () = cx.shutdown.aborted() => None,
        () = release.cancelled() => None,
    };
    match opened {
        Some(Ok(())) => start().await,
        Some(Err(fault)) => {
            tracing::error!(component = %cx.site.id(), "failed for good: {fault}");
            cx.meter.error();
            cx.health.set(State::Failed { why: fault.why().to_owned() });
        }
        None => cx.health.set(State::Finished),
    }
}

/// The directories of disk buffers under `state_dir` that hold events and belong to no sink of `pipelines`, each
/// with how many.
pub(super) fn unowned<'a>(
    state_dir: &Path,
    pipelines: impl Iterator<Item = &'a PipelinePlan>,
) -> Vec<(PathBuf, u64)> {
    let sinks = pipelines.flat_map(|p| &p.sinks).filter(|s| s.buffer.is_disk());
    let owned: HashSet<PathBuf> = sinks.map(|s| disk::directory(state_dir, &s.sink.site)).collect();
    let entries = |dir: &Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut all: Vec<PathBuf> =
        entries(&state_dir.join("buffers")).iter().flat_map(|pipeline| entries(pipeline)).collect();
    all.sort();
    let storage = disk::storage::Disk;
    let held = |dir: PathBuf| {
        if owned.contains(&dir) || !disk::audit::is_buffer(&storage, &dir) {
            return None;
        }
        let report = disk::audit::report(&storage, &dir, false).ok()?;
        (report.waiting_events > 0).then_some((dir, report.waiting_events))
    };
    all.into_iter().filter_map(held).collect()
}
