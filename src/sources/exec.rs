//! The `exec` source: lines that a command writes, once or at intervals. The command runs in a process group of
//! its own, which is ended as a whole when weir stops.

use std::io::IsTerminal;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::base::clock;
use crate::base::units::ByteCount;
use crate::batch::Origin;
use crate::codec::lines::{LineReader, OversizeOption};
use crate::config::{OneOrMany, choices, options};
use crate::flow::{BuildCx, Component, ExitStatusSlot, Fault, Outlet, Source, TaskCx};

choices! {
    /// Which output is read.
    pub enum Stream {
        /// Standard output; standard error goes to weir's own.
        Stdout = "stdout",
        /// Standard error; standard output is discarded.
        Stderr = "stderr",
        /// Both, each with its name as `source`.
        Both = "both",
    }
}

choices! {
    /// What happens when a command without `interval` ends.
    pub enum Restart {
        /// It is started again, after a growing pause, if it failed.
        OnFailure = "on_failure",
        /// The source ends.
        Never = "never",
    }
}

choices! {
    /// What the command reads as its standard input.
    pub enum Input {
        /// Nothing.
        Null = "null",
        /// weir's own standard input, unless that is a terminal.
        Inherit = "inherit",
    }
}

options! {
    /// Options of the `exec` source.
    pub struct ExecOptions {
        /// The command: a string is run by `sh -c`, an array is a program and its arguments.
        pub command: OneOrMany,
        /// Runs the command again and again, from start to start; without it, it runs once, for as long as it likes.
        #[range(Duration::from_millis(100)..=Duration::from_secs(366 * 86_400))]
        pub interval: Option<Duration> = None,
        /// Which output is read.
        pub stream: Stream = Stream::Stdout,
        /// What the command reads as its standard input.
        pub stdin: Input = Input::Null,
        /// What happens when a command without `interval` ends.
        pub restart: Restart = Restart::OnFailure,
        /// Longest line; see `oversize` for longer ones.
        #[range(ByteCount(64)..=ByteCount::mib(64))]
        pub max_line_size: ByteCount = ByteCount::mib(1),
        /// What happens to a line longer than `max_line_size`.
        pub oversize: OversizeOption = OversizeOption::Truncate,
    }
}

/// How long a command may take to end after SIGTERM, before SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long output is still read after SIGKILL: a process that left the group may hold the pipe open.
const KILL_GRACE: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug, Clone)]
pub struct Exec {
    options: ExecOptions,
    program: Vec<String>,
    origin: [Arc<Origin>; 2],
}

impl Component for Exec {
    const NAME: &'static str = "exec";
    const SUMMARY: &'static str = "lines that a command writes";
    const EXAMPLE: &'static str = "type = \"exec\"\ncommand = [\"uptime\"]\ninterval = \"60s\"\n";
    type Options = ExecOptions;

    fn build(options: ExecOptions, cx: &mut BuildCx<'_>) -> Option<Exec> {
        let is_list = cx.node.get("command").is_some_and(|node| node.as_array().is_some());
        if options.command.first().is_none_or(|program| program.trim().is_empty()) {
            cx.error("command", "the command is empty");
            return None;
        }
        let program = match is_list {
            true => options.command.to_vec(),
            false => ["sh", "-c", &options.command[0]].map(str::to_owned).to_vec(),
        };
        if program.iter().any(|word| word.contains('\0')) {
            cx.error("command", "the command holds a NUL character");
            return None;
        }
        if options.stdin == Input::Inherit {
            cx.claim("standard input", "stdin", "stdin");
        }
        let id = cx.site.id();
        let origin = ["stdout", "stderr"].map(|name| Arc::new(Origin::new(&id, name)));
        Some(Exec { options, program, origin })
    }
}

