//! Writes a subscriber's slices to its socket: coalesced, paced, and with a deadline on every write but none on
//! the whole. A slow client holds back only its own task, which holds one write's worth of shared bytes.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::future::select_all;
use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::notes::HeartbeatStyle;
use super::subscriber::{Outgoing, Subscriber};
use crate::base::clock::{self, Instant};
use crate::base::shutdown::Shutdown;

/// Slices handed to the kernel in one call.
const SLICES_MAX: usize = 64;
/// Wait between two writes per subscriber of the same stream, and the longest wait: a thousand subscribers get
/// about 5,000 writes a second between them, each with all that came meanwhile.
const PACE_PER_FOLLOWER: Duration = Duration::from_micros(200);
const PACE_MAX: Duration = Duration::from_millis(200);
/// Shorter waits are not worth a timer, whose grain is a millisecond.
const PACE_MIN: Duration = Duration::from_millis(2);
/// Silence after which the kernel asks whether a client is still there, and how often it asks again: what tells
/// that a client left where nothing is sent to it.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_AGAIN: Duration = Duration::from_secs(10);
/// Bytes a client may send while it listens before it is taken for something else and let go.
const UNASKED_BYTES_MAX: usize = 64 << 10;

/// How to write.
#[derive(Debug, Clone)]
pub struct PumpOptions {
    /// Whether the body is framed as HTTP/1.1 chunks.
    pub chunked: bool,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
    /// Time without a write after which a sign of life is sent.
    pub heartbeat: Option<Duration>,
    /// What it looks like.
    pub heartbeat_style: HeartbeatStyle,
    /// Whether it tells how the stream stands.
    pub heartbeat_stats: bool,
}

/// Serves `subscriber` on `socket`, after `head`, until it has had everything, the client leaves, a write fails or
/// stands still, or `shutdown` aborts. Draining ends it in order, with a `bye`.
///
/// # Errors
/// Why the connection ended early.
pub async fn pump(
    socket: &TcpStream,
    head: Bytes,
    subscriber: &mut Subscriber,
    options: &PumpOptions,
    shutdown: &Shutdown,
) -> io::Result<()> {
    keep_alive(socket)?;
    let mut link = Link { socket, options, shutdown, unasked: 0, mute: false };
    let mut out = Outgoing::default();
    subscriber.greet(&mut out);
    link.frame(&mut out);
    if !head.is_empty() {
        out.parts.push_front(head);
        out.framed += 1;
    }
    let mut last_write = clock::now();
    let mut paced_until = last_write;
    loop {
        let mut backlog = false;
        if subscriber.is_due() {
            tokio::time::sleep_until(paced_until).await;
            let before = out.bytes;
            subscriber.fill(&mut out);
            backlog = subscriber.is_due() && out.bytes - before >= PACED_BYTES;
            link.frame(&mut out);
        }
        let done = subscriber.is_done(shutdown.is_draining());
        if done {
            subscriber.farewell(subscriber.end_reason(), &mut out);
            link.frame(&mut out);
            if options.chunked {
                out.parts.push_back(Bytes::from_static(b"0\r\n\r\n"));
            }
        }
        if !out.parts.is_empty() {
            if let Err(e) = link.write(&mut out).await {
                // A client that leaves wants no more; one that stands still has missed it.
                if e.kind() == io::ErrorKind::TimedOut {
                    subscriber.abandon();
                }
                return Err(e);
            }
            last_write = clock::now();
            paced_until = if backlog { last_write } else { last_write + pace(subscriber) };
        }
        if done {
            return Ok(());
        }
        if backlog {
            tokio::task::yield_now().await;
        } else if link.wait(subscriber, last_write).await? == Woken::Heartbeat {
            subscriber.heartbeat(options.heartbeat_style, options.heartbeat_stats, &mut out);
            link.frame(&mut out);
            // Where there is nothing to say, the clock still starts again.
            last_write = clock::now();
        }
    }
}

/// A fill of this size or more is followed at once by the next while there is more.
const PACED_BYTES: usize = 128 << 10;

