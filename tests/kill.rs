//! `kill -9` at random moments while tailing under rotation: every line that was written reaches the file sink at
//! least once, also when the input is copied and truncated and the output is rotated. The number of repeats is
//! printed.

#![expect(clippy::print_stdout, reason = "the count of repeats is what this test states")]

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use logweir::base::{clock, rng::Rng};

const LINES_PER_FILE: u64 = 2_000;

/// How the input is rotated, and the options of the output.
#[derive(Clone, Copy)]
struct Variation {
    rounds: usize,
    copytruncate: bool,
    sink: &'static str,
}

fn config(dir: &Path, sink: &str) -> String {
    let dir = dir.display();
    format!(
        r#"
state_dir = "{dir}/state"
[server]
enabled = false
[[pipelines]]
name = "kill"
[[pipelines.sources]]
type = "file"
path = "{dir}/logs/app.log*"
[[pipelines.sinks]]
type = "file"
path = "{dir}/out.log"
{sink}
"#
    )
}

fn start(dir: &Path) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(dir.join("weir.err")).expect("writable");
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "-c"])
        .arg(dir.join("weir.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("weir starts")
}

/// Writes numbered lines, rotating now and then, until told to stop; counts them.
fn write_lines(dir: &Path, copytruncate: bool, stop: &AtomicBool, written: &AtomicU64) {
    let path = dir.join("logs/app.log");
    let open = || OpenOptions::new().create(true).append(true).open(&path).expect("writable");
    let mut file = open();
    let (mut number, mut rotations) = (0u64, 0u64);
    while !stop.load(Ordering::Relaxed) {
        let mut chunk = Vec::new();
        for _ in 0..20 {
            writeln!(chunk, "line {number:010} of the log, with some more text to look like one, end")
                .expect("memory");
            number += 1;
        }
        file.write_all(&chunk).expect("writable");
        written.store(number, Ordering::Relaxed);
        if number % LINES_PER_FILE == 0 {
            rotations += 1;
            let aside = dir.join(format!("logs/app.log.{rotations}"));
            if copytruncate {
                fs::copy(&path, aside).expect("copied");
                file.set_len(0).expect("truncated");
            } else {
                fs::rename(&path, aside).expect("renamed");
                file = open();
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How often each line number arrived; torn lines of a crash do not count.
fn arrived(dir: &Path) -> HashMap<u64, u64> {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    let outputs = entries.filter(|e| e.file_name().to_string_lossy().starts_with("out.log"));
    let text: Vec<u8> = outputs.flat_map(|e| fs::read(e.path()).unwrap_or_default()).collect();
    let mut seen = HashMap::new();
    for line in text.split(|b| *b == b'\n') {
        let line = String::from_utf8_lossy(line);
        let number = line.strip_prefix("line ").filter(|l| l.len() == 64).and_then(|l| l[..10].parse().ok());
        if let Some(number) = number.filter(|_| line.ends_with(", end")) {
            *seen.entry(number).or_insert(0) += 1;
        }
    }
    seen
}

#[test]
fn kill_nine_under_rotation_loses_nothing() {
    kill_nine(Variation { rounds: 50, copytruncate: false, sink: "" });
}

#[test]
fn kill_nine_under_copytruncate_and_rotated_output_loses_nothing() {
    kill_nine(Variation { rounds: 30, copytruncate: true, sink: "rotate = { max_size = \"200KiB\" }" });
}

fn kill_nine(variation: Variation) {
    let Variation { rounds, copytruncate, sink } = variation;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().to_owned();
    fs::create_dir(dir.join("logs")).expect("writable");
    fs::write(dir.join("weir.toml"), config(&dir, sink)).expect("writable");
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = std::thread::spawn({
        let (dir, stop, written) = (dir.clone(), stop.clone(), written.clone());
        move || write_lines(&dir, copytruncate, &stop, &written)
    });
    let seed = std::env::var_os("TEST_SEED").and_then(|s| s.to_str()?.parse().ok()).unwrap_or(1);
    let mut rng = Rng::seeded(seed);
    for _ in 0..rounds {
        let mut child = start(&dir);
        std::thread::sleep(Duration::from_millis(20 + rng.below(200)));
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer ends");
    let total = written.load(Ordering::Relaxed);

    let mut last = start(&dir);
    let deadline = clock::now() + Duration::from_secs(30);
    while (arrived(&dir).len() as u64) < total && clock::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    last.kill().expect("killed");
    last.wait().expect("reaped");
    let seen = arrived(&dir);
    let missing: Vec<u64> = (0..total).filter(|n| !seen.contains_key(n)).take(10).collect();
    let repeats: u64 = seen.values().map(|n| n - 1).sum();
    println!(
        "kill -9 x {rounds}, copytruncate {copytruncate}, seed {seed}: {total} lines written, {} arrived, {repeats} repeats",
        seen.len()
    );
    let errors = fs::read_to_string(dir.join("weir.err")).unwrap_or_default();
    assert!(missing.is_empty(), "missing {missing:?} of {total}; weir said:\n{errors}");
}
