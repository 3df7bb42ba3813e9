//! The ring under any interleaving of appending, joining and reading: a subscriber sees consecutive sequences, or
//! is told of exactly what is missing.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::harness::{Plain, parse};
use crate::batch::Batch;
use crate::flow::Meter;
use crate::net::id::Epoch;
use crate::net::notes::NoteStyle;
use crate::net::ring::{Ring, RingBounds, Start};
use crate::net::segment::{Content, Form, Framing};
use crate::net::select::{Select, any_of};
use crate::net::subscriber::{Outgoing, Seat, Subscriber, Wish};

fn ring(history_events: u64, live_bytes: u64) -> Arc<Ring> {
    let bounds = RingBounds { history_events, history_bytes: 1 << 20, live_bytes, ..RingBounds::default() };
    Arc::new(Ring::new("app".into(), Epoch::from_millis(1), bounds, Arc::new(Plain)))
}

fn subscriber(select: Select) -> Subscriber {
    Subscriber::new(Wish { notes: NoteStyle::Events, select, limit: None, many: false })
}

const FORM: Form = Form::new(Framing::Sse, Content::Own);

/// Reads all that is due; checks it against `next`, the sequence that must come next.
fn check(subscriber: &mut Subscriber, next: &mut u64, only_even: bool) -> Result<u64, TestCaseError> {
    let mut told = 0;
    while subscriber.is_due() {
        let mut out = Outgoing::default();
        subscriber.fill(&mut out);
        for event in parse(&out.parts.iter().flatten().copied().collect::<Vec<u8>>()) {
            if event.kind.is_empty() {
                if only_even {
                    *next += *next % 2;
                }
                prop_assert_eq!(event.seq(), *next);
                prop_assert_eq!(event.message(), format!("m{}", *next));
                *next += 1;
            } else {
                let note = event.json();
                if let Some(count) = note["missed"].as_u64() {
                    let from =
                        note["from"].as_str().unwrap().rsplit('-').next().unwrap().parse::<u64>().unwrap();
                    prop_assert!(from >= *next && (only_even || from == *next), "{} after {}", note, next);
                    *next = from + count;
                    told += count;
                }
            }
        }
    }
    Ok(told)
}

proptest! {
    #[test]
    fn consecutive_or_announced(
        history in 0u64..60, live_bytes in 0u64..40_000, even in any::<bool>(),
        steps in proptest::collection::vec((0u32..30, 0u8..6, any::<u16>()), 1..80),
    ) {
        let ring = ring(history, live_bytes);
        let meter = Arc::<Meter>::default();
        let select = Select {
            include: if even { any_of(&["[02468]$".into()]).unwrap() } else { None },
            ..Select::default()
        };
        let mut readers: Vec<(Subscriber, u64)> = Vec::new();
        let (mut head, mut told) = (1u64, 0);
        let (mut lost, mut hole, mut holes) = (0u64, 0, 0);
        for (rows, action, choice) in steps {
            if rows > 0 {
                head += hole;
                holes += std::mem::take(&mut hole);
            }
            let mut batch = Batch::from_lines("t", (head..head + u64::from(rows) * 2).map(|n| format!("m{n}")));
            // Half of the rows are filtered away before they come here; those that stay are counted through.
            batch.retain(|_, row| row < rows);
            ring.append(&batch);
            head += u64::from(rows);
            prop_assert_eq!(ring.head(), head);
            match action {
                0 | 1 => {
                    let mut reader = subscriber(select.clone());
                    let after = u64::from(choice) % head;
                    reader.join(&ring, Start::After(after), FORM, Seat::take(meter.clone()));
                    readers.push((reader, after + 1));
                }
                2 => {
                    let mut reader = subscriber(select.clone());
                    reader.join(&ring, Start::Live, FORM, Seat::take(meter.clone()));
                    readers.push((reader, head));
                }
                3 if !readers.is_empty() => {
                    let index = usize::from(choice) % readers.len();
                    let (reader, next) = &mut readers[index];
                    told += check(reader, next, even)?;
                }
                5 => {
                    // Lost before the next batch: told to whoever reads past it.
                    lost += u64::from(choice % 3);
                    ring.lost(lost);
                    hole = lost - holes;
                }
                4 if !readers.is_empty() => drop(readers.swap_remove(usize::from(choice) % readers.len())),
                _ => {}
            }
            prop_assert_eq!(ring.followers(), readers.len());
            prop_assert!(ring.history_events() <= history);
        }
        for (reader, next) in &mut readers {
            told += check(reader, next, even)?;
            if even {
                *next += *next % 2;
                prop_assert!(*next >= head && *next <= head + 1);
            } else {
                prop_assert_eq!(*next, head);
            }
        }
        // Drops are counted on the meter; gaps, which come first, are not.
        prop_assert!(meter.snapshot().client_drops <= told);
    }
}

#[test]
fn memory_is_bounded_whoever_follows() {
    let ring = ring(10, 100_000);
    let mut idle = subscriber(Select::default());
    idle.join(&ring, Start::Live, FORM, Seat::take(Arc::default()));
    let mut reading = subscriber(Select::default());
    reading.join(&ring, Start::Live, FORM, Seat::take(Arc::default()));
    for _ in 0..500 {
        ring.append(&Batch::from_lines("t", vec!["x".repeat(100); 20]));
        reading.fill(&mut Outgoing::default());
    }
    let (lines, encoded) = ring.held_bytes();
    assert!(lines + encoded <= 100_000 + 20 * 300, "{lines} + {encoded}");
    drop((idle, reading));
    ring.append(&Batch::from_lines("t", ["y"]));
    assert!(ring.held_bytes().0 < 10_000, "history alone is kept for nobody");
}

#[test]
fn rows_are_kept_for_a_while_and_then_their_loss_is_told() {
    for (live_age_ms, lost) in [(60_000, 0), (20, 2)] {
        let ring = ring(1, 1 << 20);
        let live_age = Duration::from_millis(live_age_ms);
        ring.reconfigure(
            RingBounds { history_events: 1, live_age, ..RingBounds::default() },
            Arc::new(Plain),
        );
        let mut slow = subscriber(Select::default());
        slow.join(&ring, Start::Live, FORM, Seat::take(Arc::default()));
        let mut next = 1;
        ring.append(&Batch::from_lines("t", ["m1", "m2"]));
        std::thread::sleep(Duration::from_millis(60));
        ring.append(&Batch::from_lines("t", ["m3"]));
        assert_eq!(check(&mut slow, &mut next, false).unwrap(), lost);
        assert_eq!(next, 4);
    }
}

#[test]
fn a_batch_larger_than_the_history_leaves_its_last_rows() {
    let keep = |bytes| RingBounds { history_events: 1000, history_bytes: bytes, ..RingBounds::default() };
    for (rows, bytes) in [(10_000, 40_000u64), (20_000, 200_000), (300, 40_000)] {
        let ring = ring(1000, 0);
        ring.reconfigure(keep(bytes), Arc::new(Plain));
        ring.append(&Batch::from_lines("t", vec!["x".repeat(100); rows]));
        assert_eq!(ring.head(), rows as u64 + 1);
        let fit = bytes / 130;
        assert!((fit / 2..=fit + 10).contains(&ring.history_events()), "{} of {fit}", ring.history_events());
        ring.append(&Batch::from_lines("t", ["y"]));
        assert!(ring.history_events() >= fit / 2, "one more row costs not all of them");
        assert!(ring.held_bytes().0 <= bytes);
    }
}
