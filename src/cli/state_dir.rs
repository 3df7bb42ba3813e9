//! Where a run keeps what survives it: as configured, where the system expects it, or, for a quick run, in a directory
//! that goes with it.

use std::path::{Path, PathBuf};

use super::config_source::Mode;
use super::exit::{Exit, Failure};
use crate::base::rng::Rng;
use crate::config::Environment;

/// The state directory of a run from files.
pub fn state_directory(configured: Option<&str>, environment: &Environment) -> PathBuf {
    StateDir::choose(configured, Mode::Files, environment).path
}

/// Where state survives restarts.
pub(super) struct StateDir {
    /// The directory.
    pub(super) path: PathBuf,
    /// Whether it is for this run alone.
    passing: bool,
}

impl StateDir {
    /// As configured, or the usual place. A quick run has its own that goes with it: it reads its files from the
    /// start, and two of them do not get in each other's way. Nothing is created here.
    pub(super) fn choose(configured: Option<&str>, mode: Mode, environment: &Environment) -> StateDir {
        let variable = |name| environment.get(name).filter(|value| !value.is_empty());
        if let Some(path) = configured {
            return StateDir { path: path.into(), passing: false };
        }
        if mode != Mode::Files {
            let dir = variable("TMPDIR").unwrap_or("/tmp");
            let name = format!("weir-{:016x}", Rng::from_entropy().next_u64());
            return StateDir { path: Path::new(dir).join(name), passing: true };
        }
        let home = || variable("HOME").map(|home| Path::new(home).join(".local/state"));
        let path = if rustix::process::geteuid().is_root() {
            PathBuf::from("/var/lib/weir")
        } else {
            let base = variable("XDG_STATE_HOME").map(PathBuf::from).or_else(home);
            base.map_or_else(|| PathBuf::from("/var/lib/weir"), |base| base.join("weir"))
        };
        StateDir { path, passing: false }
    }

    /// Makes the directory, so that a start without it fails at once and not again and again.
    pub(super) fn prepare(&self) -> Result<(), Failure> {
        use rustix::fs::{Access, access};
        if self.passing {
            return Ok(());
        }
        let writable = std::fs::create_dir_all(&self.path)
            .and_then(|()| Ok(access(&self.path, Access::WRITE_OK | Access::EXEC_OK)?));
        writable.map_err(|e| {
            let path = self.path.display();
            Failure::new(Exit::CANNOT_CREATE, format!("cannot use the state directory {path}: {e}"))
                .hint("set `state_dir` to a directory that weir may write to")
        })
    }

    /// Removes what was for this run alone.
    pub(super) fn clean(&self) {
        if self.passing {
            // Most runs never create it.
            std::fs::remove_dir_all(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_lives_where_it_was_told_and_a_quick_run_leaves_none() {
        let environment = Environment::from_pairs([("TMPDIR", "/t"), ("XDG_STATE_HOME", "/s")]);
        let chosen = StateDir::choose(Some("/x"), Mode::Quick, &environment);
        assert_eq!((chosen.path.to_str(), chosen.passing), (Some("/x"), false));
        let quick = StateDir::choose(None, Mode::Quick, &environment);
        assert!(quick.path.starts_with("/t") && quick.passing);
        assert_ne!(quick.path, StateDir::choose(None, Mode::Quick, &environment).path);
        assert!(!StateDir::choose(None, Mode::Files, &environment).passing);
    }
}
