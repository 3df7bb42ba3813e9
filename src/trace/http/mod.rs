//! HTTP/1.1 as it passed a socket: heads (`head`), where messages end (`half`), which response belongs to which
//! request (`conversation`), over all connections (`pairing`). Bodies are skipped by their length, never kept.

mod conversation;
mod half;
pub mod head;
pub mod pairing;
#[cfg(test)]
mod tests;

pub use pairing::{Pairing, PairingCounts};
