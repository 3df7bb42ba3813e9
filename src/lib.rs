//! `weir`, a multi-pipeline streaming log router: sources, filters and sinks joined by bounded buffers, served
//! over one shared HTTP router. The house is described in `docs/ARCHITECTURE.md`; a row never imports a higher one.

pub mod base;
pub mod batch;
pub mod cli;
pub mod codec;
pub mod config;
pub mod engine;
pub mod files;
pub mod filters;
pub mod flow;
pub mod net;
pub mod query;
pub mod registry;
pub mod sinks;
pub mod sources;
pub mod tail;
#[cfg(test)]
pub mod testing;
pub mod trace;
pub mod web;
