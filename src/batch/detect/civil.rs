//! Dates and times of day read digit by digit: the calendar, the clock with its fraction, the zone.
//! Everything a shape of timestamp is made of, each piece saying how many bytes it took.

use crate::batch::Timestamp;

/// Days before each month in a year that starts in March, for [`days_of`].
const MARCH_BASED: [u16; 12] = [306, 337, 0, 31, 61, 92, 122, 153, 184, 214, 245, 275];

/// Two digits as a number; 255 when either is no digit, which every range check that follows rejects.
#[inline]
pub(crate) fn two(tens: u8, ones: u8) -> u32 {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 { 255 } else { u32::from(tens) * 10 + u32::from(ones) }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar; `None` when it is not on it.
#[inline]
pub(crate) fn days_of(year: u32, month: u32, day: u32) -> Option<i64> {
    if year > 9999 || month.wrapping_sub(1) > 11 || day.wrapping_sub(1) > 30 {
        return None;
    }
    if day > 28 && day > days_in(year, month) {
        return None;
    }
    // Years run from March and start 400 early, so that the leap day is last and nothing is negative.
    let year = year + 400 - u32::from(month <= 2);
    let days = year * 365 + year / 4 - year / 100
        + year / 400
        + u32::from(MARCH_BASED[month as usize - 1])
        + (day - 1);
    Some(i64::from(days) - 865_565)
}

/// Days in a month, 1 to 12.
fn days_in(year: u32, month: u32) -> u32 {
    match month {
        2 => {
            28 + u32::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)))
        }
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Year, month and day of a day counted from 1970-01-01, for any day an `i64` of nanoseconds can reach
/// (the inverse of [`days_of`]; Neri and Schneider, "Euclidean affine functions", 2021).
#[inline]
pub(crate) fn date_of(days: i64) -> (u32, u32, u32) {
    // 2400 is a multiple of 400 years: it keeps every step unsigned, and is taken off at the end.
    let n = 4 * (days + 719_468 + 146_097 * 6) as u32 + 3;
    let (century, of_century) = (n / 146_097, n % 146_097 / 4);
    let wide = u64::from(of_century * 4 + 3) * 2_939_745;
    let (of_century, of_year) = ((wide >> 32) as u32, (wide as u32) / 2_939_745 / 4);
    let m = of_year * 2141 + 197_913;
    let (month, day) = (m >> 16, (m & 0xffff) / 2141);
    let late = of_year >= 306;
    let year = 100 * century + of_century - 2400 + u32::from(late);
    (year, if late { month - 12 } else { month }, day + 1)
}

/// A time of day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Seconds since midnight.
    pub(crate) second: u32,
    /// Nanoseconds of the second.
    pub(crate) nanos: u32,
    /// Bytes read.
    pub(crate) len: usize,
}

impl Clock {
    /// Reads `hh:mm:ss` at the start of `s`, with `separator` for the colon, then `.` or `,` and any number
    /// of digits. `:60` is clamped to `:59`. Without seconds (`hh:mm`) it is read too when no digit follows.
    #[inline]
    pub(crate) fn read(s: &[u8], separator: u8) -> Option<Clock> {
        let head: &[u8; 5] = s.first_chunk()?;
        let (hour, minute) = (two(head[0], head[1]), two(head[3], head[4]));
        if hour > 23 || minute > 59 || head[2] != separator {
            return None;
        }
        let minutes = (hour * 60 + minute) * 60;
        let Some(&[colon, tens, ones]) = s.get(5..8) else { return Clock::to_the_minute(s, minutes) };
        let second = two(tens, ones);
        if colon != separator || second > 60 {
            return Clock::to_the_minute(s, minutes);
        }
        let (nanos, fraction) = fraction(&s[8..])?;
        Some(Clock { second: minutes + second.min(59), nanos, len: 8 + fraction })
    }

    fn to_the_minute(s: &[u8], second: u32) -> Option<Clock> {
        let ends = s.get(5).is_none_or(|b| !b.is_ascii_digit() && *b != b':' && *b != b'.');
        ends.then_some(Clock { second, nanos: 0, len: 5 })
    }
}

/// Reads `.123` or `,123`: nanoseconds and bytes taken, both 0 when there is none. `None` when a digit
/// follows directly, since then what came before was no time. Digits beyond the ninth are read and cut.
#[inline]
pub(crate) fn fraction(s: &[u8]) -> Option<(u32, usize)> {
    match s {
        [b'0'..=b'9', ..] => None,
        [b'.' | b',', b'0'..=b'9', ..] => {
            const SCALE: [u32; 10] =
                [0, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1000, 100, 10, 1];
            let (mut nanos, mut at) = (0, 1);
            while let Some(digit) = s.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d <= 9) {
                if at <= 9 {
                    nanos = nanos * 10 + u32::from(digit);
                }
                at += 1;
            }
            Some((nanos * SCALE[(at - 1).min(9)], at))
        }
        _ => Some((0, 0)),
    }
}

