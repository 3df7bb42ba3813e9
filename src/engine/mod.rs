//! Row 7: from a configuration to running pipelines. `plan` is pure and shared by `check` and `run`; `wire` builds
//! the queues and counters of a plan, `supervise` keeps components running, `run` orders start and end.

mod buffers;
mod claims;
#[cfg(test)]
mod hostile_tests;
mod plan;
mod run;
mod supervise;
#[cfg(test)]
mod tests;
mod wire;

pub use buffers::BufferPlan;
pub use plan::{PipelinePlan, Plan, Planned, PlannedSink, plan};
pub use run::{RunReport, Services, StartError, Started, run};
