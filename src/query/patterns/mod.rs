//! Regular expressions over whole batches. The text of many rows is searched as one haystack, with the literal
//! prefilters that such searches live from, and hits are mapped back to rows; row by row only where it must be.

pub(super) mod pattern;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use pattern::Limits;
use regex_automata::{Input, meta};
use regex_syntax::hir::Hir;

use super::lookup::Field;
use crate::batch::{Batch, Framing, Mask, Span};

/// Most patterns of one matcher.
pub const PATTERNS_MAX: usize = 1_000;
/// Fewer live rows than this are searched one by one.
const TOGETHER_ROWS_MIN: u32 = 8;

/// How several patterns combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logic {
    /// A row matches if any pattern does.
    Or,
    /// A row matches if all patterns do, wherever in the row.
    And,
}

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPattern {
    /// Which one, from 0.
    pub index: usize,
    /// Why, in the parser's words.
    pub why: String,
}

/// Compiled patterns. Unanchored; matched over bytes, in which invalid UTF-8 is just not a character. A row is
/// searched line by line (it is one line unless its framing allows `\n`): no match reaches over a `\n`, `^` and
/// `\A` are the start of a line, `$` and `\z` its end or the `\r` before it.
#[derive(Debug, Clone)]
pub struct Patterns {
    /// With [`Logic::Or`] a single program for all patterns.
    programs: Vec<Program>,
    field: Field,
}

/// A compiled pattern and what searching with it remembers.
#[derive(Debug, Clone)]
pub(super) struct Program {
    regex: meta::Regex,
    cache: meta::Cache,
    /// Whether rows may be searched together.
    is_local: bool,
}

impl Patterns {
    /// Compiles `patterns` (at least one) to be searched in `field` of a row.
    ///
    /// # Errors
    /// One entry for each pattern that cannot be used. A program for all patterns together that would be too
    /// large is laid at the first one's door.
    pub fn new<P: AsRef<str>>(
        patterns: &[P],
        logic: Logic,
        field: Field,
    ) -> Result<Patterns, Vec<BadPattern>> {
        if patterns.len() > PATTERNS_MAX {
            let why = format!("too many patterns: {}, the most is {PATTERNS_MAX}", patterns.len());
            return Err(vec![BadPattern { index: PATTERNS_MAX, why }]);
        }
        let (mut parsed, mut bad) = (Vec::new(), Vec::new());
        for (index, text) in patterns.iter().enumerate() {
            match pattern::parse(text.as_ref(), false) {
                Ok(hir) => parsed.push(hir),
                Err(refusal) => bad.push(BadPattern { index, why: refusal.located() }),
            }
        }
        if !bad.is_empty() {
            return Err(bad);
        }
        let groups = match logic {
            Logic::Or => vec![parsed],
            Logic::And => parsed.into_iter().map(|hir| vec![hir]).collect(),
        };
        let mut programs = Vec::with_capacity(groups.len());
        for (index, group) in groups.into_iter().enumerate() {
            match Program::new(group, pattern::COMPONENT) {
                Ok(program) => programs.push(program),
                Err(why) => bad.push(BadPattern { index, why }),
            }
        }
        if bad.is_empty() { Ok(Patterns { programs, field }) } else { Err(bad) }
    }

    /// The live rows of `batch` that match. Allocates for the batch, never for a row (but for what a field's
    /// value needs, when it is escaped).
    pub fn matches(&mut self, batch: &Batch) -> Mask {
        let Patterns { programs, field } = self;
        let Some((last, others)) = programs.split_last_mut() else { return batch.mask() };
        if others.is_empty() {
            return last.matches(batch, field);
        }
        // Each pattern looks at the survivors of those before it only.
        let mut survivors = batch.view();
        for program in others {
            let mask = program.matches(&survivors, field);
            survivors.narrow(mask);
        }
        last.matches(&survivors, field)
    }

    /// Whether `row` of `batch` matches, live or not.
    pub fn matches_row(&mut self, batch: &Batch, row: u32) -> bool {
        self.programs.iter_mut().all(|program| program.finds_in_row(batch, row, &self.field))
    }
}

