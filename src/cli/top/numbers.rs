//! Numbers as `weir top` shows them: short, with the unit that fits.

/// A rate or count in at most five characters: `0`, `0.4`, `17`, `1.2k`, `35M`.
pub(super) fn short(n: f64) -> String {
    scaled(n, 1000.0, &["", "k", "M", "G", "T"])
}

/// Bytes in at most five characters, by powers of 1024: `17B`, `1.2K`, `35M`.
pub(super) fn short_bytes(n: f64) -> String {
    scaled(n, 1024.0, &["B", "K", "M", "G", "T"])
}

fn scaled(n: f64, step: f64, units: &[&str]) -> String {
    let (mut n, mut unit) = (n.max(0.0), 0);
    // What would be rounded up to a step is in the next unit already.
    while n >= step - 0.5 && unit + 1 < units.len() {
        n /= step;
        unit += 1;
    }
    let unit_text = units[unit];
    let whole = n >= 9.95 || (unit == 0 && n.fract() < 0.05);
    if whole { format!("{n:.0}{unit_text}") } else { format!("{n:.1}{unit_text}") }
}

/// A time span in at most two units.
pub(super) fn span(seconds: f64) -> String {
    let total = seconds.max(0.0) as u64;
    match (total / 86_400, total / 3600 % 24, total / 60 % 60, total % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, _, _) => format!("{d}d{h:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (n, text) in [
            (0.0, "0"),
            (0.42, "0.4"),
            (17.2, "17"),
            (999.4, "999"),
            (999.7, "1.0k"),
            (1234.0, "1.2k"),
            (35_400_000.0, "35M"),
            (-1.0, "0"),
        ] {
            assert_eq!(short(n), text);
        }
        assert_eq!(short_bytes(1536.0), "1.5K");
        assert_eq!((short_bytes(0.0), short_bytes(1023.8)), ("0B".to_owned(), "1.0K".to_owned()));
        assert_eq!(
            (span(59.9), span(61.0), span(7260.0), span(90_000.0)),
            ("59s".into(), "1m01s".into(), "2h01m".into(), "1d01h".into())
        );
    }
}
