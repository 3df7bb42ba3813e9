//! How the process ends: exit codes as in BSD's `sysexits.h`, and the one kind of error that commands return,
//! which is printed once and decides the code.

use std::fmt;

use crate::config::Diagnostics;

/// An exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// All went well.
    pub const OK: Exit = Exit(0);
    /// A check or a test failed, or weir is not ready.
    pub const FAILED: Exit = Exit(1);
    /// The command line is wrong (`EX_USAGE`).
    pub const USAGE: Exit = Exit(64);
    /// An input that was named does not exist, or there is none (`EX_NOINPUT`).
    pub const NO_INPUT: Exit = Exit(66);
    /// Something needed is not there, such as a free port or a running weir (`EX_UNAVAILABLE`).
    pub const UNAVAILABLE: Exit = Exit(69);
    /// A bug (`EX_SOFTWARE`).
    pub const INTERNAL: Exit = Exit(70);
    /// An output cannot be created (`EX_CANTCREAT`).
    pub const CANNOT_CREATE: Exit = Exit(73);
    /// Reading or writing failed, or events were lost at shutdown (`EX_IOERR`).
    pub const IO: Exit = Exit(74);
    /// The configuration is wrong (`EX_CONFIG`).
    pub const CONFIG: Exit = Exit(78);
}

/// Why a command failed: what is printed and the code.
#[derive(Debug)]
pub struct Failure {
    /// What is printed on standard error.
    pub report: Report,
    /// How the process ends.
    pub exit: Exit,
}

/// What is printed about a failure.
#[derive(Debug)]
pub enum Report {
    /// "error: what: why", and the way out.
    Message {
        /// What failed and why; lower case, no full stop.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// What is wrong with the configuration.
    Findings(Box<Diagnostics>),
    /// Text that is complete as it is.
    Text(String),
}

impl Failure {
    /// A failure with its code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { report: Report::Message { message: message.into(), hint: None }, exit }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::USAGE, message)
    }

    /// The configuration is wrong: 78, or 66 if only files are missing.
    pub fn config(findings: Diagnostics) -> Failure {
        let exit = Exit(findings.exit_code());
        Failure { report: Report::Findings(Box::new(findings)), exit }
    }

    /// The same failure with the way out.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Failure {
        if let Report::Message { hint, .. } = &mut self.report {
            *hint = Some(text.into());
        }
        self
    }

    /// What failed and why, in a line.
    pub fn message(&self) -> String {
        match &self.report {
            Report::Message { message, .. } => message.clone(),
            Report::Findings(findings) => findings.render_human(false),
            Report::Text(text) => text.clone(),
        }
    }

    /// What is printed, with a line break at its end.
    pub fn render(&self, color: bool) -> String {
        match &self.report {
            Report::Message { message, hint } => {
                let (red, cyan, reset) =
                    if color { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
                let hint = hint.as_ref().map_or_else(String::new, |h| format!("  {cyan}hint{reset}: {h}\n"));
                format!("{red}error{reset}: {message}\n{hint}")
            }
            Report::Findings(findings) => findings.render_human(color),
            Report::Text(text) => text.clone(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_read_what_why_hint() {
        let failure = Failure::new(Exit::NO_INPUT, "cannot read x: no such file").hint("write it");
        assert_eq!(failure.to_string(), "error: cannot read x: no such file\n  hint: write it");
        assert!(failure.render(true).starts_with("\x1b[1;31merror"));
    }
}
