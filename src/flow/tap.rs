//! Looking at what passes a component, sampled, without a hand in it. Every meter has a tap point; while nobody looks it
//! costs one relaxed load per batch, and while somebody does, a copy of the rows that are shown. What is not shown
//! is counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::limit::TokenBucket;
use super::meter::Meter;
use crate::base::clock;
use crate::batch::{Batch, BatchBuilder, Receipt};
use crate::query::{Matcher, Query};

/// Most rows that wait for whoever looks.
const WAITING_EVENTS_MAX: u64 = 10_000;
/// Most bytes of rows that wait for whoever looks. A longer row is never shown, and counted as not shown.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Where the rows of one component can be looked at.
#[derive(Debug, Default)]
pub struct TapPoint {
    watched: AtomicBool,
    taps: Mutex<Vec<(usize, Arc<Tap>)>>,
}

impl TapPoint {
    /// Shows a batch to whoever looks. Never waits for them.
    #[inline]
    pub fn show(&self, batch: &Batch) {
        if self.watched.load(Relaxed) {
            self.show_to_all(batch);
        }
    }

    #[cold]
    fn show_to_all(&self, batch: &Batch) {
        lock(&self.taps).iter().for_each(|(place, tap)| tap.offer(*place, batch));
    }

    fn attach(&self, place: usize, tap: &Arc<Tap>) {
        let mut taps = lock(&self.taps);
        taps.push((place, tap.clone()));
        self.watched.store(true, Relaxed);
    }

    fn detach(&self, tap: &Arc<Tap>) {
        let mut taps = lock(&self.taps);
        taps.retain(|(_, other)| !Arc::ptr_eq(other, tap));
        self.watched.store(!taps.is_empty(), Relaxed);
    }
}

/// What somebody wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapLimits {
    /// Most rows a second; `None`: as many as are read.
    pub events_per_second: Option<u32>,
    /// How many rows altogether, after which it is over.
    pub events: Option<u64>,
}

/// Rows on their way to one who looks.
#[derive(Debug)]
struct Tap {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug)]
struct State {
    query: Option<Matcher>,
    bucket: Option<TokenBucket>,
    /// Rows that may still be shown.
    left: u64,
    waiting: VecDeque<Shown>,
    waiting_events: u64,
    waiting_bytes: usize,
    shown: u64,
    not_shown: u64,
}

/// Rows that one component put out.
#[derive(Debug)]
pub struct Shown {
    /// Which of the components that are looked at, by the number given to [`TapReader::watch`].
    pub place: usize,
    /// A copy of the rows.
    pub rows: Batch,
}

/// How much has passed while somebody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapCounts {
    /// Rows that were shown, those that wait to be read included.
    pub shown: u64,
    /// Rows that were not: over the rate, or faster than they were read.
    pub not_shown: u64,
}

impl Tap {
    fn offer(&self, place: usize, batch: &Batch) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        if state.left == 0 {
            return;
        }
        let found;
        let batch = match &mut state.query {
            None => batch,
            Some(query) => {
                let mut view = batch.view();
                query.keep(&mut view, clock::timestamp());
                found = view;
                &found
            }
        };
        let room = WAITING_EVENTS_MAX.saturating_sub(state.waiting_events);
        let mut wanted = batch.events().min(state.left).min(room);
        if let Some(bucket) = &mut state.bucket {
            wanted = bucket.take_up_to(wanted, clock::now());
        }
        let mut builder = BatchBuilder::new(batch.arena().origin().clone());
        builder.received(batch.arena().received());
        for (_, line) in batch.lines().take(usize::try_from(wanted).unwrap_or(usize::MAX)) {
            if state.waiting_bytes + line.len() > WAITING_BYTES_MAX {
                break;
            }
            state.waiting_bytes += line.len();
            builder.push(line);
        }
        let taken = builder.rows() as u64;
        state.shown += taken;
        state.left -= taken;
        // Once it has all it wants, what passes is nobody's business.
        state.not_shown += if state.left == 0 { 0 } else { batch.events() - taken };
        if taken > 0 {
            state.waiting_events += taken;
            state.waiting.push_back(Shown { place, rows: builder.finish(Receipt::none()) });
        }
        self.arrived.notify_one();
    }
}

/// The end of a tap that somebody reads. Dropped, it looks at nothing any more.
#[derive(Debug)]
pub struct TapReader {
    tap: Arc<Tap>,
    watched: Vec<Arc<Meter>>,
}

impl TapReader {
    /// A tap that looks at nothing yet. What `query` does not find is neither shown nor counted; it is asked on the
    /// thread that the rows are on, and so costs the flow what a filter would.
    pub fn new(limits: TapLimits, query: Option<&Query>) -> TapReader {
        let rate = limits.events_per_second.map(f64::from);
        let state = State {
            query: query.map(Query::matcher),
            bucket: rate.map(|rate| TokenBucket::new(rate, rate, clock::now())),
            left: limits.events.unwrap_or(u64::MAX),
            waiting: VecDeque::new(),
            waiting_events: 0,
            waiting_bytes: 0,
            shown: 0,
            not_shown: 0,
        };
        let tap = Arc::new(Tap { state: Mutex::new(state), arrived: Notify::new() });
        TapReader { tap, watched: Vec::new() }
    }

    /// Looks at the components that count on these meters, each numbered by its position, and at no others.
    pub fn watch(&mut self, meters: Vec<Arc<Meter>>) {
        self.watched.iter().for_each(|meter| meter.tap().detach(&self.tap));
        meters.iter().enumerate().for_each(|(place, meter)| meter.tap().attach(place, &self.tap));
        self.watched = meters;
    }

