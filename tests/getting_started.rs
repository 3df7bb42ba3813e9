//! Runs the shell blocks of `docs/GETTING-STARTED.md` as one script and compares what each prints with the
//! `output` block that follows it, on a port of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cli_support;

use std::path::Path;
use std::process::Command;

use cli_support::{Place, finish, free_port};

/// Ends what a block prints; no block prints it itself.
const MARK: &str = "-- end of a block --";

/// The `sh` blocks of a text, each with the `output` block behind it.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut lines = text.split_inclusive('\n');
    while let Some(line) = lines.next() {
        let kind = line.trim_end();
        if !kind.starts_with("```") {
            continue;
        }
        let body: String = lines.by_ref().take_while(|line| line.trim_end() != "```").collect();
        match kind {
            "```sh" => blocks.push((body, String::new())),
            "```output" => blocks.last_mut().unwrap().1 = body,
            _ => panic!("unknown block {kind}"),
        }
    }
    blocks
}

#[test]
fn the_walk_through_prints_what_it_says() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("SKIP the_walk_through_prints_what_it_says: curl is not installed");
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/GETTING-STARTED.md");
    let blocks = blocks(&std::fs::read_to_string(path).unwrap());
    assert!(blocks.len() > 5, "the walk-through is gone");
    let port = free_port().to_string();
    let mut script = String::new();
    for (block, _) in &blocks {
        script += &format!("{}echo '{MARK}'\n", block.replace("8080", &port));
    }
    // Whatever goes wrong, nothing is left behind, and nothing waits for ever.
    script = format!("trap 'kill $weir_pid' EXIT\nweir_pid=\n{script}trap - EXIT\n");
    let place = Place::new(&[]);
    let binary = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap().display().to_string();
    // In a directory of its own, where no configuration lies about.
    let mut command = Command::new("timeout");
    command.args(["50", "sh", "-c", &script]).current_dir(place.path("")).stdin(std::process::Stdio::null());
    command.env_clear().env("HOME", place.path("home")).env("TMPDIR", place.path(""));
    command.env("PATH", format!("{binary}:/usr/local/bin:/usr/bin:/bin"));
    command.env("WEIR_SERVER_LISTEN", format!("127.0.0.1:{port}"));
    let run = finish(&mut command);
    let printed: Vec<&str> = run.stdout.split(&format!("{MARK}\n")).collect();
    for ((block, expected), printed) in blocks.iter().zip(&printed) {
        assert_eq!(printed, expected, "printed by\n{block}standard error:\n{}", run.stderr);
    }
    assert_eq!(run.code, 0, "{}", run.stderr);
}
