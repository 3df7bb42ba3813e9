//! Finds the weir that a command is about: the one that was named, or the only one that runs, one's own before a
//! service's.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::place::directories;
use crate::cli::exit::{Exit, Failure};
use crate::cli::http_get::Base;
use crate::config::Environment;
use crate::net::control::socket::is_alive;

/// Most sockets that are looked at in one directory.
const SOCKETS_MAX: usize = 256;
/// Most pipelines that are named of each process.
const NAMED_MAX: usize = 6;

/// Which running weir.
#[derive(Debug, Default, Clone, Args)]
pub struct SocketArgs {
    /// Control socket of the weir to ask; without it, that of the only one that runs
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Process id of the weir to ask
    #[arg(long, value_name = "PID", conflicts_with = "socket")]
    pub pid: Option<u32>,
}

impl SocketArgs {
    /// Whether one was named.
    pub fn names_one(&self) -> bool {
        self.socket.is_some() || self.pid.is_some()
    }
}

/// A process that answers.
struct Running {
    path: PathBuf,
    pid: u64,
    pipelines: Vec<String>,
}

/// The control socket that `args` mean.
///
/// # Errors
/// With exit code 69 when none is found, and 64 when several are and none was named.
pub fn find(args: &SocketArgs, environment: &Environment) -> Result<Base, Failure> {
    if let Some(path) = &args.socket {
        return Ok(Base::of_socket(path.clone()));
    }
    let dirs = directories(environment);
    let meant = |dirs: &[PathBuf]| {
        let mut running = look(dirs);
        running.retain(|weir| args.pid.is_none_or(|pid| weir.pid == u64::from(pid)));
        running
    };
    // One's own come first: those of services are looked for where there are none.
    let (own, others) = dirs.split_at(1);
    let mut running = meant(own);
    if running.is_empty() {
        running = meant(others);
    }
    let of_pid = args.pid.map_or_else(String::new, |pid| format!(" with process id {pid}"));
    match running.as_slice() {
        [only] => Ok(Base::of_socket(only.path.clone())),
        [] => {
            let places: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            Err(Failure::new(
                Exit::UNAVAILABLE,
                format!("no running weir was found{of_pid}: no control socket in {}", places.join(", ")),
            )
            .hint("start one with `weir run`; one of another user can only be seen as that user or as root, one elsewhere with --socket PATH"))
        }
        several => {
            let lines: Vec<String> = several.iter().map(Running::line).collect();
            Err(Failure::usage(format!(
                "{} weirs run, and it is not said which is meant:\n{}",
                several.len(),
                lines.join("\n")
            ))
            .hint(format!("name one, as in `--pid {}`", several[0].pid)))
        }
    }
}

impl Running {
    fn line(&self) -> String {
        let more = self.pipelines.len().saturating_sub(NAMED_MAX);
        let mut names = self.pipelines.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        if more > 0 {
            names.push_str(&format!(" and {more} more"));
        }
        format!("  pid {:<8} {names}  ({})", self.pid, self.path.display())
    }
}

/// All that answer in these directories and the ones directly below them, where services have their own.
fn look(dirs: &[PathBuf]) -> Vec<Running> {
    let sub = |dir: &PathBuf| entries(dir).into_iter().filter(|path| path.is_dir());
    let all: Vec<PathBuf> =
        dirs.iter().flat_map(|dir| std::iter::once(dir.clone()).chain(sub(dir))).collect();
    let sockets = all.iter().flat_map(|dir| entries(dir));
    let ours = sockets.filter(|path| path.extension().is_some_and(|e| e == "sock") && trusted(path));
    let mut running: Vec<Running> = ours.filter(|path| is_alive(path)).filter_map(ask).collect();
    running.sort_by_key(|weir| weir.pid);
    running.dedup_by(|a, b| a.path == b.path);
    running
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .map(|entries| entries.flatten().map(|entry| entry.path()).take(SOCKETS_MAX).collect())
        .unwrap_or_default();
    paths.sort();
    paths
}

/// Nobody but root is to answer for this user.
fn trusted(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(path).is_ok_and(|m| user == 0 || [user, 0].contains(&m.uid()))
}

fn ask(path: PathBuf) -> Option<Running> {
    let answer = Base::of_socket(path.clone()).get("/status").ok()?;
    let status: Value = serde_json::from_slice(&answer.body).ok()?;
    let name = |p: &Value| Some(p.get("name")?.as_str()?.to_owned());
    let pipelines = status.get("pipelines")?.as_array()?.iter().filter_map(name).collect();
    Some(Running { path, pid: status.get("pid")?.as_u64()?, pipelines })
}
