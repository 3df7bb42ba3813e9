//! Requests as a client sends them: targets, connections that are kept, bodies made of shared pieces, what answers
//! mean, and how many requests a receiver is given at a time.

mod client;
mod concurrency;
mod connection;
mod payload;
mod pool;
#[cfg(test)]
mod tests;
mod url;
mod verdict;

pub use client::{Answer, Client, NoAnswer};
pub use concurrency::{ADAPTIVE_MAX, Concurrency, Finished};
pub use payload::{Payload, PayloadBody};
pub use url::{Target, UrlError};
pub use verdict::{Verdict, retry_after};
