//! `weir test`: lines through the real limits and filters of a plan, under a clock that stands still, with what
//! came out and what was dropped held against what a test expects. No source runs, no sink opens anything.

pub(super) mod compile;
mod course;
mod judge;
mod point;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::Path;

pub use compile::Trial;
pub use course::{Fate, Out, Stage};
pub use judge::Difference;
pub use point::{Point, Spot};

use self::compile::Lines;
use self::course::Course;
use super::plan::Plan;
use crate::base::{clock, rng};
use crate::config::Origin;

/// The most lines that the inputs of a test may have.
const LINES_MAX: usize = 1_000_000;
/// The most bytes of a file that a test names.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// What filters that draw lots would draw from: the same in every run.
const SEED: u64 = 1;

/// What a test found.
#[derive(Debug)]
pub struct TrialReport {
    /// Its name.
    pub name: String,
    /// Where it is written.
    pub origin: Origin,
    /// What is not as expected; none if it passed.
    pub differences: Vec<Difference>,
    /// The lines that went in.
    pub lines: Vec<Vec<u8>>,
    /// Every stage that a line came to, in the order of the flow.
    pub stages: Vec<Stage>,
}

/// A test that could not be run: a file that it names.
#[derive(Debug)]
pub struct Unreadable {
    /// What is the matter, with the path.
    pub why: String,
    /// Where the path is written.
    pub origin: Origin,
}

/// Runs a test of the plan. Reads the files that it names, and does no other I/O; takes no time but for computing.
///
/// # Errors
/// When a file that it names cannot be read or holds too much.
pub fn run(plan: &Plan, trial: &Trial) -> Result<TrialReport, Unreadable> {
    rng::simulate(SEED);
    let clock = clock::Simulation::begin(trial.begins);
    let mut course = Course::new(plan, clock);
    let mut lines = Vec::new();
    for input in &trial.inputs {
        course.wait(input.after);
        let file = match &input.lines {
            Lines::File(path, _) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
            Lines::Inline(_) => None,
        };
        let label = input.source.clone().or(file).unwrap_or_else(|| course.label(input.point).to_owned());
        for line in read(&input.lines)? {
            if lines.len() == LINES_MAX {
                let (why, origin) =
                    (format!("too many lines: a test takes {LINES_MAX}"), trial.origin.clone());
                return Err(Unreadable { why, origin });
            }
            course.insert(input.point, &line, &label);
            lines.push(line);
        }
    }
    // What filters keep back is let go as time passes, at the latest at the end.
    let stages = course.finish();
    let mut differences = Vec::new();
    for expected in &trial.expected {
        differences.extend(judge::judge(expected, &stages, &lines, &read)?);
    }
    let seen = |stage: &Stage| !stage.fates.is_empty() || !stage.outs.is_empty();
    let stages = stages.into_iter().filter(seen).collect();
    Ok(TrialReport { name: trial.name.clone(), origin: trial.origin.clone(), differences, lines, stages })
}

fn read(lines: &Lines) -> Result<Vec<Vec<u8>>, Unreadable> {
    match lines {
        Lines::Inline(lines) => Ok(lines.clone()),
        Lines::File(path, origin) => bounded(path)
            .map(|bytes| compile::split(&bytes))
            .map_err(|why| Unreadable { why, origin: origin.clone() }),
    }
}

fn bounded(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |e: std::io::Error| format!("cannot read {}: {e}", path.display());
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{} is too long for a test: 64MiB is the most", path.display()));
    }
    Ok(bytes)
}
