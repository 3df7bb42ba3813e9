//! `weir top`: one frame where there is no terminal, and in a terminal rates, rows and the terminal given back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::Command;

use support::control::PIPELINE;
use support::weir::{Place, finish};
use support::{installed, skip};

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
