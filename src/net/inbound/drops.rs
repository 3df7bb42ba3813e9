//! How many datagrams the kernel dropped because a UDP socket's buffer was full, read where Linux tells it: the last
//! column of `/proc/net/udp` and `/proc/net/udp6`, in the line with the socket's inode (proc(5)).

use std::fs;
use std::os::fd::AsFd;

/// Longest table that is read, in bytes: some ten thousand sockets.
const TABLE_BYTES_MAX: u64 = 4 << 20;

/// The kernel's count for one socket.
#[derive(Debug)]
pub struct UdpDrops {
    inode: u64,
    path: &'static str,
}

impl UdpDrops {
    /// The count of `socket`; `None` where there is no such table.
    pub fn of(socket: &impl AsFd, is_v6: bool) -> Option<UdpDrops> {
        let inode = rustix::fs::fstat(socket).ok()?.st_ino;
        let path = if is_v6 { "/proc/net/udp6" } else { "/proc/net/udp" };
        let drops = UdpDrops { inode, path };
        drops.total().map(|_| drops)
    }

    /// Datagrams dropped since the socket was made.
    pub fn total(&self) -> Option<u64> {
        use std::io::Read;
        let mut table = String::new();
        fs::File::open(self.path).ok()?.take(TABLE_BYTES_MAX).read_to_string(&mut table).ok()?;
        drops_in(&table, self.inode)
    }
}

fn drops_in(table: &str, inode: u64) -> Option<u64> {
    let inode = inode.to_string();
    let line = table.lines().skip(1).find(|line| line.split_ascii_whitespace().nth(9) == Some(&inode))?;
    line.split_ascii_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_with_the_inode_tells() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            1049: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 2001 2 0000000000000000 7\n\
            2001: 00000000:0202 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 3345 2 0000000000000000 12\n";
        assert_eq!(drops_in(table, 3345), Some(12));
        assert_eq!(drops_in(table, 2001), Some(7));
        assert_eq!(drops_in(table, 1), None);
        assert_eq!(drops_in("", 1), None);
    }

    #[test]
    fn a_socket_of_ours_is_in_the_table() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Some(drops) = UdpDrops::of(&socket, false) {
            assert_eq!(drops.total(), Some(0));
        } else {
            assert!(!std::path::Path::new("/proc/net/udp").exists());
        }
    }
}
