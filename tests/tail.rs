//! `weir tail` from outside: files and what happens to them while they are followed, pipes, streams of a running weir
//! that dies and comes back, terminals, and readers that go.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

mod support;

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use support::weir::{Place, Weir, finish, wait};
use support::{PATIENCE, free_port, installed, skip};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/real");

/// A `weir tail` that goes on, and the lines it has printed; it is killed with the test.
struct Tail {
    child: Child,
    lines: Receiver<String>,
    told: Receiver<String>,
}

impl Tail {
    fn start(command: &mut Command) -> Tail {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = reading(child.stdout.take().unwrap());
        let told = reading(child.stderr.take().unwrap());
        Tail { child, lines, told }
    }

    /// The next line.
    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let told: Vec<String> = self.told.try_iter().collect();
            panic!("no line came; standard error: {told:?}")
        })
    }

    fn expect(&self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.next(), *line);
        }
    }

    /// Waits for something on standard error.
    fn expect_told(&self, part: &str) {
        loop {
            let line = self.told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("never told: {part}"));
            if line.contains(part) {
                return;
            }
        }
    }

    fn end(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.iter().collect()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn reading(from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = sync_channel(100_000);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            if line.map(|line| send.send(line)).is_err() {
                break;
            }
        }
    });
    lines
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// A text without its colours; other sequences stay.
fn without_colors(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('m') {
            Some((code, rest)) if code.bytes().all(|b| b.is_ascii_digit() || b == b';') => {
                plain.push_str(rest)
            }
            _ => plain.push_str(&format!("\x1b[{part}")),
        }
    }
    plain
}