/// Reads a zone: `Z`, `±hh:mm`, `±hhmm`, `±hh`, also after one space. Seconds east of UTC and bytes taken;
/// both 0 when there is none. Names other than `Z` are not read: `UTC` and `GMT` need no shift, and the rest
/// (`CST`, `IST`) mean several zones each.
#[inline]
pub(crate) fn zone(s: &[u8]) -> (i32, usize) {
    match s {
        [b'Z' | b'z', ..] => (0, 1),
        [b'+' | b'-', ..] => offset(s).unwrap_or((0, 0)),
        // After a space a bare `-05` may be anything: only the full forms count.
        [b' ', b'+' | b'-', rest @ ..] if rest.len() >= 4 => match offset(&s[1..]) {
            Some((east, len)) if len >= 5 => (east, len + 1),
            _ => (0, 0),
        },
        _ => (0, 0),
    }
}

fn offset(s: &[u8]) -> Option<(i32, usize)> {
    let &[sign, h1, h2] = s.first_chunk()?;
    let hour = two(h1, h2);
    let (minute, len) = match s.get(3..) {
        Some([b':', m1, m2, ..]) => (two(*m1, *m2), 6),
        Some([m1 @ b'0'..=b'9', m2, ..]) => (two(*m1, *m2), 5),
        _ => (0, 3),
    };
    if hour > 23 || minute > 59 || s.get(len).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let east = (hour * 3600 + minute * 60) as i32;
    Some((if sign == b'-' { -east } else { east }, len))
}

/// A date, a time of day and a zone, as read from the start of some bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    days: i64,
    clock: Clock,
    east: i32,
    /// Bytes read in all.
    pub(crate) len: usize,
    /// Bytes of the zone, 0 when there was none (which means UTC).
    pub(crate) zone_len: usize,
}

impl Moment {
    /// Joins a date of `date_len` bytes with the clock and zone that follow in `s`: after `T`, a space, `_`
    /// or `:`, or after `-` when the clock is written with dots (`2005-06-03-15.42.50.675872`).
    #[inline]
    pub(crate) fn join(s: &[u8], days: i64, date_len: usize) -> Option<Moment> {
        let separator = match s.get(date_len)? {
            b' ' | b'T' | b't' | b'_' | b':' => b':',
            b'-' => b'.',
            _ => return None,
        };
        let clock = Clock::read(&s[date_len + 1..], separator)?;
        let before = date_len + 1 + clock.len;
        let (east, zone_len) = zone(&s[before..]);
        Some(Moment { days, clock, east, len: before + zone_len, zone_len })
    }

    /// Reads `YYYY-MM-DD` (also with `/` or `.`), then what [`Moment::join`] reads.
    #[inline]
    pub(crate) fn numeric(s: &[u8]) -> Option<Moment> {
        let d: &[u8; 10] = s.first_chunk()?;
        if !matches!(d[4], b'-' | b'/' | b'.') || d[7] != d[4] {
            return None;
        }
        let (century, of_century) = (two(d[0], d[1]), two(d[2], d[3]));
        if century > 99 || of_century > 99 {
            return None;
        }
        let days = days_of(century * 100 + of_century, two(d[5], d[6]), two(d[8], d[9]))?;
        Moment::join(s, days, 10)
    }

    /// The instant; `None` outside the range of [`Timestamp`].
    #[inline]
    pub(crate) fn timestamp(self) -> Option<Timestamp> {
        let second = self.days * 86_400 + i64::from(self.clock.second) - i64::from(self.east);
        Timestamp::from_parts(second, self.clock.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_eleven_centuries_and_back() {
        let mut expected = days_of(1600, 1, 1).unwrap();
        assert_eq!(days_of(1970, 1, 1), Some(0));
        assert_eq!(days_of(2000, 3, 1), Some(11_017));
        assert_eq!(days_of(0, 1, 1), Some(-719_528));
        for year in 1600..2700 {
            for month in 1..=12 {
                for day in 1..=31 {
                    let Some(days) = days_of(year, month, day) else {
                        assert!(day > days_in(year, month));
                        continue;
                    };
                    assert_eq!(days, expected);
                    assert_eq!(date_of(days), (year, month, day));
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn zones() {
        for (text, want) in [
            ("Z", (0, 1)),
            ("+02:30x", (9000, 6)),
            ("-0100 ", (-3600, 5)),
            ("+05", (18_000, 3)),
            (" +0100", (3600, 6)),
            ("", (0, 0)),
            ("-", (0, 0)),
            ("-foo", (0, 0)),
            (" -05 x", (0, 0)),
            ("+123", (0, 0)),
            ("+24:00", (0, 0)),
            ("+01:60", (0, 0)),
            ("-12345", (0, 0)),
            (" UTC", (0, 0)),
        ] {
            assert_eq!(zone(text.as_bytes()), want, "{text:?}");
        }
    }
}
