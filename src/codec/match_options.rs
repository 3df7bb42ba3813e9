//! The options of everything that takes patterns, and the complaints about them.

use crate::query::patterns::{Logic, Patterns};

use crate::config::{OneOrMany, choices, options};
use crate::flow::BuildCx;
use crate::query::lookup::Field;

choices! {
    /// How several patterns combine.
    pub enum MatchLogic {
        /// One pattern is enough.
        Or = "or",
        /// All patterns must match, wherever in the line.
        And = "and",
    }
}

options! {
    /// Which events match.
    pub struct MatchOptions {
        /// Regular expressions over bytes, unanchored: `^` and `$` are the ends of a line, `(?i)` ignores case.
        /// Matching takes time linear in the length of the line.
        pub patterns: OneOrMany,
        /// How several patterns combine.
        pub logic: MatchLogic = MatchLogic::Or,
        /// Where to look: `level`, `source`, `timestamp`, or a JSON or logfmt key of the line, such as
        /// `req.path`. An event without the field does not match. Without it, the raw line.
        pub field: Option<String> = None,
    }
}

impl MatchOptions {
    /// The matcher, or `None` after a complaint about each pattern that cannot be used.
    pub fn build(&self, cx: &mut BuildCx<'_>) -> Option<Patterns> {
        let logic = match self.logic {
            MatchLogic::Or => Logic::Or,
            MatchLogic::And => Logic::And,
        };
        let field = self.field.as_deref().map_or(Field::Line, Field::parse);
        let bad = match Patterns::new(&self.patterns, logic, field) {
            Ok(matcher) => return Some(matcher),
            Err(bad) => bad,
        };
        for pattern in bad {
            let found = cx.error_at("patterns", pattern.index, format!("invalid pattern: {}", pattern.why));
            found.label("in this pattern");
            if pattern.why.contains("look-around") || pattern.why.contains("backreference") {
                found.hint("combine two filters, or use `exclude`, for what must not be there");
            }
        }
        None
    }
}
