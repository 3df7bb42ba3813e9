//! What the tests of the `ebpf` source share: programs to look at, and a weir that looks at them.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a module of a test program")]
#![allow(clippy::print_stdout, reason = "a test that is left out says so where its results are read")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use logweir::base::clock;
use logweir::trace::capability::{Capabilities, missing_for_probes};
use serde_json::Value;

use crate::support::weir::Place;
use crate::support::{PATIENCE, eventually, installed};

/// Says that a test is left out; fails instead where these tests are required.
pub fn skip(test: &str, reason: &str) {
    let required = std::env::var_os("REQUIRE_EBPF_TESTS").is_some_and(|v| v == "1");
    assert!(!required, "{test} is required: {reason}");
    println!("SKIP ebpf: {test}: {reason}");
}

/// Leaves a test out because of the kernel or the container it runs in: nothing that could be installed helps, so it is
/// never required.
pub fn left_out(test: &str, reason: &str) {
    println!("SKIP ebpf: {test}: {reason}");
}

/// A place for the test, or nothing where it cannot run.
pub fn possible(test: &str) -> Option<Place> {
    let reason = logweir::sources::ebpf::ABSENT.map(str::to_owned).or_else(|| {
        let missing = missing_for_probes(Capabilities::current())?;
        Some(format!("it needs root, or {missing}"))
    });
    let reason = reason.or_else(|| {
        let program = ["python3", "curl", "openssl"].into_iter().find(|program| !installed(program))?;
        Some(format!("{program} is not installed"))
    });
    match reason {
        Some(reason) => {
            skip(test, &reason);
            None
        }
        None => Some(Place::new()),
    }
}

/// To be held while TLS libraries are hooked: the kernel unhooks them one after the other, whoever hooked them, and
/// how long that takes is measured.
pub fn tls_alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The interpreter itself: a wrapper that starts it would have another number.
fn interpreter() -> Command {
    let mut command = Command::new("/usr/bin/python3");
    if !std::path::Path::new("/usr/bin/python3").exists() {
        command = Command::new("python3");
    }
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ebpf_programs"));
    command
}

/// Runs python to its end.
pub fn python(args: &[&str]) {
    assert!(interpreter().args(args).status().unwrap().success());
}

/// Fetches URLs, one after the other, on one connection.
pub fn curl(args: &[&str]) {
    let mut command = Command::new("curl");
    command
        .args(["-s", "--no-progress-meter", "--max-time", "20", "--http1.1"])
        .args(args)
        .stdout(Stdio::null());
    assert!(command.status().unwrap().success(), "{args:?}");
}

