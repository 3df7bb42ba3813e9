//! The ring: the last events of one stream. A sink appends a segment per batch; a subscriber is nothing but the
//! number of the event it reads next, so replay and live are the same reading and the handover between them can
//! neither lose nor repeat. A thousand subscribers cost no queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::id::Epoch;
use super::segment::{Encode, EncodeStats, Segment};
use crate::base::clock;
use crate::batch::{Batch, Span};

/// What a ring keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingBounds {
    /// Events that a new subscriber may ask for; exact.
    pub history_events: u64,
    /// Bytes of lines that a new subscriber may ask for; whole batches.
    pub history_bytes: u64,
    /// Bytes (lines and their encodings) kept besides, for subscribers that are behind. Whoever falls further
    /// behind misses events and is told.
    pub live_bytes: u64,
    /// How long they are kept for that. Shorter than a write may stand still, so that a subscriber that comes back
    /// in time is told what it missed instead of being let go without a word.
    pub live_age: Duration,
}

impl Default for RingBounds {
    fn default() -> RingBounds {
        RingBounds {
            history_events: 1000,
            history_bytes: 4 << 20,
            live_bytes: 24 << 20,
            live_age: Duration::from_secs(10),
        }
    }
}

/// See the module.
pub struct Ring {
    name: Arc<str>,
    epoch: Epoch,
    state: Mutex<State>,
    /// Sequence of the next event; written under the lock.
    head: AtomicU64,
    appended: Notify,
    stats: Arc<EncodeStats>,
    followers: AtomicUsize,
    writers: AtomicUsize,
    retired: AtomicBool,
}

struct State {
    segments: VecDeque<Arc<Segment>>,
    encoder: Arc<dyn Encode>,
    bounds: RingBounds,
    events: u64,
    bytes: u64,
    /// What [`Ring::lost`] was told last, and how much of it no segment follows yet.
    lost_total: u64,
    hole: u64,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ring of {} up to {}", self.name, self.head())
    }
}

/// Where a subscriber wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the next event.
    Live,
    /// With the oldest event of the history.
    Oldest,
    /// Behind the event of this sequence.
    After(u64),
    /// Behind an event nobody knows (of an earlier run, or made up): with the oldest, after a gap of unknown size.
    Unknown,
}

/// Events that a subscriber asked for and history no longer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// First missing sequence, where it is known.
    pub from: Option<u64>,
    /// Sequence of the first event that follows.
    pub until: u64,
}

impl Gap {
    /// How many are missing, where it is known.
    pub fn missed(&self) -> Option<u64> {
        self.from.map(|from| self.until - from)
    }
}

/// What a reader finds at its position.
#[derive(Debug)]
pub enum Read {
    /// The segments from there on; none when it has read everything.
    Segments(Vec<Arc<Segment>>),
    /// The position fell off the ring; the oldest event has this sequence.
    Behind(u64),
    /// The events before this sequence were lost on their way here.
    Lost(u64),
}

impl Ring {
    /// An empty ring for the stream `name`.
    pub fn new(name: Arc<str>, epoch: Epoch, bounds: RingBounds, encoder: Arc<dyn Encode>) -> Ring {
        let state =
            State { segments: VecDeque::new(), encoder, bounds, events: 0, bytes: 0, lost_total: 0, hole: 0 };
        Ring {
            name,
            epoch,
            state: Mutex::new(state),
            head: AtomicU64::new(1),
            appended: Notify::new(),
            stats: Arc::default(),
            followers: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
        }
    }

    /// The stream's name: its pipeline.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The epoch of its ids.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Sequence of the next event.
    pub fn head(&self) -> u64 {
        self.head.load(Relaxed)
    }

    /// Batches encoded since start, each form counted: the number that does not grow with subscribers.
    pub fn encoded_batches(&self) -> u64 {
        self.stats.batches.load(Relaxed)
    }

    /// Subscribers now.
    pub fn followers(&self) -> usize {
        self.followers.load(Relaxed)
    }

