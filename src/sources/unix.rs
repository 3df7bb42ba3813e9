//! The `unix` source: rows from processes of this machine, over a socket in the file system. Its permissions say who
//! may write to it.

use std::os::unix::net as std_net;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::net::SocketType;
use tokio::net::{UnixDatagram, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::base::task;
use crate::base::units::ByteCount;
use crate::codec::frames::FrameSettings;
use crate::codec::framing::Scheme;
use crate::codec::lines::OversizeOption;
use crate::config::{choices, options};
use crate::flow::{BuildCx, Component, Fault, Outlet, Source, TaskCx};
use crate::net::inbound::datagram::{DatagramReceiver, DatagramSocket, Events};
use crate::net::inbound::stream::Receiver;
use crate::net::inbound::unix::SocketFile;

choices! {
    /// Kinds of Unix sockets.
    pub enum UnixMode {
        /// Connections, as over TCP. A full pipeline slows the sender down.
        Stream = "stream",
        /// Datagrams, as `syslog(3)` sends them. A sender waits (or fails, if it must not wait) while weir is busy.
        Datagram = "datagram",
    }
}

choices! {
    /// How events are told apart.
    pub enum UnixFraming {
        /// Each ends with a line break. A last one without it passes, too.
        Newline = "newline",
        /// Each ends with a zero byte and may hold line breaks.
        Nul = "nul",
        /// Each follows its length in decimal digits and a space (RFC 6587, RFC 5425). A line break as its last byte
        /// is left out, since syslog senders add one. Streams only.
        OctetCounted = "octet_counted",
        /// Octet-counted where an event begins with a length, a space and `<`; else it ends with a line break. Streams
        /// only.
        Auto = "auto",
        /// Each follows its length as four bytes, big-endian. Streams only.
        LengthPrefixed = "length_prefixed",
        /// The whole datagram is one, line breaks included. Datagrams only.
        Datagram = "datagram",
    }
}

options! {
    /// Options of the `unix` source.
    pub struct UnixOptions {
        /// The socket's file. One that nobody listens on any more is replaced; at the end it is removed.
        pub path: String,
        /// What kind of socket.
        pub mode: UnixMode = UnixMode::Stream,
        /// Who may connect, as for `chmod`, in octal digits: whoever may write.
        pub permissions: String = "0660".to_owned(),
        /// How events are told apart. Over a stream, one that breaks a framing with lengths is closed with a message;
        /// no event goes on in the next datagram.
        pub framing: UnixFraming = UnixFraming::Newline,
        /// Longest event; see `oversize` for longer ones.
        #[range(ByteCount(64)..=ByteCount::mib(64))]
        pub max_line_size: ByteCount = ByteCount::mib(1),
        /// What happens to an event longer than `max_line_size`.
        pub oversize: OversizeOption = OversizeOption::Truncate,
        /// A connection on which nothing comes for this long is closed; what it has begun passes and counts as cut.
        /// "0s" keeps silent connections.
        pub read_timeout: Duration = Duration::ZERO,
        /// Most connections at a time; more wait to be accepted.
        #[range(1..=1_000_000)]
        pub max_connections: usize = 1000,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Unix {
    options: UnixOptions,
    kind: Kind,
    path: PathBuf,
    permissions: u32,
    component: String,
}

/// A mode with a framing that fits it.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Stream(Scheme),
    Datagram(Events),
}

impl Kind {
    /// The framing in this mode, or why it has none.
    fn of(mode: UnixMode, framing: UnixFraming) -> Result<Kind, &'static str> {
        Ok(match (mode, framing) {
            (UnixMode::Stream, UnixFraming::Newline) => Kind::Stream(Scheme::Newline),
            (UnixMode::Stream, UnixFraming::Nul) => Kind::Stream(Scheme::Nul),
            (UnixMode::Stream, UnixFraming::OctetCounted) => Kind::Stream(Scheme::OctetCounted),
            (UnixMode::Stream, UnixFraming::Auto) => Kind::Stream(Scheme::Auto),
            (UnixMode::Stream, UnixFraming::LengthPrefixed) => Kind::Stream(Scheme::LengthPrefixed),
            (UnixMode::Stream, UnixFraming::Datagram) => return Err("a stream has no datagrams"),
            (UnixMode::Datagram, UnixFraming::Newline) => Kind::Datagram(Events::Delimited(b'\n')),
            (UnixMode::Datagram, UnixFraming::Nul) => Kind::Datagram(Events::Delimited(0)),
            (UnixMode::Datagram, UnixFraming::Datagram) => Kind::Datagram(Events::Whole),
            (UnixMode::Datagram, _) => return Err("a datagram needs no lengths"),
        })
    }
}

/// The bits that octal digits say.
fn permissions(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let bits = digits.bytes().all(|b| b.is_ascii_digit()).then(|| u32::from_str_radix(digits, 8).ok())??;
    (bits <= 0o777).then_some(bits)
}

impl Component for Unix {
    const NAME: &'static str = "unix";
    const SUMMARY: &'static str = "rows from a Unix socket";
    const EXAMPLE: &'static str =
        "type = \"unix\"\npath = \"/run/weir/log.sock\"\nmode = \"stream\"\npermissions = \"0660\"\n";
    type Options = UnixOptions;

    fn build(options: UnixOptions, cx: &mut BuildCx<'_>) -> Option<Unix> {
        cx.claim("socket file", options.path.clone(), "path");
        let permissions = permissions(&options.permissions);
        if permissions.is_none() {
            cx.error("permissions", format!("`{}` are no permissions", options.permissions))
                .hint("octal digits as for chmod: \"0660\" for the user and the group, \"0666\" for all");
        }
        let kind = Kind::of(options.mode, options.framing);
        if let Err(why) = kind {
            cx.error("framing", format!("framing `{}` does not fit: {why}", options.framing.as_str()))
                .hint("newline and nul fit both modes");
        }
        if options.path.is_empty() || options.path.contains('\0') {
            cx.error("path", "`path` is no path: it is empty or holds a zero byte");
            return None;
        }
        if options.mode == UnixMode::Datagram {
            for key in ["read_timeout", "max_connections"] {
                if cx.node.get(key).is_some() {
                    cx.error(key, format!("`{key}` has no meaning for datagrams")).hint("leave it out");
                }
            }
        }
        let path = PathBuf::from(&options.path);
        Some(Unix { kind: kind.ok()?, path, permissions: permissions?, component: cx.site.id(), options })
    }
}

#[async_trait]
impl Source for Unix {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        match self.kind {
            Kind::Stream(scheme) => self.streams(scheme, out, cx).await,
            Kind::Datagram(events) => self.datagrams(events, out, cx).await,
        }
    }
}

