//! TLS: for clients, certificates and names checked; files that change take effect without a restart.

pub mod client;
