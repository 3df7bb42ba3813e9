//! Events of a running weir, opened: the line as it was logged, and what weir says about it. What is no such event,
//! since the sink has a format of its own, is a line as it is.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::clock;
use crate::batch::{BatchBuilder, Level, Origin, Receipt, Span, Timestamp, detect};
use crate::cli::tail::block::{Block, Envelope};
use crate::cli::tail::json::{self, Kind, Member};
use crate::query::lookup;

/// Most names of sources that are kept to be shared.
const LABELS_MAX: usize = 1000;

/// Opens the events of one subscription.
#[derive(Debug)]
pub(super) struct Opener {
    origin: Arc<Origin>,
    /// Whether the events of several pipelines come together.
    many: bool,
    builder: BatchBuilder,
    data: Vec<u8>,
    envelopes: Vec<Envelope>,
    labels: HashMap<Vec<u8>, Arc<str>>,
    members: Vec<Member>,
    text: Vec<u8>,
}

impl Opener {
    /// For the subscription that is called `name`.
    pub(super) fn new(name: &str, many: bool) -> Opener {
        let origin = Arc::new(Origin::new("tail", name));
        Opener {
            builder: BatchBuilder::new(Arc::clone(&origin)),
            origin,
            many,
            data: Vec::new(),
            envelopes: Vec::new(),
            labels: HashMap::new(),
            members: Vec::new(),
            text: Vec::new(),
        }
    }

    /// Takes one event.
    pub(super) fn open(&mut self, data: &[u8]) {
        self.members.clear();
        if !json::members(data, 0..data.len(), &mut self.members) || !self.open_object(data) {
            let received = Timestamp(clock::unix_nanos());
            self.builder.push(data);
            self.envelopes.push(Envelope {
                data: Span::new(self.data.len(), 0),
                timestamp: detect::detect_timestamp(data, received),
                level: detect::detect_level(data),
                label: self.origin.label().into(),
            });
        }
    }

    /// Takes an event that is an object of weir's; false if it is another.
    fn open_object(&mut self, data: &[u8]) -> bool {
        let find = |name: &[u8]| self.members.iter().find(|m| m.key(data) == name).copied();
        let Some(message) = find(b"message").filter(|m| matches!(m.kind, Kind::Text { .. })) else {
            return false;
        };
        if find(b"timestamp").is_none() || find(b"source").is_none() {
            return false;
        }
        let received = Timestamp(clock::unix_nanos());
        let timestamp = find(b"timestamp").and_then(|m| {
            let value = m.value(data);
            Timestamp::parse_rfc3339(value).or_else(|| detect::detect_timestamp(value, received))
        });
        let level = find(b"level").and_then(|m| Level::parse(m.value(data)));
        let label = find(if self.many { b"pipeline" } else { b"source" }).or_else(|| find(b"source"));
        self.text.clear();
        if let Some(label) = label {
            lookup::unescape_into(label.value(data), &mut self.text);
        }
        let label = match self.labels.get(&self.text) {
            Some(label) => Arc::clone(label),
            None => {
                if self.labels.len() >= LABELS_MAX {
                    self.labels.clear();
                }
                let label: Arc<str> = String::from_utf8_lossy(&self.text).into();
                self.labels.insert(self.text.clone(), Arc::clone(&label));
                label
            }
        };
        self.text.clear();
        lookup::unescape_into(message.value(data), &mut self.text);
        self.builder.push(&self.text);
        self.envelopes.push(Envelope {
            data: Span::new(self.data.len(), data.len()),
            timestamp,
            level,
            label,
        });
        self.data.extend_from_slice(data);
        true
    }

    /// The events that were opened since the last time, if there are any.
    pub(super) fn take(&mut self) -> Option<Block> {
        if self.builder.is_empty() {
            return None;
        }
        let next = BatchBuilder::new(Arc::clone(&self.origin));
        let batch = std::mem::replace(&mut self.builder, next).finish(Receipt::none());
        let data = std::mem::take(&mut self.data).into();
        Some(Block { batch, data, envelopes: std::mem::take(&mut self.envelopes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines_with_what_is_known_of_them() {
        let mut opener = Opener::new("u", false);
        assert!(opener.take().is_none());
        opener.open(br#"{"timestamp":"2026-11-21T10:00:00.000Z","level":"warn","source":"a.log","message":"say \"hi\"\n\tthere"}"#);
        opener.open(b"plain ERROR line");
        opener.open(br#"{"message":"no envelope"}"#);
        let block = opener.take().unwrap();
        let line = |row| String::from_utf8_lossy(block.batch.line(row)).into_owned();
        assert_eq!(
            [line(0), line(1), line(2)],
            ["say \"hi\"\n\tthere", "plain ERROR line", "{\"message\":\"no envelope\"}"]
        );
        let first = block.envelope(0).unwrap();
        assert_eq!((first.level, &*first.label), (Some(Level::Warn), "a.log"));
        assert_eq!(first.timestamp, Timestamp::parse_rfc3339(b"2026-11-21T10:00:00Z"));
        assert_eq!(first.data.len(), 104);
        assert_eq!((block.envelope(1).unwrap().level, block.label(1)), (Some(Level::Error), "u"));
        assert!(block.envelope(2).unwrap().data.is_empty());
        assert!(opener.take().is_none());
    }

    #[test]
    fn of_several_pipelines_the_pipeline_is_named() {
        let mut opener = Opener::new("u", true);
        opener.open(
            br#"{"pipeline":"app","timestamp":1795255200000,"level":null,"source":"a.log","message":""}"#,
        );
        let block = opener.take().unwrap();
        assert_eq!((block.label(0), block.batch.line(0)), ("app", &b""[..]));
        assert!(block.stated_time(0).is_some());
    }
}
