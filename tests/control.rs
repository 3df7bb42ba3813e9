//! The control socket from outside: who reaches it, what is found by it, what `weir tap` shows and what it costs, and
//! `weir top` in a terminal.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints its figures"
)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::weir::{Place, Weir, finish};
use support::{eventually, installed, skip};

/// A pipeline that reads `in.log`, drops what says DEBUG and then what says noise, and writes `out.log` and, of it what
/// says ERROR, `errors.log`.
const PIPELINE: &str = r#"
[[pipelines]]
name = "app"
[[pipelines.sources]]
type = "file"
path = "DIR/in.log"
poll_interval = "20ms"
[[pipelines.filters]]
type = "exclude"
patterns = ["DEBUG"]
[[pipelines.filters]]
type = "exclude"
patterns = ["noise"]
[[pipelines.sinks]]
type = "file"
path = "DIR/out.log"
[[pipelines.sinks]]
type = "file"
path = "DIR/errors.log"
filters = [{ type = "include", patterns = ["ERROR"] }]
"#;

/// The only socket in a place.
fn socket(place: &Place) -> PathBuf {
    eventually("there is a control socket", || {
        let entries = fs::read_dir(place.path("run/weir")).ok()?;
        let mut sockets =
            entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "sock"));
        sockets.next()
    })
}

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
fn only_its_user_and_root_reach_the_socket_and_it_goes_with_its_process() {
    let place = Place::new();
    let weir = place.started(PIPELINE);
    let path = socket(&place);
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o777;
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let own = place.run(&["status", "--socket", path.to_str().unwrap()]);
    assert_eq!(own.code, 0, "{}", own.stderr);
    weir.stop();
    assert!(!path.exists());
}

