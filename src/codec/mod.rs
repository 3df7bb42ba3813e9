//! Row 4: between bytes and rows. Framing finds lines in chunks, encoding writes rows in the format a sink asks
//! for, compression wraps bodies, and matching runs regular expressions over whole chunks.

pub mod compression;
pub mod decode;
pub mod encode;
pub mod frames;
pub mod framing;
pub mod json;
pub mod lines;
pub mod lookup;
pub mod matching;
pub mod outgoing;
pub mod template;
pub mod terminal;
pub mod write;
