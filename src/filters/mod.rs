//! Row 5: what rows pass. One file per filter; each is named once more, in the registry.

pub mod correlate;
pub mod dedupe;
pub mod exclude;
pub mod include;
pub mod level;
pub mod query;
pub mod sample;
pub mod throttle;
