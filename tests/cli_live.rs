//! Quick runs with the live page: a pipe passes through while it is served, the demo streams, and a health check
//! finds them. Every run takes a free port.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

use support::signal;
use support::weir::{Place, wait};

/// A run whose banner was read.
struct Live {
    child: Child,
    /// Host and port of the router.
    authority: String,
    banner: String,
    stderr: BufReader<ChildStderr>,
}

fn live(place: &Place, args: &[&str]) -> Live {
    let mut command = place.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut banner = String::new();
    while !banner.contains("curl -N") {
        assert_ne!(stderr.read_line(&mut banner).unwrap(), 0, "no banner: {banner}");
    }
    let authority = banner.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    Live { child, authority, banner, stderr }
}

/// Asks for a path and reads until `until` has come.
fn read_until(authority: &str, path: &str, until: &str) -> String {
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let (mut text, mut chunk) = (String::new(), [0; 1024]);
    while !text.contains(until) {
        let n = stream.read(&mut chunk).unwrap();
        assert_ne!(n, 0, "ended before `{until}`: {text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    text
}

#[test]
fn a_pipe_passes_through_while_it_is_served_and_ends_with_0() {
    let place = Place::new();
    let mut run = live(&place, &["--server.listen", "127.0.0.1:0"]);
    assert!(run.banner.contains(&format!("http://{}/stdin/\n", run.authority)), "{}", run.banner);
    let mut stdin = run.child.stdin.take().unwrap();
    stdin.write_all(b"first\n").unwrap();
    let mut stdout = BufReader::new(run.child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "first\n");
    let streamed = read_until(&run.authority, "/stdin/stream?format=raw&tail=10", "first");
    assert!(streamed.starts_with("HTTP/1.1 200"), "{streamed}");
    assert_eq!(place.run(&["health", &format!("http://{}", run.authority)]).code, 0);
    stdin.write_all(b"second \xff\r\n\nthird\n").unwrap();
    drop(stdin);
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"second \xff\r\n\nthird\n");
    assert_eq!(wait(run.child).code, 0);
    let mut errors = String::new();
    run.stderr.read_to_string(&mut errors).unwrap();
    assert_eq!(errors, "", "nothing but the banner");
}

#[test]
fn a_megabyte_of_anything_passes_byte_for_byte() {
    let place = Place::new();
    let mut run = live(&place, &["--server.listen", "127.0.0.1:0"]);
    let mut rng = logweir::base::rng::Rng::seeded(7);
    let mut bytes: Vec<u8> = (0..1 << 20).map(|_| rng.next_u64() as u8).collect();
    // One line longer than the usual limit, and a line break at the end.
    bytes.extend(std::iter::repeat_n(b'x', 3 << 20));
    bytes.push(b'\n');
    let mut stdin = run.child.stdin.take().unwrap();
    let input = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let mut out = Vec::new();
    run.child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    writer.join().unwrap();
    assert!(out == bytes, "{} bytes became {}", bytes.len(), out.len());
    assert_eq!(wait(run.child).code, 0);
}

#[test]
fn it_ends_quietly_when_nobody_reads_its_output_any_more() {
    let place = Place::new();
    let mut run = live(&place, &["--server.listen", "127.0.0.1:0"]);
    drop(run.child.stdout.take());
    let mut stdin = run.child.stdin.take().unwrap();
    // It may be gone before the second line; the pipe stays open, so only that can end it.
    stdin.write_all(b"one\n").ok();
    stdin.write_all(b"two\n").ok();
    let end = wait(run.child);
    assert!(end.code == 0 || end.code == 74, "{end:?}");
    drop(stdin);
}

#[test]
fn the_name_and_the_filters_hold_for_the_stream_too() {
    let place = Place::new();
    let args = ["--name", "web", "--input-stdin", "--include", "yes", "--server.listen=127.0.0.1:0"];
    let mut run = live(&place, &args);
    assert!(run.banner.contains("/web/stream"), "{}", run.banner);
    let mut stdin = run.child.stdin.take().unwrap();
    stdin.write_all(b"no 1\nyes 2\n").unwrap();
    let streamed = read_until(&run.authority, "/web/stream?format=raw&tail=10", "yes 2");
    assert!(!streamed.contains("no 1"), "{streamed}");
    drop(stdin);
    assert_eq!(wait(run.child).stdout, "yes 2\n");
}

#[test]
fn a_wrapped_program_is_passed_through_and_its_code_returned() {
    let place = Place::new();
    for (script, code, out) in [
        ("echo one; echo two >&2; exit 7", 7, ["one", "two"]),
        ("echo a; echo b; true", 0, ["a", "b"]),
        ("printf 'x\\ny\\n'; kill -TERM $$", 143, ["x", "y"]),
    ] {
        let run = place.run(&["run", "--server.listen=127.0.0.1:0", "--", "sh", "-c", script]);
        assert_eq!(run.code, code, "{script}: {}", run.stderr);
        let mut lines: Vec<&str> = run.stdout.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, out, "{script}");
    }
}

