//! Quantities that carry their unit: byte counts ("64KiB") and durations ("250ms"), parsed strictly and printed
//! so that they parse back to the same value.

use std::fmt;
use std::time::Duration;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteCount(pub u64);

impl ByteCount {
    /// `n` × 1024 bytes.
    pub const fn kib(n: u64) -> ByteCount {
        ByteCount(n << 10)
    }

    /// `n` × 1024² bytes.
    pub const fn mib(n: u64) -> ByteCount {
        ByteCount(n << 20)
    }

    /// `n` × 1024³ bytes.
    pub const fn gib(n: u64) -> ByteCount {
        ByteCount(n << 30)
    }

    /// The count as a size in memory; saturates where `usize` is smaller.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Parses "512", "64KiB", "10MB", "1.5 GiB". Errors say what was expected.
    pub fn parse(text: &str) -> Result<ByteCount, String> {
        text.trim().parse::<bytesize::ByteSize>().map(|b| ByteCount(b.as_u64())).map_err(|_| {
            format!("not a size: {text:?}, expected a number with a unit like \"64KiB\" or \"10MB\"")
        })
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        for (shift, unit) in UNITS {
            if self.0 >= 1 << shift && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

const DURATION_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Parses "250ms", "10s", "1m30s", "7d", "1.5h". A bare number is refused (except "0"): a duration has a unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!("not a duration: {text:?}, expected a number with a unit like \"250ms\", \"10s\" or \"1h\"")
    };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total_nanos = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = &rest[..letters];
        let (_, nanos) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total_nanos += number * *nanos as f64;
        rest = rest[letters..].trim_start();
    }
    if total_nanos > u64::MAX as f64 {
        return Err(format!("duration {text:?} is too long, the most is about 500 years"));
    }
    Ok(Duration::from_nanos(total_nanos.round() as u64))
}

/// Prints a duration with the largest unit that divides it, so that [`parse_duration`] gives it back.
pub fn format_duration(d: Duration) -> String {
    let nanos = u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 {
        return "0s".to_owned();
    }
    DURATION_UNITS
        .iter()
        .find(|(_, unit)| nanos % unit == 0)
        .map_or_else(|| format!("{nanos}ns"), |(name, unit)| format!("{}{name}", nanos / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts_parse_and_print() {
        for (text, n) in
            [("512", 512), ("64KiB", 65536), ("64 KiB", 65536), ("10MB", 10_000_000), ("1GiB", 1 << 30)]
        {
            assert_eq!(ByteCount::parse(text), Ok(ByteCount(n)), "{text}");
        }
        assert!(ByteCount::parse("lots").is_err());
        assert!(ByteCount::parse("-1").is_err());
        for n in [0, 1, 1023, 1024, 65536, 1 << 30, 10_000_000] {
            assert_eq!(ByteCount::parse(&ByteCount(n).to_string()), Ok(ByteCount(n)));
        }
    }

    #[test]
    fn durations_parse_and_print() {
        for (text, ms) in [("250ms", 250), ("10s", 10_000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "10", "s", "10 parsecs", "-1s", "1..5s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for ms in [0, 1, 250, 1000, 90_000, 3_600_000] {
            let d = Duration::from_millis(ms);
            assert_eq!(parse_duration(&format_duration(d)), Ok(d));
        }
    }
}
