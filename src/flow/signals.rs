//! What single components and the process say to each other, found in [`Shared`](super::Shared): reopen your
//! files, nobody reads our output any more, the wrapped command has ended.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Environment;

/// Asks every sink that writes files to close and reopen them (SIGUSR1, after an external rotation).
#[derive(Debug, Default)]
pub struct ReopenSignal(watch::Sender<u64>);

impl ReopenSignal {
    /// Asks.
    pub fn request(&self) {
        self.0.send_modify(|n| *n += 1);
    }

    /// Hears every request made from now on.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// Says that whoever read this process's standard output has gone away (`weir | head`), which a program of a
/// pipeline takes as its cue to end quietly.
#[derive(Debug, Default)]
pub struct OutputClosed(CancellationToken);

impl OutputClosed {
    /// Says it.
    pub fn close(&self) {
        self.0.cancel();
    }

    /// Whether it was said.
    pub fn is_closed(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is said. Cancel-safe.
    pub async fn closed(&self) {
        self.0.cancelled().await;
    }
}

/// The variables that secrets are taken from (`{ env = "X" }`): those this process was started with.
#[derive(Debug, Default)]
pub struct SecretSource(OnceLock<Environment>);

impl SecretSource {
    /// Says which; once, before anything starts.
    pub fn set(&self, environment: Environment) {
        // A second one would be the same: a process has one environment.
        self.0.set(environment).ok();
    }

    /// The variables; none until they were set.
    pub fn environment(&self) -> Environment {
        self.0.get().cloned().unwrap_or_default()
    }
}

/// The exit code of the command that an `exec` source ran last, for `weir run -- CMD`.
#[derive(Debug)]
pub struct ExitStatusSlot(AtomicI32);

const NO_STATUS: i32 = i32::MIN;

impl Default for ExitStatusSlot {
    fn default() -> ExitStatusSlot {
        ExitStatusSlot(AtomicI32::new(NO_STATUS))
    }
}

impl ExitStatusSlot {
    /// The command ended with `code`; as shells do, 128 + n stands for signal n.
    pub fn set(&self, code: i32) {
        self.0.store(code, Ordering::Release);
    }

    /// The code, once a command has ended.
    pub fn get(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Acquire)).filter(|code| *code != NO_STATUS)
    }
}
