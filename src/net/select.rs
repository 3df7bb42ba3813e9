//! Which rows a subscriber wants: a query, regular expressions on the raw line, a least severity, a time. Compiled once
//! per subscriber, within bounds that keep a hostile expression from costing memory or time.

use regex_automata::meta::{Config, Regex};
use regex_automata::util::syntax;

use crate::base::clock;
use crate::batch::{Batch, Level, Mask, Timestamp};
use crate::query::Matcher;

/// Most expressions of a kind, and the longest of them in bytes.
pub const PATTERNS_MAX: usize = 16;
const PATTERN_BYTES_MAX: usize = 4096;
/// Bounds of a compiled expression in bytes: each of its automata, and the cache it may fill while matching. Every
/// subscriber brings its own, so that this is what one connection can cost.
const AUTOMATON_BYTES_MAX: usize = 512 << 10;
const CACHE_BYTES_MAX: usize = 256 << 10;

/// The rows a subscriber wants. Matching is linear in the line, whatever the expression.
#[derive(Debug, Clone, Default)]
pub struct Select {
    /// A row must be found by it.
    pub query: Option<Matcher>,
    /// A row must match one of them.
    pub include: Option<Regex>,
    /// A row must match none of them.
    pub exclude: Option<Regex>,
    /// A row must be at least this severe; one without a level is not.
    pub level: Option<Level>,
    /// Of the history, only rows of this time or later. Live rows pass.
    pub since: Option<Timestamp>,
}

impl Select {
    /// Whether every row is wanted, so that none needs to be looked at.
    pub fn is_everything(&self) -> bool {
        self.query.is_none()
            && self.include.is_none()
            && self.exclude.is_none()
            && self.level.is_none()
            && self.since.is_none()
    }

    /// Which live rows of a batch the query finds; `None` without a query, where that leaves none out. The whole
    /// batch is searched at once, which costs less than its rows one by one.
    pub fn found(&mut self, batch: &Batch) -> Option<Mask> {
        self.query.as_mut().map(|matcher| matcher.mask(batch, clock::timestamp()))
    }

    /// Whether a row is wanted; `found` is what [`Select::found`] gave for its batch, and `replayed` says that the
    /// row was there before the subscriber.
    pub fn wants(&self, batch: &Batch, row: u32, found: Option<&Mask>, replayed: bool) -> bool {
        let line = batch.line(row);
        found.is_none_or(|found| found.has(row))
            && self.level.is_none_or(|min| batch.level(row).is_some_and(|level| level >= min))
            && self.include.as_ref().is_none_or(|regex| regex.is_match(line))
            && !self.exclude.as_ref().is_some_and(|regex| regex.is_match(line))
            && !(replayed && self.since.is_some_and(|since| batch.timestamp(row) < since))
    }
}

/// One regular expression that matches where any of `patterns` does, on bytes; `None` for no patterns.
///
/// # Errors
/// What is wrong with which.
pub fn any_of(patterns: &[String]) -> Result<Option<Regex>, String> {
    if patterns.is_empty() {
        return Ok(None);
    }
    if patterns.len() > PATTERNS_MAX {
        return Err(format!("{} expressions, at most {PATTERNS_MAX} are allowed", patterns.len()));
    }
    if let Some(long) = patterns.iter().find(|p| p.len() > PATTERN_BYTES_MAX) {
        return Err(format!(
            "an expression of {} bytes, at most {PATTERN_BYTES_MAX} are allowed",
            long.len()
        ));
    }
    let config = Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(AUTOMATON_BYTES_MAX))
        .hybrid_cache_capacity(CACHE_BYTES_MAX);
    let syntax = syntax::Config::new().utf8(false);
    let built = Regex::builder().configure(config).syntax(syntax).build_many(patterns);
    built.map(Some).map_err(|e| match (e.syntax_error(), e.size_limit()) {
        (Some(syntax), _) => syntax.to_string(),
        (None, Some(limit)) => format!(
            "more than {} KiB once compiled; hint: `(?-u:\\w)` is a fraction of `\\w`, which knows every alphabet",
            limit >> 10
        ),
        (None, None) => e.to_string(),
    })
}

/// The severity of that name, whatever its case; `warning`, `err` and `critical` are understood.
pub fn level(name: &str) -> Option<Level> {
    let index = match name.to_ascii_lowercase().as_str() {
        "trace" => 0,
        "debug" => 1,
        "info" | "information" => 2,
        "notice" => 3,
        "warn" | "warning" => 4,
        "error" | "err" => 5,
        "fatal" | "critical" | "crit" => 6,
        _ => return None,
    };
    Level::from_u8(index)
}
