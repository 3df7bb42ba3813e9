//! Which lines are shown: by level, query, expressions and time. A line that continues the one before it (the lines
//! of a stack trace) shares its fate, so that what is found can be read.

use std::ops::Range;

use regex_automata::meta::Regex;

use crate::base::clock;
use crate::batch::{Batch, Level, Mask, Timestamp, detect};
use crate::query::lookup::Field;
use crate::query::patterns::{Logic, Patterns};
use crate::query::{self, Highlights, Query};

use super::args::{LineCount, TailArgs};
use crate::cli::exit::Failure;

/// Most lines that come along with the one they continue.
const CONTINUED_MAX: u32 = 1000;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    level: Option<Level>,
    include: Option<Patterns>,
    exclude: Option<Patterns>,
    query: Option<query::Matcher>,
    marks: Option<Marks>,
    /// The least time of a line.
    pub(super) since: Option<Timestamp>,
    /// Whether all of a file is looked at for lines that are new enough, however old those around them are.
    pub(super) exhaustive: bool,
}

/// What the last line of an input leaves to the next: whether it passed, and its time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Carry {
    passed: bool,
    timed: bool,
    recent: bool,
    continued: u32,
}

impl Wanted {
    /// What the arguments ask for.
    pub(super) fn new(args: &TailArgs) -> Result<Wanted, Failure> {
        let since = args.since.as_ref().map(|since| since.from(Timestamp(clock::unix_nanos())));
        let query = args.query.as_deref().map(parse).transpose()?;
        Ok(Wanted {
            level: args.level,
            include: matcher("--include", &args.include)?,
            exclude: matcher("--exclude", &args.exclude)?,
            marks: Marks::new(&args.include, query.as_ref()),
            query: query.map(|query| query.matcher()),
            since,
            exhaustive: args.lines == Some(LineCount::All),
        })
    }

    /// Whatever there is.
    #[cfg(test)]
    pub(super) fn everything() -> Wanted {
        Wanted {
            level: None,
            include: None,
            exclude: None,
            query: None,
            marks: None,
            since: None,
            exhaustive: false,
        }
    }

    /// The same for lines that come while we watch, which are all new enough.
    pub(super) fn live(&self) -> Wanted {
        Wanted { since: None, ..self.clone() }
    }

    /// What is odd about the query, though it works.
    pub(super) fn notes(&self) -> Vec<String> {
        let notes = self.query.iter().flat_map(|query| query.query().notes());
        notes.map(|note| note.message.clone()).collect()
    }

    /// What is marked in lines that are shown.
    pub(super) fn marks(&self) -> Option<Marks> {
        self.marks.clone()
    }

    /// Whether every line passes, whatever its time.
    pub(super) fn is_everything(&self) -> bool {
        self.level.is_none() && self.include.is_none() && self.exclude.is_none() && self.query.is_none()
    }

    /// Keeps the rows that match by themselves, whatever their time.
    pub(super) fn keep_matching(&mut self, batch: &mut Batch) {
        if let Some(include) = &mut self.include {
            let mask = include.matches(batch);
            batch.narrow(mask);
        }
        if let Some(query) = &mut self.query
            && !batch.is_empty()
        {
            let now = jiff::Timestamp::from_nanosecond(i128::from(clock::unix_nanos())).unwrap_or_default();
            query.keep(batch, now);
        }
        if let Some(exclude) = &mut self.exclude
            && !batch.is_empty()
        {
            let mask = exclude.matches(batch);
            batch.retain(|_, row| !mask.has(row));
        }
        if let Some(min) = self.level {
            batch.retain(|b, row| b.level(row).is_some_and(|level| level >= min));
        }
    }

    /// Keeps the rows that are to be shown, all of which are live. `carry` is what came before them.
    pub(super) fn keep(&mut self, batch: &mut Batch, carry: &mut Carry) {
        if !self.is_everything() {
            let mut own = batch.view();
            self.keep_matching(&mut own);
            let mask = with_continued(&own, carry);
            batch.narrow(mask);
        }
        if let Some(since) = self.since {
            batch.retain(|b, row| {
                if let Some(at) = stated_time(b, row) {
                    carry.recent = at >= since;
                }
                carry.recent
            });
        }
    }

