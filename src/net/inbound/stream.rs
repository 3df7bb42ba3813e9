//! One connection from its first byte to its last. A read takes what the kernel holds, up to a chunk, and its events
//! are sent on at once; while they wait to be admitted nothing is read, so a full pipeline slows the sender. No
//! protocol here can acknowledge: whoever sends must live with what a broken connection had under way.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, ReadBuf};

use super::Seldom;
use crate::base::clock;
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::batch::Origin;
use crate::codec::frames::{FrameReader, FrameSettings};
use crate::codec::framing::FramingError;
use crate::flow::{Meter, Outlet};

/// Once weir ends, a connection is read on until it is quiet for this long.
const QUIET: Duration = Duration::from_millis(50);
/// And no longer than this in all.
const LAST_READS_MAX: Duration = Duration::from_secs(1);
/// And no more than this, in bytes: what the kernel keeps for one connection unless root says otherwise.
const LAST_BYTES_MAX: usize = 8 << 20;

/// What the connections of a source share.
#[derive(Debug)]
pub struct Receiver {
    /// How they are framed.
    pub frames: FrameSettings,
    /// A connection that sends nothing for this long is closed.
    pub idle_max: Option<Duration>,
    /// The source, as messages name it.
    pub component: String,
    complaints: Seldom,
}

/// Why a connection ended.
#[derive(Debug)]
pub enum Ending {
    /// The sender closed it.
    Closed,
    /// It was silent for too long.
    Idle(Duration),
    /// weir ends.
    Draining,
    /// Its bytes follow no framing any more.
    Broken(FramingError),
    /// Reading failed.
    Failed(io::Error),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Closed => f.write_str("closed by the sender"),
            Ending::Idle(limit) => write!(f, "nothing came for {limit:?}"),
            Ending::Draining => f.write_str("weir is ending"),
            Ending::Broken(e) => e.fmt(f),
            Ending::Failed(e) => e.fmt(f),
        }
    }
}

/// Counts a connection while it lives.
struct Seat<'a>(&'a Meter);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.client_left();
    }
}

impl Receiver {
    /// A receiver for the source `component`. `idle_max` of zero is none.
    pub fn new(frames: FrameSettings, idle_max: Duration, component: &str) -> Receiver {
        let idle_max = Some(idle_max).filter(|limit| !limit.is_zero());
        Receiver { frames, idle_max, component: component.to_owned(), complaints: Seldom::default() }
    }

    /// Reads `io` to its end, for whatever reason that comes, and says so where somebody should know. A panic on the
    /// way ends this connection only. When `shutdown` aborts, what was read and not admitted is counted as aborted.
    pub async fn serve(&self, io: impl AsyncRead + Unpin, label: &str, out: &Outlet, shutdown: &Shutdown) {
        let origin = Arc::new(Origin::new(&self.component, label));
        out.meter().client_joined();
        let _seat = Seat(out.meter());
        let reading = AssertUnwindSafe(self.receive(io, origin, out, shutdown)).catch_unwind();
        let ending = tokio::select! {
            biased;
            ending = reading => ending,
            () = shutdown.aborted() => return,
        };
        match ending {
            Ok(ending) => self.report(label, &ending, out.meter()),
            Err(payload) => {
                out.meter().error();
                let why = task::panic_text(payload.as_ref());
                tracing::error!(component = %self.component, peer = %label, "a connection failed: {why}");
            }
        }
    }

    /// Tells of a connection that could not be served, at most once a second.
    pub fn complain(&self, label: &str, why: &dyn fmt::Display, meter: &Meter) {
        meter.error();
        if let Some(left_out) = self.complaints.now() {
            tracing::warn!(component = %self.component, peer = %label, left_out, "connection closed: {why}");
        }
    }

    fn report(&self, label: &str, ending: &Ending, meter: &Meter) {
        match ending {
            Ending::Broken(_) => self.complain(label, ending, meter),
            _ => tracing::debug!(component = %self.component, peer = %label, "connection ended: {ending}"),
        }
    }

    async fn receive(
        &self,
        mut io: impl AsyncRead + Unpin,
        origin: Arc<Origin>,
        out: &Outlet,
        shutdown: &Shutdown,
    ) -> Ending {
        let mut frames = FrameReader::new(&self.frames, origin);
        let ending = match self.until_draining(&mut io, &mut frames, out, shutdown).await {
            Ending::Draining => last_reads(&mut io, &mut frames, out).await,
            ending => ending,
        };
        if let Some(batch) = frames.finish(matches!(ending, Ending::Closed), out.meter()) {
            send(out, batch).await;
        }
        ending
    }

