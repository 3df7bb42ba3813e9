//! The README's first five minutes, as somebody new does them: every command is there as it is tested here, the demo
//! streams within a second of its start, and the configuration shown is accepted, runs and answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use logweir::base::clock;
use support::http::Stream;
use support::weir::{Place, Weir, finish};
use support::{Killed, free_port, installed};

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

/// The README has this line, up to a comment behind it.
#[track_caller]
fn shown(line: &str) {
    let readme = readme();
    let mut lines = readme.lines().map(|l| l.split(" #").next().unwrap().trim_end());
    assert!(lines.any(|l| l == line), "the README does not say `{line}`");
}

/// The first `count` lines of a stream, by `curl -N` where there is one.
fn watch(weir: &Weir, target: &str, headers: &[(&str, &str)], count: usize) -> Vec<String> {
    if !installed("curl") {
        support::skip("curl", "not installed, the raw client asks instead");
        let mut stream = Stream::open(&weir.authority(), target, headers);
        return (0..count).map(|_| String::from_utf8(stream.line().unwrap()).unwrap()).collect();
    }
    let mut command = Command::new("curl");
    command.args(["-sN", "--max-time", "40", &format!("http://{}{target}", weir.authority())]);
    for (name, value) in headers {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    let mut curl = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(curl.0.stdout.take().unwrap()).lines();
    lines.take(count).map(Result::unwrap).collect()
}

#[test]
fn the_demo_answers_within_a_second_of_its_start() {
    shown("cargo run --release -- demo");
    // The best of three: the machine may be busy with other tests, the program may not.
    let best = (0..3).map(|_| {
        let place = Place::new();
        let started = clock::now();
        let mut weir = place.demo();
        weir.wait_ready();
        let mut stream = weir.stream("/app/stream?tail=1");
        assert!(!stream.row().message().is_empty());
        started.elapsed()
    });
    let best = best.min().unwrap();
    assert!(best < Duration::from_secs(1), "the first row came after {best:?}");
}

#[test]
fn the_demo_is_watched_as_the_readme_says() {
    let place = Place::new();
    let mut weir = place.demo();
    weir.wait_ready();
    let page = weir.wait_listening("/", 200);
    assert!(page.to_ascii_lowercase().contains("<!doctype html>"), "{page}");
    assert!(weir.errors().contains(&format!("http://{}/", weir.authority())), "{}", weir.errors());

    shown("curl -N localhost:8080/app/stream");
    let lines = watch(&weir, "/app/stream", &[], 12);
    assert_eq!(lines[0], "retry: 3000", "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("data: {\"timestamp\":")), "{lines:?}");

    shown("curl -N localhost:8080/app/stream -H 'Accept: application/x-ndjson'");
    for line in watch(&weir, "/app/stream", &[("Accept", "application/x-ndjson")], 5) {
        let json: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(json["message"].is_string() || json["weir"].is_string(), "{line}");
    }

    shown("curl -N 'localhost:8080/app/stream?format=raw&level=warn&tail=20'");
    for line in watch(&weir, "/app/stream?format=raw&level=warn&tail=20", &[], 3) {
        let line = line.to_ascii_lowercase();
        assert!(["warn", "error", "fatal"].iter().any(|level| line.contains(level)), "{line}");
    }

    shown("weir status");
    let run = place.run(&["status", &format!("http://{}", weir.authority())]);
    assert!(run.code == 0 && run.stdout.contains("ready yes"), "{run:?}");
    weir.stop();
}

#[test]
fn programs_are_piped_and_wrapped_as_the_readme_says() {
    shown("app | weir");
    shown("weir run -- make -j4");
    let place = Place::new();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut app = Command::new("sh");
    app.args(["-c", "(echo one; echo two) | \"$WEIR\" --server.listen \"$LISTEN\""]);
    app.env("WEIR", env!("CARGO_BIN_EXE_weir")).env("LISTEN", &listen).current_dir(place.dir());
    let run = finish(&mut app);
    assert_eq!((run.code, run.stdout.as_str()), (0, "one\ntwo\n"), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("http://{listen}/stdin/")), "{}", run.stderr);
    let run = place.run(&["run", "--server.listen", &listen, "--", "sh", "-c", "echo made; exit 2"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, "made\n"), "{}", run.stderr);
}

#[test]
fn the_configuration_of_the_readme_is_checked_and_runs() {
    for line in ["weir check", "weir run"] {
        shown(line);
    }
    let readme = readme();
    let config = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(config.starts_with("# pipelines.toml\n"), "{config}");
    let place = Place::new().with("nginx/a.log", "GET /health 200\nGET / 200\n").with("srv/x/app.log", "");
    let dir = place.dir().to_str().unwrap();
    let config = config
        .replace("/var/log/nginx", &format!("{dir}/nginx"))
        .replace("/srv", &format!("{dir}/srv"))
        .replace("/var/log/weir", &format!("{dir}/out"));
    place.write("pipelines.toml", &config);
    let check = place.run(&["check"]);
    assert_eq!((check.code, check.stderr.as_str()), (0, ""));
    let weir = place.started(&config);
    assert_eq!(weir.stream("/web/stream?tail=5").row().message(), "GET / 200");
    weir.stop();
    let files: Vec<_> = std::fs::read_dir(place.path("out")).unwrap().map(|f| f.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(std::fs::read_to_string(&files[0]).unwrap(), "GET / 200\n");
}
