//! `weir test` from outside: what people and programs see of tests that pass and fail, and of tests that are
//! written wrongly; that a run only validates them; and that nothing is read or opened.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::weir::Place;

const CONFIG: &str = r#"
[server]
enabled = false

[[pipelines]]
name = "app"
sources = [{ type = "file", path = "/nonexistent/app.log" }]
filters = [{ type = "level", min = "info" }, { type = "throttle", events_per_second = 1, burst = 2 }]
sinks = [
  { type = "console" },
  { type = "file", path = "/proc/nonexistent/errors.log", format = { type = "json" }, filters = [{ type = "level", min = "error" }] },
]

[[tests]]
name = "errors are written as JSON"
now = "2026-11-21T10:00:00Z"
inputs = [{ lines = ["ERROR disk full", "DEBUG x"] }]
outputs = [{ at = "app.sinks.file", json = [{ level = "error", message = "ERROR disk full" }] }]
"#;

const FAILING: &str = r#"
[[tests]]
name = "everything passes"
inputs = [{ lines = ["INFO a", "DEBUG b", "INFO c"] }, { lines = ["INFO d \u001b[2J"] }]
outputs = [{ at = "app.sinks.0", lines = ["INFO a", "DEBUG b", "INFO c"] }, { at = "app.sinks.1", count = 1 }]
drops = [{ at = "app.filters.throttle", none = true }]
"#;

#[test]
fn a_test_that_passes_is_a_line() {
    let place = Place::new().with("pipelines.toml", CONFIG);
    let run = place.run(&["test"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert_eq!(run.stdout, "ok    errors are written as JSON  (pipelines.toml:14:1)\n1 test passed\n");
    let verbose = place.run(&["test", "-v"]);
    assert!(verbose.stdout.contains("rate") || verbose.stdout.contains("filters.0"), "{}", verbose.stdout);
    assert_eq!(place.run(&["check"]).code, 0);
}

#[test]
fn a_test_that_fails_shows_both_sides_and_every_stage() {
    let place = Place::new().with("pipelines.toml", format!("{CONFIG}{FAILING}"));
    let run = place.run(&["test"]);
    assert_eq!((run.code, run.stderr.as_str()), (1, ""));
    insta::assert_snapshot!(run.stdout);
    let colored = place.run(&["test", "--color", "always"]).stdout;
    assert!(colored.contains("\u{1b}[31m- DEBUG b\u{1b}[0m") && !colored.contains("\u{1b}[2J"), "{colored}");
    assert_eq!(place.run(&["test", "--filter", "JSON"]).code, 0);
    let chosen = place.run(&["test", "--filter", "every"]).stdout;
    assert!(chosen.ends_with("1 of 1 test failed, 1 left out by --filter\n"), "{chosen}");
}

#[test]
fn programs_get_json_and_junit() {
    let place = Place::new().with("pipelines.toml", format!("{CONFIG}{FAILING}"));
    let run = place.run(&["test", "--format", "json"]);
    let found: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, &found["passed"], &found["failed"]), (1, &json!(1), &json!(1)));
    let failed = &found["tests"][1];
    assert_eq!(failed["origin"], json!({ "file": "pipelines.toml", "line": 20, "column": 1 }));
    assert_eq!(failed["differences"][0]["expected"], json!(["INFO a", "DEBUG b", "INFO c"]));
    assert_eq!(failed["differences"][0]["got"], json!(["INFO a", "INFO c"]));
    let throttle = failed["stages"].as_array().unwrap().iter().find(|s| s["at"] == "app.filters.1").unwrap();
    assert_eq!(throttle["dropped"], json!([{ "line": 3, "reason": "throttled" }]));
    assert!(found["tests"][0].get("stages").is_none());
    let junit = place.run(&["test", "--format", "junit"]).stdout;
    assert!(junit.contains("<testsuite name=\"weir\" tests=\"2\" failures=\"1\">"), "{junit}");
    assert_eq!(junit.matches("<failure message=").count(), 3, "{junit}");
}

#[test]
fn a_test_that_is_wrong_is_an_error_of_the_configuration_also_for_a_run() {
    let wrong = CONFIG.replace("app.sinks.file", "app.sinks.fiel").replace("json = [{", "jsn = [{");
    let place = Place::new().with("pipelines.toml", &wrong);
    for command in [&["test"][..], &["run"], &["check"]] {
        let run = place.run(command);
        assert_eq!(run.code, if command == ["check"] { 1 } else { 78 }, "{}", run.stderr);
        for expected in ["unknown option `jsn`", "did you mean `json`?", "pipelines.toml:18:"] {
            assert!(run.stderr.contains(expected), "{expected}: {}", run.stderr);
        }
    }
    let place = Place::new().with("pipelines.toml", CONFIG.replace("app.sinks.file", "app.sinks.fiel"));
    let run = place.run(&["test"]);
    assert_eq!(run.code, 78);
    for expected in [
        "nothing is called `app.sinks.fiel`",
        "18 | outputs = [{ at = \"app.sinks.fiel\"",
        "^^^",
        "expected `app`",
    ] {
        assert!(run.stderr.contains(expected), "{expected}: {}", run.stderr);
    }
}

#[test]
fn files_lie_beside_the_configuration_and_what_is_missing_is_said() {
    let tests = r#"
[[tests]]
name = "a sample"
inputs = [{ at = "app", file = "samples/in.log" }]
outputs = [{ at = "app.sinks.0", file = "samples/out.log" }, { at = "app.sinks.1", json = [{ source = "in.log" }] }]
"#;
    let place = Place::new()
        .with("conf/a.toml", CONFIG)
        .with("conf/b.toml", tests)
        .with("conf/samples/in.log", "ERROR a\r\nDEBUG b\nINFO c")
        .with("conf/samples/out.log", "ERROR a\nINFO c\n");
    let run = place.run(&["test", "-c", "conf"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stdout);
    std::fs::remove_file(place.path("conf/samples/in.log")).unwrap();
    let run = place.run(&["test", "-c", "conf"]);
    assert_eq!(run.code, 66);
    assert!(
        run.stderr.contains("cannot read conf/samples/in.log") && run.stderr.contains("conf/b.toml:4:"),
        "{}",
        run.stderr
    );
}

#[test]
fn no_test_is_said() {
    let place = Place::new().with("pipelines.toml", CONFIG.split("[[tests]]").next().unwrap());
    let run = place.run(&["test"]);
    assert_eq!(run.code, 66);
    assert!(run.stderr.starts_with("error: no tests in pipelines.toml\n  hint: add one"), "{}", run.stderr);
    let place = Place::new().with("pipelines.toml", CONFIG);
    let run = place.run(&["test", "--filter", "zzz"]);
    assert_eq!(run.code, 66);
    assert!(run.stderr.contains("there is `errors are written as JSON`"), "{}", run.stderr);
}