    async fn until_draining(
        &self,
        io: &mut (impl AsyncRead + Unpin),
        frames: &mut FrameReader,
        out: &Outlet,
        shutdown: &Shutdown,
    ) -> Ending {
        let mut draining = std::pin::pin!(shutdown.draining());
        // Not set anew for each read, but looked at when it rings.
        let idle_max = self.idle_max.unwrap_or(Duration::MAX);
        let mut alarm = self.idle_max.map(|limit| Box::pin(tokio::time::sleep(limit)));
        let mut last = clock::now();
        loop {
            // Reading comes first and costs nothing more; the others are asked while there is nothing to read.
            let read = poll_fn(|cx| {
                if let Poll::Ready(read) = poll_read(io, frames, out.meter(), usize::MAX, cx) {
                    return Poll::Ready(Ok(read));
                }
                if draining.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(Ending::Draining));
                }
                let Some(alarm) = &mut alarm else { return Poll::Pending };
                while alarm.as_mut().poll(cx).is_ready() {
                    if last.elapsed() >= idle_max {
                        return Poll::Ready(Err(Ending::Idle(idle_max)));
                    }
                    alarm.as_mut().reset(last + idle_max);
                }
                Poll::Pending
            });
            match read.await {
                Ok(Read { batch, ending, .. }) => {
                    if let Some(batch) = batch {
                        send(out, batch).await;
                    }
                    if let Some(ending) = ending {
                        return ending;
                    }
                    if alarm.is_some() {
                        last = clock::now();
                    }
                    if shutdown.is_draining() {
                        return Ending::Draining;
                    }
                }
                Err(ending) => return ending,
            }
        }
    }
}

/// What a read came to.
struct Read {
    batch: Option<crate::batch::Batch>,
    bytes: usize,
    ending: Option<Ending>,
}

/// Reads once, at most `bytes_max`, into a chunk that is on loan only if there is something to read.
fn poll_read(
    io: &mut (impl AsyncRead + Unpin),
    frames: &mut FrameReader,
    meter: &Meter,
    bytes_max: usize,
    cx: &mut std::task::Context<'_>,
) -> Poll<Read> {
    let mut reading = frames.start_read();
    let space = reading.space();
    let room = space.len().min(bytes_max);
    let mut buf = ReadBuf::new(&mut space[..room]);
    let polled = Pin::new(io).poll_read(cx, &mut buf);
    let bytes = buf.filled().len();
    reading.advance(bytes);
    let (batch, broken) = frames.take(reading, meter);
    let ending = match (polled, broken) {
        (Poll::Pending, _) => return Poll::Pending,
        (Poll::Ready(Err(e)), _) => Some(Ending::Failed(e)),
        (_, Some(e)) => Some(Ending::Broken(e)),
        (Poll::Ready(Ok(())), None) => (bytes == 0).then_some(Ending::Closed),
    };
    Poll::Ready(Read { batch, bytes, ending })
}

/// Takes what the kernel holds already, so that what a sender has handed over before weir ends is not lost with it.
async fn last_reads(io: &mut (impl AsyncRead + Unpin), frames: &mut FrameReader, out: &Outlet) -> Ending {
    let end = clock::now() + LAST_READS_MAX;
    let mut left = LAST_BYTES_MAX;
    while left > 0 && clock::now() < end {
        let read = poll_fn(|cx| poll_read(io, frames, out.meter(), left, cx));
        let Ok(Read { batch, bytes, ending }) = tokio::time::timeout(QUIET, read).await else { break };
        left -= bytes.min(left);
        if let Some(batch) = batch {
            send(out, batch).await;
        }
        if let Some(ending) = ending {
            return ending;
        }
    }
    Ending::Draining
}

