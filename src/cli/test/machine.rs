//! Results for programs: JSON with all that is known, and the XML that continuous integration reads (the form of
//! JUnit's reports, as the `jenkins` schema has it).

use serde_json::{Value, json};

use super::{Run, place};
use crate::config::Origin;
use crate::engine::trial::{Difference, Fate, Stage, TrialReport};

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

fn texts(lines: &[Vec<u8>]) -> Vec<String> {
    lines.iter().map(|line| text(line)).collect()
}

fn position(origin: &Origin) -> Value {
    match origin.file_position() {
        Some((file, line, column)) => json!({ "file": file, "line": line, "column": column }),
        None => Value::Null,
    }
}

fn difference(difference: &Difference) -> Value {
    json!({
        "at": difference.at,
        "origin": position(&difference.origin),
        "message": difference.message,
        "expected": difference.expected.as_deref().map(texts),
        "got": texts(&difference.got),
    })
}

/// Lines are named by their number in `lines`, from 0.
fn stage(stage: &Stage) -> Value {
    let of = |wanted: &Fate| {
        let lines = stage.fates.iter().filter(|(_, fate)| fate == wanted).map(|(line, _)| *line);
        lines.collect::<Vec<_>>()
    };
    let dropped = stage.fates.iter().filter_map(|(line, fate)| match fate {
        Fate::Dropped(reason) => Some(json!({ "line": line, "reason": reason })),
        _ => None,
    });
    json!({
        "at": stage.at,
        "type": stage.type_name,
        "passed": of(&Fate::Passed),
        "dropped": dropped.collect::<Vec<_>>(),
        "out": stage.outs.iter().map(|out| text(&out.text)).collect::<Vec<_>>(),
    })
}

/// One object: the counts, and every test; stages of those that failed, or of all if that was asked for.
pub(super) fn json(run: &Run) -> Value {
    let test = |report: &TrialReport| {
        let passed = report.differences.is_empty();
        let mut value = json!({
            "name": report.name,
            "origin": position(&report.origin),
            "passed": passed,
            "differences": report.differences.iter().map(difference).collect::<Vec<_>>(),
        });
        if !passed || run.verbose {
            value["lines"] = texts(&report.lines).into();
            value["stages"] = report.stages.iter().map(stage).collect();
        }
        value
    };
    json!({
        "passed": run.reports.len() - run.failed(),
        "failed": run.failed(),
        "left_out": run.left_out,
        "tests": run.reports.iter().map(test).collect::<Vec<_>>(),
    })
}

/// A `testsuites` document with one suite.
pub(super) fn junit(run: &Run) -> String {
    let counts = format!("tests=\"{}\" failures=\"{}\"", run.reports.len(), run.failed());
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite name=\"weir\" {counts}>\n"
    );
    for report in &run.reports {
        let file = report.origin.file_position().map_or("", |(file, _, _)| file);
        let line = report.origin.file_position().map_or(0, |(_, line, _)| line);
        out.push_str(&format!(
            "    <testcase name=\"{}\" classname=\"{file}\" file=\"{file}\" line=\"{line}\"",
            xml(&report.name),
            file = xml(file)
        ));
        if report.differences.is_empty() {
            out.push_str("/>\n");
            continue;
        }
        out.push_str(">\n");
        for d in &report.differences {
            let expected =
                d.expected.as_deref().map(texts).map(|lines| format!("expected:\n{}\n", lines.join("\n")));
            let body = format!(
                "{}\n{}got:\n{}\n",
                place(&d.origin),
                expected.unwrap_or_default(),
                texts(&d.got).join("\n")
            );
            let message = xml(&format!("{}: {}", d.at, d.message));
            out.push_str(&format!("      <failure message=\"{message}\">{}</failure>\n", xml(&body)));
        }
        out.push_str("    </testcase>\n");
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

/// Escaped; characters that XML 1.0 has no way to write become U+FFFD.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_has_no_character_it_may_not_have() {
        assert_eq!(xml("a<b>&\"\u{1b}\n\u{0}é"), "a&lt;b&gt;&amp;&quot;\u{fffd}\n\u{fffd}é");
    }
}
