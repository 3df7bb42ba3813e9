//! The board: every pipeline and component of the process with its meter and health, for status, metrics and
//! readiness. The engine writes it, everybody reads it.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::context::{Health, Site, State};
use super::disk::BufferStatus;
use super::meter::{Meter, MeterSnapshot};
use crate::base::clock::{self, Instant};

/// One component on the board.
#[derive(Debug, Clone)]
pub struct ComponentEntry {
    /// Who it is.
    pub site: Arc<Site>,
    /// Its counters.
    pub meter: Arc<Meter>,
    /// Its state.
    pub health: Arc<Health>,
    /// The state of its disk buffer, if it has one.
    pub buffer: Option<Arc<BufferStatus>>,
    /// How much its buffer holds at most; sinks have one.
    pub capacity: Option<Capacity>,
}

/// How much a buffer holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Events, if they are limited.
    pub events: Option<u64>,
    /// Bytes.
    pub bytes: u64,
}

/// One pipeline on the board.
#[derive(Debug, Clone)]
pub struct PipelineEntry {
    /// Its name.
    pub name: Arc<str>,
    /// What passed its entrance: received from all sources, delivered to the fan-out.
    pub meter: Arc<Meter>,
    /// Sources, filters, sinks, in the order of the config. A sink's own filters follow the pipeline's.
    pub components: Vec<ComponentEntry>,
}

/// See the module.
#[derive(Debug)]
pub struct Board {
    started: Instant,
    pipelines: RwLock<Arc<[PipelineEntry]>>,
    changes: watch::Sender<()>,
}

impl Default for Board {
    fn default() -> Board {
        Board {
            started: clock::now(),
            pipelines: RwLock::new(Arc::from([])),
            changes: watch::Sender::default(),
        }
    }
}

/// What keeps the process from being ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// The component's id.
    pub component: String,
    /// Its state.
    pub state: State,
}

impl Board {
    /// Replaces what is on the board.
    pub fn publish(&self, pipelines: Vec<PipelineEntry>) {
        *self.pipelines.write().unwrap_or_else(PoisonError::into_inner) = pipelines.into();
        self.changes.send_replace(());
    }

    /// Tells whenever what is on the board was replaced.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// All pipelines, in the order of the config.
    pub fn pipelines(&self) -> Arc<[PipelineEntry]> {
        self.pipelines.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The pipeline of that name.
    pub fn pipeline(&self, name: &str) -> Option<PipelineEntry> {
        self.pipelines().iter().find(|p| &*p.name == name).cloned()
    }

    /// When the process started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Components that are starting, restarting or failed.
    pub fn not_ready(&self) -> Vec<NotReady> {
        let pipelines = self.pipelines();
        let components = pipelines.iter().flat_map(|p| &p.components);
        components
            .filter_map(|c| match c.health.state() {
                State::Ready | State::Finished => None,
                state => Some(NotReady { component: c.site.id(), state }),
            })
            .collect()
    }
}

impl PipelineEntry {
    /// All counters of the pipeline's components of one kind, added up.
    pub fn total(&self, kind: crate::config::ComponentKind, count: impl Fn(&MeterSnapshot) -> u64) -> u64 {
        self.components.iter().filter(|c| c.site.kind == kind).map(|c| count(&c.meter.snapshot())).sum()
    }
}
