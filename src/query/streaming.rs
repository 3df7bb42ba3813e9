//! A query over the rows of a batch: condition by condition instead of row by row. A condition on the text searches
//! the whole stretch of it at once and maps what it finds to rows; the next one looks only at the rows that are left.

use super::fields::Value;
use super::finder::Finder;
use super::lookup::{pair_value_end, skip_space, string_end, value_end};
use super::matcher::Row;
use super::patterns::{Program, row_of, rows_with};
use super::plan::{Check, Condition, Node, Place, Plan};
use super::rows::Rows;
use super::search::Search;
use crate::batch::{Batch, Framing, Timestamp};

/// Fewer rows than this are looked at one by one.
const TOGETHER_ROWS_MIN: u32 = 8;
/// What starting to look at one row costs, in bytes searched together.
const ROW_COST_BYTES: usize = 100;

/// Sets of rows to reuse.
#[derive(Debug, Clone, Default)]
pub(super) struct Spare(Vec<Rows>);

impl Spare {
    fn take(&mut self, rows: usize) -> Rows {
        let mut set = self.0.pop().unwrap_or_default();
        set.clear(rows);
        set
    }

    fn give(&mut self, set: Rows) {
        self.0.push(set);
    }
}

/// A plan being carried out on a batch.
pub(super) struct Run<'a> {
    pub(super) plan: &'a Plan,
    pub(super) batch: &'a Batch,
    pub(super) now: Timestamp,
    pub(super) programs: &'a mut [Program],
    pub(super) spare: &'a mut Spare,
    /// Rows that hold `\u`, once somebody had to know.
    escaped: Option<Rows>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        batch: &'a Batch,
        now: Timestamp,
        programs: &'a mut [Program],
        spare: &'a mut Spare,
    ) -> Run<'a> {
        Run { plan, batch, now, programs, spare, escaped: None }
    }

    /// The live rows that match.
    pub(super) fn finish(mut self) -> crate::batch::Mask {
        let rows = self.batch.arena().spans().len();
        let mut live = self.spare.take(rows);
        live.fill(self.batch.live(), rows);
        let plan = self.plan;
        let found = self.node(&plan.root, &live);
        let mask = found.to_mask();
        self.spare.give(live);
        self.spare.give(found);
        if let Some(escaped) = self.escaped.take() {
            self.spare.give(escaped);
        }
        mask
    }

    fn empty(&mut self) -> Rows {
        self.spare.take(self.batch.arena().spans().len())
    }

    fn copy(&mut self, rows: &Rows) -> Rows {
        let mut copy = self.spare.take(0);
        copy.copy(rows);
        copy
    }

    /// The rows of `within` that match; as deep as the query is nested, which its parser bounds.
    fn node(&mut self, node: &Node, within: &Rows) -> Rows {
        match node {
            Node::All => self.copy(within),
            Node::Test(index) => {
                let plan = self.plan;
                let mut found = self.empty();
                self.condition(&plan.conditions[*index], within, &mut found);
                found
            }
            Node::Not(inner) => {
                let found = self.node(inner, within);
                let mut others = self.copy(within);
                others.remove(&found);
                self.spare.give(found);
                others
            }
            Node::And(parts) => {
                let mut left = self.copy(within);
                for part in parts {
                    if left.is_empty() {
                        break;
                    }
                    let found = self.node(part, &left);
                    self.spare.give(std::mem::replace(&mut left, found));
                }
                left
            }
            Node::Or(parts) => {
                let (mut left, mut all) = (self.copy(within), self.empty());
                for part in parts {
                    if left.is_empty() {
                        break;
                    }
                    let found = self.node(part, &left);
                    all.add(&found);
                    left.remove(&found);
                    self.spare.give(found);
                }
                self.spare.give(left);
                all
            }
        }
    }

    fn condition(&mut self, condition: &Condition, within: &Rows, found: &mut Rows) {
        match condition {
            Condition::Field(Place::Source | Place::Pipeline, _) => {
                // All rows have the same.
                let Some(row) = within.next(0) else { return };
                if condition.holds(Row::of(self.batch, row), self.now, self.programs) {
                    found.add(within);
                }
            }
            Condition::Line(search) if self.together(within, search) => self.search(search, within, found),
            Condition::Field(Place::Named(name), check) => match name.needle() {
                Some(needle) if self.is_worth(within) => {
                    self.field(condition, needle, check, within, found);
                }
                _ => self.one_by_one(condition, within, found),
            },
            _ => self.one_by_one(condition, within, found),
        }
    }

    fn one_by_one(&mut self, condition: &Condition, within: &Rows, found: &mut Rows) {
        let mut from = 0;
        while let Some(row) = within.next(from) {
            if condition.holds(Row::of(self.batch, row), self.now, self.programs) {
                found.set(row);
            }
            from = row + 1;
        }
    }

    /// Whether `search` may look at rows together, and it pays.
    fn together(&self, within: &Rows, search: &Search) -> bool {
        let may = match search {
            Search::Words(_, None) => false,
            Search::Words(..) | Search::Exact(_) => true,
            Search::Regex(index) => {
                self.batch.arena().framing() == Framing::Lines && self.programs[*index].is_local()
            }
        };
        may && self.is_worth(within)
    }

    /// Whether searching all that lies between the rows costs less than starting anew for each of them.
    fn is_worth(&self, within: &Rows) -> bool {
        let (count, Some((first, end))) = (within.count(), within.bounds()) else { return false };
        let spans = self.batch.arena().spans();
        let stretch = spans[end as usize - 1].end() - spans[first as usize].start();
        let average = stretch / (end - first) as usize;
        count >= TOGETHER_ROWS_MIN && count as usize * (average + ROW_COST_BYTES) >= stretch
    }

    fn search(&mut self, search: &Search, within: &Rows, found: &mut Rows) {
        let (batch, programs) = (self.batch, &mut *self.programs);
        match search {
            Search::Regex(index) => {
                let Some(bounds) = within.bounds() else { return };
                let program = &mut programs[*index];
                rows_with(batch, bounds, |text, from| program.find(text, from), |row| found.set(row));
                found.keep(within);
            }
            Search::Words(phrase, Some(anchor)) => {
                let find = |text: &[u8], from| anchor.find(text, from, programs);
                each_hit(batch, within, find, |row, line, hit| match anchor.check(phrase, line, hit) {
                    Ok(_) => {
                        found.set(row);
                        None
                    }
                    Err(next) => Some(next),
                });
            }
            Search::Exact(finder) => {
                let find = |text: &[u8], from| finder.find(text, from);
                each_hit(batch, within, find, |row, line, hit| {
                    if hit + finder.len() > line.len() {
                        return Some(hit + 1);
                    }
                    found.set(row);
                    None
                });
            }
            Search::Words(_, None) => {}
        }
    }

    /// Rows whose value can hold are those where the name's last part is followed by such a value, whatever object it
    /// is in, and those with escapes that may hide the name. They alone are walked through.
    fn field(
        &mut self,
        condition: &Condition,
        needle: &Finder,
        check: &Check,
        within: &Rows,
        found: &mut Rows,
    ) {
        let mut candidates = self.empty();
        let (batch, now) = (self.batch, self.now);
        let escaped = self.escaped.take().unwrap_or_else(|| {
            let mut live = self.empty();
            live.fill(batch.live(), batch.arena().spans().len());
            let mut escaped = self.empty();
            let backslash_u = memchr::memmem::Finder::new(b"\\u");
            let find = |text: &[u8], from: usize| Some(from + backslash_u.find(text.get(from..)?)?);
            each_hit(batch, &live, find, |row, _, _| {
                escaped.set(row);
                None
            });
            self.spare.give(live);
            escaped
        });
        let (programs, received) = (&mut *self.programs, batch.arena().received());
        let find = |text: &[u8], from| needle.find(text, from);
        each_hit(batch, within, find, |row, line, hit| {
            let end = hit + needle.len();
            if value_may(line, end, &mut |value| check.holds(value, received, now, programs)) {
                candidates.set(row);
                return None;
            }
            Some(hit + 1)
        });
        candidates.add(&escaped);
        candidates.keep(within);
        self.escaped = Some(escaped);
        self.one_by_one(condition, &candidates, found);
        self.spare.give(candidates);
    }
}

