//! The `udp` source: rows from datagrams. Nobody can slow down who sends them: while the pipeline is full, the kernel
//! drops what finds its buffer full, and weir counts it.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use rustix::net::sockopt;
use tokio::net::UdpSocket;

use crate::base::units::ByteCount;
use crate::codec::lines::OversizeOption;
use crate::config::{AccessOptions, Listen, choices, options};
use crate::flow::{BuildCx, Component, Fault, Outlet, Source, TaskCx};
use crate::net::Guard;
use crate::net::inbound::datagram::{DatagramReceiver, DatagramSocket, Events};
use crate::net::inbound::{CONNECTION_OPTIONS, REQUEST_OPTIONS, UdpDrops, refuse_access_options};

choices! {
    /// What is an event in a datagram.
    pub enum UdpFraming {
        /// Each line; a line never goes on in the next datagram.
        Newline = "newline",
        /// What ends with a zero byte; the last may lack it.
        Nul = "nul",
        /// The whole datagram, line breaks included.
        Datagram = "datagram",
    }
}

options! {
    /// Options of the `udp` source.
    pub struct UdpOptions {
        /// The address to listen on.
        pub listen: Listen,
        /// What is an event in a datagram.
        pub framing: UdpFraming = UdpFraming::Newline,
        /// Longest event; see `oversize` for longer ones.
        #[range(ByteCount(64)..=ByteCount::mib(64))]
        pub max_line_size: ByteCount = ByteCount::mib(1),
        /// What happens to an event longer than `max_line_size`.
        pub oversize: OversizeOption = OversizeOption::Truncate,
        /// What the kernel keeps while weir is busy. Without the privilege `CAP_NET_ADMIN`, `net.core.rmem_max` is the
        /// most; weir says when it got less.
        #[range(ByteCount::kib(4)..=ByteCount::gib(1))]
        pub receive_buffer: ByteCount = ByteCount::mib(4),
        /// Whose datagrams are taken: `allow` and `deny`. What limits connections has no meaning here.
        pub access: Option<AccessOptions> = None,
        /// Allows `listen` on an address that other machines reach, without `access.allow`: whoever reaches it can
        /// write rows in anybody's name.
        pub insecure_public: bool = false,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Udp {
    options: UdpOptions,
    guard: Option<Arc<Guard>>,
    component: String,
}

impl Component for Udp {
    const NAME: &'static str = "udp";
    const SUMMARY: &'static str = "rows from datagrams";
    const EXAMPLE: &'static str = "type = \"udp\"\nlisten = \"127.0.0.1:5514\"\nframing = \"datagram\"\n";
    type Options = UdpOptions;

    fn build(options: UdpOptions, cx: &mut BuildCx<'_>) -> Option<Udp> {
        let listen = &options.listen;
        cx.claim("UDP address", listen.to_string(), "listen");
        let guarded = options.access.as_ref().is_some_and(AccessOptions::restricts);
        let mut sound = guarded || options.insecure_public || listen.is_loopback();
        if !sound {
            cx.error("listen", format!("other machines can reach `{listen}`, and nothing guards the source"))
                .hint("listen on 127.0.0.1, set access.allow, or set insecure_public = true");
        }
        sound &= refuse_access_options(cx, "connections", CONNECTION_OPTIONS);
        sound &= refuse_access_options(cx, "requests", REQUEST_OPTIONS);
        let guard = match &options.access {
            Some(access) => Some(Arc::new(Guard::build(Some(access), None, cx)?)),
            None => None,
        };
        sound.then(|| Udp { guard, component: cx.site.id(), options })
    }
}

#[async_trait]
impl Source for Udp {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        let listen = &self.options.listen;
        let failed = |e: io::Error| Fault::retry(format!("cannot listen on {listen} (UDP): {}", why(&e)));
        if let Some(guard) = &self.guard {
            guard.load(&self.component, &cx.shared).map_err(Fault::retry)?;
        }
        let socket = UdpSocket::bind((listen.host.as_str(), listen.port)).await.map_err(failed)?;
        let granted = receive_buffer(&socket, self.options.receive_buffer.as_usize()).map_err(failed)?;
        if granted < self.options.receive_buffer.as_usize() {
            tracing::info!(
                component = %self.component,
                "the kernel grants a receive buffer of {granted} bytes; net.core.rmem_max limits it"
            );
        }
        let drops = UdpDrops::of(&socket, socket.local_addr().map_err(failed)?.is_ipv6());
        let receiver = DatagramReceiver {
            events: match self.options.framing {
                UdpFraming::Newline => Events::Delimited(b'\n'),
                UdpFraming::Nul => Events::Delimited(0),
                UdpFraming::Datagram => Events::Whole,
            },
            line_bytes_max: self.options.max_line_size.as_usize(),
            oversize: self.options.oversize.into(),
            component: self.component.clone(),
            local_label: listen.to_string(),
            guard: self.guard.clone(),
        };
        cx.ready();
        let served = receiver.serve(&DatagramSocket::Udp(socket), drops, out, &cx.shutdown).await;
        served.map_err(|e| Fault::retry(format!("receiving on {listen} (UDP) failed: {e}")))
    }
}

/// What the system says, with a hint where there is one.
fn why(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::AddrInUse => {
            "address in use; hint: another process listens there, choose another port".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; hint: ports below 1024 need a privilege".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface has this address; hint: listen on 127.0.0.1 or 0.0.0.0".to_owned()
        }
        _ => e.to_string(),
    }
}

