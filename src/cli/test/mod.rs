//! `weir test`: runs the `[[tests]]` of a configuration. Lines go through the real filters under a clock of the
//! test's own; no source reads, no sink writes.

mod human;
mod lines;
mod machine;

use super::args::TestFormat;
use super::config_source::ConfigSource;
use super::exit::{Exit, Failure};
use super::terminal::{self, Terminal};
use crate::config::{Diagnostics, Origin};
use crate::engine::{self, Plan, trial};

/// What was asked for besides the configuration.
#[derive(Debug)]
pub struct Wanted {
    /// Only tests whose name holds one of these; all if there is none.
    pub filter: Vec<String>,
    /// How results are written.
    pub format: TestFormat,
    /// Whether what each stage did is shown for tests that passed, too.
    pub verbose: bool,
}

/// A whole run.
#[derive(Debug)]
struct Run {
    reports: Vec<trial::TrialReport>,
    /// Tests that `--filter` left out.
    left_out: usize,
    verbose: bool,
}

impl Run {
    fn failed(&self) -> usize {
        self.reports.iter().filter(|report| !report.differences.is_empty()).count()
    }
}

/// Runs the tests and prints what they found on standard output.
///
/// # Errors
/// With 78 if something is wrong with the configuration, with 66 if there is none, or no test in it, or a file that
/// a test names cannot be read. A test that fails is no error here: the exit code is 1.
pub fn run(source: &ConfigSource, wanted: &Wanted, terminal: Terminal) -> Result<Exit, Failure> {
    let mut findings = Diagnostics::new();
    let loaded = source.load(&mut findings)?;
    let plan = loaded.as_ref().and_then(|loaded| engine::plan(&loaded.tree, &mut findings));
    let (Some(plan), Some(loaded)) = (plan, loaded) else { return Err(Failure::config(findings)) };
    terminal::complain(&findings.render_human(terminal.color_stderr));
    let run = all(&plan, wanted)?;
    if plan.trials.is_empty() {
        return Err(Failure::new(Exit::NO_INPUT, format!("no tests in {}", source.shown(&loaded.files)))
            .hint("add one:\n    [[tests]]\n    name = \"what it shows\"\n    inputs = [{ lines = [\"a line that goes in\"] }]\n    outputs = [{ lines = [\"a line that comes out\"] }]"));
    }
    if run.reports.is_empty() {
        let names: Vec<String> = plan.trials.iter().map(|trial| format!("`{}`", trial.name)).collect();
        return Err(Failure::new(Exit::NO_INPUT, "no test has such a name: `--filter` leaves none")
            .hint(format!("there is {}", crate::config::diagnostics::join_or(&names))));
    }
    let shown = match wanted.format {
        TestFormat::Human => human::render(&run, terminal),
        TestFormat::Json => format!("{:#}\n", machine::json(&run)),
        TestFormat::Junit => machine::junit(&run),
    };
    terminal::print(&shown)?;
    Ok(if run.failed() == 0 { Exit::OK } else { Exit::FAILED })
}

fn all(plan: &Plan, wanted: &Wanted) -> Result<Run, Failure> {
    let is_wanted = |name: &str| wanted.filter.is_empty() || wanted.filter.iter().any(|f| name.contains(f));
    let chosen: Vec<_> = plan.trials.iter().filter(|trial| is_wanted(&trial.name)).collect();
    let reports = chosen.iter().map(|one| trial::run(plan, one)).collect::<Result<Vec<_>, _>>();
    let reports = reports.map_err(|unreadable| {
        let mut findings = Diagnostics::new();
        findings.error(&unreadable.origin, unreadable.why).no_input();
        Failure::config(findings)
    })?;
    Ok(Run { left_out: plan.trials.len() - reports.len(), reports, verbose: wanted.verbose })
}

/// "pipelines.toml:12:1".
fn place(origin: &Origin) -> String {
    origin.to_string()
}
