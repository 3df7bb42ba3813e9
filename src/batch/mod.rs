//! What flows: lines, and what can be read off them cheaply (severity and time).

pub mod detect;
mod level;
mod timestamp;

pub use level::Level;
pub use timestamp::Timestamp;
