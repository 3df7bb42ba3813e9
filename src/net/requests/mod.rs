//! Requests as a client sends them: targets, connections that are kept, bodies made of shared pieces, what answers
//! mean, and how many requests a receiver is given at a time.

mod client;
mod concurrency;
mod connection;
mod delivery;
mod dispatch;
mod encode;
#[cfg(test)]
mod handover_tests;
mod headers;
#[cfg(test)]
mod hostile_tests;
mod notices;
mod payload;
mod pool;
mod probes;
mod rejects;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod tests;
mod url;
mod verdict;

pub use client::{Answer, Client, NoAnswer};
pub use concurrency::{ADAPTIVE_MAX, Concurrency, Finished};
pub use dispatch::{Dispatch, DispatchOptions};
pub use encode::{BodyEncoder, Layout};
pub use headers::Headers;
pub use payload::{Payload, PayloadBody};
pub use probes::Probes;
pub use url::{Target, UrlError};
pub use verdict::{Verdict, retry_after};
