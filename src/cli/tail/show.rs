//! While we watch: what inputs say is chosen, put in order and printed, and what happens to them is told beside it.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::block::Block;
use super::input::{Backlog, Said};
use super::merge::Window;
use super::output::{Ended, Printer};
use super::wanted::Wanted;
use crate::base::clock;
use crate::cli::exit::{Failure, Report};
use crate::cli::terminal::Terminal;

/// How often we look whether anybody reads, while nothing comes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for what running weirs hold, before files are shown without it.
const COLLECT_MAX: Duration = Duration::from_secs(3);
/// Bytes that are collected of what running weirs hold.
const COLLECTED_BYTES_MAX: u64 = 64 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Show {
    printer: Printer,
    window: Option<Window>,
    dim: bool,
    /// Inputs that have ended.
    ended: usize,
    /// Why one of them did.
    failure: Option<Failure>,
}

/// What a running weir held when it was asked.
struct Collected(VecDeque<Block>);

impl Backlog for Collected {
    fn next(&mut self, _: &mut Wanted) -> Result<Option<Block>, Failure> {
        Ok(self.0.pop_front())
    }
}

impl Show {
    /// A show on `printer`; `single` if all lines come from one input, in order.
    pub(super) fn new(printer: Printer, single: bool, terminal: Terminal) -> Show {
        Show {
            printer,
            window: (!single).then(Window::default),
            dim: terminal.color_stderr,
            ended: 0,
            failure: None,
        }
    }

    /// Where lines are printed.
    pub(super) fn printer(&mut self) -> &mut Printer {
        &mut self.printer
    }

    /// Says something that is no line of a log, on standard error.
    pub(super) fn notice(&mut self, text: &str) {
        // What was said before must stand before it.
        self.printer.write().ok();
        let mut line = Vec::new();
        crate::codec::terminal::harmless_into(&mut line, text.as_bytes(), false);
        let line = String::from_utf8_lossy(&line);
        let (dim, reset) = if self.dim { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        writeln!(std::io::stderr().lock(), "{dim}-- {line}{reset}").ok();
    }

    /// Waits for what the first `inputs` inputs held when they were asked; each is a backlog then.
    pub(super) fn collect(
        &mut self,
        said: &Receiver<Said>,
        inputs: usize,
    ) -> Result<Vec<Box<dyn Backlog>>, Ended> {
        let deadline = clock::now() + COLLECT_MAX;
        let mut held: HashMap<String, VecDeque<Block>> = HashMap::new();
        let (mut caught_up, mut bytes) = (vec![false; inputs], 0);
        while caught_up.contains(&false) && bytes < COLLECTED_BYTES_MAX {
            let left = deadline.saturating_duration_since(clock::now());
            match said.recv_timeout(left) {
                Ok(Said::Block(block)) => {
                    bytes += block.weight();
                    held.entry(block.batch.arena().origin().label().to_owned()).or_default().push_back(block);
                }
                Ok(Said::Notice(text)) => self.notice(&text),
                Ok(Said::CaughtUp(index)) => caught_up[index] = true,
                Ok(Said::Ended(index, ended)) => {
                    caught_up[index] = true;
                    self.ended(ended, inputs);
                }
                Err(_) => break,
            }
        }
        Ok(held.into_values().map(|blocks| Box::new(Collected(blocks)) as Box<dyn Backlog>).collect())
    }

    /// Shows what the `inputs` inputs say until all of them have ended.
    pub(super) fn live(&mut self, said: &Receiver<Said>, inputs: usize) -> Result<(), Ended> {
        while self.ended < inputs {
            // What there is already is printed at once, and written before we wait.
            let next = match said.try_recv() {
                Ok(next) => Ok(next),
                Err(_) => {
                    self.release()?;
                    self.printer.write()?;
                    said.recv_timeout(self.patience())
                }
            };
            match next {
                Ok(Said::Block(block)) => self.block(block)?,
                Ok(Said::Notice(text)) => self.notice(&text),
                Ok(Said::CaughtUp(_)) => {}
                Ok(Said::Ended(_, ended)) => self.ended(ended, inputs),
                Err(RecvTimeoutError::Timeout) if self.printer.reader_is_gone() => {
                    return Err(Ended::ReaderGone);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Some(window) = &mut self.window {
            window.release(None, &mut self.printer)?;
        }
        self.printer.write()?;
        match self.failure.take() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    fn patience(&self) -> Duration {
        let due = self.window.as_ref().and_then(Window::due);
        let left = due.map(|due| due.saturating_duration_since(clock::now()));
        left.unwrap_or(LOOK_EVERY).clamp(Duration::from_millis(1), LOOK_EVERY)
    }

    fn release(&mut self) -> Result<(), Ended> {
        match &mut self.window {
            Some(window) => window.release(Some(clock::now()), &mut self.printer),
            None => Ok(()),
        }
    }

    fn block(&mut self, block: Block) -> Result<(), Ended> {
        match &mut self.window {
            Some(window) => {
                window.push(block, clock::now());
                self.release()
            }
            None => self.printer.block(&block),
        }
    }

    /// One of `inputs` inputs has ended. Where others go on, its failure is told now and decides the exit code later.
    fn ended(&mut self, ended: Result<(), Failure>, inputs: usize) {
        self.ended += 1;
        let Err(failure) = ended else { return };
        self.failure = Some(if self.ended < inputs {
            self.notice(&failure.message());
            Failure { report: Report::Text(String::new()), exit: failure.exit }
        } else {
            failure
        });
    }
}
