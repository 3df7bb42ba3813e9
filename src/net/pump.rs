//! Writes a subscriber's slices to its client: coalesced, paced, and with a deadline on every write but none on
//! the whole. A slow client holds back only its own task, which holds one write's worth of shared bytes.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select_all;
use tokio::io::AsyncWriteExt;

use super::link::{Encrypted, Link, Plain};
use super::notes::HeartbeatStyle;
use super::socket::Socket;
use super::subscriber::{Outgoing, Subscriber};
use crate::base::clock::{self, Instant};
use crate::base::shutdown::Shutdown;

/// Wait between two writes per subscriber of the same stream, and the longest wait: a thousand subscribers get
/// about 5,000 writes a second between them, each with all that came meanwhile.
const PACE_PER_FOLLOWER: Duration = Duration::from_micros(200);
const PACE_MAX: Duration = Duration::from_millis(200);
/// Shorter waits are not worth a timer, whose grain is a millisecond.
const PACE_MIN: Duration = Duration::from_millis(2);

/// How long the last words of TLS may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

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

/// Serves `subscriber` on a socket, as [`pump`] does, and ends TLS in order where it has had everything.
///
/// # Errors
/// Why the connection ended early.
pub(super) async fn pump_socket(
    socket: &mut Socket,
    head: Bytes,
    subscriber: &mut Subscriber,
    options: &PumpOptions,
    shutdown: &Shutdown,
) -> io::Result<()> {
    match socket {
        Socket::Plain(tcp) => {
            let mut link = Plain::new(tcp, options.write_timeout)?;
            pump(&mut link, head, subscriber, options, shutdown).await
        }
        Socket::Tls(tls) => {
            // Boxed, so that the many plain subscribers do not keep room for this.
            let pumped = Box::pin(async {
                let mut link = Encrypted::new(tls, options.write_timeout)?;
                pump(&mut link, head, subscriber, options, shutdown).await
            });
            pumped.await?;
            tokio::time::timeout(FAREWELL_TIMEOUT, tls.shutdown()).await?
        }
    }
}

/// Serves `subscriber` on `link`, after `head`, until it has had everything, the client leaves, a write fails or
/// stands still, or `shutdown` aborts. Draining ends it in order, with a `bye`.
///
/// # Errors
/// Why the connection ended early.
pub(super) async fn pump(
    link: &mut impl Link,
    head: Bytes,
    subscriber: &mut Subscriber,
    options: &PumpOptions,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let mut out = Outgoing::default();
    subscriber.greet(&mut out);
    frame(options, &mut out);
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
            frame(options, &mut out);
        }
        let done = subscriber.is_done(shutdown.is_draining());
        if done {
            subscriber.farewell(subscriber.end_reason(), &mut out);
            frame(options, &mut out);
            if options.chunked {
                out.parts.push_back(Bytes::from_static(b"0\r\n\r\n"));
            }
        }
        if !out.parts.is_empty() {
            let sent = tokio::select! {
                biased;
                sent = link.send(&mut out) => sent,
                () = shutdown.aborted() => Err(io::ErrorKind::ConnectionAborted.into()),
            };
            out.framed = 0;
            if let Err(e) = sent {
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
        } else if wait(link, subscriber, options, shutdown, last_write).await? == Woken::Heartbeat {
            subscriber.heartbeat(options.heartbeat_style, options.heartbeat_stats, &mut out);
            frame(options, &mut out);
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

/// Makes all that was added since the last call one chunk.
fn frame(options: &PumpOptions, out: &mut Outgoing) {
    if options.chunked && out.bytes > 0 {
        out.parts.insert(out.framed, format!("{:x}\r\n", out.bytes).into());
        out.parts.push_back(Bytes::from_static(b"\r\n"));
    }
    out.bytes = 0;
    out.framed = out.parts.len();
}

/// Waits for the next thing to do.
async fn wait(
    link: &mut impl Link,
    subscriber: &Subscriber,
    options: &PumpOptions,
    shutdown: &Shutdown,
    last_write: Instant,
) -> io::Result<Woken> {
    let changed: Vec<_> = subscriber.rings().map(|ring| Box::pin(ring.changed())).collect();
    let draining = shutdown.is_draining();
    // Asked after `changed` was made, so that nothing slips in between.
    if subscriber.is_due() || subscriber.is_done(draining) {
        return Ok(Woken::Due);
    }
    let changed = select_all(changed);
    tokio::pin!(changed);
    loop {
        tokio::select! {
            _ = &mut changed => return Ok(Woken::Due),
            () = heartbeat(last_write, options.heartbeat) => return Ok(Woken::Heartbeat),
            () = shutdown.draining(), if !draining => return Ok(Woken::Due),
            () = shutdown.aborted() => return Err(io::ErrorKind::ConnectionAborted.into()),
            hushed = link.hush() => {
                hushed?;
                // Whether it has left shows once something is sent to it.
                if options.heartbeat.is_some() {
                    return Ok(Woken::Heartbeat);
                }
            }
        }
    }
}

async fn heartbeat(last_write: Instant, every: Option<Duration>) {
    match every {
        Some(every) => tokio::time::sleep_until(last_write + every).await,
        None => std::future::pending().await,
    }
}
