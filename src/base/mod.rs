//! Row 0 of the house: seams and units that everything above shares. Nothing here knows what a log is.

pub mod backoff;
pub mod clock;
pub mod rng;
pub mod shutdown;
pub mod task;
pub mod units;
