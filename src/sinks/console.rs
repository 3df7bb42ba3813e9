//! The `console` sink: standard output or error. A pipe or a file gets every byte untouched, one write per batch;
//! a terminal gets lines that cannot harm it, coloured by severity.

use std::io::IsTerminal;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::io::Errno;

use crate::batch::{Batch, Framing, Level};
use crate::codec::encode::{Format, RowEncoder, encode_lines};
use crate::codec::{terminal, write};
use crate::config::{Environment, FormatOptions, FormatType, choices, options};
use crate::flow::{BuildCx, Component, Fault, Inlet, Lease, OutputClosed, Placement, Reason, Sink, TaskCx};

choices! {
    /// Where lines are written.
    pub enum Target {
        /// Standard output.
        Stdout = "stdout",
        /// Standard error.
        Stderr = "stderr",
        /// Lines of level warn and above to standard error, the others to standard output.
        Split = "split",
    }
}

choices! {
    /// When lines are coloured by level.
    pub enum Color {
        /// On a terminal, unless `NO_COLOR` is set.
        Auto = "auto",
        /// Always.
        Always = "always",
        /// Never.
        Never = "never",
    }
}

options! {
    /// Options of the `console` sink.
    pub struct ConsoleOptions {
        /// Where lines are written.
        pub target: Target = Target::Stdout,
        /// When lines are coloured by level.
        pub color: Color = Color::Auto,
        /// How events are written; by default as the pipeline says, or as they came.
        pub format: Option<FormatOptions> = None,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Console {
    target: Target,
    color: Color,
    format: Format,
}

impl Component for Console {
    const NAME: &'static str = "console";
    const SUMMARY: &'static str = "standard output or standard error";
    const EXAMPLE: &'static str = "type = \"console\"\ntarget = \"stdout\"\n";
    const PLACEMENT: Placement = Placement::Thread;
    type Options = ConsoleOptions;

    fn build(options: ConsoleOptions, cx: &mut BuildCx<'_>) -> Option<Console> {
        let format = Format::build(options.format.as_ref(), FormatType::Raw, cx)?;
        Some(Console { target: options.target, color: options.color, format })
    }
}

/// One of the two streams.
struct Stream<'a> {
    fd: BorrowedFd<'a>,
    /// Lines are made harmless.
    is_terminal: bool,
    /// Lines are coloured.
    colors: bool,
    buffer: Vec<u8>,
    /// The last row came without a newline and was written so; the next row needs one before it.
    owes_newline: bool,
}

/// How long the end of a last row is left open: its stream has ended, and most often so does weir.
const OPEN_END_MAX: Duration = Duration::from_secs(1);

/// Whether the batch ends with what was the last line of its stream, without a newline.
fn ends_open(batch: &Batch) -> bool {
    let arena = batch.arena();
    let last = arena.spans().last().filter(|_| arena.framing() == Framing::Lines);
    last.is_some_and(|span| span.end() == arena.text().len())
        && batch.live().has(arena.spans().len() as u32 - 1)
}

impl<'a> Stream<'a> {
    fn new(fd: BorrowedFd<'a>, color: Color) -> Stream<'a> {
        let is_terminal = fd.is_terminal();
        let colors = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let environment = Environment::from_process();
                is_terminal && environment.get("NO_COLOR").is_none_or(str::is_empty)
            }
        };
        Stream { fd, is_terminal, colors, buffer: Vec::new(), owes_newline: false }
    }

    fn write(&mut self, batch: &Batch, format: &Format, cx: &TaskCx) -> rustix::io::Result<()> {
        self.end_line()?;
        if !self.is_terminal && !self.colors {
            if *format == Format::Raw && ends_open(batch) {
                self.buffer.clear();
                encode_lines(batch, format, &cx.site.pipeline, &mut self.buffer);
                self.buffer.pop();
                self.owes_newline = true;
                return write::write_all(self.fd, &self.buffer);
            }
            return write::write_batch(self.fd, batch, format, &cx.site.pipeline, &mut self.buffer);
        }
        let encoder = RowEncoder::new(batch, format, &cx.site.pipeline);
        let (out, mut row_text) = (&mut self.buffer, Vec::new());
        out.clear();
        for row in batch.live().iter() {
            let color = if self.colors { terminal::color_of(batch.level(row)) } else { b"" };
            out.extend_from_slice(color);
            if self.is_terminal {
                row_text.clear();
                encoder.write(row, &mut row_text);
                terminal::harmless_line_into(out, &row_text, self.colors);
            } else {
                encoder.write(row, out);
            }
            if !color.is_empty() {
                out.extend_from_slice(terminal::RESET);
            }
            out.push(b'\n');
        }
        write::write_all(self.fd, out)
    }

    /// Writes the newline that is owed.
    fn end_line(&mut self) -> rustix::io::Result<()> {
        if std::mem::take(&mut self.owes_newline) { write::write_all(self.fd, b"\n") } else { Ok(()) }
    }
}

#[async_trait]
impl Sink for Console {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        self.write_to(rustix::stdio::stdout(), rustix::stdio::stderr(), inlet, cx).await
    }

    fn written(&self, batch: &Batch, pipeline: &Arc<str>) -> Vec<Vec<u8>> {
        self.format.each(batch, pipeline)
    }
}

