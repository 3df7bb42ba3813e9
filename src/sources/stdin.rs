//! The `stdin` source: lines from standard input, read on a thread of its own. What has arrived is sent on as
//! soon as the pipe is idle, and a shutdown is noticed even while nothing arrives.

use std::io::PipeReader;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use async_trait::async_trait;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::base::units::ByteCount;
use crate::batch::Origin;
use crate::codec::lines::{LineReader, OversizeOption};
use crate::config::options;
use crate::flow::{BuildCx, Component, Fault, Outlet, Placement, Source, TaskCx};

options! {
    /// Options of the `stdin` source.
    pub struct StdinOptions {
        /// Longest line; see `oversize` for longer ones.
        #[range(ByteCount(64)..=ByteCount::mib(64))]
        pub max_line_size: ByteCount = ByteCount::mib(1),
        /// What happens to a line longer than `max_line_size`.
        pub oversize: OversizeOption = OversizeOption::Truncate,
    }
}

/// Most bytes still read from a pipe after a shutdown was asked for: what its writer had handed over by then. No
/// pipe holds more unless root says so.
const LAST_BYTES_MAX: usize = 1 << 20;

/// See the module.
#[derive(Debug, Clone)]
pub struct Stdin {
    options: StdinOptions,
    origin: Arc<Origin>,
}

impl Component for Stdin {
    const NAME: &'static str = "stdin";
    const SUMMARY: &'static str = "lines from standard input";
    const EXAMPLE: &'static str = "type = \"stdin\"\n";
    const PLACEMENT: Placement = Placement::Thread;
    type Options = StdinOptions;

    fn build(options: StdinOptions, cx: &mut BuildCx<'_>) -> Option<Stdin> {
        cx.claim("standard input", "stdin", "type");
        let origin = Arc::new(Origin::new(&cx.site.id(), Self::NAME));
        Some(Stdin { options, origin })
    }
}

#[async_trait]
impl Source for Stdin {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        self.read_from(rustix::stdio::stdin(), out, cx).await
    }
}

impl Stdin {
    async fn read_from(&self, input: BorrowedFd<'_>, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        let bell = Bell::rings_at(&cx.shutdown).map_err(|e| Fault::retry(format!("self-pipe: {e}")))?;
        let (max, oversize) = (self.options.max_line_size.as_usize(), self.options.oversize.into());
        let mut lines = LineReader::new(max, oversize, self.origin.clone());
        cx.ready();
        let mut left = LAST_BYTES_MAX;
        let outcome = loop {
            let mut ready = wait(input, &bell, false);
            if let Ok(Ready::Nothing) = ready {
                if let Some(batch) = lines.take(out.meter()) {
                    out.send(batch).await;
                }
                ready = wait(input, &bell, true);
            }
            let room = match ready {
                Ok(Ready::Input) => usize::MAX,
                Ok(Ready::Shutdown) if left > 0 && has_more(input) => left,
                Ok(Ready::Shutdown) => break Ok(()),
                Ok(Ready::Nothing) => continue,
                Err(e) => break Err(e),
            };
            let space = lines.space();
            let room = room.min(space.len());
            match rustix::io::read(input, &mut space[..room]) {
                Ok(0) => break Ok(()),
                Ok(n) => {
                    lines.advance(n);
                    if room < usize::MAX && cx.shutdown.is_draining() {
                        left = left.saturating_sub(n);
                    }
                }
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Err(e) => break Err(e),
            }
            if lines.is_full()
                && let Some(batch) = lines.take(out.meter())
            {
                out.send(batch).await;
            }
        };
        if let Some(batch) = lines.finish(out.meter()) {
            out.send(batch).await;
        }
        outcome.map_err(|e| Fault::fatal(format!("standard input: {e}")))
    }
}

/// A pipe that becomes readable when a shutdown begins, so that `poll` can wait for both.
struct Bell {
    pipe: PipeReader,
    ringer: tokio::task::JoinHandle<()>,
}

impl Bell {
    fn rings_at(shutdown: &Shutdown) -> std::io::Result<Bell> {
        let (pipe, held) = std::io::pipe()?;
        let shutdown = shutdown.clone();
        let ringer = task::spawn(async move {
            shutdown.draining().await;
            // Closing the writing end wakes the reading end.
            drop(held);
        });
        Ok(Bell { pipe, ringer })
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.ringer.abort();
    }
}

