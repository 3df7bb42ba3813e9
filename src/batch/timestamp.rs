//! placeholder
/// Nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);
impl Timestamp {
    /// write
    pub fn write_rfc3339(&self, _out: &mut Vec<u8>) {}
}
