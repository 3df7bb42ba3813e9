//! Receipts: how a source learns what became of its rows. Every clone is a branch; when the last branch has been
//! settled, the source hears the worst outcome, once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How rows ended, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// Delivered, or filtered away on purpose.
    Delivered = 0,
    /// Dropped by a policy and counted with its reason.
    Dropped = 1,
    /// Refused for good by a receiver and counted.
    Rejected = 2,
    /// Never settled (abort, crash): a source that can must offer the rows again.
    Lost = 3,
}

impl Outcome {
    fn from_u8(n: u8) -> Outcome {
        match n {
            0 => Outcome::Delivered,
            1 => Outcome::Dropped,
            2 => Outcome::Rejected,
            _ => Outcome::Lost,
        }
    }
}

type OnSettled = Box<dyn FnOnce(Outcome) + Send + Sync>;

struct Shared {
    worst: AtomicU8,
    on_settled: Option<OnSettled>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(tell) = self.on_settled.take() {
            tell(Outcome::from_u8(*self.worst.get_mut()));
        }
    }
}

/// One branch of a receipt. Dropping it unsettled reports [`Outcome::Lost`].
pub struct Receipt(Option<Arc<Shared>>);

impl Receipt {
    /// A receipt that nobody waits for.
    pub fn none() -> Receipt {
        Receipt(None)
    }

    /// A receipt that calls `on_settled` with the worst outcome when its last branch ends. The call happens on
    /// whichever thread ends it and must not block.
    pub fn new(on_settled: impl FnOnce(Outcome) + Send + Sync + 'static) -> Receipt {
        Receipt(Some(Arc::new(Shared { worst: AtomicU8::new(0), on_settled: Some(Box::new(on_settled)) })))
    }

    /// Ends this branch.
    pub fn settle(mut self, outcome: Outcome) {
        if let Some(shared) = self.0.take() {
            shared.worst.fetch_max(outcome as u8, Ordering::AcqRel);
        }
    }
}

impl Clone for Receipt {
    fn clone(&self) -> Receipt {
        Receipt(self.0.clone())
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            // Rows that make a component panic are not offered again: they would do it again.
            let outcome = if std::thread::panicking() { Outcome::Rejected } else { Outcome::Lost };
            shared.worst.fetch_max(outcome as u8, Ordering::AcqRel);
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Receipt" } else { "Receipt(none)" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn watched() -> (Receipt, Arc<Mutex<Vec<Outcome>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let tell = heard.clone();
        (Receipt::new(move |o| tell.lock().unwrap().push(o)), heard)
    }

    #[test]
    fn hears_the_worst_of_all_branches_once() {
        let (receipt, heard) = watched();
        let other = receipt.clone();
        receipt.settle(Outcome::Dropped);
        assert!(heard.lock().unwrap().is_empty(), "one branch is still open");
        other.settle(Outcome::Delivered);
        assert_eq!(*heard.lock().unwrap(), [Outcome::Dropped]);
    }

    #[test]
    fn a_branch_that_is_dropped_is_lost() {
        let (receipt, heard) = watched();
        let other = receipt.clone();
        receipt.settle(Outcome::Delivered);
        drop(other);
        assert_eq!(*heard.lock().unwrap(), [Outcome::Lost]);
    }
}