#[test]
fn another_user_is_refused_even_where_the_file_would_let_it_in() {
    if !rustix::process::geteuid().is_root()
        || !installed("setpriv")
        || !Path::new("/usr/bin/python3").exists()
    {
        return skip("another_user_is_refused", "it takes root, setpriv and /usr/bin/python3");
    }
    let place = Place::new();
    let weir = place.started(PIPELINE);
    let path = socket(&place);
    let ask = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3", "-c"]);
        command.arg("import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ns.sendall(b'GET /status HTTP/1.0\\r\\n\\r\\n')\nprint(len(s.recv(100)))");
        finish(command.arg(&path))
    };
    assert!(ask().stderr.contains("Permission denied"), "the file system keeps it out");
    // As if everything around it were open.
    for part in [place.dir(), &place.path("run"), &place.path("run/weir"), &path] {
        fs::set_permissions(part, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let asked = ask();
    let silent =
        asked.stdout.trim() == "0" || asked.stderr.contains("reset") || asked.stderr.contains("Broken pipe");
    assert!(silent, "it hears nothing: {} {}", asked.stdout, asked.stderr);
    assert!(weir.errors().contains("refused on the control socket"), "{}", weir.errors());
    assert_eq!(place.run(&["status", "--socket", path.to_str().unwrap()]).code, 0, "its own user does");
}

#[test]
fn what_a_killed_process_leaves_is_not_taken_for_one_that_runs_and_is_swept() {
    let place = Place::new();
    let mut weir = place.started(PIPELINE);
    let stale = socket(&place);
    weir.signal("KILL");
    weir.wait_killed();
    assert!(stale.exists());
    let killed = stale.file_stem().unwrap().to_str().unwrap();
    let tap = place.run(&["tap", "app", "--pid", killed]);
    assert_eq!(tap.code, 69, "{}", tap.stderr);
    assert!(tap.stderr.contains("no running weir was found"), "{}", tap.stderr);
    let again = place.started(PIPELINE);
    assert!(!stale.exists(), "the next start sweeps it");
    assert_eq!(place.run(&["tap", "app", "-n", "1", "--pid", "1"]).code, 69);
    again.stop();
}

#[test]
fn one_is_found_and_of_two_one_has_to_be_named() {
    let place = Place::new();
    let off = format!("server.enabled = false\n{PIPELINE}").replace("DIR", place.dir().to_str().unwrap());
    place.write("a.toml", &off);
    place.write(
        "b.toml",
        off.replace("\"app\"", "\"billing\"")
            .replace("in.log", "other.log")
            .replace("out.log", "o2")
            .replace("errors.log", "e2"),
    );
    let start = |file: &str, state: &str| {
        place.spawn(&mut place.command(&["run", "-c", file, "--state_dir", state]), 0)
    };
    let mut first = start("a.toml", "s1");
    socket(&place);
    let found = place.run(&["status", "--json"]);
    assert_eq!(found.code, 0, "no server, and yet found: {}", found.stderr);
    let status: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(
        (&status["pid"], &status["pipelines"][0]["name"]),
        (&first.child().id().into(), &"app".into())
    );
    assert_eq!(place.run(&["health"]).code, 0);
    let mut second = start("b.toml", "s2");
    let several = eventually("both are there", || {
        let asked = place.run(&["top", "--once"]);
        (asked.code == 64).then_some(asked.stderr)
    });
    assert!(
        several.contains("2 weirs run") && several.contains("app") && several.contains("billing"),
        "{several}"
    );
    let id = second.child().id().to_string();
    let top = place.run(&["top", "--once", "--pid", &id]);
    assert!(
        top.code == 0 && top.stdout.contains("▾ billing") && !top.stdout.contains("app"),
        "{}",
        top.stdout
    );
    let misspelt = place.run(&["tap", "billing.source.0.fil", "--pid", &id]);
    assert_eq!(misspelt.code, 64);
    assert!(misspelt.stderr.contains("did you mean `billing.source.0.file`?"), "{}", misspelt.stderr);
    for weir in [first, second] {
        weir.stop();
    }
}

#[test]
fn a_start_without_a_socket_is_a_start() {
    let place = Place::new();
    let weir = place.started(&format!("control.socket = \"/proc/none/weir.sock\"\n{PIPELINE}"));
    assert!(weir.errors().contains("no control socket"), "{}", weir.errors());
    weir.stop();
    let long = format!("DIR/{}/{}/w.sock", "d".repeat(100), "e".repeat(100));
    let mut weir = place.started(&format!("control.socket = \"{long}\"\n{PIPELINE}"));
    let path = long.replace("DIR", place.dir().to_str().unwrap());
    assert_eq!(place.run(&["health", "--socket", &path]).code, 0, "longer than an address may be");
    let shown = place.run(&["status", "--json", "--socket", &path]).stdout;
    let status: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(status["pid"], weir.child().id());
    weir.stop();
    let weir = place.started(&format!("control.enabled = false\n{PIPELINE}"));
    assert_eq!(fs::read_dir(place.path("run/weir")).map_or(0, Iterator::count), 0);
    weir.stop();
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

#[test]
fn top_is_for_terminals_and_prints_one_frame_elsewhere() {
    let place = Place::new();
    let weir = place.started(&PIPELINE.replace("DIR/in.log", "DIR/none.log"));
    let piped = place.run(&["top"]);
    assert_eq!(piped.code, 64);
    assert!(piped.stderr.contains("weir status --json"), "{}", piped.stderr);
    let once = place.run(&["top", "--once", &format!("http://{}", weir.authority())]);
    assert_eq!(once.code, 0, "{}", once.stderr);
    for part in ["▾ app", "source.0.file", "sink.1.file", "running", "pid"] {
        assert!(once.stdout.contains(part), "{part}: {}", once.stdout);
    }
    assert!(!once.stdout.contains('\x1b'));
    weir.stop();
    assert_eq!(place.run(&["top", "--once", "--pid", "1"]).code, 69);
}

/// Runs `weir top` in a pseudo-terminal, presses keys, and prints what came, the exit code, and whether the terminal is
/// as it was.
const PTY: &str = r#"
import os, pty, select, signal, sys, termios, time, fcntl, struct
weir, keys = sys.argv[1], sys.argv[2:]
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.environ["TERM"] = "xterm-256color"
    os.execv(weir, [weir, "top"])
out = b""
def until(text, patience=30):
    global out
    end = time.time() + patience
    while text not in out and time.time() < end:
        if select.select([master], [], [], 0.1)[0]:
            out += os.read(master, 65536)
    if text not in out:
        sys.exit("waited in vain for %r in %r" % (text, out[-2000:]))
for key in keys:
    what, _, value = key.partition(":")
    if what == "until":
        until(value.encode())
    elif what == "press":
        out = b""
        os.write(master, value.encode())
    elif what == "signal":
        os.kill(pid, getattr(signal, "SIG" + value))
status = None
end = time.time() + 30
while time.time() < end:
    if select.select([master], [], [], 0.05)[0]:
        out += os.read(master, 65536)
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        break
while select.select([master], [], [], 0.2)[0]:
    out += os.read(master, 65536)
print("code", os.waitstatus_to_exitcode(status))
print("restored", termios.tcgetattr(slave) == before)
print("left", b"\x1b[?1049l" in out and b"\x1b[?25h" in out)
"#;

#[test]
fn top_in_a_terminal_shows_rates_and_rows_and_gives_the_terminal_back() {
    if !installed("python3") {
        return skip("top_in_a_terminal", "there is no python3");
    }
    let place = Place::new();
    let generate = "[[pipelines]]\nname = \"quarry\"\nsources = [{ type = \"generate\", events_per_second = 200 }]\nsinks = [{ type = \"null\" }]\n";
    let weir = place.started(generate);
    let run = |keys: &[&str]| {
        let mut command = Command::new("python3");
        command.env("XDG_RUNTIME_DIR", place.path("run")).args(["-c", PTY, env!("CARGO_BIN_EXE_weir")]);
        let end = finish(command.args(keys));
        assert_eq!(end.code, 0, "{}", end.stderr);
        end.stdout
    };
    // The rate is 200 or near it: one digit less or more would be another column.
    let said = run(&[
        "until:quarry",
        "until:/s ",
        "until:running",
        "until:cpu",
        "press:jt",
        "until:tap quarry.source.0.generate",
        "until:took=",
        "press:?",
        "until:pause",
        "press:q",
    ]);
    assert_eq!(said, "code 0\nrestored True\nleft True\n");
    assert_eq!(run(&["until:quarry", "press:\x03"]), "code 0\nrestored True\nleft True\n");
    assert_eq!(run(&["until:quarry", "signal:TERM"]), "code 143\nrestored True\nleft True\n");
    weir.stop();
}
