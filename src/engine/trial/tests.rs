//! Tests of the tests: each kind of expectation holds and fails when it should, time passes only when it is told to,
//! and a plan that is tested reads and opens nothing.

use super::*;
use crate::config::{Diagnostics, Source, toml_file::parse_file};
use crate::engine::plan;

/// The differences that each test of a configuration finds, or the complaints about it.
fn differences(config: &str) -> Result<Vec<Vec<String>>, Vec<String>> {
    let mut diags = Diagnostics::new();
    let tree = parse_file(&Source::file("t.toml", config), &mut diags);
    let Some(plan) = plan(&tree, &mut diags) else {
        return Err(diags.items().iter().map(|d| format!("{} {}", d.origin, d.message)).collect());
    };
    let found = |trial| {
        let report = run(&plan, trial).unwrap();
        report.differences.iter().map(|d| format!("{}: {}", d.at, d.message)).collect()
    };
    Ok(plan.trials.iter().map(found).collect())
}

const APP: &str = r#"
[[pipelines]]
name = "app"
rate_limit = { events_per_second = 1000, max_event_size = "40B" }
sources = [{ type = "stdin" }, { type = "file", path = "/nonexistent/*.log" }]
filters = [{ type = "level", min = "info" }, { type = "dedupe", window = "30s" }]

[[pipelines.sinks]]
type = "console"

[[pipelines.sinks]]
type = "file"
path = "/nonexistent/out/errors.log"
format = { type = "json" }
filters = [{ type = "level", min = "error" }]

[[pipelines.sinks]]
type = "pipeline"
name = "audit"

[[pipelines]]
name = "audit"
sources = [{ type = "pipeline" }]
filters = [{ type = "exclude", patterns = ["secret"] }]
sinks = [{ type = "http_client", url = "http://192.0.2.1:9", format = { type = "text", template = "{source}|{message}" } }]

[[tests]]
name = "t"
now = "2026-11-21T10:00:00Z"
"#;

fn app(test: &str) -> Vec<String> {
    differences(&format!("{APP}{test}")).unwrap().remove(0)
}

const INPUTS: &str = r#"inputs = [
  { at = "app", lines = ["INFO a", "DEBUG b", "ERROR c", "INFO a", "INFO secret"] },
  { at = "app.sources.file", after = "30s", text = "INFO a\nERROR this is much longer than forty bytes can be\n" },
]
"#;

#[test]
fn what_holds_is_no_difference() {
    let found = app(&format!(
        "{INPUTS}{}",
        r#"
outputs = [
  { at = "app.sinks.0", lines = ["INFO a", "ERROR c", "INFO secret", "INFO a"] },
  { at = "app.sinks.file", json = [{ level = "error", source = "stdin", timestamp = "2026-11-21T10:00:00.000Z" }] },
  { at = "audit.sinks.0", lines = ["stdin|INFO a", "stdin|ERROR c", "file|INFO a"] },
  { at = "app.filters.level", count = 5, contains = ["secret"], lacks = ["DEBUG"], matches = ["^ERROR c$"] },
  { at = "app.sources.1", count = 2 },
  { at = "app.rate_limit", count = 6 },
  { at = "app", count = 4 },
]
drops = [
  { at = "app.filters.0", lines = ["DEBUG b"], reason = "filtered" },
  { at = "app", contains = ["much longer"], count = 1, reason = "oversize" },
  { at = "app", count = 3 },
  { at = "app.sinks.1", count = 3 },
  { at = "audit.filters.0", lines = ["INFO secret"] },
  { at = "app.sinks.0", none = true },
]"#
    ));
    assert_eq!(found, [""; 0]);
}

#[test]
fn what_does_not_hold_is_said_with_its_place() {
    let found = app(&format!(
        "{INPUTS}{}",
        r#"
outputs = [
  { at = "app.sinks.0", lines = ["INFO a"] },
  { at = "app.sinks.0", lines = ["ERROR c", "INFO a", "INFO a", "INFO secret"] },
  { at = "app.sinks.0", lines = ["x", "INFO a", "INFO a", "INFO secret"] },
  { at = "app.sinks.1", json = [{ level = "warn" }] },
  { at = "app.sinks.1", json = [{ nested = { a = 1 } }] },
  { at = "app.sinks.0", json = [{}, {}, {}, {}] },
  { at = "app.filters.0", count = 4, contains = ["zzz"], lacks = ["secret"], matches = ["^c"] },
  { at = "audit", none = true },
]
drops = [{ at = "app.filters.0", lines = [], reason = "throttled" }, { at = "app.filters.1", count = 2 }]"#
    ));
    assert_eq!(
        found,
        [
            "app.sinks.0: expected 1 line, but 4 lines came out",
            "app.sinks.0: the lines that came out are in another order",
            "app.sinks.0: the lines that came out are others than expected",
            "app.sinks.1: line 1: \"level\": expected \"warn\", got \"error\"",
            "app.sinks.1: line 1: it has no \"nested\"",
            "app.sinks.0: line 1 is no JSON object",
            "app.filters.0: expected 4 lines, but 5 lines came out",
            "app.filters.0: no line that came out contains \"zzz\"",
            "app.filters.0: a line that came out contains \"secret\"",
            "app.filters.0: no line that came out matches /^c/",
            "audit: expected no lines, but 3 lines came out",
            "app.filters.1: expected 2 lines, but 1 line dropped",
        ]
    );
}

