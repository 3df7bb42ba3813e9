//! Row 5: where rows enter. One file per source; each is named once more, in the registry.

pub mod directory;
pub mod ebpf;
pub mod exec;
pub mod file;
pub mod generate;
pub mod http;
pub mod pipeline;
pub mod stdin;
pub mod tcp;
pub mod udp;
pub mod unix;
