//! Runs the commands that the pages about streams, guards and troubles show by themselves, each against a weir that is
//! there: what they print is looked at, since it is different every time. Whole walk-throughs are in tests/docs_run.rs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::{Command, Stdio};

use support::docs::{blocks, page};
use support::weir::{End, Place, finish};
use support::{installed, skip};

/// The commands of a block, one a line, its comments and all.
fn commands(name: &str, block: usize) -> Vec<String> {
    let blocks = blocks(&page(name));
    let (text, _) = blocks.get(block).unwrap_or_else(|| panic!("{name} has no block {block}"));
    text.lines().map(str::to_owned).collect()
}

/// Runs a line of a page as a shell does, in a place, where `weir` is this one.
fn shell(place: &Place, line: &str) -> End {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap().display();
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(place.dir()).stdin(Stdio::null()).env_clear();
    command.env("HOME", place.dir()).env("XDG_RUNTIME_DIR", place.path("run"));
    command.env("PATH", format!("{binary}:/usr/local/bin:/usr/bin:/bin"));
    finish(&mut command)
}

#[test]
fn streams_come_in_the_formats_that_are_asked_for() {
    if !installed("curl") {
        return skip("streams_come_in_the_formats_that_are_asked_for", "curl is not installed");
    }
    let place = Place::new();
    let mut weir = place.demo();
    weir.wait_ready();
    // The first lines: a stream has no end.
    let first = |line: &str| {
        let line = line.split(" #").next().unwrap().replace("localhost:8080", &weir.authority());
        let end = shell(&place, &format!("{line} | head -n 10"));
        assert_eq!(end.stdout.lines().count(), 10, "{line}: {}", end.stderr);
        end.stdout
    };
    let [events, plain, json] = <[String; 3]>::try_from(commands("STREAMING.md", 0)).unwrap();
    let events = first(&events);
    assert!(events.starts_with("retry: 3000\n") && events.contains("\nevent: hello\n"), "{events}");
    let plain = first(&plain);
    assert!(!plain.starts_with("retry:") && !plain.contains("\ndata: "), "{plain}");
    for line in first(&json).lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let level = &event["level"];
        assert!(
            level == "warn" || level == "error" || level == "fatal" || event["weir"].is_string(),
            "{line}"
        );
    }
    weir.stop();
}

#[test]
fn hashes_are_made_as_the_page_on_guards_says() {
    let place = Place::new().with("password", "open sesame\n");
    let [asks, bcrypt, token] = <[String; 3]>::try_from(commands("GUARDS.md", 0)).unwrap();
    let made = |line: &str, start: &str| {
        let end = shell(&place, line);
        assert!(end.code == 0 && end.stdout.starts_with(start), "{line}: {end:?}");
        end.stdout
    };
    // Where nobody can be asked, it is read.
    let line = asks.split(" #").next().unwrap();
    assert_ne!(shell(&place, line).code, 0, "an empty password is none");
    made(&format!("{line} < password"), "$argon2id$");
    made(&bcrypt, "$2y$12$");
    let token = made(&token, "token = \"");
    assert!(token.lines().nth(1).unwrap().starts_with("token_hash = \""), "{token}");
}

#[test]
fn three_commands_answer_for_a_configuration_that_runs() {
    let place = Place::new();
    let weir = place.started(
        "[[pipelines]]\nname = \"app\"\nsources = [{ type = \"generate\", events_per_second = 100 }]\n\
         sinks = [{ type = \"http\" }]\n",
    );
    let printed = ["pipelines.toml: ok, 1 pipeline", "name = \"app\"", "source.0.generate"];
    let lines = commands("TROUBLESHOOTING.md", 0);
    assert_eq!(lines.len(), printed.len(), "{lines:?}");
    for (line, part) in lines.iter().zip(printed) {
        let end = shell(&place, line);
        assert!(end.code == 0 && end.stdout.contains(part), "{line}: {end:?}");
    }
    let [doctor] = <[String; 1]>::try_from(commands("TROUBLESHOOTING.md", 1)).unwrap();
    let end =
        shell(&place, &doctor.replace("https://logs.example.com", &format!("http://{}", weir.authority())));
    assert_eq!(end.code, 0, "{doctor}: {end:?}");
    weir.stop();
}
