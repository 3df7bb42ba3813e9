//! How long the end waits for a sink. One that gets rows out, or may do so any moment, has the whole of
//! `shutdown_timeout`. One that fails and fails need not be waited for when all its rows are on the disk anyway.

use std::time::Duration;

use super::buffers::Buffer;
use crate::base::clock;
use crate::base::shutdown::Shutdown;
use crate::flow::TaskCx;

/// How long a sink that fails may deliver nothing, once shutdown has begun, before its rows are left on the disk.
const NOTHING_DELIVERED: Duration = Duration::from_secs(2);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs a sink to its end. It comes early where waiting longer would only keep the process: see the module.
/// `end` is that of the process: on a reload, what a buffer leaves behind might find no owner.
pub(super) async fn run(sink: impl Future<Output = ()>, cx: &TaskCx, buffer: &Buffer, end: &Shutdown) {
    tokio::pin!(sink);
    tokio::select! {
        () = &mut sink => return,
        () = in_vain(cx, buffer, end) => {}
    }
    tracing::info!(component = %cx.site.id(), "delivers nothing: what its disk buffer holds stays there");
    cx.shutdown.abort();
    sink.await;
}

/// Resolves when shutdown has begun and the sink is not worth waiting for; of a buffer in memory, never.
async fn in_vain(cx: &TaskCx, buffer: &Buffer, end: &Shutdown) {
    let Some(status) = buffer.status() else { return std::future::pending().await };
    end.draining().await;
    cx.shutdown.draining().await;
    let settled = || {
        let counts = cx.meter.snapshot();
        counts.delivered_events + counts.filtered_events + counts.dropped_total()
    };
    let (mut before, mut since) = (settled(), clock::now());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = settled();
        if now != before {
            (before, since) = (now, clock::now());
        }
        if status.is_safe() && cx.health.is_failing() && since.elapsed() >= NOTHING_DELIVERED {
            return;
        }
    }
}
