//! What is remembered of credentials for a while: which were right, so that a password is not hashed for every
//! request, and which tickets are out. Both are keyed by a MAC under a key of this process, so that neither memory
//! nor timing gives a secret away, and both are bounded and expire.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::identity::Identity;
use crate::base::clock::Instant;

/// Bytes of randomness in a ticket: nobody guesses 192 bits.
const TICKET_BYTES: usize = 24;

/// A bounded map from secrets to identities.
#[derive(Debug)]
pub(super) struct Memory {
    key: hmac::Key,
    lifetime: Duration,
    entries_max: usize,
    entries: Mutex<HashMap<[u8; 32], (Identity, Instant)>>,
}

impl Memory {
    /// Remembers at most `entries_max` for `lifetime`.
    pub(super) fn new(lifetime: Duration, entries_max: usize) -> Memory {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())
            .expect("the operating system has randomness");
        Memory { key, lifetime, entries_max, entries: Mutex::default() }
    }

    fn mac(&self, secret: &[u8]) -> [u8; 32] {
        let mut mac = [0; 32];
        mac.copy_from_slice(hmac::sign(&self.key, secret).as_ref());
        mac
    }

    /// Whose secret it is, if it is remembered.
    pub(super) fn find(&self, secret: &[u8], now: Instant) -> Option<Identity> {
        let mac = self.mac(secret);
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(&mac).filter(|(_, until)| now < *until).map(|(identity, _)| identity.clone())
    }

    /// The same, and forgets it.
    pub(super) fn take(&self, secret: &[u8], now: Instant) -> Option<Identity> {
        let mac = self.mac(secret);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.remove(&mac).filter(|(_, until)| now < *until).map(|(identity, _)| identity)
    }

    /// Remembers. When full, what expired is forgotten, or else what expires next.
    pub(super) fn put(&self, secret: &[u8], identity: Identity, now: Instant) {
        let mac = self.mac(secret);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.entries_max && !entries.contains_key(&mac) {
            entries.retain(|_, (_, until)| now < *until);
            if entries.len() >= self.entries_max {
                let oldest = entries.iter().min_by_key(|(_, (_, until))| *until).map(|(mac, _)| *mac);
                oldest.and_then(|mac| entries.remove(&mac));
            }
        }
        entries.insert(mac, (identity, now + self.lifetime));
    }

    /// A new ticket for `identity`.
    pub(super) fn ticket(&self, identity: Identity, now: Instant) -> String {
        let mut bytes = [0; TICKET_BYTES];
        rand::fill(&mut bytes).expect("the operating system has randomness");
        let ticket = URL_SAFE_NO_PAD.encode(bytes);
        self.put(ticket.as_bytes(), identity, now);
        ticket
    }

    /// How long a secret is remembered.
    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Forgets everything: the passwords have changed.
    pub(super) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.lock().unwrap().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;
    use crate::net::guard::identity::Means;

    #[test]
    fn remembers_for_a_while_and_not_without_bound() {
        let (memory, start) = (Memory::new(Duration::from_secs(30), 10), clock::now());
        let who = |n: usize| Identity::new(n.to_string().into(), Means::Basic);
        for n in 0..1000 {
            memory.put(n.to_string().as_bytes(), who(n), start + Duration::from_millis(n as u64));
        }
        assert_eq!(memory.len(), 10);
        let soon = start + Duration::from_secs(2);
        assert_eq!(memory.find(b"999", soon), Some(who(999)));
        assert_eq!(memory.find(b"1", soon), None);
        assert_eq!(memory.find(b"999", start + Duration::from_secs(31)), None);
        memory.clear();
        assert_eq!(memory.find(b"999", soon), None);
    }

    #[test]
    fn a_ticket_is_good_once_and_not_for_long() {
        let (memory, start) = (Memory::new(Duration::from_secs(30), 10), clock::now());
        let who = Identity::new("alice".into(), Means::Basic);
        let (a, b) = (memory.ticket(who.clone(), start), memory.ticket(who.clone(), start));
        assert!(a != b && a.len() == 32);
        assert_eq!(memory.take(a.as_bytes(), start + Duration::from_secs(29)), Some(who));
        assert_eq!(memory.take(a.as_bytes(), start), None);
        assert_eq!(memory.take(b.as_bytes(), start + Duration::from_secs(30)), None);
        assert_eq!(memory.take(b"guess", start), None);
    }
}
