//! Makes a Unix socket that nobody but its owner reaches, in place of one that a dead process has left and never of
//! one that lives; and connects to one. Paths longer than the system's 107 bytes are reached by way of their directory.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

/// Longest path in a socket's address: `sun_path` has 108 bytes, one of them a NUL.
const PATH_BYTES_MAX: usize = 107;
/// Clients that may wait to be accepted.
const BACKLOG: i32 = 64;

/// A control socket. Dropped, its file is removed if it is still this one.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
}

impl ControlSocket {
    /// Binds `path` with mode 0600. Its directory is made, with mode 0700, if it is not there.
    ///
    /// # Errors
    /// `AddrInUse` when another process listens there; `AlreadyExists` when something else lies there.
    pub fn bind(path: &Path) -> io::Result<ControlSocket> {
        let path = std::path::absolute(path)?;
        let (parent, name) = parts(&path)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&parent)?;
        let dir = File::open(&parent)?;
        // Of two that start at once, one looks, binds and renames before the other does. Given up with `dir`.
        flock(&dir, FlockOperation::LockExclusive)?;
        match fs::symlink_metadata(&path) {
            Ok(there) if !std::os::unix::fs::FileTypeExt::is_socket(&there.file_type()) => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is no socket"));
            }
            Ok(_) if is_alive(&path) => return Err(io::ErrorKind::AddrInUse.into()),
            _ => {}
        }
        let (listener, identity) = bind_private(&dir, &parent, &name, &path)?;
        Ok(ControlSocket { listener, path, identity })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The socket itself, to accept on; it does not block.
    ///
    /// # Errors
    /// When the process may open nothing more.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // While nobody can put another one there; where the directory is gone, so is the socket.
        let locked = parts(&self.path).and_then(|(parent, _)| {
            let dir = File::open(parent)?;
            flock(&dir, FlockOperation::LockExclusive)?;
            Ok(dir)
        });
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity);
        if locked.is_ok() && ours {
            fs::remove_file(&self.path).ok();
        }
    }
}

fn parts(path: &Path) -> io::Result<(PathBuf, std::ffi::OsString)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent.to_owned(), name.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no file")),
    }
}

/// Binds under another name, restricts it, listens, and only then gives it its name: from the first moment that a
/// connection can be made, only the owner can make it.
fn bind_private(
    dir: &File,
    parent: &Path,
    name: &std::ffi::OsStr,
    path: &Path,
) -> io::Result<(UnixListener, (u64, u64))> {
    let mut first_name = std::ffi::OsString::from(".");
    first_name.push(name);
    first_name.push(".new");
    let first = parent.join(&first_name);
    // Left by one that died just here.
    fs::remove_file(&first).ok();
    let made = || -> io::Result<_> {
        let socket = new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        bind(&socket, &address(&first, dir, &first_name)?)?;
        fs::set_permissions(&first, Permissions::from_mode(0o600))?;
        listen(&socket, BACKLOG)?;
        let meta = fs::symlink_metadata(&first)?;
        fs::rename(&first, path)?;
        Ok((UnixListener::from(socket), (meta.dev(), meta.ino())))
    };
    made().inspect_err(|_| {
        fs::remove_file(&first).ok();
    })
}

fn new_socket(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// The address of `path`, which lies in `dir` under `name`; by way of the open directory where it is too long.
fn address(path: &Path, dir: &File, name: &std::ffi::OsStr) -> io::Result<SocketAddrUnix> {
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return Ok(SocketAddrUnix::new(path)?);
    }
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    SocketAddrUnix::new(short)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the name is too long"))
}

/// Connects to the socket at `path`.
///
/// # Errors
/// What the system says: `ConnectionRefused` when the process that listened there is gone.
pub fn connect_to(path: &Path) -> io::Result<UnixStream> {
    connect_with(path, SocketFlags::CLOEXEC)
}

fn connect_with(path: &Path, flags: SocketFlags) -> io::Result<UnixStream> {
    let path = std::path::absolute(path)?;
    let (parent, name) = parts(&path)?;
    let socket = new_socket(flags)?;
    connect(&socket, &address(&path, &File::open(parent)?, &name)?)?;
    Ok(UnixStream::from(socket))
}

/// Whether somebody listens at `path`. One whose queue is full lives, and so does one that lets nobody in.
pub fn is_alive(path: &Path) -> bool {
    match connect_with(path, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(_) => true,
        Err(e) => !matches!(
            Errno::from_io_error(&e),
            Some(Errno::CONNREFUSED | Errno::NOENT | Errno::NOTSOCK | Errno::PROTOTYPE)
        ),
    }
}

/// Removes the sockets that dead processes have left in `dir`: those that end in `.sock` and refuse.
pub fn sweep(dir: &Path) {
    let Ok(open) = File::open(dir) else { return };
    if flock(&open, FlockOperation::NonBlockingLockExclusive).is_err() {
        // Somebody binds there, and sweeps as well.
        return;
    }
    let Ok(entries) = fs::read_dir(dir) else { return };
    let paths = entries.flatten().map(|entry| entry.path());
    for path in paths.filter(|path| path.extension().is_some_and(|e| e == "sock")) {
        let socket = fs::symlink_metadata(&path)
            .is_ok_and(|m| std::os::unix::fs::FileTypeExt::is_socket(&m.file_type()));
        if socket && !is_alive(&path) {
            fs::remove_file(&path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_the_owner_reaches_it_and_it_goes_when_it_is_dropped() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run/weir/1.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(is_alive(&path) && connect_to(&path).is_ok());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left there");
        drop(socket);
        assert!(!path.exists() && !is_alive(&path));
    }

    #[test]
    fn what_a_dead_process_left_is_replaced_and_what_lives_is_not() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists() && !is_alive(&path));
        let first = ControlSocket::bind(&path).unwrap();
        assert_eq!(ControlSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(is_alive(&path));
        // Another one took its place meanwhile: it is not the first one's to remove.
        fs::remove_file(&path).unwrap();
        let second = ControlSocket::bind(&path).unwrap();
        drop(first);
        assert!(is_alive(&path));
        drop(second);
        fs::write(&path, "precious").unwrap();
        assert_eq!(ControlSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn paths_of_any_length_are_reached() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("d".repeat(100)).join("e".repeat(60)).join("weir.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        assert!(is_alive(&path) && connect_to(&path).is_ok());
        assert_eq!(mode(&path), 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn sweeping_takes_dead_sockets_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        drop(UnixListener::bind(at("dead.sock")).unwrap());
        drop(UnixListener::bind(at("other")).unwrap());
        fs::write(at("file.sock"), "").unwrap();
        let alive = ControlSocket::bind(&at("alive.sock")).unwrap();
        sweep(root.path());
        assert!(!at("dead.sock").exists());
        assert!(at("other").exists() && at("file.sock").exists() && is_alive(alive.path()));
    }
}
