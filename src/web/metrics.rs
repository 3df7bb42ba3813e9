//! Metrics in the OpenMetrics text format. They are read off the board when they are asked for, so that a pipeline
//! that a reload removed leaves no series behind.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::{Response, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::flow::{Board, ComponentEntry, Memory, MeterSnapshot, State};
use crate::net::guard::GuardBoard;
use crate::net::problem::{Body, Problem, respond};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics.
pub(super) fn response(
    board: &Arc<Board>,
    memory: &Arc<Memory>,
    guards: &Arc<GuardBoard>,
) -> Result<Response<Body>, Problem> {
    let mut registry = Registry::with_prefix("weir");
    registry.register_collector(Box::new(OfBoard(board.clone(), memory.clone(), guards.clone())));
    let mut text = String::new();
    encode(&mut text, &registry)
        .map_err(|e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write metrics: {e}")))?;
    Ok(respond(StatusCode::OK, CONTENT_TYPE, text))
}

#[derive(Debug)]
struct OfBoard(Arc<Board>, Arc<Memory>, Arc<GuardBoard>);

/// A metric that every component has: name, what it counts, whether it is a gauge, and where to read it.
type PerComponent = (&'static str, &'static str, MetricType, fn(&MeterSnapshot) -> u64);

const PER_COMPONENT: [PerComponent; 14] = [
    ("received_events", "Events that came in", MetricType::Counter, |m| m.received_events),
    ("received_bytes", "Bytes that came in", MetricType::Counter, |m| m.received_bytes),
    ("delivered_events", "Events that went out", MetricType::Counter, |m| m.delivered_events),
    ("delivered_bytes", "Bytes that went out", MetricType::Counter, |m| m.delivered_bytes),
    ("filtered_events", "Events filtered away on purpose", MetricType::Counter, |m| m.filtered_events),
    ("queued_events", "Events that wait now", MetricType::Gauge, |m| m.queued_events),
    ("queued_bytes", "Bytes that wait now", MetricType::Gauge, |m| m.queued_bytes),
    ("stored_events", "Events in a disk buffer now, part of what waits", MetricType::Gauge, |m| {
        m.stored_events
    }),
    (
        "recovered_events",
        "Events that a disk buffer held from an earlier run, part of what came in",
        MetricType::Counter,
        |m| m.recovered_events,
    ),
    ("errors", "Operations that failed", MetricType::Counter, |m| m.errors),
    ("restarts", "Starts after a fault", MetricType::Counter, |m| m.restarts),
    ("clients", "Clients connected now", MetricType::Gauge, |m| m.clients),
    ("client_drops", "Events that single slow clients missed", MetricType::Counter, |m| m.client_drops),
    ("cut_events", "Lines longer than the limit, passed truncated or in pieces", MetricType::Counter, |m| {
        m.cut_events
    }),
];

/// What is not in a component's meter: name, what it says, its kind, and where to read it, if the component has it.
type PerEntry = (&'static str, &'static str, MetricType, fn(&ComponentEntry) -> Option<u64>);

const PER_ENTRY: [PerEntry; 11] = [
    ("component_ready", "1 when the component is at work or has ended in order", MetricType::Gauge, |e| {
        Some(matches!(e.health.state(), State::Ready | State::Finished).into())
    }),
    (
        "component_stalled_seconds",
        "Seconds for which a sink has not moved although events wait; 0 below half a minute",
        MetricType::Gauge,
        |e| Some(e.health.stalled()),
    ),
    (
        "component_last_error_timestamp_seconds",
        "When a component failed last, in seconds since the Unix epoch; 0 if it never did",
        MetricType::Gauge,
        |e| {
            Some(
                e.health
                    .last_error()
                    .and_then(|e| u64::try_from(e.unix_nanos / 1_000_000_000).ok())
                    .unwrap_or(0),
            )
        },
    ),
    ("buffer_disk_bytes", "Bytes that a disk buffer's files have", MetricType::Gauge, |e| {
        Some(e.buffer.as_ref()?.snapshot().disk_bytes)
    }),
    ("buffer_full", "1 while a disk buffer or its disk has no room", MetricType::Gauge, |e| {
        Some(e.buffer.as_ref()?.snapshot().full.into())
    }),
    ("buffer_failing", "1 while a disk buffer cannot write or read", MetricType::Gauge, |e| {
        Some(e.buffer.as_ref()?.snapshot().trouble.is_some().into())
    }),
    (
        "buffer_damaged_records",
        "Damaged stretches of a disk buffer that were skipped",
        MetricType::Counter,
        |e| Some(e.buffer.as_ref()?.snapshot().damaged),
    ),
    (
        "files_behind_bytes",
        "Bytes in the files that a source follows which it has not taken yet",
        MetricType::Gauge,
        |e| Some(e.meter.lag()?.behind_bytes),
    ),
    ("files_followed", "Files that a source follows", MetricType::Gauge, |e| Some(e.meter.lag()?.files)),
    ("files_open", "Followed files that are open", MetricType::Gauge, |e| Some(e.meter.lag()?.open)),
    ("buffer_missing_segments", "Gaps where files of a disk buffer were missing", MetricType::Counter, |e| {
        Some(e.buffer.as_ref()?.snapshot().missing)
    }),
];

impl Collector for OfBoard {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let pipelines = self.0.pipelines();
        let components: Vec<(&ComponentEntry, String, MeterSnapshot)> = pipelines
            .iter()
            .flat_map(|p| &p.components)
            .map(|c| (c, c.site.id(), c.meter.snapshot()))
            .collect();
        for (name, help, kind, read) in PER_COMPONENT {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (entry, id, meter) in &components {
                write(family.encode_family(&labels(entry, id))?, kind, read(meter))?;
            }
        }
        let mut dropped = encoder.encode_descriptor(
            "dropped_events",
            "Events lost, by reason",
            None,
            MetricType::Counter,
        )?;
        for (entry, id, meter) in &components {
            for (reason, events) in meter.dropped_events {
                let [pipeline, component, kind] = labels(entry, id);
                let labels = [pipeline, component, kind, ("reason", reason.as_str())];
                write(dropped.encode_family(&labels)?, MetricType::Counter, events)?;
            }
        }
        encode_counts_of_types(&mut encoder, &components)?;
        for (name, help, kind, read) in PER_ENTRY {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (entry, id, _) in &components {
                if let Some(value) = read(entry) {
                    write(family.encode_family(&labels(entry, id))?, kind, value)?;
                }
            }
        }
        for (name, help, value) in [
            ("memory_held_bytes", "Bytes that rows keep in buffers and histories", self.1.held()),
            ("memory_resident_bytes", "Bytes of memory that the process holds", self.1.resident()),
            ("memory_max_bytes", "The bound on both, 0 without one", self.1.max().unwrap_or(0)),
        ] {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let mut refused = encoder.encode_descriptor(
            "refused",
            "Connections and requests turned away, by listener and reason",
            None,
            MetricType::Counter,
        )?;
        for guard in self.2.statuses() {
            for (reason, count) in guard.refused {
                let labels = [("listener", &*guard.listener), ("reason", reason.as_str())];
                write(refused.encode_family(&labels)?, MetricType::Counter, count)?;
            }
        }
        let uptime = self.0.started().elapsed().as_secs_f64();
        encoder
            .encode_descriptor(
                "uptime_seconds",
                "Seconds since the process started",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&uptime)?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let mut build =
            encoder.encode_descriptor("build_info", "The version that runs", None, MetricType::Gauge)?;
        write(build.encode_family(&version)?, MetricType::Gauge, 1)
    }
}

/// What only one type of components counts, as `<type>_<name>`.
fn encode_counts_of_types(
    encoder: &mut DescriptorEncoder<'_>,
    components: &[(&ComponentEntry, String, MeterSnapshot)],
) -> Result<(), fmt::Error> {
    let mut series = BTreeMap::<_, Vec<_>>::new();
    for (entry, id, _) in components {
        for (name, count) in entry.meter.counts_of_type() {
            series.entry((entry.site.type_name, name)).or_default().push((labels(entry, id), count));
        }
    }
    for ((kind, name), counts) in series {
        let help = format!("What only {kind} components count: {}", name.replace('_', " "));
        let metric = format!("{kind}_{name}");
        let mut family = encoder.encode_descriptor(&metric, &help, None, MetricType::Counter)?;
        for (labels, count) in counts {
            write(family.encode_family(&labels)?, MetricType::Counter, count)?;
        }
    }
    Ok(())
}

fn labels<'a>(entry: &'a ComponentEntry, id: &'a str) -> [(&'static str, &'a str); 3] {
    [("pipeline", &entry.site.pipeline), ("component", id), ("type", entry.site.type_name)]
}

fn write(mut metric: MetricEncoder<'_>, kind: MetricType, value: u64) -> Result<(), fmt::Error> {
    match kind {
        MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        _ => metric.encode_gauge(&value),
    }
}
