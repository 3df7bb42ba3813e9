//! What the command-line tests share: a directory of their own, and the binary run in it without anything of the
//! caller's environment.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses a part of it")]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A directory with some files, where the binary is run.
pub struct Place(tempfile::TempDir);

/// How a run of the binary ended.
#[derive(Debug)]
pub struct Run {
    /// The exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Place {
    /// A directory that holds these files.
    pub fn new(files: &[(&str, &str)]) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = place.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        place
    }

    /// A path within it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The binary with these arguments, its input empty, and an environment that leads nowhere else.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command.env_clear().env("HOME", self.0.path()).env("TMPDIR", self.0.path());
        command.env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("PATH", "/usr/bin:/bin");
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Run {
        finish(&mut self.command(args))
    }
}

/// Runs a command to its end, within a minute.
pub fn finish(command: &mut Command) -> Run {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait(child)
}

/// Waits for the end of a child, within a minute.
pub fn wait(child: std::process::Child) -> Run {
    let id = child.id();
    let (done, waiting) = std::sync::mpsc::sync_channel::<()>(1);
    let guard = std::thread::spawn(move || {
        if waiting.recv_timeout(Duration::from_secs(60)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            signal(id, "KILL");
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    guard.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Sends a signal by name.
pub fn signal(id: u32, name: &str) {
    Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status().unwrap();
}

/// A port of this machine that nobody listens on at the moment.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
