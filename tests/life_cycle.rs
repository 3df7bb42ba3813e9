//! From start to end, seen from outside: draining, forcing, faults that stay where they are, pipes and wrapped
//! commands, health and a status whose counts balance.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::process::{ChildStdin, Stdio};

use serde_json::Value;
use support::weir::{Place, Weir};
use support::{eventually, free_port};

/// A file that is followed into a file and a stream.
const FOLLOW: &str = r#"
[[pipelines]]
name = "app"
[[pipelines.sources]]
type = "file"
path = "DIR/in.log"
[[pipelines.sinks]]
type = "file"
path = "DIR/out.log"
[[pipelines.sinks]]
type = "http"
"#;

/// A pipeline that goes on, whatever happens to others.
const OTHER: &str = r#"
[[pipelines]]
name = "other"
[[pipelines.sources]]
type = "generate"
events_per_second = 100
[[pipelines.sinks]]
type = "http"
"#;

fn numbered(range: std::ops::Range<usize>) -> String {
    range.map(|n| format!("line {n:08}\n")).collect()
}

/// Starts a run that is piped into.
fn piped(place: &Place, args: &[&str], program: &[&str]) -> (Weir, ChildStdin) {
    let port = free_port();
    let listen = format!("--server.listen=127.0.0.1:{port}");
    let mut command = place.command(&[args, &[listen.as_str()], program].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut weir = place.spawn(&mut command, port);
    let stdin = weir.child().stdin.take().unwrap();
    (weir, stdin)
}

#[test]
fn sigterm_delivers_what_was_written_says_bye_and_a_restart_repeats_nothing() {
    let place = Place::new().with("in.log", numbered(0..10_000));
    let mut weir = place.started(FOLLOW);
    let mut stream = weir.stream("/app/stream");
    stream.until("hello");
    place.append("in.log", numbered(10_000..20_000));
    eventually("everything is read", || (weir.status("app")["received"] == 20_000).then_some(()));
    weir.signal("TERM");
    assert_eq!(stream.until("bye").json()["reason"], "shutdown");
    assert_eq!(stream.event(), None);
    assert_eq!(weir.wait(), 0, "{}", weir.errors());
    assert!(weir.errors().contains("everything is delivered"), "{}", weir.errors());
    assert!(place.read("out.log") == numbered(0..20_000).as_bytes(), "all is there, in order");
    place.append("in.log", numbered(20_000..20_001));
    let weir = place.started(FOLLOW);
    eventually("the line written meanwhile", || (place.read("out.log").ends_with(b"20000\n")).then_some(()));
    weir.stop();
    assert!(place.read("out.log") == numbered(0..20_001).as_bytes(), "nothing came twice");
}

#[test]
fn sigterm_in_the_middle_of_a_flood_neither_loses_nor_repeats() {
    let place = Place::new().with("in.log", numbered(0..1));
    let mut next = 1;
    for _ in 0..6 {
        let weir = place.started(FOLLOW);
        for _ in 0..20 {
            place.append("in.log", numbered(next..next + 2_000));
            next += 2_000;
        }
        weir.stop();
    }
    let weir = place.started(FOLLOW);
    let expected = numbered(0..next);
    eventually("all is written", || (place.read("out.log").len() >= expected.len()).then_some(()));
    weir.stop();
    assert!(place.read("out.log") == expected.as_bytes(), "every line once, in order");
}

#[test]
fn a_second_signal_forces_the_end_and_says_what_was_lost() {
    let place = Place::new().with("in.log", "");
    let sink = "\"DIR/out/app.log\"\nrotate = { max_size = \"1KiB\" }";
    let config = format!("shutdown_timeout = \"1h\"\n{}", FOLLOW.replace("\"DIR/out.log\"", sink));
    let mut weir = place.started(&config);
    std::fs::rename(place.path("out"), place.path("away")).unwrap();
    place.write("out", "a file in the directory's place");
    place.append("in.log", numbered(0..100));
    weir.wait_listening("/readyz", 503);
    eventually("lines wait", || (weir.component("app", "app.sink.0.file")["received"] == 100).then_some(()));
    let delivered = weir.component("app", "app.sink.0.file")["delivered"].as_u64().unwrap();
    weir.signal("TERM");
    eventually("the first is heard", || weir.errors().contains("a second signal forces it").then_some(()));
    // Signals in quick succession are one wish.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(weir.child().try_wait().unwrap(), None, "it waits for the sink");
    weir.signal("TERM");
    assert_eq!(weir.wait(), 74, "{}", weir.errors());
    assert!(weir.errors().contains(&format!("{} events dropped", 100 - delivered)), "{}", weir.errors());
    // What was dropped was never acknowledged: it comes with the next run, once there is a place for it.
    std::fs::remove_file(place.path("out")).unwrap();
    let weir = place.started(&config);
    let lines_in = |dir: &str| -> String {
        let files = std::fs::read_dir(place.path(dir)).into_iter().flatten();
        files.map(|f| std::fs::read_to_string(f.unwrap().path()).unwrap()).collect()
    };
    eventually("all is there", || {
        let text = lines_in("away") + &lines_in("out");
        numbered(0..100).lines().all(|line| text.contains(line)).then_some(())
    });
    weir.stop();
}

#[test]
fn a_sink_that_cannot_write_is_told_in_readiness_while_others_go_on() {
    let place = Place::new().with("in.log", "");
    let sink = "\"DIR/out/app.log\"\nrotate = { max_size = \"1KiB\" }";
    let config = format!("{}{OTHER}", FOLLOW.replace("\"DIR/out.log\"", sink));
    let mut weir = place.started(&config);
    place.append("in.log", numbered(0..50));
    eventually("the first lines", || place.path("out/app.log").exists().then_some(()));
    eventually("delivered", || (weir.component("app", "app.sink.0.file")["delivered"] == 50).then_some(()));
    std::fs::rename(place.path("out"), place.path("away")).unwrap();
    place.write("out", "a file in the directory's place");
    place.append("in.log", numbered(50..500));
    let why: Value = serde_json::from_str(&weir.wait_listening("/readyz", 503)).unwrap();
    assert_eq!(why["reasons"].as_array().unwrap().len(), 1, "{why}");
    assert_eq!(why["reasons"][0]["component"], "app.sink.0.file", "{why}");
    assert!(why["reasons"][0]["why"].as_str().unwrap().contains("out/app.log"), "{why}");
    assert_eq!(support::http::get(&weir.authority(), "/healthz").unwrap().0, 200, "alive, though not ready");
    // The sink beside it has everything, and the other pipeline flows.
    eventually("its neighbour", || {
        (weir.component("app", "app.sink.1.http")["delivered"] == 500).then_some(())
    });
    let mut stream = weir.stream("/other/stream");
    (0..20).for_each(|_| drop(stream.row()));
    std::fs::remove_file(place.path("out")).unwrap();
    weir.wait_ready();
    eventually("the rest", || (weir.component("app", "app.sink.0.file")["delivered"] == 500).then_some(()));
    weir.stop();
    let mut lines: Vec<String> = ["away", "out"]
        .iter()
        .flat_map(|dir| std::fs::read_dir(place.path(dir)).unwrap())
        .flat_map(|file| {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            text.lines().map(|line| format!("{line}\n")).collect::<Vec<_>>()
        })
        .collect();
    lines.sort_unstable();
    let written = lines.len();
    lines.dedup();
    assert!(lines.concat() == numbered(0..500), "something was lost: {} of 500 lines", lines.len());
    // The batch that was in hand is written again as a whole; what was settled before it is not.
    assert!(written <= 950, "{written} lines were written");
}

#[test]
fn a_command_that_fails_is_told_in_readiness_while_others_go_on() {
    let exec = "[[pipelines]]\nname = \"job\"\n[[pipelines.sources]]\ntype = \"exec\"\ncommand = \"echo out; exit 1\"\n\
        [[pipelines.sinks]]\ntype = \"http\"\n";
    let place = Place::new();
    let mut weir = place.start(&format!("{exec}{OTHER}"));
    let why = weir.wait_listening("/readyz", 503);
    assert!(why.contains("job.source.0.exec") && why.contains("exited with 1"), "{why}");
    let mut stream = weir.stream("/other/stream");
    (0..20).for_each(|_| drop(stream.row()));
    assert_eq!(weir.stream("/job/stream?tail=1").row().message(), "out");
    let health = place.run(&["health"]);
    assert!(health.code == 1 && health.stderr.contains("job.source.0.exec"), "{health:?}");
    weir.stop();
}

#[test]
fn a_pipe_passes_untouched_while_a_subscriber_sees_it() {
    let place = Place::new();
    let (mut weir, mut stdin) = piped(&place, &[], &[]);
    weir.wait_ready();
    let mut stream = weir.stream("/stdin/stream");
    stream.until("hello");
    let input = b"plain\nwith crlf\r\nlone \r here\n\ncolour \x1b[31mred\x1b[0m\n\xff\xfe no text\nno break at the end";
    stdin.write_all(input).unwrap();
    drop(stdin);
    let mut output = Vec::new();
    weir.child().stdout.take().unwrap().read_to_end(&mut output).unwrap();
    // Every byte, and no break after a last line that had none.
    assert_eq!(output, input);
    let text = String::from_utf8_lossy(input);
    let seen: Vec<String> = (0..7).map(|_| stream.row().message()).collect();
    assert_eq!(seen, text.split('\n').collect::<Vec<_>>());
    assert_eq!(stream.until("bye").kind, "bye");
    assert_eq!(weir.wait(), 0, "{}", weir.errors());
}

#[test]
fn a_wrapped_command_is_passed_through_streamed_and_its_code_returned() {
    let place = Place::new();
    let script = "echo out; echo err >&2; until [ -e go ]; do sleep 0.05; done; exit 42";
    let (mut weir, _stdin) = piped(&place, &["run", "--name", "job"], &["--", "sh", "-c", script]);
    weir.wait_ready();
    let mut stream = weir.stream("/job/stream?tail=2");
    let mut seen = [stream.row().message(), stream.row().message()];
    seen.sort();
    assert_eq!(seen, ["err", "out"]);
    place.write("go", "");
    assert_eq!(stream.until("bye").kind, "bye");
    assert_eq!(weir.wait(), 42, "{}", weir.errors());
    let mut output = String::new();
    weir.child().stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(output.contains("out\n"), "{output}");
}

#[test]
fn health_is_0_when_ready_and_69_when_nobody_answers() {
    let place = Place::new();
    let weir = place.started(OTHER);
    let url = format!("http://{}", weir.authority());
    for args in [&["health"][..], &["health", &url]] {
        let run = place.run(args);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{args:?}");
    }
    weir.stop();
    let run = place.run(&["health", &url]);
    assert!(run.code == 69 && run.stderr.contains("127.0.0.1"), "{run:?}");
}

/// received == delivered + filtered + dropped + queued.
fn assert_balanced(what: &Value) {
    let count = |key: &str| what[key].as_u64().unwrap_or_else(|| panic!("{key}: {what}"));
    let out = count("delivered") + count("filtered") + count("dropped_total") + count("queued");
    assert_eq!(count("received"), out, "{what:#}");
    let reasons: u64 = what["dropped"].as_object().unwrap().values().map(|v| v.as_u64().unwrap()).sum();
    assert_eq!(reasons, count("dropped_total"), "{what:#}");
}

#[test]
fn the_status_balances_for_every_component_at_rest() {
    let config = r#"
[[pipelines]]
name = "app"
rate_limit = { events_per_second = 1000, burst = 3000, max_event_size = "200B" }
[[pipelines.sources]]
type = "file"
path = "DIR/in.log"
max_line_size = "1KiB"
oversize = "drop"
[[pipelines.sources]]
type = "generate"
events_per_second = 0
count = 2500
[[pipelines.filters]]
type = "exclude"
patterns = "7"
[[pipelines.filters]]
type = "sample"
one_in = 3
[[pipelines.sinks]]
type = "http"
filters = [{ type = "include", patterns = "line" }]
[[pipelines.sinks]]
type = "file"
path = "DIR/out.log"
[[pipelines.sinks]]
type = "null"
buffer = { max_events = 10, when_full = "drop_newest" }
[[pipelines.sinks]]
type = "pipeline"
name = "next"
[[pipelines]]
name = "next"
[[pipelines.sources]]
type = "pipeline"
[[pipelines.sinks]]
type = "null"
"#;
    let long = ["x".repeat(500), "y".repeat(5000)].join("\n");
    let place = Place::new().with("in.log", format!("{}{long}\nlast\n", numbered(0..3000)));
    let weir = place.started(config);
    let mut before = Value::Null;
    let status = eventually("two answers that are the same", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let run = place.run(&["status", "--json"]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        let status: Value = serde_json::from_str(&run.stdout).unwrap();
        let now = status["pipelines"].clone();
        let rest = now == before && now[0]["received"].as_u64() >= Some(5501);
        before = now;
        rest.then_some(status)
    });
    let mut components = 0;
    for pipeline in status["pipelines"].as_array().unwrap() {
        assert_balanced(pipeline);
        for component in pipeline["components"].as_array().unwrap() {
            assert_balanced(component);
            assert_eq!(component["queued"], 0, "{component}");
            components += 1;
        }
    }
    assert!(components >= 8, "{status:#}");
    let app = &status["pipelines"][0];
    assert!(app["filtered"].as_u64() > Some(0) && app["dropped_total"].as_u64() > Some(0), "{app:#}");
    // The counts are true: what the file sink says it delivered is what is in its file.
    let file = weir.component("app", "app.sink.1.file");
    weir.stop();
    let lines = place.read("out.log").iter().filter(|b| **b == b'\n').count();
    assert_eq!(file["delivered"], lines, "{file}");
    assert!(lines > 100, "{lines}");
}

#[test]
fn who_connects_while_weir_starts_finds_the_streams_there() {
    let pipeline = |i| {
        format!(
            "[[pipelines]]\nname = \"p{i}\"\n[[pipelines.sources]]\ntype = \"generate\"\n\
             [[pipelines.sinks]]\ntype = \"http\"\n[[pipelines.sinks]]\ntype = \"file\"\npath = \"DIR/out{i}.log\"\n"
        )
    };
    let config: String = (0..40).map(pipeline).collect();
    // A start that serves too early is caught about every second time.
    for _ in 0..6 {
        let place = Place::new();
        let weir = place.start(&config);
        let authority = weir.authority();
        // Without a pause: the moment between the bind and the mounts is short.
        let deadline = logweir::base::clock::now() + support::PATIENCE;
        let mut socket = loop {
            if let Ok(socket) = std::net::TcpStream::connect(&authority) {
                break socket;
            }
            assert!(logweir::base::clock::now() < deadline, "nobody listens: {}", weir.errors());
        };
        socket.write_all(b"GET /p39/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut status = [0; 12];
        socket.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        weir.stop();
    }
}
