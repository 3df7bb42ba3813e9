//! What is wrong with a command line, said as weir says everything else: "what: why", then a hint with the
//! nearest name. Help and version, which the parser also reports as errors, go to standard output.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};

use super::args::Cli;
use super::exit::{Exit, Failure, Report};
use super::terminal::{self, Terminal};
use crate::config::nearest::nearest;
use crate::config::{Options, RootOptions};

/// Prints help or version, or turns the error into a failure with exit code 64.
///
/// # Errors
/// When it was no request for help.
pub fn report(error: &clap::Error, terminal: Terminal) -> Result<Exit, Failure> {
    let rendered = |color: bool| {
        let text = error.render();
        if color { text.ansi().to_string() } else { text.to_string() }
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            terminal::print(&rendered(terminal.color_stdout))?;
            Ok(Exit::OK)
        }
        ErrorKind::UnknownArgument => Err(unknown_argument(error)),
        ErrorKind::InvalidSubcommand => {
            Err(unknown_command(error, text(error, ContextKind::InvalidSubcommand).unwrap_or_default()))
        }
        ErrorKind::InvalidValue => Err(invalid_value(error)),
        _ => Err(Failure { report: Report::Text(rendered(terminal.color_stderr)), exit: Exit::USAGE }),
    }
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        ContextValue::Strings(texts) => texts.first().map(String::as_str),
        _ => None,
    }
}

fn unknown_argument(error: &clap::Error) -> Failure {
    let given = text(error, ContextKind::InvalidArg).unwrap_or_default();
    if !given.starts_with('-') {
        return unknown_command(error, given);
    }
    if given[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return Failure::usage(format!("unknown option `{given}`"))
            .hint("how many lines is `-n N`, as in `weir tail -n 100`");
    }
    let given = given.split('=').next().unwrap_or(given);
    let mut known: Vec<String> = Vec::new();
    collect_flags(&Cli::command(), &mut known);
    let own = known.len();
    known.extend(RootOptions::fields().iter().map(|f| format!("--{}", f.name)));
    let failure = Failure::usage(format!("unknown option `{given}`"));
    if known[..own].iter().any(|flag| flag == given) {
        return failure
            .hint("it belongs to another command: `weir --help` and `weir COMMAND --help` show which");
    }
    let name = nearest(given, known[..own].iter().map(String::as_str))
        .or_else(|| nearest(given, known[own..].iter().map(String::as_str)));
    match name {
        Some(name) => failure.hint(format!("did you mean `{name}`?")),
        None => failure.hint(
            "`weir --help` shows the options; those of the configuration have a dot, as in `--logging.level`",
        ),
    }
}

fn collect_flags(command: &Command, out: &mut Vec<String>) {
    out.extend(command.get_arguments().filter_map(|a| a.get_long()).map(|long| format!("--{long}")));
    command.get_subcommands().for_each(|c| collect_flags(c, out));
}

/// A word where a command, or nothing, should be.
fn unknown_command(error: &clap::Error, given: &str) -> Failure {
    let failure = Failure::usage(format!("unexpected argument `{given}`: it is not a command"));
    let (root, path) = (Cli::command(), parents(error));
    let parent = path.iter().try_fold(&root, |command, name| command.find_subcommand(name));
    let parent = parent.filter(|command| command.has_subcommands()).unwrap_or(&root);
    let below_root = parent.get_name() != root.get_name();
    let names: Vec<&str> = parent.get_subcommands().map(Command::get_name).collect();
    if let Some(name) = nearest(given, names.iter().copied()) {
        let way = if below_root { format!("{} {name}", path.join(" ")) } else { name.to_owned() };
        return failure.hint(format!("did you mean `weir {way}`?"));
    }
    if below_root {
        return failure.hint(format!("commands of `weir {}`: {}", path.join(" "), names.join(", ")));
    }
    let is_config = given.ends_with(".toml") || std::path::Path::new(given).is_dir();
    match given {
        "help" => failure.hint("`weir --help`, or `weir COMMAND --help`"),
        "version" => failure.hint("`weir --version`"),
        _ if is_config => failure.hint(format!("to run this configuration, write `weir -c {given}`")),
        _ if std::path::Path::new(given).exists() => {
            failure.hint(format!("to look at this file, write `weir tail {given}`"))
        }
        _ => failure.hint(format!("commands: {}; a program to run comes after `--`", names.join(", "))),
    }
}

/// The commands that were given before what is wrong: `tls` of `weir tls [OPTIONS] <COMMAND>`.
fn parents(error: &clap::Error) -> Vec<String> {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else { return Vec::new() };
    let usage = usage.to_string();
    let words = usage.split_whitespace().skip_while(|word| *word != "weir").skip(1);
    words.take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase())).map(str::to_owned).collect()
}

fn invalid_value(error: &clap::Error) -> Failure {
    let argument = text(error, ContextKind::InvalidArg).unwrap_or_default();
    let given = text(error, ContextKind::InvalidValue).unwrap_or_default();
    let allowed = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(names)) => names.as_slice(),
        _ => &[],
    };
    if given.is_empty() {
        let failure = Failure::usage(format!("`{argument}` needs a value"));
        return if allowed.is_empty() { failure } else { failure.hint(allowed.join(", ")) };
    }
    let failure = Failure::usage(format!(
        "invalid value `{given}` for `{argument}`: it is one of {}",
        allowed.join(", ")
    ));
    match nearest(given, allowed.iter().map(String::as_str)) {
        Some(name) => failure.hint(format!("did you mean `{name}`?")),
        None => failure,
    }
}