#[async_trait]
impl Source for Exec {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        loop {
            let next = self.options.interval.map(|interval| clock::now() + interval);
            let status = self.run_once(out, cx).await?;
            if let Some(status) = status {
                cx.shared.get::<ExitStatusSlot>().set(exit_code(status));
            }
            let failed = status.filter(|status| !status.success());
            if cx.shutdown.is_draining() {
                return Ok(());
            }
            let why = failed.map(|status| format!("command {:?}: {}", self.program, describe(status)));
            let Some(next) = next else {
                return match why {
                    Some(why) if self.options.restart == Restart::OnFailure => Err(Fault::retry(why)),
                    _ => Ok(()),
                };
            };
            if let Some(why) = why {
                tracing::warn!(component = %cx.site.id(), "{why}");
                cx.meter.error();
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = cx.shutdown.draining() => return Ok(()),
            }
        }
    }
}

impl Exec {
    /// Runs the command to its end and sends what it writes; `None` if it had to be left behind.
    async fn run_once(&self, out: &Outlet, cx: &TaskCx) -> Result<Option<ExitStatus>, Fault> {
        let mut child = self.spawn()?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        cx.ready();
        let (max, oversize) = (self.options.max_line_size.as_usize(), self.options.oversize.into());
        let mut lines = self.origin.clone().map(|origin| LineReader::new(max, oversize, origin));
        let [from_stdout, from_stderr] = &mut lines;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = {
            let work = async {
                tokio::join!(read(stdout, from_stdout, out), read(stderr, from_stderr, out));
                child.wait().await
            };
            tokio::select! {
                status = work => {
                    // The number may belong to somebody else soon.
                    group.0 = None;
                    Some(status)
                }
                () = end_group(&group, cx) => None,
            }
        };
        for lines in &mut lines {
            if let Some(batch) = lines.finish(out.meter()) {
                out.send(batch).await;
            }
        }
        let status = match ended {
            Some(status) => Some(status),
            None => child.try_wait().transpose(),
        };
        status.transpose().map_err(|e| Fault::retry(format!("command {:?}: {e}", self.program)))
    }

    fn spawn(&self) -> Result<Child, Fault> {
        let pipe_if = |wanted: bool, otherwise: Stdio| if wanted { Stdio::piped() } else { otherwise };
        let stream = self.options.stream;
        // The command is not in the terminal's foreground group: reading from there would stop it.
        let inherits = self.options.stdin == Input::Inherit && !std::io::stdin().is_terminal();
        let stdin = if inherits { Stdio::inherit() } else { Stdio::null() };
        let [program, arguments @ ..] = self.program.as_slice() else {
            return Err(Fault::fatal("command: it is empty"));
        };
        Command::new(program)
            .args(arguments)
            .stdin(stdin)
            .stdout(pipe_if(stream != Stream::Stderr, Stdio::null()))
            .stderr(pipe_if(stream != Stream::Stdout, Stdio::inherit()))
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| {
                let why = format!("command {:?}: cannot be started: {e}", self.program);
                match e.kind() {
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => Fault::fatal(why),
                    _ => Fault::retry(why),
                }
            })
    }
}

/// Sends all lines of `stream`, as soon as they come, until it ends or breaks.
async fn read(stream: Option<impl AsyncRead + Unpin>, lines: &mut LineReader, out: &Outlet) {
    let Some(mut stream) = stream else { return };
    // A pipe has no errors to speak of: whatever ends it, ends the output.
    while let Ok(n @ 1..) = stream.read(lines.space()).await {
        lines.advance(n);
        if let Some(batch) = lines.take(out.meter()) {
            out.send(batch).await;
        }
    }
}

/// When a shutdown begins: ends the group politely, then firmly. Resolves when nothing more is to be expected.
async fn end_group(group: &Group, cx: &TaskCx) {
    cx.shutdown.draining().await;
    group.signal(Signal::TERM);
    tokio::time::sleep(TERM_GRACE).await;
    group.signal(Signal::KILL);
    tokio::time::sleep(KILL_GRACE).await;
}

