//! Runs what the documentation tells users to run, on ports of its own: the shell blocks of
//! `docs/GETTING-STARTED.md` and of each guide as one script, comparing what each prints with the `output` block that
//! follows it, and the Python client of `docs/STREAMING.md` through a crash.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use support::docs::{blocks, page};
use support::weir::{Place, finish};
use support::{Killed, free_port, installed, skip};

/// Ends what a block prints; no block prints it itself.
const MARK: &str = "-- end of a block --";

/// Ports that the documentation names; each becomes a free one.
const PORTS: [&str; 5] = ["8080", "8081", "8443", "5170", "5514"];

/// Runs the shell blocks of a page as one script, in a directory of its own where no configuration lies about, and
/// compares what each prints.
fn run_page(name: &str, blocks_min: usize, programs: &[&str]) {
    if let Some(program) = programs.iter().find(|program| !installed(program)) {
        return skip(name, &format!("{program} is not installed"));
    }
    let text = page(name);
    let mut blocks = blocks(&text);
    assert!(blocks.len() >= blocks_min, "the walk-through is gone");
    let ports = PORTS.map(|port| (port, free_port().to_string()));
    for text in blocks.iter_mut().flat_map(|(block, output)| [block, output]) {
        ports.iter().for_each(|(named, free)| *text = text.replace(named, free));
    }
    let body: String = blocks.iter().map(|(block, _)| format!("{block}echo '{MARK}'\n")).collect();
    // Whatever goes wrong, nothing is left behind, and nothing waits for ever.
    let script =
        format!("trap 'kill $weir_pid $central_pid' EXIT\nweir_pid= central_pid=\n{body}trap - EXIT\n");
    let place = Place::new();
    let binary = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap().display().to_string();
    let mut command = Command::new("timeout");
    command.args(["50", "sh", "-c", &script]).current_dir(place.path("")).stdin(Stdio::null());
    command.env_clear().env("HOME", place.path("home")).env("TMPDIR", place.path(""));
    command.env("XDG_RUNTIME_DIR", place.path("run"));
    command.env("PATH", format!("{binary}:/usr/local/bin:/usr/bin:/bin"));
    if !text.contains("[server]") {
        command.env("WEIR_SERVER_LISTEN", format!("127.0.0.1:{}", ports[0].1));
    }
    let run = finish(&mut command);
    let printed: Vec<&str> = run.stdout.split(&format!("{MARK}\n")).collect();
    for ((block, expected), printed) in blocks.iter().zip(&printed) {
        assert_eq!(printed, expected, "{name}: printed by\n{block}standard error:\n{}", run.stderr);
    }
    assert_eq!(run.code, 0, "{name}: {}", run.stderr);
}

#[test]
fn the_walk_through_prints_what_it_says() {
    run_page("GETTING-STARTED.md", 6, &["curl"]);
}

#[test]
fn the_guide_to_http_prints_what_it_says() {
    run_page("guides/receive-logs-over-http.md", 5, &["curl", "gzip"]);
}

#[test]
fn the_guide_to_sockets_prints_what_it_says() {
    run_page("guides/receive-logs-over-tcp-udp-unix.md", 3, &["nc", "logger"]);
}

#[test]
fn the_guide_to_forwarding_prints_what_it_says() {
    run_page("guides/forward-logs.md", 5, &["curl"]);
}

#[test]
fn the_guide_to_guards_prints_what_it_says() {
    run_page("guides/secure-a-listener.md", 6, &["curl"]);
}

#[test]
fn the_guide_to_operation_prints_what_it_says() {
    run_page("guides/reload-and-operate.md", 4, &["curl"]);
}

#[test]
fn the_guide_to_looking_inside_prints_what_it_says() {
    run_page("guides/look-inside.md", 3, &["curl"]);
}

#[test]
fn the_guide_to_looking_prints_what_it_says() {
    run_page("guides/look-at-logs.md", 4, &[]);
}

#[test]
fn the_guide_to_tests_prints_what_it_says() {
    run_page("guides/test-a-config.md", 4, &[]);
}

#[test]
fn moving_from_logwisp_prints_what_it_says() {
    run_page("migrate/from-logwisp.md", 2, &["curl"]);
}

#[test]
fn moving_from_vector_prints_what_it_says() {
    run_page("migrate/from-vector.md", 2, &[]);
}

#[test]
fn moving_from_fluent_bit_prints_what_it_says() {
    run_page("migrate/from-fluent-bit.md", 2, &[]);
}

#[test]
fn moving_from_rsyslog_prints_what_it_says() {
    run_page("migrate/from-rsyslog.md", 2, &["logger"]);
}

#[test]
fn the_guide_to_the_live_page_prints_what_it_says() {
    run_page("guides/live-page.md", 2, &["curl"]);
}

const TICKING: &str = r#"
[[pipelines]]
name = "app"
sources = [{ type = "generate", events_per_second = 20 }]
sinks = [{ type = "http" }]
"#;

#[test]
fn the_python_client_goes_on_after_a_crash() {
    if !installed("python3") {
        return skip("the_python_client_goes_on_after_a_crash", "python3 is not installed");
    }
    let port = free_port().to_string();
    let place = Place::new().with("weir.toml", TICKING);
    let listen = format!("127.0.0.1:{port}");
    let weir = || {
        let mut command = place.command(&["run", "-c", "weir.toml", "--server.listen", &listen]);
        Killed(command.stderr(Stdio::null()).spawn().unwrap())
    };
    let text = page("STREAMING.md");
    let code = text.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let first = weir();
    // It ends by itself, should the test wait in vain.
    let code = format!("import signal; signal.alarm(40)\n{}", code.replace("8080", &port));
    let mut command = Command::new("python3");
    command.args(["-u", "-c", &code]).stdin(Stdio::null()).stderr(Stdio::null());
    let mut client = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(client.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let is_row = |line: &String| line.contains(" took=");
    assert_eq!(lines.by_ref().take(30).filter(is_row).count(), 30);
    // Killed with SIGKILL; history goes with it, and the client is told so.
    drop(first);
    let second = weir();
    assert_eq!(lines.by_ref().find(|line| !is_row(line)).as_deref(), Some("missed: None"));
    assert_eq!(lines.by_ref().take(30).filter(is_row).count(), 30);
    drop(second);
}
