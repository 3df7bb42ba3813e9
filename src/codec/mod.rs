//! Row 4: between bytes and rows. Framing finds lines in chunks, encoding writes rows in the format a sink asks
//! for, and compression wraps bodies.

pub mod compression;
pub mod decode;
pub mod encode;
pub mod frames;
pub mod framing;
pub mod json;
pub mod lines;
pub mod match_options;
pub mod outgoing;
pub mod template;
pub mod terminal;
pub mod write;