/// The command and whatever it started; killed when dropped.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // A group that is gone already needs no signal.
            kill_process_group(leader, signal).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The exit code as shells count it.
fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        _ => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::task;
    use crate::config::ComponentKind;
    use crate::testing;

    struct Running {
        inlet: crate::flow::Inlet,
        cx: TaskCx,
        done: tokio::task::JoinHandle<Result<(), Fault>>,
    }

    fn start(options: serde_json::Value) -> Running {
        let mut source = testing::build::<Exec>(ComponentKind::Source, options).unwrap();
        let (out, inlet) = testing::pipeline();
        let cx = testing::task_cx(ComponentKind::Source, "exec", std::path::Path::new("/nonexistent"));
        let task_cx = cx.clone();
        let done = task::spawn(async move { source.run(&out, &task_cx).await });
        Running { inlet, cx, done }
    }

    async fn end(running: &mut Running) -> Result<(), Fault> {
        tokio::time::timeout(Duration::from_secs(15), &mut running.done).await.expect("it ends").unwrap()
    }

    #[tokio::test]
    async fn a_shell_line_or_a_program_with_arguments() {
        let mut running = start(json!({ "command": "echo a; printf 'b\\nlast'; echo no >&2" }));
        end(&mut running).await.unwrap();
        assert_eq!(testing::take_lines(&mut running.inlet), [&b"a"[..], b"b", b"last"]);
        let mut running = start(json!({ "command": ["printf", "%s\n", "$HOME; x"] }));
        end(&mut running).await.unwrap();
        assert_eq!(testing::take_lines(&mut running.inlet), [&b"$HOME; x"[..]]);
        let mut running = start(json!({ "command": "echo out; echo err >&2", "stream": "both" }));
        end(&mut running).await.unwrap();
        let mut lines = testing::take_lines(&mut running.inlet);
        lines.sort();
        assert_eq!(lines, [&b"err"[..], b"out"]);
    }

    #[tokio::test]
    async fn its_exit_code_decides_and_is_kept() {
        let mut running = start(json!({ "command": "echo x; exit 3" }));
        let fault = end(&mut running).await.unwrap_err();
        assert!(matches!(&fault, Fault::Retry { why, .. } if why.ends_with("exited with 3")), "{fault}");
        assert_eq!(running.cx.shared.get::<ExitStatusSlot>().get(), Some(3));
        let mut running = start(json!({ "command": "kill -9 $$", "restart": "never" }));
        end(&mut running).await.unwrap();
        assert_eq!(running.cx.shared.get::<ExitStatusSlot>().get(), Some(137));
        let mut running = start(json!({ "command": ["/no/such/program"] }));
        assert!(matches!(end(&mut running).await, Err(Fault::Fatal { .. })));
    }

    #[tokio::test]
    async fn runs_again_at_intervals() {
        let mut running = start(json!({ "command": "echo tick; exit 1", "interval": "100ms" }));
        assert_eq!(testing::wait_lines(&mut running.inlet, 3).await.len(), 3);
        running.cx.shutdown.drain();
        end(&mut running).await.unwrap();
    }

    #[tokio::test]
    async fn a_shutdown_ends_the_whole_group_even_if_it_resists() {
        let script = "trap '' TERM; sleep 300 & echo started; printf partial; wait; sleep 300";
        let mut running = start(json!({ "command": script }));
        assert_eq!(testing::wait_lines(&mut running.inlet, 1).await, [b"started"]);
        running.cx.shutdown.drain();
        end(&mut running).await.unwrap();
        assert_eq!(testing::take_lines(&mut running.inlet), [b"partial"]);
        assert_eq!(running.cx.shared.get::<ExitStatusSlot>().get(), Some(137));
    }

    #[test]
    fn an_empty_command_is_refused() {
        for command in [json!(""), json!([""]), json!([]), json!(["a\u{0}b"])] {
            assert!(testing::build::<Exec>(ComponentKind::Source, json!({ "command": command })).is_err());
        }
    }
}
