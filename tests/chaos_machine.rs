//! The machine under the binary misbehaves: it is stopped and continued, its disks fill up or turn read-only, its
//! descriptors run out, its files are rotated hundreds of times a second, it is restarted over and over, and its
//! clock is stepped. Every line is numbered, and what arrived is compared number by number.
//! `RESTARTS=10000 cargo test --release --test chaos_machine -- --nocapture` is the long form.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::print_stdout, reason = "the figures are what these tests state")]
#![cfg(target_os = "linux")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use logweir::base::clock;
use logweir::base::rng::Rng;
use support::receiver::Receiver;
use support::weir::{Place, Weir, binary};
use support::{eventually, free_port, http, skip};

/// Files into a file, the state below `DIR/STATE`.
const FILES: &str = r#"
[[pipelines]]
name = "app"
[[pipelines.sources]]
type = "file"
path = "DIR/in/app.log*"
[[pipelines.sinks]]
type = "file"
path = "DIR/out/app.log"
"#;

fn line(number: u64) -> String {
    format!("line {number:010} of the log, with some more text to look like one, end\n")
}

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(line).collect()
}

/// The number of a line that is whole; a torn or joined line fails the test.
fn number(text: &str) -> u64 {
    let number = text.get(5..15).and_then(|n| n.parse().ok());
    let number = number.unwrap_or_else(|| panic!("not a line of ours: {text:?}"));
    assert_eq!(line(number).trim_end(), text, "a line that is not as it was written");
    number
}

/// The numbers in a file, in its order, except a last line that is not whole yet.
fn numbers(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|l| l.strip_suffix('\n')).map(number).collect()
}

/// Waits until a file holds each number of `0..total`, and compares: none more than `most` times, and no others.
/// Returns how many came again.
fn each(path: &Path, total: u64, most: u64) -> u64 {
    let end = clock::now() + support::PATIENCE;
    let seen = loop {
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        numbers(path).into_iter().for_each(|n| *seen.entry(n).or_default() += 1);
        if seen.len() as u64 >= total || clock::now() > end {
            break seen;
        }
        thread::sleep(Duration::from_millis(50));
    };
    let missing: Vec<u64> = (0..total).filter(|n| !seen.contains_key(n)).take(10).collect();
    let again: Vec<_> = seen.iter().filter(|(n, times)| **times > most || **n >= total).take(10).collect();
    assert!(missing.is_empty() && again.is_empty(), "of {total}: missing {missing:?}, again {again:?}");
    seen.values().sum::<u64>() - total
}

fn each_once(path: &Path, total: u64) {
    each(path, total, 1);
}

/// Writes a configuration whose state lives in `state`, and starts it.
fn start_in(place: &Place, state: &str, config: &str) -> Weir {
    let port = free_port();
    let text = format!("state_dir = \"DIR/{state}\"\nserver.listen = \"127.0.0.1:{port}\"\n{config}");
    place.write("pipelines.toml", text.replace("DIR", place.dir().to_str().unwrap()));
    let mut command = place.command(&["run"]);
    place.spawn(command.stdout(Stdio::null()), port)
}