    /// Keeps the rows that state a time that is new enough. Whether there was one among those that state a time at
    /// all; `None` if none does, or every time will do.
    pub(super) fn keep_recent(&self, batch: &mut Batch) -> Option<bool> {
        let since = self.since?;
        let mut found = None;
        let mut recent = false;
        batch.retain(|b, row| {
            if let Some(at) = stated_time(b, row) {
                recent = at >= since;
                found = Some(recent || found == Some(true));
            }
            recent
        });
        found
    }
}

/// What is marked in a line that is shown: whatever it was searched for.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    query: Option<Highlights>,
    include: Option<Regex>,
}

impl Marks {
    pub(super) fn new(include: &[String], query: Option<&Query>) -> Option<Marks> {
        // What is wrong with them is said elsewhere.
        let include = if include.is_empty() { None } else { Regex::new_many(include).ok() };
        let query = query.map(Query::highlights);
        (include.is_some() || query.is_some()).then_some(Marks { query, include })
    }

    /// Fills `out` with the stretches of `text` to mark, by where they start.
    pub(super) fn ranges(&mut self, text: &[u8], out: &mut Vec<Range<usize>>) {
        out.clear();
        if let Some(query) = &self.query {
            query.ranges(text, out);
        }
        if let Some(include) = &self.include {
            let found = include.find_iter(text).map(|found| found.range());
            out.extend(found.filter(|range| !range.is_empty()));
            out.sort_unstable_by_key(|range| range.start);
        }
    }
}

fn parse(text: &str) -> Result<Query, Failure> {
    Query::parse(text).map_err(|wrong| Failure::usage(format!("`--query`: {wrong}")))
}

fn matcher(flag: &str, patterns: &[String]) -> Result<Option<Patterns>, Failure> {
    if patterns.is_empty() {
        return Ok(None);
    }
    Patterns::new(patterns, Logic::Or, Field::Line).map(Some).map_err(|bad| {
        let said: Vec<String> = bad
            .iter()
            .map(|b| format!("{flag} '{}': {}", patterns.get(b.index).map_or("", String::as_str), b.why))
            .collect();
        Failure::usage(said.join("; "))
    })
}

/// The live rows of `own`, and of the others those that continue one that passes.
fn with_continued(own: &Batch, carry: &mut Carry) -> Mask {
    let rows = own.arena().spans().len() as u32;
    let mut mask = own.mask();
    let mut row = 0;
    let mut matching = own.live().iter().peekable();
    // What continues the last line of the batch before.
    if carry.passed {
        row = follow(own, 0, carry, &mut mask);
    }
    while let Some(first) = matching.next() {
        // Neighbours that match are dealt with together.
        let mut last = first;
        mask.set(first);
        while let Some(next) = matching.next_if_eq(&(last + 1)) {
            mask.set(next);
            last = next;
        }
        let states_time = |row| stated_time(own, row).is_some();
        let within = carry.timed && first > 0 && first <= row && (mask.has(first - 1) || first == row);
        let timed = within || (first..=last).rev().take(CONTINUED_MAX as usize).any(states_time);
        *carry = Carry { passed: true, timed, continued: 0, ..*carry };
        row = follow(own, last + 1, carry, &mut mask);
    }
    carry.passed = rows == 0 && carry.passed || rows > 0 && mask.has(rows - 1);
    mask
}

/// Sets the rows from `row` on that continue what passed; returns the first that does not.
fn follow(batch: &Batch, mut row: u32, carry: &mut Carry, mask: &mut Mask) -> u32 {
    let rows = batch.arena().spans().len() as u32;
    while row < rows && carry.continued < CONTINUED_MAX && continues(batch, row, carry.timed) {
        mask.set(row);
        carry.continued += 1;
        row += 1;
    }
    row
}

