//! `weir check`: everything that is wrong with a configuration, in one run, without starting anything; and with
//! single files, directories of them, and the TOML blocks of Markdown.

mod excerpt;
mod markdown;
mod paths;

use std::path::PathBuf;

use self::paths::Checked;
use super::args::CheckFormat;
use super::config_source::ConfigSource;
use super::exit::{Exit, Failure, Report};
use super::terminal::{self, Terminal};
use crate::config::{Diagnostics, Severity};
use crate::engine::{self, Plan};

/// Checks the configuration, or else the files below `paths`, and prints the findings: for people on standard error,
/// for programs on standard output.
///
/// # Errors
/// With exit code 1 if there is an error in it, with 66 if it cannot be read.
pub fn run(
    source: &ConfigSource,
    paths: &[PathBuf],
    format: CheckFormat,
    terminal: Terminal,
) -> Result<Exit, Failure> {
    let mut findings = Diagnostics::new();
    let mut summaries = Vec::new();
    let mut verdict = String::new();
    if paths.is_empty() || source.is_named() {
        let loaded = source.load(&mut findings)?;
        let plan = loaded.as_ref().and_then(|loaded| engine::plan(&loaded.tree, &mut findings));
        let files = loaded.map(|loaded| loaded.files).unwrap_or_default();
        summaries
            .extend(plan.map(|plan| format!("{}: {}\n", source.shown(&files), summary(&plan, &findings))));
    }
    if !paths.is_empty() {
        let checked = paths::check(paths, source.environment());
        summaries.extend(checked.iter().map(line));
        if checked.len() > 1 {
            verdict = total(&checked);
        }
        checked.into_iter().for_each(|file| findings.append(file.findings));
    }
    let exit = match findings.exit_code() {
        0 => Exit::OK,
        code if code == Exit::CONFIG.0 => Exit::FAILED,
        code => Exit(code),
    };
    match format {
        CheckFormat::Json => terminal::print(&format!("{:#}\n", findings.render_json()))?,
        CheckFormat::Github => terminal::print(&findings.render_github())?,
        CheckFormat::Human => {
            let shown = findings.render_human(terminal.color_stderr);
            if !paths.is_empty() || exit == Exit::OK {
                terminal::print(&(summaries.concat() + &verdict))?;
            }
            if exit != Exit::OK {
                return Err(Failure { report: Report::Text(shown), exit });
            }
            terminal::complain(&shown);
        }
    }
    Ok(exit)
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// "docs/GUARDS.md: ok, 2 blocks, 1 skipped (ignored)".
fn line(checked: &Checked) -> String {
    let path = checked.path.display();
    let verdict = match (checked.errors, checked.blocks) {
        (0, None) if !checked.skipped.is_empty() => {
            return format!("{path}: skipped, {}\n", checked.skipped[0]);
        }
        (0, Some(0)) => "no TOML block is checked".to_owned(),
        (0, _) => "ok".to_owned(),
        (n, _) => counted(n, "error"),
    };
    let blocks = checked.blocks.filter(|n| *n > 0).map(|n| format!(", {}", counted(n, "block")));
    let mut reasons = checked.skipped.clone();
    reasons.sort_unstable();
    reasons.dedup();
    let skipped = match checked.skipped.len() {
        0 => String::new(),
        n => format!(", {n} skipped ({})", reasons.join(", ")),
    };
    format!("{path}: {verdict}{}{skipped}\n", blocks.unwrap_or_default())
}

/// "12 files with 40 blocks checked, 3 skipped: 2 errors".
fn total(checked: &[Checked]) -> String {
    let blocks: usize = checked.iter().filter_map(|file| file.blocks).sum();
    let skipped: usize = checked.iter().map(|file| file.skipped.len()).sum();
    let errors: usize = checked.iter().map(|file| file.errors).sum();
    let blocks = if blocks > 0 { format!(" with {}", counted(blocks, "block")) } else { String::new() };
    let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    let verdict = if errors == 0 { "ok".to_owned() } else { counted(errors, "error") };
    format!("{}{blocks}{skipped}: {verdict}\n", counted(checked.len(), "file"))
}

/// "ok, 2 pipelines with 2 sources, 1 filter and 3 sinks".
fn summary(plan: &Plan, findings: &Diagnostics) -> String {
    let sum = |f: fn(&engine::PipelinePlan) -> usize| plan.pipelines.iter().map(f).sum::<usize>();
    let filters = sum(|p| p.filters.len() + p.sinks.iter().map(|s| s.filters.len()).sum::<usize>());
    let warnings = findings.items().iter().filter(|d| d.severity == Severity::Warning).count();
    let verdict =
        if warnings == 0 { "ok".to_owned() } else { format!("ok with {}", counted(warnings, "warning")) };
    format!(
        "{verdict}, {} with {}, {} and {}",
        counted(plan.pipelines.len(), "pipeline"),
        counted(sum(|p| p.sources.len()), "source"),
        counted(filters, "filter"),
        counted(sum(|p| p.sinks.len()), "sink")
    )
}
