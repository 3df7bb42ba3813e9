//! The `ebpf` source: TCP connections, HTTP/1 exchanges and output lines as the kernel sees them, without touching the
//! programs. It reads a ring buffer on its own thread; while the pipeline is full the kernel drops, and counts.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::base::units::ByteCount;
use crate::batch::Origin;
use crate::config::{choices, options};
use crate::flow::{BuildCx, Component, Fault, Outlet, Placement, Source, TaskCx};
use crate::trace::settings::{Capture, Peer, Scope, Settings};

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
#[cfg_attr(not(ebpf_object), expect(dead_code, reason = "what is configured is used by the loader only"))]
pub struct EbpfSource {
    settings: Settings,
    containers: Vec<String>,
    query: bool,
    optional: bool,
    line_max: usize,
    origin: Arc<Origin>,
}

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
        if capture.stdio && is_open && options.scope.container.is_empty() {
            cx.error("capture", "\"stdio\" of every process would be too much")
                .hint("say whose with `scope`: pid, comm, cgroup or container");
            return None;
        }
        let ring_bytes = u32::try_from(options.ring_size.as_usize().next_power_of_two()).unwrap_or(1 << 29);
        let origin = Arc::new(Origin::new(&cx.site.id(), Self::NAME));
        Some(EbpfSource {
            settings: Settings { capture, scope, ring_bytes, without: Vec::new() },
            containers: options.scope.container,
            query: options.query_strings,
            optional: options.optional,
            line_max: options.max_line_size.as_usize(),
            origin,
        })
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
        excluded,
    })
}

#[cfg(not(ebpf_object))]
#[async_trait]
impl Source for EbpfSource {
    async fn run(&mut self, _: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        let why = ABSENT.unwrap_or("not in this build");
        if !self.optional {
            return Err(Fault::fatal(why));
        }
        tracing::warn!(component = %cx.site.id(), "nothing is traced: {why}");
        cx.ready();
        cx.shutdown.draining().await;
        Ok(())
    }
}

#[cfg(ebpf_object)]
mod running {
    //! The part that needs the loader.

    use std::time::Duration;

    use super::*;
    use crate::base::clock;
    use crate::batch::{BatchBuilder, Receipt};
    use crate::flow::Reason;
    use crate::trace::activity::Activity;
    use crate::trace::event::{Process, TraceEvent};
    use crate::trace::http::pairing::{Pairing, Wanted};
    use crate::trace::kernel::Tracer;
    use crate::trace::records::Record;
    use crate::trace::row;

    /// Time between two looks at the ring, while there is something and while there is not.
    const BEAT_BUSY: Duration = Duration::from_millis(5);
    const BEAT_IDLE: Duration = Duration::from_millis(25);
    /// Most records between two batches.
    const RECORDS_MAX: usize = 2000;
    /// Time between two looks at counters, new processes, and what waits.
    const ROUND: Duration = Duration::from_millis(500);

