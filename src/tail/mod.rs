//! Row 4: following files. One engine reads every file that a source's patterns match: [`paths`] finds them,
//! [`identity`] tells them apart, [`follow`] reads one of them, [`engine`] takes turns among them, [`checkpoint`]
//! remembers on disk how far each was dealt with, for whom [`session`] says, and `backlog` knows how much is still to be
//! read.

pub mod archive;
mod backlog;
pub mod checkpoint;
pub mod engine;
pub mod follow;
pub mod identity;
pub mod journal;
pub mod multiline;
pub mod options;
pub mod paths;
pub mod rotated;
pub mod scan;
pub mod session;
pub mod text;
pub mod watch;

#[cfg(test)]
mod tests;

pub use engine::run;
pub use options::{CHECKPOINTS, Joined, Settings, TailOptions};
pub use paths::Patterns;
pub use session::CheckpointNames;
