//! A running weir from outside: standard input passes through untouched, input that ends and signals end the
//! process in order, and exit codes say how it went.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::Duration;

use support::signal;
use support::weir::{Place, wait};

const ENDLESS: &str = r#"
[server]
enabled = false

[[pipelines]]
name = "app"

[[pipelines.sources]]
type = "generate"
events_per_second = 1000.0

[[pipelines.sinks]]
type = "console"
"#;

#[test]
fn quick_flags_filter_standard_input() {
    let run = Place::new().piped(
        &["--input-stdin", "--include", "a", "--exclude", "x", "--output-stdout", "--server.enabled=false"],
        b"abc\nxa\nb\nlast a",
    );
    assert_eq!((run.code, run.stdout.as_str()), (0, "abc\nlast a"), "{}", run.stderr);
}

#[test]
fn a_wrong_pattern_points_at_its_flag() {
    let run = Place::new().piped(&["--input-stdin", "--include", "a(", "--server.enabled=false"], b"");
    assert_eq!(run.code, 78);
    assert!(run.stderr.contains("--include a("), "{}", run.stderr);
}

#[test]
fn a_program_reads_what_is_piped_into_weir() {
    let place = Place::new();
    let run = place.piped(&["--server.enabled=false", "run", "--", "cat"], b"one\nlast");
    assert_eq!((run.code, run.stdout.as_str()), (0, "one\nlast"), "{}", run.stderr);
    // Unless weir was told to read it itself.
    let args = ["--server.enabled=false", "run", "--input-stdin", "--", "cat"];
    let run = place.piped(&args, b"one\n");
    assert_eq!((run.code, run.stdout.as_str()), (0, "one\n"), "{}", run.stderr);
}

#[test]
fn bytes_pass_through_to_the_last() {
    for input in [&b""[..], b"\n", b"a\n\nlast", b"a\r\n\n"] {
        let run = Place::new().piped(&["--server.enabled=false"], input);
        assert_eq!((run.code, run.stdout.as_bytes()), (0, input), "{}", run.stderr);
    }
}

#[test]
fn what_cannot_be_created_ends_the_start() {
    let place = Place::new().with("taken", "");
    let run = place.piped(&["--output-file", ".", "--server.enabled=false"], b"a\n");
    assert_eq!(run.code, 73, "{}", run.stderr);
    assert!(run.stderr.contains("cannot write `--output-file .`"), "{}", run.stderr);
    let config =
        ENDLESS.replace("type = \"generate\"\nevents_per_second = 1000.0", "type = \"file\"\npath = \"x\"");
    let place = Place::new().with("pipelines.toml", &config).with("taken", "");
    let run = place.run(&["run", "--state_dir", "taken/state"]);
    assert_eq!(run.code, 73, "{}", run.stderr);
    assert!(run.stderr.contains("cannot use the state directory taken/state"), "{}", run.stderr);
}

