//! The control socket from outside: who reaches it, what is found by it, and what becomes of it with its process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::control::{PIPELINE, socket};
use support::weir::{Place, finish};
use support::{eventually, installed, skip};

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
fn a_reload_by_command_waits_for_it_and_says_what_came_of_it() {
    let place = Place::new();
    let mut weir = place.started(PIPELINE);
    let id = weir.child().id().to_string();
    let first = String::from_utf8(place.read("pipelines.toml")).unwrap();
    let reload = || {
        let end = place.run(&["reload"]);
        (end.code, end.stdout, end.stderr)
    };
    assert_eq!(reload(), (0, "reloaded: nothing changed\n".to_owned(), String::new()));
    let second = first.replace("name = \"app\"", "name = \"other\"");
    assert_ne!(second, first);
    place.write("pipelines.toml", format!("logging.level = \"warn\"\n{second}"));
    let said = "reloaded: added other; removed app\nchanges at the next start only: logging.level\n";
    assert_eq!(reload(), (0, said.to_owned(), String::new()));
    place.write("pipelines.toml", second.replace("type = \"", "type = \"x"));
    let (code, stdout, stderr) = reload();
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(
        stderr.starts_with("error: not reloaded: ") && stderr.contains("unknown source type"),
        "{stderr}"
    );
    assert!(weir.status("other")["components"].is_array(), "what ran before runs on");
    assert_eq!(place.run(&["reload", "-c", "pipelines.toml"]).code, 64, "it is the other's to know");
    weir.stop();
    assert_eq!(place.run(&["reload", "--pid", &id]).code, 69);
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
    // Where some program listens at the usual address, that is who would be asked.
    let id = first.child().id().to_string();
    let usual = std::net::TcpStream::connect("127.0.0.1:8080").is_err();
    let named: &[&str] = if usual { &[] } else { &["--pid", &id] };
    let found = place.run(&[&["status", "--json"], named].concat());
    assert_eq!(found.code, 0, "no server, and yet found: {}", found.stderr);
    let status: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(
        (&status["pid"], &status["pipelines"][0]["name"]),
        (&first.child().id().into(), &"app".into())
    );
    assert_eq!(place.run(&[&["health"], named].concat()).code, 0);
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
