//! What a reload did, for the log and as JSON for whoever asked for it.

use serde_json::{Value, json};

/// What became of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The new configuration runs.
    Applied,
    /// The new configuration says what runs already.
    Unchanged,
    /// Nothing was touched: the new configuration has errors, or weir is ending.
    Refused,
    /// Something did not start; what ran before runs again.
    RolledBack,
}

/// What became of a pipeline or component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not touched.
    Unchanged,
    /// It was stopped and started, or what lies before it was.
    Changed,
    /// It is new.
    Added,
    /// It is gone.
    Removed,
}

/// What became of one pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineChange {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub change: Change,
    /// What became of its components, by site id; empty for an unchanged pipeline.
    pub components: Vec<(String, Change)>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadReport {
    /// What became of the request.
    pub outcome: ReloadOutcome,
    /// The pipelines of the new configuration in order, then those that are gone.
    pub pipelines: Vec<PipelineChange>,
    /// Options that differ and are read at the start only, by their paths.
    pub needs_restart: Vec<String>,
    /// Why it was refused or rolled back.
    pub errors: Vec<String>,
    /// What the operator should know besides: buffers that nobody owns any more, rows that were given up.
    pub notes: Vec<String>,
}

impl ReloadOutcome {
    /// The name in JSON and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            ReloadOutcome::Applied => "applied",
            ReloadOutcome::Unchanged => "unchanged",
            ReloadOutcome::Refused => "refused",
            ReloadOutcome::RolledBack => "rolled_back",
        }
    }
}

impl Change {
    /// The name in JSON and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Unchanged => "unchanged",
            Change::Changed => "changed",
            Change::Added => "added",
            Change::Removed => "removed",
        }
    }
}

impl ReloadReport {
    /// A report of nothing yet.
    pub fn new(outcome: ReloadOutcome) -> ReloadReport {
        let (pipelines, needs_restart) = (Vec::new(), Vec::new());
        ReloadReport { outcome, pipelines, needs_restart, errors: Vec::new(), notes: Vec::new() }
    }

    /// A refusal.
    pub fn refused(errors: Vec<String>) -> ReloadReport {
        ReloadReport { errors, ..ReloadReport::new(ReloadOutcome::Refused) }
    }

    /// Whether what was asked for runs now.
    pub fn is_ok(&self) -> bool {
        matches!(self.outcome, ReloadOutcome::Applied | ReloadOutcome::Unchanged)
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let names = |change: Change| -> Vec<&str> {
            self.pipelines.iter().filter(|p| p.change == change).map(|p| p.name.as_str()).collect()
        };
        let component =
            |(id, change): &(String, Change)| json!({ "component": id, "change": change.as_str() });
        let detail = |p: &PipelineChange| {
            let components: Vec<Value> = p.components.iter().map(component).collect();
            json!({ "name": p.name, "change": p.change.as_str(), "components": components })
        };
        json!({
            "outcome": self.outcome.as_str(),
            "unchanged": names(Change::Unchanged),
            "changed": names(Change::Changed),
            "added": names(Change::Added),
            "removed": names(Change::Removed),
            "pipelines": self.pipelines.iter().map(detail).collect::<Vec<_>>(),
            "needs_restart": self.needs_restart,
            "errors": self.errors,
            "notes": self.notes,
        })
    }

    /// What came of it, in one line.
    pub fn headline(&self) -> String {
        let why = || self.errors.join("; ");
        match self.outcome {
            ReloadOutcome::Applied => format!("configuration reloaded: {}", self.summary()),
            ReloadOutcome::Unchanged => "configuration reloaded: nothing changed".to_owned(),
            ReloadOutcome::Refused => format!("reload refused, everything runs on as before: {}", why()),
            ReloadOutcome::RolledBack => format!("reload rolled back, what ran before runs again: {}", why()),
        }
    }

    /// Writes it to the log, the whole of it.
    pub fn log(&self) {
        let headline = self.headline();
        if self.is_ok() {
            tracing::info!("{headline}");
        } else {
            tracing::error!("{headline}");
        }
        for (id, change) in self.pipelines.iter().flat_map(|p| &p.components) {
            if *change != Change::Unchanged {
                tracing::info!(component = %id, "{}", change.as_str());
            }
        }
        if !self.needs_restart.is_empty() {
            tracing::warn!("these options change at the next start only: {}", self.needs_restart.join(", "));
        }
        self.notes.iter().for_each(|note| tracing::warn!("{note}"));
    }

    fn summary(&self) -> String {
        let kinds = [Change::Changed, Change::Added, Change::Removed, Change::Unchanged];
        let parts = kinds.into_iter().filter_map(|kind| {
            let names: Vec<&str> =
                self.pipelines.iter().filter(|p| p.change == kind).map(|p| p.name.as_str()).collect();
            match (kind, names.len()) {
                (_, 0) => None,
                (Change::Unchanged, n) => Some(format!("{n} unchanged")),
                _ => Some(format!("{} {}", kind.as_str(), names.join(", "))),
            }
        });
        parts.collect::<Vec<_>>().join("; ")
    }
}
