//! What a running component is given besides its data: who it is, when to stop, where to count, and what all
//! components of the process share.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::meter::Meter;
use crate::base::clock;
use crate::base::shutdown::Shutdown;
use crate::config::ComponentKind;

/// Which component: its pipeline, kind, position and type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Site {
    /// Name of the pipeline.
    pub pipeline: Arc<str>,
    /// Source, filter or sink.
    pub kind: ComponentKind,
    /// Position among its kind, from 0.
    pub index: usize,
    /// The component's type ("file").
    pub type_name: &'static str,
}

impl Site {
    /// A name unique in the process: `app.sink.0.http`.
    pub fn id(&self) -> String {
        format!("{}.{}.{}.{}", self.pipeline, self.kind.as_str(), self.index, self.type_name)
    }
}

/// Where a component stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not yet bound or opened.
    Starting,
    /// At work.
    Ready,
    /// Waiting for its next start after a fault.
    Restarting {
        /// The last fault.
        why: String,
    },
    /// Ended by itself, in order.
    Finished,
    /// Down for good.
    Failed {
        /// The last fault.
        why: String,
    },
}

impl State {
    /// One word for status and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Restarting { .. } => "restarting",
            State::Finished => "finished",
            State::Failed { .. } => "failed",
        }
    }
}

/// A component's state, written by its supervisor and read by status.
#[derive(Debug)]
pub struct Health {
    state: tokio::sync::watch::Sender<State>,
    last_error: Mutex<Option<LastError>>,
    /// Seconds without progress while work waits, 0 when it moves.
    stalled: AtomicU64,
    /// Attempts have failed since something was delivered.
    failing: AtomicBool,
}

/// The last fault of a component; it stays known after the component has recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// What failed.
    pub why: String,
    /// When, in nanoseconds since the Unix epoch.
    pub unix_nanos: i64,
}

impl Default for Health {
    fn default() -> Health {
        let state = tokio::sync::watch::Sender::new(State::Starting);
        Health {
            state,
            last_error: Mutex::default(),
            stalled: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        }
    }
}

impl Health {
    /// The state now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Changes the state.
    pub fn set(&self, state: State) {
        if let State::Restarting { why } | State::Failed { why } = &state {
            let error = LastError { why: why.clone(), unix_nanos: clock::unix_nanos() };
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        self.state.send_replace(state);
    }

    /// The last fault, if there ever was one.
    pub fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says for how many seconds the component has not moved while work waited; 0: it moves.
    pub fn set_stalled(&self, seconds: u64) {
        self.stalled.store(seconds, Relaxed);
    }

    /// What [`Health::set_stalled`] said last.
    pub fn stalled(&self) -> u64 {
        self.stalled.load(Relaxed)
    }

    /// Says whether the last attempt to deliver has failed and is made again, though the component is at work.
    pub fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Relaxed);
    }

    /// Whether the component gets nothing done just now: what it tries fails, or it waits for its next start.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Relaxed) || matches!(*self.state.borrow(), State::Restarting { .. })
    }

    /// Waits until the component has left [`State::Starting`]. Cancel-safe.
    pub async fn started(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        self.state.subscribe().wait_for(|s| *s != State::Starting).await.ok();
    }
}

/// One value per type, shared by the components of a process: the router, the links between pipelines.
#[derive(Debug, Default)]
pub struct Shared(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Shared {
    /// The value of type `T`, made on first use.
    pub fn get<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = map.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default())).clone();
        drop(map);
        value.downcast().expect("the map's key is the value's type")
    }
}

/// What a component is given to run with.
#[derive(Debug, Clone)]
pub struct TaskCx {
    /// Who this is.
    pub site: Arc<Site>,
    /// When to stop.
    pub shutdown: Shutdown,
    /// Where to count.
    pub meter: Arc<Meter>,
    /// What all components share.
    pub shared: Arc<Shared>,
    /// Where state survives restarts, if the process has such a place.
    pub state_dir: Arc<Path>,
    /// The component's state.
    pub health: Arc<Health>,
}

impl TaskCx {
    /// Says that the component has bound and opened what it needs and is at work.
    pub fn ready(&self) {
        self.health.set(State::Ready);
    }
}
