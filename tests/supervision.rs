//! Faults at the start and later, from outside: said once, with the right exit code, and seen in status and metrics.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::weir::Place;
use support::{eventually, http};

#[test]
fn a_taken_port_of_a_sink_ends_the_start_and_is_said_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for kind in ["tcp", "http"] {
        let place = Place::new();
        place.write(
            "pipelines.toml",
            format!(
                "server.enabled = false\n[[pipelines]]\nname = \"app\"\n[[pipelines.sources]]\ntype = \"generate\"\n[[pipelines.sinks]]\ntype = \"{kind}\"\nlisten = \"{address}\"\n"
            ),
        );
        let end = place.run(&["run"]);
        assert_eq!(end.code, 69, "{end:?}");
        assert_eq!(end.stderr.matches(&address).count(), 1, "said once: {}", end.stderr);
        assert!(end.stderr.contains("address in use"), "{}", end.stderr);
    }
}

#[test]
fn restarts_and_the_last_error_are_in_status_and_metrics() {
    let place = Place::new();
    let weir = place.start(
        "[[pipelines]]\nname = \"app\"\n[[pipelines.sources]]\ntype = \"directory\"\npath = \"DIR/missing\"\n[[pipelines.sinks]]\ntype = \"null\"\n",
    );
    let id = "app.source.0.directory";
    let failed = eventually("it was started again", || {
        let (code, _) = http::get(&weir.authority(), "/status")?;
        let status = (code == 200).then(|| weir.component("app", id))?;
        (status["restarts"].as_u64().unwrap() >= 1).then_some(status)
    });
    assert!(failed["last_error"]["why"].as_str().unwrap().contains("cannot read the directory"), "{failed}");
    std::fs::create_dir(place.path("missing")).unwrap();
    let mended = eventually("it is at work", || {
        let status = weir.component("app", id);
        (status["state"] == "ready").then_some(status)
    });
    assert!(mended["last_error"]["at"].as_str().unwrap().starts_with("20"), "it stays known: {mended}");
    let (_, metrics) = http::get(&weir.authority(), "/metrics").unwrap();
    let value = |name: &str| {
        let line = metrics.lines().find(|l| l.starts_with(name) && l.contains(id));
        line.and_then(|l| l.rsplit_once(' ')).map(|(_, n)| n.parse::<f64>().unwrap())
    };
    assert!(value("weir_restarts_total").unwrap() >= 1.0);
    assert!(value("weir_component_last_error_timestamp_seconds").unwrap() > 1e9);
    let said = weir.errors().matches("cannot read the directory").count();
    assert!(said <= 2, "the same reason once a minute: {}", weir.errors());
    weir.stop();
}

#[test]
fn beyond_max_memory_clients_that_post_hear_so_within_a_second() {
    let place = Place::new();
    // Nobody listens at the receiver's port.
    let dead = support::free_port();
    let mut weir = place.start(&format!(
        "max_memory = \"16MiB\"\n[[pipelines]]\nname = \"app\"\n\
         [[pipelines.sources]]\ntype = \"http\"\nsettle_timeout = \"60s\"\n\
         [[pipelines.sinks]]\ntype = \"tcp_client\"\naddress = \"127.0.0.1:{dead}\"\n\
         buffer = {{ type = \"disk\" }}\n"
    ));
    weir.wait_listening("/healthz", 200);
    let post = |body: &str| {
        let (authority, length) = (weir.authority(), body.len());
        let mut stream = TcpStream::connect(&authority).unwrap();
        write!(
            stream,
            "POST /app/ingest HTTP/1.1\r\nhost: {authority}\r\ncontent-type: text/plain\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.to_ascii_lowercase()
    };
    // The disk buffer acknowledges what it takes; then that waits for the receiver, in memory as far as it may.
    let body = format!("{}\n", "x".repeat(1000)).repeat(900);
    let mut taken = 0;
    let refused = loop {
        let answer = post(&body);
        if !answer.starts_with("http/1.1 200") {
            break answer;
        }
        taken += 1;
        assert!(taken < 100, "it takes in more than it may keep");
    };
    assert!(refused.starts_with("http/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains("max_memory"), "{refused}");
    assert!(taken > 0);
}

/// A control group of its own with a memory limit, removed when dropped; `None` where none can be made.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    fn new(bytes: u64) -> Option<MemoryGroup> {
        let (two, one) = (Path::new("/sys/fs/cgroup"), Path::new("/sys/fs/cgroup/memory"));
        let controls = fs::read_to_string(two.join("cgroup.subtree_control")).unwrap_or_default();
        let (base, file) = if controls.split_whitespace().any(|c| c == "memory") {
            (two, "memory.max")
        } else {
            (one, "memory.limit_in_bytes")
        };
        let group = base.join(format!("weir-test-{}", std::process::id()));
        // Elsewhere than in a control group file system it would be a directory like others.
        let real = base.join("cgroup.procs").exists() && fs::create_dir(&group).is_ok();
        let limited = real && fs::write(group.join(file), bytes.to_string()).is_ok();
        real.then_some(MemoryGroup(group)).filter(|_| limited)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Not before the kernel has let go of its last process.
        eventually("the group is removed", || fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn under_a_control_groups_limit_sources_wait_before_the_kernels_killer_acts() {
    let test = "under_a_control_groups_limit_sources_wait_before_the_kernels_killer_acts";
    let limit = 128 << 20;
    let Some(group) = MemoryGroup::new(limit) else {
        return support::skip(test, "no control group with a memory limit can be made here");
    };
    let place = Place::new();
    let line = format!("{}\n", "x".repeat(1000));
    // Three times the limit, for a receiver that never comes.
    place.write("in.log", line.repeat(400 << 10));
    let (dead, port) = (support::free_port(), support::free_port());
    place.write(
        "pipelines.toml",
        format!(
            "state_dir = \"state\"\nserver.listen = \"127.0.0.1:{port}\"\n\
             [[pipelines]]\nname = \"app\"\n\
             [[pipelines.sources]]\ntype = \"file\"\npath = \"in.log\"\n\
             [[pipelines.sinks]]\ntype = \"tcp_client\"\naddress = \"127.0.0.1:{dead}\"\n\
             buffer = {{ max_events = 10000000, max_bytes = \"4GiB\" }}\n"
        ),
    );
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$0\" run", group.0.display());
    let mut command = place.command(&[]);
    let program = command.get_program().to_owned();
    command = {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(enter).arg(program).current_dir(place.dir()).stdin(Stdio::null());
        shell.env_clear().env("HOME", place.dir()).env("PATH", "/usr/bin:/bin").stdout(Stdio::null());
        shell
    };
    let mut weir = place.spawn(&mut command, port);
    weir.wait_listening("/healthz", 200);
    eventually("the bound is reached", || weir.errors().contains("max_memory is reached").then_some(()));
    // It stays where it is, alive.
    let mut before = u64::MAX;
    eventually("sources wait", || {
        std::thread::sleep(Duration::from_millis(500));
        let queued = weir.component("app", "app.sink.0.tcp_client")["queued"].as_u64().unwrap();
        (std::mem::replace(&mut before, queued) == queued).then_some(())
    });
    assert!(before < 400 << 10, "all {before} were taken in");
    assert!(weir.child().try_wait().unwrap().is_none(), "it was killed");
    drop(weir);
}
