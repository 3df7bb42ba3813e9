//! Numbers, addresses and times to compare with, and what the text of a field is worth next to them.

use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::time::Moment;
use crate::batch::{Timestamp, detect};

/// A number; whole ones are compared exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    /// Reads a decimal number with an optional sign, fraction and exponent, the whole of `text`.
    pub(super) fn parse(text: &[u8]) -> Option<Number> {
        let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
        if !digits.first()?.is_ascii_digit() && digits.first() != Some(&b'.') {
            return None;
        }
        if digits.iter().all(u8::is_ascii_digit) {
            if let Ok(whole) = std::str::from_utf8(text).ok()?.parse() {
                return Some(Number::Whole(whole));
            }
        } else if !digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) {
            return None;
        }
        let real: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        real.is_finite().then_some(Number::Real(real))
    }

    pub(super) fn compare(self, other: Number) -> Ordering {
        let real = |number| match number {
            Number::Whole(n) => n as f64,
            Number::Real(x) => x,
        };
        match (self, other) {
            (Number::Whole(a), Number::Whole(b)) => a.cmp(&b),
            // Neither is NaN.
            (a, b) => real(a).partial_cmp(&real(b)).unwrap_or(Ordering::Equal),
        }
    }
}

/// An address as it stands in logs: alone, in brackets, or with a port; mapped IPv4 is IPv4.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    // The longest is `[` an IPv6 address, its zone and a port.
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= 64)?;
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let found = bare.parse::<IpAddr>().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    found.map(|ip| ip.to_canonical())
}

/// One end of a range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bound<T> {
    pub(super) at: T,
    pub(super) included: bool,
}

/// Values between two ends; a missing one is open.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Between {
    Numbers(Option<Bound<Number>>, Option<Bound<Number>>),
    Addresses(Option<Bound<IpAddr>>, Option<Bound<IpAddr>>),
    Times(Option<Bound<Moment>>, Option<Bound<Moment>>),
}

fn within<T: Copy>(
    value: T,
    low: Option<Bound<T>>,
    high: Option<Bound<T>>,
    compare: impl Fn(T, T) -> Ordering,
) -> bool {
    let above = low.is_none_or(|bound| match compare(value, bound.at) {
        Ordering::Greater => true,
        Ordering::Equal => bound.included,
        Ordering::Less => false,
    });
    above
        && high.is_none_or(|bound| match compare(value, bound.at) {
            Ordering::Less => true,
            Ordering::Equal => bound.included,
            Ordering::Greater => false,
        })
}

impl Between {
    /// Whether the text of a field lies between. Text that is no such value does not.
    pub(super) fn holds(&self, text: &[u8], received: Timestamp, now: Timestamp) -> bool {
        match self {
            Between::Numbers(low, high) => {
                Number::parse(text.trim_ascii()).is_some_and(|n| within(n, *low, *high, Number::compare))
            }
            Between::Addresses(low, high) => address(text.trim_ascii()).is_some_and(|ip| {
                let family =
                    |bound: &Option<Bound<IpAddr>>| bound.is_none_or(|b| b.at.is_ipv4() == ip.is_ipv4());
                family(low) && family(high) && within(ip, *low, *high, |a, b| a.cmp(&b))
            }),
            Between::Times(..) => {
                detect::detect_timestamp(text, received).is_some_and(|at| self.holds_time(at, now))
            }
        }
    }

    /// Whether a time lies between; a bound names a stretch, and is included or left out as a whole.
    pub(super) fn holds_time(&self, at: Timestamp, now: Timestamp) -> bool {
        let Between::Times(low, high) = self else { return false };
        let above = low.is_none_or(|bound| {
            let (start, end) = bound.at.resolve(now);
            at.0 >= if bound.included { start } else { end }
        });
        above
            && high.is_none_or(|bound| {
                let (start, end) = bound.at.resolve(now);
                at.0 < if bound.included { end } else { start }
            })
    }
}

/// A value that a text may be equal to in more ways than by its words.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Equal {
    Number(Number),
    Address(IpAddr),
    Network(IpNet),
}

impl Equal {
    /// Whether the text is such a value, and if so, whether it is this one. `None`: its words decide.
    pub(super) fn decides(&self, text: &[u8]) -> Option<bool> {
        match self {
            Equal::Number(ours) => {
                Number::parse(text.trim_ascii()).map(|n| n.compare(*ours) == Ordering::Equal)
            }
            Equal::Address(ours) => address(text.trim_ascii()).map(|ip| ip == *ours),
            Equal::Network(net) => Some(address(text.trim_ascii()).is_some_and(|ip| net.contains(&ip))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_strictly_and_compared_exactly() {
        let n = |text: &str| Number::parse(text.as_bytes());
        for text in
            ["", "-", ".", "0x1f", "1_000", "inf", "nan", "1e", "12ms", " 1", "1.2.3", "e5", "1e999", "--1"]
        {
            assert_eq!(n(text), None, "{text}");
        }
        let order = |a: &str, b: &str| n(a).unwrap().compare(n(b).unwrap());
        assert_eq!(order("9007199254740993", "9007199254740992"), Ordering::Greater);
        assert_eq!(order("500", "500.0"), Ordering::Equal);
        assert_eq!(order("5e2", "+500"), Ordering::Equal);
        assert_eq!(order("-1.5", "-1"), Ordering::Less);
        assert_eq!(order(".5", "0.25"), Ordering::Greater);
        assert_eq!(order(&"9".repeat(60), "1"), Ordering::Greater);
    }

    #[test]
    fn addresses_stand_alone_or_with_a_port() {
        let ip = |text: &str| address(text.as_bytes()).map(|ip| ip.to_string());
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[::1]:80", "::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(ip(text).as_deref(), Some(expected));
        }
        assert_eq!(ip("10.0.0.256"), None);
        assert_eq!(ip("host:80"), None);
    }
}
