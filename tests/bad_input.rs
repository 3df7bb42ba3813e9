//! Bad input of every kind: the message names the place, the cause and the way out, all mistakes come in one run, and
//! the exit code says what kind it was. Messages are compared whole line by whole line where users search for them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use support::weir::{Place, finish};
use support::{free_port, installed, skip};

/// The rest of a configuration that is right: a pipeline `ok` that never ends.
const GOOD: &str = r#"
[[pipelines]]
name = "ok"
[[pipelines.sources]]
type = "generate"
events_per_second = 10
[[pipelines.sinks]]
type = "null"
"#;

/// Checks and runs a configuration; both refuse it with the same words, which hold all of these and `count` errors.
#[track_caller]
fn refused(config: &str, count: usize, expected: &[&str]) {
    let place = Place::new().with("p.toml", config);
    let check = place.run(&["check", "-c", "p.toml"]);
    assert_eq!((check.code, check.stdout.as_str()), (1, ""), "{}", check.stderr);
    for text in expected {
        assert!(check.stderr.contains(text), "`{text}` is missing:\n{}", check.stderr);
    }
    let total = if count == 1 { "\n1 error\n".to_owned() } else { format!("\n{count} errors\n") };
    assert!(check.stderr.ends_with(&total), "{count} errors were expected:\n{}", check.stderr);
    let run = place.run(&["run", "-c", "p.toml"]);
    assert_eq!((run.code, run.stderr), (78, check.stderr), "`run` says what `check` says");
}

/// One pipeline `app` with these tables inside.
fn app(inside: &str) -> String {
    let source = "[[pipelines.sources]]\ntype = \"generate\"\n";
    format!("server.enabled = false\n[[pipelines]]\nname = \"app\"\n{source}{inside}")
}

const NULL: &str = "[[pipelines.sinks]]\ntype = \"null\"\n";

#[test]
fn unknown_keys_name_the_nearest() {
    refused(
        &format!("shutdown_timout = \"5s\"\n{GOOD}bufer = 1\n[[pipelines.filtres]]\ntype = \"level\"\n"),
        3,
        &[
            "error: unknown option `shutdown_timout`\n --> p.toml:1:1\n",
            "1 | shutdown_timout = \"5s\"\n  | ^^^^^^^^^^^^^^^ not an option of the configuration",
            "= hint: did you mean `shutdown_timeout`?",
            "error: unknown option `bufer`\n  --> p.toml:10:1\n",
            "= hint: did you mean `buffer`?",
            "= hint: did you mean `filters`?",
        ],
    );
    refused(
        &app("[[pipelines.sinks]]\ntype = \"htp\"\n"),
        1,
        &["p.toml:7:8", "did you mean `http`?", "option: pipelines[0].sinks[0].type"],
    );
    // Nothing is near: all that there is, then.
    refused(&app("[[pipelines.sinks]]\ntype = \"elasticsearch\"\n"), 1, &["console", "file", "null"]);
}

