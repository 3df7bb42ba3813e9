//! A point in time as one integer, and its conversion to and from RFC 3339 without any formatting machinery:
//! a row's time is printed for every subscriber, so it has to cost nanoseconds.

use super::detect::civil::{self, Moment};

/// Nanoseconds since the Unix epoch, UTC; covers 1677-09-21 to 2262-04-11.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;
/// Seconds in a day (leap seconds are clamped, so every day has as many).
const DAY: i64 = 86_400;

impl Timestamp {
    /// Appends the time as `2026-11-20T10:11:12.123Z`: three fractional digits, or six or nine when those
    /// beyond are not zero. Cannot fail: every value lies in years of four digits.
    pub fn write_rfc3339(&self, out: &mut Vec<u8>) {
        let (second, nanos) = (self.0.div_euclid(SECOND), self.0.rem_euclid(SECOND) as u32);
        let (day, of_day) = (second.div_euclid(DAY), second.rem_euclid(DAY) as u32);
        let (year, month, day) = civil::date_of(day);
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        put(&mut text, 0, year / 100);
        put(&mut text, 2, year % 100);
        put(&mut text, 5, month);
        put(&mut text, 8, day);
        put(&mut text, 11, of_day / 3600);
        put(&mut text, 14, of_day / 60 % 60);
        put(&mut text, 17, of_day % 60);
        let (millis, below) = (nanos / 1_000_000, nanos % 1_000_000);
        put3(&mut text, 20, millis);
        let mut end = 23;
        if below != 0 {
            put3(&mut text, 23, below / 1000);
            end = 26;
            if !below.is_multiple_of(1000) {
                put3(&mut text, 26, below % 1000);
                end = 29;
            }
        }
        text[end] = b'Z';
        out.extend_from_slice(&text[..=end]);
    }

    /// Reads an RFC 3339 time, the whole of `text` and nothing else: `T` or a space between date and time, a
    /// dot before the fraction (of which nine digits count), a zone. A leap second (`:60`) is clamped to
    /// `:59`. `None` if it is malformed, not on the calendar, or outside the range of [`Timestamp`].
    pub fn parse_rfc3339(text: &[u8]) -> Option<Timestamp> {
        let strict = text.len() >= 20
            && text[4] == b'-'
            && matches!(text[10], b'T' | b't' | b' ')
            && text[16] == b':'
            && matches!(text[19], b'.' | b'Z' | b'z' | b'+' | b'-');
        if !strict {
            return None;
        }
        let zone = match text.last() {
            Some(b'Z' | b'z') => 1,
            _ if text.len() >= 25 && text[text.len() - 3] == b':' => 6,
            _ => return None,
        };
        let moment = Moment::numeric(text)?;
        (moment.len == text.len() && moment.zone_len == zone).then_some(())?;
        moment.timestamp()
    }

    /// The time `second` seconds and `nanos` nanoseconds after the epoch; `None` outside the range.
    pub(crate) fn from_parts(second: i64, nanos: u32) -> Option<Timestamp> {
        // The first and last second of the range are only partly inside it: those take the wide road.
        const INSIDE: i64 = i64::MAX / SECOND - 1;
        if (-INSIDE..=INSIDE).contains(&second) {
            return Some(Timestamp(second * SECOND + i64::from(nanos)));
        }
        let wide = i128::from(second) * i128::from(SECOND) + i128::from(nanos);
        i64::try_from(wide).ok().map(Timestamp)
    }

    /// The calendar year (UTC).
    pub(crate) fn year(self) -> u32 {
        civil::date_of(self.0.div_euclid(SECOND * DAY)).0
    }
}

/// Two digits at `at`.
#[inline]
fn put(text: &mut [u8; 30], at: usize, value: u32) {
    text[at] = b'0' + (value / 10) as u8;
    text[at + 1] = b'0' + (value % 10) as u8;
}

/// Three digits at `at`.
#[inline]
fn put3(text: &mut [u8; 30], at: usize, value: u32) {
    text[at] = b'0' + (value / 100) as u8;
    put(text, at + 1, value % 100);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(at: i64) -> String {
        let mut out = Vec::new();
        Timestamp(at).write_rfc3339(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn read(text: &str) -> Option<i64> {
        Timestamp::parse_rfc3339(text.as_bytes()).map(|t| t.0)
    }

    #[test]
    fn prints_three_six_or_nine_digits() {
        assert_eq!(show(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(show(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(show(1_795_169_472_120_000_000), "2026-11-20T10:11:12.120Z");
        assert_eq!(show(1_795_169_472_000_001_000), "2026-11-20T10:11:12.000001Z");
        assert_eq!(show(1_795_169_472_000_000_001), "2026-11-20T10:11:12.000000001Z");
        assert_eq!(show(951_782_400_000_000_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(show(i64::MIN), "1677-09-21T00:12:43.145224192Z");
        assert_eq!(show(i64::MAX), "2262-04-11T23:47:16.854775807Z");
    }

    #[test]
    fn reads_rfc3339_and_nothing_else() {
        let base = 1_795_169_472_000_000_000;
        for (text, at) in [
            ("2026-11-20T10:11:12Z", base),
            ("2026-11-20t10:11:12z", base),
            ("2026-11-20 10:11:12.5Z", base + 500_000_000),
            ("2026-11-20T10:11:12.123456789Z", base + 123_456_789),
            ("2026-11-20T10:11:12.1234567899999Z", base + 123_456_789),
            ("2026-11-20T12:41:12+02:30", base),
            ("2026-11-20T09:11:12.000-01:00", base),
            ("2026-11-20T10:11:12-00:00", base),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000_000_000),
        ] {
            assert_eq!(read(text), Some(at), "{text}");
        }
        for text in [
            "",
            "2026-11-20",
            "2026-11-20T10:11:12",
            "2026-11-20T10:11Z",
            "2026-11-20T10:11:12.Z",
            "2026-11-20T10:11:12,5Z",
            "2026-11-20T10:11:12+0200",
            "2026-11-20T10:11:12Zx",
            "2026-11-20T10:11:61Z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T10:60:00Z",
            "2026-02-29T10:11:12Z",
            "2100-02-29T10:11:12Z",
            "2026-13-01T10:11:12Z",
            "2026-00-01T10:11:12Z",
            "2026-11-31T10:11:12Z",
            "2026-11-00T10:11:12Z",
            "2026-11-20T10:11:12+24:00",
            "2026-11-20T10:11:12+02:60",
            "2026/11/20T10:11:12Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "1677-09-21T00:12:43.145224191Z",
            "2262-04-11T23:47:16.854775808Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(at in any::<i64>()) {
            prop_assert_eq!(read(&show(at)), Some(at));
        }

        #[test]
        fn agrees_with_jiff(at in any::<i64>()) {
            let theirs = jiff::Timestamp::from_nanosecond(i128::from(at)).unwrap();
            let ours: jiff::Timestamp = show(at).parse().unwrap();
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn no_year_panics(y in 0u32..=9999, m in 0u32..=13, d in 0u32..=32, s in 0u32..=61) {
            let text = format!("{y:04}-{m:02}-{d:02}T10:11:{s:02}Z");
            if let Some(at) = read(&text) {
                let theirs: jiff::Timestamp = text.parse().unwrap();
                prop_assert_eq!(i128::from(at), theirs.as_nanosecond());
            } else {
                prop_assert!(text.parse::<jiff::Timestamp>().is_err() || !(1678..2262).contains(&y));
            }
        }
    }
}