#[test]
fn time_stands_still_for_throttle_and_limit_and_moves_when_told() {
    let config = r#"
[[pipelines]]
name = "a"
rate_limit = { events_per_second = 10, burst = 4, policy = "drop" }
sources = [{ type = "stdin" }]
filters = [{ type = "throttle", events_per_second = 1, burst = 2, key = "k" }, { type = "sample", one_in = 2 }]
sinks = [{ type = "null" }]
[[tests]]
name = "t"
inputs = [
  { lines = ["k=1 a", "k=1 b", "k=1 c", "k=2 d", "k=2 e"] },
  { lines = ["k=1 f", "k=1 g"], after = "1s" },
]
outputs = [{ at = "a.filters.throttle", lines = ["k=1 a", "k=1 b", "k=2 d", "k=1 f"] }, { lines = ["k=1 a", "k=2 d"] }]
drops = [
  { lines = ["k=2 e"], reason = "rate_limit" },
  { lines = ["k=1 c", "k=1 g"], reason = "throttled" },
  { lines = ["k=1 b", "k=1 f"], reason = "filtered" },
]"#;
    let started = clock::now();
    for _ in 0..3 {
        assert_eq!(differences(config).unwrap(), [[""; 0]]);
    }
    assert!(clock::now() >= started, "the clock of this thread goes on by itself again");
}

#[test]
fn a_limit_that_blocks_takes_the_time_that_its_lines_wait() {
    let config = r#"
[[pipelines]]
name = "a"
rate_limit = { events_per_second = 2, burst = 1, policy = "block" }
sources = [{ type = "stdin" }]
filters = [{ type = "throttle", events_per_second = 1, burst = 1 }]
sinks = [{ type = "console", format = { type = "text", template = "{timestamp} {message}" } }]
[[tests]]
name = "t"
now = "2026-11-21T10:00:00Z"
inputs = [
  { lines = ["a", "b", "c", "d"] },
  { lines = ["e"], after = "3s" },
]
outputs = [
  { at = "a.rate_limit", lines = ["a", "b", "c", "d", "e"] },
  { lines = ["2026-11-21T10:00:00.000Z a", "2026-11-21T10:00:00.500Z c", "2026-11-21T10:00:03.000Z e"] },
]
drops = [{ lines = ["b", "d"], reason = "throttled" }]"#;
    assert_eq!(differences(config).unwrap(), [[""; 0]]);
}

#[test]
fn every_mistake_in_a_test_is_found_at_its_place() {
    let base = APP.split("[[tests]]").next().unwrap();
    let line = base.lines().count() + 1;
    let config = format!(
        "{base}{}",
        r#"[[tests]]
name = "a"
inputs = []
[[tests]]
name = "b"
inputs = [{ lines = ["x"], text = "y" }, { at = "app" }]
outputs = [{ at = "app.sink.console" }, { at = "app.filters.7", count = 1 }, { count = 1 }, { at = "app", none = true, count = 3 }]
drops = [{ at = "app.sources.0", count = 0 }, { at = "app", count = 0, reason = "thrttled" }]
[[tests]]
name = "c"
inputs = [{ at = "app", lines = ["x"] }]
outputs = [{ at = "app.sinks.0", matches = ["("], json = [1], lines = [] }]
"#
    );
    let errors = differences(&config).unwrap_err();
    let expected = [
        (3, "nothing goes in: `inputs` is empty"),
        (1, "the test expects nothing: it has neither `outputs` nor `drops`"),
        (4, "`at` is missing in `inputs`: there are several pipelines"),
        (4, "`lines`, `text` and `file` exclude each other in `inputs`"),
        (6, "no lines go in: none of `lines`, `text` and `file` is given"),
        (7, "nothing is expected here: `outputs` says only where"),
        (7, "nothing is called `app.filters.7`"),
        (4, "`at` is missing in `outputs`: there are several sinks"),
        (7, "`none` excludes all else: nothing is there to be looked at"),
        (8, "a source drops nothing in a test: lines enter behind it"),
        (8, "unknown reason `thrttled`"),
        (12, "`json` takes tables: each is held against one line"),
        (12, "invalid regular expression: unclosed group"),
        (12, "`json` and `lines` exclude each other: both say all that comes out"),
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, (offset, message)) in errors.iter().zip(expected) {
        assert!(error.starts_with(&format!("t.toml:{}:", line + offset - 1)), "{error} at {offset}");
        assert!(error.ends_with(message), "{error} is not {message}");
    }
}

