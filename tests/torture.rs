//! Failures that users of other routers met, against the real binary: dead receivers beside live ones, batches and
//! buffers that wait for each other, ends that hang, series without bound, streams cut by a deadline, answers that
//! hold what a request smuggled in. docs/TESTING.md says which line each test holds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use logweir::base::clock;
use serde_json::Value;
use support::receiver::Receiver;
use support::weir::{Place, Weir};
use support::{eventually, free_port, http};

const FILES: &str = r#"
[[pipelines]]
name = "app"
[[pipelines.sources]]
type = "file"
path = "DIR/in/*.log"
[[pipelines.sinks]]
type = "file"
path = "DIR/out/app.log"
"#;

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|n| format!("line {n:010} {}\n", "w".repeat(80))).collect()
}

/// The numbers in a file, in its order; a line that is not as it was written fails the test.
fn numbers(place: &Place, name: &str) -> Vec<u64> {
    let text = String::from_utf8(place.read(name)).unwrap();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole
        .map(|line| {
            let number = line[5..15].parse().unwrap();
            assert_eq!(line, lines(number..number + 1));
            number
        })
        .collect()
}

/// Waits for each number of `0..total`, each once, in order.
fn all_in_order(place: &Place, name: &str, total: u64) {
    eventually("all lines", || (numbers(place, name).len() as u64 >= total).then_some(()));
    assert_eq!(numbers(place, name), (0..total).collect::<Vec<_>>());
}

fn accounts_balance(component: &Value) {
    let of = |key: &str| component[key].as_u64().unwrap_or_else(|| panic!("no {key}: {component}"));
    let sum = of("delivered") + of("filtered") + of("dropped_total") + of("queued");
    assert_eq!(of("received"), sum, "{component}");
}

