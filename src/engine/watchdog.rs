//! Notices sinks that do not move although rows wait. They are reported, once, in the log, in status and metrics;
//! they are not killed: what hangs may be a receiver that comes back, and a sink that is dropped may send twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::{self, Instant};
use crate::config::ComponentKind;
use crate::flow::{Board, State};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a sink may stand still before it is reported.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// How far a sink was, and since when.
struct Progress {
    done: u64,
    since: Instant,
    told: bool,
}

/// Watches the sinks on the board. Runs until it is dropped.
pub(super) async fn watch(board: Arc<Board>) {
    let mut known: HashMap<String, Progress> = HashMap::new();
    loop {
        look(&board, &mut known);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn look(board: &Board, known: &mut HashMap<String, Progress>) {
    let (now, pipelines) = (clock::now(), board.pipelines());
    let sinks = pipelines.iter().flat_map(|p| &p.components).filter(|c| c.site.kind == ComponentKind::Sink);
    let mut seen = HashMap::new();
    for sink in sinks {
        let (id, counts) = (sink.site.id(), sink.meter.snapshot());
        let done = counts.delivered_events + counts.filtered_events + counts.dropped_total();
        // A sink that waits for its next start says so itself.
        let idle = counts.queued_events == 0 || sink.health.state() != State::Ready;
        let before = known.remove(&id);
        let told = before.as_ref().is_some_and(|p| p.told);
        let mut progress = match before {
            Some(before) if before.done == done && !idle => before,
            _ => Progress { done, since: now, told: false },
        };
        let still = now.duration_since(progress.since);
        if still >= STALLED_AFTER {
            sink.health.set_stalled(still.as_secs());
            if !std::mem::replace(&mut progress.told, true) {
                let waiting = counts.queued_events;
                tracing::warn!(component = %id, "no progress for {still:.0?} while {waiting} events wait");
            }
        } else {
            sink.health.set_stalled(0);
            if told && !progress.told {
                tracing::info!(component = %id, "moves again");
            }
        }
        seen.insert(id, progress);
    }
    *known = seen;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{ComponentEntry, Health, Meter, PipelineEntry, Site};

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_stands_still_is_reported_until_it_moves() {
        let (meter, health) = (Arc::new(Meter::default()), Arc::new(Health::default()));
        health.set(State::Ready);
        let site =
            Arc::new(Site { pipeline: "a".into(), kind: ComponentKind::Sink, index: 0, type_name: "null" });
        let entry = ComponentEntry {
            site,
            meter: meter.clone(),
            health: health.clone(),
            buffer: None,
            capacity: None,
        };
        let board = Arc::new(Board::default());
        board.publish(vec![PipelineEntry {
            name: "a".into(),
            meter: Arc::default(),
            components: vec![entry],
        }]);
        drop(crate::base::task::spawn(watch(board)));
        meter.received(10, 100);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(health.stalled(), 0, "nothing waits");
        meter.queued(10, 100);
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!(health.stalled(), 0, "not for long enough");
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!((30..60).contains(&health.stalled()), "{}", health.stalled());
        meter.delivered(1, 10);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(health.stalled(), 0);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(health.stalled() >= 30);
        health.set(State::Restarting { why: "away".into() });
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(health.stalled(), 0, "it says itself what is wrong");
    }
}