/// Connections that came before weir ends are still accepted, until none comes for this long.
const LAST_ARRIVALS_WAIT: Duration = Duration::from_millis(20);
/// And not more than this many.
const LAST_ARRIVALS_MAX: usize = 4096;

impl Unix {
    async fn streams(&self, scheme: Scheme, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        let failed = |e: std::io::Error| Fault::retry(e.to_string());
        let (socket, file) =
            SocketFile::bind(&self.path, SocketType::STREAM, self.permissions).map_err(failed)?;
        let listener = UnixListener::from_std(std_net::UnixListener::from(socket)).map_err(failed)?;
        cx.ready();
        let UnixOptions { max_line_size, oversize, read_timeout, max_connections, .. } = &self.options;
        let frames = FrameSettings::new(scheme, max_line_size.as_usize(), (*oversize).into());
        let receiver = Arc::new(Receiver::new(frames, *read_timeout, &self.component));
        let (slots, connections) = (Arc::new(Semaphore::new(*max_connections)), TaskTracker::new());
        let mut last = LAST_ARRIVALS_MAX;
        loop {
            let arrival = accept(&listener, &slots);
            let accepted = if cx.shutdown.is_draining() {
                // Whoever has connected and sent before the end is heard.
                match tokio::time::timeout(LAST_ARRIVALS_WAIT, arrival).await {
                    Ok(accepted) if last > 0 => accepted,
                    _ => break,
                }
            } else {
                tokio::select! {
                    accepted = arrival => accepted,
                    () = cx.shutdown.draining() => continue,
                }
            };
            last -= usize::from(cx.shutdown.is_draining());
            let (stream, slot) = match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    receiver.complain(&self.options.path, &e, out.meter());
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (receiver, out, shutdown) = (receiver.clone(), out.clone(), cx.shutdown.clone());
            drop(task::spawn(connections.track_future(async move {
                let label = label(&stream);
                receiver.serve(stream, &label, &out, &shutdown).await;
                drop(slot);
            })));
        }
        drop((listener, file));
        connections.close();
        connections.wait().await;
        Ok(())
    }

    async fn datagrams(&self, events: Events, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        let failed = |e: std::io::Error| Fault::retry(e.to_string());
        let (socket, file) =
            SocketFile::bind(&self.path, SocketType::DGRAM, self.permissions).map_err(failed)?;
        let socket = UnixDatagram::from_std(std_net::UnixDatagram::from(socket)).map_err(failed)?;
        let receiver = DatagramReceiver {
            events,
            line_bytes_max: self.options.max_line_size.as_usize(),
            oversize: self.options.oversize.into(),
            component: self.component.clone(),
            local_label: self.options.path.clone(),
            guard: None,
        };
        cx.ready();
        let served = receiver.serve(&DatagramSocket::Unix(socket), None, out, &cx.shutdown).await;
        drop(file);
        served.map_err(|e| Fault::retry(format!("receiving on {} failed: {e}", self.options.path)))
    }
}