/// A fresh certificate with its key, in one file.
pub fn certificate(place: &Place) -> String {
    let (key, certificate) = (place.path("key.pem"), place.path("cert.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    let status =
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).stderr(Stdio::null()).status();
    assert!(status.unwrap().success());
    place.write("all.pem", [place.read("key.pem"), place.read("cert.pem")].concat());
    place.path("all.pem").to_str().unwrap().to_owned()
}

/// A program that prints a number first, and goes on when told; killed when dropped.
pub struct Program {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// The number: its port.
    pub port: u16,
}

impl Program {
    /// Starts one of the files beside this one.
    pub fn start(args: &[&str]) -> Program {
        Program::command(args)
    }

    /// Starts python with these arguments.
    pub fn command(args: &[&str]) -> Program {
        let mut command = interpreter();
        command.args(args);
        Program::of(command)
    }

    /// Starts one of the files beside this one with Node.
    pub fn node(file: &str) -> Program {
        let mut command = Command::new("node");
        command.arg(file).current_dir(interpreter().get_current_dir().expect("the directory of this file"));
        Program::of(command)
    }

    /// Starts one of the files beside this one with libraries from a directory.
    pub fn with_libraries(dir: &std::path::Path, args: &[&str]) -> Program {
        let mut command = interpreter();
        command.args(args).env("LD_LIBRARY_PATH", dir);
        Program::of(command)
    }

    fn of(mut command: Command) -> Program {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let lines = lines(output);
        let first = lines.recv_timeout(PATIENCE).expect("its port");
        Program { child, input, lines, port: first.trim().parse().unwrap() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn go_on(&mut self) {
        self.input.write_all(b"\n").unwrap();
    }

    /// Waits until it prints this line.
    pub fn wait_for(&self, line: &str) {
        while self.lines.recv_timeout(PATIENCE).expect(line).trim() != line {}
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn lines(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (told, lines) = sync_channel(100_000);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if told.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// A weir with an `ebpf` source, and all rows it told so far.
pub struct Traced {
    child: Child,
    lines: Option<Receiver<String>>,
    errors: std::path::PathBuf,
    rows: Vec<Value>,
}

impl Traced {
    /// Captures what, of whom, and prints it.
    pub fn start(place: &Place, capture: &str, scope: &str) -> Traced {
        Traced::start_config(place, &source(capture, scope, false))
    }

    /// The same with another sink; its rows are printed as well.
    pub fn start_with(place: &Place, capture: &str, scope: &str, sink: &str) -> Traced {
        Traced::start_config(
            place,
            &format!("{}[[pipelines.sinks]]\n{sink}\n", source(capture, scope, false)),
        )
    }

    /// Runs a configuration whose last pipeline also prints its rows.
    pub fn start_config(place: &Place, config: &str) -> Traced {
        let config = format!("[server]\nenabled = false\n{config}[[pipelines.sinks]]\ntype = \"console\"\n");
        place.write("pipelines.toml", config);
        Traced::of(place, place.command(&["run"]).stdout(Stdio::piped()))
    }

    /// Runs weir as it is, and waits until its hooks are there.
    pub fn of(place: &Place, command: &mut Command) -> Traced {
        let errors = place.path("weir.err");
        let log = fs::File::create(&errors).unwrap();
        // The log says when the hooks are there.
        let mut child = command.arg("--logging.level=info").stderr(log).spawn().unwrap();
        let lines = Some(lines(child.stdout.take().unwrap()));
        let mut traced = Traced { child, lines, errors, rows: Vec::new() };
        eventually("the hooks are there", || {
            let ended = traced.child.try_wait().unwrap();
            assert!(ended.is_none(), "{}", traced.errors());
            traced.errors().contains("started, ").then_some(())
        });
        traced
    }

    /// Its log so far.
    pub fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Waits for `enough` rows of a kind.
    pub fn rows(&mut self, enough: usize, kind: impl Fn(&Value) -> bool) -> Vec<Value> {
        let end = clock::now() + PATIENCE;
        loop {
            let found = self.all(&kind);
            if found.len() >= enough {
                return found;
            }
            let every: Vec<String> = self.rows.iter().map(Value::to_string).collect();
            assert!(
                clock::now() < end,
                "{} of {enough}; all:\n{}\n{}",
                found.len(),
                every.join("\n"),
                self.errors()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All rows of a kind so far.
    pub fn all(&mut self, kind: impl Fn(&Value) -> bool) -> Vec<Value> {
        let new = self.lines.iter().flat_map(Receiver::try_iter);
        self.rows
            .extend(new.map(|line| serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}"))));
        self.rows.iter().filter(|row| kind(row)).cloned().collect()
    }

    /// Ends it in order; returns how long that took.
    pub fn end(mut self) -> Duration {
        let start = clock::now();
        crate::support::signal(self.child.id(), "TERM");
        let status = eventually("it ends", || self.child.try_wait().unwrap());
        assert!(status.success(), "{}", self.errors());
        start.elapsed()
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn source(capture: &str, scope: &str, optional: bool) -> String {
    format!(
        "[[pipelines]]\nname = \"k\"\n[[pipelines.sources]]\ntype = \"ebpf\"\ncapture = {capture}\n\
         scope = {{ {scope} }}\noptional = {optional}\n"
    )
}

/// Reads until nothing has come for half a second.
pub fn until_quiet(mut read: impl FnMut() -> usize) {
    let mut quiet = 0;
    while quiet < 10 {
        quiet = if read() == 0 { quiet + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs weir by way of another program until it has started, or ended by itself: its exit code and its log.
pub fn run_for_a_moment(
    place: &Place,
    mut command: Command,
    capture: &str,
    optional: bool,
) -> (Option<i32>, String) {
    let weir = place.path("weir");
    if !weir.exists() {
        // Where anybody may run it.
        fs::copy(env!("CARGO_BIN_EXE_weir"), &weir).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(place.dir(), open).unwrap();
    }
    let config = source(capture, "comm = [\"nobody\"]", optional);
    place.write(
        "caps.toml",
        format!("[server]\nenabled = false\n{config}[[pipelines.sinks]]\ntype = \"null\"\n"),
    );
    let errors = place.path("caps.err");
    let log = fs::File::create(&errors).unwrap();
    command.arg("--").arg(&weir).args(["-c", "caps.toml", "--logging.level=info"]).current_dir(place.dir());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", place.dir()).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let read = || fs::read_to_string(&errors).unwrap_or_default();
    eventually("it starts or ends", || {
        (child.try_wait().unwrap().is_some() || read().contains("started, ")).then_some(())
    });
    crate::support::signal(child.id(), "TERM");
    let status = eventually("it ends", || child.try_wait().unwrap());
    (status.code(), read())
}
