//! One connection that rows flow out on: what is being written, what was written and is not acknowledged yet, and
//! the watch for a receiver that has gone.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use tokio::io::ReadBuf;

use super::Work;
use super::lane::Backlog;
use crate::base::clock::Instant;
use crate::codec::outgoing::Outgoing;
use crate::net::dial::Connection;

/// Most stretches in one system call; a few already fill a socket's buffer.
const STRETCHES_MAX: usize = 64;
/// Rows are encoded until this much waits to be written, in bytes.
const ENCODED_AHEAD: usize = 512 << 10;
/// The system is asked what was acknowledged after this many bytes; the tick asks for the rest.
const ASK_EVERY: u64 = 64 << 10;
/// What a receiver says is read and thrown away, this many pieces at a time.
const READS_MAX: usize = 16;

/// See the module.
pub(super) struct Link {
    connection: Connection,
    outgoing: Outgoing,
    /// To be written, in order.
    parts: VecDeque<Bytes>,
    parts_bytes: usize,
    /// Encoded and not acknowledged, in order.
    flights: VecDeque<Flight>,
    /// Memory that `flights` keep alive, in bytes.
    weight: u64,
    /// Bytes encoded, written and known to be acknowledged since the start; ours, not those on the wire.
    encoded: u64,
    written: u64,
    acknowledged: u64,
    /// Bytes that were on the wire before ours.
    wire_base: u64,
    /// `written` when the system was last asked.
    asked_at: u64,
    /// Whether bytes may wait inside TLS.
    unflushed: bool,
    /// What the receiver's system has acknowledged on the wire, whosever bytes they are.
    wire_acknowledged: u64,
    /// What was written and acknowledged on the wire at the last tick, and since when it has been so.
    seen: (u64, u64),
    still_since: Instant,
    opened: Instant,
}

/// A piece of work on the wire.
struct Flight {
    work: Work,
    /// Where its bytes begin and end in what we write.
    start: u64,
    end: u64,
    /// Where it ends on the wire, once that is known.
    wire_end: Option<u64>,
}

/// What a broken or finished link leaves behind: work of which nothing is known to have arrived.
pub(super) type Leftover = Vec<Work>;

impl Link {
    pub(super) fn new(connection: Connection, outgoing: Outgoing, now: Instant) -> Link {
        let wire_base = connection.wire.as_ref().map_or(0, |wire| wire.sent());
        Link {
            connection,
            outgoing,
            parts: VecDeque::new(),
            parts_bytes: 0,
            flights: VecDeque::new(),
            weight: 0,
            encoded: 0,
            written: 0,
            acknowledged: 0,
            wire_base,
            asked_at: 0,
            unflushed: false,
            wire_acknowledged: 0,
            seen: (0, 0),
            still_since: now,
            opened: now,
        }
    }

    /// Memory that work on the wire keeps alive, in bytes.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// Pieces of work on the wire.
    pub(super) fn flights(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Writes what it can of `queue` and settles what was acknowledged; true if something was settled.
    ///
    /// # Errors
    /// When the connection is broken or the receiver has closed it.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>, queue: &mut Backlog) -> io::Result<bool> {
        self.watch(cx)?;
        loop {
            self.encode(queue);
            if !self.write(cx)? {
                break;
            }
        }
        self.flush(cx)?;
        if self.written - self.asked_at < ASK_EVERY && self.connection.wire.is_some() {
            return Ok(false);
        }
        self.settle()
    }

