//! The one door to spawned work. Every task and thread has a name, and whoever spawns it holds its handle, so a
//! panic always has somebody to tell.

use std::cell::Cell;
use std::future::Future;

use tokio::task::JoinHandle;

thread_local! {
    /// Whether a simulation runs on this thread.
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
}

/// From now on, what this thread would give to other threads runs as a task of its own runtime: a simulation in
/// which one thing happens after the other can be repeated.
pub fn simulate() {
    SIMULATED.set(true);
}

/// Runs `future` on the shared runtime.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// Drives `future` to its end on a thread of its own, for components whose system calls may block (files,
/// terminals). Timers, sockets and channels of the shared runtime work inside it.
///
/// # Errors
/// When the operating system refuses another thread.
pub fn spawn_thread<F, T>(name: &str, future: F) -> std::io::Result<tokio::sync::oneshot::Receiver<T>>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let runtime = tokio::runtime::Handle::current();
    let (done, wait) = tokio::sync::oneshot::channel();
    if SIMULATED.get() {
        drop(spawn(async move { done.send(future.await).ok() }));
        return Ok(wait);
    }
    // The kernel keeps 15 bytes of a thread's name.
    let short: String = name.chars().take(15).collect();
    std::thread::Builder::new().name(short).spawn(move || {
        // The receiver may be gone after an abort; then nobody wants the outcome.
        done.send(runtime.block_on(future)).ok();
    })?;
    Ok(wait)
}

/// Runs `work`, which may block, on a thread of the runtime's pool.
pub fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    if SIMULATED.get() {
        return spawn(async move { work() });
    }
    tokio::task::spawn_blocking(work)
}

/// A readable form of what a panic carried.
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(s) = payload.downcast_ref::<&str>() {
        (*s).to_owned()
    } else if let Some(s) = payload.downcast_ref::<String>() {
        s.clone()
    } else {
        "panic without a message".to_owned()
    }
}
