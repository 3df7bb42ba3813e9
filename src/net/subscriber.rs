//! A subscriber: a place in one ring or several, and what it wants of them. It fills a list of shared byte slices
//! and never touches a socket, so that any transport can send them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use smallvec::SmallVec;

use super::id::Epoch;
use super::notes::{self, HeartbeatStyle, NoteStyle};
use super::ring::{Cursor, Read, Ring, Start};
use super::segment::{Content, Encoded, Form, Framing, Segment};
use super::select::Select;
use crate::batch::Mask;
use crate::flow::Meter;

/// Bytes after which a fill ends; one event may be larger.
const FILL_BYTES: usize = 256 << 10;
/// Rows looked at for a filtered subscriber before others get their turn.
const FILL_ROWS: usize = 8192;
/// Segments taken from a ring at once.
const READ_SEGMENTS: usize = 256;

/// Slices to send, in order.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// The slices; none is empty.
    pub parts: VecDeque<Bytes>,
    /// Bytes of those not yet framed as a chunk.
    pub bytes: usize,
    /// How many of the slices, from the front, are framed.
    pub framed: usize,
}

impl Outgoing {
    /// Adds a slice.
    pub fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.bytes += part.len();
            self.parts.push_back(part);
        }
    }
}

/// A seat at a stream: counted as a client as long as it is held.
#[derive(Debug)]
pub struct Seat(Arc<Meter>);

impl Seat {
    /// Takes a seat that counts on `meter`.
    pub fn take(meter: Arc<Meter>) -> Seat {
        meter.client_joined();
        Seat(meter)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.client_left();
    }
}

/// A subscriber's share of one ring.
#[derive(Debug)]
struct Leg {
    cursor: Cursor,
    form: Form,
    seat: Seat,
    /// Sequence of the last event sent.
    sent: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Subscriber {
    legs: SmallVec<[Leg; 1]>,
    /// Which leg is served first; turns, so that a busy stream does not starve the others.
    turn: usize,
    select: Option<Box<Select>>,
    /// What the query found in the segment that is being read: a fill may end in the middle of it.
    found: Option<Found>,
    remaining: Option<u64>,
    notes: NoteStyle,
    /// Several streams on one connection: ids and rows name their pipeline.
    many: bool,
    ended: bool,
    /// Some of what was there when it joined is still ahead.
    replaying: bool,
    /// Its client was told of missing events and has no id for where that leads.
    owes_position: bool,
}

/// What a query found in a segment, of which leg, by the sequence of its first event.
#[derive(Debug)]
struct Found {
    leg: usize,
    segment: u64,
    rows: Option<Mask>,
}

/// How a subscriber wants its rows.
#[derive(Debug, Clone)]
pub struct Wish {
    /// How it hears of what is not a row.
    pub notes: NoteStyle,
    /// Which rows.
    pub select: Select,
    /// End after that many.
    pub limit: Option<u64>,
    /// Several streams on one connection.
    pub many: bool,
}

impl Subscriber {
    /// A subscriber that has not joined any ring yet.
    pub fn new(wish: Wish) -> Subscriber {
        let Wish { notes, select, limit, many } = wish;
        let select = (!select.is_everything()).then(|| Box::new(select));
        Subscriber {
            legs: SmallVec::new(),
            turn: 0,
            select,
            found: None,
            remaining: limit,
            notes,
            many,
            ended: limit == Some(0),
            replaying: false,
            owes_position: false,
        }
    }

    /// Joins a ring at `start`.
    pub fn join(&mut self, ring: &Arc<Ring>, start: Start, form: Form, seat: Seat) {
        self.take_leg(ring.subscribe(start), form, seat);
    }

    /// Joins a ring at the last `count` rows of its history that are wanted.
    pub fn join_tail(&mut self, ring: &Arc<Ring>, count: u64, form: Form, seat: Seat) {
        let mut cursor = ring.subscribe(Start::Oldest);
        let head = cursor.replay_until;
        cursor.next = match &mut self.select {
            None => cursor.next.max(ring.tail(count)).min(head),
            Some(select) => tail_start(ring, cursor.next, head, count, select),
        };
        self.take_leg(cursor, form, seat);
    }