#[test]
fn habits_from_elsewhere_are_understood() {
    // Names of other programs.
    let vector = "[[pipelines]]\nname = \"app\"\n[[pipelines.sources]]\ntype = \"file\"\ninclude = [\"/x\"]\nread_from = \"end\"\n";
    let sink = "[[pipelines.sinks]]\ntype = \"stdout\"\n";
    refused(
        &format!("{vector}{sink}"),
        4,
        &["`include`", "did you mean `path`?", "did you mean `start_at`?", "did you mean `console`?"],
    );
    // Other places. What follows from the mistake is not reported besides.
    refused("[sources.in]\ntype = \"file\"\n", 1, &["p.toml:1:2", "below it [[pipelines.sources]]"]);
    refused("[[pipeline]]\nname = \"app\"\n", 1, &["did you mean `pipelines`?"]);
    refused(&app(&format!("{NULL}state_dir = \"/x\"\n")), 1, &["above the first [table]"]);
    refused(&app(&format!("rate_limit = 1\n{NULL}")), 1, &["write it below [[pipelines]]"]);
    refused(&app(&format!("{NULL}name = \"out\"\n")), 1, &["hint: the options are buffer"]);
    // A value that is not there is no wrong value.
    let url = "[[pipelines.sinks]]\ntype = \"http_client\"\nurl = \"${NOT_SET_HERE}\"\n";
    refused(&app(url), 1, &["variable `NOT_SET_HERE` is not set"]);
    // Other languages.
    refused("pipelines:\n  - name: app\n", 1, &["this is YAML syntax", "weir init"]);
    refused("{\"pipelines\": []}", 1, &["this is JSON syntax"]);
    refused("[INPUT]\n    Name tail\n[OUTPUT]\n    Name stdout\n", 1, &["this is Fluent Bit's syntax"]);
    // TOML that nearly is.
    let unquoted = "[[pipelines]]\nname = app\n[[pipelines.sources]]\ntype = file\npath = /var/log/*.log\n";
    refused(
        &format!("{unquoted}{sink}"),
        4,
        &["p.toml:4:8", "type = \"file\"", "path = \"/var/log/*.log\"", "name = \"app\""],
    );
    let escaped = "[[pipelines.filters]]\ntype = \"include\"\npatterns = [\"\\d+\"]\n";
    refused(&app(&format!("{escaped}{NULL}")), 1, &["as in '\\d+'"]);
    refused(&format!("server.listen = \"8080\"\n{GOOD}"), 1, &["\"0.0.0.0:8080\" for all addresses"]);
    let home = "[[pipelines]]\nname = \"app\"\nsources = [{ type = \"file\", path = [\"/x\", \"~/y\"] }]\nsinks = [{ type = \"file\", path = \"~/z\" }]\n";
    refused(home, 2, &["p.toml:3:43", "p.toml:4:34", "write `${HOME}/…`"]);
}

