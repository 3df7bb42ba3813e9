//! Where OpenSSL is: in libraries that processes have mapped, in the system's own, and in binaries that embed it. Each
//! file is hooked once, whichever process it was found through; hooks hold for all processes that use it.

use std::collections::HashSet;
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};
use aya::{Btf, Ebpf};

use super::attach::program;
use super::uprobe_multi::{Point, UprobeMulti};
use super::why;
use crate::trace::process::started_ticks;
use crate::trace::settings::Scope;
use crate::trace::symbols;

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
/// The functions that are hooked. A file without the first is no OpenSSL; the newer two may be missing.
const FUNCTIONS: [&str; 4] = ["SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex"];
/// What the program at their entries is told of each: `enum ssl_cookie` in `ebpf/ssl.h`.
const COOKIES: [u64; 4] = [0, 1, 2, 3];
/// The programs at the entries and at the returns.
pub(super) const PROGRAMS: [&str; 2] = ["ssl_enter", "ssl_exit"];
/// How a list of programs to do without names the better way.
const MULTI: &str = "uprobe_multi";

/// How files are hooked.
enum Way {
    /// All functions of a file at once.
    Multi(UprobeMulti),
    /// One by one, by way of perf; before Linux 6.6.
    Single,
}

/// What holds hooks in place.
#[expect(dead_code, reason = "hooks are removed when these are dropped")]
enum Link {
    Multi(OwnedFd),
    Single(UProbeLink),
}

/// See the module.
pub(super) struct Libraries {
    way: Way,
    links: Vec<Link>,
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
        let way = if matches!(self.way, Way::Multi(_)) { MULTI } else { "uprobe" };
        write!(f, "{way}, {} {plural}", self.hooked)
    }
}

/// Removing a hook waits until no CPU is in it any more. All of them wait at the same time; those of perf only as far as
/// the kernel's lock lets them.
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
    /// Loads the programs, the better way if the kernel has it; nothing is hooked yet.
    ///
    /// # Errors
    /// Why the kernel does not take them.
    pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf, without: &[&str]) -> Result<Libraries, String> {
        let multi = if without.contains(&MULTI) { None } else { multi(ebpf, btf) };
        if multi.is_none() {
            for name in PROGRAMS {
                let uprobe: &mut UProbe = program(ebpf, name)?;
                uprobe.load().map_err(|e| why::of_program(&e, false))?;
            }
        }
        Ok(Libraries {
            way: multi.map_or(Way::Single, Way::Multi),
            links: Vec::new(),
            tried: HashSet::new(),
            hooked: 0,
            processes: HashSet::new(),
            looked_at_system: false,
            failure: None,
        })
    }

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
        let Some(started) = started_ticks(&dir) else { return };
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
        match self.attach(ebpf, path, file) {
            Ok(true) => {
                self.hooked += 1;
                tracing::debug!(path = %path.display(), "TLS library hooked");
            }
            Ok(false) => {}
            Err(why) => {
                if self.hooked > 0 {
                    tracing::warn!(path = %path.display(), "a TLS library cannot be hooked: {why}");
                }
                self.failure.get_or_insert(why);
            }
        }
    }

    /// Hooks a file's functions at entry and return; `false` if it has none, or is gone.
    fn attach(&mut self, ebpf: &mut Ebpf, path: &Path, id: (u64, u64)) -> Result<bool, String> {
        let Some(file) = open(path, id) else { return Ok(false) };
        let Ok(offsets) = symbols::offsets(&file, FUNCTIONS) else { return Ok(false) };
        if offsets[0].is_none() {
            return Ok(false);
        }
        let points = offsets.into_iter().zip(COOKIES);
        let points: Vec<Point> =
            points.filter_map(|(at, cookie)| Some(Point { offset: at?, cookie })).collect();
        // This very file, whatever its path leads to by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        match &self.way {
            Way::Multi(programs) => {
                let path = CString::new(path).map_err(|e| e.to_string())?;
                let links = programs.attach(&path, &points).map_err(|e| why::of_call("uprobe_multi", &e))?;
                self.links.extend(links.map(Link::Multi));
            }
            Way::Single => {
                for point in &points {
                    for name in PROGRAMS {
                        self.links.push(Link::Single(single(ebpf, name, Path::new(&path), *point)?));
                    }
                }
            }
        }
        Ok(true)
    }
}

/// The programs for the better way, if the kernel has it.
fn multi(ebpf: &Ebpf, btf: &Btf) -> Option<UprobeMulti> {
    match UprobeMulti::load(ebpf, btf, PROGRAMS) {
        Ok(programs) => Some(programs).filter(UprobeMulti::is_possible),
        Err(e) => {
            tracing::debug!("no uprobe_multi: {}", why::of_program(&e, false));
            None
        }
    }
}

/// Hooks one place with one program.
fn single(ebpf: &mut Ebpf, name: &str, path: &Path, point: Point) -> Result<UProbeLink, String> {
    let uprobe: &mut UProbe = program(ebpf, name)?;
    let location = UProbeAttachLocation::AbsoluteOffset(point.offset);
    let point = UProbeAttachPoint { location, cookie: Some(point.cookie) };
    let link = uprobe.attach(point, path, UProbeScope::AllProcesses);
    link.and_then(|id| uprobe.take_link(id)).map_err(|e| why::of_program(&e, false))
}

/// Opens a file if it is still the one, and one that can be hooked; what else a path may lead to is not waited for.
fn open(path: &Path, id: (u64, u64)) -> Option<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let meta = file.metadata().ok()?;
    (meta.is_file() && (meta.dev(), meta.ino()) == id).then_some(file)
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
