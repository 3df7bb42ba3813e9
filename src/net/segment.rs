//! A segment: one batch on its way to subscribers. Each form it is asked for is encoded once, by whoever asks
//! first, and every subscriber sends slices of the same bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::id::Epoch;
use crate::base::clock::{self, Instant};
use crate::batch::Batch;

/// What of a row is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The row in the sink's own format.
    Own,
    /// The row as a JSON object.
    Json,
    /// The line as it came.
    Raw,
}

/// How rows are told apart on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events, with ids.
    Sse,
    /// One row per line.
    Lines,
}

/// What a subscriber asks of each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// How rows are told apart.
    pub framing: Framing,
    /// What is sent of each.
    pub content: Content,
    /// Which keys of the JSON object, in this order; implies [`Content::Json`].
    pub fields: Option<Fields>,
}

impl Form {
    /// A form without a choice of fields.
    pub const fn new(framing: Framing, content: Content) -> Form {
        Form { framing, content, fields: None }
    }

    fn slot(&self) -> usize {
        let content = match self.content {
            Content::Own => 0,
            Content::Json => 1,
            Content::Raw => 2,
        };
        content + 3 * usize::from(self.framing == Framing::Lines)
    }
}

const SLOTS: usize = 6;
/// Most choices of fields of which a segment keeps the encoding; more are encoded for each subscriber.
const PROJECTIONS_MAX: usize = 8;

/// A choice of top-level JSON keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields(Arc<[String]>);

impl Fields {
    /// These keys, in this order.
    pub fn new(keys: Vec<String>) -> Fields {
        Fields(keys.into())
    }

    /// Cuts the JSON object `out[start..]` down to the keys.
    fn project(&self, out: &mut Vec<u8>, start: usize) {
        let Ok(object) = serde_json::from_slice::<HashMap<String, &RawValue>>(&out[start..]) else { return };
        let mut chosen = vec![b'{'];
        for key in self.0.iter() {
            if let Some(value) = object.get(key) {
                if chosen.len() > 1 {
                    chosen.push(b',');
                }
                chosen.extend_from_slice(serde_json::Value::from(key.as_str()).to_string().as_bytes());
                chosen.push(b':');
                chosen.extend_from_slice(value.get().as_bytes());
            }
        }
        chosen.push(b'}');
        out.truncate(start);
        out.extend_from_slice(&chosen);
    }
}

/// Writes rows; what a sink brings along. Made by the sink, since formats are its business.
pub trait Encode: Send + Sync + 'static {
    /// A writer for the rows of `batch`: it appends one row, without a delimiter. Called once per batch and form.
    fn rows<'a>(&'a self, batch: &'a Batch, content: Content) -> RowWriter<'a>;

    /// Whether [`Content::Own`] is a JSON object.
    fn own_is_json(&self) -> bool;
}

/// Appends a row, without a delimiter, to a buffer.
pub type RowWriter<'a> = Box<dyn Fn(u32, &mut Vec<u8>) + 'a>;

/// The rows of a segment in one form.
#[derive(Debug, Clone)]
pub struct Encoded {
    bytes: Bytes,
    /// Where each row's frame ends.
    ends: Arc<[usize]>,
}

impl Encoded {
    /// The frames of rows `from..to`, counted from the first row of the segment.
    pub fn slice(&self, from: usize, to: usize) -> Bytes {
        self.bytes.slice(self.start(from)..self.start(to))
    }

    /// The end of the longest run of rows from `from`, at most to `to`, within `bytes_max`; at least one row.
    pub fn fitting(&self, from: usize, to: usize, bytes_max: usize) -> usize {
        let most = self.start(from) + bytes_max;
        let fit = from + self.ends[from..to].partition_point(|end| *end <= most);
        fit.max((from + 1).min(to))
    }

    /// Where row `index` starts, in bytes; for one past the last, where the last ends.
    pub fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] }
    }
}

/// Counters that a ring and its segments share.
#[derive(Debug, Default)]
pub struct EncodeStats {
    /// Batches encoded since start, each form counted.
    pub batches: AtomicU64,
    /// Bytes of encodings that segments hold now.
    pub bytes: AtomicU64,
}

