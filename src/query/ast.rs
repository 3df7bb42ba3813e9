//! The syntax tree of a query, and its text again: what is printed parses to the same tree.

use std::fmt;
use std::ops::Range;

/// A place in the query's text. All places are equal, so that trees compare by their meaning.
#[derive(Debug, Clone, Default)]
pub(super) struct At(pub(super) Range<usize>);

impl PartialEq for At {
    fn eq(&self, _: &At) -> bool {
        true
    }
}

/// A query's tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    /// `*`: every line.
    All,
    /// One condition.
    Leaf(Leaf),
    /// What must not be.
    Not(Box<Expr>),
    /// Two or more, all of which must be.
    And(Vec<Expr>),
    /// Two or more, one of which must be.
    Or(Vec<Expr>),
}

/// One condition on the line or on a field.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Leaf {
    /// Where to look; the raw line without.
    pub(super) field: Option<String>,
    pub(super) test: Test,
    /// Where the whole condition stands.
    pub(super) at: At,
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    /// Words without quotes, as they are written: escapes and wildcards are still in.
    Text(Operand),
    /// Words in quotes.
    Phrase(Operand),
    /// `/…/` or `/…/i`.
    Regex {
        pattern: String,
        ignore_case: bool,
        /// Where the pattern stands, without its slashes.
        at: At,
    },
    /// `field:>=5` and its kind.
    Compare(Op, Operand),
    /// `field:[a TO b]`; a missing end is open.
    Between { low: Option<Operand>, low_included: bool, high: Option<Operand>, high_included: bool },
    /// `field:*`.
    Present,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// A text to compare with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    /// As it is written when it stands without quotes, else without its quotes and escapes.
    pub(super) text: String,
    pub(super) quoted: bool,
    pub(super) at: At,
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::All => f.write_str("*"),
            Expr::Leaf(leaf) => write!(f, "{leaf}"),
            Expr::Not(inner) => {
                f.write_str("NOT ")?;
                inner.grouped(f, matches!(**inner, Expr::And(_) | Expr::Or(_)))
            }
            Expr::And(parts) => joined(f, parts, " AND ", |p| matches!(p, Expr::And(_) | Expr::Or(_))),
            Expr::Or(parts) => joined(f, parts, " OR ", |p| matches!(p, Expr::Or(_))),
        }
    }
}

impl Expr {
    fn grouped(&self, f: &mut fmt::Formatter<'_>, parentheses: bool) -> fmt::Result {
        if parentheses { write!(f, "({self})") } else { write!(f, "{self}") }
    }
}

fn joined(
    f: &mut fmt::Formatter<'_>,
    parts: &[Expr],
    operator: &str,
    grouped: impl Fn(&Expr) -> bool,
) -> fmt::Result {
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            f.write_str(operator)?;
        }
        part.grouped(f, grouped(part))?;
    }
    Ok(())
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = &self.field {
            if is_plain_name(field) {
                write!(f, "{field}:")?;
            } else {
                quoted(f, field)?;
                f.write_str(":")?;
            }
        }
        match &self.test {
            Test::Text(operand) | Test::Phrase(operand) => write!(f, "{operand}"),
            Test::Regex { pattern, ignore_case, .. } => {
                write!(f, "/{pattern}/{}", if *ignore_case { "i" } else { "" })
            }
            Test::Compare(op, operand) => write!(f, "{}{operand}", op.as_str()),
            Test::Between { low, low_included, high, high_included } => {
                f.write_str(if *low_included { "[" } else { "{" })?;
                bound(f, low.as_ref())?;
                f.write_str(" TO ")?;
                bound(f, high.as_ref())?;
                f.write_str(if *high_included { "]" } else { "}" })
            }
            Test::Present => f.write_str("*"),
        }
    }
}

fn bound(f: &mut fmt::Formatter<'_>, operand: Option<&Operand>) -> fmt::Result {
    match operand {
        Some(operand) => write!(f, "{operand}"),
        None => f.write_str("*"),
    }
}

impl Op {
    /// Its sign.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Op::Less => "<",
            Op::AtMost => "<=",
            Op::Greater => ">",
            Op::AtLeast => ">=",
        }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.quoted { quoted(f, &self.text) } else { f.write_str(&self.text) }
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Whether a field's name needs no quotes: letters, digits and `_ . - @ $ /`, and not only digits at the start.
pub(super) fn is_plain_name(name: &str) -> bool {
    let first = name.chars().next();
    first.is_some_and(|c| c.is_alphabetic() || matches!(c, '_' | '@' | '$' | '.'))
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '@' | '$' | '/'))
        && !name.ends_with('.')
        && name != "."
}
