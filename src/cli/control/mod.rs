//! The control socket as commands see it: where a run puts its own, and which of those that are there a question
//! is for.

mod find;
mod place;

pub use find::{SocketArgs, find};
pub use place::open;
