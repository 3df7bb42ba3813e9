//! The guards of a process by the name of their listener, for status and metrics. A guard that is gone, after a
//! reload, is gone from here.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::refusal::{Reason, Refusals};

/// See the module; found in [`Shared`](crate::flow::Shared).
#[derive(Debug, Default)]
pub struct GuardBoard(Mutex<Vec<(Arc<str>, Weak<Refusals>)>>);

/// What one listener refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardStatus {
    /// The listener: `server`, or a component's id.
    pub listener: Arc<str>,
    /// How often, by reason; only those that occurred.
    pub refused: Vec<(Reason, u64)>,
}

impl GuardBoard {
    /// Adds a listener, in place of one of the same name.
    pub(super) fn register(&self, listener: &Arc<str>, refusals: &Arc<Refusals>) {
        let mut guards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guards.retain(|(name, weak)| name != listener && weak.strong_count() > 0);
        guards.push((listener.clone(), Arc::downgrade(refusals)));
    }

    /// Every listener's refusals, in the order they were bound.
    pub fn statuses(&self) -> Vec<GuardStatus> {
        let guards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = guards.iter().filter_map(|(name, weak)| Some((name.clone(), weak.upgrade()?)));
        alive.map(|(listener, refusals)| GuardStatus { listener, refused: refusals.snapshot() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_come_and_go() {
        let board = GuardBoard::default();
        let (first, second) = (Arc::new(Refusals::default()), Arc::new(Refusals::default()));
        board.register(&"server".into(), &first);
        board.register(&"app.sink.0.http".into(), &second);
        second.count(Reason::Denied);
        let statuses = board.statuses();
        assert_eq!(statuses.len(), 2);
        assert_eq!(statuses[1].refused, [(Reason::Denied, 1)]);
        drop(second);
        assert_eq!(board.statuses().len(), 1);
        board.register(&"server".into(), &Arc::new(Refusals::default()));
        assert!(board.statuses().is_empty());
    }
}
