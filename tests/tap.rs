//! `weir tap` and what it asks the control socket: which rows each component shows, what that costs, what is told of
//! rows that were not shown, and how a tap ends.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints its figures"
)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};
use support::control::{PIPELINE, socket};
use support::eventually;
use support::weir::{Place, Weir, finish};

/// A tap that is read line by line; it has begun once this returns.
struct Tap {
    reader: BufReader<UnixStream>,
    components: Value,
}

impl Tap {
    fn open(socket: &Path, query: &str) -> Tap {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        stream.write_all(format!("GET /api/tap?{query} HTTP/1.0\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        let mut tap = Tap { reader: BufReader::new(stream), components: Value::Null };
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(tap.reader.read_line(&mut head).unwrap(), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.0 200"), "{head}");
        let hello = tap.line().unwrap();
        assert_eq!(hello["weir"], "hello");
        tap.components = hello["components"].clone();
        tap
    }

    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let n = self.reader.read_line(&mut line).unwrap();
        (n > 0).then(|| serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}")))
    }

    /// So many rows, each as component and line.
    fn rows(&mut self, count: usize) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut rows = Vec::new();
        while rows.len() < count {
            let line = self.line().expect("the tap ended");
            assert!(line.get("weir").is_none(), "{line}");
            rows.push((text(&line["component"]), text(&line["message"])));
        }
        rows
    }

    /// Everything up to the end: rows, the sum of what was told as not shown, and the last words.
    fn rest(mut self) -> (u64, u64, Value) {
        let (mut rows, mut missed) = (0, 0);
        loop {
            let line = self.line().expect("a tap ends with a bye");
            match line["weir"].as_str() {
                None => rows += 1,
                Some("drop") => missed += line["missed"].as_u64().unwrap(),
                Some("bye") => {
                    assert_eq!(self.line(), None, "nothing comes after a bye");
                    return (rows, missed, line);
                }
                Some(other) => panic!("{other}"),
            }
        }
    }
}

fn descriptors(weir: &mut Weir) -> usize {
    fs::read_dir(format!("/proc/{}/fd", weir.child().id())).unwrap().count()
}

/// Waits until a component has received so much.
fn received(weir: &Weir, id: &str, count: u64) {
    eventually(&format!("{id} receives {count}"), || {
        (weir.component("app", id)["received"].as_u64() == Some(count)).then_some(())
    });
}

/// Has the configuration replaced, by way of the control socket.
fn reload(place: &Place, socket: &Path, text: &str) {
    place.write("pipelines.toml", text);
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"POST /api/reload HTTP/1.0\r\nhost: x\r\ncontent-length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "the owner may reload: {answer}");
}

fn balances(weir: &Weir) {
    let status = weir.status("app");
    for part in status["components"].as_array().unwrap().iter().chain([&status]) {
        let n = |key: &str| part[key].as_u64().unwrap();
        assert_eq!(
            n("received"),
            n("delivered") + n("filtered") + n("dropped_total") + n("queued"),
            "{part}"
        );
    }
}

#[test]
fn each_component_shows_what_it_puts_out() {
    let place = Place::new().with("in.log", "");
    let weir = place.started(PIPELINE);
    let path = socket(&place);
    let mut taps: Vec<Tap> = ["app.source.0", "app.filter.0.exclude", "app", "app.sink.0.file", "app.sink.1"]
        .map(|component| Tap::open(&path, &format!("component={component}")))
        .into();
    assert_eq!(taps[4].components, json!(["app.sink.1.file"]));
    let mut found = Tap::open(&path, "component=app.source.0&q=level:error%20-noise");
    let mut all = Tap::open(&path, "component=app.*&rate=all");
    assert_eq!(all.components.as_array().unwrap().len(), 6);
    place.append("in.log", "INFO one\nDEBUG two\nERROR noise three\nERROR four\nINFO five\n");
    for (tap, expected) in taps.iter_mut().zip([
        &["INFO one", "DEBUG two", "ERROR noise three", "ERROR four", "INFO five"][..],
        &["INFO one", "ERROR noise three", "ERROR four", "INFO five"],
        &["INFO one", "ERROR four", "INFO five"],
        &["INFO one", "ERROR four", "INFO five"],
        &["ERROR four"],
    ]) {
        let lines: Vec<String> = tap.rows(expected.len()).into_iter().map(|(_, line)| line).collect();
        assert_eq!(lines, expected);
    }
    assert_eq!(found.rows(1)[0].1, "ERROR four", "what a query finds");
    let mut seen: Vec<String> = all.rows(17).into_iter().map(|(component, _)| component).collect();
    seen.dedup();
    assert_eq!(
        seen,
        [
            "source.0.file",
            "filter.0.exclude",
            "filter.1.exclude",
            "filter.2.include",
            "sink.0.file",
            "sink.1.file"
        ]
        .map(|id| format!("app.{id}")),
        "in the order of the flow"
    );
    balances(&weir);
    weir.stop();
    let (rows, missed, bye) = all.rest();
    assert_eq!((rows, missed, &bye["reason"], &bye["shown"]), (0, 0, &"shutdown".into(), &17.into()));
}

#[test]
fn the_command_writes_rows_as_they_are_and_ends_when_it_has_enough() {
    let place = Place::new().with("in.log", "");
    let weir = place.started(PIPELINE);
    let baseline = socket(&place);
    let tap = |args: &[&str]| {
        let mut command = place.command(&[&["tap", "--socket", baseline.to_str().unwrap()], args].concat());
        std::thread::spawn(move || finish(&mut command))
    };
    let raw = tap(&["app.source.0", "-n", "3"]);
    let json = tap(&["app.sink.*", "-n", "4", "-o", "json"]);
    let both = tap(&["app.filter.0", "app.filter.1", "-n", "2"]);
    // Rows come until all have seen enough, as nobody says when a command has begun.
    eventually("all have enough", || {
        place.append("in.log", b"ERROR \xff\x1b[2J\n");
        (raw.is_finished() && json.is_finished() && both.is_finished()).then_some(())
    });
    let raw = raw.join().unwrap();
    assert_eq!(
        (raw.code, raw.stdout.as_str()),
        (0, "ERROR \u{fffd}\x1b[2J\n".repeat(3).as_str()),
        "{}",
        raw.stderr
    );
    let rows: Vec<Value> =
        json.join().unwrap().stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rows.len(), 4);
    assert_eq!((&rows[0]["level"], &rows[0]["bytes"]), (&"error".into(), &"RVJST1Ig/xtbMko=".into()));
    assert!(both.join().unwrap().stdout.starts_with("app.filter.0.exclude  ERROR"));
    weir.stop();
}

