//! `weir init`: each recipe, written by the binary, passes `check` and its own tests, starts, and does what its first
//! line says. Only places are changed: directories, and ports that are free.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::{Command, Stdio};

use support::weir::{Place, Weir};
use support::{eventually, free_port};

/// Writes a recipe, checks and tests it, and starts it with its places below `place`.
fn started(place: &Place, recipe: &str, changes: &[(&str, &str)]) -> Weir {
    let file = format!("{recipe}.toml");
    let made = place.run(&["init", recipe, "-o", &file]);
    assert_eq!((made.code, made.stderr.as_str()), (0, ""));
    assert!(made.stdout.contains("weir check -c") && made.stdout.contains("change line"), "{}", made.stdout);
    for command in ["check", "test"] {
        let run = place.run(&[command, "-c", &file]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{recipe} {command}: {}", run.stdout);
    }
    let dir = place.dir().to_str().unwrap();
    let port = free_port();
    let mut text = String::from_utf8(place.read(&file)).unwrap();
    for (from, to) in changes.iter().chain(&[("/var/log", &*format!("{dir}/log")), ("5170", "0")]) {
        text = text.replace(from, to);
    }
    place.write(&file, &text);
    let (listen, state) = (format!("127.0.0.1:{port}"), format!("{dir}/state-{recipe}"));
    let mut command = place.command(&["run", "-c", &file, "--server.listen", &listen, "--state_dir", &state]);
    command.args(["--shutdown_timeout", "2s"]);
    let mut weir = place.spawn(command.stdout(Stdio::null()), port);
    weir.wait_ready();
    weir
}

fn eventually_holds(place: &Place, file: &str, what: &str) {
    eventually(&format!("{file} holds {what}"), || {
        String::from_utf8_lossy(&place.read(file)).contains(what).then_some(())
    });
}

fn post(weir: &Weir, body: &str) {
    let url = format!("http://{}/all/ingest", weir.authority());
    let sent = Command::new("curl").args(["-sS", "--fail", "-d", body, &url]).output().unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
}

#[test]
fn without_a_recipe_there_is_one_to_begin_with_and_nothing_is_overwritten() {
    let place = Place::new();
    let made = place.run(&["init"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert!(
        made.stdout
            .starts_with("pipelines.toml: read log files, keep what matters, watch it live\n\nnext:\n")
    );
    assert!(
        made.stdout.contains("  weir check\n  weir test\n  weir\n  open http://127.0.0.1:8080/app/\n"),
        "{}",
        made.stdout
    );
    let text = place.read("pipelines.toml");
    assert_eq!(place.run(&["init", "-o", "-"]).stdout.as_bytes(), text);
    let again = place.run(&["init", "split"]);
    assert_eq!(again.code, 73);
    assert!(
        again.stderr.starts_with("error: pipelines.toml exists") && again.stderr.contains("--force"),
        "{}",
        again.stderr
    );
    assert_eq!(place.read("pipelines.toml"), text);
    assert_eq!(place.run(&["init", "split", "--force"]).code, 0);
    assert!(place.read("pipelines.toml").starts_with(b"# split: "));
    assert_eq!(place.run(&["check"]).code, 0);
    let wrong = place.run(&["init", "splt", "-o", "-"]);
    assert!(wrong.code == 64 && wrong.stderr.contains("did you mean `split`?"), "{}", wrong.stderr);
    assert_eq!(place.run(&["init", "-c", "x.toml"]).code, 64);
    let list = place.run(&["init", "--list"]).stdout;
    let names: Vec<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["start", "tail", "aggregate", "forward", "ingest", "split"]);
}

#[test]
fn start_reads_files_filters_and_streams() {
    let place = Place::new().with("log/a.log", "GET /health 200\nERROR disk full\n");
    let weir = started(&place, "start", &[]);
    let mut stream = weir.stream("/app/stream?tail=10");
    assert!(stream.row().message().contains("disk full"));
    assert_eq!(weir.component("app", "app.filter.0.exclude")["filtered"], 1);
    weir.stop();
}

#[test]
fn tail_streams_the_files_of_a_directory() {
    let place = Place::new().with("log/app/sub/db.log", "2026-11-21T10:00:00Z ERROR disk full\n");
    let weir = started(&place, "tail", &[]);
    let mut stream = weir.stream("/logs/stream?tail=10");
    let row = stream.row().json();
    assert_eq!(
        (row["level"].as_str(), row["timestamp"].as_str()),
        (Some("error"), Some("2026-11-21T10:00:00.000Z"))
    );
    assert!(row["source"].as_str().unwrap().ends_with("log/app/sub/db.log"), "{row}");
    place.write("log/app/late.log", "and live\n");
    assert_eq!(stream.row().message(), "and live");
    weir.stop();
}

#[test]
fn aggregate_keeps_what_comes_over_http_and_tcp() {
    let place = Place::new();
    let port = free_port().to_string();
    let weir = started(&place, "aggregate", &[("5170", &port), ("-{date}", "")]);
    post(&weir, "over http");
    let mut tcp = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    std::io::Write::write_all(&mut tcp, b"<11>Nov 21 10:00:00 db1 postgres: over tcp\n").unwrap();
    eventually_holds(&place, "log/weir/all.log", "over http\n");
    eventually_holds(&place, "log/weir/all.log", "postgres: over tcp\n");
    weir.stop();
}

#[test]
fn forward_waits_on_disk_for_its_receiver_which_is_ingest() {
    let place = Place::new().with("log/app.log", "DEBUG x\nERROR disk full\n");
    let receiver_port = free_port();
    let url = [("127.0.0.1:8080", &*format!("127.0.0.1:{receiver_port}"))];
    let forward = started(&place, "forward", &url);
    eventually("the event waits", || {
        let sink = forward.component("forward", "forward.sink.0.http_client");
        (sink["buffer"]["type"] == "disk" || sink["queued"] == 1).then_some(())
    });
    // Stopped and started again with the receiver away: nothing is lost.
    forward.stop();
    let mut again = place.command(&["run", "-c", "forward.toml", "--state_dir", "state-forward"]);
    let port = free_port();
    again.args(["--server.listen", &format!("127.0.0.1:{port}")]).stdout(Stdio::null());
    let mut forward = place.spawn(&mut again, port);
    forward.wait_ready();

    let receiving = Place::new();
    assert_eq!(receiving.run(&["init", "ingest"]).code, 0);
    let text = String::from_utf8(receiving.read("pipelines.toml")).unwrap();
    let dir = receiving.dir().to_str().unwrap();
    receiving.write("pipelines.toml", text.replace("/var/log", &format!("{dir}/log")));
    let mut command = receiving.command(&["run", "--state_dir", "state"]);
    command.args(["--server.listen", &format!("127.0.0.1:{receiver_port}")]).stdout(Stdio::null());
    let mut ingest = receiving.spawn(&mut command, receiver_port);
    ingest.wait_ready();
    eventually_holds(&receiving, "log/weir/all.log", "disk full");
    let kept = String::from_utf8(receiving.read("log/weir/all.log")).unwrap();
    assert_eq!((kept.lines().count(), kept.contains("DEBUG")), (1, false), "{kept}");
    forward.stop();
    ingest.stop();
}

#[test]
fn ingest_keeps_what_is_posted() {
    let place = Place::new();
    let weir = started(&place, "ingest", &[]);
    post(&weir, "hello");
    eventually_holds(&place, "log/weir/all.log", "hello\n");
    weir.stop();
}

#[test]
fn split_parts_events_by_level() {
    let place = Place::new().with("log/app/a.log", "ERROR a\nWARN b\nINFO c\nno level\n");
    let weir = started(&place, "split", &[]);
    eventually_holds(&place, "log/weir/other.log", "no level\n");
    eventually_holds(&place, "log/weir/errors.log", "ERROR a\n");
    assert_eq!(place.read("log/weir/errors.log"), b"ERROR a\n");
    assert_eq!(place.read("log/weir/other.log"), b"WARN b\nINFO c\nno level\n");
    let mut stream = weir.stream("/app/stream?tail=10");
    assert_eq!([stream.row().message(), stream.row().message()], ["ERROR a", "WARN b"]);
    weir.stop();
}