    fn take_leg(&mut self, cursor: Cursor, form: Form, seat: Seat) {
        let sent = cursor.next - 1;
        self.replaying |= cursor.next < cursor.replay_until || cursor.gap.is_some();
        self.legs.push(Leg { cursor, form, seat, sent });
    }

    /// The rings it reads.
    pub fn rings(&self) -> impl Iterator<Item = &Arc<Ring>> {
        self.legs.iter().map(|leg| leg.cursor.ring())
    }

    /// Whether there is something to fill.
    pub fn is_due(&self) -> bool {
        !self.ended && self.legs.iter().any(|leg| leg.cursor.is_due())
    }

    /// Whether it has had all it asked for, or every stream has ended and was read to its end. While the server
    /// drains, a stream ends when no sink is at work on it any more.
    pub fn is_done(&self, draining: bool) -> bool {
        let over = |leg: &Leg| {
            let ring = leg.cursor.ring();
            !leg.cursor.is_due() && (ring.is_retired() || draining && !ring.is_attached())
        };
        self.ended || self.legs.iter().all(over)
    }

    /// What to say first: how long to wait before reconnecting, a sign of life, and where the stream stands.
    pub fn greet(&self, out: &mut Outgoing) {
        if self.notes != NoteStyle::Events {
            return;
        }
        out.push(Bytes::from_static(b"retry: 3000\n:hb\n\n"));
        let pipelines: Vec<Value> = self.rings().map(|ring| (&**ring.name()).into()).collect();
        let Some(first) = self.legs.first() else { return };
        let epoch = first.cursor.ring().epoch();
        let id = |sequence: fn(&Cursor) -> u64| {
            let of = |leg: &Leg| sequence(&leg.cursor);
            let names = self.legs.iter().map(|leg| (&**leg.cursor.ring().name(), of(leg)));
            if self.many { epoch.composite(names) } else { epoch.id(of(first)) }
        };
        let mut about = if self.many {
            json!({ "pipelines": pipelines })
        } else {
            json!({ "pipeline": &**first.cursor.ring().name() })
        };
        about["epoch"] = epoch.as_str().into();
        about["next"] = id(|cursor| cursor.next).into();
        about["newest"] = id(|cursor| cursor.replay_until - 1).into();
        out.push(notes::note(self.notes, "hello", about));
    }

    /// What to say last.
    pub fn farewell(&self, reason: &str, out: &mut Outgoing) {
        if self.notes == NoteStyle::Events {
            out.push(notes::note(self.notes, "bye", json!({ "reason": reason })));
        }
    }

    /// Counts what it will not get any more, where its connection failed.
    pub fn abandon(&self) {
        for leg in &self.legs {
            leg.seat.0.client_dropped(leg.cursor.ring().head() - leg.cursor.next);
        }
    }

    /// Why it ended, for [`Subscriber::farewell`].
    pub fn end_reason(&self) -> &'static str {
        if self.ended { "limit" } else { "shutdown" }
    }

    /// A sign of life.
    pub fn heartbeat(&mut self, style: HeartbeatStyle, with_stats: bool, out: &mut Outgoing) {
        let stats = with_stats.then(|| self.stats());
        let passed_over = self.legs.iter().any(|leg| leg.cursor.next - 1 > leg.sent);
        let position = (passed_over && self.notes == NoteStyle::Events).then(|| {
            self.legs.iter_mut().for_each(|leg| leg.sent = leg.cursor.next - 1);
            self.position()
        });
        out.push(notes::heartbeat(self.notes, style, stats.as_ref(), position.flatten()));
    }

    fn stats(&self) -> Value {
        let streams = self.legs.iter().map(|leg| {
            let ring = leg.cursor.ring();
            json!({
                "pipeline": &**ring.name(),
                "next": ring.epoch().id(ring.head()),
                "clients": ring.followers(),
                "received": leg.seat.0.snapshot().received_events,
            })
        });
        json!({ "streams": streams.collect::<Vec<_>>() })
    }

