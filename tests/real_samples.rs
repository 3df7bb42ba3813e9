//! Logs of real systems, with CRLF at every line's end and no line break at most files' end, pass through weir byte
//! for byte: a followed directory arrives at a stream, a TCP client and a file at once, and filtered in a second
//! pipeline. The samples are not part of this repository; without them the test says so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;

use support::weir::{Place, Weir};
use support::{PATIENCE, eventually, free_port};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/real");
/// An own sample with what the others lack: lone carriage returns, empty lines, bytes above ASCII, a long line.
const ODD: &str = "odd.log";

const CONFIG: &str = r#"
[[pipelines]]
name = "all"
[[pipelines.sources]]
type = "directory"
path = "DIR/logs"
pattern = "*.log"
partial_line_timeout = "1s"
[[pipelines.sinks]]
type = "http"
history = { max_events = 100000, max_bytes = "64MiB" }
[[pipelines.sinks]]
type = "tcp"
listen = "127.0.0.1:TCP"
format = { type = "raw" }
history = { max_events = 100000, max_bytes = "64MiB" }
[[pipelines.sinks]]
type = "file"
path = "DIR/out/all.log"

[[pipelines]]
name = "some"
[[pipelines.sources]]
type = "directory"
path = "DIR/logs"
pattern = "/log$/"
partial_line_timeout = "1s"
[[pipelines.filters]]
type = "include"
patterns = ["(?i)error", "fail"]
[[pipelines.filters]]
type = "exclude"
patterns = "\\[error\\]"
[[pipelines.sinks]]
type = "file"
path = "DIR/out/some.log"
"#;

type Lines = BTreeMap<Vec<u8>, usize>;

/// How often each line occurs. The order between files is nobody's promise.
fn counted<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Lines {
    let mut counts = Lines::new();
    lines.into_iter().for_each(|line| *counts.entry(line.to_vec()).or_default() += 1);
    counts
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|b| *b == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

/// Asserts that two multisets are the same, and shows a line that is not.
fn same(what: &str, got: &Lines, expected: &Lines) {
    for (line, count) in expected {
        let n = got.get(line).copied().unwrap_or(0);
        assert_eq!(n, *count, "{what}: occurrences of {:?}", String::from_utf8_lossy(line));
    }
    assert_eq!(got.len(), expected.len(), "{what}: lines that were never written");
}

/// The samples and the odd one, by name; nothing where there are none.
fn samples() -> Vec<(String, Vec<u8>)> {
    let Ok(dir) = std::fs::read_dir(Path::new(SAMPLES)) else { return Vec::new() };
    let names = dir.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> = names
        .filter(|name| name.ends_with(".log"))
        .map(|name| {
            let text = std::fs::read(Path::new(SAMPLES).join(&name)).unwrap();
            (name, text)
        })
        .collect();
    if !files.is_empty() {
        files.sort();
        let long = "ü error é ".repeat(20_000);
        files.push((ODD.into(), format!("a\rb\r\r\n\n\t\0nul\r\n{long}\r\n\r\nlast without a break").into()));
    }
    files
}

/// A client of the `tcp` sink that reads `count` lines.
fn over_tcp(port: u16, count: usize) -> Lines {
    let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(socket);
    let mut counts = Lines::new();
    for _ in 0..count {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).unwrap();
        assert_eq!(line.pop(), Some(b'\n'), "the connection ended early");
        *counts.entry(line).or_default() += 1;
    }
    counts
}

/// A subscriber that reads `count` rows; checks that their ids have no hole.
fn over_sse(weir: &Weir, count: usize) -> Lines {
    let mut stream = weir.stream("/all/stream?tail=100000");
    let rows: Vec<_> = (0..count).map(|_| stream.row()).collect();
    rows.windows(2).for_each(|two| assert_eq!(two[0].seq() + 1, two[1].seq()));
    counted(rows.iter().map(|row| row.message().into_bytes()).collect::<Vec<_>>().iter().map(Vec::as_slice))
}

#[test]
fn real_logs_arrive_byte_for_byte_everywhere_at_once() {
    let files = samples();
    if files.is_empty() {
        return support::skip("real_samples", "no data in ../shared/data/real");
    }
    let place = Place::new();
    files.iter().for_each(|(name, text)| place.write(&format!("logs/{name}"), text));
    place.write("logs/not-a-log.txt", "nobody reads this\n");
    let port = free_port();
    let weir = place.started(&CONFIG.replace("TCP", &port.to_string()));

    // Both kinds of client are there while the files are still read.
    let total: usize = files.iter().map(|(_, text)| lines(text).count()).sum();
    let written: usize = files.iter().map(|(_, text)| text.iter().filter(|b| **b == b'\n').count()).sum();
    assert!(total > written && written > 20_000 - files.len(), "{total} lines, {written} of them ended");
    let tcp = std::thread::spawn(move || over_tcp(port, total));
    std::thread::scope(|scope| {
        let sse = scope.spawn(|| over_sse(&weir, total));
        let expected = counted(files.iter().flat_map(|(_, text)| lines(text)));
        same("sse", &sse.join().unwrap(), &expected);
        same("tcp", &tcp.join().unwrap(), &expected);
        eventually("both files are written", || {
            let done = |name: &str| weir.status(name)["received"].as_u64() == Some(total as u64);
            (done("all") && done("some")).then_some(())
        });
    });
    let (all, some) = (weir.status("all"), weir.status("some"));
    assert_eq!((all["received"].as_u64(), all["dropped_total"].as_u64()), (Some(total as u64), Some(0)));
    assert_eq!(some["dropped_total"], 0);
    weir.stop();
    check_files(&place, &files);
}

/// What the two `file` sinks hold, file by file in its own order.
fn check_files(place: &Place, files: &[(String, Vec<u8>)]) {
    let all = place.read("out/all.log");
    same("file", &counted(lines(&all)), &counted(files.iter().flat_map(|(_, text)| lines(text))));
    let wanted = |line: &&[u8]| {
        let line = String::from_utf8_lossy(line);
        (line.to_ascii_lowercase().contains("error") || line.contains("fail")) && !line.contains("[error]")
    };
    let expected = counted(files.iter().flat_map(|(_, text)| lines(text)).filter(wanted));
    let kept: usize = expected.values().sum();
    assert!(kept > 100, "only {kept} lines match: the filters test nothing");
    same("filtered file", &counted(lines(&place.read("out/some.log"))), &expected);
    // Lines of one file keep their order, whatever came in between.
    let mut spark = files.iter().find(|(name, _)| name == "Spark.log").map(|(_, text)| lines(text)).unwrap();
    let mut next = spark.next();
    for line in lines(&all) {
        if Some(line) == next {
            next = spark.next();
        }
    }
    assert_eq!(next, None, "the lines of one file are in their order");
}