    /// Reads, since only reading tells that the receiver has closed. What it says is not ours to understand.
    fn watch(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut scratch = [0; 512];
        for _ in 0..READS_MAX {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *self.connection.io).poll_read(cx, &mut buf) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the receiver closed the connection",
                    ));
                }
                Poll::Ready(read) => read?,
            }
        }
        // A talkative one: others have their turn first.
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn encode(&mut self, queue: &mut Backlog) {
        while self.parts_bytes < ENCODED_AHEAD
            && let Some(work) = queue.pop()
        {
            let start = self.encoded;
            let Link { outgoing, parts, parts_bytes, .. } = self;
            outgoing.write(work.lease.batch(), |part| {
                *parts_bytes += part.len();
                self.encoded += part.len() as u64;
                parts.push_back(part);
            });
            self.weight += work.weight();
            let wire_end = self.connection.is_plain.then_some(self.wire_base + self.encoded);
            self.flights.push_back(Flight { work, start, end: self.encoded, wire_end });
        }
    }

    /// Writes once; true if something was written.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.parts.is_empty() {
            return Ok(false);
        }
        let slices: SmallVec<[IoSlice<'_>; STRETCHES_MAX]> =
            self.parts.iter().take(STRETCHES_MAX).map(|part| IoSlice::new(part)).collect();
        let polled = Pin::new(&mut *self.connection.io).poll_write_vectored(cx, &slices);
        drop(slices);
        let Poll::Ready(written) = polled else { return Ok(false) };
        let mut written = written?;
        if written == 0 {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "the connection takes no more bytes"));
        }
        self.written += written as u64;
        self.parts_bytes -= written;
        self.unflushed = !self.connection.is_plain;
        while let Some(front) = self.parts.front_mut() {
            if written < front.len() {
                front.advance(written);
                break;
            }
            written -= front.len();
            self.parts.pop_front();
        }
        Ok(true)
    }

    /// Brings what TLS holds to the socket; only then it is known where our bytes end on the wire.
    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.unflushed {
            return Ok(());
        }
        if let Poll::Ready(flushed) = Pin::new(&mut *self.connection.io).poll_flush(cx) {
            flushed?;
            self.unflushed = false;
            let sent = self.connection.wire.as_ref().map(|wire| wire.sent());
            let written = self.written;
            let unknown = self.flights.iter_mut().filter(|f| f.wire_end.is_none() && f.end <= written);
            unknown.for_each(|flight| flight.wire_end = sent);
        }
        Ok(())
    }

    /// Settles what the receiver's system has acknowledged; true if there was any. Where nobody knows that, what
    /// was written and flushed counts.
    pub(super) fn settle(&mut self) -> io::Result<bool> {
        self.asked_at = self.written;
        if self.flights.is_empty() {
            return Ok(false);
        }
        let acknowledged = match &self.connection.wire {
            Some(wire) => Some(wire.acknowledged()?),
            None => None,
        };
        let arrived = |flight: &Flight, written: u64, unflushed: bool| match acknowledged {
            Some(bytes) => flight.wire_end.is_some_and(|end| end <= bytes),
            None => flight.end <= written && !unflushed,
        };
        let mut any = false;
        while self.flights.front().is_some_and(|f| arrived(f, self.written, self.unflushed)) {
            let Some(flight) = self.flights.pop_front() else { break };
            self.weight -= flight.work.weight();
            self.acknowledged = flight.end;
            flight.work.delivered();
            any = true;
        }
        self.wire_acknowledged = acknowledged.unwrap_or(self.acknowledged);
        if let Some(bytes) = acknowledged.filter(|_| self.connection.is_plain) {
            self.acknowledged = self.acknowledged.max(bytes.saturating_sub(self.wire_base).min(self.written));
        }
        Ok(any)
    }

    /// Now and then: settles, and fails when for `limit` nothing was written and nothing acknowledged although
    /// there was something to be.
    pub(super) fn tick(&mut self, now: Instant, limit: Duration) -> io::Result<bool> {
        let settled = self.settle()?;
        // Not what is known of our own bytes: under TLS that changes only with the end of all that was flushed together.
        let moved = (self.written, self.wire_acknowledged);
        if self.flights.is_empty() || self.seen != moved {
            self.seen = moved;
            self.still_since = now;
        } else if now - self.still_since >= limit {
            let why = format!("the receiver takes nothing: no progress for {limit:?} (`write_timeout`)");
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        Ok(settled)
    }

    /// The end of a broken link: settles what had arrived, to the row, and gives back the rest, in order. A row
    /// that arrived in part begins anew. What was written in part, at least, has one attempt more behind it.
    pub(super) fn into_leftover(mut self) -> Leftover {
        // The system still knows how far the receiver had come; if not, more is sent again.
        self.settle().ok();
        let acknowledged = self.acknowledged;
        if let Some(front) = self.flights.front_mut().filter(|f| f.start < acknowledged)
            && self.connection.is_plain
            && self.connection.wire.is_some()
        {
            let rows = self.outgoing.rows_within(front.work.lease.batch(), acknowledged - front.start);
            if rows > 0 {
                front.work.lease.split_to(rows).delivered();
            }
        }
        let written = self.written;
        let attempted = |mut flight: Flight| {
            flight.work.attempts += u64::from(flight.start < written);
            flight.work
        };
        self.flights.drain(..).map(attempted).collect()
    }

    /// Says goodbye. Everything was acknowledged by then.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A receiver that is gone has no use for it.
        Pin::new(&mut *self.connection.io).poll_shutdown(cx).map(|_| ())
    }
}
