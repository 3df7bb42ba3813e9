//! What is wrong with a query: the place in its text, why, what was expected there, and often a hint for habits
//! brought from other tools.

use std::fmt;
use std::ops::Range;

/// A query that cannot be used. `Display` prints the message, the query, a caret line under the place with what
/// was expected, and the hint; several lines, no line break at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// The place: a range of bytes of the query, on character boundaries; empty at its end when something is
    /// missing there.
    pub span: Range<usize>,
    /// What is wrong and why: lower case, no full stop.
    pub message: String,
    /// What would have been right at that place.
    pub expected: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The whole query.
    pub text: String,
}

/// Something in a query that works but is perhaps not what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The place: a range of bytes of the query.
    pub span: Range<usize>,
    /// What is odd: lower case, no full stop.
    pub message: String,
}

/// An error under construction: what the parser knows before the text is attached.
#[derive(Debug, Clone)]
pub(super) struct Wrong {
    span: Range<usize>,
    message: String,
    expected: Option<String>,
    hint: Option<String>,
}

impl Wrong {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Wrong {
        Wrong { span, message: message.into(), expected: None, hint: None }
    }

    pub(super) fn expected(mut self, expected: impl Into<String>) -> Wrong {
        self.expected = Some(expected.into());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Wrong {
        self.hint = Some(hint.into());
        self
    }

    /// The error about `text`; the span is clamped to it and to its characters.
    pub(super) fn of(self, text: &str) -> QueryError {
        let floor = |mut at: usize| {
            at = at.min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(self.span.start);
        let span = start..floor(self.span.end).max(start);
        let Wrong { message, expected, hint, .. } = self;
        QueryError { span, message, expected, hint, text: text.to_owned() }
    }
}

/// Characters of the query shown on either side of the place.
const CONTEXT: usize = 60;

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One character on the screen for each of the text's, so that the caret stands where it should.
        let shown = |text: &str| -> Vec<char> {
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
        };
        let (before, marked) = (shown(&self.text[..self.span.start]), shown(&self.text[self.span.clone()]));
        let after = shown(&self.text[self.span.end..]);
        let line = |part: &[char]| part.iter().collect::<String>();
        let cut = before.len().saturating_sub(CONTEXT);
        let (left, before) = (if cut > 0 { "…" } else { "" }, &before[cut..]);
        let marked = &marked[..marked.len().min(CONTEXT)];
        let (after, right) = match after.get(..CONTEXT) {
            Some(part) => (part, "…"),
            None => (&after[..], ""),
        };
        writeln!(f, "{}", self.message)?;
        writeln!(f, "  {left}{}{}{}{right}", line(before), line(marked), line(after))?;
        let indent = left.chars().count() + before.len();
        write!(f, "  {}{}", " ".repeat(indent), "^".repeat(marked.len().max(1)))?;
        if let Some(expected) = &self.expected {
            write!(f, " expected {expected}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for QueryError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let wrong = Wrong::new(10..15, "unknown level: `loude`").expected("error").hint("see the table");
        let text = "é level:\nloude x";
        assert_eq!(
            wrong.of(text).to_string(),
            "unknown level: `loude`\n  é level: loude x\n           ^^^^^ expected error\nhint: see the table"
        );
    }

    #[test]
    fn long_queries_are_cut_around_it_and_spans_clamped() {
        let text = format!("{}X{}", "é".repeat(500), "b".repeat(500));
        let error = Wrong::new(1000..1001, "no").of(&text);
        let shown = error.to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[2].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[1].chars().nth(caret), Some('X'));
        assert!(lines[1].chars().count() < 130);
        assert_eq!(Wrong::new(1..9999, "no").of("é").span, 0..2);
    }
}