/// Asks for a buffer of `bytes`, with the privilege if there is one; what was granted, in bytes.
fn receive_buffer(socket: &UdpSocket, bytes: usize) -> io::Result<usize> {
    if sockopt::set_socket_recv_buffer_size_force(socket, bytes).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, bytes)?;
    }
    // Linux counts its own overhead in and says twice what was asked for (socket(7)).
    Ok(sockopt::socket_recv_buffer_size(socket)? / 2)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::base::task;
    use crate::config::ComponentKind;
    use crate::flow::{Inlet, Reason};
    use crate::testing;

    struct Running {
        to: std::net::UdpSocket,
        inlet: Inlet,
        cx: TaskCx,
        out: Outlet,
        run: tokio::task::JoinHandle<Result<(), Fault>>,
    }

    async fn start(mut options: serde_json::Value) -> Running {
        let to = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        options["listen"] = json!(free.to_string());
        to.connect(free).unwrap();
        let mut source = testing::build::<Udp>(ComponentKind::Source, options).unwrap();
        let cx = testing::task_cx(ComponentKind::Source, "udp", std::path::Path::new("/nonexistent"));
        let (out, inlet) = testing::pipeline();
        let (task_cx, sends) = (cx.clone(), out.clone());
        let run = task::spawn(async move { source.run(&sends, &task_cx).await });
        cx.health.started().await;
        Running { to, inlet, cx, out, run }
    }

    #[tokio::test]
    async fn a_datagram_holds_whole_lines() {
        let mut run = start(json!({ "max_line_size": 64, "oversize": "split" })).await;
        for datagram in [&b"one\ntwo\r\n"[..], b"three", b"", b"\n", &[b'x'; 100]] {
            run.to.send(datagram).unwrap();
        }
        let lines = testing::wait_lines(&mut run.inlet, 6).await;
        assert_eq!(lines[..4], [&b"one"[..], b"two\r", b"three", b""]);
        assert_eq!(lines[4..].iter().map(Vec::len).collect::<Vec<_>>(), [64, 36]);
        assert_eq!(run.out.meter().snapshot().cut_events, 1);
        run.to.send(b"before the end").unwrap();
        run.cx.shutdown.drain();
        run.run.await.unwrap().unwrap();
        assert_eq!(testing::take_lines(&mut run.inlet), [b"before the end"]);
        assert!(run.out.meter().snapshot().balances());
    }

    #[tokio::test]
    async fn whole_datagrams_keep_their_line_breaks_and_name_their_sender() {
        let mut run = start(json!({ "framing": "datagram" })).await;
        run.to.send(b"<13>a\nb\n").unwrap();
        let lease = run.inlet.recv().await.unwrap();
        assert_eq!(lease.batch().line(0), b"<13>a\nb\n");
        assert_eq!(lease.batch().arena().origin().label(), "127.0.0.1");
        lease.delivered();
        let largest = vec![b'x'; 65_507];
        run.to.send(&largest).unwrap();
        assert_eq!(testing::wait_lines(&mut run.inlet, 1).await, [largest]);
    }

    #[tokio::test]
    async fn who_may_not_send_is_counted() {
        let run = start(json!({ "access": { "deny": ["127.0.0.0/8"] } })).await;
        run.to.send(b"a\nb").unwrap();
        run.cx.shutdown.drain();
        run.run.await.unwrap().unwrap();
        let counts = run.out.meter().snapshot();
        assert_eq!((counts.dropped(Reason::Refused), counts.delivered_events), (1, 0));
        assert!(counts.balances());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_the_kernel_drops_is_counted() {
        use crate::flow::{Bounds, Branch, Chain, Intake, Meter, Queue, WhenFull};
        let queue = Queue::new(
            Bounds { events_max: 10, bytes_max: 1 << 20, when_full: WhenFull::Block },
            Arc::new(Meter::default()),
        );
        let mut inlet = Inlet::new(queue.clone());
        let branches = vec![Branch { chain: None, queue }];
        let intake = Intake::new(None, Chain::default(), branches, Arc::new(Meter::default()));
        let out = Outlet::new(Arc::new(intake), Arc::new(Meter::default()));
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let options = json!({ "listen": free.to_string(), "receive_buffer": "8KiB" });
        let mut source = testing::build::<Udp>(ComponentKind::Source, options).unwrap();
        let cx = testing::task_cx(ComponentKind::Source, "udp", std::path::Path::new("/nonexistent"));
        let (task_cx, sends) = (cx.clone(), out.clone());
        let run = task::spawn(async move { source.run(&sends, &task_cx).await });
        cx.health.started().await;
        let to = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for i in 0..2000 {
            to.send_to(format!("line {i}").as_bytes(), free).unwrap();
        }
        cx.shutdown.drain();
        let mut taken = 0;
        while !run.is_finished() {
            let waited = tokio::time::timeout(Duration::from_millis(20), inlet.recv()).await;
            if let Ok(Some(lease)) = waited {
                taken += lease.batch().events();
                lease.delivered();
            }
        }
        taken += testing::take_lines(&mut inlet).len() as u64;
        run.await.unwrap().unwrap();
        let counts = out.meter().snapshot();
        assert!(counts.dropped(Reason::SocketBuffer) > 0);
        assert_eq!(taken + counts.dropped(Reason::SocketBuffer), 2000, "every datagram is accounted for");
        assert!(counts.balances());
    }

    #[test]
    fn public_addresses_need_a_guard_and_connections_are_not_limited() {
        let errors = |options| testing::build::<Udp>(ComponentKind::Source, options).map(|_| ()).unwrap_err();
        assert_eq!(
            errors(json!({ "listen": "0.0.0.0:514" })),
            ["other machines can reach `0.0.0.0:514`, and nothing guards the source"]
        );
        let everybody = json!({ "listen": "0.0.0.0:514", "access": { "allow": ["0.0.0.0/0"] } });
        assert_eq!(errors(everybody).len(), 1, "a list of everybody guards nothing");
        assert_eq!(
            errors(json!({ "listen": "127.0.0.1:514", "access": { "max_connections": 1, "burst": 5 } })),
            [
                "`access.max_connections` has no meaning here: there are no connections to limit",
                "`access.burst` has no meaning here: there are no requests to limit",
            ]
        );
        let access = json!({ "allow": ["10.0.0.0/8"] });
        testing::build::<Udp>(ComponentKind::Source, json!({ "listen": "0.0.0.0:514", "access": access }))
            .unwrap();
    }
}
