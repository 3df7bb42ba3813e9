//! Signals at any moment of a start: none of them ends the process without a word, and none is forgotten. The
//! configuration comes through a pipe, so that a test decides how long reading it takes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use logweir::base::rng::Rng;
use support::weir::{Place, Weir};
use support::{eventually, free_port, installed, skip};

const CONFIG: &str = r#"
state_dir = "state"
server.enabled = false
[[pipelines]]
name = "a"
[[pipelines.sources]]
type = "generate"
events_per_second = 1
[[pipelines.sinks]]
type = "null"
"#;

/// Whether the process has a handler for the signal of that number.
fn catches(id: u32, number: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (number - 1)) != 0)
}

const HUP: u32 = 1;
const USR1: u32 = 10;
const TERM: u32 = 15;

/// A run that hears signals and waits for its configuration.
fn starting(place: &Place) -> Weir {
    let made = Command::new("mkfifo").arg(place.path("pipe.toml")).status().unwrap();
    assert!(made.success());
    let mut command = place.command(&["run", "-c", "pipe.toml"]);
    let mut weir = place.spawn(command.stdout(Stdio::null()), free_port());
    let id = weir.child().id();
    eventually("it catches signals though it has read nothing", || {
        [HUP, USR1, TERM].iter().all(|number| catches(id, *number)).then_some(())
    });
    weir
}

fn wait_said(weir: &mut Weir, what: &str) {
    eventually(what, || {
        if let Some(status) = weir.child().try_wait().unwrap() {
            panic!("it ended with {status}: {}", weir.errors());
        }
        weir.errors().contains(what).then_some(())
    });
}

#[test]
fn a_reload_that_is_asked_for_while_the_configuration_is_read_comes_after_the_start() {
    let place = Place::new();
    let mut weir = starting(&place);
    weir.signal("HUP");
    weir.signal("USR1");
    // The writer waits until the pipe is read: at the start, and once more by the reload.
    fs::write(place.path("pipe.toml"), CONFIG).unwrap();
    wait_said(&mut weir, "SIGHUP: reading the configuration again");
    fs::write(place.path("pipe.toml"), CONFIG).unwrap();
    wait_said(&mut weir, "SIGUSR1: opening files again");
    wait_said(&mut weir, "started, 1 pipeline");
    weir.stop();
}

#[test]
fn an_end_that_is_asked_for_while_the_configuration_is_read_is_an_orderly_one() {
    for name in ["TERM", "INT"] {
        let place = Place::new();
        let mut weir = starting(&place);
        weir.signal(name);
        fs::write(place.path("pipe.toml"), CONFIG).unwrap();
        assert_eq!(weir.wait(), 0, "{}", weir.errors());
        // Before or after the components were there, as the two threads have it.
        assert!(weir.errors().contains("stopped"), "{}", weir.errors());
    }
}

/// A process that has to be gone after the test, also where the test fails.
struct EndedWithTheTest(u32);

impl Drop for EndedWithTheTest {
    fn drop(&mut self) {
        Command::new("kill").args(["-9", &self.0.to_string()]).stderr(Stdio::null()).status().ok();
    }
}

#[test]
fn it_ends_with_the_terminal_it_was_started_on() {
    if !installed("script") {
        return skip(
            "it_ends_with_the_terminal_it_was_started_on",
            "script is not installed (Debian: bsdutils)",
        );
    }
    let log = "[logging]\noutput = \"file\"\nfile = \"weir.log\"\n";
    let place = Place::new().with("pipelines.toml", format!("{CONFIG}{log}"));
    let said = |what: &str| {
        eventually(what, || {
            let log = fs::read_to_string(place.path("weir.log")).unwrap_or_default();
            log.contains(what).then_some(())
        });
    };
    let command = place.command(&[]);
    let run = format!("exec {} run", support::weir::binary().display());
    let mut terminal = Command::new("script");
    terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    terminal.current_dir(place.dir()).args(["-qec", &run, "/dev/null"]).stdout(Stdio::null());
    let mut terminal = terminal.stdin(Stdio::null()).spawn().unwrap();
    said("started, 1 pipeline");
    // While the terminal is there, it is a reload.
    let children = format!("/proc/{0}/task/{0}/children", terminal.id());
    let weir: u32 = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let _ended = EndedWithTheTest(weir);
    support::signal(weir, "HUP");
    said("configuration reloaded");
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    said("SIGHUP, the terminal is gone: delivering what is in flight");
    said("stopped, everything is delivered");
}

#[test]
fn a_start_that_hangs_can_be_ended_by_force() {
    let place = Place::new();
    let mut weir = starting(&place);
    weir.signal("TERM");
    // Closer together they would be one wish.
    std::thread::sleep(Duration::from_millis(300));
    weir.signal("TERM");
    assert_eq!(weir.wait(), 74, "{}", weir.errors());
}

#[test]
fn a_reload_may_be_asked_for_at_any_moment_of_a_start() {
    let mut rng = Rng::seeded(3);
    for round in 0..30 {
        let place = Place::new().with("pipelines.toml", CONFIG);
        let mut command = place.command(&["run"]);
        let mut weir = place.spawn(command.stdout(Stdio::null()), free_port());
        let id = weir.child().id();
        let end = std::time::Duration::from_secs(30);
        let begun = logweir::base::clock::now();
        while !catches(id, HUP) {
            assert!(begun.elapsed() < end, "round {round}: it never hears signals");
        }
        std::thread::sleep(Duration::from_micros(rng.below(20_000)));
        weir.signal("HUP");
        wait_said(&mut weir, "configuration reloaded");
        weir.stop();
    }
}
