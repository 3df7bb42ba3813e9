//! `weir check`: everything that is wrong with a configuration, in one run, without starting anything.

use super::args::CheckFormat;
use super::config_source::ConfigSource;
use super::exit::{Exit, Failure, Report};
use super::terminal::{self, Terminal};
use crate::config::{Diagnostics, Severity};
use crate::engine::{self, Plan};

/// Checks the configuration and prints the findings: for people on standard error, for programs on standard
/// output.
///
/// # Errors
/// With exit code 1 if there is an error in it, with 66 if it cannot be read.
pub fn run(source: &ConfigSource, format: CheckFormat, terminal: Terminal) -> Result<Exit, Failure> {
    let mut findings = Diagnostics::new();
    let loaded = source.load(&mut findings)?;
    let plan = loaded.as_ref().and_then(|loaded| engine::plan(&loaded.tree, &mut findings));
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
            if exit != Exit::OK {
                return Err(Failure { report: Report::Text(shown), exit });
            }
            terminal::complain(&shown);
            if let Some(plan) = plan {
                let files = loaded.map(|loaded| loaded.files).unwrap_or_default();
                terminal::print(&format!("{}: {}\n", source.shown(&files), summary(&plan, &findings)))?;
            }
        }
    }
    Ok(exit)
}

/// "ok, 2 pipelines with 2 sources, 1 filter and 3 sinks".
fn summary(plan: &Plan, findings: &Diagnostics) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let sum = |f: fn(&engine::PipelinePlan) -> usize| plan.pipelines.iter().map(f).sum::<usize>();
    let filters = sum(|p| p.filters.len() + p.sinks.iter().map(|s| s.filters.len()).sum::<usize>());
    let warnings = findings.items().iter().filter(|d| d.severity == Severity::Warning).count();
    let verdict =
        if warnings == 0 { "ok".to_owned() } else { format!("ok with {}", count(warnings, "warning")) };
    format!(
        "{verdict}, {} with {}, {} and {}",
        count(plan.pipelines.len(), "pipeline"),
        count(sum(|p| p.sources.len()), "source"),
        count(filters, "filter"),
        count(sum(|p| p.sinks.len()), "sink")
    )
}
