//! Row 2: one query language for everything that selects lines: a filter, the routing of a sink, the parameter of a
//! stream, `weir tail`. `docs/QUERY.md` says what queries mean; this is how they are parsed and carried out.

mod ast;
mod error;
mod fields;
mod finder;
mod highlight;
mod literal;
pub mod lookup;
mod matcher;
mod parse;
pub mod patterns;
mod phrase;
mod plan;
mod rows;
mod scan;
mod search;
mod streaming;
#[cfg(test)]
mod tests;
mod time;
mod word;

use std::fmt;
use std::sync::Arc;

pub use error::{Note, QueryError};
pub use highlight::Highlights;
pub use matcher::Matcher;
pub use parse::{CONDITIONS_MAX, DEPTH_MAX, TEXT_BYTES_MAX};
pub use phrase::{WILDCARD_CHARS_MAX, WORDS_MAX};
pub use plan::REGEXES_MAX;

/// A parsed and compiled query. Cloning bumps a reference count. `Display` prints it in its canonical form, which
/// parses to the same query.
#[derive(Debug, Clone)]
pub struct Query(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    text: String,
    expr: ast::Expr,
    plan: plan::Plan,
    notes: Vec<Note>,
}

impl Query {
    /// Reads and compiles a query. What it may cost is bounded, whoever wrote it: its length, its depth, the number
    /// of its conditions and the size of its regular expressions.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str) -> Result<Query, QueryError> {
        let (expr, notes) = parse::parse(text).map_err(|wrong| wrong.of(text))?;
        let plan = plan::compile(&expr).map_err(|wrong| wrong.of(text))?;
        Ok(Query(Arc::new(Inner { text: text.to_owned(), expr, plan, notes })))
    }

    /// The text it was parsed from.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// What works but is perhaps not what was meant.
    pub fn notes(&self) -> &[Note] {
        &self.0.notes
    }

    /// Something that runs the query; one per task.
    pub fn matcher(&self) -> Matcher {
        Matcher::new(self.clone())
    }

    /// What to mark in lines that it finds; one per task.
    pub fn highlights(&self) -> Highlights {
        Highlights::new(self.clone())
    }

    fn plan(&self) -> &plan::Plan {
        &self.0.plan
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expr.fmt(f)
    }
}

/// Two queries are equal when they are written alike but for spaces, places and superfluous parentheses.
impl PartialEq for Query {
    fn eq(&self, other: &Query) -> bool {
        self.0.expr == other.0.expr
    }
}
