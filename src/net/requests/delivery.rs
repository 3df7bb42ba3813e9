//! Rows on their way to a receiver: a gathering of leases, sent as one request, or in ever smaller pieces once the
//! receiver has refused some of them. The pieces of one delivery are sent one after the other, in order.

use std::collections::VecDeque;

use http::HeaderValue;
use smallvec::SmallVec;

use super::payload::Payload;
use crate::base::clock::Instant;
use crate::config::RetryOptions;
use crate::flow::{Gathered, Lease, RetrySchedule};

/// Rows that are sent in one request.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) leases: SmallVec<[Lease; 4]>,
    pub(super) events: u64,
    /// The request, once it was made; the same at every attempt.
    pub(super) prepared: Option<Prepared>,
}

/// A request that is ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) payload: Payload,
    /// Names the rows, so that a receiver can tell an attempt from new rows.
    pub(super) id: HeaderValue,
}

/// See the module. Dropped, what was not settled goes back to the queue.
#[derive(Debug)]
pub(super) struct Delivery {
    /// The first is sent next; empty when all is settled.
    pub(super) pieces: VecDeque<Piece>,
    pub(super) schedule: RetrySchedule,
    /// When the next attempt may be made.
    pub(super) due: Instant,
    /// What the rows were thought to take, in bytes.
    pub(super) estimated_bytes: u64,
}

impl Piece {
    /// Cuts the piece in two at the middle row; `self` keeps the first half. Needs at least two rows.
    pub(super) fn split(&mut self) -> Piece {
        let half = self.events / 2;
        let (mut kept, mut first, mut second) = (0, SmallVec::new(), SmallVec::new());
        for mut lease in self.leases.drain(..) {
            let events = lease.batch().events();
            if kept + events <= half {
                first.push(lease);
            } else if kept < half {
                first.push(lease.split_to(half - kept));
                second.push(lease);
            } else {
                second.push(lease);
            }
            kept = (kept + events).min(half);
        }
        let rest = self.events - half;
        *self = Piece { leases: first, events: half, prepared: None };
        Piece { leases: second, events: rest, prepared: None }
    }
}

impl Delivery {
    pub(super) fn new(gathered: Gathered, retry: &RetryOptions, now: Instant) -> Delivery {
        let piece = Piece { leases: gathered.leases, events: gathered.events, prepared: None };
        let schedule = RetrySchedule::new(retry);
        Delivery { pieces: VecDeque::from([piece]), schedule, due: now, estimated_bytes: gathered.bytes }
    }

    /// The first piece is cut in two.
    pub(super) fn split_first(&mut self) {
        if let Some(first) = self.pieces.front_mut() {
            let second = first.split();
            self.pieces.insert(1, second);
            self.schedule.reset();
        }
    }

    /// The first piece has reached the receiver.
    pub(super) fn first_delivered(&mut self) {
        for lease in self.take_first() {
            lease.delivered();
        }
    }

    /// Takes the first piece's leases, for somebody else to settle.
    pub(super) fn take_first(&mut self) -> SmallVec<[Lease; 4]> {
        self.schedule.reset();
        self.pieces.pop_front().map(|piece| piece.leases).unwrap_or_default()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.pieces.is_empty()
    }
}