fn stated_time(batch: &Batch, row: u32) -> Option<Timestamp> {
    detect::detect_timestamp(batch.line(row), batch.arena().received())
}

/// Whether a line belongs to the one before it: it is indented, or the one before has a time and this one has none,
/// and it states no time and no level of its own.
fn continues(batch: &Batch, row: u32, timed: bool) -> bool {
    let line = batch.line(row);
    let indented = matches!(line.first(), Some(b' ' | b'\t'));
    (indented || timed)
        && line.first() != Some(&b'{')
        && stated_time(batch, row).is_none()
        && detect::detect_level(line).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(level: Option<Level>, include: &[&str], exclude: &[&str]) -> Wanted {
        let own = |p: &[&str]| p.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        Wanted {
            level,
            include: matcher("--include", &own(include)).unwrap(),
            exclude: matcher("--exclude", &own(exclude)).unwrap(),
            ..Wanted::everything()
        }
    }

    fn pass(wanted: &mut Wanted, batches: &[&[&str]]) -> Vec<String> {
        let mut carry = Carry::default();
        let mut out = Vec::new();
        for lines in batches {
            let mut batch = Batch::from_lines("t", lines.iter());
            wanted.keep(&mut batch, &mut carry);
            out.extend(batch.lines().map(|(_, line)| String::from_utf8_lossy(line).into_owned()));
        }
        out
    }

    const TRACE: [&str; 7] = [
        "2026-11-21 10:00:00 INFO fine",
        "2026-11-21 10:00:01 ERROR it broke",
        "java.lang.IllegalStateException: no",
        "\tat com.example.Main.run(Main.java:7)",
        "Caused by: java.io.IOException: disk",
        "2026-11-21 10:00:02 INFO on we go",
        "  and this goes with the line before",
    ];

    #[test]
    fn a_stack_trace_comes_along_with_its_line() {
        assert_eq!(pass(&mut wanted(Some(Level::Error), &[], &[]), &[&TRACE]), TRACE[1..5]);
        assert_eq!(pass(&mut wanted(None, &["broke"], &[]), &[&TRACE]), TRACE[1..5]);
        assert_eq!(pass(&mut wanted(None, &[], &["broke|Exception|at com"]), &[&TRACE])[0], TRACE[0]);
        assert_eq!(pass(&mut wanted(None, &["IOException"], &[]), &[&TRACE]), TRACE[4..5]);
    }

    #[test]
    fn wherever_the_batches_are_cut() {
        for cut in 0..=TRACE.len() {
            let (a, b) = TRACE.split_at(cut);
            assert_eq!(pass(&mut wanted(Some(Level::Error), &[], &[]), &[a, b]), TRACE[1..5], "{cut}");
        }
    }

    #[test]
    fn indented_files_without_times_show_what_matches_and_what_is_below_it() {
        let yaml = ["a:", "  b: 1", "c:", "  d: 2"];
        assert_eq!(pass(&mut wanted(None, &["c"], &[]), &[&yaml]), yaml[2..]);
        let plain = ["one", "two", "three"];
        assert_eq!(pass(&mut wanted(None, &["two"], &[]), &[&plain]), ["two"]);
    }

    #[test]
    fn of_old_lines_what_continues_them_is_old_too() {
        let mut since = wanted(None, &[], &[]);
        since.since = Timestamp::parse_rfc3339(b"2026-11-21T10:00:01Z");
        assert_eq!(pass(&mut since, &[&TRACE[..3], &TRACE[3..]]), TRACE[1..]);
        since.since = Timestamp::parse_rfc3339(b"2026-11-21T10:00:02Z");
        assert_eq!(pass(&mut since, &[&TRACE]), TRACE[5..]);
    }

    #[test]
    fn bad_expressions_name_their_flag() {
        let failure = matcher("--include", &["ok".to_owned(), "(".to_owned()]).unwrap_err();
        assert!(failure.to_string().contains("--include '(': unclosed group"), "{failure}");
    }
}
