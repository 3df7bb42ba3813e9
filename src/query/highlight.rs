//! What a query found in a line, to be marked for the reader: where its words, expressions and field values stand.

use std::ops::{ControlFlow, Range};

use super::Query;
use super::fields;
use super::patterns::Program;
use super::plan::{Check, Condition, Node, Place};
use super::search::Search;
use crate::batch::Timestamp;

/// Most ranges of one line.
const RANGES_MAX: usize = 1_000;

/// Marks what a query looks for; conditions under NOT mark nothing. Owns what searching remembers: one per task.
#[derive(Debug, Clone)]
pub struct Highlights {
    query: Query,
    programs: std::cell::RefCell<Vec<Program>>,
}

impl Highlights {
    pub(super) fn new(query: Query) -> Highlights {
        let programs = std::cell::RefCell::new(query.plan().programs.clone());
        Highlights { query, programs }
    }

    /// Fills `out` with what to mark in `line`: ascending byte ranges that neither touch nor overlap, a thousand at
    /// most.
    pub fn ranges(&self, line: &[u8], out: &mut Vec<Range<usize>>) {
        out.clear();
        let plan = self.query.plan();
        mark(&plan.root, &plan.conditions, line, &mut self.programs.borrow_mut(), out);
        out.sort_by_key(|range| (range.start, range.end));
        out.dedup_by(|later, earlier| {
            let touches = later.start <= earlier.end;
            earlier.end = if touches { earlier.end.max(later.end) } else { earlier.end };
            touches
        });
    }
}

fn mark(
    node: &Node,
    conditions: &[Condition],
    line: &[u8],
    programs: &mut [Program],
    out: &mut Vec<Range<usize>>,
) {
    match node {
        Node::All | Node::Not(_) => {}
        Node::And(parts) | Node::Or(parts) => {
            parts.iter().for_each(|part| mark(part, conditions, line, programs, out));
        }
        Node::Test(index) => match &conditions[*index] {
            Condition::Line(search) => all(search, line, 0, programs, out),
            Condition::Field(Place::Named(name), check) => {
                in_field(name.as_bytes(), check, line, programs, out)
            }
            Condition::Field(Place::Message, check) => in_field(b"message", check, line, programs, out),
            Condition::Field(Place::Source | Place::Pipeline, _)
            | Condition::Level(_)
            | Condition::Time(_) => {}
        },
    }
}

/// Every match in `text`, which stands at `base` of the line.
fn all(search: &Search, text: &[u8], base: usize, programs: &mut [Program], out: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while out.len() < RANGES_MAX
        && let Some(found) = search.find(text, at, programs)
    {
        at = found.end.max(found.start + 1);
        if !found.is_empty() {
            out.push(base + found.start..base + found.end);
        }
        if at > text.len() {
            break;
        }
    }
}

fn in_field(name: &[u8], check: &Check, line: &[u8], programs: &mut [Program], out: &mut Vec<Range<usize>>) {
    let _all_seen = fields::visit(line, name, &mut |value| {
        let text = value.text();
        // Text without escapes is part of the line, and its place known.
        let std::borrow::Cow::Borrowed(text) = text else { return ControlFlow::Continue(()) };
        let base = text.as_ptr() as usize - line.as_ptr() as usize;
        match check {
            Check::Has(search) | Check::Is(_, Some(search)) => all(search, text, base, programs, out),
            Check::Present => {}
            check => {
                // Times relative to now are marked whenever they are times at all.
                if check.holds(value, Timestamp(0), Timestamp(0), programs) && !text.is_empty() {
                    out.push(base..base + text.len());
                }
            }
        }
        ControlFlow::Continue(())
    });
}
