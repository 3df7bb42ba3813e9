//! The periodic lines of totals in weir's own log: one per pipeline, and only when something has changed since
//! the last.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock;
use crate::config::ComponentKind;
use crate::flow::{Board, PipelineEntry};

/// What a line tells of a pipeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    received: u64,
    delivered: u64,
    filtered: u64,
    dropped: u64,
    clients: u64,
}

impl Totals {
    fn of(pipeline: &PipelineEntry) -> Totals {
        let entrance = pipeline.meter.snapshot();
        let components = &pipeline.components;
        let dropped = components.iter().map(|c| c.meter.snapshot().dropped_total()).sum::<u64>();
        Totals {
            received: pipeline.total(ComponentKind::Source, |m| m.received_events),
            delivered: pipeline.total(ComponentKind::Sink, |m| m.delivered_events),
            filtered: pipeline.total(ComponentKind::Filter, |m| m.filtered_events),
            dropped: dropped + entrance.dropped_total(),
            clients: pipeline.total(ComponentKind::Source, |m| m.clients)
                + pipeline.total(ComponentKind::Sink, |m| m.clients),
        }
    }

    /// "received 1200 (20/s), delivered 1180 (20/s), filtered 0, dropped 20, clients 2".
    fn line(&self, before: &Totals, elapsed: Duration) -> String {
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / elapsed.as_secs_f64().max(0.001);
        format!(
            "received {} ({:.0}/s), delivered {} ({:.0}/s), filtered {}, dropped {}, clients {}",
            self.received,
            rate(self.received, before.received),
            self.delivered,
            rate(self.delivered, before.delivered),
            self.filtered,
            self.dropped,
            self.clients
        )
    }
}

/// Logs the totals every `interval`, until dropped; at once returns if the interval is zero. Cancel-safe.
pub async fn log_regularly(board: Arc<Board>, interval: Duration) {
    if interval.is_zero() {
        return;
    }
    let mut last: HashMap<Arc<str>, Totals> = HashMap::new();
    let mut last_at = clock::now();
    loop {
        tokio::time::sleep(interval).await;
        let now = clock::now();
        let elapsed = now.duration_since(last_at);
        last_at = now;
        let mut current = HashMap::new();
        for pipeline in board.pipelines().iter() {
            let totals = Totals::of(pipeline);
            let before = last.get(&pipeline.name).copied().unwrap_or_default();
            if totals != before {
                tracing::info!(component = %pipeline.name, "{}", totals.line(&before, elapsed));
            }
            current.insert(Arc::clone(&pipeline.name), totals);
        }
        last = current;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_since_the_last_line() {
        let before = Totals { received: 100, ..Totals::default() };
        let now = Totals { received: 300, delivered: 50, filtered: 1, dropped: 2, clients: 3 };
        assert_eq!(
            now.line(&before, Duration::from_secs(10)),
            "received 300 (20/s), delivered 50 (5/s), filtered 1, dropped 2, clients 3"
        );
        assert!(now.line(&before, Duration::ZERO).starts_with("received 300"));
    }
}