    /// Changes what is kept and how rows are written, from the next batch on.
    pub fn reconfigure(&self, bounds: RingBounds, encoder: Arc<dyn Encode>) {
        let mut state = self.lock();
        (state.bounds, state.encoder) = (bounds, encoder);
    }

    /// Says how many events of this stream were lost on their way here, since its sink was made. Those that came
    /// on top since the last call get sequences before those of the next batch, so that subscribers are told.
    pub fn lost(&self, total: u64) {
        let mut state = self.lock();
        state.hole += total.saturating_sub(state.lost_total);
        state.lost_total = total;
    }

    /// Appends the rows of `batch` and wakes who waits. The batch's receipt is not touched.
    pub fn append(&self, batch: &Batch) {
        if batch.is_empty() {
            return;
        }
        let view = batch.view().compacted();
        let mut state = self.lock();
        let mut end = self.head.load(Relaxed) + std::mem::take(&mut state.hole);
        for piece in pieces(view, &state.bounds) {
            let segment = Segment::new(end, piece, state.encoder.clone(), self.stats.clone());
            end = segment.end();
            state.events += segment.count();
            state.bytes += segment.weight();
            state.segments.push_back(Arc::new(segment));
        }
        // Freed outside the lock: a segment may be the last owner of a large arena.
        let gone = self.evict(&mut state);
        self.head.store(end, Relaxed);
        drop(state);
        drop(gone);
        self.appended.notify_waiters();
    }

    /// Takes out what neither history nor a subscriber may still want.
    fn evict(&self, state: &mut State) -> Vec<Arc<Segment>> {
        let (bounds, followed, now) = (state.bounds, self.followers() > 0, clock::now());
        let mut gone = Vec::new();
        while let Some(front) = state.segments.front() {
            let history =
                state.events - front.count() < bounds.history_events && state.bytes <= bounds.history_bytes;
            let total = state.bytes + self.stats.bytes.load(Relaxed);
            // The newest segment stays for those who follow, however large it is.
            let kept = total <= bounds.live_bytes && now.duration_since(front.appended()) <= bounds.live_age;
            let live = followed && (kept || state.segments.len() == 1);
            if history || live {
                break;
            }
            state.events -= front.count();
            state.bytes -= front.weight();
            gone.extend(state.segments.pop_front());
        }
        gone
    }

    /// Joins the ring. From now on events are kept for it, within bounds.
    pub fn subscribe(self: &Arc<Ring>, start: Start) -> Cursor {
        self.followers.fetch_add(1, Relaxed);
        let state = self.lock();
        let head = self.head();
        let oldest = state.history_floor(head);
        let (next, gap) = match start {
            Start::Live => (head, None),
            Start::Oldest => (oldest, None),
            Start::After(seq) if seq < head => {
                let next = seq + 1;
                let gap = (next < oldest).then_some(Gap { from: Some(next), until: oldest });
                (next.max(oldest), gap)
            }
            Start::After(_) | Start::Unknown => (oldest, Some(Gap { from: None, until: oldest })),
        };
        drop(state);
        Cursor { ring: self.clone(), next, gap, replay_until: head }
    }

    /// The segments that hold `next` and what follows, at most `segments_max`.
    pub fn read(&self, next: u64, segments_max: usize) -> Read {
        if next >= self.head() {
            return Read::Segments(Vec::new());
        }
        let state = self.lock();
        let oldest = state.segments.front().map_or(self.head(), |s| s.first());
        if next < oldest {
            return Read::Behind(oldest);
        }
        let at = state.segments.partition_point(|s| s.end() <= next);
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        for segment in state.segments.iter().skip(at).take(segments_max) {
            if segment.first() > segments.last().map_or(next, |s| s.end()) {
                break;
            }
            segments.push(segment.clone());
        }
        match state.segments.get(at) {
            Some(segment) if segments.is_empty() => Read::Lost(segment.first()),
            _ => Read::Segments(segments),
        }
    }

    /// All segments that hold `next` or what follows.
    pub fn segments_from(&self, next: u64) -> Vec<Arc<Segment>> {
        self.lock().segments.iter().filter(|s| s.end() > next).cloned().collect()
    }