    /// Whether it looks at the components that count on these meters, and at no others.
    pub fn watches(&self, meters: &[Arc<Meter>]) -> bool {
        self.watched.len() == meters.len() && self.watched.iter().zip(meters).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// The next rows; `None` once all that were wanted were given out. Cancel-safe.
    pub async fn next(&self) -> Option<Shown> {
        loop {
            let arrived = self.tap.arrived.notified();
            if let Some(shown) = self.take() {
                return Some(shown);
            }
            if lock(&self.tap.state).left == 0 {
                return None;
            }
            arrived.await;
        }
    }

    /// The next rows, if there are some already.
    pub fn take(&self) -> Option<Shown> {
        let mut state = lock(&self.tap.state);
        let shown = state.waiting.pop_front()?;
        state.waiting_events -= shown.rows.events();
        state.waiting_bytes -= shown.rows.bytes() as usize;
        Some(shown)
    }

    /// What has passed so far.
    pub fn counts(&self) -> TapCounts {
        let state = lock(&self.tap.state);
        TapCounts { shown: state.shown, not_shown: state.not_shown }
    }
}

impl Drop for TapReader {
    fn drop(&mut self) {
        self.watch(Vec::new());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(limits: TapLimits) -> (TapReader, Arc<Meter>) {
        let (mut reader, meter) = (TapReader::new(limits, None), Arc::<Meter>::default());
        reader.watch(vec![meter.clone()]);
        (reader, meter)
    }

    const ALL: TapLimits = TapLimits { events_per_second: None, events: None };

    fn numbers(from: u64, until: u64) -> Batch {
        Batch::from_lines("t", (from..until).map(|i| i.to_string()))
    }

    #[tokio::test]
    async fn live_rows_are_shown_in_order_and_only_while_somebody_looks() {
        let (reader, meter) = reader(ALL);
        let mut batch = numbers(0, 10);
        batch.retain(|_, row| row % 3 == 0);
        meter.tap().show(&batch);
        let shown = reader.next().await.unwrap();
        let lines: Vec<&[u8]> = shown.rows.lines().map(|(_, line)| line).collect();
        assert_eq!((shown.place, lines), (0, vec![&b"0"[..], b"3", b"6", b"9"]));
        assert_eq!(reader.counts(), TapCounts { shown: 4, not_shown: 0 });
        drop(reader);
        assert!(!meter.tap().watched.load(Relaxed) && lock(&meter.tap().taps).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_and_the_others_are_counted() {
        let (reader, meter) = reader(TapLimits { events_per_second: Some(100), events: None });
        let mut passed = 0;
        for _ in 0..20 {
            meter.tap().show(&numbers(0, 150));
            passed += 150;
            tokio::time::advance(std::time::Duration::from_millis(100)).await;
        }
        let TapCounts { shown, not_shown } = reader.counts();
        assert_eq!(shown + not_shown, passed);
        assert!((280..=300).contains(&shown), "a full bucket, then 100 a second for 1.9 s: {shown}");
        let mut read = 0;
        while let Some(shown) = reader.take() {
            read += shown.rows.events();
        }
        assert_eq!(read, shown);
    }

    #[tokio::test]
    async fn what_is_not_read_is_bounded_and_what_was_wanted_ends_it() {
        let (idle, meter) = reader(ALL);
        for _ in 0..200 {
            meter.tap().show(&numbers(0, 100));
        }
        assert_eq!(idle.counts(), TapCounts { shown: WAITING_EVENTS_MAX, not_shown: 10_000 });
        let huge = Batch::from_lines("t", [vec![b'x'; WAITING_BYTES_MAX + 1]]);
        while idle.take().is_some() {}
        meter.tap().show(&huge);
        assert_eq!(idle.counts().not_shown, 10_001, "a row longer than all room");
        meter.tap().show(&numbers(0, 1));
        assert!(idle.next().await.is_some());

        let (few, meter) = reader(TapLimits { events: Some(3), ..ALL });
        meter.tap().show(&numbers(0, 2));
        meter.tap().show(&numbers(2, 9));
        assert_eq!(few.next().await.unwrap().rows.events(), 2);
        assert_eq!(few.next().await.unwrap().rows.events(), 1);
        assert!(few.next().await.is_none());
        assert_eq!(few.counts(), TapCounts { shown: 3, not_shown: 0 });
    }

    #[tokio::test]
    async fn a_query_looks_before_the_rate_does() {
        let query = Query::parse("7").unwrap();
        let limits = TapLimits { events_per_second: Some(2), events: None };
        let (mut reader, meter) = (TapReader::new(limits, Some(&query)), Arc::<Meter>::default());
        reader.watch(vec![meter.clone()]);
        meter.tap().show(&Batch::from_lines("t", (0..100).map(|i| format!("row {}", i % 30))));
        assert_eq!(reader.counts(), TapCounts { shown: 2, not_shown: 2 }, "7, 37, 67 and 97");
        let shown = reader.next().await.unwrap();
        assert!(shown.rows.lines().all(|(_, line)| line == b"row 7"));
    }

    #[tokio::test]
    async fn components_may_be_exchanged_while_somebody_looks() {
        let (mut reader, before) = reader(ALL);
        let after = Arc::<Meter>::default();
        reader.watch(vec![before.clone(), after.clone()]);
        assert!(
            reader.watches(&[before.clone(), after.clone()]) && !reader.watches(std::slice::from_ref(&after))
        );
        after.tap().show(&numbers(0, 1));
        assert_eq!(reader.next().await.unwrap().place, 1);
        reader.watch(vec![after.clone()]);
        before.tap().show(&numbers(0, 1));
        assert!(reader.take().is_none());
    }
}
