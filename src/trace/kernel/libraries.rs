//! Where OpenSSL is: in libraries that processes have mapped, in the system's own, and in binaries that embed it. Each
//! file is hooked once, whichever process it was found through; hooks hold for all processes that use it.

use std::collections::HashSet;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::uprobe::{UProbeLink, UProbeScope};
use aya::programs::{ProgramError, UProbe};

use super::attach::program;
use super::why;
use crate::trace::settings::Scope;

/// Most files that are hooked, and most processes and files that are remembered.
const HOOKED_MAX: usize = 256;
const KNOWN_MAX: usize = 65_536;
/// Most threads that remove hooks at the same time.
const UNHOOKING_THREADS_MAX: usize = 64;
/// Where distributions put libraries.
const LIBRARY_DIRS: &[&str] = &[
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/usr/local/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
];
/// A function, and the program at its entry.
const FUNCTIONS: [(&str, &str); 4] = [
    ("SSL_read", "ssl_read_enter"),
    ("SSL_write", "ssl_write_enter"),
    ("SSL_read_ex", "ssl_read_ex_enter"),
    ("SSL_write_ex", "ssl_write_ex_enter"),
];

/// See the module.
#[derive(Default)]
pub(super) struct Libraries {
    /// What holds the hooks in place.
    links: Vec<UProbeLink>,
    /// Device and inode of every file that was tried.
    tried: HashSet<(u64, u64)>,
    hooked: usize,
    /// Number and start of every process that was looked at, with the program it runs.
    processes: HashSet<(u32, u64, u64)>,
    looked_at_system: bool,
    /// Why a file could not be hooked, in this scan.
    failure: Option<String>,
}

impl fmt::Display for Libraries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.hooked == 1 { "library" } else { "libraries" };
        write!(f, "uprobe, {} {plural}", self.hooked)
    }
}

/// Removing a hook waits until no CPU is in it any more. All of them wait at the same time.
impl Drop for Libraries {
    fn drop(&mut self) {
        let share = self.links.len().div_ceil(UNHOOKING_THREADS_MAX).max(1);
        std::thread::scope(|scope| {
            while !self.links.is_empty() {
                let some = self.links.split_off(self.links.len().saturating_sub(share));
                // Where there are no more threads to be had, this one does it.
                std::thread::Builder::new()
                    .name("unhook".to_owned())
                    .spawn_scoped(scope, move || drop(some))
                    .ok();
            }
        });
    }
}

impl Libraries {
    /// Looks at the processes that are new since the last time; returns how many files were hooked.
    ///
    /// # Errors
    /// Why nothing can be hooked. One file among others that cannot is a warning.
    pub(super) fn scan(&mut self, ebpf: &mut Ebpf, scope: &Scope) -> Result<usize, String> {
        let before = self.hooked;
        self.failure = None;
        if !std::mem::replace(&mut self.looked_at_system, true) {
            for path in system_libraries() {
                self.hook(ebpf, &path);
            }
        }
        if self.processes.len() > KNOWN_MAX {
            self.processes.clear();
        }
        for pid in processes() {
            self.process(ebpf, pid, scope);
        }
        match self.failure.take() {
            Some(why) if self.hooked == 0 => Err(why),
            _ => Ok(self.hooked - before),
        }
    }

    fn process(&mut self, ebpf: &mut Ebpf, pid: u32, scope: &Scope) {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        if !scope.pids.is_empty() && !scope.pids.contains(&pid) {
            return;
        }
        // Whatever cannot be read is gone, a kernel thread, or not ours to see.
        let Ok(program) = std::fs::metadata(dir.join("exe")) else { return };
        let Some(started) = started(&dir) else { return };
        // A process that has just begun maps its libraries a moment later: it is looked at again next time.
        if is_young(started) || self.processes.insert((pid, started, program.ino())) {
            self.hook_known(ebpf, &dir.join("exe"), (program.dev(), program.ino()));
            for library in mapped_libraries(&dir) {
                self.hook(ebpf, &library);
            }
        }
    }

    fn hook(&mut self, ebpf: &mut Ebpf, path: &Path) {
        if let Ok(meta) = std::fs::metadata(path) {
            self.hook_known(ebpf, path, (meta.dev(), meta.ino()));
        }
    }

    fn hook_known(&mut self, ebpf: &mut Ebpf, path: &Path, file: (u64, u64)) {
        if self.tried.len() >= KNOWN_MAX {
            self.tried.clear();
        }
        if !self.tried.insert(file) || self.hooked >= HOOKED_MAX {
            return;
        }
        let mut any = false;
        for (function, entry) in FUNCTIONS {
            match attach(ebpf, function, entry, path, &mut self.links) {
                Ok(true) => any = true,
                // A file without the first is no OpenSSL; the newer two may be missing.
                Ok(false) if !any => return,
                Ok(false) => {}
                Err(why) => {
                    if self.hooked > 0 {
                        tracing::warn!(path = %path.display(), "a TLS library cannot be hooked: {why}");
                    }
                    self.failure.get_or_insert(why);
                    return;
                }
            }
        }
        self.hooked += 1;
        tracing::debug!(path = %path.display(), "TLS library hooked");
    }
}

/// Hooks a function's entry and return; `false` if the file has no such function.
fn attach(
    ebpf: &mut Ebpf,
    function: &str,
    entry: &str,
    path: &Path,
    links: &mut Vec<UProbeLink>,
) -> Result<bool, String> {
    for name in [entry, "ssl_exit"] {
        let uprobe: &mut UProbe = program(ebpf, name)?;
        match uprobe.attach(function, path, UProbeScope::AllProcesses) {
            Ok(id) => links.push(uprobe.take_link(id).map_err(|e| why::of_program(&e, false))?),
            // No such symbol, no ELF file, or gone.
            Err(ProgramError::UProbeError(_)) => return Ok(false),
            Err(e) => return Err(why::of_program(&e, false)),
        }
    }
    Ok(true)
}

fn is_library(name: &str) -> bool {
    name.starts_with("libssl") && name.contains(".so") || name.starts_with("libssl-")
}

fn system_libraries() -> Vec<PathBuf> {
    let entries = LIBRARY_DIRS.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    let found = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_library));
    found.map(|entry| entry.path()).collect()
}

fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// When the process started, in ticks since boot.
fn started(dir: &Path) -> Option<u64> {
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    // The name, in parentheses, may hold anything.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether it started within the last two seconds.
fn is_young(started: u64) -> bool {
    let hertz = 100;
    crate::base::clock::boot_secs().saturating_sub(started / hertz) < 3
}

/// The OpenSSL libraries that a process has mapped, as they are reached from here.
fn mapped_libraries(dir: &Path) -> HashSet<PathBuf> {
    let maps = std::fs::read_to_string(dir.join("maps")).unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
    let libraries = paths.filter(|path| path.rsplit('/').next().is_some_and(is_library));
    libraries.map(|path| dir.join("root").join(path.trim_start_matches('/'))).collect()
}