#[test]
fn lines_at_filters_and_sinks_skip_what_lies_before() {
    let found = app(r#"inputs = [
  { at = "app.filters.1", lines = ["DEBUG x", "DEBUG x"] },
  { at = "app.sinks.1", lines = ["ERROR y"], source = "/var/log/y" },
  { at = "app.sinks.1.filters.0", lines = ["INFO z"] },
  { at = "audit", lines = [""] },
]
outputs = [
  { at = "app.sinks.0", lines = ["DEBUG x"] },
  { at = "app.sinks.1", json = [{ message = "ERROR y", source = "/var/log/y" }] },
  { at = "audit.sinks.0", lines = ["stdin|DEBUG x", "pipeline|"] },
]"#);
    assert_eq!(found, [""; 0]);
}

/// Keeps every row until a tick finds it a second old, or the end.
#[derive(Default)]
struct Late(Vec<(clock::Instant, crate::batch::Batch)>);

impl crate::flow::Filter for Late {
    fn apply(&mut self, batch: crate::batch::Batch, _: &mut crate::flow::Emit) {
        self.0.push((clock::now(), batch));
    }

    fn tick(&mut self, now: clock::Instant, emit: &mut crate::flow::Emit) {
        let due = self.0.iter().take_while(|(at, _)| now - *at >= std::time::Duration::from_secs(1)).count();
        self.0.drain(..due).for_each(|(_, batch)| emit.push(batch));
    }

    fn ticks(&self) -> bool {
        true
    }

    fn finish(&mut self, emit: &mut crate::flow::Emit) {
        self.0.drain(..).for_each(|(_, batch)| emit.push(batch));
    }

    fn held_events(&self) -> u64 {
        self.0.len() as u64
    }
}

#[test]
fn what_a_filter_keeps_comes_out_as_time_passes_and_at_the_end() {
    let config = r#"
[[pipelines]]
name = "a"
sources = [{ type = "stdin" }]
filters = [{ type = "sample", one_in = 1 }, { type = "sample", one_in = 1 }]
sinks = [{ type = "null" }]
[[tests]]
name = "t"
inputs = [{ lines = ["x", "y"] }, { at = "a.filters.1", lines = ["z"], after = "1100ms" }, { lines = ["w"] }]
outputs = [{ lines = ["x", "y", "z", "w"] }]"#;
    let mut diags = Diagnostics::new();
    let tree = parse_file(&Source::file("t.toml", config), &mut diags);
    let mut plan = plan(&tree, &mut diags).unwrap();
    plan.pipelines[0].filters[0].make = std::sync::Arc::new(|| Box::new(Late::default()));
    let report = run(&plan, &plan.trials[0]).unwrap();
    assert_eq!(report.differences.len(), 0, "{:?}", report.differences);
    let late = report.stages.iter().find(|stage| stage.at == "a.filters.0").unwrap();
    assert_eq!(late.fates, [(0, Fate::Passed), (1, Fate::Passed), (3, Fate::Passed)]);
}

#[test]
fn a_sink_takes_what_its_when_says() {
    let config = r#"
[[pipelines]]
name = "a"
sources = [{ type = "stdin" }]
sinks = [
  { type = "null", when = "level:error AND NOT healthz", filters = [{ type = "sample", one_in = 2 }] },
  { type = "console", when = "timestamp:>now-15m" },
]
[[tests]]
name = "t"
now = "2026-11-21T10:00:00Z"
inputs = [
  { lines = ["ERROR a", "INFO b", "ERROR healthz", "2026-11-21T09:44:00Z ERROR c", "2026-11-21T09:46:00Z ERROR d"] },
  { at = "a.sinks.0.filters.0", lines = ["INFO e"] },
]
outputs = [
  { at = "a.sinks.null.when", lines = ["ERROR a", "2026-11-21T09:44:00Z ERROR c", "2026-11-21T09:46:00Z ERROR d"] },
  { at = "a.sinks.0", lines = ["ERROR a", "2026-11-21T09:46:00Z ERROR d"] },
  { at = "a.sinks.console", count = 4, lacks = ["ERROR c"] },
]
drops = [
  { at = "a.sinks.0.when", lines = ["INFO b", "ERROR healthz"] },
  { at = "a.sinks.0", count = 4, reason = "filtered" },
]"#;
    assert_eq!(differences(config).unwrap(), [[""; 0]]);
}
