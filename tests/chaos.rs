//! `kill -9` at random moments over tailing under rotation, a disk buffer and a receiver that misbehaves, with
//! reloads that change the sink, and SIGSTOP, in between: every line arrives. Over HTTP nothing may be missing; over
//! plain TCP only what a dying receiver's own socket had taken. `CHAOS_ROUNDS=200 cargo test --release --test chaos --
//! --nocapture` is the long form.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::print_stdout, reason = "the count of repeats is what this test states")]

mod support;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use logweir::base::rng::Rng;

use support::receiver::Receiver;
use support::weir::{Place, Weir};
use support::{eventually, free_port};

const LINES_PER_FILE: u64 = 3_000;
const ROUNDS: u64 = 12;
/// Most time between a line and the kill, reload or end of a connection that brings it again: places are noted every
/// 500 ms (docs/DELIVERY.md) when the disk has them, and disks have been seen to take seconds for it.
const REPEATS_WITHIN: Duration = Duration::from_secs(15);

fn number(name: &str) -> Option<u64> {
    std::env::vars().find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok())
}

/// Writes numbered lines under rotation until told to stop; counts them.
fn write_lines(dir: &Path, stop: &AtomicBool, written: &AtomicU64) {
    let path = dir.join("logs/app.log");
    let open = || OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let (mut file, mut number) = (open(), 0u64);
    while !stop.load(Ordering::Relaxed) {
        let mut chunk = Vec::new();
        for _ in 0..20 {
            writeln!(chunk, "line {number:010} of the log, with some more text to look like one, end")
                .unwrap();
            number += 1;
        }
        file.write_all(&chunk).unwrap();
        written.store(number, Ordering::Relaxed);
        if number.is_multiple_of(LINES_PER_FILE) {
            let aside = dir.join(format!("logs/app.log.{}", number / LINES_PER_FILE));
            fs::rename(&path, aside).unwrap();
            file = open();
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// How many reloads changed something, over all rounds.
fn reloads(weir: &Weir) -> u64 {
    weir.errors().matches("configuration reloaded: changed").count() as u64
}

/// Runs weir through the rounds; what is left then must come in calm.
fn rounds(name: &str, receiver: &Receiver, config: &str, done: impl Fn(u64) -> Result<(), String>) {
    let seed = number("TEST_SEED").unwrap_or(1);
    let rounds = number("CHAOS_ROUNDS").unwrap_or(ROUNDS);
    let place = Place::new();
    fs::create_dir_all(place.path("logs")).unwrap();
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = thread::spawn({
        let (dir, stop, written) = (place.dir().to_owned(), stop.clone(), written.clone());
        move || write_lines(&dir, &stop, &written)
    });
    let (mut rng, mut waited) = (Rng::seeded(seed), 0);
    for round in 0..rounds {
        let mut weir = start(&place, config, 1000 + round);
        thread::sleep(Duration::from_millis(rng.below(500)));
        if rng.below(2) == 0 {
            // The start is to read the old one, so that the reload has something to change.
            weir.wait_ready();
            write_config(&place, config, 2000 + round, free_port());
            let before = reloads(&weir);
            receiver.cause();
            weir.signal("HUP");
            thread::sleep(Duration::from_millis(rng.below(200)));
            // Half of them are killed in the middle of it, the others after it, however slow the machine is.
            if rng.below(2) == 0 {
                eventually("the reload", || (reloads(&weir) > before).then_some(()));
                waited += 1;
            }
        }
        if rng.below(4) == 0 {
            weir.signal("STOP");
            thread::sleep(Duration::from_millis(rng.below(150)));
            // Now and then it never hears of it: killed while it is stopped.
            if rng.below(3) > 0 {
                weir.signal("CONT");
                thread::sleep(Duration::from_millis(rng.below(50)));
            }
        }
        if let Some(status) = weir.child().try_wait().unwrap() {
            panic!("it ended by itself in round {round} with {status}: {}", weir.errors());
        }
        receiver.cause();
        weir.signal("KILL");
        weir.wait_killed();
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    receiver.calm();
    let total = written.load(Ordering::Relaxed);
    let weir = start(&place, config, 3000);
    let mut verdict = Err(String::new());
    for _ in 0..1200 {
        verdict = done(total);
        if verdict.is_ok() {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    if let Err(missing) = verdict {
        let history = receiver.history.lock().unwrap().join("\n");
        panic!("{name}, seed {seed}: {missing}\n{history}\n{}", weir.errors());
    }
    let stalest = *receiver.stalest.lock().unwrap();
    assert!(
        stalest <= REPEATS_WITHIN,
        "a line came again that had come {stalest:.1?} before there was a cause"
    );
    let (reloads, rotations) = (reloads(&weir), total / LINES_PER_FILE);
    assert!(reloads >= waited && rotations > 0, "{reloads} reloads, {rotations} rotations");
    println!(
        "{name}: {rounds} rounds of kill -9, {reloads} reloads of a changed sink, {rotations} rotations, {total} \
        lines written, {} arrived, {} repeats, the oldest {stalest:.1?} before a cause",
        receiver.lines(),
        receiver.repeats()
    );
    weir.stop();
}

/// The same configuration with another harmless number in it, so that a reload has something to do.
fn write_config(place: &Place, config: &str, turn: u64, port: u16) {
    let text = format!("state_dir = \"DIR/state\"\nserver.listen = \"127.0.0.1:{port}\"\n{config}")
        .replace("TURN", &turn.to_string())
        .replace("DIR", place.dir().to_str().unwrap());
    place.write("pipelines.toml", text);
}

fn start(place: &Place, config: &str, turn: u64) -> Weir {
    let port = free_port();
    write_config(place, config, turn, port);
    let mut command = place.command(&["run"]);
    command.stdout(std::process::Stdio::null());
    place.spawn(&mut command, port)
}

/// Files under rotation into a disk buffer before a sink of these options. With each TURN a filter and the sink change.
fn config(sink: &str) -> String {
    format!(
        r#"
[[pipelines]]
name = "chaos"
[[pipelines.sources]]
type = "file"
path = "DIR/logs/app.log*"
[[pipelines.filters]]
type = "exclude"
patterns = ["never TURN"]
[[pipelines.sinks]]
{sink}
buffer = {{ type = "disk", max_bytes = "64MiB" }}
retry = {{ initial_delay = "10ms", max_delay = "20TURNus" }}
"#
    )
}

#[test]
fn every_line_arrives_over_http() {
    let receiver = Receiver::http(number("TEST_SEED").unwrap_or(1));
    let config = config(&format!(
        "type = \"http_client\"\nurl = \"http://127.0.0.1:{}/\"\nbatch = {{ max_wait = \"50ms\" }}\ntimeout = \"2s\"",
        receiver.port
    ));
    rounds("http", &receiver, &config, |total| {
        let arrived = receiver.arrived.lock().unwrap();
        let missing: Vec<u64> = (0..total).filter(|n| !arrived.contains_key(n)).take(20).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("missing {missing:?} of {total}")) }
    });
}

#[test]
fn every_line_arrives_over_tcp_save_what_a_dying_socket_held() {
    let receiver = Receiver::tcp(number("TEST_SEED").unwrap_or(1));
    let config = config(&format!(
        "type = \"tcp_client\"\naddress = \"127.0.0.1:{}\"\nformat = {{ type = \"raw\" }}",
        receiver.port
    ));
    rounds("tcp", &receiver, &config, |total| {
        let (arrived, held) = (receiver.arrived.lock().unwrap(), receiver.held.lock().unwrap());
        let lost: Vec<u64> = (0..total).filter(|n| !arrived.contains_key(n)).collect();
        let unexplained: Vec<u64> = lost.iter().copied().filter(|n| !held.contains(n)).collect();
        if !unexplained.is_empty() {
            let shown = &unexplained[..unexplained.len().min(20)];
            return Err(format!("missing {} of {total} for no reason: {shown:?}", unexplained.len()));
        }
        println!(
            "tcp: the receiver died {} times with {} lines unread in its sockets; {} lines never came, all of them \
            among those",
            receiver.deaths.load(Ordering::Relaxed),
            held.len(),
            lost.len()
        );
        Ok(())
    });
}
