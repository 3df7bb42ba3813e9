//! Where control sockets are: in the directory for what lives as long as its process, under the process id.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{ControlOptions, Environment};
use crate::net::control::ControlSocket;
use crate::net::control::socket::sweep;

/// How many names are tried where containers share a directory and their processes a number.
const NAMES_MAX: u32 = 9;

/// Makes the socket of this process. Without one, only the commands that need it do not work: that is a warning.
pub fn open(options: &ControlOptions, environment: &Environment) -> Option<ControlSocket> {
    if !options.enabled {
        return None;
    }
    let made = match &options.socket {
        Some(path) => ControlSocket::bind(Path::new(path)).map_err(|e| (path.clone(), e)),
        None => in_directory(&own_directory(environment)),
    };
    let warn = |(path, e): (String, io::Error)| {
        let why = match e.kind() {
            io::ErrorKind::AddrInUse => "another process listens there".to_owned(),
            _ => e.to_string(),
        };
        tracing::warn!(
            "no control socket, `weir top` and `weir tap` will not find this process: {path}: {why}"
        );
    };
    made.map_err(warn).ok()
}

fn in_directory(dir: &Path) -> Result<ControlSocket, (String, io::Error)> {
    let failed = |path: &Path, e| (path.display().to_string(), e);
    sweep(dir);
    let id = std::process::id();
    let name = |n: u32| if n == 1 { format!("{id}.sock") } else { format!("{id}-{n}.sock") };
    let mut taken = None;
    for n in 1..=NAMES_MAX {
        let path = dir.join(name(n));
        match ControlSocket::bind(&path) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => taken = Some(failed(&path, e)),
            Err(e) => return Err(failed(&path, e)),
            // Whoever else may write to the directory could put a socket of theirs in its place.
            Ok(_) if !is_ours(dir) => {
                let e = io::Error::new(io::ErrorKind::PermissionDenied, "others may write to the directory");
                return Err(failed(dir, e));
            }
            Ok(socket) => return Ok(socket),
        }
    }
    Err(taken.unwrap_or_else(|| failed(dir, io::ErrorKind::AddrInUse.into())))
}

/// Whether a directory belongs to this user or root, and nobody else may write to it.
fn is_ours(dir: &Path) -> bool {
    let owner = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(dir).is_ok_and(|m| [owner, 0].contains(&m.uid()) && m.mode() & 0o022 == 0)
}

fn variable(environment: &Environment, name: &str) -> Option<PathBuf> {
    let value = environment.get(name).filter(|value| value.starts_with('/'))?;
    // systemd lists several, this process' own first.
    Some(value.split(':').next().unwrap_or(value).into())
}

/// The directory of this process' socket: systemd's `RUNTIME_DIRECTORY`, or `weir` in `XDG_RUNTIME_DIR`, or, for root,
/// in `/run`; else the user's directory in `/run/user`, and where there is none, one of its own in `TMPDIR`.
fn own_directory(environment: &Environment) -> PathBuf {
    if let Some(dir) = variable(environment, "RUNTIME_DIRECTORY") {
        return dir;
    }
    if let Some(dir) = variable(environment, "XDG_RUNTIME_DIR") {
        return dir.join("weir");
    }
    let user = rustix::process::geteuid();
    if user.is_root() {
        return PathBuf::from("/run/weir");
    }
    let own = PathBuf::from(format!("/run/user/{}", user.as_raw()));
    if is_ours(&own) { own.join("weir") } else { temporary(environment) }
}

fn temporary(environment: &Environment) -> PathBuf {
    let dir = variable(environment, "TMPDIR").unwrap_or_else(|| "/tmp".into());
    dir.join(format!("weir-{}", rustix::process::geteuid().as_raw()))
}

/// All directories in which the sockets of this user's processes, and of services, may be.
pub(super) fn directories(environment: &Environment) -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let mut dirs = vec![
        own_directory(environment),
        PathBuf::from("/run/weir"),
        PathBuf::from(format!("/run/user/{user}/weir")),
        temporary(environment),
    ];
    let mut seen = std::collections::HashSet::new();
    dirs.retain(|dir| seen.insert(dir.clone()));
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_where_the_system_keeps_such_things() {
        let at = |pairs: &[(&str, &str)]| own_directory(&Environment::from_pairs(pairs.iter().copied()));
        let (service, user) = (("RUNTIME_DIRECTORY", "/run/weir:/run/x"), ("XDG_RUNTIME_DIR", "/run/user/7"));
        assert_eq!(at(&[service, user]), Path::new("/run/weir"));
        assert_eq!(at(&[user]), Path::new("/run/user/7/weir"));
        assert_ne!(at(&[("XDG_RUNTIME_DIR", "relative")]), Path::new("relative/weir"));
        let found = directories(&Environment::from_pairs([("XDG_RUNTIME_DIR", "/x"), ("TMPDIR", "/t")]));
        assert!(found.contains(&"/x/weir".into()) && found.contains(&"/run/weir".into()));
        assert!(found.iter().any(|dir| dir.starts_with("/t")));
    }

    #[test]
    fn a_name_that_another_process_has_is_left_to_it() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("weir");
        let first = in_directory(&dir).unwrap();
        let second = in_directory(&dir).unwrap();
        assert_ne!(first.path(), second.path());
        assert!(second.path().to_string_lossy().ends_with("-2.sock"));
    }

    #[test]
    fn a_directory_of_others_is_not_used_and_none_is_needed() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("open");
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(in_directory(&dir).is_err());
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        let environment = Environment::from_pairs::<String, String>([]);
        let options = |enabled, socket: &str| ControlOptions { enabled, socket: Some(socket.to_owned()) };
        assert!(open(&options(false, "/nowhere"), &environment).is_none());
        assert!(open(&options(true, "/proc/nowhere/a.sock"), &environment).is_none());
    }
}
