//! Shutdown in two steps: `drain` asks for an orderly end, `abort` ends what is left when the deadline passes or
//! a second signal comes. Both are tokens that many tasks can wait for.

use tokio_util::sync::CancellationToken;

/// The two tokens of an orderly end. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abort: CancellationToken,
}

impl Shutdown {
    /// Tokens that nobody has pulled yet.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// A pair that ends with this one and can also be ended alone.
    pub fn child(&self) -> Shutdown {
        Shutdown { drain: self.drain.child_token(), abort: self.abort.child_token() }
    }

    /// Asks for an orderly end.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Ends at once; implies `drain`.
    pub fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// Whether an end was asked for.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Whether the end is forced.
    pub fn is_aborted(&self) -> bool {
        self.abort.is_cancelled()
    }

    /// Waits until an end is asked for. Cancel-safe.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Waits until the end is forced. Cancel-safe.
    pub async fn aborted(&self) {
        self.abort.cancelled().await;
    }
}
