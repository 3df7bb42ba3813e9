//! Results for people: a line for each test; for one that failed, what was expected and what came, and what each
//! stage made of each line, side by side.

use std::fmt::Write;

use super::lines::{Edit, compare};
use super::{Run, place};
use crate::cli::terminal::Terminal;
use crate::codec::terminal::harmless_into;
use crate::engine::trial::{Difference, Fate, Spot, Stage, TrialReport};

/// Lines shown of a comparison, and of a table.
const SHOWN_MAX: usize = 60;
/// Lines shown of what came, where nobody said which should have.
const SAMPLE_MAX: usize = 12;
/// Columns that a line of the input takes at least and at most.
const LINE_COLUMNS: (usize, usize) = (16, 60);

/// A colour, by what it says.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.trim().is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }
}

/// The whole run.
pub(super) fn render(run: &Run, terminal: Terminal) -> String {
    let paint = Paint(terminal.color_stdout);
    let mut out = String::new();
    for report in &run.reports {
        let passed = report.differences.is_empty();
        let verdict = if passed { paint.good("ok  ") } else { paint.bad("FAIL") };
        let place = paint.faint(&format!("({})", place(&report.origin)));
        writeln!(out, "{verdict}  {}  {place}", paint.bold(&visible(report.name.as_bytes()))).ok();
        for difference in &report.differences {
            describe(difference, paint, &mut out);
        }
        if !passed || run.verbose {
            out.push('\n');
            table(report, paint, terminal.width, &mut out);
            out.push('\n');
        }
    }
    let failed = run.failed();
    let tests = |n: usize| format!("{n} test{}", if n == 1 { "" } else { "s" });
    let verdict = match failed {
        0 => paint.good(&format!("{} passed", tests(run.reports.len()))),
        n => paint.bad(&format!("{n} of {} failed", tests(run.reports.len()))),
    };
    let left_out =
        if run.left_out > 0 { format!(", {} left out by --filter", run.left_out) } else { String::new() };
    writeln!(out, "{verdict}{left_out}").ok();
    out
}

/// A line of a log as it may be shown on a terminal.
fn visible(line: &[u8]) -> String {
    let mut out = Vec::new();
    harmless_into(&mut out, line, false);
    String::from_utf8_lossy(&out).replace('\t', "    ").replace('\r', "\\r")
}

fn describe(difference: &Difference, paint: Paint, out: &mut String) {
    let at = format!("({})", place(&difference.origin));
    writeln!(out, "\n      {}: {}  {}", difference.at, difference.message, paint.faint(&at)).ok();
    let edits = match &difference.expected {
        Some(expected) => compare(expected, &difference.got),
        None => difference.got.iter().map(|line| Edit::Same(line)).collect(),
    };
    if difference.expected.is_none() && edits.is_empty() {
        return;
    }
    let changed = |edit: &Edit<'_>| !matches!(edit, Edit::Same(_));
    // Around the first change, if not all can be shown.
    let first = edits.iter().position(changed).unwrap_or(0);
    let shown_max = if difference.expected.is_some() { SHOWN_MAX } else { SAMPLE_MAX };
    let from = if edits.len() > shown_max { first.saturating_sub(3) } else { 0 };
    if from > 0 {
        writeln!(out, "          {}", paint.faint(&format!("… {from} before"))).ok();
    }
    for edit in edits.iter().skip(from).take(shown_max) {
        let text = match edit {
            Edit::Same(line) => format!("  {}", visible(line)),
            Edit::Missing(line) => paint.bad(&format!("- {}", visible(line))),
            Edit::Surplus(line) => paint.good(&format!("+ {}", visible(line))),
        };
        writeln!(out, "        {text}").ok();
    }
    if let more @ 1.. = edits.len().saturating_sub(from + shown_max) {
        writeln!(out, "          {}", paint.faint(&format!("… {more} more"))).ok();
    }
    if edits.iter().any(changed) {
        let legend = "- expected, did not come   + came, not expected";
        writeln!(out, "        {}", paint.faint(legend)).ok();
    }
}

