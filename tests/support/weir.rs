//! One weir in a directory of its own: started with a configuration, watched, signalled, ended when dropped.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;

use serde_json::Value;

use super::http::{self, Stream};
use super::{PATIENCE, eventually, free_port, signal};

/// The binary that is tested: that of this build, or another that `TEST_BINARY` names, such as the one that is shipped.
pub fn binary() -> PathBuf {
    match std::env::var_os("TEST_BINARY") {
        Some(path) => fs::canonicalize(&path).unwrap_or_else(|e| panic!("TEST_BINARY={path:?}: {e}")),
        None => env!("CARGO_BIN_EXE_weir").into(),
    }
}

/// A directory with files, where the binary is run.
pub struct Place(tempfile::TempDir);

/// A run that was started. Dropped, it is killed.
pub struct Weir {
    child: Child,
    port: u16,
    errors: PathBuf,
}

/// How a run ended.
#[derive(Debug)]
pub struct End {
    /// The exit code; -1 after a signal.
    pub code: i32,
    /// Standard output, where it was a pipe.
    pub stdout: String,
    /// Standard error, where it was a pipe.
    pub stderr: String,
}

impl Place {
    /// An empty directory.
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    /// The same with a file.
    pub fn with(self, name: &str, text: impl AsRef<[u8]>) -> Place {
        self.write(name, text);
        self
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    /// A path within it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, making its directories.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Appends to a file.
    pub fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let file = fs::OpenOptions::new().create(true).append(true).open(self.path(name));
        file.unwrap().write_all(text.as_ref()).unwrap();
    }

    /// What a file holds; nothing while it is not there.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_default()
    }

    /// The binary with these arguments, its input empty, and an environment that leads nowhere else.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).current_dir(self.dir()).stdin(Stdio::null());
        command
            .env_clear()
            .env("HOME", self.dir())
            .env("TMPDIR", self.dir())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("PATH", "/usr/bin:/bin");
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> End {
        finish(&mut self.command(args))
    }

    /// Runs it to its end with this on its standard input.
    pub fn piped(&self, args: &[&str], input: &[u8]) -> End {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        // Beside the reading of what it writes, and it may end before it has read all.
        let feeding = std::thread::spawn(move || stdin.write_all(&input).ok());
        let end = wait(child);
        feeding.join().unwrap();
        end
    }

    /// Starts it with a configuration, in which `DIR` becomes this directory; the shared router listens on a free port.
    pub fn start(&self, config: &str) -> Weir {
        let (mut command, port) = self.prepared(config);
        self.spawn(&mut command, port)
    }

    /// The same, waiting until it is ready.
    pub fn started(&self, config: &str) -> Weir {
        let mut weir = self.start(config);
        weir.wait_ready();
        weir
    }

    /// The command that runs it with a configuration, and the port of its shared router.
    fn prepared(&self, config: &str) -> (Command, u16) {
        let port = free_port();
        let server = format!("state_dir = \"DIR/state\"\nserver.listen = \"127.0.0.1:{port}\"\n");
        let text = format!("{server}{config}").replace("DIR", self.dir().to_str().unwrap());
        self.write("pipelines.toml", text);
        let mut command = self.command(&["run"]);
        command.stdout(Stdio::null());
        (command, port)
    }

    /// Starts it with a configuration as [`Place::start`] does, waits until it is ready, and hands out its standard
    /// input.
    pub fn fed(&self, config: &str) -> (Weir, ChildStdin) {
        let (mut command, port) = self.prepared(config);
        let mut weir = self.spawn(command.stdin(Stdio::piped()), port);
        weir.wait_ready();
        let stdin = weir.child.stdin.take().unwrap();
        (weir, stdin)
    }

    /// Starts the demo, its shared router on a free port.
    pub fn demo(&self) -> Weir {
        let port = free_port();
        let mut command = self.command(&["demo", "--server.listen", &format!("127.0.0.1:{port}")]);
        self.spawn(command.stdout(Stdio::null()), port)
    }

    /// Starts a command that will listen on `port`, its standard error in a file.
    pub fn spawn(&self, command: &mut Command, port: u16) -> Weir {
        let errors = self.path("weir.err");
        let log = fs::OpenOptions::new().create(true).append(true).open(&errors).unwrap();
        Weir { child: command.stderr(log).spawn().unwrap(), port, errors }
    }
}

impl Weir {
    /// Host and port of the shared router.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Standard error so far.
    pub fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Waits until everything is ready.
    pub fn wait_ready(&mut self) {
        self.wait_listening("/readyz", 200);
    }

    /// Waits until a path is answered with `code`, by then for another reason than that components are still
    /// starting, and returns the body.
    pub fn wait_listening(&mut self, path: &str, code: u16) -> String {
        let authority = self.authority();
        eventually(&format!("{path} says {code}"), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", self.errors());
            }
            let (said, body) = http::get(&authority, path)?;
            (said == code && !body.contains(r#""state":"starting""#)).then_some(body)
        })
    }

    /// A stream of it.
    pub fn stream(&self, target: &str) -> Stream {
        Stream::open(&self.authority(), target, &[])
    }

    /// The status of one pipeline.
    pub fn status(&self, pipeline: &str) -> Value {
        let (code, body) = http::get(&self.authority(), &format!("/{pipeline}/status")).unwrap();
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The status of one component.
    pub fn component(&self, pipeline: &str, id: &str) -> Value {
        let status = self.status(pipeline);
        let found = status["components"].as_array().unwrap().iter().find(|c| c["id"] == id);
        found.unwrap_or_else(|| panic!("no {id}: {status}")).clone()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> i32 {
        code(eventually("the process ends", || self.child.try_wait().unwrap()))
    }

    /// Waits for the end of a process that was killed.
    pub fn wait_killed(&mut self) {
        self.child.wait().unwrap();
    }

    /// Ends it in order; everything must have been delivered.
    pub fn stop(mut self) -> String {
        self.signal("TERM");
        let code = self.wait();
        assert_eq!(code, 0, "{}", self.errors());
        self.errors()
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs a command to its end; kills it when that does not come.
pub fn finish(command: &mut Command) -> End {
    wait(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Waits for the end of a child, reading what it writes to its pipes; kills it when that does not come.
pub fn wait(child: Child) -> End {
    let id = child.id();
    let (ended, waiting) = std::sync::mpsc::sync_channel::<()>(1);
    let guard = std::thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            signal(id, "KILL");
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    guard.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    End { code: code(output.status), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}