    /// The id of where it stands: of the last rows sent or passed over.
    fn position(&self) -> Option<String> {
        let first = self.legs.first()?;
        let epoch = first.cursor.ring().epoch();
        if !self.many {
            return Some(epoch.id(first.sent));
        }
        Some(epoch.composite(self.legs.iter().map(|leg| (&**leg.cursor.ring().name(), leg.sent))))
    }

    /// Adds what is due, up to a bound; call again while [`Subscriber::is_due`].
    pub fn fill(&mut self, out: &mut Outgoing) {
        let mut rows = FILL_ROWS;
        for step in 0..self.legs.len() {
            let index = (self.turn + step) % self.legs.len();
            while !self.ended && rows > 0 && out.bytes < FILL_BYTES && self.legs[index].cursor.is_due() {
                self.fill_leg(index, &mut rows, out);
            }
        }
        self.turn = self.turn.wrapping_add(1);
        if self.replaying && self.legs.iter().all(|leg| leg.cursor.next >= leg.cursor.replay_until) {
            self.replaying = false;
            self.end_replay(out);
        }
    }

    /// Says where it stands once history is behind it, unless its last row has said so: who asked for the past only
    /// knows then that there is no more of it.
    fn end_replay(&mut self, out: &mut Outgoing) {
        let passed_over = self.legs.iter().any(|leg| leg.cursor.next - 1 > leg.sent);
        if self.ended || self.notes != NoteStyle::Events || !(passed_over || self.owes_position) {
            return;
        }
        self.legs.iter_mut().for_each(|leg| leg.sent = leg.cursor.next - 1);
        if let Some(position) = self.position() {
            // An id without data is remembered by the client and dispatches nothing.
            out.push(format!("id: {position}\n\n").into());
        }
    }

    fn fill_leg(&mut self, index: usize, rows: &mut usize, out: &mut Outgoing) {
        let leg = &mut self.legs[index];
        let ring = leg.cursor.ring().clone();
        if let Some(gap) = leg.cursor.gap.take() {
            out.push(notes::missing(self.notes, "gap", &ring, gap.from, gap.until));
            self.owes_position = true;
        }
        let segments = match ring.read(leg.cursor.next, READ_SEGMENTS) {
            Read::Segments(segments) => segments,
            read @ (Read::Behind(oldest) | Read::Lost(oldest)) => {
                let from = leg.cursor.next;
                // What was lost before it came here is on the sink's account.
                if matches!(read, Read::Behind(_)) {
                    leg.seat.0.client_dropped(oldest - from);
                }
                out.push(notes::missing(self.notes, "drop", &ring, Some(from), oldest));
                leg.cursor.next = oldest;
                leg.sent = oldest - 1;
                self.owes_position = true;
                return;
            }
        };
        for segment in segments {
            while !self.ended && self.legs[index].cursor.next < segment.end() {
                if *rows == 0 || out.bytes >= FILL_BYTES {
                    return;
                }
                self.fill_segment(index, &segment, ring.epoch(), rows, out);
            }
        }
    }