    /// Resolves at the next append, close or retirement after its creation.
    pub fn changed(&self) -> Notified<'_> {
        self.appended.notified()
    }

    /// Says that a sink is at work on this ring, until the guard is dropped.
    pub fn attach(self: &Arc<Ring>) -> Attachment {
        self.writers.fetch_add(1, Relaxed);
        Attachment(self.clone())
    }

    /// Whether a sink is at work and more may come.
    pub fn is_attached(&self) -> bool {
        self.writers.load(Relaxed) > 0
    }

    /// Ends the stream: subscribers read what is there and then leave.
    pub fn retire(&self) {
        self.retired.store(true, Relaxed);
        self.appended.notify_waiters();
    }

    /// Whether the stream has ended.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// Events that a new subscriber could replay now.
    pub fn history_events(&self) -> u64 {
        self.lock().history(u64::MAX).1
    }

    /// Sequence of the first of the last `count` events of the history.
    pub fn tail(&self, count: u64) -> u64 {
        let state = self.lock();
        state.history(count).0.unwrap_or_else(|| self.head())
    }

    /// Bytes held now: lines with their index, and their encodings.
    pub fn held_bytes(&self) -> (u64, u64) {
        (self.lock().bytes, self.stats.bytes.load(Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Sequence of the oldest event that history holds; `head` when it holds none.
    fn history_floor(&self, head: u64) -> u64 {
        self.history(u64::MAX).0.unwrap_or(head)
    }

    /// The last events of the history, at most `count`: sequence of the first, and how many.
    fn history(&self, count: u64) -> (Option<u64>, u64) {
        let most = count.min(self.bounds.history_events);
        let (mut first, mut events, mut bytes) = (None, 0, 0);
        for segment in self.segments.iter().rev() {
            bytes += segment.weight();
            let taken = segment.count().min(most - events);
            if bytes > self.bounds.history_bytes || taken == 0 {
                break;
            }
            first = Some(segment.end() - taken);
            events += taken;
        }
        (first, events)
    }
}

/// The rows of `batch` in segments of at most a quarter of the history's bytes, one row at least, so that a batch
/// too large for the history leaves its last rows there. Those that cannot be among them stay together.
fn pieces(mut batch: Batch, bounds: &RingBounds) -> SmallVec<[Batch; 1]> {
    let most = if bounds.history_events == 0 { u64::MAX } else { (bounds.history_bytes / 4).max(1) };
    let mut pieces = SmallVec::new();
    let mut target = batch.weight().saturating_sub(bounds.history_bytes).max(most);
    while batch.weight() > most && batch.events() > 1 {
        let rows = rows_within(&batch, target).max(1);
        pieces.push(batch.split_to(rows).compacted());
        target = most;
    }
    pieces.extend((!batch.is_empty()).then(|| batch.compacted()));
    pieces
}

/// How many rows from the first weigh `bytes` together, or a little less.
fn rows_within(batch: &Batch, bytes: u64) -> u64 {
    let mut weight = 0;
    let fits = |(_, line): &(u32, &[u8])| {
        weight += (line.len() + 1 + size_of::<Span>()) as u64;
        weight <= bytes
    };
    batch.lines().take_while(fits).count() as u64
}

/// A sink at work on a ring.
#[derive(Debug)]
pub struct Attachment(Arc<Ring>);

impl Drop for Attachment {
    fn drop(&mut self) {
        self.0.writers.fetch_sub(1, Relaxed);
        self.0.appended.notify_waiters();
    }
}

/// A subscriber's place in a ring.
#[derive(Debug)]
pub struct Cursor {
    ring: Arc<Ring>,
    /// Sequence of the event to read next.
    pub next: u64,
    /// What was missing at the start, not yet told.
    pub gap: Option<Gap>,
    /// Events before this sequence were there when it joined.
    pub replay_until: u64,
}

impl Cursor {
    /// The ring.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Whether there is something to read or to tell.
    pub fn is_due(&self) -> bool {
        self.gap.is_some() || self.next < self.ring.head()
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.ring.followers.fetch_sub(1, Relaxed);
    }
}
