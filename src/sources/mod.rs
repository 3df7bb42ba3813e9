//! Row 5: where rows enter. One file per source; each is named once more, in the registry.

pub mod generate;
pub mod stdin;
