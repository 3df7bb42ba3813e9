//! The disk that buffers of the simulation are on: the model of a file system that the buffers' own tests crash.

/// What the model implements.
mod storage {
    pub(super) use logweir::flow::disk::storage::{Held, Open, Storage, StoredFile};
}

#[allow(dead_code, clippy::unwrap_used, reason = "the library's own tests use more of it")]
#[path = "../../src/flow/disk/model_tests.rs"]
mod model_tests;

/// The model under a name that the simulation can reach.
pub(crate) mod model {
    pub(crate) use super::model_tests::{Model, Survives};
}