#[test]
fn the_last_lines_as_tail_shows_them_and_then_what_is_new() {
    let place = Place::new().with("app.log", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12 partial");
    let log = place.path("app.log");
    assert_eq!(
        place.run(&["tail", "--no-follow", "app.log"]).stdout,
        "3\n4\n5\n6\n7\n8\n9\n10\n11\n12 partial"
    );
    assert_eq!(place.run(&["tail", "--no-follow", "-n", "all", "app.log"]).stdout.lines().count(), 12);
    assert_eq!(place.run(&["tail", "--no-follow", "-n", "0", "app.log"]).stdout, "");
    // Followed, the line that is being written comes when it is whole.
    let tail = Tail::start(&mut place.command(&["tail", "-f", "-n", "2", "app.log"]));
    tail.expect(&["10", "11"]);
    append(&log, " no more\n13\n");
    tail.expect(&["12 partial no more", "13"]);
    assert!(tail.end().is_empty());
}

#[test]
fn files_are_followed_through_rotation_truncation_and_late_arrival() {
    let place = Place::new().with("logs/app.log", "old\n");
    let log = place.path("logs/app.log");
    let tail = Tail::start(&mut place.command(&["tail", "-n", "1", "logs/*.log"]));
    tail.expect(&["old"]);
    append(&log, "before\n");
    tail.expect(&["before"]);
    std::fs::rename(&log, place.path("logs/app.log.1")).unwrap();
    append(&place.path("logs/app.log.1"), "last words\n");
    append(&log, "after\n");
    let mut both = [tail.next(), tail.next()];
    both.sort();
    assert_eq!(both, ["after", "last words"]);
    append(&place.path("logs/new.log"), "from its beginning\n");
    tail.expect(&["from its beginning"]);
    OpenOptions::new().write(true).truncate(true).open(&log).unwrap();
    append(&log, "anew\n");
    tail.expect(&["anew"]);
    assert!(tail.end().is_empty(), "nothing twice");
    assert!(!place.path(".local").exists(), "no checkpoints are kept");
}

#[test]
fn nothing_between_what_is_there_and_what_comes_is_lost_or_repeated() {
    let place = Place::new().with("a.log", "").with("b.log", "");
    let (path, stop) = (place.path("a.log"), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let stopped = stop.clone();
    let writer = std::thread::spawn(move || {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        let mut n = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            // In two writes: lines are seen half written.
            write!(file, "line {n}").unwrap();
            writeln!(file, " end").unwrap();
            n += 1;
        }
        n
    });
    let tail = Tail::start(&mut place.command(&["tail", "-n", "all", "a.log", "b.log"]));
    let got: Vec<String> = (0..20_000).map(|_| tail.next()).collect();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let written: usize = writer.join().unwrap();
    let rest: Vec<String> = (20_000..written).map(|_| tail.next()).collect();
    for (n, line) in got.iter().chain(&rest).enumerate() {
        assert_eq!(*line, format!("line {n} end"));
    }
    assert!(tail.end().is_empty());
}

#[test]
fn pipes_end_and_pass_byte_for_byte() {
    let place = Place::new();
    for input in [&b""[..], b"a\nb\r\n\n\xff\x00\x1b[31mx", b"no end"] {
        let mut command = place.command(&["tail"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((&output.stdout[..], output.status.code()), (input, Some(0)));
    }
    let many: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
    assert_eq!(place.piped(&["tail", "-"], many.as_bytes()).stdout, many);
    assert_eq!(place.piped(&["tail", "-n", "2"], many.as_bytes()).stdout, "line 49998\nline 49999\n");
    assert_eq!(place.piped(&["tail", "-q", "49998"], many.as_bytes()).stdout, "line 49998\n");
    if Path::new("/proc/self/status").exists() {
        let run = place.run(&["tail", "-i", "^Pid", "/proc/self/status"]);
        assert_eq!((run.stdout.lines().count(), run.code), (1, 0), "what says that it is empty and is not");
    }
    // Line by line as they come, not only at the end.
    let mut command = place.command(&["tail"]);
    let mut tail = Tail::start(command.stdin(Stdio::piped()));
    let mut stdin = tail.child.stdin.take().unwrap();
    stdin.write_all(b"first\n").unwrap();
    tail.expect(&["first"]);
    drop(stdin);
    assert_eq!(tail.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_asked_for_is_what_is_shown() {
    let log = "\
2026-11-21 10:00:00 INFO started\n\
2026-11-21 10:00:01 ERROR it broke\n\
java.lang.IllegalStateException: no\n\
\tat com.example.App.run(App.java:7)\n\
2026-11-21 10:00:02 WARN careful user=ann\n\
2026-11-21 10:00:03 INFO done\n";
    let place = Place::new().with("app.log", log);
    let shown = |args: &[&str]| {
        let run = place.run(&[&["tail", "--no-follow", "app.log"], args].concat());
        assert_eq!((run.code, &*run.stderr), (0, ""), "{args:?}");
        run.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(shown(&["-l", "error"]), lines[1..4], "a stack trace comes along");
    assert_eq!(shown(&["-l", "warn", "-n", "1"]), lines[4..5]);
    assert_eq!(shown(&["-q", "broke"]), lines[1..4]);
    assert_eq!(shown(&["-q", "user:ann OR level:error", "-n", "1"]), lines[4..5]);
    assert_eq!(shown(&["-i", "user=\\w+"]), lines[4..5]);
    assert_eq!(
        shown(&["-x", "INFO|broke"]),
        ["java.lang.IllegalStateException: no", "\tat com.example.App.run(App.java:7)", lines[4]]
    );
    assert_eq!(shown(&["--since", "2026-11-21T10:00:02"]), lines[4..]);
    assert_eq!(shown(&["--since", "2026-11-21T10:00:01", "-n", "2"]), lines[4..]);
    assert!(shown(&["--since", "1m"]).is_empty() || lines[0].starts_with("2026"));
}

#[test]
fn inputs_are_merged_in_the_order_of_time() {
    let line = |n: u32| format!("2026-11-21 10:00:{n:02} line {n}\n");
    let (mut a, mut b, mut c) = (String::new(), String::new(), String::new());
    for n in 0..60 {
        match n % 3 {
            0 => a.push_str(&line(n)),
            1 => b.push_str(&(line(n) + "  goes with it\n")),
            _ => c.push_str(&line(n)),
        }
    }
    let place = Place::new().with("a.log", &a).with("b.log", &b).with("c.log", &c);
    let mut gz = Command::new("gzip");
    assert!(gz.arg(place.path("c.log")).status().unwrap().success());
    let run = place.run(&["tail", "--no-follow", "-n", "all", "a.log", "b.log", "c.log.gz"]);
    let expected: String =
        (0..60).map(|n| line(n) + if n % 3 == 1 { "  goes with it\n" } else { "" }).collect();
    assert_eq!(run.stdout, expected);
    // Live, lines that come late by less than the window find their place.
    let tail = Tail::start(&mut place.command(&["tail", "-n", "0", "a.log", "b.log"]));
    std::thread::sleep(Duration::from_millis(500));
    append(&place.path("b.log"), "2026-11-21 11:00:02 second\n");
    append(&place.path("a.log"), "2026-11-21 11:00:01 first\n");
    tail.expect(&["2026-11-21 11:00:01 first", "2026-11-21 11:00:02 second"]);
}

#[test]
fn colors_json_and_labels_are_for_whom_they_are_asked_for() {
    let place = Place::new()
        .with(
            "app.log",
            "{\"level\":\"error\",\"msg\":\"it broke\",\"a\":{\"b\":1},\"evil\":\"\\u001b[2J\"}\n",
        )
        .with("web.log", "10.0.0.1 \u{1b}]0;title\u{7} GET\n");
    let run = |args: &[&str]| place.run(&[&["tail", "--no-follow"], args].concat()).stdout;
    assert_eq!(run(&["-o", "pretty", "app.log"]), "ERROR it broke a.b=1 evil=\\x1b[2J\n");
    assert_eq!(run(&["app.log"]), std::fs::read_to_string(place.path("app.log")).unwrap());
    let colored = run(&["--color", "always", "app.log"]);
    assert!(
        colored.starts_with("\x1b[1;31mERROR\x1b[0m it broke") && !colored.contains("\x1b[2J"),
        "{colored:?}"
    );
    let both = run(&["-o", "pretty", "app.log", "web.log"]);
    assert!(
        both.contains("app.log | ERROR it broke")
            && both.contains("web.log | 10.0.0.1 \\x1b]0;title\\x07 GET"),
        "{both}"
    );
    assert_eq!(run(&["web.log"]), "10.0.0.1 \u{1b}]0;title\u{7} GET\n", "raw in a pipe is raw");
    let json: serde_json::Value = serde_json::from_str(&run(&["-o", "json", "web.log"])).unwrap();
    assert_eq!(
        (json["source"].as_str(), json["message"].as_str()),
        (Some("web.log"), Some("10.0.0.1 \u{1b}]0;title\u{7} GET"))
    );
}

#[test]
fn a_terminal_gets_colors_and_nothing_that_steers_it() {
    if !installed("script") {
        return skip("a_terminal_gets_colors_and_nothing_that_steers_it", "script is not installed");
    }
    let place = Place::new().with("app.log", "2026-11-21 10:00:00 ERROR \u{1b}[2J\u{1b}]0;x\u{7} end\n");
    let on_terminal = |args: &str, no_color: bool| {
        let line = format!("{} tail --no-follow app.log {args}", env!("CARGO_BIN_EXE_weir"));
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).current_dir(place.path("")).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", place.path("")).env("TERM", "xterm");
        if no_color {
            command.env("NO_COLOR", "1");
        }
        finish(&mut command).stdout
    };
    let pretty = on_terminal("", false);
    assert!(pretty.contains("\x1b[1;31mERROR\x1b[0m"), "{pretty:?}");
    let plain = on_terminal("", true);
    for text in [pretty, plain.clone(), on_terminal("-o raw", false), on_terminal("--color never", false)] {
        let text = without_colors(&text);
        assert!(text.contains("ERROR \\x1b[2J\\x1b]0;x\\x07 end") && !text.contains('\x1b'), "{text:?}");
    }
    assert!(!plain.contains('\x1b'), "{plain:?}");
}

#[test]
fn on_a_terminal_it_says_whom_it_asks_unless_that_was_said() {
    if !installed("script") {
        return skip("on_a_terminal_it_says_whom_it_asks_unless_that_was_said", "script is not installed");
    }
    let place = Place::new().with("in.log", "INFO one\n");
    let config = "[[pipelines]]\nname = \"app\"\nsources = [{ type = \"file\", path = \"DIR/in.log\" }]\nsinks = [{ type = \"http\" }]\n";
    let weir = place.started(config);
    let address = weir.authority();
    place.write(
        "tail.toml",
        format!("server.listen = \"{address}\"\n{}", config.replace("DIR", "/nonexistent")),
    );
    let on_terminal = |args: &str| {
        let line = format!("{} tail -n 1 --no-follow {args}", env!("CARGO_BIN_EXE_weir"));
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).current_dir(place.path("")).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", place.path("")).env("NO_COLOR", "1");
        finish(&mut command).stdout.replace("\r\n", "\n")
    };
    assert!(on_terminal("-c tail.toml").starts_with(&format!("-- streams of http://{address}\n")));
    assert!(!on_terminal(&address).contains("streams of"));
    weir.stop();
}

#[test]
fn readers_that_go_end_it_quietly() {
    let many: String = (0..200_000).map(|n| format!("line {n}\n")).collect();
    let place = Place::new().with("app.log", &many);
    for output in ["raw", "json", "pretty"] {
        let mut command = place.command(&["tail", "--no-follow", "-n", "all", "-o", output, "app.log"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
        let run = wait(child);
        assert_eq!((run.code, &*run.stderr), (0, ""), "{output}");
    }
    // Also while nothing comes that could not be written.
    let mut command = place.command(&["tail", "-n", "1", "app.log"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
    let run = wait(child);
    assert_eq!((run.code, &*run.stderr), (0, ""));
}

#[test]
fn what_cannot_be_shown_is_said_with_a_way_out() {
    let place = Place::new().with("app.log", "x\n");
    let port = free_port();
    for (args, code, said) in [
        (&["ap.log"][..], 66, "did you mean `app.log`?"),
        (&["*.txt"], 66, "no file matches *.txt"),
        (&["nowhere/x.log"], 66, "there is no directory nowhere"),
        (&[&format!("localhost:{port}/app")], 69, "weir demo"),
        (&["ftp://x/y"], 64, "the scheme `ftp` is not supported"),
        (&["-q", "level:loud", "app.log"], 64, "^"),
        (&["-i", "(", "app.log"], 64, "--include '('"),
        (&["-n", "many", "app.log"], 64, "a number or `all`"),
        (&["--since", "yesterday", "app.log"], 64, "a duration like `15m`"),
        (&["--token-file", "t", "app.log"], 64, "are for URLs"),
    ] {
        let run = place.run(&[&["tail"], args].concat());
        assert_eq!(run.code, code, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(said), "{args:?}: {}", run.stderr);
        assert!(run.stdout.is_empty());
    }
}

const CONFIG: &str = r#"
state_dir = "state"
[[pipelines]]
name = "app"
sources = [{ type = "file", path = "app.log" }]
sinks = [{ type = "http" }]
[[pipelines]]
name = "web"
sources = [{ type = "file", path = "web.log" }]
sinks = [{ type = "http" }]
"#;

/// A weir that is ready.
fn weir(place: &Place, port: u16) -> Weir {
    let listen = format!("127.0.0.1:{port}");
    let mut command = place.command(&["run", "-c", "weir.toml", "--server.listen", &listen]);
    let mut weir = place.spawn(command.stdout(Stdio::null()), port);
    weir.wait_ready();
    weir
}

fn numbered(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("INFO line {n}\n")).collect()
}

#[test]
fn a_stream_goes_on_where_it_was_when_its_weir_comes_back() {
    let place = Place::new().with("weir.toml", CONFIG).with("app.log", numbered(0..20)).with("web.log", "");
    let (port, log) = (free_port(), place.path("app.log"));
    let first = weir(&place, port);
    let url = format!("localhost:{port}/app");
    let tail = Tail::start(&mut place.command(&["tail", "-n", "5", &url]));
    let expect = |range: std::ops::Range<u32>| range.for_each(|n| tail.expect(&[&format!("INFO line {n}")]));
    expect(15..20);
    append(&log, &numbered(20..30));
    expect(20..30);
    // Stopped in order, it knows what it has delivered: what comes meanwhile is read by the next one.
    first.stop();
    tail.expect_told("trying again");
    append(&log, &numbered(30..40));
    let second = weir(&place, port);
    tail.expect_told("connected again");
    append(&log, &numbered(40..50));
    expect(30..50);
    // Killed, so that nobody says goodbye. It may read again what it had read a moment before, but nothing is missing.
    drop(second);
    tail.expect_told("trying again");
    append(&log, &numbered(50..60));
    let third = weir(&place, port);
    let number = |line: String| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap();
    let from = number(tail.next());
    assert!(from <= 50, "{from}");
    expect(from + 1..60);
    drop(third);
    assert!(tail.end().is_empty(), "nothing twice");
}

#[test]
fn streams_are_chosen_there_and_shown_here() {
    let place = Place::new()
        .with("weir.toml", CONFIG)
        .with("app.log", "2026-11-21 10:00:00 INFO one\n2026-11-21 10:00:02 ERROR three\n")
        .with(
            "web.log",
            "{\"time\":\"2026-11-21T10:00:01Z\",\"level\":\"warn\",\"msg\":\"two\",\"path\":\"/x\"}\n",
        );
    let port = free_port();
    let weir = weir(&place, port);
    let run = |args: &[&str]| {
        let run = place.run(&[&["tail", "--no-follow"], args].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout
    };
    let (all, app) = (format!("http://127.0.0.1:{port}/"), format!("localhost:{port}/app"));
    // History is filled a moment after it is ready.
    for _ in 0..100 {
        if run(&["-n", "all", &all]).lines().count() == 3 {
            break;
        }
    }
    assert_eq!(run(&[&app]), "2026-11-21 10:00:00 INFO one\n2026-11-21 10:00:02 ERROR three\n");
    assert_eq!(run(&["-n", "1", &format!("{app}/stream")]), "2026-11-21 10:00:02 ERROR three\n");
    assert_eq!(run(&["-l", "error", &app]), "2026-11-21 10:00:02 ERROR three\n");
    assert_eq!(run(&["-i", "o+ne", &app]), "2026-11-21 10:00:00 INFO one\n");
    assert_eq!(run(&["-q", "three AND level:>=warn", &app]), "2026-11-21 10:00:02 ERROR three\n");
    assert_eq!(run(&["--since", "2026-11-21T10:00:01", &app]), "2026-11-21 10:00:02 ERROR three\n");
    let pretty = run(&["-o", "pretty", &all]);
    assert!(pretty.contains("web | 2026-11-21 10:00:01.000Z WARN  two path=/x"), "{pretty}");
    for line in run(&["-o", "json", &all]).lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["pipeline"].is_string() && event["message"].is_string(), "{line}");
    }
    // With a file, in the order of time.
    std::fs::write(place.path("own.log"), "2026-11-21 10:00:01 own\n").unwrap();
    let merged = run(&[&app, "own.log"]);
    assert_eq!(
        merged.lines().map(|l| l.rsplit(' ').next().unwrap()).collect::<Vec<_>>(),
        ["one", "own", "three"]
    );
    let unknown = place.run(&["tail", &format!("localhost:{port}/ap")]);
    assert_eq!(unknown.code, 69);
    assert!(
        unknown.stderr.contains("unknown pipeline: `ap`") && unknown.stderr.contains("did you mean `app`?"),
        "{}",
        unknown.stderr
    );
    // Without arguments, the weir of the configuration at hand.
    let usual = place.run(&[
        "tail",
        "--no-follow",
        "-n",
        "all",
        "-c",
        "weir.toml",
        "--server.listen",
        &format!("127.0.0.1:{port}"),
    ]);
    assert_eq!(usual.stdout.lines().count(), 3, "{}", usual.stderr);
    drop(weir);
}

#[test]
fn logs_of_real_systems_are_shown_whole() {
    let dir = Path::new(SAMPLES);
    if !dir.is_dir() {
        return skip("logs_of_real_systems_are_shown_whole", "the samples are not there");
    }
    let place = Place::new();
    let mut files: Vec<PathBuf> = dir.read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "log"));
    for path in files {
        let name = path.to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let run = |args: &[&str]| place.run(&[&["tail", "--no-follow", name], args].concat()).stdout;
        assert_eq!(run(&["-n", "all"]), text, "{name}");
        assert_eq!(run(&["-o", "json", "-n", "all"]).lines().count(), text.lines().count(), "{name}");
        // Laid out and coloured, each line is still the line.
        let pretty = run(&["-o", "pretty", "-n", "all", "--color", "always"]);
        let mut lines = 0;
        for (shown, line) in pretty.lines().zip(text.lines()) {
            assert_eq!(without_colors(shown), line.trim_end_matches('\r'), "{name}");
            lines += 1;
        }
        assert_eq!(lines, text.lines().count(), "{name}");
    }
}
