//! The `tcp` source: takes rows from everybody who connects. It cannot acknowledge, so a sender that must not lose
//! anything needs a protocol that can; what was read is never lost, and a full pipeline slows the senders down.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::base::units::ByteCount;
use crate::codec::frames::{FrameSettings, FramingOption};
use crate::codec::lines::OversizeOption;
use crate::config::{AccessOptions, Listen, TlsServerOptions, options};
use crate::flow::{BuildCx, Component, Fault, Outlet, Source, TaskCx};
use crate::net::inbound::stream::Receiver;
use crate::net::inbound::{REQUEST_OPTIONS, refuse_access_options};
use crate::net::{Arrival, EntranceConfig};

options! {
    /// Options of the `tcp` source.
    pub struct TcpSourceOptions {
        /// The address to listen on.
        pub listen: Listen,
        /// How events are told apart. A connection that breaks a framing with lengths is closed with a message.
        pub framing: FramingOption = FramingOption::Newline,
        /// Longest event; see `oversize` for longer ones.
        #[range(ByteCount(64)..=ByteCount::mib(64))]
        pub max_line_size: ByteCount = ByteCount::mib(1),
        /// What happens to an event longer than `max_line_size`.
        pub oversize: OversizeOption = OversizeOption::Truncate,
        /// A connection on which nothing comes for this long is closed; what it has begun passes and counts as cut.
        /// "0s" keeps silent connections.
        pub read_timeout: Duration = Duration::ZERO,
        /// After this long without a packet the kernel asks whether the sender is still there, then six times more at a
        /// sixth of it, and closes the connection if there is no answer. "0s" never asks.
        #[range(Duration::ZERO..=Duration::from_secs(32_767))]
        pub keep_alive: Duration = Duration::from_secs(60),
        /// Encrypts connections. `source` is then the name in the sender's certificate, if it shows one.
        pub tls: Option<TlsServerOptions> = None,
        /// Who may connect, and how many at a time; 20,000 where `max_connections` does not say. What limits requests has no meaning here.
        pub access: Option<AccessOptions> = None,
        /// Allows `listen` on an address that other machines reach, without `access.allow` or client certificates.
        pub insecure_public: bool = false,
    }
}

/// Connections at a time where `access.max_connections` does not say; more wait to be accepted.
const CONNECTIONS_MAX: usize = 20_000;
/// Connections that came before weir ends are still accepted, until none comes for this long.
const LAST_ARRIVALS_WAIT: Duration = Duration::from_millis(20);
/// And not more than this many.
const LAST_ARRIVALS_MAX: usize = 4096;
/// Unanswered probes after which a connection is given up.
const KEEP_ALIVE_PROBES: u32 = 6;

/// See the module.
#[derive(Debug, Clone)]
pub struct TcpSource {
    options: TcpSourceOptions,
    entrance: EntranceConfig,
    component: String,
}

impl Component for TcpSource {
    const NAME: &'static str = "tcp";
    const SUMMARY: &'static str = "rows from everybody who connects";
    const EXAMPLE: &'static str = "type = \"tcp\"\nlisten = \"127.0.0.1:5170\"\nframing = \"newline\"\n";
    type Options = TcpSourceOptions;

    fn build(options: TcpSourceOptions, cx: &mut BuildCx<'_>) -> Option<TcpSource> {
        let TcpSourceOptions { listen, tls, access, insecure_public, .. } = &options;
        let entrance =
            EntranceConfig::build(listen, tls.as_ref(), access.as_ref(), None, *insecure_public, cx);
        let sound = refuse_access_options(cx, "requests", REQUEST_OPTIONS);
        let entrance = entrance.filter(|_| sound)?;
        Some(TcpSource { entrance, component: cx.site.id(), options })
    }
}

#[async_trait]
impl Source for TcpSource {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        let entrance = self.entrance.bind(cx).await?;
        cx.ready();
        let TcpSourceOptions { framing, max_line_size, oversize, read_timeout, .. } = &self.options;
        let frames = FrameSettings::new((*framing).into(), max_line_size.as_usize(), (*oversize).into());
        let serving = Serving {
            receiver: Receiver::new(frames, *read_timeout, &self.component),
            keep_alive: self.options.keep_alive,
            out: out.clone(),
            shutdown: cx.shutdown.clone(),
        };
        let (serving, connections) = (Arc::new(serving), TaskTracker::new());
        let serve = |arrival: Arrival, slot: OwnedSemaphorePermit| {
            let serving = serving.clone();
            drop(task::spawn(connections.track_future(async move {
                serving.serve(arrival).await;
                drop(slot);
            })));
        };
        let slots = Arc::new(Semaphore::new(self.connections_max()));
        loop {
            let free = tokio::select! {
                free = slots.clone().acquire_owned() => free,
                () = cx.shutdown.draining() => break,
            };
            let (Ok(slot), Some(arrival)) = (free, entrance.accept(&cx.shutdown).await) else { break };
            serve(arrival, slot);
        }
        // Whoever has connected and sent before the end is heard.
        let accepting = Shutdown::new();
        for _ in 0..LAST_ARRIVALS_MAX {
            let Ok(slot) = slots.clone().try_acquire_owned() else { break };
            match tokio::time::timeout(LAST_ARRIVALS_WAIT, entrance.accept(&accepting)).await {
                Ok(Some(arrival)) => serve(arrival, slot),
                _ => break,
            }
        }
        drop(entrance);
        connections.close();
        connections.wait().await;
        Ok(())
    }
}

