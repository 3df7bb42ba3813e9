//! Requests to reload, from a signal, a changed file or the HTTP API. What is asked for while a reload runs is
//! answered by one more reload after it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};

use super::plan::Plan;
use super::report::ReloadReport;

/// Reads the configuration anew. Called on a thread where it may block.
///
/// Errors are what is wrong with it, each rendered for people.
pub type Loader = Arc<dyn Fn() -> Result<Plan, Vec<String>> + Send + Sync>;

/// Most requests that wait for an answer at a time.
const WAITING_MAX: usize = 64;

type Answer = oneshot::Sender<Arc<ReloadReport>>;

/// The requests of a process, found in [`Shared`](crate::flow::Shared).
#[derive(Debug, Default)]
pub struct Reloads {
    state: Mutex<State>,
    wake: Notify,
    last: watch::Sender<Option<Arc<ReloadReport>>>,
}

#[derive(Debug, Default)]
struct State {
    /// Why nobody reloads, `None` while somebody does.
    closed: Option<&'static str>,
    open: bool,
    asked: bool,
    waiting: Vec<Answer>,
}

impl Reloads {
    /// Asks for a reload and does not wait for it.
    pub fn ask(&self) {
        self.lock().asked = true;
        self.wake.notify_one();
    }

    /// Asks for a reload and waits for its report. When the caller goes away, the reload happens all the same.
    pub async fn reload(&self) -> Arc<ReloadReport> {
        let answer = {
            let mut state = self.lock();
            let why = match state.closed {
                Some(why) => Some(why),
                None if !state.open => Some("this run was not made from configuration files"),
                None if state.waiting.len() >= WAITING_MAX => {
                    Some("too many requests to reload wait already")
                }
                None => None,
            };
            if let Some(why) = why {
                return Arc::new(ReloadReport::refused(vec![why.to_owned()]));
            }
            let (answer, report) = oneshot::channel();
            state.waiting.push(answer);
            report
        };
        self.wake.notify_one();
        answer.await.unwrap_or_else(|_| Arc::new(ReloadReport::refused(vec![ENDING.to_owned()])))
    }

    /// The report of the last reload, whoever asked for it; `None` before the first.
    pub fn reports(&self) -> watch::Receiver<Option<Arc<ReloadReport>>> {
        self.last.subscribe()
    }

    /// Tells of a reload that is over.
    pub(super) fn done(&self, report: &Arc<ReloadReport>) {
        self.last.send_replace(Some(report.clone()));
    }

    /// From now on requests are heard.
    pub(super) fn open(&self) {
        self.lock().open = true;
    }

    /// From now on requests are refused; those that wait are too.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = Some(ENDING);
        state.waiting.clear();
    }

    /// Waits for a request; all that wait are answered by the next reload. Cancel-safe.
    pub(super) async fn next(&self) -> Vec<Answer> {
        loop {
            let woken = self.wake.notified();
            {
                let mut state = self.lock();
                if std::mem::take(&mut state.asked) || !state.waiting.is_empty() {
                    return std::mem::take(&mut state.waiting);
                }
            }
            woken.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const ENDING: &str = "weir is shutting down";
