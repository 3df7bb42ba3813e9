//! What is written: rows as they came, as JSON or laid out for people, gathered into large writes. A reader that has
//! gone (`| head`, `| less`) ends everything quietly.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};

use super::args::Output;
use super::block::Block;
use super::pretty::Pretty;
use crate::batch::Framing;
use crate::cli::exit::{Exit, Failure};
use crate::codec::encode::{Format, RowEncoder};
use crate::codec::template::TimestampFormat;
use crate::codec::terminal::harmless_line_into;

/// Bytes that are gathered before they are written.
const GATHERED_BYTES: usize = 64 << 10;

/// How rows are written.
#[derive(Debug)]
enum Form {
    /// Byte for byte; a last line without its end keeps lacking it where `exact`.
    Raw { exact: bool },
    /// As they came, but nothing in them steers the terminal.
    Harmless { colors: bool },
    /// As objects.
    Json { format: Format, pipeline: Arc<str> },
    /// Laid out.
    Pretty(Box<Pretty>),
}

/// Where rows are written.
#[derive(Debug)]
pub(super) struct Printer {
    form: Form,
    gathered: Vec<u8>,
    out: File,
}

/// Why writing ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Nobody reads any more.
    ReaderGone,
    /// It failed.
    Failed(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Ended {
        Ended::Failed(failure)
    }
}

impl From<io::Error> for Ended {
    fn from(e: io::Error) -> Ended {
        if e.kind() == io::ErrorKind::BrokenPipe {
            return Ended::ReaderGone;
        }
        Ended::Failed(Failure::new(Exit::IO, format!("cannot write to standard output: {e}")))
    }
}

/// What the printer has to know.
#[derive(Debug)]
pub(super) struct Printing {
    /// How rows are written.
    pub(super) output: Output,
    /// Whether a terminal shows them.
    pub(super) terminal: bool,
    /// Whether they may be coloured.
    pub(super) color: bool,
    /// Whether all of them come from one input, in order.
    pub(super) single: bool,
}

impl Printer {
    /// A printer on standard output.
    pub(super) fn new(printing: &Printing, pretty: Pretty) -> Result<Printer, Failure> {
        let out = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| Failure::new(Exit::IO, format!("cannot write to standard output: {e}")))?;
        let form = match printing.output {
            Output::Raw if printing.terminal => Form::Harmless { colors: printing.color },
            Output::Raw => Form::Raw { exact: printing.single },
            Output::Json => {
                Form::Json { format: Format::Json(TimestampFormat::Rfc3339), pipeline: "tail".into() }
            }
            Output::Pretty => Form::Pretty(Box::new(pretty)),
        };
        Ok(Printer { form, gathered: Vec::with_capacity(2 * GATHERED_BYTES), out: File::from(out) })
    }

    /// A printer of raw lines into a file.
    #[cfg(test)]
    pub(super) fn into_file(out: File) -> Printer {
        Printer { form: Form::Raw { exact: false }, gathered: Vec::new(), out }
    }

    /// Where bytes may be written as they come, if that is how rows are written.
    pub(super) fn untouched(&mut self) -> Result<Option<&mut File>, Ended> {
        if !matches!(self.form, Form::Raw { exact: true }) {
            return Ok(None);
        }
        self.write()?;
        Ok(Some(&mut self.out))
    }

    /// Writes the live rows of `block`.
    pub(super) fn block(&mut self, block: &Block) -> Result<(), Ended> {
        match &self.form {
            Form::Raw { exact } if block.batch.arena().framing() == Framing::Lines => {
                let exact = *exact;
                self.raw_lines(block, exact)
            }
            _ => self.rows(block, block.batch.live().iter()),
        }
    }

    /// Writes some rows of `block`.
    pub(super) fn rows(&mut self, block: &Block, rows: impl Iterator<Item = u32>) -> Result<(), Ended> {
        let (batch, Printer { form, gathered, out }) = (&block.batch, self);
        let format =
            if let Form::Json { format, pipeline } = form { Some((&*format, &*pipeline)) } else { None };
        if let Some((format, pipeline)) = format {
            let encoder = RowEncoder::new(batch, format, pipeline);
            return gather(rows, gathered, out, |row, out| {
                match block.envelope(row).filter(|e| !e.data.is_empty()) {
                    // As the running weir wrote it.
                    Some(e) => out.extend_from_slice(&block.data[e.data.start()..e.data.end()]),
                    None => encoder.write(row, out),
                }
                out.push(b'\n');
            });
        }
        gather(rows, gathered, out, |row, out| match form {
            Form::Pretty(pretty) => pretty.row(block, row, out),
            Form::Harmless { colors } => {
                harmless_line_into(out, batch.line(row), *colors);
                out.push(b'\n');
            }
            Form::Raw { .. } | Form::Json { .. } => {
                out.extend_from_slice(batch.line(row));
                out.push(b'\n');
            }
        })
    }

    /// Rows that lie next to each other leave as one slice, large ones without a copy.
    fn raw_lines(&mut self, block: &Block, exact: bool) -> Result<(), Ended> {
        let (arena, text) = (block.batch.arena(), &block.batch.arena().text()[..]);
        let spans = arena.spans();
        let mut run: Option<(usize, usize)> = None;
        let live = block.batch.live();
        let (first, end) = live.bounds();
        if live.is_dense() && first < end {
            let whole = (spans[first as usize].start(), spans[end as usize - 1].end() + 1);
            if whole.1 - whole.0 == block.batch.bytes() as usize + (end - first) as usize {
                return self.slice(text, whole, exact);
            }
        }
        for row in live.iter() {
            let span = spans[row as usize];
            match &mut run {
                Some((_, end)) if *end == span.start() => *end = span.end() + 1,
                _ => {
                    if let Some(done) = run.replace((span.start(), span.end() + 1)) {
                        self.slice(text, done, exact)?;
                    }
                }
            }
        }
        run.map_or(Ok(()), |last| self.slice(text, last, exact))
    }

    fn slice(&mut self, text: &[u8], (start, end): (usize, usize), exact: bool) -> Result<(), Ended> {
        let whole = end <= text.len();
        let slice = &text[start..end.min(text.len())];
        if slice.len() >= GATHERED_BYTES / 2 {
            self.write()?;
            self.out.write_all(slice)?;
        } else {
            self.gathered.extend_from_slice(slice);
        }
        if !whole && !exact {
            self.gathered.push(b'\n');
        }
        if self.gathered.len() >= GATHERED_BYTES { self.write() } else { Ok(()) }
    }

    /// Writes what was gathered.
    pub(super) fn write(&mut self) -> Result<(), Ended> {
        if !self.gathered.is_empty() {
            self.out.write_all(&self.gathered)?;
            self.gathered.clear();
        }
        Ok(())
    }

    /// Whether nobody reads any more; asked while nothing comes, when no write would tell.
    pub(super) fn reader_is_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.out, PollFlags::empty())];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::ERR)
    }
}

/// Lets `write` append each of the rows, and writes them when enough have come together.
fn gather(
    rows: impl Iterator<Item = u32>,
    gathered: &mut Vec<u8>,
    out: &mut File,
    mut write: impl FnMut(u32, &mut Vec<u8>),
) -> Result<(), Ended> {
    for row in rows {
        write(row, gathered);
        if gathered.len() >= GATHERED_BYTES {
            out.write_all(gathered)?;
            gathered.clear();
        }
    }
    Ok(())
}
