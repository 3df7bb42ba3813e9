//! Datagrams, taken in bunches: all that wait, up to a bound, become one batch per sender. Nobody can slow down who
//! sends datagrams, so while the pipeline is full the kernel drops them; they are counted as far as it tells.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, recvfrom};
use smallvec::SmallVec;
use tokio::io::Interest;
use tokio::net::{UdpSocket, UnixDatagram};

use super::drops::UdpDrops;
use crate::base::clock::{self, Instant};
use crate::base::shutdown::Shutdown;
use crate::batch::{Batch, BatchBuilder, Origin, Receipt};
use crate::codec::framing::Oversize;
use crate::codec::lines::count_oversize;
use crate::flow::{Meter, Outlet, Reason};
use crate::net::guard::Guard;

/// Room for one datagram, in bytes. UDP's longest is shorter; a longer one over a Unix socket is cut and counted.
const DATAGRAM_BYTES_MAX: usize = 256 << 10;
/// A bunch is handed on when it has this many datagrams or bytes, or the socket is empty.
const BUNCH_DATAGRAMS_MAX: usize = 1024;
const BUNCH_BYTES_MAX: usize = 256 << 10;
/// Most senders that are remembered.
const SENDERS_MAX: usize = 1024;
/// Least time between two looks at the kernel's count of drops.
const DROPS_INTERVAL: Duration = Duration::from_secs(1);
/// Most datagrams taken once weir ends: what a large socket buffer holds.
const LAST_BUNCHES_MAX: usize = 64;

/// A bound socket for datagrams.
#[derive(Debug)]
pub enum DatagramSocket {
    /// UDP.
    Udp(UdpSocket),
    /// A Unix socket.
    Unix(UnixDatagram),
}

impl DatagramSocket {
    async fn readable(&self) -> io::Result<()> {
        match self {
            DatagramSocket::Udp(socket) => socket.readable().await,
            DatagramSocket::Unix(socket) => socket.readable().await,
        }
    }

    /// Runs `take`, which says "would block" when the socket is empty.
    fn try_io(&self, take: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>) -> io::Result<()> {
        match self {
            DatagramSocket::Udp(socket) => socket.try_io(Interest::READABLE, || take(socket.as_fd())),
            DatagramSocket::Unix(socket) => socket.try_io(Interest::READABLE, || take(socket.as_fd())),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            DatagramSocket::Udp(socket) => socket.as_fd(),
            DatagramSocket::Unix(socket) => socket.as_fd(),
        }
    }
}

/// What is an event in a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Events {
    /// What ends with this byte; the last may lack it.
    Delimited(u8),
    /// The whole datagram.
    Whole,
}

/// Who sent a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Sender {
    /// Somebody at an address.
    Address(IpAddr),
    /// Some process of this machine.
    Local,
}

/// How datagrams become rows.
#[derive(Debug)]
pub struct DatagramReceiver {
    /// What is an event.
    pub events: Events,
    /// Longest event, in bytes.
    pub line_bytes_max: usize,
    /// What happens to longer ones.
    pub oversize: Oversize,
    /// The source, as rows name it.
    pub component: String,
    /// What users see as `source` where senders have no address.
    pub local_label: String,
    /// Whose datagrams are taken; of everybody, if nobody is asked.
    pub guard: Option<Arc<Guard>>,
}

/// A datagram in the buffer.
struct Datagram {
    len: usize,
    truncated: bool,
    sender: Sender,
}

/// The rows of one sender in a bunch.
struct Rows {
    sender: Sender,
    builder: BatchBuilder,
}

/// A running receiver.
struct Run<'a> {
    receiver: &'a DatagramReceiver,
    meter: &'a Meter,
    buffer: Vec<u8>,
    /// Of those who may send; `None` of those who may not.
    origins: HashMap<Sender, Option<Arc<Origin>>>,
    bunch: SmallVec<[Rows; 8]>,
}

impl DatagramReceiver {
    /// The origin of the sender's rows; `None` if it may not send.
    fn origin(&self, sender: Sender) -> Option<Arc<Origin>> {
        let label = match sender {
            Sender::Local => self.local_label.clone(),
            Sender::Address(address) => {
                // The guard counts and tells of those it refuses. A place among connections is not held.
                self.guard.as_ref().map(|guard| guard.admit(address)).transpose().ok()?;
                address.to_string()
            }
        };
        Some(Arc::new(Origin::new(&self.component, &label)))
    }