/// A column of the table.
struct Column<'a> {
    heads: [String; 2],
    stage: &'a Stage,
    width: usize,
}

/// What each stage did with each line. Stages that do not fit beside each other go below.
fn table(report: &TrialReport, paint: Paint, width: usize, out: &mut String) {
    let several = report.stages.iter().any(|s| s.point.pipeline != report.stages[0].point.pipeline);
    let shown = report.stages.iter().filter(|stage| !matches!(stage.point.spot, Spot::Source(_)));
    let mut columns: Vec<Column<'_>> = shown.map(|stage| column(stage, several)).collect();
    let lines: Vec<String> = report.lines.iter().take(SHOWN_MAX).map(|line| visible(line)).collect();
    let number_width = lines.len().to_string().len();
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let all: usize = columns.iter().map(|column| column.width + 2).sum();
    let room = width.saturating_sub(all + number_width + 7).clamp(LINE_COLUMNS.0, LINE_COLUMNS.1);
    let line_width = longest.min(room).max("line".len());
    let left = number_width + line_width + 7;
    while !columns.is_empty() {
        let mut used = left;
        let fits = columns.iter().take_while(|column| {
            used += column.width + 2;
            used <= width
        });
        let count = fits.count().max(1);
        let part: Vec<Column<'_>> = columns.drain(..count).collect();
        for row in 0..2 {
            let name = if row == 0 { "line" } else { "" };
            let heads: String = part.iter().map(|c| format!("  {:<1$}", c.heads[row], c.width)).collect();
            let text = format!("      {:number_width$} {name:<line_width$}{heads}", "");
            writeln!(out, "{}", paint.faint(text.trim_end())).ok();
        }
        for (number, line) in lines.iter().enumerate() {
            let cells: String = part.iter().map(|column| cell(column, number, paint)).collect();
            let shown = shortened(line, line_width);
            let text = format!("      {:>number_width$} {shown:<line_width$}{cells}", number + 1);
            writeln!(out, "{}", text.trim_end()).ok();
        }
        if let more @ 1.. = report.lines.len().saturating_sub(lines.len()) {
            writeln!(out, "      {}", paint.faint(&format!("… {more} more lines"))).ok();
        }
        if !columns.is_empty() {
            out.push('\n');
        }
    }
}

fn column(stage: &Stage, several: bool) -> Column<'_> {
    let within = stage.at.split_once('.').map_or(stage.at.as_str(), |(_, rest)| rest);
    let name = if several { stage.at.clone() } else { within.to_owned() };
    let heads =
        [name, if stage.point.spot == Spot::RateLimit { String::new() } else { stage.type_name.to_owned() }];
    let words = stage.fates.iter().map(|(_, fate)| word(stage, fate).len());
    let width = words.chain(heads.iter().map(String::len)).max().unwrap_or(0);
    Column { heads, stage, width }
}

fn word(stage: &Stage, fate: &Fate) -> &'static str {
    match fate {
        Fate::Passed if matches!(stage.point.spot, Spot::Sink(_)) => "written",
        Fate::Passed => "kept",
        Fate::Held => "held",
        Fate::Dropped(reason) => reason,
    }
}

fn cell(column: &Column<'_>, line: usize, paint: Paint) -> String {
    // A line may come twice, by two ways.
    let mut fates = column.stage.fates.iter().filter(|(number, _)| *number == line).map(|(_, fate)| fate);
    let fate = fates.clone().find(|fate| **fate == Fate::Passed).or_else(|| fates.next());
    let text = format!("{:<1$}", fate.map_or("", |fate| word(column.stage, fate)), column.width);
    let painted = match fate {
        Some(Fate::Passed) => paint.good(&text),
        Some(Fate::Dropped(_)) => paint.bad(&text),
        _ => text,
    };
    format!("  {painted}")
}

fn shortened(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}