#[test]
fn the_same_signal_sent_twice_at_once_does_not_force() {
    let place = Place::new().with("pipelines.toml", ENDLESS);
    let mut child = place.command(&["run"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    signal(child.id(), "TERM");
    signal(child.id(), "INT");
    let run = wait(child);
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[test]
fn what_is_generated_is_delivered_before_the_end() {
    let text = ENDLESS.replace("events_per_second = 1000.0", "events_per_second = 0.0\ncount = 5000");
    let run = Place::new().with("pipelines.toml", &text).run(&[]);
    assert_eq!((run.code, run.stdout.lines().count()), (0, 5000), "{}", run.stderr);
}

#[test]
fn sigterm_drains_and_exits_with_0() {
    for name in ["TERM", "INT"] {
        let place = Place::new().with("pipelines.toml", ENDLESS);
        let mut child =
            place.command(&["run"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 1];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        signal(child.id(), name);
        let run = wait(child);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stdout.ends_with('\n'));
        assert!(run.stderr.contains(&format!("SIG{name}: delivering what is in flight")), "{}", run.stderr);
        assert!(run.stderr.contains("everything is delivered"), "{}", run.stderr);
    }
}

#[test]
fn sighup_and_sigusr1_do_not_end_it() {
    let place = Place::new().with("pipelines.toml", ENDLESS);
    let log = ["--logging.output", "file", "--logging.file", "weir.log", "--logging.format", "json"];
    let mut child = place.command(&log).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    signal(child.id(), "HUP");
    std::fs::rename(place.path("weir.log"), place.path("old.log")).unwrap();
    signal(child.id(), "USR1");
    // It is still there and the moved log was begun anew, sooner or later.
    while !place.path("weir.log").exists() {
        lines.next().unwrap().unwrap();
    }
    signal(child.id(), "TERM");
    lines.for_each(drop);
    assert_eq!(wait(child).code, 0);
    let old = std::fs::read_to_string(place.path("old.log")).unwrap();
    let new = std::fs::read_to_string(place.path("weir.log")).unwrap();
    assert!(old.contains("SIGHUP: reading the configuration again"), "{old}");
    for line in old.lines().chain(new.lines()) {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(json["message"].is_string() && json["level"].is_string());
    }
    assert!(new.contains("SIGTERM"), "{new}");
}

#[test]
fn a_second_signal_forces_the_end() {
    // Nobody reads the output, so it cannot be delivered.
    let place = Place::new().with("pipelines.toml", ENDLESS);
    let args = ["--pipelines.0.sources.0.events_per_second=0", "--shutdown_timeout=1h"];
    let mut child = place.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut some = [0; 4096];
    child.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    signal(child.id(), "TERM");
    assert!(errors.any(|line| line.contains("a second signal forces it")));
    // Closer together they would be one wish.
    std::thread::sleep(Duration::from_millis(150));
    signal(child.id(), "TERM");
    assert!(errors.any(|line| line.contains("stopping at once")));
    // Held open until here: a closed pipe would be an end of its own.
    let stdout = child.stdout.take();
    let run = wait(child);
    assert_eq!(run.code, 74, "{run:?}");
    drop(stdout);
}

#[test]
fn totals_are_logged_regularly_and_only_when_they_change() {
    let text = ENDLESS.replace("events_per_second = 1000.0", "events_per_second = 0.0\ncount = 3");
    let text = format!("{text}\n[[pipelines.sources]]\ntype = \"stdin\"\n");
    let place = Place::new().with("pipelines.toml", &text);
    let args = ["--logging.status_interval", "50ms"];
    let mut command = place.command(&args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.by_ref().find(|line| line.contains(": received ")).unwrap();
    assert!(first.contains("INFO app: received 3 ("), "{first}");
    assert!(first.contains("delivered 3 (") && first.contains("dropped 0, clients 0"), "{first}");
    std::thread::sleep(std::time::Duration::from_millis(300));
    child.stdin.as_mut().unwrap().write_all(b"one more\n").unwrap();
    let second = lines.by_ref().find(|line| line.contains(": received ")).unwrap();
    assert!(second.contains("received 4 ("), "no line in between: {second}");
    drop(child.stdin.take());
    lines.for_each(drop);
    assert_eq!(wait(child).code, 0);
}

#[test]
fn logs_go_where_they_are_told_and_nowhere_else() {
    let text = ENDLESS.replace("events_per_second = 1000.0", "events_per_second = 0.0\ncount = 1");
    let place = Place::new().with("pipelines.toml", &text);
    let run = place.run(&["--logging.output", "none"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let run = place.run(&["--logging.level", "warn"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let run = place.run(&["--logging.format", "json"]);
    assert_eq!(run.stdout.lines().count(), 1);
    for line in run.stderr.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    let run = place.run(&["--logging.output", "stdout"]);
    assert!(run.stdout.contains(" INFO cli::run: started, 1 pipeline\n"), "{}", run.stdout);
    let run = place.run(&["--logging.output", "file", "--logging.file", "no/such/dir/log"]);
    assert!(
        run.code == 73 && run.stderr.contains("cannot open the log file no/such/dir/log"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_taken_port_is_69_with_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::new().with("pipelines.toml", ENDLESS);
    let run = place.run(&["--server.enabled=true", "--server.listen", &address]);
    assert_eq!(run.code, 69);
    assert!(run.stderr.contains("hint: another weir may be running"), "{}", run.stderr);
}
