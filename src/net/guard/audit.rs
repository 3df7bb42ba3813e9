//! The audit log: who was refused and who came in, on the tracing target `weir::audit`. One line per address and
//! event within a while, with a count of what was left unsaid; a flood from many addresses is bounded as well.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::address::AddressKey;
use super::identity::Identity;
use super::refusal::{Reason, Refusal};
use crate::base::clock::{self, Instant};
use crate::flow::TokenBucket;

/// How long one line speaks for all of its kind.
const QUIET: Duration = Duration::from_secs(10);
/// Kinds that are remembered.
const KINDS_MAX: usize = 4096;
/// Lines per second of all kinds in the long run, and at once.
const LINES_PER_SECOND: f64 = 10.0;
const LINES_BURST: f64 = 100.0;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Event {
    Refused(Reason),
    Connected,
    Recognised,
}

/// What one line says besides the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    /// Events of this kind since its last line.
    suppressed: u64,
    /// Events of kinds that found no room, since the last line of any kind.
    others: u64,
}

#[derive(Debug)]
struct Seen {
    kinds: HashMap<(Event, AddressKey), (Instant, u64)>,
    lines: TokenBucket,
    others: u64,
}

impl Seen {
    fn new(now: Instant) -> Seen {
        Seen { kinds: HashMap::new(), lines: TokenBucket::new(LINES_PER_SECOND, LINES_BURST, now), others: 0 }
    }

    /// Whether the event is worth a line now.
    fn note(&mut self, kind: (Event, AddressKey), now: Instant) -> Option<Said> {
        if let Some((until, suppressed)) = self.kinds.get_mut(&kind)
            && now < *until
        {
            *suppressed += 1;
            return None;
        }
        if self.kinds.len() >= KINDS_MAX && !self.kinds.contains_key(&kind) {
            self.forget(now);
        }
        let full = self.kinds.len() >= KINDS_MAX && !self.kinds.contains_key(&kind);
        if full || self.lines.take_up_to(1, now) == 0 {
            self.others += 1;
            return None;
        }
        let (_, suppressed) = self.kinds.insert(kind, (now + QUIET, 0)).unwrap_or((now, 0));
        Some(Said { suppressed, others: std::mem::take(&mut self.others) })
    }

    /// Forgets kinds whose time is over; what they had left unsaid is said with the next line.
    fn forget(&mut self, now: Instant) {
        let others = &mut self.others;
        self.kinds.retain(|_, (until, suppressed)| {
            let kept = now < *until;
            if !kept {
                *others += *suppressed;
            }
            kept
        });
    }
}

/// The audit log of one listener.
#[derive(Debug)]
pub(super) struct Audit(Mutex<Seen>);

impl Default for Audit {
    fn default() -> Audit {
        Audit(Mutex::new(Seen::new(clock::now())))
    }
}

impl Audit {
    fn note(&self, event: Event, address: IpAddr) -> Option<Said> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.note((event, AddressKey::of(address)), clock::now())
    }

    /// Somebody was turned away.
    pub(super) fn refused(&self, listener: &str, peer: IpAddr, refusal: &Refusal) {
        let Some(Said { suppressed, others }) = self.note(Event::Refused(refusal.reason), peer) else {
            return;
        };
        let reason = refusal.reason.as_str();
        tracing::info!(
            target: "weir::audit", listener, %peer, reason, suppressed, others, "refused: {refusal}"
        );
    }

    /// A connection was let in.
    pub(super) fn connected(&self, listener: &str, peer: IpAddr) {
        // Asked first: an event that nobody hears must not take the place of one that somebody would.
        if !tracing::enabled!(target: "weir::audit", tracing::Level::DEBUG) {
            return;
        }
        let Some(Said { suppressed, others }) = self.note(Event::Connected, peer) else { return };
        tracing::debug!(target: "weir::audit", listener, %peer, suppressed, others, "connected");
    }

    /// Somebody was recognised.
    pub(super) fn recognised(&self, listener: &str, peer: IpAddr, identity: &Identity) {
        if !tracing::enabled!(target: "weir::audit", tracing::Level::DEBUG) {
            return;
        }
        let Some(Said { suppressed, others }) = self.note(Event::Recognised, peer) else { return };
        let (name, by) = (identity.name().unwrap_or_default(), identity.means().as_str());
        tracing::debug!(target: "weir::audit", listener, %peer, name, by, suppressed, others, "recognised");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn key(n: u32) -> AddressKey {
        AddressKey::of(IpAddr::V4(Ipv4Addr::from(n)))
    }

    #[test]
    fn one_line_speaks_for_many_and_says_how_many() {
        let start = clock::now();
        let mut seen = Seen::new(start);
        let (kind, other) = ((Event::Refused(Reason::Denied), key(1)), (Event::Connected, key(1)));
        let none = Some(Said { suppressed: 0, others: 0 });
        assert_eq!(seen.note(kind, start), none);
        for _ in 0..1000 {
            assert_eq!(seen.note(kind, start + QUIET / 2), None);
        }
        assert_eq!(seen.note(other, start), none);
        assert_eq!(seen.note(kind, start + QUIET), Some(Said { suppressed: 1000, others: 0 }));
        assert_eq!(seen.note(kind, start + QUIET * 3), none);
    }

    #[test]
    fn many_addresses_are_bounded_and_nothing_is_lost_from_the_count() {
        let start = clock::now();
        let mut seen = Seen::new(start);
        let (mut lines, mut unsaid) = (0u64, 0u64);
        for n in 0..50_000u32 {
            let now = start + Duration::from_millis(u64::from(n));
            if let Some(said) = seen.note((Event::Refused(Reason::Denied), key(n)), now) {
                lines += 1;
                unsaid += said.suppressed + said.others;
            }
            assert!(seen.kinds.len() <= KINDS_MAX);
        }
        // Fifty seconds at ten a second, and the burst.
        assert!((550..=601).contains(&lines), "{lines}");
        assert_eq!(lines + unsaid + seen.others, 50_000);
    }
}
