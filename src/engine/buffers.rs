//! What lies before a sink: a queue in memory, or a buffer on disk with its thread. Planned without I/O, made when the
//! pipeline is wired, opened when the sink is started.

use std::sync::Arc;
use std::time::Duration;

use super::supervise::Running;
use crate::base::task;
use crate::base::units::ByteCount;
use crate::config::{BufferCompression, BufferFull, BufferOptions, BufferType, Diagnostics, Node, Section};
use crate::flow::disk::format::Compression;
use crate::flow::disk::{DiskBuffer, DiskFull, DiskOptions, Limits, RunningBuffer};
use crate::flow::{Bounds, Inlet, Meter, Queue, State, TaskCx, WhenFull};

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

    /// The sources' end, the sink's end, and the buffer's thread to start if it has one.
    pub(super) fn make(self, meter: Arc<Meter>) -> (Arc<Queue>, Inlet, Option<DiskBuffer>) {
        match self {
            BufferPlan::Memory(bounds) => {
                let queue = Queue::new(bounds, meter);
                (queue.clone(), Inlet::new(queue), None)
            }
            BufferPlan::Disk(options) => {
                let (queue, buffer, inlet) = DiskBuffer::new(options, meter);
                (queue, inlet, Some(buffer))
            }
        }
    }
}

/// Starts a sink behind its buffer, once that is open; ends when both have ended.
pub(super) fn start_behind(
    buffer: DiskBuffer,
    cx: TaskCx,
    start: impl FnOnce() -> Running + Send + 'static,
) -> Running {
    let running = match buffer.start(&cx) {
        Ok(running) => running,
        Err(e) => {
            fail(&cx, format!("no thread for its disk buffer: {e}"));
            return Box::pin(std::future::ready(()));
        }
    };
    let both = task::spawn(async move {
        let RunningBuffer { opened, done, sink_gone } = running;
        match opened.await {
            Ok(Ok(())) => start().await,
            Ok(Err(fault)) => fail(&cx, fault.why().to_owned()),
            // The end came first.
            Err(_) => cx.health.set(State::Finished),
        }
        sink_gone.cancel();
        done.await.ok();
    });
    Box::pin(async move { drop(both.await) })
}

fn fail(cx: &TaskCx, why: String) {
    tracing::error!(component = %cx.site.id(), "failed for good: {why}");
    cx.meter.error();
    cx.health.set(State::Failed { why });
}