enum Ready {
    Input,
    Shutdown,
    Nothing,
}

/// What there is to do; with `block`, waits until there is something.
fn wait(input: BorrowedFd<'_>, bell: &Bell, block: bool) -> rustix::io::Result<Ready> {
    let mut fds = [PollFd::new(&input, PollFlags::IN), PollFd::new(&bell.pipe, PollFlags::IN)];
    let timeout = (!block).then(Timespec::default);
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) if !fds[1].revents().is_empty() => Ok(Ready::Shutdown),
        Ok(_) if !fds[0].revents().is_empty() => Ok(Ready::Input),
        Ok(_) | Err(Errno::INTR) => Ok(Ready::Nothing),
        Err(e) => Err(e),
    }
}

/// Whether a pipe or a socket holds text that its writer has handed over. A file always has more and waits for
/// nobody.
fn has_more(input: BorrowedFd<'_>) -> bool {
    let kind = rustix::fs::fstat(input).map(|s| FileType::from_raw_mode(s.st_mode));
    if !matches!(kind, Ok(FileType::Fifo | FileType::Socket)) {
        return false;
    }
    let mut fds = [PollFd::new(&input, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1)) && fds[0].revents().contains(PollFlags::IN)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::config::ComponentKind;
    use crate::testing;

    struct Running {
        source: tokio::sync::oneshot::Receiver<Result<(), Fault>>,
        inlet: crate::flow::Inlet,
        cx: TaskCx,
    }

    fn start(input: impl AsFd + Send + 'static, options: serde_json::Value) -> Running {
        let stdin = testing::build::<Stdin>(ComponentKind::Source, options).unwrap();
        let (out, inlet) = testing::pipeline();
        let cx = testing::task_cx(ComponentKind::Source, "stdin", std::path::Path::new("/nonexistent"));
        let task_cx = cx.clone();
        let source =
            task::spawn_thread("stdin", async move { stdin.read_from(input.as_fd(), &out, &task_cx).await });
        Running { source: source.unwrap(), inlet, cx }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn passes_lines_at_once_and_the_last_without_a_newline() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut running = start(reader, json!({}));
        writer.write_all(b"one\r\ntwo\nthr").unwrap();
        assert_eq!(testing::wait_lines(&mut running.inlet, 2).await, [&b"one\r"[..], b"two"]);
        writer.write_all(b"ee").unwrap();
        drop(writer);
        assert_eq!(testing::wait_lines(&mut running.inlet, 1).await, [&b"three"[..]]);
        running.source.await.unwrap().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn notices_a_shutdown_while_nothing_arrives_and_keeps_what_had() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut running = start(reader, json!({}));
        writer.write_all(b"one\npartial").unwrap();
        assert_eq!(testing::wait_lines(&mut running.inlet, 1).await, [&b"one"[..]]);
        running.cx.shutdown.drain();
        let ended = tokio::time::timeout(Duration::from_secs(5), running.source).await;
        ended.expect("ends while the writer is still there").unwrap().unwrap();
        assert_eq!(testing::take_lines(&mut running.inlet), [&b"partial"[..]]);
        drop(writer);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_written_before_the_shutdown_passes() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all("line\n".repeat(5000).as_bytes()).unwrap();
        let stdin = testing::build::<Stdin>(ComponentKind::Source, json!({})).unwrap();
        let (out, mut inlet) = testing::pipeline();
        let cx = testing::task_cx(ComponentKind::Source, "stdin", std::path::Path::new("/nonexistent"));
        cx.shutdown.drain();
        tokio::time::timeout(Duration::from_secs(5), stdin.read_from(reader.as_fd(), &out, &cx))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(testing::take_lines(&mut inlet).len(), 5000);
        drop(writer);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn long_lines_follow_the_policy() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut running = start(reader, json!({ "max_line_size": 64, "oversize": "drop" }));
        let long = [vec![b'x'; 100_000], b"\nshort\n".to_vec()].concat();
        std::thread::spawn(move || writer.write_all(&long).unwrap());
        assert_eq!(testing::wait_lines(&mut running.inlet, 1).await, [&b"short"[..]]);
        running.source.await.unwrap().unwrap();
    }
}