/// Sends, without room for the way through the pipeline in a connection that waits.
fn send(out: &Outlet, batch: crate::batch::Batch) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
    Box::pin(out.send(batch))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::codec::framing::{Oversize, Scheme};
    use crate::flow::{Inlet, Reason};
    use crate::testing;

    fn receiver(scheme: Scheme, idle: Duration) -> Receiver {
        Receiver::new(FrameSettings::new(scheme, 1000, Oversize::Truncate), idle, "test")
    }

    struct Running {
        to: tokio::io::DuplexStream,
        inlet: Inlet,
        out: Outlet,
        shutdown: Shutdown,
        served: tokio::task::JoinHandle<()>,
    }

    fn start(receiver: Receiver) -> Running {
        let (to, from) = tokio::io::duplex(1 << 20);
        let (out, inlet) = testing::pipeline();
        let shutdown = Shutdown::new();
        let (sends, ends) = (out.clone(), shutdown.clone());
        let served = task::spawn(async move { receiver.serve(from, "10.0.0.1:5", &sends, &ends).await });
        Running { to, inlet, out, shutdown, served }
    }

    #[tokio::test(start_paused = true)]
    async fn lines_pass_as_they_come_and_the_last_without_its_end() {
        let mut run = start(receiver(Scheme::Newline, Duration::ZERO));
        run.to.write_all(b"one\r\ntwo\nthr").await.unwrap();
        let lease = run.inlet.recv().await.unwrap();
        assert_eq!(lease.batch().arena().origin().label(), "10.0.0.1:5");
        assert_eq!(
            lease.batch().lines().map(|(_, l)| l.to_vec()).collect::<Vec<_>>(),
            [&b"one\r"[..], b"two"]
        );
        lease.delivered();
        assert_eq!(run.out.meter().snapshot().clients, 1);
        run.to.write_all(b"ee").await.unwrap();
        drop(run.to);
        assert_eq!(testing::wait_lines(&mut run.inlet, 1).await, [b"three"]);
        run.served.await.unwrap();
        let counts = run.out.meter().snapshot();
        assert_eq!((counts.cut_events, counts.clients, counts.errors), (0, 0, 0));
        assert!(counts.balances());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_closed_and_a_slow_one_is_not() {
        let limit = Duration::from_secs(30);
        let mut run = start(receiver(Scheme::Newline, limit));
        for _ in 0..5 {
            tokio::time::sleep(limit * 2 / 3).await;
            run.to.write_all(b"x").await.unwrap();
        }
        assert!(!run.served.is_finished());
        let silent_since = clock::now();
        run.served.await.unwrap();
        assert_eq!(silent_since.elapsed().as_secs(), limit.as_secs());
        assert_eq!(testing::take_lines(&mut run.inlet), [b"xxxxx"], "what was read passes");
        assert_eq!(run.out.meter().snapshot().cut_events, 1, "and counts as cut");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_the_shutdown_passes() {
        let mut run = start(receiver(Scheme::Newline, Duration::ZERO));
        tokio::task::yield_now().await;
        run.shutdown.drain();
        run.to.write_all(&b"line\n".repeat(50_000)).await.unwrap();
        run.to.write_all(b"begun").await.unwrap();
        run.served.await.unwrap();
        let lines = testing::take_lines(&mut run.inlet);
        assert_eq!((lines.len(), lines.last().unwrap().as_slice()), (50_001, &b"begun"[..]));
        assert_eq!(run.out.meter().snapshot().cut_events, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_without_end_does_not_hold_up_the_shutdown() {
        let mut run = start(receiver(Scheme::Newline, Duration::ZERO));
        run.shutdown.drain();
        let (mut to, line) = (run.to, [vec![b'x'; 999], vec![b'\n']].concat());
        let sender = task::spawn(async move { while to.write_all(&line).await.is_ok() {} });
        run.served.await.unwrap();
        sender.await.unwrap();
        assert!(testing::take_lines(&mut run.inlet).len() <= LAST_BYTES_MAX / 1000 + 1050);
    }

    #[tokio::test(start_paused = true)]
    async fn forged_lengths_close_the_connection_and_what_came_before_passes() {
        let mut run = start(receiver(Scheme::LengthPrefixed, Duration::ZERO));
        run.to.write_all(b"\0\0\0\x02ok\xff\xff\xff\xffrest").await.unwrap();
        run.served.await.unwrap();
        assert_eq!(testing::take_lines(&mut run.inlet), [b"ok"]);
        assert_eq!(run.out.meter().snapshot().errors, 1);
        assert!(run.to.write_all(b"x").await.is_err(), "closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_pipeline_stops_the_reading() {
        use crate::flow::{Bounds, Branch, Chain, Intake, Queue, WhenFull};
        let bounds = Bounds { events_max: 10, bytes_max: 1 << 20, when_full: WhenFull::Block };
        let queue = Queue::new(bounds, Arc::new(Meter::default()));
        let mut inlet = Inlet::new(queue.clone());
        let branches = vec![Branch { chain: None, queue }];
        let intake = Intake::new(None, Chain::default(), branches, Arc::new(Meter::default()));
        let out = Outlet::new(Arc::new(intake), Arc::new(Meter::default()));
        let (mut to, from) = tokio::io::duplex(1024);
        let shutdown = Shutdown::new();
        let (sends, ends) = (out.clone(), shutdown.clone());
        let receiver = receiver(Scheme::Newline, Duration::ZERO);
        let served = task::spawn(async move { receiver.serve(from, "p", &sends, &ends).await });
        let full = tokio::time::timeout(Duration::from_secs(5), to.write_all(&[b'\n'; 8192])).await;
        assert!(full.is_err(), "the sender waits");
        assert!(out.meter().snapshot().received_events <= 1024 * 2);
        drop(to);
        let mut lines = 0;
        while !served.is_finished() {
            lines += testing::wait_lines(&mut inlet, 1).await.len();
        }
        lines += testing::take_lines(&mut inlet).len();
        let counts = out.meter().snapshot();
        assert_eq!(counts.received_events, lines as u64);
        assert_eq!(counts.dropped(Reason::Aborted), 0);
    }

    #[tokio::test]
    async fn an_idle_connection_is_small() {
        let (_to, from) = tokio::io::duplex(64);
        let (out, _inlet) = testing::pipeline();
        let (receiver, shutdown) = (receiver(Scheme::Newline, Duration::from_secs(60)), Shutdown::new());
        let served = receiver.serve(from, "p", &out, &shutdown);
        let bytes = size_of_val(&served);
        assert!(bytes < 1536, "{bytes} bytes");
    }
}
