//! The styles: sixteen colours and no more, which every terminal has and every theme chooses for itself.

use crate::batch::Level;

/// Ends a style.
pub(super) const RESET: &[u8] = b"\x1b[0m";
/// What was searched for.
pub(super) const MARK: &[u8] = b"\x1b[1;30;43m";

/// What a stretch of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A time, and whatever else steps back.
    Time,
    /// A severity.
    Level(Level),
    /// A number, with its unit.
    Number,
    /// An address.
    Ip,
    /// A URL.
    Url,
    /// A UUID or another long identifier.
    Uuid,
    /// In quotes.
    Quoted,
    /// An HTTP method.
    Method,
    /// An HTTP status, by its hundreds.
    Status(u8),
    /// A path.
    Path,
    /// A key, before its value.
    Key,
    /// `true`, `false`, `null`.
    Word,
}

impl Style {
    /// What begins it.
    pub(super) fn on(self) -> &'static [u8] {
        match self {
            Style::Time | Style::Key => b"\x1b[2m",
            Style::Level(Level::Fatal) => b"\x1b[1;37;41m",
            Style::Level(Level::Error) | Style::Status(b'5') => b"\x1b[1;31m",
            Style::Level(Level::Warn) => b"\x1b[1;33m",
            Style::Level(Level::Notice) => b"\x1b[1;36m",
            Style::Level(Level::Info) | Style::Quoted | Style::Status(b'2') => b"\x1b[32m",
            Style::Level(Level::Debug) | Style::Path => b"\x1b[34m",
            Style::Level(Level::Trace) => b"\x1b[2;34m",
            Style::Number | Style::Status(_) => b"\x1b[36m",
            Style::Ip => b"\x1b[94m",
            Style::Url => b"\x1b[4;34m",
            Style::Uuid => b"\x1b[35m",
            Style::Method => b"\x1b[1;36m",
            Style::Word => b"\x1b[33m",
        }
    }

    /// The style of an HTTP status that begins with this digit.
    pub(super) fn status(first: u8) -> Style {
        if first == b'4' { Style::Word } else { Style::Status(first) }
    }
}

/// The colours of sources, in turn.
pub(super) const SOURCES: [&[u8]; 6] =
    [b"\x1b[96m", b"\x1b[93m", b"\x1b[95m", b"\x1b[92m", b"\x1b[94m", b"\x1b[91m"];

/// The name of a level, as wide as all of them.
pub(super) fn tag(level: Level) -> &'static str {
    match level {
        Level::Trace => "TRACE",
        Level::Debug => "DEBUG",
        Level::Info => "INFO ",
        Level::Notice => "NOTE ",
        Level::Warn => "WARN ",
        Level::Error => "ERROR",
        Level::Fatal => "FATAL",
    }
}