/// The next connection, once there is a free slot.
async fn accept(
    listener: &UnixListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let Ok(slot) = slots.clone().acquire_owned().await else {
        return Err(std::io::Error::other("no connections are taken any more"));
    };
    Ok((listener.accept().await?.0, slot))
}

/// The process at the other end, as users see it.
fn label(stream: &UnixStream) -> String {
    match stream.peer_cred() {
        Ok(peer) => match peer.pid().filter(|pid| *pid > 0) {
            Some(pid) => format!("pid {pid} uid {}", peer.uid()),
            // It cannot be seen from here: another container's.
            None => format!("uid {}", peer.uid()),
        },
        Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use std::io::Write;

    use super::*;
    use crate::config::ComponentKind;
    use crate::flow::Inlet;
    use crate::testing;

    struct Running {
        dir: tempfile::TempDir,
        inlet: Inlet,
        cx: TaskCx,
        out: Outlet,
        run: tokio::task::JoinHandle<Result<(), Fault>>,
    }

    impl Running {
        fn path(&self) -> PathBuf {
            self.dir.path().join("s")
        }
    }

    async fn start(mut options: serde_json::Value) -> Running {
        let dir = tempfile::tempdir().unwrap();
        options["path"] = json!(dir.path().join("s"));
        let mut source = testing::build::<Unix>(ComponentKind::Source, options).unwrap();
        let cx = testing::task_cx(ComponentKind::Source, "unix", dir.path());
        let (out, inlet) = testing::pipeline();
        let (task_cx, sends) = (cx.clone(), out.clone());
        let run = task::spawn(async move { source.run(&sends, &task_cx).await });
        cx.health.started().await;
        Running { dir, inlet, cx, out, run }
    }

    #[tokio::test]
    async fn a_stream_names_its_process_and_the_file_goes_at_the_end() {
        let mut run = start(json!({ "framing": "nul" })).await;
        let mut stream = std_net::UnixStream::connect(run.path()).unwrap();
        stream.write_all(b"a\nb\0last").unwrap();
        let lease = run.inlet.recv().await.unwrap();
        assert_eq!(lease.batch().line(0), b"a\nb");
        let label = lease.batch().arena().origin().label().to_owned();
        assert!(label.starts_with(&format!("pid {} uid ", std::process::id())), "{label}");
        lease.delivered();
        run.cx.shutdown.drain();
        let mut late = std_net::UnixStream::connect(run.path()).unwrap();
        late.write_all(b"late\0").unwrap();
        drop(late);
        assert!(run.path().exists());
        let path = run.path();
        run.run.await.unwrap().unwrap();
        let mut lines = testing::take_lines(&mut run.inlet);
        lines.sort();
        assert_eq!(lines, [b"last", b"late"]);
        assert!(!path.exists());
        assert!(run.out.meter().snapshot().balances());
    }

    #[tokio::test]
    async fn more_connections_than_allowed_wait() {
        let mut run = start(json!({ "max_connections": 1 })).await;
        let first = std_net::UnixStream::connect(run.path()).unwrap();
        let mut second = std_net::UnixStream::connect(run.path()).unwrap();
        second.write_all(b"second\n").unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(100), run.inlet.recv()).await;
        assert!(waited.is_err(), "no place yet");
        drop(first);
        assert_eq!(testing::wait_lines(&mut run.inlet, 1).await, [b"second"]);
    }

    #[tokio::test]
    async fn datagrams_and_what_waits_at_the_end() {
        let mut run = start(json!({ "mode": "datagram", "framing": "datagram" })).await;
        let to = std_net::UnixDatagram::unbound().unwrap();
        to.connect(run.path()).unwrap();
        to.send(b"<13>one\ntwo").unwrap();
        assert_eq!(testing::wait_lines(&mut run.inlet, 1).await, [b"<13>one\ntwo"]);
        to.send(b"three").unwrap();
        run.cx.shutdown.drain();
        run.run.await.unwrap().unwrap();
        assert_eq!(testing::take_lines(&mut run.inlet), [b"three"]);
        assert!(!run.dir.path().join("s").exists());
    }

    #[test]
    fn permissions_are_octal_and_framings_fit_their_mode() {
        assert_eq!(permissions("0660"), Some(0o660));
        assert_eq!(permissions("0o600"), Some(0o600));
        assert_eq!(
            (permissions("0888"), permissions("1777"), permissions("+7"), permissions("")),
            (None, None, None, None)
        );
        let errors =
            |options| testing::build::<Unix>(ComponentKind::Source, options).map(|_| ()).unwrap_err();
        assert_eq!(
            errors(
                json!({ "path": "/s", "mode": "datagram", "framing": "length_prefixed", "read_timeout": "1s" })
            ),
            [
                "framing `length_prefixed` does not fit: a datagram needs no lengths",
                "`read_timeout` has no meaning for datagrams"
            ]
        );
        assert_eq!(errors(json!({ "path": "/s", "permissions": "rw" })), ["`rw` are no permissions"]);
    }
}