impl TcpSource {
    /// Most connections at a time; the guard's own limit, if there is one, refuses instead.
    fn connections_max(&self) -> usize {
        let set = self.options.access.as_ref().and_then(|access| access.max_connections);
        set.unwrap_or(0).max(CONNECTIONS_MAX)
    }
}

/// What the connections share.
struct Serving {
    receiver: Receiver,
    keep_alive: Duration,
    out: Outlet,
    shutdown: Shutdown,
}

impl Serving {
    async fn serve(&self, arrival: Arrival) {
        let peer = arrival.peer;
        let opened = tokio::select! {
            opened = arrival.open(&self.shutdown) => opened,
            () = self.shutdown.aborted() => return,
        };
        let visitor = match opened {
            Ok(visitor) => visitor,
            Err(e) => return self.receiver.complain(&peer.to_string(), &e, self.out.meter()),
        };
        // Some connections (a pair within one process) know no keep-alive; they are served all the same.
        keep_alive(visitor.socket.tcp(), self.keep_alive).ok();
        let label = match &visitor.peer.name {
            Some(name) => name.to_string(),
            None => canonical(peer).to_string(),
        };
        self.receiver.serve(visitor.socket, &label, &self.out, &self.shutdown).await;
        drop(visitor.admission);
    }
}

/// An IPv4 peer of a socket for both looks like one.
fn canonical(peer: std::net::SocketAddr) -> std::net::SocketAddr {
    std::net::SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// Lets the kernel find out that the sender is gone without a word.
fn keep_alive(socket: &TcpStream, after: Duration) -> io::Result<()> {
    if after.is_zero() {
        return Ok(());
    }
    // The kernel counts in seconds, from one.
    let seconds = |d: Duration| Duration::from_secs(d.as_secs().max(1));
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, seconds(after))?;
    sockopt::set_tcp_keepintvl(socket, seconds(after / KEEP_ALIVE_PROBES))?;
    sockopt::set_tcp_keepcnt(socket, KEEP_ALIVE_PROBES)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::config::ComponentKind;
    use crate::flow::Inlet;
    use crate::testing;

    fn free() -> String {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
    }

    struct Running {
        address: String,
        inlet: Inlet,
        cx: TaskCx,
        out: Outlet,
        run: tokio::task::JoinHandle<Result<(), Fault>>,
    }

    async fn start(mut options: serde_json::Value) -> Running {
        let address = free();
        options["listen"] = json!(address);
        let mut source = testing::build::<TcpSource>(ComponentKind::Source, options).unwrap();
        let cx = testing::task_cx(ComponentKind::Source, "tcp", std::path::Path::new("/nonexistent"));
        let (out, inlet) = testing::pipeline();
        let (task_cx, sends) = (cx.clone(), out.clone());
        let run = task::spawn(async move { source.run(&sends, &task_cx).await });
        cx.health.started().await;
        Running { address, inlet, cx, out, run }
    }

    #[test]
    fn public_addresses_need_a_guard() {
        let build = |options| testing::build::<TcpSource>(ComponentKind::Source, options);
        assert!(build(json!({ "listen": "0.0.0.0:5170" })).is_err());
        assert!(build(json!({ "listen": "0.0.0.0:5170", "insecure_public": true })).is_ok());
        assert!(build(json!({ "listen": "0.0.0.0:5170", "access": { "allow": ["10.0.0.0/8"] } })).is_ok());
    }

    #[tokio::test]
    async fn each_connection_is_a_stream_of_its_own() {
        let mut run = start(json!({})).await;
        let mut a = TcpStream::connect(&run.address).await.unwrap();
        let mut b = TcpStream::connect(&run.address).await.unwrap();
        a.write_all(b"a1\na").await.unwrap();
        assert_eq!(testing::wait_lines(&mut run.inlet, 1).await, [b"a1"]);
        b.write_all(b"b1\nb2\n").await.unwrap();
        assert_eq!(testing::wait_lines(&mut run.inlet, 2).await, [b"b1", b"b2"]);
        assert_eq!(run.out.meter().snapshot().clients, 2);
        a.write_all(b"2\n").await.unwrap();
        let lease = run.inlet.recv().await.unwrap();
        assert_eq!(lease.batch().line(0), b"a2");
        assert_eq!(lease.batch().arena().origin().label(), a.local_addr().unwrap().to_string());
        lease.delivered();
        run.cx.shutdown.drain();
        run.run.await.unwrap().unwrap();
        assert_eq!(run.out.meter().snapshot().clients, 0);
    }

    #[tokio::test]
    async fn who_sent_before_the_end_is_heard() {
        let mut run = start(json!({})).await;
        let mut early = TcpStream::connect(&run.address).await.unwrap();
        early.write_all(b"early\n").await.unwrap();
        run.cx.shutdown.drain();
        // Accepted by the kernel, not yet by the source.
        let mut late = TcpStream::connect(&run.address).await.unwrap();
        late.write_all(b"late\n").await.unwrap();
        drop(late);
        run.run.await.unwrap().unwrap();
        let mut lines = testing::take_lines(&mut run.inlet);
        lines.sort();
        assert_eq!(lines, [&b"early"[..], b"late"]);
        // As the engine says once it has ended.
        run.cx.shared.get::<crate::net::Listeners>().component_ended(&run.cx.site);
        assert!(TcpStream::connect(&run.address).await.is_err(), "no longer listening");
    }

    #[tokio::test]
    async fn the_kernel_is_told_to_keep_asking() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        keep_alive(&socket, Duration::from_secs(90)).unwrap();
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap().as_secs(), 90);
        assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap().as_secs(), 15);
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), 6);
    }
}