#[test]
fn a_pipeline_that_reads_what_it_writes_is_warned_of() {
    let warned = |source: &str, path: &str| {
        let config = format!(
            "[[pipelines]]\nname = \"app\"\nsources = [{{ {source} }}]\nsinks = [{{ type = \"file\", path = \"{path}\" }}]\n"
        );
        let run = Place::new().with("p.toml", config).run(&["check", "-c", "p.toml"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stderr.contains("warning: this pipeline reads what it writes")
    };
    let glob = "type = \"file\", path = [\"/a/*.txt\", \"/var/log/**/*.log\"]";
    assert!(warned(glob, "/var/log/weir/{date}.log"));
    assert!(warned("type = \"directory\", path = \"/d\"", "/d/out"));
    assert!(!warned(&format!("{glob}, exclude = \"/var/log/weir/*\""), "/var/log/weir/{date}.log"));
    assert!(!warned(glob, "/var/log/weir/{date}.out"));
    assert!(!warned("type = \"directory\", path = \"/d\"", "/d/below/out"));
}

#[test]
fn wrong_types_and_values_say_what_is_allowed() {
    refused(
        &format!("shutdown_timeout = 5\nserver = {{ enabled = \"yes\", listen = \"nowhere\" }}\n{GOOD}"),
        3,
        &[
            "p.toml:1:20",
            "expected a duration like",
            "p.toml:2:22",
            "expected true or false, found a string",
            "option: server.listen",
        ],
    );
    refused(
        &app(
            "[[pipelines.filters]]\ntype = \"sample\"\none_in = 0\n[[pipelines.sinks]]\ntype = \"null\"\nbuffer = { max_bytes = \"64 potatoes\" }\n",
        ),
        2,
        &["p.toml:8:10", "1 to 1000000000", "p.toml:11:24", "option: pipelines[0].sinks[0].buffer.max_bytes"],
    );
    refused(
        &app("[[pipelines.filters]]\ntype = \"include\"\n[[pipelines.sinks]]\ntype = \"null\"\n"),
        1,
        &["patterns"],
    );
}

#[test]
fn a_bad_pattern_is_marked_in_its_own_line() {
    let filter = "[[pipelines.filters]]\ntype = \"include\"\npatterns = [\n  \"fine\",\n  \"a(b\",\n  '\\d{3,2}',\n]\n";
    refused(
        &app(&format!("{filter}{NULL}")),
        2,
        &[
            "error: invalid pattern: unclosed group, at byte 1\n",
            "10 |   \"a(b\",\n   |   ^^^^^ in this pattern",
            "11 |   '\\d{3,2}',\n   |   ^^^^^^^^^ in this pattern",
            "option: pipelines[0].filters[0].patterns[2]",
        ],
    );
}

#[test]
fn names_are_unique_free_and_well_formed() {
    let named = |name: &str| GOOD.replace("\"ok\"", &format!("\"{name}\""));
    refused(
        &format!("{GOOD}{GOOD}"),
        1,
        &["p.toml:11:8", "duplicate pipeline name `ok`", "first used here", "used again here"],
    );
    for name in ["status", "metrics", "healthz", "readyz"] {
        refused(&named(name), 1, &["p.toml:3:8", &format!("the name `{name}` is reserved")]);
    }
    for name in ["../etc", "A", "a b", "", "a/b", "_stream", "ä"] {
        refused(&named(name), 1, &["p.toml:3:8", "option: pipelines[0].name"]);
    }
}

#[test]
fn nothing_is_claimed_twice() {
    let two = |a: &str, b: &str| app(&format!("[[pipelines.sinks]]\n{a}\n[[pipelines.sinks]]\n{b}\n"));
    refused(
        &two("type = \"http\"", "type = \"http\""),
        1,
        &[
            "route /app/stream is already taken by pipelines[0].sinks[0]",
            "first used here",
            "hint: give each its own",
        ],
    );
    for path in ["out.log", "./out.log", "{pipeline}.log"] {
        let first = if path.contains('{') { "app.log" } else { "out.log" };
        refused(
            &two(
                &format!("type = \"file\"\npath = \"{first}\""),
                &format!("type = \"file\"\npath = \"{path}\""),
            ),
            1,
            &[
                "output file",
                "is already taken by pipelines[0].sinks[0].path",
                "p.toml:11:8",
                "first used here",
            ],
        );
    }
    let tcp = "type = \"tcp\"\nlisten = \"127.0.0.1:9000\"";
    refused(&two(tcp, tcp), 1, &["listen address 127.0.0.1:9000 is already taken"]);
}

#[test]
fn pipelines_in_a_circle_are_refused() {
    let link = |name: &str, to: &str| {
        format!(
            "[[pipelines]]\nname = \"{name}\"\n[[pipelines.sources]]\ntype = \"pipeline\"\n\
             [[pipelines.sinks]]\ntype = \"pipeline\"\nname = \"{to}\"\n"
        )
    };
    let circle = [link("a", "b"), link("b", "c"), link("c", "a")].concat();
    refused(
        &circle,
        3,
        &["p.toml:7:8", "pipelines feed each other in a circle", "hint: let one of them end"],
    );
    refused(&link("a", "a"), 1, &["in a circle"]);
    refused(&link("a", "elsewhere"), 1, &["no pipeline is named `elsewhere`"]);
    refused(&format!("{GOOD}{}", link("a", "ok")), 1, &["add a source of type \"pipeline\" to `ok`"]);
}

#[test]
fn listening_beyond_this_machine_has_to_be_meant() {
    for address in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"] {
        refused(
            &format!("server.listen = \"{address}\"\n{GOOD}"),
            1,
            &["p.toml:1:17", "without a guard", "insecure_public = true"],
        );
        for kind in ["http", "tcp"] {
            let sink = format!("[[pipelines.sinks]]\ntype = \"{kind}\"\nlisten = \"{address}\"\n");
            refused(&app(&sink), 1, &["p.toml:8:10", "without a guard", "insecure_public = true"]);
            let place = Place::new().with("p.toml", app(&format!("{sink}insecure_public = true\n")));
            assert_eq!(place.run(&["check", "-c", "p.toml"]).code, 0);
        }
    }
}

#[test]
fn what_is_no_configuration_at_all_is_said_to_be_none() {
    refused("{\"pipelines\": []}", 1, &["invalid TOML", "p.toml:1:1"]);
    refused("- name: app\n  source: stdin\n", 1, &["invalid TOML", "p.toml:1:"]);
    refused("", 1, &["no pipelines", "try `weir demo`"]);
    let place =
        Place::new().with("p.toml", b"\x7fELF\x02\x01\x01\0\xff\xfe").with("dir/readme.md", "no toml here");
    let run = place.run(&["run", "-c", "p.toml"]);
    assert!(run.code == 78 && run.stderr.contains("not UTF-8: p.toml"), "{run:?}");
    let run = place.run(&["run", "-c", "dir"]);
    assert!(
        run.code == 66 && run.stderr.contains("no configuration in the directory dir: it has no *.toml"),
        "{run:?}"
    );
    let run = place.run(&["run", "-c", "dir/none.toml"]);
    assert!(run.code == 66 && run.stderr.contains("cannot read dir/none.toml: no such file"), "{run:?}");
    let run = place.run(&["run", "--no-such-flag"]);
    assert!(run.code == 64 && run.stderr.contains("--no-such-flag"), "{run:?}");
}

#[test]
fn all_mistakes_of_all_kinds_come_in_one_run() {
    let text = "shutdown_timout = \"5s\"\nserver = { listen = \"0.0.0.0:80\" }\n[[pipelines]]\nname = \"status\"\n\
        [[pipelines.sources]]\ntype = \"generat\"\n[[pipelines.filters]]\ntype = \"include\"\npatterns = \"(\"\n\
        [[pipelines.sinks]]\ntype = \"http\"\n[[pipelines.sinks]]\ntype = \"http\"\n";
    let kinds =
        ["unknown option", "without a guard", "is reserved", "did you mean `generate`?", "invalid pattern"];
    refused(text, 6, &[&kinds[..], &["is already taken"]].concat());
}

#[test]
fn a_port_in_use_is_69() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::new().with("p.toml", format!("server.listen = \"{address}\"\n{GOOD}"));
    let run = place.run(&["run", "-c", "p.toml"]);
    assert_eq!(run.code, 69, "{run:?}");
    assert!(
        run.stderr.contains(&format!("error: cannot listen on {address}: address in use\n  hint: ")),
        "{run:?}"
    );
}