#[test]
fn what_a_slow_tap_does_not_get_is_counted_to_the_row() {
    let place = Place::new().with("in.log", "");
    let weir = place.started(PIPELINE);
    let path = socket(&place);
    let slow = Tap::open(&path, "component=app.source.0&rate=all");
    let sampled = Tap::open(&path, "component=app");
    let mut limited = Tap::open(&path, "component=app.sink.0&rate=all&limit=7");
    let count = 60_000;
    let lines: String = (0..count).map(|i| format!("INFO row {i} {}\n", "x".repeat(200))).collect();
    place.append("in.log", &lines);
    assert_eq!(limited.rows(7).len(), 7);
    let (_, missed, bye) = limited.rest();
    assert_eq!(
        (missed, &bye["reason"], &bye["shown"], &bye["not_shown"]),
        (0, &"limit".into(), &7.into(), &0.into())
    );
    received(&weir, "app.sink.0.file", count);
    eventually("everything is delivered", || {
        (weir.component("app", "app.sink.0.file")["delivered"].as_u64() == Some(count)).then_some(())
    });
    balances(&weir);
    assert!(place.read("out.log") == lines.as_bytes(), "the flow did not notice");
    // Who does not read has as long as it wants, unless weir ends.
    let text = String::from_utf8(place.read("pipelines.toml")).unwrap();
    reload(&place, &path, &text.replace("name = \"app\"", "name = \"other\""));
    for (name, tap) in [("slow", slow), ("sampled", sampled)] {
        let (rows, missed, bye) = tap.rest();
        assert_eq!(rows + missed, count, "{name}: {bye}");
        assert_eq!((bye["shown"].as_u64(), bye["not_shown"].as_u64()), (Some(rows), Some(missed)));
        println!("{name}: {rows} rows shown, {missed} not shown");
        assert!(rows > 0 && missed > 0, "{name}: {bye}");
    }
    weir.stop();
}

