//! The way to one endpoint: nothing while nobody needs it, then dialing, then a link.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::link::{Leftover, Link};
use super::{LaneLimits, Work};
use crate::base::clock::{self, Instant};
use crate::codec::outgoing::Outgoing;
use crate::net::dial::{Connection, Dial, Endpoint};
use crate::net::upstream::Slot;

/// Pieces of work in one lane: many small ones weigh little and still cost memory each.
const WORKS_MAX: usize = 4096;

/// See the module.
pub(super) struct Lane {
    endpoint: Endpoint,
    dial: Arc<dyn Dial>,
    limits: LaneLimits,
    state: State,
    queue: Backlog,
    /// Asks whether an endpoint that failed is back.
    probe: Option<Slot>,
    /// Takes no more work: its connection is old and ends when all is acknowledged.
    retiring: bool,
}

/// Work that is not on the wire yet.
#[derive(Default)]
pub(super) struct Backlog {
    works: VecDeque<Work>,
    /// Memory it keeps alive, in bytes.
    weight: u64,
}

impl Backlog {
    fn push(&mut self, work: Work) {
        self.weight += work.weight();
        self.works.push_back(work);
    }

    pub(super) fn pop(&mut self) -> Option<Work> {
        let work = self.works.pop_front()?;
        self.weight -= work.weight();
        Some(work)
    }
}

enum State {
    Idle,
    Dialing(BoxFuture<'static, io::Result<Connection>>),
    Up(Box<Link>),
    Closing(Box<Link>),
}

/// What became of a lane.
pub(super) enum Event {
    /// Connected.
    Up,
    /// There is more room than before.
    Freed,
    /// The connection could not be made, or broke.
    Lost {
        /// Why, with the endpoint.
        why: String,
        /// What had not arrived, in order.
        leftover: Leftover,
        /// The probe it was made for, if it was not made for work.
        probe: Option<Slot>,
        /// Whether it was never made.
        undialed: bool,
    },
}

impl Lane {
    pub(super) fn new(endpoint: Endpoint, dial: Arc<dyn Dial>, limits: LaneLimits) -> Lane {
        Lane {
            endpoint,
            dial,
            limits,
            state: State::Idle,
            queue: Backlog::default(),
            probe: None,
            retiring: false,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        let (on_wire, weight) = match &self.state {
            State::Up(link) => (link.flights(), link.weight()),
            State::Closing(_) => return false,
            State::Idle | State::Dialing(_) => (0, 0),
        };
        !self.retiring
            && on_wire + self.queue.works.len() < WORKS_MAX
            && weight + self.queue.weight < self.limits.window_bytes_max
    }

    pub(super) fn push(&mut self, work: Work) {
        self.queue.push(work);
    }

    /// Whether all its work has arrived.
    pub(super) fn is_empty(&self) -> bool {
        let on_wire = match &self.state {
            State::Up(link) => link.flights(),
            _ => 0,
        };
        on_wire + self.queue.works.len() == 0
    }

    /// Whether it is connected.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Connects although there is no work, to see whether the endpoint is back.
    pub(super) fn probe(&mut self, slot: Slot) {
        self.probe = Some(slot);
        self.connect();
    }

    fn connect(&mut self) {
        let (dial, endpoint) = (self.dial.clone(), self.endpoint.clone());
        self.state = State::Dialing(async move { dial.dial(&endpoint).await }.boxed());
    }

    /// Goes on as far as it can; `None` when it waits for the network.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, outgoing: &Outgoing) -> Option<Event> {
        loop {
            match &mut self.state {
                State::Idle if self.queue.works.is_empty() => return None,
                State::Idle => self.connect(),
                State::Dialing(dialing) => match dialing.as_mut().poll(cx) {
                    Poll::Pending => return None,
                    Poll::Ready(Ok(connection)) => {
                        let link = Link::new(connection, outgoing.clone(), clock::now());
                        self.state = State::Up(Box::new(link));
                        if let Some(probe) = self.probe.take() {
                            probe.succeeded();
                        }
                        return Some(Event::Up);
                    }
                    Poll::Ready(Err(e)) => return Some(self.lost(e.to_string())),
                },
                State::Up(link) => {
                    let advanced = link.advance(cx, &mut self.queue);
                    let event = self.advanced(advanced);
                    if event.is_some() || !self.close_if_retired() {
                        return event;
                    }
                }
                State::Closing(link) => {
                    if link.poll_close(cx).is_pending() {
                        return None;
                    }
                    self.state = State::Idle;
                    self.retiring = false;
                    return Some(Event::Freed);
                }
            }
        }
    }

    fn advanced(&mut self, advanced: io::Result<bool>) -> Option<Event> {
        match advanced {
            Ok(settled) => settled.then_some(Event::Freed),
            Err(e) => Some(self.lost(format!("{}: {e}", self.endpoint))),
        }
    }

    /// Now and then: learns what has arrived, and notices what stands still.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Event> {
        let State::Up(link) = &mut self.state else { return None };
        let ticked = link.tick(now, self.limits.write_timeout);
        let event = self.advanced(ticked);
        self.close_if_retired();
        event
    }

    /// An old connection takes no more work, and ends with what it carries.
    pub(super) fn retire_if_old(&mut self, now: Instant) {
        if self.old_at().is_some_and(|at| at <= now) {
            self.retiring = true;
            self.close_if_retired();
        }
    }

    /// Whether it has begun to close.
    fn close_if_retired(&mut self) -> bool {
        let closes = self.retiring && self.is_empty();
        if closes {
            self.close();
        }
        closes
    }

    /// Whether the tick has something to look after, now or once the queue is written.
    pub(super) fn wants_tick(&self) -> bool {
        matches!(self.state, State::Up(_)) && !self.is_empty()
    }

    /// When the connection has become so old that it is made anew.
    pub(super) fn old_at(&self) -> Option<Instant> {
        match &self.state {
            State::Up(link) if !self.retiring => Some(link.opened() + self.limits.reconnect_after?),
            _ => None,
        }
    }

    /// Ends the connection in order; everything was acknowledged.
    pub(super) fn close(&mut self) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Up(link) => self.state = State::Closing(link),
            other => self.state = other,
        }
    }

    /// Gives back what was not acknowledged, and ends the connection as it is.
    pub(super) fn let_go(&mut self) {
        drop(self.lost(String::new()));
    }

    /// Whether a connection is still saying goodbye.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing(_))
    }

    fn lost(&mut self, why: String) -> Event {
        let mut leftover = Vec::new();
        let mut undialed = true;
        if let State::Up(link) = std::mem::replace(&mut self.state, State::Idle) {
            undialed = false;
            leftover = link.into_leftover();
        }
        // Where nobody was reached, that was an attempt for all; else these were still to come.
        leftover.extend(std::mem::take(&mut self.queue).works.into_iter().map(|mut work| {
            work.attempts += u64::from(undialed);
            work
        }));
        self.retiring = false;
        Event::Lost { why, leftover, probe: self.probe.take(), undialed }
    }
}