#[test]
fn a_sink_whose_port_is_in_use_ends_the_start_and_says_which() {
    for kind in ["http", "tcp"] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let sink = format!("[[pipelines.sinks]]\ntype = \"{kind}\"\nlisten = \"{address}\"\n");
        let place = Place::new();
        let config = format!("{}{sink}", GOOD.trim_end_matches(NULL));
        let mut weir = place.start(&config);
        assert_eq!(weir.wait(), 69);
        let why = weir.errors();
        let expected = format!("cannot listen on {address}: address in use");
        assert!(why.contains(&format!("ok.sink.0.{kind}")) && why.contains(&expected), "{why}");
        assert!(why.contains("choose another port"), "{why}");
        drop(taken);
        place.started(&config).stop();
    }
}

/// A pipeline that follows `path`, with its own state directory.
fn following(path: &str) -> String {
    format!(
        "[[pipelines]]\nname = \"app\"\n[[pipelines.sources]]\n{path}\n{NULL}[[pipelines.sinks]]\n\
         type = \"file\"\npath = \"DIR/out.log\"\n"
    )
}

#[test]
fn a_missing_directory_is_told_and_waited_for() {
    let place = Place::new();
    let mut weir = place.start(&following("type = \"directory\"\npath = \"DIR/logs\""));
    let why = weir.wait_listening("/readyz", 503);
    assert!(why.contains("app.source.0.directory") && why.contains("cannot read the directory"), "{why}");
    assert!(why.contains("logs: it does not exist"), "{why}");
    place.write("logs/a.log", "there now\n");
    weir.wait_ready();
    support::eventually("the line", || (place.read("out.log") == b"there now\n").then_some(()));
    weir.stop();
}

#[test]
fn two_on_one_state_directory_are_69_and_the_first_goes_on() {
    let place = Place::new().with("in.log", "one\n");
    let first = place.started(&following("type = \"file\"\npath = \"DIR/in.log\""));
    let listen = format!("127.0.0.1:{}", free_port());
    let second = place.run(&["run", "--server.listen", &listen]);
    assert_eq!(second.code, 69, "{second:?}");
    for text in [
        "in use by another weir",
        "locked by pid",
        "  hint: stop that process, or give each its own `state_dir`",
    ] {
        assert!(second.stderr.contains(text), "`{text}` is missing: {}", second.stderr);
    }
    place.append("in.log", "two\n");
    support::eventually("the first goes on", || (place.read("out.log") == b"one\ntwo\n").then_some(()));
    first.stop();
}

