//! Row 3: the contract between components, and all that lies between them: the entrance of a pipeline with its
//! rate limit, filter chain and fan-out, the bounded buffers before its sinks, and the counters of each stage.

mod board;
mod chain;
mod component;
mod context;
mod descriptor;
pub mod disk;
mod gather;
#[cfg(test)]
mod gather_tests;
mod lease;
mod ledger;
mod limit;
mod links;
mod memory;
mod meter;
mod outlet;
#[cfg(test)]
mod outlet_tests;
mod query_option;
mod queue;
#[cfg(test)]
mod queue_tests;
mod retry;
mod shared_options;
mod signals;
mod tap;

pub use board::{Board, Capacity, ComponentEntry, NotReady, PipelineEntry};
pub use chain::{Chain, Stage};
pub use component::{Emit, Fault, Filter, FilterFactory, Sink, SinkFactory, Source, SourceFactory};
pub use context::{Health, LastError, Shared, Site, State, TaskCx};
pub use descriptor::{Build, BuildCx, Claim, Component, Descriptor, Placement};
pub use gather::{Gather, GatherLimits, Gathered};
pub use lease::Lease;
pub use limit::TokenBucket;
pub use links::{Link, Links};
pub use memory::Memory;
pub use meter::{Lag, Meter, MeterSnapshot, Reason};
pub use outlet::{Branch, Course, Intake, Outlet, RateLimit};
pub use query_option::QueryOption;
pub use queue::{Bounds, Inlet, Queue, WhenFull};
pub use retry::RetrySchedule;
pub use shared_options::SinkOptions;
pub use signals::{ExitStatusSlot, OutputClosed, ReopenSignal, SecretSource};
pub use tap::{Shown, TapCounts, TapLimits, TapPoint, TapReader};
