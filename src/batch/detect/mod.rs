//! placeholder
use super::{Level, Timestamp};
/// level
pub fn detect_level(_line: &[u8]) -> Option<Level> {
    None
}
/// ts
pub fn detect_timestamp(_line: &[u8], _received: Timestamp) -> Option<Timestamp> {
    None
}