#[test]
fn a_state_directory_in_the_place_of_a_file_is_refused() {
    let place = Place::new().with("state", "a file\n").with("in.log", "x\n");
    let mut weir = place.start(&following("type = \"file\"\npath = \"DIR/in.log\""));
    assert_eq!(weir.wait(), 73, "{}", weir.errors());
    let said = weir.errors();
    assert!(
        said.contains("cannot use the state directory") && said.contains("\n  hint: set `state_dir`"),
        "{said}"
    );
    assert_eq!(place.read("state"), b"a file\n");
}

/// The binary, where another user can run it, and how; `None`, said loudly, where nobody can become another user.
fn as_nobody(place: &Place, test: &str) -> Option<Command> {
    if !rustix::process::geteuid().is_root() || !installed("setpriv") {
        skip(test, "only root can become somebody else, with setpriv");
        return None;
    }
    let mode = |path: &std::path::Path, bits| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(bits)).unwrap()
    };
    mode(place.dir(), 0o755);
    // Not by this process: a child that another test starts meanwhile would hold it open, and it could not be run.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_weir")).arg(place.path("weir")).status().unwrap();
    assert!(copied.success());
    mode(&place.path("weir"), 0o755);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(place.path("weir"));
    command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(place.dir());
    Some(command)
}

#[test]
fn an_unwritable_state_directory_ends_the_start() {
    let place = Place::new().with("in.log", "x\n");
    let Some(mut command) = as_nobody(&place, "unwritable_state") else { return };
    let text = format!(
        "state_dir = \"DIR/state\"\nserver.enabled = false\n{}",
        following("type = \"file\"\npath = \"DIR/in.log\"")
    );
    place.write(
        "p.toml",
        text.replace("DIR", place.dir().to_str().unwrap())
            .replace(&format!("{}/out.log", place.dir().display()), "/dev/null"),
    );
    let run = finish(command.args(["run", "-c", "p.toml"]));
    assert_eq!(run.code, 73, "{run:?}");
    assert!(run.stderr.contains("/state: Permission denied"), "{run:?}");
    assert!(run.stderr.contains("  hint: set `state_dir` to a directory that weir may write"), "{run:?}");
}

#[test]
fn an_unreadable_file_is_told_and_read_once_it_may_be() {
    let place = Place::new().with("logs/secret.log", "hidden\n").with("logs/open.log", "seen\n");
    let Some(mut command) = as_nobody(&place, "unreadable_file") else { return };
    let secret = place.path("logs/secret.log");
    let mode = |bits| std::fs::set_permissions(&secret, PermissionsExt::from_mode(bits)).unwrap();
    mode(0o600);
    std::fs::create_dir(place.path("mine")).unwrap();
    std::os::unix::fs::chown(place.path("mine"), Some(65534), None).unwrap();
    let config = following("type = \"file\"\npath = \"DIR/logs/*.log\"").replace("DIR/out", "DIR/mine/out");
    let port = free_port();
    let text = format!("state_dir = \"DIR/mine/state\"\nserver.listen = \"127.0.0.1:{port}\"\n{config}");
    place.write("p.toml", text.replace("DIR", place.dir().to_str().unwrap()));
    let mut weir = place.spawn(command.args(["run", "-c", "p.toml"]), port);
    weir.wait_ready();
    support::eventually("the other file", || (place.read("mine/out.log") == b"seen\n").then_some(()));
    support::eventually("a warning", || {
        let said = weir.errors();
        (said.contains("Permission denied") && said.contains("logs/secret.log")).then_some(())
    });
    mode(0o644);
    support::eventually("what was hidden", || {
        (place.read("mine/out.log") == b"seen\nhidden\n").then_some(())
    });
    weir.stop();
    let config = place.path("p.toml");
    std::fs::set_permissions(&config, PermissionsExt::from_mode(0o600)).unwrap();
    let run = finish(as_nobody(&place, "unreadable_config").unwrap().args(["run", "-c", "p.toml"]));
    assert!(run.code == 66 && run.stderr.contains("cannot read p.toml: permission denied"), "{run:?}");
}
