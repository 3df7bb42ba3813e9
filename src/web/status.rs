//! Status as JSON: the board's counters by pipeline and component. Counts are events since start, except `queued`
//! and `clients`, which are now.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::batch::Timestamp;
use crate::flow::disk::BufferSnapshot;
use crate::flow::{Board, ComponentEntry, Memory, MeterSnapshot, PipelineEntry, State};
use crate::net::StreamRoute;
use crate::net::guard::{GuardBoard, GuardStatus};

/// The streams that are mounted, with their paths.
type Streams = [(String, Arc<StreamRoute>)];

/// All of the process.
pub(super) fn process(
    board: &Board,
    memory: &Memory,
    streams: &Streams,
    guards: &GuardBoard,
    ready: bool,
) -> Value {
    json!({
        "memory": { "held": memory.held(), "resident": memory.resident(), "max": memory.max() },
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "cpu_seconds": cpu_seconds(),
        "uptime_seconds": board.started().elapsed().as_secs_f64(),
        "ready": ready,
        "guards": guards.statuses().iter().map(guard).collect::<Vec<_>>(),
        "pipelines": board.pipelines().iter().map(|p| pipeline(p, streams)).collect::<Vec<_>>(),
    })
}

/// Processor time that the process has used so far, in user and kernel mode and by all threads.
fn cpu_seconds() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// What one listener refused, by reason.
fn guard(status: &GuardStatus) -> Value {
    let refused = status.refused.iter().map(|(reason, count)| (reason.as_str().to_owned(), (*count).into()));
    json!({ "listener": &*status.listener, "refused": refused.collect::<Map<_, _>>() })
}

/// One pipeline.
pub(super) fn pipeline(entry: &PipelineEntry, streams: &Streams) -> Value {
    let components: Vec<(&ComponentEntry, MeterSnapshot)> =
        entry.components.iter().map(|c| (c, c.meter.snapshot())).collect();
    let own = entry.meter.snapshot();
    let sum = |count: fn(&MeterSnapshot) -> u64| components.iter().map(|(_, m)| count(m)).sum::<u64>();
    let mut status = Map::new();
    status.insert("name".into(), (*entry.name).into());
    counters(&own, &mut status);
    // What only components count.
    status.insert("clients".into(), sum(|m| m.clients).into());
    status.insert("errors".into(), (own.errors + sum(|m| m.errors)).into());
    status.insert("restarts".into(), sum(|m| m.restarts).into());
    let components: Vec<Value> =
        components.iter().map(|(entry, meter)| component(entry, meter, streams)).collect();
    status.insert("components".into(), components.into());
    Value::Object(status)
}

fn component(entry: &ComponentEntry, meter: &MeterSnapshot, streams: &Streams) -> Value {
    let state = entry.health.state();
    let mut status = Map::new();
    status.insert("id".into(), entry.site.id().into());
    status.insert("kind".into(), entry.site.kind.as_str().into());
    status.insert("type".into(), entry.site.type_name.into());
    status.insert("state".into(), state.as_str().into());
    if let Some(why) = why(&state) {
        status.insert("why".into(), why.into());
    }
    counters(meter, &mut status);
    if let Some(capacity) = entry.capacity {
        status.insert("queue_max".into(), capacity.events.into());
        status.insert("queue_max_bytes".into(), capacity.bytes.into());
    }
    if let Some(buffer) = &entry.buffer {
        status.insert("buffer".into(), disk_buffer(&buffer.snapshot(), meter));
    }
    status.insert("clients".into(), meter.clients.into());
    status.insert("client_drops".into(), meter.client_drops.into());
    status.insert("cut".into(), meter.cut_events.into());
    status.insert("errors".into(), meter.errors.into());
    status.insert("restarts".into(), meter.restarts.into());
    if let Some(lag) = entry.meter.lag() {
        let files = json!({ "followed": lag.files, "open": lag.open, "behind_bytes": lag.behind_bytes });
        status.insert("files".into(), files);
    }
    let of_type: Map<_, _> = entry
        .meter
        .counts_of_type()
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
    if !of_type.is_empty() {
        status.insert(entry.site.type_name.into(), of_type.into());
    }
    if let Some(last) = entry.health.last_error() {
        let mut at = Vec::new();
        Timestamp(last.unix_nanos).write_rfc3339(&mut at);
        let at = String::from_utf8_lossy(&at);
        status.insert("last_error".into(), json!({ "why": last.why, "at": at }));
    }
    if entry.health.stalled() > 0 {
        status.insert("stalled_seconds".into(), entry.health.stalled().into());
    }
    if let Some((path, stream)) = streams.iter().find(|(_, stream)| *stream.site == *entry.site) {
        let ring = &stream.ring;
        status.insert(
            "stream".into(),
            json!({
                "path": path,
                "next": ring.epoch().id(ring.head()),
                "history_events": ring.history_events(),
                "encoded_batches": ring.encoded_batches(),
                "json": stream.options.own_is_json,
            }),
        );
    }
    Value::Object(status)
}

fn disk_buffer(buffer: &BufferSnapshot, meter: &MeterSnapshot) -> Value {
    let mut status = json!({
        "state": buffer.state(),
        "directory": buffer.dir.display().to_string(),
        "events": meter.stored_events,
        "recovered": meter.recovered_events,
        "disk_bytes": buffer.disk_bytes,
        "segments": buffer.segments,
        "damaged": buffer.damaged,
        "missing_segments": buffer.missing,
    });
    if let (Some(why), Some(status)) = (&buffer.trouble, status.as_object_mut()) {
        status.insert("why".to_owned(), why.as_str().into());
    }
    status
}

fn counters(meter: &MeterSnapshot, into: &mut Map<String, Value>) {
    let dropped: Map<String, Value> = meter
        .dropped_events
        .iter()
        .filter(|(_, events)| *events > 0)
        .map(|(reason, events)| (reason.as_str().to_owned(), (*events).into()))
        .collect();
    into.insert("received".into(), meter.received_events.into());
    into.insert("received_bytes".into(), meter.received_bytes.into());
    into.insert("delivered".into(), meter.delivered_events.into());
    into.insert("delivered_bytes".into(), meter.delivered_bytes.into());
    into.insert("filtered".into(), meter.filtered_events.into());
    into.insert("dropped".into(), dropped.into());
    into.insert("dropped_total".into(), meter.dropped_total().into());
    into.insert("queued".into(), meter.queued_events.into());
    into.insert("queued_bytes".into(), meter.queued_bytes.into());
}

/// The fault behind a state, if there is one.
pub(super) fn why(state: &State) -> Option<&str> {
    match state {
        State::Restarting { why } | State::Failed { why } => Some(why),
        State::Starting | State::Ready | State::Finished => None,
    }
}
