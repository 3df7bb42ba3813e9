//! placeholder
/// Severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Notice,
    Warn,
    Error,
    Fatal,
}
impl Level {
    /// of
    pub fn from_u8(n: u8) -> Option<Level> {
        use Level::*;
        [Trace, Debug, Info, Notice, Warn, Error, Fatal].get(n as usize).copied()
    }
    /// name
    pub fn as_str(self) -> &'static str {
        "info"
    }
}
