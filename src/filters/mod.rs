//! Row 5: what rows pass. One file per filter; each is named once more, in the registry.

pub mod exclude;
pub mod include;
pub mod sample;