    struct Work<'a> {
        source: &'a EbpfSource,
        tracer: Tracer,
        pairing: Pairing,
        events: Vec<TraceEvent>,
        dropped: u64,
        malformed: u64,
        warned: bool,
    }

    #[async_trait]
    impl Source for EbpfSource {
        async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
            let Some(tracer) = self.start(cx)? else {
                cx.ready();
                cx.shutdown.draining().await;
                return Ok(());
            };
            let wanted = Wanted { tcp: self.settings.capture.tcp, query: self.query };
            let pairing = Pairing::new(wanted, std::path::Path::new("/proc"), self.line_max);
            let mut work = Work {
                source: self,
                tracer,
                pairing,
                events: Vec::new(),
                dropped: 0,
                malformed: 0,
                warned: false,
            };
            cx.ready();
            let mut next_round = clock::now() + ROUND;
            while !cx.shutdown.is_draining() {
                let read = work.read();
                if clock::now() >= next_round {
                    work.round(out, cx);
                    next_round = clock::now() + ROUND;
                }
                work.send(out).await;
                if read == RECORDS_MAX {
                    continue;
                }
                let beat = if read > 0 { BEAT_BUSY } else { BEAT_IDLE };
                tokio::select! {
                    () = tokio::time::sleep(beat) => {}
                    () = cx.shutdown.draining() => {}
                }
            }
            work.finish(out, cx).await;
            Ok(())
        }
    }

    impl EbpfSource {
        /// Loads the programs; `None` if that is not possible and need not be.
        fn start(&self, cx: &TaskCx) -> Result<Option<Tracer>, Fault> {
            let mut settings = self.settings.clone();
            for cgroup in &mut settings.scope.cgroups {
                *cgroup = cgroup_dir(cgroup);
            }
            let tracer = match Tracer::start(&settings) {
                Ok(tracer) => tracer,
                Err(why) if self.optional => {
                    tracing::warn!(component = %cx.site.id(), "nothing is traced: {why}");
                    return Ok(None);
                }
                Err(why) => return Err(Fault::fatal(why.to_string())),
            };
            let missing: Vec<String> =
                tracer.hooks().missing().map(|(hook, why)| format!("{hook}: {why}")).collect();
            tracing::info!(component = %cx.site.id(), "hooks: {}", tracer.hooks());
            if !missing.is_empty() {
                let hint = crate::trace::capability::hint_for(&missing.join(" "));
                let why = format!("not everything can be traced: {}{hint}", missing.join(", "));
                if !self.optional {
                    return Err(Fault::fatal(format!("{why} (hooks: {})", tracer.hooks())));
                }
                tracing::warn!(component = %cx.site.id(), "{why} (hooks: {})", tracer.hooks());
            }
            Ok(Some(tracer))
        }
    }

    impl Work<'_> {
        /// Takes what waits in the ring, up to a bound; returns how many records.
        fn read(&mut self) -> usize {
            let wall = clock::unix_nanos();
            let monotonic = monotonic_ns();
            self.pairing.set_wall_offset(wall.saturating_sub(i64::try_from(monotonic).unwrap_or(i64::MAX)));
            let Work { tracer, pairing, events, malformed, .. } = self;
            tracer.read(RECORDS_MAX, |bytes| match Record::parse(bytes) {
                Ok(record) => pairing.record(&record, events),
                Err(_) => *malformed += 1,
            })
        }

        /// What is done from time to time.
        fn round(&mut self, out: &Outlet, cx: &TaskCx) {
            self.pairing.tick(monotonic_ns(), &mut self.events);
            self.count_drops(out, cx);
            match self.tracer.find_libraries(&self.source.settings) {
                Ok(0) => {}
                Ok(_) => tracing::info!(component = %cx.site.id(), "hooks: {}", self.tracer.hooks()),
                Err(why) => {
                    if !std::mem::replace(&mut self.warned, true) {
                        tracing::warn!(component = %cx.site.id(), "a TLS library cannot be hooked: {why}");
                    }
                }
            }
        }

        /// The programs count what the ring had no room for; here it becomes part of the account.
        fn count_drops(&mut self, out: &Outlet, cx: &TaskCx) {
            let total = self.tracer.counts().dropped + self.malformed;
            let new = total.saturating_sub(self.dropped);
            if new > 0 {
                self.dropped = total;
                self.pairing.records_were_lost();
                out.meter().received(new, 0);
                out.meter().dropped(Reason::RingBuffer, new);
                tracing::debug!(component = %cx.site.id(), records = new, "the ring buffer was full");
            }
        }

        async fn send(&mut self, out: &Outlet) {
            let mut batch = BatchBuilder::new(self.source.origin.clone());
            for event in self.events.drain(..) {
                Activity::shared().observe(&event);
                if self.source.is_wanted(&event) {
                    batch_row(&mut batch, &event);
                }
            }
            if !batch.is_empty() {
                out.send(batch.finish(Receipt::none())).await;
            }
        }

        async fn finish(mut self, out: &Outlet, cx: &TaskCx) {
            self.read();
            self.pairing.finish(monotonic_ns(), &mut self.events);
            self.count_drops(out, cx);
            self.send(out).await;
            let (kernel, pairing) = (self.tracer.counts(), self.pairing.counts());
            tracing::debug!(component = %cx.site.id(), ?kernel, ?pairing, "tracing ends");
        }
    }

    impl EbpfSource {
        /// Containers are known by paths that the kernel's programs do not see.
        fn is_wanted(&self, event: &TraceEvent) -> bool {
            let process: &Process = match event {
                TraceEvent::Connection(event) => &event.connection.process,
                TraceEvent::Exchange(exchange) => &exchange.request.connection.process,
                TraceEvent::Request(request) => &request.connection.process,
                TraceEvent::Line(line) => &line.process,
            };
            let id = process.container.as_deref();
            self.containers.is_empty()
                || id.is_some_and(|id| self.containers.iter().any(|wanted| id.starts_with(wanted.as_str())))
        }
    }

    fn batch_row(batch: &mut BatchBuilder, event: &TraceEvent) {
        if !matches!(event, TraceEvent::Request(_)) {
            batch.push_with(|out| {
                row::write(event, out);
            });
        }
    }

    fn monotonic_ns() -> u64 {
        clock::monotonic_micros().saturating_mul(1000)
    }

    /// The directory of a cgroup that is given by its path from the hierarchy's root.
    fn cgroup_dir(path: &std::path::Path) -> PathBuf {
        let root = match std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            true => "/sys/fs/cgroup",
            false => "/sys/fs/cgroup/unified",
        };
        match path.starts_with(root) {
            true => path.to_owned(),
            false => std::path::Path::new(root).join(path.strip_prefix("/").unwrap_or(path)),
        }
    }
}
