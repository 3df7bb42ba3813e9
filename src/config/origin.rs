//! Where a value came from: a place in a file, a variable, a flag, or the built-in default. Every node of the
//! configuration tree carries one, so that an error, and `weir config`, can point at the exact text.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What kind of text a value was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A configuration file; the name is its path as given.
    File,
    /// An environment variable; the text is `NAME=value`.
    Variable,
    /// A command-line flag; the text is `--path value`.
    Flag,
}

/// One piece of configuration text, kept whole so that diagnostics can quote it.
#[derive(Debug)]
pub struct Source {
    /// What kind of text it is.
    pub kind: SourceKind,
    /// A path, a variable's name, or a flag with its dashes.
    pub name: String,
    /// The whole text, of at most 4 GiB.
    pub text: String,
    line_starts: Vec<usize>,
}

impl Source {
    fn new(kind: SourceKind, name: String, text: String) -> Arc<Source> {
        let line_starts =
            std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|i| i + 1));
        Arc::new(Source { kind, name, line_starts: line_starts.collect(), text })
    }

    /// A file's text under the name it is shown by.
    pub fn file(name: impl Into<String>, text: impl Into<String>) -> Arc<Source> {
        Source::new(SourceKind::File, name.into(), text.into())
    }

    /// The variable `name` with `value`; quoted as `name=value`.
    pub fn variable(name: &str, value: &str) -> Arc<Source> {
        Source::new(SourceKind::Variable, name.to_owned(), format!("{name}={value}"))
    }

    /// The flag `name` (with its dashes) with `value`; quoted as `name value`.
    pub fn flag(name: &str, value: &str) -> Arc<Source> {
        Source::new(SourceKind::Flag, name.to_owned(), format!("{name} {value}"))
    }

    /// Where the value starts in the text of a variable or a flag; 0 for a file.
    pub fn value_start(&self) -> usize {
        match self.kind {
            SourceKind::File => 0,
            SourceKind::Variable | SourceKind::Flag => self.name.len() + 1,
        }
    }

    /// Line and column of a byte offset, both from 1; the column counts characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text.as_bytes()[start..offset].iter().filter(|b| !is_continuation(**b)).count() + 1;
        (line, column)
    }

    /// The origin of a byte range of this text, clamped to it and to character boundaries.
    pub fn at(self: &Arc<Source>, span: Range<usize>) -> Origin {
        let floor = |mut i: usize| {
            i = i.min(self.text.len());
            while !self.text.is_char_boundary(i) {
                i -= 1;
            }
            i
        };
        let start = floor(span.start);
        Origin::Text { source: Arc::clone(self), start, end: floor(span.end).max(start) }
    }

    /// The origin of the whole value of a variable or a flag, or of the first byte of a file.
    pub fn whole(self: &Arc<Source>) -> Origin {
        match self.kind {
            SourceKind::File => self.at(0..0),
            SourceKind::Variable | SourceKind::Flag => self.at(self.value_start()..self.text.len()),
        }
    }

    /// The origin of the name of a variable or a flag.
    pub fn name_origin(self: &Arc<Source>) -> Origin {
        match self.kind {
            SourceKind::File => self.at(0..0),
            SourceKind::Variable | SourceKind::Flag => self.at(0..self.name.len()),
        }
    }
}

const fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// Where a value or a key was written. Cloning copies a pointer.
#[derive(Clone, Default)]
pub enum Origin {
    /// Nobody wrote it: it is the declared default.
    #[default]
    Default,
    /// The bytes `start..end` of a text.
    Text {
        /// The text.
        source: Arc<Source>,
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
    },
}

impl Origin {
    /// The text it points into, if any.
    pub fn source(&self) -> Option<&Arc<Source>> {
        match self {
            Origin::Default => None,
            Origin::Text { source, .. } => Some(source),
        }
    }

    /// The byte range in the source's text; empty for a default.
    pub fn span(&self) -> Range<usize> {
        match self {
            Origin::Default => 0..0,
            Origin::Text { start, end, .. } => *start..*end,
        }
    }

    /// Line and column of the first byte, when it was written in a file.
    pub fn file_position(&self) -> Option<(&str, usize, usize)> {
        let source = self.source().filter(|s| s.kind == SourceKind::File)?;
        let (line, column) = source.line_column(self.span().start);
        Some((&source.name, line, column))
    }

    /// Narrows to a byte range relative to this origin's start; stays within it.
    pub fn narrow(&self, range: Range<usize>) -> Origin {
        match self {
            Origin::Default => Origin::Default,
            Origin::Text { source, start, end } => {
                let from = start.saturating_add(range.start).min(*end);
                source.at(from..start.saturating_add(range.end).min(*end).max(from))
            }
        }
    }
}

/// `pipelines.toml:12:8`, `WEIR_LOGGING_LEVEL`, `--logging.level`, or `default`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file_position(), self.source()) {
            (Some((name, line, column)), _) => write!(f, "{name}:{line}:{column}"),
            (None, Some(source)) => f.write_str(&source.name),
            (None, None) => f.write_str("default"),
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let file = Source::file("a.toml", "é = 1\nbb = 2\n");
        for (offset, expected) in
            [(0, (1, 1)), (2, (1, 2)), (6, (1, 6)), (7, (2, 1)), (12, (2, 6)), (14, (3, 1)), (99, (3, 1))]
        {
            assert_eq!(file.line_column(offset), expected, "{offset}");
        }
        assert_eq!(file.at(12..13).to_string(), "a.toml:2:6");
        assert_eq!(Source::file("empty.toml", "").at(0..0).to_string(), "empty.toml:1:1");
    }

    #[test]
    fn variables_and_flags_quote_themselves() {
        let variable = Source::variable("WEIR_X", "v");
        assert_eq!((variable.whole().to_string(), variable.whole().span()), ("WEIR_X".to_owned(), 7..8));
        let flag = Source::flag("--x.y", "value");
        assert_eq!((flag.text.as_str(), flag.whole().span()), ("--x.y value", 6..11));
        assert_eq!(flag.whole().narrow(1..3).span(), 7..9);
        assert_eq!(flag.whole().narrow(3..99).span(), 9..11);
        assert_eq!(Origin::Default.to_string(), "default");
    }

    #[test]
    fn spans_are_clamped_to_characters() {
        let file = Source::file("a", "é");
        assert_eq!(file.at(1..9).span(), 0..2);
        assert_eq!(file.at(5..9).span(), 2..2);
    }
}
