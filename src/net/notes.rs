//! What a stream says besides its rows: hello, gap, drop, heartbeat, bye. Server-sent events have types and
//! comments for that; a stream of JSON lines gets objects with a `weir` key; a stream of raw lines gets nothing.

use bytes::Bytes;
use serde_json::{Value, json};

use super::ring::Ring;

/// How a stream says them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteStyle {
    /// As events with a type, heartbeats as comments.
    Events,
    /// As JSON lines.
    JsonLines,
    /// Not at all: whoever reads it takes every line for a row.
    Silent,
}

/// What a heartbeat looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatStyle {
    /// A comment, which `EventSource` hides; an empty line where there are no comments.
    Comment,
    /// An event of type `ping`.
    Event,
    /// A JSON object as data.
    Json,
}

/// A note of the kind `kind`; empty where the style has none.
pub fn note(style: NoteStyle, kind: &str, mut about: Value) -> Bytes {
    match style {
        NoteStyle::Silent => Bytes::new(),
        NoteStyle::Events => format!("event: {kind}\ndata: {about}\n\n").into(),
        NoteStyle::JsonLines => {
            let mut line = json!({ "weir": kind });
            if let (Some(line), Some(about)) = (line.as_object_mut(), about.as_object_mut()) {
                line.append(about);
            }
            format!("{line}\n").into()
        }
    }
}

/// Tells of missing events: `from` and `until` are sequences, the second one past the last missing.
pub fn missing(style: NoteStyle, kind: &str, ring: &Ring, from: Option<u64>, until: u64) -> Bytes {
    let id = |seq: u64| ring.epoch().id(seq);
    let about = json!({
        "pipeline": &**ring.name(),
        "missed": from.map(|from| until - from),
        "from": from.map(id),
        "to": from.map(|_| id(until - 1)),
        "next": id(until),
    });
    note(style, kind, about)
}

/// A heartbeat. `position` is the id to resume from, where rows were passed over since the last one was sent.
pub fn heartbeat(
    style: NoteStyle,
    beat: HeartbeatStyle,
    stats: Option<&Value>,
    position: Option<String>,
) -> Bytes {
    // An id without data is remembered by the client and dispatches nothing.
    let id = position.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let about = stats.cloned().unwrap_or_else(|| json!({}));
    match (style, beat) {
        (NoteStyle::Events, HeartbeatStyle::Comment) => match stats {
            Some(stats) => format!(":hb {stats}\n{id}\n").into(),
            None if id.is_empty() => Bytes::from_static(b":hb\n\n"),
            None => format!(":hb\n{id}\n").into(),
        },
        (NoteStyle::Events, HeartbeatStyle::Event) => format!("event: ping\n{id}data: {about}\n\n").into(),
        (NoteStyle::Events, HeartbeatStyle::Json) => {
            let mut beat = json!({ "weir": "heartbeat" });
            if let (Some(beat), Some(stats)) = (beat.as_object_mut(), stats.and_then(Value::as_object)) {
                beat.extend(stats.clone());
            }
            format!("{id}data: {beat}\n\n").into()
        }
        (NoteStyle::JsonLines, HeartbeatStyle::Event | HeartbeatStyle::Json) => {
            note(style, "heartbeat", about)
        }
        (NoteStyle::JsonLines | NoteStyle::Silent, HeartbeatStyle::Comment) => Bytes::from_static(b"\n"),
        // Only where the operator asked for it.
        (NoteStyle::Silent, _) => note(NoteStyle::JsonLines, "heartbeat", about),
    }
}