#[test]
fn rows_are_the_same_with_taps_and_without() {
    let lines: String = (0..50_000)
        .map(|i| format!("{} row {i}\n", ["INFO", "DEBUG", "ERROR", "INFO noise"][i % 4]))
        .collect();
    let run = |tapped: bool| {
        let place = Place::new().with("in.log", "");
        let weir = place.started(PIPELINE);
        let path = socket(&place);
        let taps: Vec<Tap> =
            (0..if tapped { 8 } else { 0 }).map(|_| Tap::open(&path, "component=app.*&rate=all")).collect();
        place.append("in.log", &lines);
        received(&weir, "app.source.0.file", 50_000);
        eventually("it is written", || {
            (weir.component("app", "app.sink.0.file")["delivered"].as_u64() == Some(25_000)).then_some(())
        });
        balances(&weir);
        drop(taps);
        weir.stop();
        (place.read("out.log"), place.read("errors.log"))
    };
    let (plain, tapped) = (run(false), run(true));
    assert_eq!(
        plain.0.len(),
        lines
            .lines()
            .filter(|l| !l.contains("DEBUG") && !l.contains("noise"))
            .map(|l| l.len() + 1)
            .sum::<usize>()
    );
    assert!(plain == tapped);
}

#[test]
fn a_tap_goes_on_over_a_reload_or_says_why_not() {
    let place = Place::new().with("in.log", "");
    let weir = place.started(PIPELINE);
    let path = socket(&place);
    let (mut source, mut filter) =
        (Tap::open(&path, "component=app.source.0"), Tap::open(&path, "component=app.filter.1"));
    let text = String::from_utf8(place.read("pipelines.toml")).unwrap();
    reload(&place, &path, &text.replace("[\"noise\"]", "[\"silence\"]"));
    let hello = filter.line().unwrap();
    assert_eq!((&hello["weir"], &hello["components"]), (&"hello".into(), &json!(["app.filter.1.exclude"])));
    place.append("in.log", "INFO noise\nINFO silence\nINFO last\n");
    assert_eq!(
        filter.rows(2).iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>(),
        ["INFO noise", "INFO last"]
    );
    assert_eq!(source.rows(3).len(), 3, "it was not touched, and was not told anything");
    reload(&place, &path, &text.replace("name = \"app\"", "name = \"other\""));
    let (rows, missed, bye) = filter.rest();
    assert_eq!((rows, missed, &bye["reason"]), (0, 0, &"removed".into()));
    weir.stop();
}

#[test]
fn taps_end_when_their_clients_go_and_strange_clients_disturb_nobody() {
    let place = Place::new().with("in.log", "");
    let mut weir = place.started(PIPELINE);
    let path = socket(&place);
    drop(Tap::open(&path, "component=app"));
    let before = eventually("it settles", || {
        let count = descriptors(&mut weir);
        std::thread::sleep(std::time::Duration::from_millis(100));
        (descriptors(&mut weir) == count).then_some(count)
    });
    let taps: Vec<Tap> = (0..50).map(|_| Tap::open(&path, "component=app.*")).collect();
    assert!(descriptors(&mut weir) >= before + 50);
    drop(taps);
    eventually("their descriptors are given back", || (descriptors(&mut weir) <= before).then_some(()));
    // More than may connect at a time, some of which say nothing and some nonsense.
    let strange: Vec<UnixStream> = (0..100)
        .map(|i| {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all([&b""[..], b"\xff\x00nonsense\r\n\r\n", b"GET /status HT"][i % 3]).unwrap();
            stream
        })
        .collect();
    assert_eq!(place.run(&["health"]).code, 0, "the server does not depend on it");
    drop(strange);
    eventually("it answers again", || {
        (place.run(&["status", "--socket", path.to_str().unwrap()]).code == 0).then_some(())
    });
    let cases = [
        ("component=", 404),
        ("", 400),
        ("component=app&rate=0", 400),
        ("component=app&q=x%20AND", 400),
        ("component=%zz", 400),
    ];
    for (query, code) in cases {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        stream.write_all(format!("GET /api/tap?{query} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.0 {code}")) && answer.contains("problem+json"),
            "{query}: {answer}"
        );
    }
    weir.stop();
}
