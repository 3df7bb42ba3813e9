//! A tracing as a source runs it: reading the ring by polls, pairing, handing rows over, counting what was dropped. The
//! kernel never waits for it: while the pipeline is full, the ring fills, and the programs count.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::clock;
use crate::batch::{BatchBuilder, Receipt};
use crate::flow::{Fault, Outlet, Reason, TaskCx};
use crate::trace::activity::Activity;
use crate::trace::event::{Process, TraceEvent};
use crate::trace::http::pairing::{Pairing, PairingCounts, Wanted};
use crate::trace::kernel::{Tracer, cgroup_path};
use crate::trace::records::Record;
use crate::trace::row;
use crate::trace::settings::{KernelCounts, Tracing};

/// Time between two looks at the ring, while there is something and while there is not.
const BEAT_BUSY: Duration = Duration::from_millis(5);
const BEAT_IDLE: Duration = Duration::from_millis(25);
/// Most records between two batches.
const RECORDS_MAX: usize = 2000;
/// Time between two looks at counters, new processes, and what waits.
const ROUND: Duration = Duration::from_millis(500);

struct Work<'a> {
    source: &'a Tracing,
    tracer: Tracer,
    pairing: Pairing,
    events: Vec<TraceEvent>,
    dropped: u64,
    malformed: u64,
    warned: bool,
}

impl Tracing {
    /// Traces until `cx.shutdown` drains; then everything is undone.
    ///
    /// # Errors
    /// When what is asked for is not possible, and not optional.
    pub async fn run(&self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        let Some(tracer) = self.start(cx)? else {
            cx.ready();
            cx.shutdown.draining().await;
            return Ok(());
        };
        let wanted = Wanted { tcp: self.settings.capture.tcp, query: self.query };
        let mut pairing = Pairing::new(wanted, std::path::Path::new("/proc"), self.line_max);
        pairing.find_cgroups_by_id(cgroup_path::cgroup_path);
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

impl Tracing {
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
        let scope = &self.source.settings.scope;
        let mut foreign = BTreeSet::new();
        let Work { tracer, pairing, events, malformed, .. } = self;
        let read = tracer.read(RECORDS_MAX, |bytes| match Record::parse(bytes) {
            Ok(record) => {
                pairing.record(&record, events);
                let group = record.owner().filter(|_| !scope.containers.is_empty()).and_then(|owner| {
                    pairing.processes().foreign_group(owner, |id| scope.wants_container(id))
                });
                foreign.extend(group);
            }
            Err(_) => *malformed += 1,
        });
        // Nothing is remembered here: a group that the kernel forgets is told again when its next event comes.
        for group in foreign {
            if let Err(why) = tracer.leave_out(group) {
                tracing::debug!(group, "a group out of scope goes on being told of: {why}");
            }
        }
        read
    }

    /// What is done from time to time.
    fn round(&mut self, out: &Outlet, cx: &TaskCx) {
        self.pairing.tick(monotonic_ns(), &mut self.events);
        self.count(out, cx);
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

    /// The programs count what they see and cannot tell. What the ring had no room for becomes part of the account.
    fn count(&mut self, out: &Outlet, cx: &TaskCx) {
        let kernel = self.tracer.counts();
        cx.meter.set_counts_of_type(&untold(kernel, self.pairing.counts()));
        let total = kernel.dropped + self.malformed;
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
            if self.source.is_wanted(&event) {
                Activity::shared().observe(&event);
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
        self.count(out, cx);
        self.send(out).await;
        let (kernel, pairing) = (self.tracer.counts(), self.pairing.counts());
        tracing::debug!(component = %cx.site.id(), ?kernel, ?pairing, "tracing ends");
    }
}

impl Tracing {
    /// Containers are known by paths that the kernel's programs do not see; they leave out those that they were told of.
    fn is_wanted(&self, event: &TraceEvent) -> bool {
        let process: &Process = match event {
            TraceEvent::Connection(event) => &event.connection.process,
            TraceEvent::Exchange(exchange) => &exchange.request.connection.process,
            TraceEvent::Request(request) => &request.connection.process,
            TraceEvent::Line(line) => &line.process,
        };
        self.settings.scope.wants_container(process.container.as_deref())
    }
}

/// What is seen and not told, by the names in status and metrics.
fn untold(kernel: KernelCounts, pairing: PairingCounts) -> [(&'static str, u64); 9] {
    [
        ("records", kernel.tried),
        ("http2_connections", kernel.http2),
        ("unreadable_calls", kernel.unreadable),
        ("untracked_connections", kernel.untracked + pairing.untracked),
        ("unlinked_tls_calls", kernel.unlinked),
        ("left_out", kernel.left_out),
        ("orphan_records", pairing.orphans),
        ("unpaired_responses", pairing.unpaired),
        ("given_up_conversations", pairing.given_up),
    ]
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
    let root = cgroup_path::root();
    match path.starts_with(root) {
        true => path.to_owned(),
        false => root.join(path.strip_prefix("/").unwrap_or(path)),
    }
}
