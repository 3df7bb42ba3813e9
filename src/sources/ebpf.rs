//! The `ebpf` source: TCP connections, HTTP/1 exchanges and output lines as the kernel sees them, without touching the
//! programs. It reads a ring buffer on its own thread; while the pipeline is full the kernel drops, and counts.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::base::units::ByteCount;
use crate::batch::Origin;
use crate::config::{choices, options};
use crate::flow::{BuildCx, Component, Fault, Outlet, Placement, Source, TaskCx};
use crate::trace::settings::{Capture, Peer, Scope, Settings, Tracing};

choices! {
    /// What is captured.
    pub enum CaptureOption {
        /// TCP connections: opened, accepted, closed, failed.
        Tcp = "tcp",
        /// HTTP/1 exchanges on plain connections.
        Http = "http",
        /// HTTP/1 exchanges within OpenSSL's TLS connections; needs uprobes.
        Tls = "tls",
        /// Lines that the processes in `scope` write to standard output and error.
        Stdio = "stdio",
    }
}

options! {
    /// Of whom it is captured. A process must match every list that is not empty.
    pub struct ScopeOptions {
        /// Numbers of processes, as the host sees them.
        pub pid: Vec<u32> = Vec::new(),
        /// Names of processes, as in `/proc/PID/comm`: at most 15 bytes.
        pub comm: Vec<String> = Vec::new(),
        /// Ports, at either end of a connection.
        pub port: Vec<u16> = Vec::new(),
        /// Cgroups of the unified hierarchy, as paths from its root (`/system.slice/nginx.service`); those below them count, too.
        pub cgroup: Vec<String> = Vec::new(),
        /// Containers, by their ids or the beginnings of them.
        pub container: Vec<String> = Vec::new(),
    }
}

options! {
    /// Options of the `ebpf` source.
    pub struct EbpfOptions {
        /// What is captured.
        pub capture: Vec<CaptureOption> = vec![CaptureOption::Tcp, CaptureOption::Http],
        /// Of whom it is captured; everybody if nothing is said. `stdio` needs to be told whom.
        pub scope: ScopeOptions = crate::config::defaults(),
        /// Peers whose connections are left out, in the kernel: `"10.0.0.1"`, `"10.0.0.1:443"` or `":443"`.
        pub exclude_peers: Vec<String> = Vec::new(),
        /// Writes the query strings of requests, which may hold secrets.
        pub query_strings: bool = false,
        /// Goes on without what is not possible here, with a warning, instead of failing.
        pub optional: bool = false,
        /// Size of the ring buffer between kernel and weir; rounded up to a power of two.
        #[range(ByteCount::kib(4)..=ByteCount::mib(512))]
        pub ring_size: ByteCount = ByteCount::mib(8),
        /// Longest captured line; longer ones are cut.
        #[range(ByteCount(64)..=ByteCount::mib(1))]
        pub max_line_size: ByteCount = ByteCount::kib(64),
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct EbpfSource(Tracing);

/// Why this binary has no loader, and what to do about it.
pub const ABSENT: Option<&str> = if cfg!(ebpf_object) {
    None
} else if cfg!(feature = "ebpf") {
    Some("this binary was built without clang: install clang and build again with `--features ebpf`")
} else {
    Some("not in this build: build with `--features ebpf` (needs clang)")
};

impl Component for EbpfSource {
    const NAME: &'static str = "ebpf";
    const SUMMARY: &'static str =
        "TCP connections, HTTP exchanges and output lines, seen by the Linux kernel";
    const EXAMPLE: &'static str =
        "type = \"ebpf\"\ncapture = [\"tcp\", \"http\"]\nscope = { port = [80, 8080] }\noptional = true\n";
    const PLACEMENT: Placement = Placement::Thread;
    const ABSENT: Option<&'static str> = ABSENT;
    type Options = EbpfOptions;

    fn build(options: EbpfOptions, cx: &mut BuildCx<'_>) -> Option<EbpfSource> {
        if let Some(why) = ABSENT {
            cx.warning("type", format!("the `ebpf` source cannot run: {why}"));
        }
        let has = |wanted: CaptureOption| options.capture.contains(&wanted);
        let capture = Capture {
            tcp: has(CaptureOption::Tcp),
            http: has(CaptureOption::Http),
            tls: has(CaptureOption::Tls),
            stdio: has(CaptureOption::Stdio),
        };
        if options.capture.is_empty() {
            cx.error("capture", "nothing is to be captured")
                .hint("add \"tcp\", \"http\", \"tls\" or \"stdio\"");
            return None;
        }
        let scope = scope(&options, cx)?;
        let is_open = scope.pids.is_empty() && scope.comms.is_empty() && scope.cgroups.is_empty();
        if capture.stdio && is_open && scope.containers.is_empty() {
            cx.error("capture", "\"stdio\" of every process would be too much")
                .hint("say whose with `scope`: pid, comm, cgroup or container");
            return None;
        }
        let ring_bytes = u32::try_from(options.ring_size.as_usize().next_power_of_two()).unwrap_or(1 << 29);
        let origin = Arc::new(Origin::new(&cx.site.id(), Self::NAME));
        Some(EbpfSource(Tracing {
            settings: Settings { capture, scope, ring_bytes, without: Vec::new() },
            query: options.query_strings,
            optional: options.optional,
            line_max: options.max_line_size.as_usize(),
            origin,
        }))
    }
}

/// The scope and the peers that are left out, or `None` after complaints.
fn scope(options: &EbpfOptions, cx: &mut BuildCx<'_>) -> Option<Scope> {
    let mut excluded = Vec::new();
    for (index, text) in options.exclude_peers.iter().enumerate() {
        match Peer::parse(text) {
            Ok(peer) => excluded.push(peer),
            Err(why) => drop(cx.error_at("exclude_peers", index, why)),
        }
    }
    let listed = &options.scope;
    let is_id = |id: &String| id.len() >= 6 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if let Some(id) = listed.container.iter().find(|id| !is_id(id)) {
        cx.error("scope", format!("{id:?} is not a container's id: at least six of its digits are needed"));
        return None;
    }
    if let Some(comm) = listed.comm.iter().find(|comm| comm.is_empty() || comm.len() > 15) {
        cx.error("scope", format!("{comm:?} is not a process's name: those have 1 to 15 bytes"));
        return None;
    }
    let most = [listed.pid.len(), excluded.len()].into_iter().max().unwrap_or(0);
    if most > 1024 || listed.comm.len().max(listed.port.len()).max(listed.cgroup.len()) > 256 {
        cx.error("scope", "a list is too long: 1024 pids and peers, 256 of the others are allowed");
        return None;
    }
    let complete = excluded.len() == options.exclude_peers.len();
    complete.then(|| Scope {
        pids: listed.pid.clone(),
        comms: listed.comm.clone(),
        ports: listed.port.clone(),
        cgroups: listed.cgroup.iter().map(PathBuf::from).collect(),
        containers: listed.container.clone(),
        excluded,
    })
}

#[cfg(not(ebpf_object))]
#[async_trait]
impl Source for EbpfSource {
    async fn run(&mut self, _: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        let why = ABSENT.unwrap_or("not in this build");
        if !self.0.optional {
            return Err(Fault::fatal(why));
        }
        tracing::warn!(component = %cx.site.id(), "nothing is traced: {why}");
        cx.ready();
        cx.shutdown.draining().await;
        Ok(())
    }
}

#[cfg(ebpf_object)]
#[async_trait]
impl Source for EbpfSource {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        self.0.run(out, cx).await
    }
}