#[test]
fn a_program_that_does_not_exist_is_69() {
    let run = Place::new().run(&["run", "--server.listen=127.0.0.1:0", "--", "no-such-program"]);
    assert_eq!(run.code, 69, "{}", run.stderr);
    assert!(run.stderr.contains("no-such-program"), "{}", run.stderr);
}

#[test]
fn a_wrapped_program_ends_with_weir() {
    let place = Place::new();
    let args = ["run", "--server.listen=127.0.0.1:0", "--", "sh", "-c", "echo up; exec sleep 600"];
    let mut run = live(&place, &args);
    assert!(run.banner.contains("/sh/stream"), "{}", run.banner);
    let mut stdout = BufReader::new(run.child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    signal(run.child.id(), "TERM");
    assert_eq!(wait(run.child).code, 143);
}

#[test]
fn lines_go_to_a_file_too() {
    let place = Place::new();
    let args =
        ["--input-stdin", "--output-file", "out.log", "--output-stdout", "--server.listen=127.0.0.1:0"];
    let mut run = live(&place, &args);
    run.child.stdin.take().unwrap().write_all(b"a\nb\n").unwrap();
    assert_eq!(wait(run.child).stdout, "a\nb\n");
    assert_eq!(std::fs::read_to_string(place.path("out.log")).unwrap(), "a\nb\n");
}

#[test]
fn files_are_read_from_the_start_each_time_and_followed() {
    let place = Place::new().with("logs/a.log", "ERROR one\nINFO two\n").with("logs/b.txt", "ERROR no\n");
    let args = ["--input-file", "logs/*.log", "--include", "ERROR", "--server.listen=127.0.0.1:0"];
    for round in 0..2 {
        let mut run = live(&place, &args);
        assert!(run.banner.contains("/file/stream"), "{}", run.banner);
        let mut stdout = BufReader::new(run.child.stdout.take().unwrap());
        let mut next = || {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            line
        };
        assert_eq!(next(), "ERROR one\n");
        (0..round).for_each(|_| assert_eq!(next(), "ERROR three\n"));
        let mut log = std::fs::OpenOptions::new().append(true).open(place.path("logs/a.log")).unwrap();
        log.write_all(b"INFO x\nERROR three\n").unwrap();
        assert_eq!(next(), "ERROR three\n");
        signal(run.child.id(), "TERM");
        assert_eq!(wait(run.child).code, 0);
    }
    let mut left: Vec<_> =
        std::fs::read_dir(place.path(".")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["logs", "run"], "a quick run leaves no state behind");
    assert_eq!(std::fs::read_dir(place.path("run/weir")).unwrap().count(), 0, "and no socket");
}

#[test]
fn the_demo_streams_and_ends_on_sigint() {
    let place = Place::new();
    let run = live(&place, &["demo", "--server.listen", "127.0.0.1:0"]);
    for name in ["app", "web", "orders"] {
        assert!(run.banner.contains(&format!("http://{}/{name}/", run.authority)), "{}", run.banner);
    }
    read_until(&run.authority, "/orders/stream?format=raw&tail=10", "\"service\"");
    signal(run.child.id(), "INT");
    assert_eq!(wait(run.child).code, 0);
}

#[test]
fn a_taken_port_is_no_obstacle_for_a_pipe() {
    // Whoever has the usual port, this test or somebody else, the two runs get along.
    let holder = std::net::TcpListener::bind("127.0.0.1:8080");
    let place = Place::new();
    let mut run = live(&place, &[]);
    assert!(run.banner.contains("port 8080 is taken"), "{}", run.banner);
    assert!(!run.authority.ends_with(":8080"), "{}", run.authority);
    drop(run.child.stdin.take());
    assert_eq!(wait(run.child).code, 0);
    drop(holder);
}

#[test]
fn https_where_there_is_no_tls_says_so() {
    let place = Place::new();
    let mut weir = place.demo();
    weir.wait_ready();
    let run = place.run(&["tail", &format!("https://{}/app", weir.authority())]);
    assert_eq!(run.code, 69, "{}", run.stderr);
    assert!(
        run.stderr.contains("it does not speak TLS\n  hint: write http:// instead of https://"),
        "{}",
        run.stderr
    );
    weir.stop();
}
