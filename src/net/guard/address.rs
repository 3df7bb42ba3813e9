//! What counts as one address: IPv4 in IPv6 form is IPv4, and an IPv6 network of /64 is one client, since whoever
//! has one address of it has all of them.

use std::net::{IpAddr, Ipv6Addr};

/// What limits are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct AddressKey(IpAddr);

impl AddressKey {
    /// The key of an address in any form.
    pub(super) fn of(address: IpAddr) -> AddressKey {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & !u128::from(u64::MAX);
                AddressKey(IpAddr::V6(Ipv6Addr::from(network)))
            }
            v4 => AddressKey(v4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_one_key() {
        let key = |text: &str| AddressKey::of(text.parse().unwrap());
        for (a, b, same) in [
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("::1", "127.0.0.1", false),
        ] {
            assert_eq!(key(a) == key(b), same, "{a} {b}");
        }
    }
}
