//! Row 9: the commands. The command line is read here and nowhere else; each command is one file that returns an
//! exit code or a failure, and this file prints the failure.

pub mod args;
pub mod ask;
pub mod banner;
pub mod buffer;
pub mod check;
pub mod config_source;
pub mod control;
pub mod doctor;
pub mod effective;
pub mod exit;
pub mod generate;
pub mod hash;
pub mod http_get;
pub mod http_stream;
pub mod https;
pub mod init;
pub mod list;
pub mod logging;
pub mod login;
pub mod overrides;
pub mod quick;
pub mod reload;
pub mod run;
pub mod service;
pub mod signals;
pub mod state_dir;
pub mod status_line;
pub mod status_table;
pub mod subcommands;
pub mod tail;
pub mod tap;
pub mod terminal;
pub mod test;
pub mod tls;
pub mod top;
pub mod unseen;
pub mod usage;

use std::ffi::OsString;

use args::{Cli, Command, RunArgs};
use config_source::{ConfigSource, stdin_is_piped};
use exit::{Exit, Failure};
use quick::Quick;
use terminal::{ColorWhen, Terminal};

use crate::config::{Environment, Override};

/// Runs the command line and returns the exit code. A panic, which is a bug, is one too: 70.
pub fn main(args: impl IntoIterator<Item = OsString>, environment: &Environment) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let outcome = std::panic::catch_unwind(|| {
        let terminal = Terminal::detect(color_of(&args), environment);
        dispatch(&args, environment, terminal).unwrap_or_else(|failure| {
            terminal::complain(&failure.render(terminal.color_stderr));
            failure.exit
        })
    });
    outcome.map_or(Exit::INTERNAL.0, |exit| exit.0)
}

/// `--color` as far as it can be told before parsing, because parsing itself may fail in colour.
fn color_of(args: &[OsString]) -> ColorWhen {
    let ours = args.iter().map_while(|a| a.to_str().filter(|a| *a != "--"));
    let texts: Vec<&str> = ours.collect();
    let next = texts.windows(2).filter(|pair| pair[0] == "--color").map(|pair| pair[1]);
    let inline = texts.iter().filter_map(|a| a.strip_prefix("--color="));
    match inline.chain(next).last() {
        Some("always") => ColorWhen::Always,
        Some("never") => ColorWhen::Never,
        _ => ColorWhen::Auto,
    }
}

fn dispatch(args: &[OsString], environment: &Environment, terminal: Terminal) -> Result<Exit, Failure> {
    let (rest, overrides) = overrides::split(args.iter().cloned())?;
    // The parser renders help, for standard output, and errors; whether to colour is decided here for both.
    let cli = match Cli::parse_args(&rest) {
        Ok(cli) => cli,
        Err(e) => return usage::report(&e, terminal),
    };
    if let Some(command) = &cli.command
        && !matches!(command, Command::Run(_))
    {
        misplaced(&cli, &overrides, command)?;
    }
    let files = ConfigSource::files(cli.global.config, overrides, environment.clone());
    match cli.command {
        None => run::run(&files.or_quick(&quick(cli.run)?)?, terminal),
        Some(Command::Run(inner)) => {
            if cli.run.quick != args::QuickArgs::default() {
                return Err(Failure::usage("the flags for one pipeline come after `run`, or without it"));
            }
            run::run(&files.or_quick(&quick(inner)?)?, terminal)
        }
        Some(Command::Demo) => run::run(&files.demo(), terminal),
        Some(Command::Check { paths, format }) => check::run(&files, &paths, format, terminal),
        Some(Command::Test { filter, format, verbose }) => {
            test::run(&files, &test::Wanted { filter, format, verbose }, terminal)
        }
        Some(Command::Config) => effective::run(&files),
        Some(Command::Tail(args)) => tail::run(&args, &files, terminal),
        Some(Command::Status { json, ask }) => ask::status(&ask, json, &files, terminal),
        Some(Command::Health { ask }) => ask::health(&ask, &files),
        Some(Command::Reload { ask }) => ask::reload(&ask, &files),
        Some(Command::Top(args)) => top::run(&args, &files, terminal),
        Some(Command::Tap(args)) => tap::run(&args, environment, terminal),
        Some(Command::Doctor { duration, origin, json, ask }) => {
            doctor::run(&ask, &doctor::Wanted { duration, origin, json }, &files, terminal)
        }
        Some(Command::Buffer { what }) => buffer::run(&what, &files),
        Some(Command::List { kind, name }) => list::run(kind, name.as_deref()),
        Some(Command::Init { list: true, .. }) => init::list(),
        Some(Command::Init { recipe, output, force, .. }) => init::run(recipe.as_deref(), &output, force),
        Some(Command::Tls { what }) => tls::run(&what),
        Some(Command::Hash { algorithm, token }) => hash::run(algorithm, token),
        Some(Command::Generate { what }) => generate::run(&what),
    }
}

/// Nothing that was given is ignored: flags for one pipeline are for running, files and overrides for what has a
/// configuration.
fn misplaced(cli: &Cli, overrides: &[Override], command: &Command) -> Result<(), Failure> {
    if cli.run.quick != args::QuickArgs::default() || !cli.run.program.is_empty() {
        return Err(Failure::usage("the flags for one pipeline are for `weir run`"));
    }
    let (reads_files, reads_overrides) = match command {
        Command::Init { .. }
        | Command::List { .. }
        | Command::Hash { .. }
        | Command::Generate { .. }
        | Command::Tls { .. }
        | Command::Reload { .. }
        | Command::Tap(_) => (false, false),
        Command::Demo => (false, true),
        Command::Check { paths, .. } if !paths.is_empty() => (true, !cli.global.config.is_empty()),
        _ => (true, true),
    };
    if !reads_files && !cli.global.config.is_empty() {
        return Err(Failure::usage("`-c` has no effect here: the command reads no configuration file"));
    }
    match overrides.first() {
        Some(first) if !reads_overrides => Err(Failure::usage(format!(
            "`--{}` has no effect here: the command reads no configuration",
            first.path
        ))),
        _ => Ok(()),
    }
}

fn quick(run: RunArgs) -> Result<Quick, Failure> {
    let text = |arg: OsString| {
        arg.into_string()
            .map_err(|arg| Failure::usage(format!("the program's argument {arg:?} is not UTF-8")))
    };
    let program = run.program.into_iter().map(text).collect::<Result<_, _>>()?;
    Ok(Quick { flags: run.quick, program, stdin_is_piped: stdin_is_piped() })
}