/// Longest logfmt value that is looked at before its line is walked through, in bytes: keys may stand in values, and
/// each of many must not read on to the end of a long one.
const PAIR_VALUE_MAX: usize = 256;

/// Whether a key that ends at `key_end` has a value for which `holds` may be true. Reads no byte of the line more than
/// a few times, however often it is asked.
fn value_may(line: &[u8], key_end: usize, holds: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    match line.get(key_end) {
        Some(b'"') => {
            let colon = skip_space(line, key_end + 1);
            if line.get(colon) != Some(&b':') {
                return false;
            }
            let start = skip_space(line, colon + 1);
            match line.get(start) {
                None => false,
                // What is inside has to be walked through, and may hold the key again and again.
                Some(b'[' | b'{') => true,
                Some(_) => value_end(line, start).is_some_and(|end| holds(Value::of(&line[start..end]))),
            }
        }
        Some(b'=') => {
            let start = key_end + 1;
            let near = &line[..line.len().min(start + PAIR_VALUE_MAX)];
            let is_cut = near.len() < line.len();
            if is_cut && near.get(start) == Some(&b'"') && string_end(near, start).is_none() {
                return true;
            }
            let (end, _) = pair_value_end(near, start);
            (is_cut && end == near.len()) || holds(Value::of_pair(&near[start..end]))
        }
        _ => false,
    }
}

/// Shows each hit of `find` that starts in a row of `within`: the row, its line, and where in it. `told` gives from
/// where on to look in the same line, or `None` when the row is done with.
fn each_hit(
    batch: &Batch,
    within: &Rows,
    mut find: impl FnMut(&[u8], usize) -> Option<usize>,
    mut told: impl FnMut(u32, &[u8], usize) -> Option<usize>,
) {
    let Some((first, end)) = within.bounds() else { return };
    let spans = &batch.arena().spans()[..end as usize];
    let text = &batch.arena().text()[..spans[end as usize - 1].end()];
    let (mut row, mut at) = (first as usize, spans[first as usize].start());
    while let Some(hit) = find(text, at) {
        row = row_of(spans, row, hit);
        let span = spans[row];
        if hit < span.start() || hit >= span.end() {
            // Between rows.
            at = hit + 1;
            continue;
        }
        let next = if within.has(row as u32) {
            told(row as u32, &text[span.start()..span.end()], hit - span.start())
        } else {
            None
        };
        at = match next {
            Some(next) => span.start() + next,
            None => match within.next(row as u32 + 1) {
                Some(next) => {
                    row = next as usize;
                    spans[row].start()
                }
                None => return,
            },
        };
    }
}
