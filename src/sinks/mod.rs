//! Row 5: where rows leave. One file per sink; each is named once more, in the registry.

pub mod console;
pub mod file;
pub mod http;
pub mod http_client;
pub mod null;
pub mod pipeline;
pub mod tcp;
pub mod tcp_client;
