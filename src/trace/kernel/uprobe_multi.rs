//! Uprobes on many functions of a file in one go (`BPF_TRACE_UPROBE_MULTI`, Linux 6.6): one link for all entries, one
//! for all returns. The kernel removes perf's uprobes one after the other under one lock, waiting for every CPU several
//! times each; these it removes with one wait. aya 0.14 has no such links, hence the two bpf(2) calls here.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use aya::maps::{Map, MapData};
use aya::programs::ProgramError;
use aya::{Btf, Ebpf};
use aya_obj::generated::{BPF_F_UPROBE_MULTI_RETURN, bpf_attach_type, bpf_cmd, bpf_prog_type};
use aya_obj::{Function, Object, VerifierLog};

/// Most bytes of the verifier's log.
const LOG_SIZE: usize = 1 << 20;

/// Where a file is hooked: an offset in it, and what the program at entries is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub offset: u64,
    pub cookie: u64,
}

/// The programs at the entries and at the returns of functions, loaded for this kind of link.
#[derive(Debug)]
pub(super) struct UprobeMulti {
    enter: OwnedFd,
    exit: OwnedFd,
}

impl UprobeMulti {
    /// Loads two programs of the object for this kind of link, with the maps that its other programs have.
    ///
    /// # Errors
    /// What the kernel said, with the verifier's log.
    pub(super) fn load(
        ebpf: &Ebpf,
        btf: &Btf,
        [enter, exit]: [&str; 2],
    ) -> Result<UprobeMulti, ProgramError> {
        let object = linked(ebpf, btf).map_err(|why| refused(io::Error::other(why), String::new()))?;
        let load = |name: &str| {
            let program = object.programs.get(name).ok_or(ProgramError::UnexpectedProgramType)?;
            let function = object.functions.get(&program.function_key());
            load(function.ok_or(ProgramError::UnexpectedProgramType)?, &program.license)
        };
        Ok(UprobeMulti { enter: load(enter)?, exit: load(exit)? })
    }

    /// Whether the kernel has such links: then it says that a directory cannot be hooked, else that it does not know
    /// what this is. Nothing is hooked.
    pub(super) fn is_possible(&self) -> bool {
        let refused = link(&self.enter, c"/", &[Point { offset: 0, cookie: 0 }], 0);
        refused.is_err_and(|e| e.raw_os_error() == Some(libc::EBADF))
    }

    /// Hooks entry and return of functions in a file, for all processes; the links hold as long as they are open.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn attach(&self, path: &CStr, points: &[Point]) -> io::Result<[OwnedFd; 2]> {
        // A return without its entry is passed over, an entry without a return would stay.
        let exit = link(&self.exit, path, points, BPF_F_UPROBE_MULTI_RETURN)?;
        Ok([link(&self.enter, path, points, 0)?, exit])
    }
}

/// The object once more, with the addresses of this kernel's types and the maps that are there already.
fn linked(ebpf: &Ebpf, btf: &Btf) -> Result<Object, String> {
    let mut object = Object::parse(super::OBJECT).map_err(|e| e.to_string())?;
    object.relocate_btf(btf).map_err(|e| e.to_string())?;
    let definitions = std::mem::take(&mut object.maps);
    let maps = ebpf.maps().filter_map(|(name, map)| Some((name, descriptor(map)?, definitions.get(name)?)));
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_maps(maps, &sections).map_err(|e| e.to_string())?;
    object.relocate_calls(&sections).map_err(|e| e.to_string())?;
    Ok(object)
}

/// The descriptor of a map of the kinds that the programs have.
fn descriptor(map: &Map) -> Option<RawFd> {
    let of = |map: &MapData| map.fd().as_fd().as_raw_fd();
    match map {
        Map::Array(map)
        | Map::PerCpuArray(map)
        | Map::HashMap(map)
        | Map::LruHashMap(map)
        | Map::RingBuf(map) => Some(of(map)),
        _ => None,
    }
}

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` that is used.
#[repr(C)]
struct LoadCall {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// The same for `BPF_LINK_CREATE`, with `uprobe_multi`.
#[repr(C)]
struct LinkCall {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    counters: u64,
    cookies: u64,
    count: u32,
    multi_flags: u32,
    pid: u32,
    pad: u32,
}

/// Loads a program; if that fails, once more, for the verifier's reasons.
fn load(function: &Function, license: &CStr) -> Result<OwnedFd, ProgramError> {
    let mut call = LoadCall {
        kind: bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32,
        instruction_count: u32::try_from(function.instructions.len()).unwrap_or(u32::MAX),
        instructions: function.instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
        interface: 0,
        attach_type: bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
    };
    // The kernel keeps 15 bytes and a zero.
    call.name.iter_mut().zip(function.name.bytes().take(15)).for_each(|(to, from)| *to = from);
    if let Ok(program) = bpf(bpf_cmd::BPF_PROG_LOAD, &call) {
        return Ok(program);
    }
    let mut log = vec![0_u8; LOG_SIZE];
    (call.log_level, call.log_size, call.log) = (1, LOG_SIZE as u32, log.as_mut_ptr() as u64);
    bpf(bpf_cmd::BPF_PROG_LOAD, &call).map_err(|e| {
        let said = CStr::from_bytes_until_nul(&log).map(|text| text.to_string_lossy().into_owned());
        refused(e, said.unwrap_or_default())
    })
}

fn link(program: &OwnedFd, path: &CStr, points: &[Point], flags: u32) -> io::Result<OwnedFd> {
    let (offsets, cookies): (Vec<u64>, Vec<u64>) = points.iter().map(|p| (p.offset, p.cookie)).unzip();
    let call = LinkCall {
        program: program.as_raw_fd().cast_unsigned(),
        target: 0,
        attach_type: bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
        flags: 0,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        counters: 0,
        cookies: cookies.as_ptr() as u64,
        count: u32::try_from(points.len()).unwrap_or(0),
        multi_flags: flags,
        pid: 0,
        pad: 0,
    };
    bpf(bpf_cmd::BPF_LINK_CREATE, &call)
}

fn refused(io_error: io::Error, said: String) -> ProgramError {
    ProgramError::LoadError { io_error, verifier_log: VerifierLog::new(said) }
}

/// bpf(2) for the two commands that make a descriptor.
#[expect(unsafe_code, reason = "a system call that no library here has a wrapper for")]
fn bpf<Call>(command: bpf_cmd, call: &Call) -> io::Result<OwnedFd> {
    // SAFETY: `call` begins as `union bpf_attr` does for the command, and its size goes with it. The addresses in it are
    // of buffers that the caller holds until this returns, with their lengths beside them; the kernel writes to the log
    // only, which is a buffer of its own.
    let made = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, call, size_of::<Call>()) };
    let made = RawFd::try_from(made).ok().filter(|made| *made >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: a descriptor that the kernel has just made belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}