    /// Sends rows of one segment, or passes over them, up to the bounds of a fill.
    fn fill_segment(
        &mut self,
        index: usize,
        segment: &Segment,
        epoch: &Epoch,
        rows: &mut usize,
        out: &mut Outgoing,
    ) {
        let Leg { cursor, form, .. } = &mut self.legs[index];
        let from = (cursor.next - segment.first()) as usize;
        let count = segment.count() as usize;
        let limit = self.remaining.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let Some(select) = &mut self.select else {
            let encoded = segment.encoded(form, epoch);
            let to = encoded.fitting(from, count.min(from.saturating_add(limit)), FILL_BYTES - out.bytes);
            cursor.next += (to - from) as u64;
            return self.send(index, &encoded, segment, from..to, out);
        };
        let known = self.found.take().filter(|f| f.leg == index && f.segment == segment.first());
        let found_rows = known.map_or_else(|| select.found(segment.batch()), |found| found.rows);
        // Wanted rows that lie next to each other leave as one slice.
        let mut runs: SmallVec<[Range<usize>; 8]> = SmallVec::new();
        let (mut at, mut found, mut bytes) = (from, 0, out.bytes);
        let mut encoded = None;
        for row in segment.batch().live().iter().skip(from) {
            if *rows == 0 || found == limit || bytes >= FILL_BYTES {
                break;
            }
            *rows -= 1;
            let replayed = segment.first() + (at as u64) < cursor.replay_until;
            if select.wants(segment.batch(), row, found_rows.as_ref(), replayed) {
                let encoded = encoded.get_or_insert_with(|| segment.encoded(form, epoch));
                bytes += encoded.start(at + 1) - encoded.start(at);
                found += 1;
                match runs.last_mut() {
                    Some(run) if run.end == at => run.end += 1,
                    _ => runs.push(at..at + 1),
                }
            }
            at += 1;
        }
        cursor.next += (at - from) as u64;
        if at < count {
            self.found = Some(Found { leg: index, segment: segment.first(), rows: found_rows });
        }
        if let Some(encoded) = encoded {
            runs.into_iter().for_each(|run| self.send(index, &encoded, segment, run, out));
        }
    }

    fn send(
        &mut self,
        index: usize,
        encoded: &Encoded,
        segment: &Segment,
        run: Range<usize>,
        out: &mut Outgoing,
    ) {
        if self.many {
            self.send_named(index, encoded, segment, run.clone(), out);
        } else {
            out.push(encoded.slice(run.start, run.end));
        }
        self.legs[index].sent = segment.first() + run.end as u64 - 1;
        self.owes_position = false;
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(run.len() as u64);
            self.ended = *remaining == 0;
        }
    }

    /// Sends rows with an id that holds every stream's position, and a `pipeline` key before the object's own. All
    /// but that is the shared encoding.
    fn send_named(
        &mut self,
        index: usize,
        encoded: &Encoded,
        segment: &Segment,
        run: Range<usize>,
        out: &mut Outgoing,
    ) {
        let ring = self.legs[index].cursor.ring().clone();
        let form = &self.legs[index].form;
        let sse = form.framing == Framing::Sse;
        let object = form.content == Content::Json || form.content == Content::Own && segment.own_is_json();
        let opening = if object { format!("{{\"pipeline\":\"{}\",", ring.name()) } else { String::new() };
        for at in run {
            let frame = encoded.slice(at, at + 1);
            self.legs[index].sent = segment.first() + at as u64;
            let mut head = String::new();
            let mut body_at = 0;
            if sse {
                let position = self.position().unwrap_or_default();
                head = format!("id: {position}\ndata: ");
                body_at = memchr::memchr(b'\n', &frame).map_or(0, |end| end + 1 + "data: ".len());
            }
            if object && frame.get(body_at) == Some(&b'{') {
                head.push_str(&opening);
                body_at += 1;
                if frame.get(body_at) == Some(&b'}') {
                    head.pop();
                }
            }
            out.push(head.into());
            out.push(frame.slice(body_at..));
        }
    }
}

/// Sequence of the first of the last `count` wanted rows among the events `oldest..head`.
fn tail_start(ring: &Ring, oldest: u64, head: u64, count: u64, select: &mut Select) -> u64 {
    let mut found = VecDeque::new();
    if count == 0 {
        return head;
    }
    for segment in &ring.segments_from(oldest) {
        let rows = select.found(segment.batch());
        for (seq, row) in (segment.first()..).zip(segment.batch().live().iter()) {
            if seq >= oldest && seq < head && select.wants(segment.batch(), row, rows.as_ref(), true) {
                found.push_back(seq);
                if found.len() as u64 > count {
                    found.pop_front();
                }
            }
        }
    }
    found.front().copied().unwrap_or(head)
}
