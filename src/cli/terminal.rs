//! Standard output and error as commands use them: whether to colour, and writing that ends quietly when the
//! reader of a pipe has gone.

use std::io::{ErrorKind, IsTerminal, Write};

use super::exit::{Exit, Failure};
use crate::config::Environment;

/// Columns where nobody says how many there are.
const WIDTH: usize = 110;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What is known of the terminal.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Whether text on standard output is coloured.
    pub color_stdout: bool,
    /// Whether text on standard error is coloured.
    pub color_stderr: bool,
    /// Whether standard error is a terminal, and a person may be reading.
    pub stderr_is_terminal: bool,
    /// Columns of standard output; 110 where it is no terminal.
    pub width: usize,
}

impl Terminal {
    /// Looks at the standard streams and the environment.
    pub fn detect(when: ColorWhen, environment: &Environment) -> Terminal {
        let plain = environment.get("NO_COLOR").is_some_and(|v| !v.is_empty())
            || environment.get("TERM").is_some_and(|v| v == "dumb");
        let color = |is_terminal: bool| match when {
            ColorWhen::Auto => is_terminal && !plain,
            ColorWhen::Always => true,
            ColorWhen::Never => false,
        };
        let stderr_is_terminal = std::io::stderr().is_terminal();
        Terminal {
            color_stdout: color(std::io::stdout().is_terminal()),
            color_stderr: color(stderr_is_terminal),
            stderr_is_terminal,
            width: width(),
        }
    }
}

fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(WIDTH)
}

/// Writes to standard output. A reader that has gone (`weir list | head -1`) is no error.
///
/// # Errors
/// With exit code 74 when standard output cannot be written for another reason.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Failure::new(Exit::IO, format!("cannot write to standard output: {e}"))),
    }
}

/// Writes to standard error; where even that fails there is nobody left to tell.
pub fn complain(text: &str) {
    std::io::stderr().lock().write_all(text.as_bytes()).ok();
}
