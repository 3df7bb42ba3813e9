//! Options of weir's own log: what is written, how, and where to. This is not about the logs that flow through
//! the pipelines.

use std::fmt;
use std::time::Duration;

use super::diagnostics::Diagnostics;
use super::field::Shape;
use super::from_node::{FromNode, wrong_form, wrong_type};
use super::nearest::nearest;
use super::node::Node;
use super::path::{Path, quote_string};
use super::{choices, options};

options! {
    /// weir's own log.
    pub struct LoggingOptions {
        /// The least severe level that is written: `error`, `warn`, `info`, `debug` or `trace`; a part of weir
        /// may have its own, as in `info,sources=debug`.
        pub level: LogLevels = LogLevels::default(),
        /// How it is written.
        pub format: LogFormat = LogFormat::Text,
        /// Where it is written to.
        pub output: LogOutput = LogOutput::Stderr,
        /// The file to append to, with `output = "file"`.
        pub file: Option<String> = None,
        /// How often to log one line of totals; 0 turns it off.
        #[range(Duration::ZERO..=Duration::from_secs(86_400))]
        pub status_interval: Duration = Duration::from_secs(60),
    }
}

choices! {
    /// The form of weir's own log.
    pub enum LogFormat {
        /// Lines to read.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

choices! {
    /// Where weir's own log goes.
    pub enum LogOutput {
        /// Standard error.
        Stderr = "stderr",
        /// Standard output; not together with a `console` sink.
        Stdout = "stdout",
        /// The file named by `file`.
        File = "file",
        /// Nowhere.
        None = "none",
    }
}

/// The names of the levels, the most severe first.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Levels of weir's own log: one for all, and one each for some targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevels {
    /// The level of every target that has none of its own, such as "info".
    pub all: &'static str,
    /// Targets with a level of their own, in the order written.
    pub targets: Vec<(String, &'static str)>,
}

impl Default for LogLevels {
    fn default() -> LogLevels {
        LogLevels { all: "info", targets: Vec::new() }
    }
}

impl LogLevels {
    /// Parses "info" or "info,sources=debug". Errors name the part that is wrong.
    pub fn parse(text: &str) -> Result<LogLevels, String> {
        let level = |name: &str| {
            LEVELS
                .into_iter()
                .find(|l| l.eq_ignore_ascii_case(name))
                .ok_or_else(|| format!("unknown level `{name}`"))
        };
        let mut levels = LogLevels::default();
        for (i, part) in text.split(',').map(str::trim).enumerate() {
            match part.split_once('=') {
                Some((target, name)) if is_target(target.trim()) => {
                    levels.targets.push((target.trim().to_owned(), level(name.trim())?));
                }
                Some((target, _)) => return Err(format!("`{target}` is not the name of a part of weir")),
                None if i == 0 => levels.all = level(part)?,
                None => {
                    return Err(format!("`{part}` comes second: only the first level is without a target"));
                }
            }
        }
        Ok(levels)
    }
}

fn is_target(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.'))
}

impl fmt::Display for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.all)?;
        self.targets.iter().try_for_each(|(target, level)| write!(f, ",{target}={level}"))
    }
}

impl FromNode for LogLevels {
    fn shape() -> Shape {
        Shape::Text("`error`, `warn`, `info`, `debug` or `trace`, or per target like \"info,sources=debug\"")
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<LogLevels> {
        let expected = Self::shape().expected();
        let Some(text) = node.as_str() else {
            wrong_type(node, at, &expected, diags);
            return None;
        };
        match LogLevels::parse(text) {
            Ok(levels) => Some(levels),
            Err(why) => {
                wrong_form(node, at, &why, &expected, diags);
                if let Some(level) = nearest(text, LEVELS) {
                    diags.hint_last(format!("did you mean `{level}`?"));
                }
                None
            }
        }
    }

    fn display(&self) -> String {
        quote_string(&self.to_string())
    }
}

/// Checks `output` and `file` against each other.
pub fn check(node: &Node, diags: &mut Diagnostics) {
    let at = Path::root().key("logging");
    let output = node.get("output");
    let to_file = output.and_then(Node::as_str) == Some(LogOutput::File.as_str());
    match (output, node.get("file")) {
        (Some(output), None) if to_file => {
            diags
                .error(&output.origin, "no log file: `output = \"file\"` needs `file`")
                .path(&at.key("file"))
                .hint("set `file` to the path of the file to append to");
        }
        (_, Some(file)) if !to_file => {
            diags
                .warning(&file.origin, "`file` has no effect: the log does not go to a file")
                .path(&at.key("file"))
                .hint("set `output = \"file\"`, or remove `file`");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_parse_and_print() {
        for (text, printed) in [
            ("debug", "debug"),
            ("WARN", "warn"),
            ("info, sources=debug", "info,sources=debug"),
            ("a::b=trace", "info,a::b=trace"),
        ] {
            assert_eq!(LogLevels::parse(text).unwrap().to_string(), printed);
        }
        for bad in ["", "loud", "info,debug", "a=loud", "=info", "info,", "a b=info"] {
            assert!(LogLevels::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_log_file_and_its_name_go_together() {
        let messages = |entries: &[(&str, &str)]| {
            let mut diags = Diagnostics::new();
            check(&Node::table(entries.iter().map(|(k, v)| (*k, Node::from(*v)))), &mut diags);
            diags.items().iter().map(|d| d.severity.as_str()).collect::<String>()
        };
        assert_eq!(messages(&[("output", "file")]), "error");
        assert_eq!(messages(&[("file", "x")]), "warning");
        assert_eq!(messages(&[("output", "file"), ("file", "x")]), "");
        assert_eq!(messages(&[("output", "none")]), "");
    }
}
