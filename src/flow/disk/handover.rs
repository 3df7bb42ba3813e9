//! A disk buffer that gets the queue of a sink which had only that. Until the buffer is to keep it, it takes nothing
//! from it, so that the queue can be given back as it is: a reload may fail.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Undecided,
    Kept,
    GivenBack,
}

/// Whose the queue is. Decided once; the first word counts.
#[derive(Debug)]
pub struct Handover {
    phase: watch::Sender<Phase>,
    /// Of the buffer's end of the queue: released, it leaves the queue as it is.
    release: CancellationToken,
}

impl Handover {
    pub(super) fn new(release: CancellationToken) -> Arc<Handover> {
        Arc::new(Handover { phase: watch::Sender::new(Phase::Undecided), release })
    }

    /// The buffer keeps the queue, and begins to take from it once it is open. False if it has been given back: the
    /// buffer could not be opened, and nobody takes from the queue.
    pub fn keep(&self) -> bool {
        self.decide(Phase::Kept) == Phase::Kept
    }

    /// The queue is another's again, with everything in it. False if the buffer keeps it.
    pub fn give_back(&self) -> bool {
        self.decide(Phase::GivenBack) == Phase::GivenBack
    }

    fn decide(&self, wish: Phase) -> Phase {
        let mut decided = wish;
        self.phase.send_if_modified(|phase| {
            if *phase != Phase::Undecided {
                decided = *phase;
                return false;
            }
            if wish == Phase::GivenBack {
                // Before anybody can see it and drop that end.
                self.release.cancel();
            }
            *phase = wish;
            true
        });
        decided
    }
}

/// The buffer's side. Dropped undecided, whatever the reason, it gives the queue back.
#[derive(Debug)]
pub(super) struct Given(pub(super) Arc<Handover>);

impl Given {
    pub(super) fn is_undecided(&self) -> bool {
        *self.0.phase.borrow() == Phase::Undecided
    }

    /// Waits for the decision; whether the buffer keeps the queue. Cancel-safe.
    pub(super) async fn kept(&self) -> bool {
        let mut phase = self.0.phase.subscribe();
        let decided = phase.wait_for(|phase| *phase != Phase::Undecided).await;
        decided.is_ok_and(|phase| *phase == Phase::Kept)
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.0.give_back();
    }
}