#[test]
fn stopped_and_continued_under_load_nothing_is_lost() {
    const LINES: u64 = 12_000;
    let (place, port) = (Place::new().with("in/app.log", ""), free_port());
    let receiver = Receiver::http(1);
    receiver.calm();
    let config = format!(
        "{FILES}
        [[pipelines.sinks]]
        type = \"http_client\"
        url = \"http://127.0.0.1:{}/\"
        [[pipelines.sinks]]
        type = \"http\"
        history = {{ max_events = 100000, max_bytes = \"64MiB\" }}
        [[pipelines.sources]]
        type = \"tcp\"
        listen = \"127.0.0.1:{port}\"\n",
        receiver.port
    );
    let weir = place.started(&config);
    let mut stream = weir.stream("/app/stream");
    let subscriber = thread::spawn(move || {
        let mut seen: Vec<u64> = (0..LINES).map(|_| number(&stream.row().message())).collect();
        seen.sort_unstable();
        seen
    });
    // Even numbers to the file, odd ones to the socket.
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let sender = thread::spawn(move || {
        for n in (1..LINES).step_by(2) {
            socket.write_all(line(n).as_bytes()).unwrap();
            if n % 50 == 1 {
                thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let path = place.path("in/app.log");
    let writer = thread::spawn(move || {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        for n in (0..LINES).step_by(2) {
            file.write_all(line(n).as_bytes()).unwrap();
            if n % 50 == 0 {
                thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let mut rng = Rng::seeded(5);
    for _ in 0..6 {
        thread::sleep(Duration::from_millis(rng.below(200)));
        weir.signal("STOP");
        thread::sleep(Duration::from_millis(100 + rng.below(500)));
        weir.signal("CONT");
    }
    writer.join().unwrap();
    sender.join().unwrap();
    each_once(&place.path("out/app.log"), LINES);
    assert_eq!(subscriber.join().unwrap(), (0..LINES).collect::<Vec<_>>());
    eventually("all lines at the receiver", || (receiver.lines() == LINES).then_some(()));
    println!("SIGSTOP x 6: {LINES} lines, {} repeats over HTTP, none elsewhere", receiver.repeats());
    weir.stop();
}

/// A small file system of its own, unmounted when dropped; `None` without the rights to mount one.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(test: &str, at: PathBuf, size: &str) -> Option<Mount> {
        fs::create_dir_all(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o"]).arg(format!("size={size}")).arg("tmpfs").arg(&at);
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|s| s.success());
        if !mounted {
            skip(test, "mounting a tmpfs needs root");
        }
        mounted.then_some(Mount(at))
    }

    fn remount(&self, options: &str) {
        let remount = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(remount.unwrap().success(), "remounted {options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

/// One output, and another one behind a disk buffer whose place is taken until [`give_way`]; all of it, and the
/// state, on one disk.
const ON_ONE_DISK: &str = r#"
[[pipelines]]
name = "app"
[[pipelines.sources]]
type = "file"
path = "DIR/in/app.log*"
[[pipelines.sinks]]
type = "file"
path = "DIR/disk/out/app.log"
[[pipelines.sinks]]
type = "file"
path = "DIR/disk/late/app.log"
buffer = { type = "disk", max_bytes = "64MiB" }
"#;

fn give_way(place: &Place) {
    fs::remove_file(place.path("disk/late")).unwrap();
}

#[test]
fn a_disk_that_is_full_for_state_buffer_and_output_at_once_is_waited_out() {
    const LINES: u64 = 40_000;
    let place = Place::new().with("in/app.log", lines(0..LINES));
    let name = "a_disk_that_is_full_for_state_buffer_and_output_at_once_is_waited_out";
    let Some(mount) = Mount::tmpfs(name, place.path("disk"), "1536k") else { return };
    place.write("disk/late", "in the way");
    let mut weir = start_in(&place, "disk/state", ON_ONE_DISK);
    weir.wait_listening("/readyz", 503);
    eventually("it says why", || weir.errors().contains("No space left").then_some(()));
    thread::sleep(Duration::from_millis(700));
    mount.remount("size=64m");
    give_way(&place);
    each_once(&place.path("disk/out/app.log"), LINES);
    each_once(&place.path("disk/late/app.log"), LINES);
    weir.wait_ready();
    weir.stop();
    place.append("in/app.log", lines(LINES..LINES + 100));
    let weir = start_in(&place, "disk/state", ON_ONE_DISK);
    each_once(&place.path("disk/out/app.log"), LINES + 100);
    each_once(&place.path("disk/late/app.log"), LINES + 100);
    weir.stop();
    println!("disk full for state, buffer and output: {LINES} lines, none lost, none twice");
}

#[test]
fn stopped_and_killed_while_the_disk_is_full_nothing_is_lost() {
    const LINES: u64 = 40_000;
    let place = Place::new().with("in/app.log", lines(0..LINES));
    let name = "stopped_and_killed_while_the_disk_is_full_nothing_is_lost";
    let Some(mount) = Mount::tmpfs(name, place.path("disk"), "1536k") else { return };
    place.write("disk/late", "in the way");
    let config = format!("shutdown_timeout = \"1s\"\n{ON_ONE_DISK}");
    for signal in ["TERM", "KILL", "TERM"] {
        let mut weir = start_in(&place, "disk/state", &config);
        weir.wait_listening("/readyz", 503);
        thread::sleep(Duration::from_millis(300));
        weir.signal(signal);
        // Undelivered lines are told, and the end does not hang.
        let code = weir.wait();
        assert_eq!(code, if signal == "TERM" { 74 } else { -1 }, "{}", weir.errors());
    }
    mount.remount("size=64m");
    give_way(&place);
    let weir = start_in(&place, "disk/state", &config);
    // No checkpoint could be written, so what is not settled everywhere comes again, once for each start.
    let again = each(&place.path("disk/out/app.log"), LINES, 4);
    let late = each(&place.path("disk/late/app.log"), LINES, 4);
    println!("ended three times on a full disk: {LINES} lines, none lost, {again} and {late} repeats");
    weir.stop();
}

#[test]
fn a_disk_that_turns_read_only_and_back_costs_no_line() {
    let place = Place::new().with("in/app.log", "");
    let name = "a_disk_that_turns_read_only_and_back_costs_no_line";
    let Some(mount) = Mount::tmpfs(name, place.path("disk"), "64m") else { return };
    let mut total = 0;
    for round in 0..4 {
        let mut weir = start_in(&place, "state", ON_ONE_DISK);
        weir.wait_ready();
        for _ in 0..20 {
            place.append("in/app.log", lines(total..total + 100));
            total += 100;
            thread::sleep(Duration::from_millis(5));
        }
        each_once(&place.path("disk/out/app.log"), total);
        each_once(&place.path("disk/late/app.log"), total);
        // The kernel turns nothing read-only that is open for writing.
        weir.stop();
        mount.remount("ro");
        place.append("in/app.log", lines(total..total + 1_000));
        total += 1_000;
        let mut weir = start_in(&place, "state", ON_ONE_DISK);
        let why = weir.wait_listening("/readyz", 503);
        eventually("it says why", || weir.errors().contains("Read-only").then_some(()));
        mount.remount("rw");
        each_once(&place.path("disk/out/app.log"), total);
        each_once(&place.path("disk/late/app.log"), total);
        weir.wait_ready();
        weir.stop();
        println!("read-only, round {round}: {total} lines, none lost, none twice; /readyz said {why}");
    }
}

#[test]
fn a_state_directory_that_turns_read_only_ends_the_start_and_harms_nothing() {
    let place = Place::new().with("in/app.log", lines(0..1_000));
    let name = "a_state_directory_that_turns_read_only_ends_the_start_and_harms_nothing";
    let Some(mount) = Mount::tmpfs(name, place.path("disk"), "64m") else { return };
    let weir = start_in(&place, "disk/state", FILES);
    each_once(&place.path("out/app.log"), 1_000);
    weir.stop();
    mount.remount("ro");
    place.append("in/app.log", lines(1_000..2_000));
    let end = place.run(&["run"]);
    assert!(![0, 101].contains(&end.code), "{} {}", end.code, end.stderr);
    assert!(end.stderr.contains("disk/state") && end.stderr.contains("Read-only"), "{}", end.stderr);
    mount.remount("rw");
    let weir = start_in(&place, "disk/state", FILES);
    each_once(&place.path("out/app.log"), 2_000);
    weir.stop();
}

#[test]
fn descriptors_run_out_while_clients_connect_and_files_rotate() {
    const CLIENTS: u64 = 120;
    const ROTATIONS: u64 = 60;
    let (place, port, served) = (Place::new().with("in/app.log", ""), free_port(), free_port());
    let config = format!(
        "state_dir = \"DIR/state\"\nserver.listen = \"127.0.0.1:{served}\"\n{FILES}
        [[pipelines.sources]]
        type = \"tcp\"
        listen = \"127.0.0.1:{port}\"\n"
    );
    place.write("pipelines.toml", config.replace("DIR", place.dir().to_str().unwrap()));
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n 64; exec '{}' run", binary().display())]);
    command.current_dir(place.dir()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut weir = place.spawn(&mut command, served);
    weir.wait_ready();
    // More clients than descriptors, each with two lines and a pause between them.
    let clients: Vec<TcpStream> =
        (0..CLIENTS).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    for (n, mut client) in (0..).zip(&clients) {
        client.write_all(line(n).as_bytes()).unwrap();
    }
    let mut total = CLIENTS;
    for rotation in 0..ROTATIONS {
        place.append("in/app.log", lines(total..total + 20));
        total += 20;
        fs::rename(place.path("in/app.log"), place.path(&format!("in/app.log.{rotation}"))).unwrap();
        thread::sleep(Duration::from_millis(15));
    }
    // Those that this process was started with do not count.
    let fds = fs::read_dir(format!("/proc/{}/fd", weir.child().id())).unwrap().flatten();
    let open = fds.filter(|fd| fd.file_name().to_str().unwrap().parse::<u32>().unwrap() < 64).count();
    assert!(open >= 62, "they did not run out: {open}");
    for mut client in clients {
        client.write_all(line(total).as_bytes()).unwrap();
        total += 1;
    }
    each_once(&place.path("out/app.log"), total);
    // Nobody holds descriptors any more: it answers, and new files are read.
    weir.wait_ready();
    place.append("in/app.log", lines(total..total + 20));
    each_once(&place.path("out/app.log"), total + 20);
    println!(
        "64 descriptors, {open} in use at the worst: {} lines of {CLIENTS} clients and {ROTATIONS} rotations",
        total + 20
    );
    weir.stop();
}

/// Rotates as fast as it can for a while, by `rotate`, which gets the path and the number of the rotation; every
/// tenth file is removed once its lines have arrived. Returns how many lines and rotations there were.
fn storm(place: &Place, rotate: impl Fn(&mut File, u64)) -> (u64, u64) {
    let (path, end) = (place.path("in/app.log"), clock::now() + Duration::from_secs(3));
    let (mut total, mut rotation) = (0, 0);
    let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let mut doomed = Vec::new();
    while clock::now() < end {
        file.write_all(lines(total..total + 7).as_bytes()).unwrap();
        total += 7;
        rotate(&mut file, rotation);
        if rotation % 10 == 0 {
            doomed.push((total, place.path(&format!("in/app.log.{rotation}"))));
        }
        rotation += 1;
        if rotation % 100 == 0 {
            let arrived: BTreeSet<u64> = numbers(&place.path("out/app.log")).into_iter().collect();
            let upto = (0..).zip(&arrived).take_while(|(n, a)| n == *a).count() as u64;
            doomed.retain(|(last, aside)| *last > upto || fs::remove_file(aside).is_err());
        }
        thread::sleep(Duration::from_micros(2_500));
    }
    (total, rotation)
}

#[test]
fn a_storm_of_renames_and_deletions() {
    let place = Place::new().with("in/app.log", "");
    let weir = place.started(FILES);
    let path = place.path("in/app.log");
    let (total, rotations) = storm(&place, |file, n| {
        fs::rename(&path, path.with_extension(format!("log.{n}"))).unwrap();
        *file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    });
    each_once(&place.path("out/app.log"), total);
    weir.stop();
    println!("storm of renames: {rotations} in 3 s, {total} lines, none lost, none twice");
}

#[test]
fn a_storm_of_copytruncate_and_deletions() {
    let place = Place::new().with("in/app.log", "");
    let weir = place.started(FILES);
    let path = place.path("in/app.log");
    let (total, rotations) = storm(&place, |file, n| {
        fs::copy(&path, path.with_extension(format!("log.{n}"))).unwrap();
        file.set_len(0).unwrap();
    });
    // The copies match, and are files of their own: what was read before it was copied comes once more.
    let again = each(&place.path("out/app.log"), total, 2);
    weir.stop();
    println!(
        "storm of copytruncate: {rotations} in 3 s, {total} lines, none lost, {again} read from the copies too"
    );
}

/// The bytes of all files below a directory.
fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries
        .map(|e| if e.path().is_dir() { bytes_below(&e.path()) } else { e.metadata().unwrap().len() })
        .sum()
}

#[test]
fn restarted_over_and_over_with_data_in_between() {
    let restarts = std::env::vars().find(|(k, _)| k == "RESTARTS").and_then(|(_, v)| v.parse().ok());
    let restarts: u64 = restarts.unwrap_or(60);
    let place = Place::new().with("in/app.log", "");
    let config = format!(
        "{FILES}
        [[pipelines.sinks]]
        type = \"file\"
        path = \"DIR/out/buffered.log\"
        buffer = {{ type = \"disk\", max_bytes = \"16MiB\" }}\n"
    );
    let stop = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let (path, stop) = (place.path("in/app.log"), stop.clone());
        move || {
            let (mut total, mut turn) = (0, 0);
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(lines(total..total + 5).as_bytes()).unwrap();
                (total, turn) = (total + 5, turn + 1);
                if turn % 400 == 0 {
                    fs::rename(&path, path.with_extension(format!("log.{turn}"))).unwrap();
                    file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
                }
                thread::sleep(Duration::from_millis(2));
            }
            total
        }
    });
    let mut rng = Rng::seeded(3);
    for _ in 0..restarts {
        let mut weir = start_in(&place, "state", &config);
        // Often in the middle of its start; before it has its signals, TERM is the end of any program.
        thread::sleep(Duration::from_millis(40 + rng.below(160)));
        weir.signal("TERM");
        let code = weir.wait();
        assert!([0, -1].contains(&code), "{code}: {}", weir.errors());
    }
    stop.store(true, Ordering::Relaxed);
    let total = writer.join().unwrap();
    let weir = start_in(&place, "state", &config);
    each_once(&place.path("out/app.log"), total);
    each_once(&place.path("out/buffered.log"), total);
    weir.stop();
    let state = bytes_below(&place.path("state"));
    assert!(state < 4 << 20, "{state} bytes of state after {restarts} restarts");
    println!("{restarts} restarts: {total} lines, none lost, none twice; {state} bytes of state");
}

/// Shifts the wall clock of a program by the seconds in a file.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile long *shift;
int clock_gettime(clockid_t id, struct timespec *at) {
    long failed = syscall(SYS_clock_gettime, id, at);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        if (!shift) {
            int fd = open(getenv("CLOCK_SHIFT"), O_RDONLY);
            shift = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
            close(fd);
        }
        at->tv_sec += *shift;
    }
    return failed;
}
"#;

#[test]
fn a_clock_stepped_backwards_and_forwards_changes_nothing() {
    let place = Place::new().with("in/app.log", "").with("shim.c", SHIM).with("shift", 0i64.to_ne_bytes());
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O", "-o"])
        .args([place.path("shim.so"), place.path("shim.c")])
        .status();
    if !compiled.is_ok_and(|s| s.success()) {
        return skip("a_clock_stepped_backwards_and_forwards_changes_nothing", "no C compiler");
    }
    let port = free_port();
    let config = format!(
        "state_dir = \"DIR/state\"\nserver.listen = \"127.0.0.1:{port}\"\n{FILES}
        rotate = {{ every = \"1h\" }}
        [[pipelines.sinks]]
        type = \"http\"
        history = {{ max_events = 100000, max_bytes = \"64MiB\" }}
        heartbeat = {{ interval = \"1s\", format = \"comment\" }}\n"
    );
    place.write("pipelines.toml", config.replace("DIR", place.dir().to_str().unwrap()));
    let shift = OpenOptions::new().write(true).open(place.path("shift")).unwrap();
    let step = |seconds: i64| {
        std::os::unix::fs::FileExt::write_all_at(&shift, &seconds.to_ne_bytes(), 0).unwrap();
    };
    let run = || {
        let mut command = place.command(&["run"]);
        command.env("LD_PRELOAD", place.path("shim.so")).env("CLOCK_SHIFT", place.path("shift"));
        let mut weir = place.spawn(command.stdout(Stdio::null()), port);
        weir.wait_ready();
        weir
    };
    let mut total = 0;
    for restart in 0..2 {
        let weir = run();
        let mut stream = weir.stream("/app/stream");
        let from = total;
        for (turn, seconds) in
            [0, -3_600, 3 * 3_600, -40 * 365 * 86_400, -7_200, 365 * 86_400, -1].into_iter().enumerate()
        {
            step(seconds);
            place.append("in/app.log", lines(total..total + 200));
            total += 200;
            let aside = format!("in/app.log.{restart}-{turn}");
            fs::rename(place.path("in/app.log"), place.path(&aside)).unwrap();
            place.append("in/app.log", "");
            let mut seen: Vec<u64> = (0..200).map(|_| number(&stream.row().message())).collect();
            seen.sort_unstable();
            assert_eq!(seen, (total - 200..total).collect::<Vec<_>>(), "clock shifted by {seconds} s");
        }
        assert_eq!(http::get(&weir.authority(), "/readyz").unwrap().0, 200);
        let missed = weir.component("app", "app.sink.1.http");
        assert_eq!(missed["delivered"], total - from, "{missed}");
        weir.stop();
        step(-86_400);
    }
    let mut all: Vec<u64> =
        fs::read_dir(place.path("out")).unwrap().flatten().flat_map(|e| numbers(&e.path())).collect();
    all.sort_unstable();
    assert_eq!(all, (0..total).collect::<Vec<_>>(), "each line once in the output and its rotated files");
    let rotated = fs::read_dir(place.path("out")).unwrap().count();
    println!("clock stepped 14 times, by up to 40 years: {total} lines, each once, in {rotated} files");
}
