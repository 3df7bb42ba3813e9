//! What is captured, of whom, and how it went: the settings of the tracing and the state of its hooks. These are there
//! in every build; the loader itself only with the feature `ebpf`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// What is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capture {
    /// Connections that open, close and fail.
    pub tcp: bool,
    /// HTTP/1 exchanges on plain connections.
    pub http: bool,
    /// HTTP/1 exchanges within OpenSSL's connections.
    pub tls: bool,
    /// Lines written to standard output and error.
    pub stdio: bool,
}

/// A peer that is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address; any if `None`.
    pub address: Option<IpAddr>,
    /// Its port; any if `None`.
    pub port: Option<u16>,
}

impl Peer {
    /// Parses `10.0.0.1`, `10.0.0.1:80`, `[::1]:80`, `::1` or `:80`. Errors say what is wrong.
    pub fn parse(text: &str) -> Result<Peer, String> {
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        if let Some(port) = text.strip_prefix(':').and_then(port) {
            return Ok(Peer { address: None, port: Some(port) });
        }
        if let Ok(address) = text.parse() {
            return Ok(Peer { address: Some(address), port: None });
        }
        let wrong = || format!("{text:?} is not an address, an address with a port, or `:PORT`");
        let socket = text.parse::<std::net::SocketAddr>().map_err(|_| wrong())?;
        Ok(Peer {
            address: Some(socket.ip()),
            port: Some(port(&socket.port().to_string()).ok_or_else(wrong)?),
        })
    }
}

/// Of whom it is captured: a process must match every list that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Processes, by their numbers in the initial pid namespace.
    pub pids: Vec<u32>,
    /// Names of processes' main threads.
    pub comms: Vec<String>,
    /// Ports at either end of a connection.
    pub ports: Vec<u16>,
    /// Directories of cgroups in the unified hierarchy; those below them count, too.
    pub cgroups: Vec<PathBuf>,
    /// Containers, by their ids or the beginnings of them. The kernel does not know these: it is told which groups of
    /// processes are foreign when their first events come.
    pub containers: Vec<String>,
    /// Peers that are left out.
    pub excluded: Vec<Peer>,
}

impl Scope {
    /// Whether processes of a container, or of none, are wanted.
    pub fn wants_container(&self, id: Option<&str>) -> bool {
        self.containers.is_empty()
            || id.is_some_and(|id| self.containers.iter().any(|wanted| id.starts_with(wanted.as_str())))
    }
}

/// The settings of a tracing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What.
    pub capture: Capture,
    /// Of whom.
    pub scope: Scope,
    /// Bytes of the ring buffer: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Programs to do without, as on a kernel that lacks what they hook; `uprobe_multi` is the better way to hook TLS.
    pub without: Vec<&'static str>,
}

/// A tracing as it was configured.
#[derive(Debug, Clone)]
#[cfg_attr(not(ebpf_object), allow(dead_code, reason = "only the loader uses all of it"))]
pub struct Tracing {
    /// What is captured of whom.
    pub settings: Settings,
    /// Whether the queries of requests are told.
    pub query: bool,
    /// Whether it goes on without what is not possible.
    pub optional: bool,
    /// Most bytes of a captured line.
    pub line_max: usize,
    /// Where its rows say they come from.
    pub origin: std::sync::Arc<crate::batch::Origin>,
}

/// How one hook is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookState {
    /// At work, by this kind of program.
    On(String),
    /// Not possible, and why.
    Off(String),
}

/// How all hooks that were asked for are; prints as one line: `tcp=on(tp_btf) tls=off(needs CAP_SYS_ADMIN)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks(pub Vec<(&'static str, HookState)>);

impl Hooks {
    /// Those that are not at work, and why.
    pub fn missing(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().filter_map(|(name, state)| match state {
            HookState::Off(why) => Some((*name, why.as_str())),
            HookState::On(_) => None,
        })
    }

    /// How the hook of that name is, if it was asked for.
    pub fn state(&self, name: &str) -> Option<&HookState> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, state)| state)
    }
}

impl fmt::Display for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (name, state)) in self.0.iter().enumerate() {
            let space = if n == 0 { "" } else { " " };
            match state {
                HookState::On(how) => write!(f, "{space}{name}=on({how})")?,
                HookState::Off(why) => write!(f, "{space}{name}=off({why})")?,
            }
        }
        Ok(())
    }
}

/// What the programs counted since they were loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelCounts {
    /// Records that were to be handed over.
    pub tried: u64,
    /// Of them, those the ring had no room for.
    pub dropped: u64,
    /// Connections that began with the preface of HTTP/2.
    pub http2: u64,
    /// Calls whose data could not be read (io_uring, sendfile, memory that was paged out).
    pub unreadable: u64,
    /// Connections beyond the bound.
    pub untracked: u64,
    /// Plain text of TLS whose connection is not known.
    pub unlinked: u64,
    /// Connections and captured calls of containers that are not in the scope.
    pub left_out: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers() {
        let v4 = Some(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(Peer::parse("10.0.0.1"), Ok(Peer { address: v4, port: None }));
        assert_eq!(Peer::parse("10.0.0.1:80"), Ok(Peer { address: v4, port: Some(80) }));
        assert_eq!(Peer::parse(":80"), Ok(Peer { address: None, port: Some(80) }));
        assert_eq!(Peer::parse("[::1]:80").unwrap().port, Some(80));
        assert!(Peer::parse("::1").unwrap().address.is_some_and(|a| a.is_ipv6()));
        for bad in ["", ":", ":0", "localhost:80", "10.0.0.1:0", "10.0.0", "80"] {
            assert!(Peer::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn containers_by_the_beginnings_of_their_ids() {
        let scope = |ids: &[&str]| Scope {
            containers: ids.iter().map(|id| (*id).into()).collect(),
            ..Scope::default()
        };
        assert!(scope(&[]).wants_container(None) && scope(&[]).wants_container(Some("abc")));
        let two = scope(&["abc123", "def"]);
        assert!(two.wants_container(Some("abc12345")) && two.wants_container(Some("def")));
        assert!(!two.wants_container(Some("abc12")) && !two.wants_container(None));
    }

    #[test]
    fn hooks_are_one_line() {
        let off = HookState::Off("needs CAP_SYS_ADMIN".into());
        let hooks = Hooks(vec![("tcp", HookState::On("tp_btf".into())), ("tls", off)]);
        assert_eq!(hooks.to_string(), "tcp=on(tp_btf) tls=off(needs CAP_SYS_ADMIN)");
        assert_eq!(hooks.missing().collect::<Vec<_>>(), [("tls", "needs CAP_SYS_ADMIN")]);
    }
}
