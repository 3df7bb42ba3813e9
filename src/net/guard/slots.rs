//! Connections at a time, in total and per address. The map holds addresses with an open connection only, so the
//! number of connections bounds it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use super::address::AddressKey;
use super::refusal::Reason;

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Slots {
    total_max: Option<usize>,
    per_address_max: Option<usize>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// Kept only where there is a limit per address.
    by_address: HashMap<AddressKey, usize>,
}

impl Slots {
    pub(super) fn new(total_max: Option<usize>, per_address_max: Option<usize>) -> Slots {
        Slots { total_max, per_address_max, open: Mutex::default() }
    }

    /// Takes a place, or says which limit is reached. Every place taken is given back with [`Slots::release`].
    pub(super) fn take(&self, key: AddressKey) -> Result<(), Reason> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // The limit of one address first: its own connections must not count as everybody's crowd.
        if let Some(max) = self.per_address_max {
            let here = open.by_address.get(&key).copied().unwrap_or(0);
            if here >= max {
                return Err(Reason::ConnectionsPerAddress);
            }
        }
        if self.total_max.is_some_and(|max| open.total >= max) {
            return Err(Reason::Connections);
        }
        open.total += 1;
        if self.per_address_max.is_some() {
            *open.by_address.entry(key).or_default() += 1;
        }
        Ok(())
    }

    pub(super) fn release(&self, key: AddressKey) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Entry::Occupied(mut here) = open.by_address.entry(key) {
            *here.get_mut() -= 1;
            if *here.get() == 0 {
                here.remove();
            }
        }
    }

    /// Connections that are open now.
    pub(super) fn total(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    #[cfg(test)]
    fn addresses(&self) -> usize {
        self.open.lock().unwrap().by_address.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let slots = Slots::new(Some(3), Some(2));
        let key = |text: &str| AddressKey::of(text.parse().unwrap());
        let (a, b) = (key("10.0.0.1"), key("2001:db8::1"));
        assert_eq!((slots.take(a), slots.take(a)), (Ok(()), Ok(())));
        assert_eq!(slots.take(a), Err(Reason::ConnectionsPerAddress));
        assert_eq!(slots.take(b), Ok(()));
        assert_eq!(slots.take(key("2001:db8::2")), Err(Reason::Connections));
        slots.release(a);
        // The same /64 counts as one.
        assert_eq!(slots.take(key("2001:db8::3")), Ok(()));
        slots.release(a);
        assert_eq!(slots.take(key("2001:db8::4")), Err(Reason::ConnectionsPerAddress));
        slots.release(b);
        slots.release(b);
        assert_eq!((slots.total(), slots.addresses()), (0, 0));
    }
}
