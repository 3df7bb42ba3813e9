//! Carrying a query out: on the rows of a batch, or on one line.

use std::ops::ControlFlow;

use super::Query;
use super::fields::{self, Value};
use super::patterns::Program;
use super::plan::{Check, Condition, Node, Place};
use super::streaming::{Run, Spare};
use crate::batch::{Batch, Level, Mask, Timestamp, detect};

/// Runs a query. Owns what searching remembers: one per task; clone it for another.
#[derive(Debug, Clone)]
pub struct Matcher {
    query: Query,
    programs: Vec<Program>,
    spare: Spare,
}

/// A row to look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    line: &'a [u8],
    seat: Seat<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Seat<'a> {
    In(&'a Batch, u32),
    /// Outside any batch; received then.
    Alone(Timestamp),
}

impl<'a> Row<'a> {
    pub(super) fn of(batch: &'a Batch, row: u32) -> Row<'a> {
        Row { line: batch.line(row), seat: Seat::In(batch, row) }
    }

    fn level(self) -> Option<Level> {
        match self.seat {
            Seat::In(batch, row) => batch.level(row),
            Seat::Alone(_) => detect::detect_level(self.line),
        }
    }

    fn timestamp(self) -> Timestamp {
        match self.seat {
            Seat::In(batch, row) => batch.timestamp(row),
            Seat::Alone(received) => detect::detect_timestamp(self.line, received).unwrap_or(received),
        }
    }

    fn received(self) -> Timestamp {
        match self.seat {
            Seat::In(batch, _) => batch.arena().received(),
            Seat::Alone(received) => received,
        }
    }

    /// Shows every value that the row has at `place`.
    fn visit(self, place: &Place, visit: &mut dyn FnMut(Value<'a>) -> ControlFlow<()>) -> ControlFlow<()> {
        match (place, self.seat) {
            (Place::Source, Seat::In(batch, _)) => {
                visit(Value::Bare(batch.arena().origin().label().as_bytes()))
            }
            (Place::Pipeline, Seat::In(batch, _)) => {
                let component = batch.arena().origin().component();
                visit(Value::Bare(component.split('.').next().unwrap_or(component).as_bytes()))
            }
            // A line from elsewhere may say so itself.
            (Place::Source, Seat::Alone(_)) => fields::visit(self.line, b"source", visit),
            (Place::Pipeline, Seat::Alone(_)) => fields::visit(self.line, b"pipeline", visit),
            (Place::Named(name), _) => fields::visit(self.line, name.as_bytes(), visit),
            (Place::Message, _) => {
                let mut has = false;
                fields::visit(self.line, b"message", &mut |value| {
                    has = true;
                    visit(value)
                })?;
                if has { ControlFlow::Continue(()) } else { visit(Value::Bare(self.line)) }
            }
        }
    }
}

impl Check {
    pub(super) fn holds(
        &self,
        value: Value<'_>,
        received: Timestamp,
        now: Timestamp,
        programs: &mut [Program],
    ) -> bool {
        match self {
            Check::Present => !value.is_null(),
            Check::Has(search) => search.is_in(&value.text(), programs),
            Check::Is(equal, search) => {
                let text = value.text();
                let decided = equal.decides(&text);
                decided.unwrap_or_else(|| search.as_ref().is_some_and(|search| search.is_in(&text, programs)))
            }
            Check::Between(between) => match value {
                Value::Object(_) => false,
                value => between.holds(&value.text(), received, now),
            },
        }
    }
}

impl Condition {
    pub(super) fn holds(&self, row: Row<'_>, now: Timestamp, programs: &mut [Program]) -> bool {
        match self {
            Condition::Line(search) => search.is_in(row.line, programs),
            Condition::Level(bits) => row.level().is_some_and(|level| bits >> level as u8 & 1 == 1),
            Condition::Time(between) => between.holds_time(row.timestamp(), now),
            Condition::Field(place, check) => {
                let received = row.received();
                let visited = row.visit(place, &mut |value| {
                    if check.holds(value, received, now, programs) {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                });
                visited.is_break()
            }
        }
    }
}

fn holds(
    node: &Node,
    conditions: &[Condition],
    row: Row<'_>,
    now: Timestamp,
    programs: &mut [Program],
) -> bool {
    match node {
        Node::All => true,
        Node::Test(index) => conditions[*index].holds(row, now, programs),
        Node::Not(inner) => !holds(inner, conditions, row, now, programs),
        Node::And(parts) => parts.iter().all(|part| holds(part, conditions, row, now, programs)),
        Node::Or(parts) => parts.iter().any(|part| holds(part, conditions, row, now, programs)),
    }
}

impl Matcher {
    pub(super) fn new(query: Query) -> Matcher {
        let programs = query.plan().programs.clone();
        Matcher { query, programs, spare: Spare::default() }
    }

    /// The query.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// Clears the rows of the batch's selection that do not match. `now` decides what `now-15m` is.
    pub fn keep(&mut self, batch: &mut Batch, now: jiff::Timestamp) {
        let mask = self.mask(batch, now);
        batch.narrow(mask);
    }

    /// The live rows of a batch that match.
    pub fn mask(&mut self, batch: &Batch, now: jiff::Timestamp) -> Mask {
        let now = nanos(now);
        let Matcher { query, programs, spare } = self;
        Run::new(query.plan(), batch, now, programs, spare).finish()
    }

    /// Whether one line outside a batch matches. `received` stands in for its time where it has none, and is now.
    pub fn matches(&mut self, line: &[u8], received: jiff::Timestamp) -> bool {
        let now = nanos(received);
        let row = Row { line, seat: Seat::Alone(now) };
        let plan = self.query.plan();
        holds(&plan.root, &plan.conditions, row, now, &mut self.programs)
    }
}

/// Clamped to what a timestamp holds.
fn nanos(at: jiff::Timestamp) -> Timestamp {
    let limit = if at.as_second() < 0 { i64::MIN } else { i64::MAX };
    Timestamp(i64::try_from(at.as_nanosecond()).unwrap_or(limit))
}