#[test]
fn dead_sinks_stall_no_other_and_lose_only_what_they_were_told_to() {
    const LINES: u64 = 30_000;
    let place = Place::new().with("in/a.log", lines(0..LINES));
    let nobody = free_port();
    let weir = place.start(&format!(
        "{FILES}
        [[pipelines.sinks]]
        type = \"http_client\"
        url = \"http://127.0.0.1:{nobody}/\"
        buffer = {{ type = \"disk\", max_bytes = \"64MiB\" }}
        [[pipelines.sinks]]
        type = \"tcp_client\"
        address = \"127.0.0.1:{nobody}\"
        buffer = {{ max_events = 100, when_full = \"drop_oldest\" }}\n"
    ));
    all_in_order(&place, "out/app.log", LINES);
    let (kept, dropping) = eventually("the others have what they can keep", || {
        let kept = weir.component("app", "app.sink.1.http_client");
        let dropping = weir.component("app", "app.sink.2.tcp_client");
        let done = kept["queued"] == LINES && dropping["received"] == LINES;
        done.then_some((kept, dropping))
    });
    assert_eq!((&kept["delivered"], &kept["dropped_total"]), (&Value::from(0), &Value::from(0)), "{kept}");
    let dropped = dropping["dropped"]["buffer_full_oldest"].as_u64().unwrap();
    assert!(dropped > LINES - 20_000, "{dropping}");
    accounts_balance(&kept);
    accounts_balance(&dropping);
}

#[test]
fn the_end_does_not_wait_for_a_receiver_that_is_gone() {
    let place = Place::new().with("in/a.log", lines(0..1_000));
    let config = format!(
        "shutdown_timeout = \"1s\"
        {}
        [[pipelines.sinks]]
        type = \"http_client\"
        url = \"http://127.0.0.1:{}/\"
        retry = {{ initial_delay = \"1h\", max_delay = \"2h\" }}\n",
        FILES,
        free_port()
    );
    let mut weir = place.start(&config);
    all_in_order(&place, "out/app.log", 1_000);
    eventually("a pause before the next attempt", || weir.errors().contains("http_client").then_some(()));
    let asked = clock::now();
    weir.signal("TERM");
    assert_eq!(weir.wait(), 74, "it says that not everything was delivered: {}", weir.errors());
    assert!(clock::now() - asked < Duration::from_secs(6), "{:?}", clock::now() - asked);
    assert!(weir.errors().contains("1000"), "and how much: {}", weir.errors());
}

#[test]
fn a_batch_that_its_disk_buffer_cannot_hold_is_sent_without_waiting_for_the_rest() {
    const LINES: u64 = 60_000;
    let (place, receiver) = (Place::new().with("in/a.log", ""), Receiver::http(1));
    receiver.calm();
    // A batch of 256 MiB and an hour, from a buffer of 1 MiB, of which 64 KiB may be in memory.
    let config = format!(
        "[[pipelines]]
        name = \"app\"
        [[pipelines.sources]]
        type = \"file\"
        path = \"DIR/in/*.log\"
        [[pipelines.sinks]]
        type = \"http_client\"
        url = \"http://127.0.0.1:{}/\"
        batch = {{ max_events = 1000000, max_bytes = \"256MiB\", max_wait = \"1h\" }}
        buffer = {{ type = \"disk\", max_bytes = \"1MiB\", max_memory = \"64KiB\" }}\n",
        receiver.port
    );
    let weir = place.started(&config);
    place.append("in/a.log", lines(0..LINES));
    // Most of it: what fits into the buffer may wait for its hour.
    eventually("the flow goes on", || (receiver.lines() > LINES - 20_000).then_some(()));
    // What was not read by then would be left for the next start.
    let is_read = || weir.component("app", "app.source.0.file")["files"]["behind_bytes"] == 0;
    eventually("all of it is read", || is_read().then_some(()));
    weir.stop();
    assert_eq!((receiver.lines(), receiver.repeats()), (LINES, 0));
}

/// The names and labels of all series.
fn series(weir: &Weir) -> BTreeSet<String> {
    let (_, text) = http::get(&weir.authority(), "/metrics").unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[test]
fn series_do_not_grow_with_files_clients_and_values() {
    let (place, port) = (Place::new().with("in/0.log", lines(0..1)), free_port());
    let config = format!(
        "{FILES}
        [[pipelines.sources]]
        type = \"tcp\"
        listen = \"127.0.0.1:{port}\"
        [[pipelines.sinks]]
        type = \"http\"\n"
    );
    let weir = place.started(&config);
    eventually("the first line", || (numbers(&place, "out/app.log").len() == 1).then_some(()));
    let before = series(&weir);
    for n in 1..200 {
        place.append(&format!("in/{n}.log"), lines(2 * n..2 * n + 1));
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(lines(2 * n + 1..2 * n + 2).as_bytes()).unwrap();
        http::get(&weir.authority(), &format!("/nowhere-{n}?x={n}")).unwrap();
        drop(weir.stream(&format!("/app/stream?include=pattern-{n}")));
    }
    eventually("all lines", || (numbers(&place, "out/app.log").len() == 399).then_some(()));
    let after = series(&weir);
    assert_eq!(after, before, "series that came: {:?}", after.difference(&before).collect::<Vec<_>>());
    weir.stop();
}

#[test]
#[cfg(target_os = "linux")]
fn the_kernels_queue_of_changes_overflows_for_real_and_no_line_is_lost() {
    let limit: u64 =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    if limit > 100_000 {
        return support::skip("the_kernels_queue_of_changes", "the queue takes long to fill");
    }
    let place = Place::new().with("in/app.log", lines(0..100));
    let weir = place.started(FILES);
    all_in_order(&place, "out/app.log", 100);
    // While it is stopped nobody takes changes from the kernel, which forgets those that do not fit.
    weir.signal("STOP");
    let noise = place.path("in/noise");
    for n in 0..limit {
        // Made, written and removed: three changes or more.
        fs::write(&noise, n.to_string()).unwrap();
        fs::remove_file(&noise).unwrap();
    }
    place.append("in/app.log", lines(100..200));
    for (rotation, from) in [(1, 200), (2, 300), (3, 400)] {
        fs::rename(place.path("in/app.log"), place.path(&format!("in/app.log.{rotation}"))).unwrap();
        place.append("in/app.log", lines(from..from + 100));
    }
    place.append("in/new.log", lines(500..600));
    weir.signal("CONT");
    eventually("all lines", || (numbers(&place, "out/app.log").len() >= 600).then_some(()));
    let mut seen = numbers(&place, "out/app.log");
    seen.sort_unstable();
    assert_eq!(seen, (0..600).collect::<Vec<_>>());
    // Changes are heard of again.
    place.append("in/late.log", lines(600..601));
    eventually("a later file", || (numbers(&place, "out/app.log").len() == 601).then_some(()));
    weir.stop();
}

#[test]
fn heartbeats_go_on_whoever_leaves_in_the_middle_of_one() {
    let place = Place::new().with("in/a.log", "");
    let config = format!(
        "{FILES}
        [[pipelines.sinks]]
        type = \"http\"
        heartbeat = {{ interval = \"1s\", format = \"event\" }}\n"
    );
    let weir = place.started(&config);
    let mut stays = weir.stream("/app/stream");
    for _ in 0..3 {
        let crowd: Vec<_> = (0..40).map(|_| weir.stream("/app/stream")).collect();
        stays.until("ping");
        drop(crowd);
        let mut later = weir.stream("/app/stream");
        later.until("ping");
    }
    place.append("in/a.log", lines(0..1));
    assert!(stays.until("").message().starts_with("line 0000000000 "));
    weir.stop();
}

#[test]
fn a_stream_outlives_every_deadline_for_writing() {
    let place = Place::new().with("in/a.log", "");
    let config = format!(
        "{FILES}
        [[pipelines.sinks]]
        type = \"http\"
        write_timeout = \"1s\"\n"
    );
    let weir = place.started(&config);
    let mut stream = weir.stream("/app/stream");
    let mut shared = weir.stream("/_stream?p=app");
    // Four times the deadline, with rows and with silence longer than it.
    for (n, pause) in [300, 1_500, 300, 300, 1_500, 300].into_iter().enumerate() {
        thread::sleep(Duration::from_millis(pause));
        place.append("in/a.log", lines(n as u64..n as u64 + 1));
        let expected = lines(n as u64..n as u64 + 1);
        assert_eq!(stream.row().message(), expected.trim_end());
        assert_eq!(shared.row().message(), expected.trim_end());
    }
    weir.stop();
}

#[test]
fn status_is_answered_while_components_restart() {
    let (place, port) = (Place::new().with("in/a.log", lines(0..100)), free_port());
    // Fails, and is restarted: its directory is a file.
    place.write("out", "in the way");
    let mut weir = place.start(&format!(
        "{FILES}
        [[pipelines.sources]]
        type = \"exec\"
        command = \"exit 3\"
        restart = \"on_failure\"
        [[pipelines.sources]]
        type = \"tcp\"
        listen = \"127.0.0.1:{port}\"\n"
    ));
    weir.wait_listening("/status", 200);
    let (over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for path in ["/status", "/app/status", "/readyz", "/healthz", "/metrics"] {
                        let (code, body) = http::get(&weir.authority(), path).unwrap();
                        assert_eq!(code, if path == "/readyz" { 503 } else { 200 }, "{path}: {body}");
                        if path == "/app/status" {
                            let status: Value = serde_json::from_str(&body).unwrap();
                            let components = status["components"].as_array().unwrap();
                            assert_eq!(components.len(), 4, "{status}");
                            let sink = components.iter().find(|c| c["id"] == "app.sink.0.file").unwrap();
                            let state = sink["state"].as_str().unwrap();
                            assert!(["starting", "restarting"].contains(&state), "{sink}");
                        }
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        thread::sleep(Duration::from_secs(2));
        over.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 100, "{asked:?}");
    let restarting = weir.component("app", "app.sink.0.file");
    assert_eq!(restarting["state"], "restarting", "{restarting}");
    fs::remove_file(place.path("out")).unwrap();
    all_in_order(&place, "out/app.log", 100);
}

#[test]
fn restarted_with_a_changed_configuration_it_goes_on_where_it_was() {
    let place = Place::new().with("in/a.log", "");
    let filter = "[[pipelines.filters]]\ntype = \"exclude\"\npatterns = [\"nothing of ours\"]\n";
    let another = "[[pipelines]]\nname = \"other\"\nsources = [{ type = \"generate\" }]\nsinks = [{ type = \"null\" }]\n";
    let disk = "buffer = { type = \"disk\", max_bytes = \"8MiB\" }\n";
    let smaller = "buffer = { type = \"disk\", max_bytes = \"4MiB\", compress = \"zstd\" }\n";
    let more = "[[pipelines.sinks]]\ntype = \"null\"\n[[pipelines.sources]]\ntype = \"file\"\npath = \"DIR/more/*.log\"\n";
    let mut total = 0;
    for change in ["", filter, disk, smaller, more, another, ""] {
        let config = if change == another { format!("{another}{FILES}") } else { format!("{FILES}{change}") };
        let weir = place.started(&config);
        for _ in 0..5 {
            place.append("in/a.log", lines(total..total + 200));
            total += 200;
            thread::sleep(Duration::from_millis(10));
        }
        // Without waiting: what was read arrives now, and the rest in the next life.
        weir.stop();
    }
    let weir = place.started(FILES);
    all_in_order(&place, "out/app.log", total);
    weir.stop();
}

#[test]
fn a_disk_buffer_that_the_new_configuration_lacks_is_named_and_kept() {
    let place = Place::new().with("in/a.log", lines(0..500));
    place.write("out", "in the way");
    let with = format!("shutdown_timeout = \"1s\"\n{FILES}buffer = {{ type = \"disk\" }}\n");
    let without = with.replace("buffer = { type = \"disk\" }\n", "");
    let weir = place.start(&with);
    eventually("all in the buffer", || {
        let (_, status) = http::get(&weir.authority(), "/app/status")?;
        let status: Value = serde_json::from_str(&status).ok()?;
        let sink = status["components"].as_array()?.iter().find(|c| c["id"] == "app.sink.0.file")?;
        (sink["queued"] == 500).then_some(())
    });
    // The checkpoint passes them: they are in the buffer alone.
    thread::sleep(Duration::from_millis(1_200));
    weir.stop();
    fs::remove_file(place.path("out")).unwrap();
    place.append("in/a.log", lines(500..600));
    let weir = place.started(&without);
    eventually("the new lines", || (numbers(&place, "out/app.log").len() == 100).then_some(()));
    let said = format!("500 events wait in {}", place.path("state/buffers/app/file-0").display());
    assert!(weir.errors().contains(&said), "{}", weir.errors());
    weir.stop();
    let weir = place.started(&with);
    eventually("the old ones", || (numbers(&place, "out/app.log").len() == 600).then_some(()));
    let arrived: BTreeSet<u64> = numbers(&place, "out/app.log").into_iter().collect();
    assert_eq!(arrived, (0..600).collect());
    weir.stop();
}

/// Sends bytes as they are; the head of the answer.
fn head_of(authority: &str, request: &str) -> String {
    let mut socket = TcpStream::connect(authority).unwrap();
    socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    while !answer.windows(4).any(|w| w == b"\r\n\r\n") {
        match socket.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.extend_from_slice(&chunk[..n]),
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.split("\r\n\r\n").next().unwrap_or_default().to_owned()
}

#[test]
fn no_line_break_of_a_request_gets_into_the_head_of_an_answer_or_into_the_log() {
    let place = Place::new().with("in/a.log", "");
    let weir = place.started(&format!("{FILES}[[pipelines.sinks]]\ntype = \"http\"\n"));
    let authority = weir.authority();
    let targets = [
        "/app%0d%0ainjected:%20yes",
        "/app/%0d%0ainjected:%20yes",
        "/%0d%0ainjected:%20yes/",
        "/app/stream?limit=0&include=%0d%0ainjected:%20yes",
        "/app/stream?x%0d%0ainjected:%20yes=1",
        "/_stream?p=app%0d%0ainjected:%20yes",
        "//evil.example/%0d%0ainjected:%20yes",
        "/app\rinjected:/",
        "/app/stream?limit=0&since=%0ainjected:%20yes",
    ];
    let headers = [
        "origin: http://localhost%0d%0ainjected: yes",
        "last-event-id: %0d%0ainjected: yes",
        "x: a\rinjected: yes",
    ];
    for (target, header) in targets.iter().flat_map(|t| headers.iter().map(move |h| (t, h))) {
        let request =
            format!("GET {target} HTTP/1.1\r\nhost: {authority}\r\n{header}\r\nconnection: close\r\n\r\n");
        let head = head_of(&authority, &request);
        let injected = head.split(['\r', '\n']).any(|l| l.trim_start().starts_with("injected"));
        assert!(!injected, "{target}, {header}: {head}");
    }
    let forged = weir.errors().split(['\r', '\n']).any(|l| l.trim_start().starts_with("injected"));
    assert!(!forged, "{}", weir.errors());
    weir.stop();
}
