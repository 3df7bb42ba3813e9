//! Where OpenSSL is: in libraries that processes have mapped, in the system's own, and in binaries that embed it. Each
//! file is hooked once, whichever process it was found through; hooks hold for all processes that use it.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fmt;
use std::fs::{File, Metadata};
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
/// After how many scans all processes are looked at once more: what they have loaded late is hooked, and what nobody
/// uses any more is let go, for a hook keeps its file, and the filesystem that it is in, from being removed.
const SCANS_BETWEEN_ROUNDS: u32 = 60;
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

/// Device and inode.
type FileId = (u64, u64);

/// Why a file is not hooked.
struct Refused {
    why: String,
    /// It is not for this file that the kernel refuses.
    is_general: bool,
}

/// See the module.
pub(super) struct Libraries {
    way: Way,
    /// A file keeps its inode's number while it is hooked.
    hooked: HashMap<FileId, Vec<Link>>,
    /// Every file that was tried, as it was when it last changed.
    tried: HashSet<(FileId, i64, i64)>,
    /// Number and start of every process that was looked at, with the program it runs.
    processes: HashSet<(u32, u64, u64)>,
    /// Of the files that are hooked, the system's own and those that processes were seen to use, since all were looked at
    /// last; and the devices that their programs are on.
    used: HashSet<FileId>,
    devices: HashSet<u64>,
    scans: u32,
    /// Why nothing can be hooked, as it seems in this scan.
    failure: Option<String>,
}

impl fmt::Display for Libraries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.hooked.len() == 1 { "library" } else { "libraries" };
        let way = if matches!(self.way, Way::Multi(_)) { MULTI } else { "uprobe" };
        write!(f, "{way}, {} {plural}", self.hooked.len())
    }
}

/// Removing a hook waits until no CPU is in it any more. All of them wait at the same time; those of perf only as far as
/// the kernel's lock lets them.
impl Drop for Libraries {
    fn drop(&mut self) {
        unhook(self.hooked.drain().flat_map(|(_, links)| links).collect());
    }
}