impl Program {
    /// A program that finds what any of `patterns` does, or why there can be none.
    pub(super) fn new(patterns: Vec<Hir>, limits: Limits) -> Result<Program, String> {
        let is_local = patterns.iter().all(pattern::is_local);
        let regex = pattern::compile(patterns, limits)?;
        Ok(Program { cache: regex.create_cache(), regex, is_local })
    }

    /// Whether rows may be searched together.
    pub(super) fn is_local(&self) -> bool {
        self.is_local
    }

    /// Memory of the program, in bytes.
    pub(super) fn memory_usage(&self) -> usize {
        self.regex.memory_usage()
    }

    fn matches(&mut self, batch: &Batch, field: &Field) -> Mask {
        let mut mask = batch.mask();
        let live = batch.live();
        if *field == Field::Line
            && self.is_local
            && worth_searching_together(batch, live.count(), live.bytes(), live.bounds())
        {
            let dense = live.is_dense();
            rows_with(
                batch,
                live.bounds(),
                |text, from| self.find(text, from),
                |row| {
                    if dense || live.has(row) {
                        mask.set(row);
                    }
                },
            );
            return mask;
        }
        for row in live.iter() {
            if self.finds_in_row(batch, row, field) {
                mask.set(row);
            }
        }
        mask
    }

    fn finds_in_row(&mut self, batch: &Batch, row: u32, field: &Field) -> bool {
        match field {
            Field::Line => self.find(batch.line(row), 0).is_some(),
            field => field.of(batch, row).is_some_and(|value: Cow<'_, [u8]>| self.find(&value, 0).is_some()),
        }
    }

    /// Where the first match at or after `from` ends, or at least one that starts no later.
    pub(super) fn find(&mut self, text: &[u8], from: usize) -> Option<usize> {
        let input = Input::new(text).range(from..).earliest(true);
        self.regex.search_half_with(&mut self.cache, &input).map(|hit| hit.offset())
    }

    /// Where the first match at or after `from` stands.
    pub(super) fn range(&mut self, text: &[u8], from: usize) -> Option<Range<usize>> {
        self.regex.search_with(&mut self.cache, &Input::new(text).range(from..)).map(|hit| hit.range())
    }
}

/// Searches the stretch of text that holds the rows `first..end`, and shows the rows that `find` finds something
/// in. What it finds lies within one line, so that its end tells the row; the search goes on behind that row.
pub(super) fn rows_with(
    batch: &Batch,
    (first, end): (u32, u32),
    mut find: impl FnMut(&[u8], usize) -> Option<usize>,
    mut found: impl FnMut(u32),
) {
    let spans = &batch.arena().spans()[..end as usize];
    let (base, text_end) = (spans[first as usize].start(), spans[end as usize - 1].end());
    // The haystack starts with the first row, so that `^` holds there whatever precedes it.
    let text = &batch.arena().text()[base..text_end];
    let mut row = first as usize;
    while let Some(hit) = find(text, spans[row].start() - base) {
        row = row_of(spans, row, base + hit);
        // A hit before the row lies in lines that are no rows.
        let in_row = base + hit >= spans[row].start();
        if in_row {
            found(row as u32);
        }
        row += usize::from(in_row);
        if row == spans.len() {
            break;
        }
    }
}

/// Whether searching what lies between `count` rows of `bytes` bytes costs less than starting a search for each of
/// them.
pub(super) fn worth_searching_together(
    batch: &Batch,
    count: u32,
    bytes: u64,
    (first, end): (u32, u32),
) -> bool {
    if batch.arena().framing() != Framing::Lines || count < TOGETHER_ROWS_MIN {
        return false;
    }
    let spans = batch.arena().spans();
    let stretch = spans[end as usize - 1].end() - spans[first as usize].start();
    // Starting a search costs about as much as searching a hundred bytes.
    bytes + u64::from(count) * 100 >= stretch as u64
}

/// The first row at or after `from` that ends at or behind `position`. Hits are often near: it gallops.
pub(super) fn row_of(spans: &[Span], from: usize, position: usize) -> usize {
    let (mut low, mut step) = (from, 1);
    while low + step < spans.len() && spans[low + step].end() < position {
        low += step;
        step *= 2;
    }
    let high = (low + step).min(spans.len() - 1);
    low + spans[low..high].partition_point(|span| span.end() < position)
}
