//! What came out at a point, held against what a test expects there. Every expectation that does not hold is a
//! difference of its own, which says both sides.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Unreadable;
use super::compile::{Expected, Flow, Lines};
use super::course::{Fate, Stage};
use super::point::{Point, Spot};
use crate::config::Origin;

/// Something that is not as a test expects it.
#[derive(Debug)]
pub struct Difference {
    /// Where, as in "app.sinks.0".
    pub at: String,
    /// Where the expectation is written.
    pub origin: Origin,
    /// What is wrong.
    pub message: String,
    /// What should have been there, where that was said line by line.
    pub expected: Option<Vec<Vec<u8>>>,
    /// What was there.
    pub got: Vec<Vec<u8>>,
}

/// Holds what is there against an expectation; `read` gets the lines of a file that it names.
pub(super) fn judge(
    expected: &Expected,
    stages: &[Stage],
    lines: &[Vec<u8>],
    read: &impl Fn(&Lines) -> Result<Vec<Vec<u8>>, Unreadable>,
) -> Result<Vec<Difference>, Unreadable> {
    let got = match &expected.flow {
        Flow::Out => came_out(stages, expected.point),
        Flow::Dropped(reason) => dropped(stages, expected.point, reason.as_deref(), lines),
    };
    let verb = match &expected.flow {
        Flow::Out => "came out".to_owned(),
        Flow::Dropped(None) => "dropped".to_owned(),
        Flow::Dropped(Some(reason)) => format!("dropped as `{reason}`"),
    };
    let mut found: Vec<(String, Option<Vec<Vec<u8>>>)> = Vec::new();
    if let Some(wanted) = &expected.lines {
        let wanted = read(wanted)?;
        if wanted != got {
            found.push((against(&wanted, &got, &verb), Some(wanted)));
        }
    }
    if let Some(wanted) = &expected.json {
        found.extend(json(wanted, &got, &verb));
    }
    if let Some(count) = expected.count.filter(|count| *count != got.len() as u64) {
        found.push((
            format!("expected {}, but {} {verb}", lines_of(count as usize), lines_of(got.len())),
            None,
        ));
    }
    let is_in = |text: &String| got.iter().any(|line| memchr::memmem::find(line, text.as_bytes()).is_some());
    let verb = verb.as_str();
    let missing = expected.contains.iter().filter(|text| !is_in(text));
    found.extend(missing.map(|text| (format!("no line that {verb} contains {text:?}"), None)));
    let surplus = expected.lacks.iter().filter(|text| is_in(text));
    found.extend(surplus.map(|text| (format!("a line that {verb} contains {text:?}"), None)));
    let unmatched = expected.matches.iter().filter(|(_, regex)| !got.iter().any(|line| regex.is_match(line)));
    found.extend(unmatched.map(|(text, _)| (format!("no line that {verb} matches /{text}/"), None)));
    let difference = |(message, wanted)| Difference {
        at: expected.at.clone(),
        origin: expected.origin.clone(),
        message,
        expected: wanted,
        got: got.clone(),
    };
    Ok(found.into_iter().map(difference).collect())
}

/// "1 line", "no lines".
fn lines_of(count: usize) -> String {
    match count {
        0 => "no lines".to_owned(),
        1 => "1 line".to_owned(),
        n => format!("{n} lines"),
    }
}

fn against(wanted: &[Vec<u8>], got: &[Vec<u8>], verb: &str) -> String {
    match (wanted.len(), got.len()) {
        (w, g) if w != g => format!("expected {}, but {} {verb}", lines_of(w), lines_of(g)),
        _ => {
            let sorted = |lines: &[Vec<u8>]| {
                let mut lines = lines.to_vec();
                lines.sort();
                lines
            };
            let what =
                if sorted(wanted) == sorted(got) { "in another order" } else { "others than expected" };
            format!("the lines that {verb} are {what}")
        }
    }
}

/// The stage at a point.
fn stage(stages: &[Stage], point: Point) -> Option<&Stage> {
    stages.iter().find(|stage| stage.point == point)
}

fn came_out(stages: &[Stage], point: Point) -> Vec<Vec<u8>> {
    let stage = match point.spot {
        Spot::Whole => last_of_chain(stages, point),
        _ => stage(stages, point),
    };
    stage.map(|stage| stage.outs.iter().map(|out| out.text.clone()).collect()).unwrap_or_default()
}

/// What the sinks of a pipeline get is what its last filter lets through, or else its limit.
fn last_of_chain(stages: &[Stage], point: Point) -> Option<&Stage> {
    let own = |spot: fn(Spot) -> bool| {
        stages.iter().rfind(move |s| s.point.pipeline == point.pipeline && spot(s.point.spot))
    };
    own(|spot| matches!(spot, Spot::Filter(_)))
        .or_else(|| own(|spot| spot == Spot::RateLimit))
        .or_else(|| own(|spot| matches!(spot, Spot::Source(_))))
}

/// The lines that are gone at a point, in the order in which they came in.
fn dropped(stages: &[Stage], point: Point, reason: Option<&str>, lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let belongs = |stage: &&Stage| {
        let there = stage.point;
        there.pipeline == point.pipeline
            && match (point.spot, there.spot) {
                (Spot::Whole, spot) => matches!(spot, Spot::RateLimit | Spot::Filter(_)),
                (Spot::Sink(sink), Spot::SinkFilter(of, _) | Spot::When(of)) => sink == of,
                (spot, other) => spot == other,
            }
    };
    let gone = stages.iter().filter(belongs).flat_map(|stage| &stage.fates).filter(|(_, fate)| match fate {
        Fate::Dropped(why) => reason.is_none_or(|reason| reason == *why),
        _ => false,
    });
    let numbers: BTreeSet<usize> = gone.map(|(line, _)| *line).collect();
    numbers.into_iter().filter_map(|line| lines.get(line).cloned()).collect()
}

fn json(wanted: &[Value], got: &[Vec<u8>], verb: &str) -> Option<(String, Option<Vec<Vec<u8>>>)> {
    let shown = |value: &Value| value.to_string().into_bytes();
    let all = || Some(wanted.iter().map(shown).collect());
    if wanted.len() != got.len() {
        let message = format!("expected {}, but {} {verb}", lines_of(wanted.len()), lines_of(got.len()));
        return Some((message, all()));
    }
    for (number, (wanted, got)) in wanted.iter().zip(got).enumerate() {
        let number = number + 1;
        let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(got) else {
            return Some((format!("line {number} is no JSON object"), all()));
        };
        if let Some(why) = lacks(wanted, &Value::Object(object)) {
            return Some((format!("line {number}: {why}"), all()));
        }
    }
    None
}

/// The first member of `wanted` that `got` does not have, or has otherwise.
fn lacks(wanted: &Value, got: &Value) -> Option<String> {
    let (Value::Object(wanted), Value::Object(got)) = (wanted, got) else {
        return (!same(wanted, got)).then(|| format!("expected {wanted}, got {got}"));
    };
    wanted.iter().find_map(|(key, wanted)| match got.get(key) {
        None => Some(format!("it has no {key:?}")),
        Some(got) => lacks(wanted, got).map(|why| format!("{key:?}: {why}")),
    })
}

/// Equal, numbers by their value.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}
