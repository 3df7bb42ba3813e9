//! What the user sees of a wrong configuration: messages with their place, formats for programs, exit codes, and
//! where the values of a right one came from.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::weir::{Place, finish};

const GOOD: &str = r#"
[server]
enabled = false

[[pipelines]]
name = "app"

[[pipelines.sources]]
type = "generate"
count = 3

[[pipelines.sinks]]
type = "null"
"#;

const BROKEN: &str = r#"shutdown_timeout = "5"

[loging]
level = "info"

[[pipelines]]
name = "App"

[[pipelines.sources]]
type = "generat"

[[pipelines.sinks]]
type = "null"
bufer = { max_events = 1 }
"#;

#[test]
fn a_good_configuration_is_summed_up() {
    let place = Place::new().with("pipelines.toml", GOOD);
    let run = place.run(&["check"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout, "pipelines.toml: ok, 1 pipeline with 1 source, 0 filters and 1 sink\n");
    assert_eq!(run.stderr, "");
    assert_eq!(place.run(&["check", "--format", "json"]).stdout, "[]\n");
    assert_eq!(place.run(&["check", "--format", "github"]).stdout, "");
}

#[test]
fn every_error_is_reported_at_once_with_its_place() {
    let place = Place::new().with("bad.toml", BROKEN);
    let run = place.run(&["check", "-c", "bad.toml"]);
    assert_eq!(run.code, 1);
    assert_eq!(run.stdout, "");
    for expected in [
        "bad.toml:1:20",
        "1 | shutdown_timeout = \"5\"",
        "expected a duration like",
        "bad.toml:3:2",
        "unknown option `loging`",
        "did you mean `logging`?",
        "bad.toml:7:8",
        "write \"app\"",
        "option: pipelines[0].name",
        "5 errors",
    ] {
        assert!(run.stderr.contains(expected), "{expected}: {}", run.stderr);
    }
}

#[test]
fn errors_within_components_name_what_there_is() {
    let text = BROKEN.replace("\"5\"", "\"5s\"").replace("[loging]", "[logging]").replace("App", "app");
    let place = Place::new().with("bad.toml", &text);
    let run = place.run(&["check", "-c", "bad.toml"]);
    for expected in [
        "unknown source type `generat`",
        "did you mean `generate`?",
        "unknown option `bufer`",
        "did you mean `buffer`?",
        "2 errors",
    ] {
        assert!(run.stderr.contains(expected), "{expected}: {}", run.stderr);
    }
    assert_eq!(run.code, 1);
}

#[test]
fn programs_get_json_and_github_annotations() {
    let place = Place::new().with("bad.toml", BROKEN);
    let run = place.run(&["check", "-c", "bad.toml", "--format", "json"]);
    assert_eq!((run.code, run.stderr.as_str()), (1, ""));
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let first = &json[0];
    assert_eq!(first["severity"], "error");
    let unknown = json.as_array().unwrap().iter().find(|f| f["path"] == "loging").unwrap();
    assert_eq!(unknown["origin"]["line"], 3);
    assert_eq!(unknown["hint"], "did you mean `logging`?");
    let run = place.run(&["check", "-c", "bad.toml", "--format", "github"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stdout.contains("::error file=bad.toml,line=3,col=2::unknown option `loging`"),
        "{}",
        run.stdout
    );
    assert_eq!(run.stdout.lines().count(), 5);
}

#[test]
fn running_a_wrong_configuration_is_78_and_a_missing_one_66() {
    let place = Place::new().with("bad.toml", BROKEN).with("syntax.toml", "a = \nb = [");
    for (args, code, expected) in [
        (&["run", "-c", "bad.toml"][..], 78, "5 errors"),
        (&["-c", "bad.toml"], 78, "5 errors"),
        (&["config", "-c", "bad.toml"], 78, "3 errors"),
        (&["run", "-c", "syntax.toml"], 78, "invalid TOML"),
        (&["run", "-c", "none.toml"], 66, "cannot read none.toml"),
        (&["check", "-c", "none.toml"], 66, "cannot read none.toml"),
        (&["check"], 66, "no configuration"),
        (&["config"], 66, "no configuration"),
        (&["run"], 66, "no configuration"),
    ] {
        let run = place.run(args);
        assert_eq!(run.code, code, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{args:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{args:?}");
    }
}

#[test]
fn several_files_and_directories_are_one_configuration() {
    let other = GOOD.replace("\"app\"", "\"other\"").replace("[server]\nenabled = false\n", "");
    let place = Place::new()
        .with("a.toml", GOOD)
        .with("d/1.toml", &other)
        .with("d/2.toml", "shutdown_timeout = \"1s\"\n");
    let run = place.run(&["check", "-c", "a.toml", "-c", "d"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("2 pipelines with 2 sources"), "{}", run.stdout);
    let run = place.run(&["check", "-c", "a.toml", "-c", "a.toml"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("duplicate pipeline name `app`"), "{}", run.stderr);
}

#[test]
fn flags_and_variables_are_checked_like_files() {
    let place = Place::new().with("pipelines.toml", GOOD);
    let run = place.run(&["check", "--logging.levl", "debug"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("did you mean `--logging.level`?"), "{}", run.stderr);
    let run = place.run(&["check", "--pipelines.0.name=Bad Name"]);
    assert!(run.code == 1 && run.stderr.contains("--pipelines.0.name Bad Name"), "{}", run.stderr);
    let run = finish(place.command(&["check"]).env("WEIR_LOGING_LEVEL", "debug"));
    assert!(run.code == 1 && run.stderr.contains("did you mean `WEIR_LOGGING_LEVEL`?"), "{}", run.stderr);
    let run = finish(place.command(&["check"]).env("WEIR_CONFIG", "elsewhere.toml"));
    assert!(run.code == 66 && run.stderr.contains("elsewhere.toml"), "{}", run.stderr);
}

#[test]
fn the_effective_configuration_says_where_each_value_came_from() {
    let place = Place::new().with("pipelines.toml", GOOD);
    let mut command =
        place.command(&["config", "--shutdown_timeout", "3s", "--pipelines.0.sources.0.seed=9"]);
    let run = finish(command.env("WEIR_LOGGING_LEVEL", "debug"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    for expected in [
        "shutdown_timeout = \"3s\"  # --shutdown_timeout",
        "level = \"debug\"  # WEIR_LOGGING_LEVEL",
        "enabled = false  # pipelines.toml:3",
        "format = \"text\"  # default",
        "name = \"app\"  # pipelines.toml:6",
        "seed = 9  # --pipelines.0.sources.0.seed",
    ] {
        assert!(run.stdout.contains(expected), "{expected}: {}", run.stdout);
    }
}

const PAGE: &str = "# Guide\n\nText.\n\n```toml\n[[pipelines.sinks]]\ntype = \"consol\"\n```\n\n- in a list:\n  ```toml\n  shutdown_timeout = \"5\"\n  ```\n\n```toml,ignore\nname = …\n```\n\n```toml\n[package]\nname = \"x\"\n```\n\n```toml\n[[pipelines.sinks]]\ntype = \"null\"\n\n[[pipelines]]\nname = \"A\"\n```\n";

#[test]
fn markdown_is_checked_at_its_own_lines() {
    let place = Place::new().with("guide.md", PAGE);
    let run = place.run(&["check", "guide.md"]);
    assert_eq!(run.code, 1);
    for expected in [
        "guide.md:7:8",
        "7 | type = \"consol\"",
        "did you mean `console`?",
        "guide.md:12:22",
        "guide.md:29:8",
        "3 errors",
    ] {
        assert!(run.stderr.contains(expected), "{expected}: {}", run.stderr);
    }
    assert_eq!(
        run.stdout,
        "guide.md: 3 errors, 3 blocks, 2 skipped (ignored, not a configuration of weir)\n"
    );
    let run = place.run(&["check", "--format", "github", "guide.md"]);
    assert_eq!(run.code, 1);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(
        lines[0].starts_with("::error file=guide.md,line=7,col=8::unknown sink type `consol`"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("::error file=guide.md,line=12,col=22::"), "{lines:?}");
    assert_eq!(lines.len(), 3);
    let json: serde_json::Value =
        serde_json::from_str(&place.run(&["check", "--format", "json", "guide.md"]).stdout).unwrap();
    assert_eq!(json[0]["origin"]["line"], 7);
}

#[test]
fn a_directory_is_checked_file_by_file() {
    let place = Place::new()
        .with("conf/10-server.toml", "[server]\nenabled = false\n")
        .with("conf/20-app.toml", GOOD)
        .with("conf/sub/bad.toml", BROKEN)
        .with("conf/Cargo.toml", "[package]\nname = \"x\"\n")
        .with("conf/.hidden.toml", BROKEN)
        .with("conf/README.md", "no block\n")
        .with("conf/GUIDE.md", "```toml\nshutdown_timeout = \"${TIMEOUT}\"\n```\n");
    let run = place.run(&["check", "conf"]);
    assert_eq!(run.code, 1);
    assert_eq!(
        run.stdout,
        "conf/10-server.toml: ok\nconf/20-app.toml: ok\nconf/Cargo.toml: skipped, not a configuration of weir\n\
         conf/GUIDE.md: ok, 1 block\nconf/sub/bad.toml: 5 errors\n5 files with 1 block checked, 1 skipped: 5 errors\n"
            .replace(" checked", "")
    );
    assert!(run.stderr.contains("conf/sub/bad.toml:3:2") && !run.stderr.contains("hidden"), "{}", run.stderr);
    // What is named is checked as it is.
    let run = place.run(&["check", "conf/10-server.toml", "conf/20-app.toml", "none.toml"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("no pipelines") && run.stderr.contains("cannot read none.toml"),
        "{}",
        run.stderr
    );
    let run = place.run(&["check", "none.toml"]);
    assert_eq!(run.code, 66, "{}", run.stderr);
    let run = place.run(&["check", "-c", "conf/20-app.toml", "conf/10-server.toml"]);
    assert!(run.code == 1 && run.stdout.contains("conf/20-app.toml: ok, 1 pipeline with"), "{run:?}");
    let run = place.run(&["check", "conf/20-app.toml", "--logging.level", "debug"]);
    assert_eq!(run.code, 64, "{}", run.stderr);
}

#[test]
fn the_documentation_is_checked() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let place = Place::new();
    let paths = ["docs", "README.md", "README.zh-CN.md", "CHANGELOG.md", "pipelines.toml.example"]
        .map(|path| format!("{root}{path}"));
    let mut args = vec!["check"];
    args.extend(paths.iter().map(String::as_str));
    let run = place.run(&args);
    assert_eq!(run.code, 0, "{}\n{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("REFERENCE.md: ok, "), "{}", run.stdout);
    let blocks = run.stdout.lines().last().and_then(|line| line.split(' ').nth(3)?.parse::<u32>().ok());
    assert!(blocks > Some(25), "{}", run.stdout);
}
