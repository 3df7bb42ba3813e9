//! The path of a cgroup by its id, for processes that are gone before `/proc` is read: the id is the group's file handle
//! in the unified hierarchy (open_by_handle_at(2)).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// `FILEID_KERNFS` (include/linux/exportfs.h): eight bytes, the id.
const KERNFS: i32 = 0xfe;

/// `struct file_handle` with such a handle.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: [u8; 8],
}

/// Where the unified hierarchy is mounted.
pub(super) fn root() -> &'static Path {
    let has_all = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    Path::new(if has_all { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/unified" })
}

/// The path of a group from the root of the unified hierarchy, as `/proc/PID/cgroup` has it. `None` if the group is gone,
/// the hierarchy is not mounted, or `CAP_DAC_READ_SEARCH` is missing.
pub fn cgroup_path(id: u64) -> Option<String> {
    let root = root();
    let mount = File::open(root).ok()?;
    let group = open(mount.as_fd(), id).ok()?;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", group.as_raw_fd())).ok()?;
    let below = path.strip_prefix(root).ok()?.to_str()?;
    // What is being removed is shown so.
    (!below.ends_with(" (deleted)")).then(|| format!("/{below}"))
}

#[expect(unsafe_code, reason = "a system call that the library has no wrapper for")]
fn open(mount: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    let handle = Handle { bytes: 8, kind: KERNFS, id: id.to_ne_bytes() };
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let call = libc::SYS_open_by_handle_at;
    // SAFETY: the handle is laid out as `struct file_handle` with the eight bytes that it says follow; the kernel only
    // reads it, and the borrowed descriptor is open for the whole call.
    let group = unsafe { libc::syscall(call, mount.as_raw_fd(), &raw const handle, flags) };
    let group = i32::try_from(group).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: a descriptor that the kernel has just made belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(group) })
}
