//! From the plan of a buffer to its stage: opened again and again while the fault may pass, with rows waiting or going
//! by the policy meanwhile.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::again::Again;
use super::passing::Passing;
use super::recovery::Tries;
use super::stage::{DiskBuffer, RETRY, Stage};
use super::store::Store;
use super::trouble::Trouble;
use super::window::{Settlements, Window};
use crate::base::backoff::Backoff;
use crate::base::clock;
use crate::base::rng::Rng;
use crate::base::shutdown::Shutdown;
use crate::flow::component::Fault;
use crate::flow::meter::Reason;

/// Hears whether the buffer could be opened.
type Told = oneshot::Sender<Result<(), Fault>>;

impl Stage {
    /// Opens the buffer, trying again while the fault may pass; `None` when it will not, or the end came first.
    pub(super) async fn open(
        mut buffer: DiskBuffer,
        dir: PathBuf,
        name: String,
        shutdown: Shutdown,
        mut gone: CancellationToken,
        tell: Told,
    ) -> Option<Stage> {
        let mut tell = Some(tell);
        let mut backoff = Backoff::new(RETRY.0, RETRY.1, Rng::from_entropy());
        let mut tries = Tries::default();
        let (store, recovered) = loop {
            let (storage, limits) = (buffer.storage.clone(), buffer.options.limits);
            let opened = Store::open_trying(storage, &dir, limits, &mut tries);
            for note in tries.notes.drain(..) {
                tracing::error!(component = %name, "disk buffer {}: {note}", dir.display());
            }
            match opened {
                Ok(opened) => break opened,
                Err(fault @ Fault::Fatal { .. }) => {
                    buffer.status.set_trouble(Some(fault.why().to_owned()));
                    match tell.take() {
                        Some(tell) => drop(tell.send(Err(fault))),
                        None => tracing::error!(component = %name, "{fault}"),
                    }
                    buffer.back.close();
                    return None;
                }
                Err(Fault::Retry { why, .. } | Fault::Unavailable { why }) => {
                    tell.take().map(|tell| tell.send(Ok(())).ok());
                    tracing::warn!(component = %name, "{why}; trying again");
                    buffer.meter.error();
                    buffer.status.set_trouble(Some(why));
                    if !buffer.pause(backoff.next_delay(), &shutdown, &mut gone).await {
                        buffer.leave();
                        return None;
                    }
                }
            }
        };
        // Also where the queue goes back: this was done to the files.
        for note in &recovered.notes {
            tracing::warn!(component = %name, "disk buffer {}: {note}", dir.display());
        }
        if recovered.cut_bytes > 0 {
            tracing::warn!(component = %name, "disk buffer {}: cut a torn record of {} bytes", dir.display(), recovered.cut_bytes);
        }
        if !buffer.may_begin(&shutdown, &mut tell).await {
            buffer.leave();
            return None;
        }
        buffer.status.set_trouble(None);
        buffer.status.opened(&dir);
        if recovered.events > 0 {
            tracing::info!(component = %name, "{} events wait in the disk buffer {}", recovered.events, dir.display());
            buffer.meter.received(recovered.events, recovered.bytes);
            buffer.meter.recovered(recovered.events);
        }
        let stage = buffer.stage(store, name, shutdown, gone);
        stage.publish();
        tell.take().map(|tell| tell.send(Ok(())).ok());
        Some(stage)
    }
}

impl DiskBuffer {
    fn stage(self, store: Store, name: String, shutdown: Shutdown, gone: CancellationToken) -> Stage {
        let DiskBuffer { front, back, ledger, options, attended, wishes, meter, status, .. } = self;
        let settlements = Settlements::new(ledger);
        Stage {
            store,
            front,
            back,
            options,
            wishes,
            attended,
            meter,
            status,
            shutdown,
            gone,
            name,
            inbox: VecDeque::new(),
            input_done: false,
            kept: VecDeque::new(),
            kept_weight: 0,
            window: Window::new(options.ahead(), settlements.clone()),
            settlements,
            again: Again::default(),
            passing: Passing::default(),
            held_until: None,
            unsafe_yet: VecDeque::new(),
            sink_only: VecDeque::new(),
            syncing: None,
            last_sync: None,
            last_persist: None,
            unpersisted: true,
            trouble: Trouble::none(),
        }
    }

    /// Waits, open, until it is sure that the queue before it stays its own. False when it does not, or the end has come.
    async fn may_begin(&self, shutdown: &Shutdown, tell: &mut Option<Told>) -> bool {
        let Some(given) = &self.given else { return true };
        tell.take().map(|tell| tell.send(Ok(())).ok());
        tokio::select! {
            biased;
            kept = given.kept() => kept,
            () = shutdown.aborted() => false,
        }
    }

    /// Ends before it began. A sink whose queue is another's is released: it must not think that its stream is over.
    fn leave(&self) {
        if !self.front.is_released() {
            self.back.close();
        }
    }

    /// Waits before the next try to open; meanwhile rows wait, or go by the policy, and sinks may end and follow each
    /// other. False when the end has come, or the queue is another's.
    async fn pause(&mut self, pause: Duration, shutdown: &Shutdown, gone: &mut CancellationToken) -> bool {
        let until = clock::now() + pause;
        loop {
            if self.front.is_released() {
                // Given back, maybe while a try was under way.
                return false;
            }
            let undecided = self.given.as_ref().filter(|given| given.is_undecided());
            // Without a sink, too: the others must not wait for this one.
            let (is_own, alone) = (undecided.is_none(), gone.is_cancelled());
            let takes = is_own && (alone || !self.options.when_full.waits());
            let front = &mut self.front;
            let next = async {
                if takes && let Some(lease) = front.recv().await {
                    return Some(lease);
                }
                front.closed().await;
                if !is_own || front.waiting_events() > 0 {
                    return std::future::pending().await;
                }
                // For a sink, what files of an earlier run hold may be waited for; but not by the end.
                if !alone {
                    shutdown.draining().await;
                }
                None
            };
            let decided = async {
                match undecided {
                    Some(given) => given.kept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.aborted() => return false,
                kept = decided => if !kept { return false },
                () = tokio::time::sleep_until(until) => return true,
                Ok(()) = self.wishes.changed() => self.options = *self.wishes.borrow_and_update(),
                Ok(()) = self.attended.changed() => {
                    *gone = self.attended.borrow_and_update().clone();
                    self.back.reopen();
                }
                lease = next => match lease {
                    Some(lease) => lease.dropped(Reason::BufferFault),
                    None => return false,
                },
            }
        }
    }
}