fn pace(subscriber: &Subscriber) -> Duration {
    let followers = subscriber.rings().map(|ring| ring.followers()).max().unwrap_or(0);
    let wait = PACE_PER_FOLLOWER.saturating_mul(u32::try_from(followers).unwrap_or(u32::MAX)).min(PACE_MAX);
    if wait < PACE_MIN { Duration::ZERO } else { wait }
}

#[derive(Debug, PartialEq, Eq)]
enum Woken {
    Due,
    Heartbeat,
}

struct Link<'a> {
    socket: &'a TcpStream,
    options: &'a PumpOptions,
    shutdown: &'a Shutdown,
    unasked: usize,
    /// Whether the client has shut its sending side. It may listen on, as `nc` does when its input ends, or may
    /// have left, which shows once something is sent to it.
    mute: bool,
}

impl Link<'_> {
    /// Makes all that was added since the last call one chunk.
    fn frame(&self, out: &mut Outgoing) {
        if self.options.chunked && out.bytes > 0 {
            out.parts.insert(out.framed, format!("{:x}\r\n", out.bytes).into());
            out.parts.push_back(Bytes::from_static(b"\r\n"));
        }
        out.bytes = 0;
        out.framed = out.parts.len();
    }

    async fn write(&self, out: &mut Outgoing) -> io::Result<()> {
        while !out.parts.is_empty() {
            match self.try_write(out) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    tokio::select! {
                        writable = timeout(self.options.write_timeout, self.socket.writable()) => {
                            writable.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading"))??;
                        }
                        () = self.shutdown.aborted() => return Err(io::ErrorKind::ConnectionAborted.into()),
                    }
                }
                Err(e) => return Err(e),
            }
        }
        out.framed = 0;
        Ok(())
    }

    fn try_write(&self, out: &mut Outgoing) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(&out.parts) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        let mut written = self.socket.try_write_vectored(&slices[..count])?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(front) = out.parts.front_mut() {
            if written < front.len() {
                front.advance(written);
                break;
            }
            written -= front.len();
            out.parts.pop_front();
        }
        Ok(())
    }

    /// Waits for the next thing to do.
    async fn wait(&mut self, subscriber: &Subscriber, last_write: Instant) -> io::Result<Woken> {
        let changed: Vec<_> = subscriber.rings().map(|ring| Box::pin(ring.changed())).collect();
        let draining = self.shutdown.is_draining();
        // Asked after `changed` was made, so that nothing slips in between.
        if subscriber.is_due() || subscriber.is_done(draining) {
            return Ok(Woken::Due);
        }
        let changed = select_all(changed);
        tokio::pin!(changed);
        loop {
            tokio::select! {
                _ = &mut changed => return Ok(Woken::Due),
                () = heartbeat(last_write, self.options.heartbeat) => return Ok(Woken::Heartbeat),
                () = self.shutdown.draining(), if !draining => return Ok(Woken::Due),
                () = self.shutdown.aborted() => return Err(io::ErrorKind::ConnectionAborted.into()),
                failed = self.socket.ready(Interest::ERROR), if self.mute => {
                    failed?;
                    return Err(self.socket.take_error()?.unwrap_or(io::ErrorKind::ConnectionReset.into()));
                }
                readable = self.socket.readable(), if !self.mute => {
                    readable?;
                    self.discard()?;
                    if self.mute && self.options.heartbeat.is_some() {
                        return Ok(Woken::Heartbeat);
                    }
                }
            }
        }
    }

    /// Reads what a client says while it listens, to notice that it says no more.
    fn discard(&mut self) -> io::Result<()> {
        let mut scratch = [0u8; 512];
        match self.socket.try_read(&mut scratch) {
            Ok(0) => {
                self.mute = true;
                Ok(())
            }
            Ok(n) => {
                self.unasked += n;
                if self.unasked > UNASKED_BYTES_MAX {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the client sends instead of listening",
                    ));
                }
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(e) => Err(e),
        }
    }
}

fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_keepidle(socket, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(socket, KEEP_ALIVE_AGAIN)?;
    Ok(sockopt::set_socket_keepalive(socket, true)?)
}

async fn heartbeat(last_write: Instant, every: Option<Duration>) {
    match every {
        Some(every) => tokio::time::sleep_until(last_write + every).await,
        None => std::future::pending().await,
    }
}
