//! What asks a running weir to read its configuration again, and how it is read: SIGHUP, changed files under
//! `config_auto_reload`, and, by way of the HTTP API, a request.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::config_source::ConfigSource;
use super::exit::{Failure, Report};
use super::service::Supervisor;
use crate::config::{Diagnostics, Severity};
use crate::engine::{self, Loader, Reloads};

/// How often watched files are looked at; a change counts once they look the same twice, so that a file that is
/// being written is not read.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Which files make up the configuration, and whether a change of theirs asks for a reload.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// `config_auto_reload`.
    pub enabled: bool,
    /// Files and directories.
    pub files: Vec<PathBuf>,
}

/// Reads the configuration of `source` anew, whenever it is called. What is to be watched afterwards goes to
/// `watched`, also where the configuration has errors: the next change may mend them.
pub fn loader(source: ConfigSource, watched: watch::Sender<Watched>) -> Loader {
    Arc::new(move || {
        let mut findings = Diagnostics::new();
        let loaded = source.load(&mut findings).map_err(|failure| vec![said(&failure)])?;
        let plan = loaded.as_ref().and_then(|loaded| engine::plan(&loaded.tree, &mut findings));
        watched.send_modify(|watched| {
            if let Some(loaded) = loaded {
                watched.files = loaded.files;
            }
            if let Some(plan) = &plan {
                watched.enabled = plan.root.config_auto_reload;
            }
        });
        plan.ok_or_else(|| errors(&findings))
    })
}

fn said(failure: &Failure) -> String {
    match &failure.report {
        Report::Message { message, .. } => message.clone(),
        Report::Findings(findings) => errors(findings).join("; "),
        Report::Text(text) => text.clone(),
    }
}

/// Each error in one line, with its place and its option.
fn errors(findings: &Diagnostics) -> Vec<String> {
    let errors = findings.in_order().into_iter().filter(|d| d.severity == Severity::Error);
    errors
        .map(|d| {
            let place =
                d.origin.file_position().map(|(file, line, column)| format!("{file}:{line}:{column}: "));
            let path = d.path.as_ref().map(|path| format!(" (at {path})"));
            format!("{}{}{}", place.unwrap_or_default(), d.message, path.unwrap_or_default())
        })
        .collect()
}

/// Reloads now, and tells the service manager before and after.
pub async fn now(reloads: Arc<Reloads>, supervisor: Arc<Supervisor>) {
    supervisor.reloading();
    reloads.reload().await;
    supervisor.ready();
}

/// Tells the service manager what came of each reload, whoever asked for it. Runs until it is dropped.
pub async fn tell(reloads: Arc<Reloads>, supervisor: Arc<Supervisor>) {
    let mut reports = reloads.reports();
    while reports.changed().await.is_ok() {
        let report = reports.borrow_and_update().clone();
        if let Some(report) = report {
            supervisor.reloaded(&report);
        }
    }
}

/// Asks for a reload when watched files have changed and settled. Runs until it is dropped.
pub async fn follow(
    mut watched: watch::Receiver<Watched>,
    reloads: Arc<Reloads>,
    supervisor: Arc<Supervisor>,
) {
    let mut known: Option<Vec<Stamp>> = None;
    let mut last: Option<Vec<Stamp>> = None;
    loop {
        if watched.wait_for(|watched| watched.enabled).await.is_err() {
            return;
        }
        let files = watched.borrow_and_update().files.clone();
        let stamps = tokio::task::spawn_blocking(move || stamps(&files)).await.unwrap_or_default();
        let settled = last.as_ref() == Some(&stamps);
        match &known {
            None => known = Some(stamps.clone()),
            Some(known_stamps) if settled && *known_stamps != stamps => {
                tracing::info!("the configuration's files have changed");
                now(reloads.clone(), supervisor.clone()).await;
                // Whatever came of it: the same files are not tried again. Other files may be watched now.
                let files = watched.borrow_and_update().files.clone();
                let seen = stamps.clone();
                let now = tokio::task::spawn_blocking(move || self::stamps(&files)).await.unwrap_or_default();
                known = Some(if now.iter().all(|s| seen.contains(s)) { now } else { seen_of(&now, &seen) });
                last = None;
                continue;
            }
            Some(_) => {}
        }
        last = Some(stamps);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What was known of the files that are watched now: those that changed while they were read count as changed.
fn seen_of(now: &[Stamp], seen: &[Stamp]) -> Vec<Stamp> {
    let before = |stamp: &Stamp| seen.iter().find(|s| s.path == stamp.path).cloned();
    now.iter().map(|stamp| before(stamp).unwrap_or_else(|| stamp.clone())).collect()
}

/// What tells whether a file is what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    /// Device, inode, length, and when it was last written, in seconds and nanoseconds; `None`: not there.
    state: Option<(u64, u64, u64, i64, i64)>,
}

/// The stamps of files and of what lies in directories.
fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let mut stamps: Vec<Stamp> = Vec::new();
    for path in files {
        stamps.push(stamp(path));
        if let Ok(entries) = fs::read_dir(path) {
            let toml =
                entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml"));
            stamps.extend(toml.map(|path| stamp(&path)));
        }
    }
    stamps.sort_by(|a, b| a.path.cmp(&b.path));
    stamps.dedup();
    stamps
}

fn stamp(path: &Path) -> Stamp {
    let state = fs::metadata(path).ok().map(|meta| {
        // A directory changes with what it holds, which is stamped by itself.
        let written = if meta.is_dir() { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
        let length = if meta.is_dir() { 0 } else { meta.len() };
        (meta.dev(), meta.ino(), length, written.0, written.1)
    });
    Stamp { path: path.to_owned(), state }
}