fn unhook(mut links: Vec<Link>) {
    let share = links.len().div_ceil(UNHOOKING_THREADS_MAX).max(1);
    std::thread::scope(|scope| {
        while !links.is_empty() {
            let some = links.split_off(links.len().saturating_sub(share));
            // Where there are no more threads to be had, this one does it.
            std::thread::Builder::new()
                .name("unhook".to_owned())
                .spawn_scoped(scope, move || drop(some))
                .ok();
        }
    });
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
            hooked: HashMap::new(),
            tried: HashSet::new(),
            processes: HashSet::new(),
            used: HashSet::new(),
            devices: HashSet::new(),
            scans: 0,
            failure: None,
        })
    }

    /// Looks at the processes that are new since the last time, and from time to time at all; returns how many files were
    /// hooked.
    ///
    /// # Errors
    /// Why nothing can be hooked. One file that cannot is a warning.
    pub(super) fn scan(&mut self, ebpf: &mut Ebpf, scope: &Scope) -> Result<usize, String> {
        let before = self.hooked.len();
        self.failure = None;
        let is_round = self.scans.is_multiple_of(SCANS_BETWEEN_ROUNDS);
        self.scans = self.scans.wrapping_add(1);
        if is_round || self.processes.len() > KNOWN_MAX {
            self.processes.clear();
        }
        if is_round {
            self.used.clear();
            self.devices.clear();
            for path in system_libraries() {
                self.hook(ebpf, &path, true);
            }
        }
        for pid in processes() {
            self.process(ebpf, pid, scope);
        }
        let new = self.hooked.len() - before;
        if is_round {
            self.let_go();
        }
        match self.failure.take() {
            Some(why) if self.hooked.is_empty() => Err(why),
            _ => Ok(new),
        }
    }

    /// Removes the hooks of files that no process uses and none is likely to: of containers that are gone nothing runs any
    /// more. Short-lived processes of those that are there come too late to be looked at, and go on finding theirs hooked.
    fn let_go(&mut self) {
        let is_full = self.hooked.len() >= HOOKED_MAX;
        let Libraries { hooked, used, devices, tried, .. } = self;
        let is_idle = |id: &FileId| !used.contains(id) && (is_full || !devices.contains(&id.0));
        let idle: HashMap<FileId, Vec<Link>> = hooked.extract_if(|id, _| is_idle(id)).collect();
        tried.retain(|(id, ..)| !idle.contains_key(id));
        unhook(idle.into_values().flatten().collect());
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
            self.devices.insert(program.dev());
            self.hook_known(ebpf, &dir.join("exe"), &program, false);
            for library in mapped_libraries(&dir) {
                if !self.hook(ebpf, &library.mapped, false) {
                    self.hook(ebpf, &library.named, false);
                }
            }
        }
    }

    /// Hooks a file if it is a library that is not; `false` if it is not to be seen.
    fn hook(&mut self, ebpf: &mut Ebpf, path: &Path, is_system: bool) -> bool {
        let meta = std::fs::metadata(path);
        meta.is_ok_and(|meta| {
            self.hook_known(ebpf, path, &meta, is_system);
            true
        })
    }

    fn hook_known(&mut self, ebpf: &mut Ebpf, path: &Path, meta: &Metadata, is_system: bool) {
        let id = (meta.dev(), meta.ino());
        if self.hooked.contains_key(&id) {
            self.used.insert(id);
            return;
        }
        if self.tried.len() >= KNOWN_MAX {
            self.tried.clear();
        }
        // Beyond the bound it is tried when others have been let go.
        if self.hooked.len() >= HOOKED_MAX || !self.tried.insert((id, meta.ctime(), meta.ctime_nsec())) {
            return;
        }
        match self.attach(ebpf, path, id) {
            Ok(None) => {}
            Ok(Some(links)) => {
                self.hooked.insert(id, links);
                self.used.insert(id);
                tracing::debug!(path = %path.display(), "TLS library hooked");
            }
            Err(Refused { why, is_general }) => {
                // What is in the programs of others decides nothing for all.
                if self.hooked.is_empty() && (is_system || is_general) {
                    self.failure.get_or_insert(format!("{}: {why}", path.display()));
                } else {
                    tracing::warn!(path = %path.display(), "a TLS library cannot be hooked: {why}");
                }
            }
        }
    }

    /// Hooks a file's functions at entry and return; `None` if it has none, or is gone.
    fn attach(&mut self, ebpf: &mut Ebpf, path: &Path, id: FileId) -> Result<Option<Vec<Link>>, Refused> {
        let Some(file) = open(path, id) else { return Ok(None) };
        let Ok(offsets) = symbols::offsets(&file, FUNCTIONS) else { return Ok(None) };
        if offsets[0].is_none() {
            return Ok(None);
        }
        let points = offsets.into_iter().zip(COOKIES);
        let points: Vec<Point> =
            points.filter_map(|(at, cookie)| Some(Point { offset: at?, cookie })).collect();
        // This very file, whatever its path leads to by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        match &self.way {
            Way::Multi(programs) => {
                let path = CString::new(path).expect("digits and slashes");
                let links = programs.attach(&path, &points).map_err(|e| Refused {
                    is_general: why::is_refusal(&e),
                    why: why::of_call("uprobe_multi", &e),
                })?;
                Ok(Some(links.map(Link::Multi).into()))
            }
            Way::Single => {
                let places = points.iter().flat_map(|point| PROGRAMS.map(|name| (name, *point)));
                let hook = |(name, point)| single(ebpf, name, Path::new(&path), point).map(Link::Single);
                places.map(hook).collect::<Result<Vec<Link>, Refused>>().map(Some)
            }
        }
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
fn single(ebpf: &mut Ebpf, name: &str, path: &Path, point: Point) -> Result<UProbeLink, Refused> {
    let general = |why| Refused { why, is_general: true };
    let uprobe: &mut UProbe = program(ebpf, name).map_err(general)?;
    let location = UProbeAttachLocation::AbsoluteOffset(point.offset);
    let point = UProbeAttachPoint { location, cookie: Some(point.cookie) };
    let link = uprobe.attach(point, path, UProbeScope::AllProcesses);
    link.and_then(|id| uprobe.take_link(id))
        .map_err(|e| Refused { is_general: why::is_refusal(&e), why: why::of_program(&e, false) })
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

/// A library of a process.
#[derive(Debug, PartialEq, Eq)]
struct Library {
    /// By where it is mapped: this very file, even if it was removed or replaced since.
    mapped: PathBuf,
    /// By its name, for kernels that do not let it be reached so.
    named: PathBuf,
}

/// The OpenSSL libraries that a process has mapped, each once.
fn mapped_libraries(dir: &Path) -> Vec<Library> {
    let maps = std::fs::read(dir.join("maps")).unwrap_or_default();
    libraries_in(dir, &String::from_utf8_lossy(&maps))
}

/// The same in what is read there: range, rights, offset, device, inode, and, after some room, the name (proc(5)).
fn libraries_in(dir: &Path, maps: &str) -> Vec<Library> {
    let (mut libraries, mut seen) = (Vec::new(), HashSet::new());
    for line in maps.lines() {
        let fields: Vec<&str> = line.splitn(6, ' ').collect();
        let [range, _, _, device, inode, name] = fields[..] else { continue };
        let name = name.trim_start();
        if !name.rsplit('/').next().is_some_and(is_library) || !seen.insert((device, inode)) {
            continue;
        }
        // The same range is written without zeros before it there.
        let trimmed: Vec<&str> = range.split('-').map(|end| end.trim_start_matches('0')).collect();
        libraries.push(Library {
            mapped: dir.join("map_files").join(trimmed.join("-")),
            named: dir.join("root").join(name.trim_start_matches('/')),
        });
    }
    libraries
}
