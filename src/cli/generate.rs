//! `weir generate`: what is made from the declarations of the command line and of the configuration.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::args::{Cli, Generate};
use super::exit::{Exit, Failure};
use super::terminal;
use crate::config::{json_schema, reference_markdown};
use crate::registry::Registry;

/// Prints what was asked for.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(what: &Generate) -> Result<Exit, Failure> {
    let text = match what {
        Generate::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "weir", &mut out);
            String::from_utf8_lossy(&out).into_owned()
        }
        Generate::Man { dir: Some(dir) } => {
            return pages(dir).map(|()| Exit::OK).map_err(|e| {
                Failure::new(Exit::CANNOT_CREATE, format!("cannot write man pages to {}: {e}", dir.display()))
            });
        }
        Generate::Man { dir: None } => {
            man().map_err(|e| Failure::new(Exit::INTERNAL, format!("cannot make the man page: {e}")))?
        }
        Generate::Schema => format!("{:#}\n", json_schema(&Registry)),
        Generate::Reference => reference_markdown(&Registry),
    };
    terminal::print(&text)?;
    Ok(Exit::OK)
}

/// A page for each command, in files.
fn pages(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}

/// One page with a section for each command.
fn man() -> io::Result<String> {
    let mut command = Cli::command();
    command.build();
    let mut out = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut out)?;
    for sub in command.get_subcommands() {
        sections(sub, &format!("weir {}", sub.get_name()), &mut out)?;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn sections(command: &Command, name: &str, out: &mut Vec<u8>) -> io::Result<()> {
    use io::Write;
    writeln!(out, ".SH \"{}\"", name.to_uppercase())?;
    let page = clap_mangen::Man::new(command.clone());
    page.render_description_section(out)?;
    page.render_synopsis_section(out)?;
    if command.get_arguments().next().is_some() {
        page.render_options_section(out)?;
    }
    page.render_extra_section(out)?;
    for sub in command.get_subcommands() {
        sections(sub, &format!("{name} {}", sub.get_name()), out)?;
    }
    Ok(())
}
