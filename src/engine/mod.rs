//! Row 7: from a configuration to running pipelines. `plan` is pure and shared by `check` and `run`; `wire` builds
//! the queues and counters of a plan, `supervise` keeps components running, `run` orders start and end,
//! `diff`, `apply` and `reload` change what runs.

mod apply;
mod buffers;
mod claims;
mod diff;
#[cfg(test)]
mod handover_tests;
#[cfg(test)]
mod handover_trouble_tests;
#[cfg(test)]
mod hostile_tests;
mod live;
#[cfg(test)]
mod lost_tests;
mod memory;
mod patience;
mod plan;
mod reload;
#[cfg(test)]
mod reload_tests;
mod report;
mod requests;
mod run;
mod supervise;
#[cfg(test)]
mod tests;
pub mod trial;
mod watchdog;
mod wire;

pub use buffers::BufferPlan;
pub use plan::{PipelinePlan, Plan, Planned, PlannedSink, plan};
pub use report::{Change, PipelineChange, ReloadOutcome, ReloadReport};
pub use requests::{Loader, Reloads};
pub use run::{RunReport, Services, StartError, Started, run};
