//! Row 4: what the kernel saw, as connections, HTTP exchanges and lines. The programs in `ebpf/` filter, copy and
//! tag; everything that parses or pairs is here and works on bytes, so that it is tested without a kernel. The
//! loader (`kernel`) is there only with the feature `ebpf`.

pub mod activity;
pub mod capability;
pub mod event;
pub mod http;
#[cfg(ebpf_object)]
pub mod kernel;
pub mod output;
pub mod process;
pub mod records;
pub mod row;
pub mod settings;
pub mod symbols;