impl Console {
    async fn write_to(
        &self,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
        inlet: &mut Inlet,
        cx: &TaskCx,
    ) -> Result<(), Fault> {
        let mut out = Stream::new(stdout, self.color);
        let mut err = Stream::new(stderr, self.color);
        cx.ready();
        loop {
            let mut next = None;
            if out.owes_newline || err.owes_newline {
                next = tokio::time::timeout(OPEN_END_MAX, inlet.recv()).await.ok();
                if next.is_none() {
                    // A reader that is gone shows with the next row.
                    out.end_line().and(err.end_line()).ok();
                }
            }
            let next = match next {
                Some(next) => next,
                None => inlet.recv().await,
            };
            let Some(lease) = next else { return Ok(()) };
            let written = match self.target {
                Target::Stdout => out.write(lease.batch(), &self.format, cx),
                Target::Stderr => err.write(lease.batch(), &self.format, cx),
                Target::Split => self.write_split(&lease, &mut out, &mut err, cx),
            };
            match written {
                Ok(()) => lease.delivered(),
                // The reader has left (`weir | head`): nothing to complain about, and nothing to wait for.
                Err(Errno::PIPE) => {
                    lease.dropped(Reason::Rejected);
                    cx.shared.get::<OutputClosed>().close();
                    return Ok(());
                }
                // Trying again would write the first rows of the batch twice.
                Err(e) => {
                    lease.dropped(Reason::Rejected);
                    return Err(Fault::retry(format!("console: {e}")));
                }
            }
        }
    }

    fn write_split(
        &self,
        lease: &Lease,
        out: &mut Stream<'_>,
        err: &mut Stream<'_>,
        cx: &TaskCx,
    ) -> rustix::io::Result<()> {
        let is_grave = |b: &Batch, row| b.level(row) >= Some(Level::Warn);
        let (mut calm, mut grave) = (lease.batch().view(), lease.batch().view());
        calm.retain(|b, row| !is_grave(b, row));
        grave.retain(is_grave);
        if !calm.is_empty() {
            out.write(&calm, &self.format, cx)?;
        }
        if !grave.is_empty() {
            err.write(&grave, &self.format, cx)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::batch::Origin;
    use crate::codec::framing::Oversize;
    use crate::codec::lines::LineReader;
    use crate::config::ComponentKind;
    use crate::flow::Meter;
    use crate::testing;

    /// What arrives on standard output and error when `batches` are written, and the sink's counters.
    async fn written(options: serde_json::Value, batches: Vec<Batch>) -> (Vec<u8>, Vec<u8>) {
        let sink = testing::build::<Console>(ComponentKind::Sink, options).unwrap();
        let (mut out_reader, out) = std::io::pipe().unwrap();
        let (mut err_reader, err) = std::io::pipe().unwrap();
        let (queue, mut inlet) = testing::queue();
        for batch in batches {
            queue.push(batch).await;
        }
        queue.close();
        let cx = testing::task_cx(ComponentKind::Sink, "console", std::path::Path::new("/nonexistent"));
        sink.write_to(out.as_fd(), err.as_fd(), &mut inlet, &cx).await.unwrap();
        drop((out, err));
        let meter: &Meter = queue.meter();
        assert!(meter.snapshot().balances());
        let (mut to_out, mut to_err) = (Vec::new(), Vec::new());
        out_reader.read_to_end(&mut to_out).unwrap();
        err_reader.read_to_end(&mut to_err).unwrap();
        (to_out, to_err)
    }

    #[tokio::test]
    async fn a_pipe_gets_every_byte_as_it_came() {
        let rows = [&b"a\x1b[2J\r"[..], b"", b"\xff\x00\t"];
        let (out, err) = written(json!({}), vec![Batch::from_lines("t", rows)]).await;
        assert_eq!(out, b"a\x1b[2J\r\n\n\xff\x00\t\n");
        assert!(err.is_empty());
    }

    #[tokio::test]
    async fn split_parts_by_level_and_color_can_be_forced() {
        let rows = ["INFO a", "ERROR b", "WARN c", "no level"];
        let (out, err) = written(json!({ "target": "split" }), vec![Batch::from_lines("t", rows)]).await;
        assert_eq!((&out[..], &err[..]), (&b"INFO a\nno level\n"[..], &b"ERROR b\nWARN c\n"[..]));
        let (out, _) = written(json!({ "color": "always" }), vec![Batch::from_lines("t", rows)]).await;
        assert!(out.starts_with(b"INFO a\n\x1b[31mERROR b\x1b[0m\n"), "{}", String::from_utf8_lossy(&out));
    }

    #[tokio::test]
    async fn a_last_line_without_a_newline_stays_so_until_another_follows() {
        let open = || {
            let mut reader = LineReader::new(100, Oversize::Truncate, Arc::new(Origin::new("t", "t")));
            reader.space()[..4].copy_from_slice(b"a\nbc");
            reader.advance(4);
            reader.finish(&Meter::default()).unwrap()
        };
        assert_eq!(written(json!({}), vec![open()]).await.0, b"a\nbc");
        let mut filtered = open();
        filtered.retain(|_, row| row == 0);
        assert_eq!(written(json!({}), vec![open(), filtered]).await.0, b"a\nbc\na\n");
        assert_eq!(written(json!({"format": {"type": "json"}}), vec![open()]).await.0.last(), Some(&b'\n'));
    }

    #[tokio::test]
    async fn ends_quietly_when_the_reader_leaves() {
        let sink = testing::build::<Console>(ComponentKind::Sink, json!({})).unwrap();
        let (reader, out) = std::io::pipe().unwrap();
        drop(reader);
        let (queue, mut inlet) = testing::queue();
        queue.push(Batch::from_lines("t", ["a", "b"])).await;
        let cx = testing::task_cx(ComponentKind::Sink, "console", std::path::Path::new("/nonexistent"));
        sink.write_to(out.as_fd(), out.as_fd(), &mut inlet, &cx).await.unwrap();
        assert!(cx.shared.get::<OutputClosed>().is_closed());
        let counts = queue.meter().snapshot();
        assert_eq!((counts.dropped(Reason::Rejected), counts.balances()), (2, true));
    }
}
