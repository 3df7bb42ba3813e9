//! The file of a Unix socket: made with its permissions before anybody can connect, put in the place of one that
//! nobody listens on any more, never of anything else, and removed at the end if it is still ours.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

/// Connections that may wait to be accepted; the kernel's own bound applies, too.
const BACKLOG: i32 = 4096;

/// A bound Unix socket. Dropped, it removes its file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode of the file.
    identity: (u64, u64),
}

impl SocketFile {
    /// Binds a socket of `kind` (stream sockets listen then) at `path`, to which the bits `permissions` give access.
    ///
    /// # Errors
    /// With the path and a hint: somebody listens there, something else is in the way, or what the system says.
    pub fn bind(path: &Path, kind: SocketType, permissions: u32) -> io::Result<(OwnedFd, SocketFile)> {
        bind_at(path, kind, permissions).map_err(|e| {
            let hint = match e.kind() {
                io::ErrorKind::NotFound => "; hint: the directory must be there",
                io::ErrorKind::PermissionDenied => "; hint: weir must be able to write to the directory",
                _ => "",
            };
            io::Error::new(e.kind(), format!("cannot listen on {}: {e}{hint}", path.display()))
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity);
        if ours {
            // Whoever finds the file left behind replaces it.
            fs::remove_file(&self.path).ok();
        }
    }
}

fn bind_at(path: &Path, kind: SocketType, permissions: u32) -> io::Result<(OwnedFd, SocketFile)> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
    match bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(path, kind, &address)?;
            bind(&socket, &address)?;
        }
        bound => bound?,
    }
    // Before `listen`, nobody can connect.
    fs::set_permissions(path, fs::Permissions::from_mode(permissions))?;
    let made = fs::symlink_metadata(path)?;
    if kind == SocketType::STREAM {
        listen(&socket, BACKLOG)?;
    }
    Ok((socket, SocketFile { path: path.to_owned(), identity: (made.dev(), made.ino()) }))
}

/// Removes a socket's file on which nobody listens.
fn remove_stale(path: &Path, kind: SocketType, address: &SocketAddrUnix) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is there; hint: choose another path",
        ));
    }
    let probe = socket_with(AddressFamily::UNIX, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    match connect(&probe, address) {
        Err(Errno::CONNREFUSED) => match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        },
        Err(Errno::NOENT) => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "somebody listens there; hint: another process uses the socket, choose another path",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    #[test]
    fn the_file_has_its_permissions_and_goes_with_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (_socket, file) = SocketFile::bind(&path, SocketType::STREAM, 0o620).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        for kind in [SocketType::STREAM, SocketType::DGRAM] {
            let path = dir.path().join(format!("{kind:?}"));
            let live = UnixListener::bind(&path).unwrap();
            let refused = SocketFile::bind(&path, kind, 0o600).unwrap_err();
            assert!(refused.to_string().contains("somebody listens there"), "{refused}");
            drop(live);
            let (_socket, file) = SocketFile::bind(&path, kind, 0o600).unwrap();
            // Replaced by somebody else meanwhile: not ours to remove.
            fs::remove_file(&path).unwrap();
            let _other = UnixDatagram::bind(&path).unwrap();
            drop(file);
            assert!(path.exists());
        }
    }

    #[test]
    fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        fs::write(&path, "precious").unwrap();
        let refused = SocketFile::bind(&path, SocketType::STREAM, 0o600).unwrap_err();
        assert!(refused.to_string().contains("a file that is no socket is there"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let nowhere = dir.path().join("no/such/s");
        let refused = SocketFile::bind(&nowhere, SocketType::STREAM, 0o600).unwrap_err();
        assert!(refused.to_string().contains("hint: the directory must be there"), "{refused}");
        let long = dir.path().join("x".repeat(200));
        assert!(SocketFile::bind(&long, SocketType::STREAM, 0o600).is_err());
    }
}