/// See the module.
pub struct Segment {
    first: u64,
    appended: Instant,
    batch: Batch,
    encoder: Arc<dyn Encode>,
    stats: Arc<EncodeStats>,
    held_bytes: AtomicU64,
    forms: [OnceLock<Encoded>; SLOTS],
    projections: Mutex<SmallVec<[(bool, Fields, Encoded); 0]>>,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "segment {}..{}", self.first, self.end())
    }
}

impl Segment {
    /// The live rows of `batch` as the events `first..first + rows`.
    pub fn new(first: u64, batch: Batch, encoder: Arc<dyn Encode>, stats: Arc<EncodeStats>) -> Segment {
        let (forms, projections) = (Default::default(), Mutex::default());
        Segment {
            first,
            appended: clock::now(),
            batch,
            encoder,
            stats,
            held_bytes: AtomicU64::new(0),
            forms,
            projections,
        }
    }

    /// When it was made.
    pub fn appended(&self) -> Instant {
        self.appended
    }

    /// Sequence of the first event.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// One past the sequence of the last event.
    pub fn end(&self) -> u64 {
        self.first + self.count()
    }

    /// Number of events.
    pub fn count(&self) -> u64 {
        self.batch.events()
    }

    /// The rows.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Bytes of memory held, without encodings.
    pub fn weight(&self) -> u64 {
        self.batch.weight() + size_of::<Segment>() as u64
    }

    /// Whether [`Content::Own`] is a JSON object.
    pub fn own_is_json(&self) -> bool {
        self.encoder.own_is_json()
    }

    /// The rows in `form`, encoded now if nobody asked before.
    pub fn encoded(&self, form: &Form, epoch: &Epoch) -> Encoded {
        let Some(fields) = &form.fields else {
            return self.forms[form.slot()].get_or_init(|| self.encode(form, epoch)).clone();
        };
        let sse = form.framing == Framing::Sse;
        let mut kept = self.projections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, encoded)) = kept.iter().find(|(s, f, _)| *s == sse && f == fields) {
            return encoded.clone();
        }
        let encoded = self.encode(form, epoch);
        if kept.len() < PROJECTIONS_MAX {
            kept.push((sse, fields.clone(), encoded.clone()));
        }
        encoded
    }

    fn encode(&self, form: &Form, epoch: &Epoch) -> Encoded {
        let rows = self.batch.events() as usize;
        let each = if form.content == Content::Raw { 1 } else { 112 }
            + if form.framing == Framing::Sse { 32 } else { 0 };
        let mut out = Vec::with_capacity(self.batch.bytes() as usize + rows * each);
        let mut ends = Vec::with_capacity(rows);
        let write = self.encoder.rows(&self.batch, form.content);
        let id = format!("id: {epoch}-");
        for (seq, row) in (self.first..).zip(self.batch.live().iter()) {
            if form.framing == Framing::Sse {
                out.extend_from_slice(id.as_bytes());
                write_number(seq, &mut out);
                out.extend_from_slice(b"\ndata: ");
            }
            let start = out.len();
            write(row, &mut out);
            if let Some(fields) = &form.fields {
                fields.project(&mut out, start);
            }
            if form.framing == Framing::Sse {
                split_data(&mut out, start);
                out.push(b'\n');
            }
            out.push(b'\n');
            ends.push(out.len());
        }
        if out.capacity() > out.len() + out.len() / 4 {
            out.shrink_to_fit();
        }
        let bytes = (out.capacity() + ends.len() * size_of::<usize>()) as u64;
        self.held_bytes.fetch_add(bytes, Relaxed);
        self.stats.bytes.fetch_add(bytes, Relaxed);
        self.stats.batches.fetch_add(1, Relaxed);
        Encoded { bytes: out.into(), ends: ends.into() }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.stats.bytes.fetch_sub(*self.held_bytes.get_mut(), Relaxed);
    }
}

fn write_number(n: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = n;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Starts a new `data:` line at every line break in `out[start..]`, whichever of the three kinds it is: an event
/// stream takes them all for the end of a field, so a row that holds one could otherwise forge fields and events.
pub fn split_data(out: &mut Vec<u8>, start: usize) {
    if memchr::memchr2(b'\r', b'\n', &out[start..]).is_none() {
        return;
    }
    let text = out.split_off(start);
    let mut rest = &text[..];
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"\ndata: ");
        let crlf = rest[at] == b'\r' && rest.get(at + 1) == Some(&b'\n');
        rest = &rest[at + 1 + usize::from(crlf)..];
    }
    out.extend_from_slice(rest);
}
