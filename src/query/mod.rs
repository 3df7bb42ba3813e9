//! Row 2: what is looked for in lines. Fields found where they stand and regular expressions over whole batches.

pub mod lookup;
pub mod patterns;
