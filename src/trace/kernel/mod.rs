//! The programs in the kernel: loading them, hooking each on its own, and reading what they put into the ring. All of it
//! is undone when the [`Tracer`] is dropped.

mod attach;
mod cgroup_path;
mod libraries;
mod maps;
mod session;
mod uprobe_multi;
mod why;

use aya::{Btf, Ebpf, EbpfLoader};

pub use self::cgroup_path::cgroup_path;
use self::libraries::Libraries;
use self::maps::Maps;
pub use self::why::LoadError;
use super::settings::{HookState, Hooks, KernelCounts, Settings};

/// All programs, as `build.rs` compiled them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("WEIR_EBPF_OBJECT"));

/// The name of every program in the object.
pub const PROGRAMS: &[&str] = &[
    "conn_state",
    "conn_state_classic",
    "conn_accept",
    "conn_sent",
    "conn_received",
    "conn_accept_call",
    "http_sent",
    "http_received",
    "http_call",
    "http_call_classic",
    "ssl_enter",
    "ssl_exit",
    "stdio_written",
    "stdio_written_classic",
];

/// See the module.
pub struct Tracer {
    /// Before the programs, so that all hooks are removed at the same time.
    libraries: Option<Libraries>,
    ebpf: Ebpf,
    maps: Maps,
    hooks: Hooks,
    /// Records read.
    seen: u64,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tracer({})", self.hooks)
    }
}

impl Tracer {
    /// Loads and hooks what the settings ask for. A hook that is not possible is off, and says why.
    ///
    /// # Errors
    /// When nothing can be loaded at all: no type information, no capability, too old a kernel.
    pub fn start(settings: &Settings) -> Result<Tracer, LoadError> {
        let (mut ebpf, btf) = load(settings)?;
        maps::fill(&mut ebpf, &settings.scope)?;
        // While all maps are there.
        let tls = settings.capture.tls.then(|| Libraries::load(&mut ebpf, &btf, &settings.without));
        let maps = maps::take(&mut ebpf)?;
        let mut hooks = attach::all(&mut ebpf, &btf, settings);
        let mut libraries = None;
        if let Some(loaded) = tls {
            let hooked = loaded.and_then(|mut loaded| {
                loaded.scan(&mut ebpf, &settings.scope)?;
                Ok(libraries.insert(loaded).to_string())
            });
            hooks.0.push(("tls", hooked.map_or_else(HookState::Off, HookState::On)));
        }
        Ok(Tracer { libraries, ebpf, maps, hooks, seen: 0 })
    }

    /// How the hooks are.
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Hands up to `max` records to `each`, in the order of the ring; returns how many there were. Never waits.
    pub fn read(&mut self, max: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut n = 0;
        while n < max
            && let Some(record) = self.maps.ring.next()
        {
            each(&record);
            n += 1;
        }
        self.seen += n as u64;
        n
    }

    /// Records read so far.
    pub fn records_read(&self) -> u64 {
        self.seen
    }

    /// Looks for TLS libraries of processes that have come since; returns how many are new.
    ///
    /// # Errors
    /// Why nothing can be hooked any more.
    pub fn find_libraries(&mut self, settings: &Settings) -> Result<usize, String> {
        let Some(libraries) = &mut self.libraries else { return Ok(0) };
        let new = libraries.scan(&mut self.ebpf, &settings.scope)?;
        if let Some((_, state)) = self.hooks.0.iter_mut().find(|(name, _)| *name == "tls") {
            *state = HookState::On(libraries.to_string());
        }
        Ok(new)
    }

    /// Tells the programs that no process of a group ([`Owner::group`](super::records::Owner::group)) is wanted. They
    /// remember the 16,384 that were heard of last.
    ///
    /// # Errors
    /// What the kernel said. Then the group's events go on coming, and it can be told again.
    pub fn leave_out(&mut self, group: u64) -> Result<(), String> {
        self.maps.foreign_groups.insert(group, 1, 0).map_err(|e| e.to_string())
    }

    /// What the programs counted.
    pub fn counts(&self) -> KernelCounts {
        let sum = |index: u32| {
            let values = self.maps.counters.get(&index, 0);
            values.map_or(0, |values| values.iter().sum())
        };
        KernelCounts {
            tried: sum(0),
            dropped: sum(1),
            http2: sum(2),
            unreadable: sum(3),
            untracked: sum(4),
            unlinked: sum(5),
            left_out: sum(7),
        }
    }
}

/// Loads one program alone and unloads it again, for tests and diagnosis.
///
/// # Errors
/// What the kernel said, with the verifier's log if there is one.
pub fn try_program(name: &str) -> Result<(), String> {
    let settings = Settings {
        capture: super::settings::Capture { tcp: true, http: true, tls: true, stdio: true },
        scope: super::settings::Scope::default(),
        ring_bytes: 64 * 1024,
        without: Vec::new(),
    };
    let (mut ebpf, btf) = load(&settings).map_err(|e| e.to_string())?;
    attach::load_alone(&mut ebpf, &btf, name)
}

fn load(settings: &Settings) -> Result<(Ebpf, Btf), LoadError> {
    why::check_kernel()?;
    let btf = Btf::from_sys_fs().map_err(|e| LoadError::no_types(&e))?;
    let capture = settings.capture;
    let bit = |wanted: bool, bit: u32| if wanted { bit } else { 0 };
    let want = bit(capture.tcp, 1) | bit(capture.http, 2) | bit(capture.tls, 4) | bit(capture.stdio, 8);
    let scope = maps::scope_bits(&settings.scope);
    let cgroups_v1 = u32::from(maps::cgroups_v1());
    let (namespace, inner) = maps::own_identity()?;
    let ebpf = EbpfLoader::new()
        .btf(Some(&btf))
        .override_global("want", &want, true)
        .override_global("scope", &scope, true)
        .override_global("cgroups_v1", &cgroups_v1, true)
        .override_global("self_pid_namespace", &namespace, true)
        .override_global("self_pid_inner", &inner, true)
        .map_max_entries("ring", settings.ring_bytes)
        .map_max_entries("foreign_groups", maps::foreign_groups(&settings.scope))
        .load(OBJECT)
        .map_err(|e| LoadError::of(&e))?;
    Ok((ebpf, btf))
}