    /// Receives from `socket` until `shutdown` drains; then takes what waits in it. `drops`
    /// tells what the kernel dropped.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn serve(
        &self,
        socket: &DatagramSocket,
        drops: Option<UdpDrops>,
        out: &Outlet,
        shutdown: &Shutdown,
    ) -> io::Result<()> {
        let mut run = Run {
            receiver: self,
            meter: out.meter(),
            buffer: vec![0; DATAGRAM_BYTES_MAX],
            origins: HashMap::new(),
            bunch: SmallVec::new(),
        };
        let mut dropped = 0;
        let mut look_at: Option<Instant> = None;
        loop {
            let look = async {
                match look_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.draining() => break,
                () = look => {
                    count_drops(drops.as_ref(), &mut dropped, out.meter());
                    look_at = None;
                }
                ready = socket.readable() => {
                    ready?;
                    let taken = socket.try_io(|fd| run.take(fd));
                    run.send(out).await;
                    match taken {
                        Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                        _ => {}
                    }
                    if drops.is_some() {
                        look_at.get_or_insert_with(|| clock::now() + DROPS_INTERVAL);
                    }
                }
            }
        }
        for _ in 0..LAST_BUNCHES_MAX {
            let taken = run.take(socket.as_fd());
            run.send(out).await;
            match taken {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        count_drops(drops.as_ref(), &mut dropped, out.meter());
        Ok(())
    }
}

fn count_drops(drops: Option<&UdpDrops>, before: &mut u64, meter: &Meter) {
    let Some(total) = drops.and_then(UdpDrops::total) else { return };
    let new = total.saturating_sub(*before);
    if new > 0 {
        meter.received(new, 0);
        meter.dropped(Reason::SocketBuffer, new);
    }
    *before = total;
}

impl Run<'_> {
    /// Takes a bunch. "Would block" says that the socket is empty, also if there were some.
    fn take(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut bytes = 0;
        for _ in 0..BUNCH_DATAGRAMS_MAX {
            match receive(socket, &mut self.buffer) {
                Ok(datagram) => {
                    bytes += datagram.len;
                    self.add(&datagram);
                    if bytes >= BUNCH_BYTES_MAX {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Somebody we never wrote to cannot refuse; a datagram that is damaged is skipped.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => self.meter.error(),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn add(&mut self, datagram: &Datagram) {
        let Some(at) = self.place(datagram.sender) else {
            self.meter.received(1, datagram.len as u64);
            return self.meter.dropped(Reason::Refused, 1);
        };
        let DatagramReceiver { events, line_bytes_max, oversize, .. } = *self.receiver;
        let (builder, bytes) = (&mut self.bunch[at].builder, &self.buffer[..datagram.len]);
        let mut too_long = 0;
        let mut push = |event: &[u8]| {
            if event.len() <= line_bytes_max {
                return builder.push(event);
            }
            too_long += 1;
            match oversize {
                Oversize::Drop => {}
                Oversize::Truncate => builder.push(&event[..line_bytes_max]),
                Oversize::Split => event.chunks(line_bytes_max).for_each(|piece| builder.push(piece)),
            }
        };
        match events {
            Events::Whole if bytes.is_empty() => {}
            Events::Whole => push(bytes),
            Events::Delimited(delimiter) => {
                let mut start = 0;
                for end in memchr::memchr_iter(delimiter, bytes) {
                    push(&bytes[start..end]);
                    start = end + 1;
                }
                if start < bytes.len() {
                    push(&bytes[start..]);
                }
            }
        }
        count_oversize(oversize, too_long, self.meter);
        if datagram.truncated {
            self.meter.cut(1);
        }
    }

    /// Where the rows of `sender` are collected; `None` if it may not send here.
    fn place(&mut self, sender: Sender) -> Option<usize> {
        if let Some(at) = self.bunch.iter().position(|rows| rows.sender == sender) {
            return Some(at);
        }
        if self.origins.len() >= SENDERS_MAX {
            self.origins.clear();
        }
        let receiver = self.receiver;
        let origin = self.origins.entry(sender).or_insert_with(|| receiver.origin(sender));
        let builder = BatchBuilder::new(origin.clone()?);
        self.bunch.push(Rows { sender, builder });
        Some(self.bunch.len() - 1)
    }

    async fn send(&mut self, out: &Outlet) {
        let filled = self.bunch.drain(..).filter(|rows| !rows.builder.is_empty());
        let batches: Vec<Batch> = filled.map(|rows| rows.builder.finish(Receipt::none())).collect();
        let mut unsent = Unsent { batches: batches.into_iter(), meter: self.meter };
        for batch in unsent.batches.by_ref() {
            out.send(batch).await;
        }
    }
}

/// Takes one datagram.
///
/// Not the processes' credentials: a sender that cannot be seen from here has the id 0, which `rustix` cannot hold.
fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
    let (len, whole_len, address) = recvfrom(socket, buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC)?;
    let sender = match address.map(SocketAddr::try_from) {
        Some(Ok(address)) => Sender::Address(address.ip().to_canonical()),
        _ => Sender::Local,
    };
    Ok(Datagram { len, truncated: whole_len > len, sender })
}

/// Batches on their way out; what is left when that is cancelled is counted.
struct Unsent<'a> {
    batches: std::vec::IntoIter<Batch>,
    meter: &'a Meter,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        for batch in &mut self.batches {
            self.meter.received(batch.events(), batch.bytes());
            self.meter.dropped(Reason::Aborted, batch.events());
        }
    }
}
