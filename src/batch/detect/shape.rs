//! Timestamps that stand at the very start of some bytes, one reader per family of shapes, chosen by the
//! first few bytes. Years that were left out or cut to two digits are settled here.

use super::civil::{Clock, Moment, days_of, fraction, two};
use crate::batch::Timestamp;

/// How far in the future a time without a year may lie before it is taken for last year's.
const AHEAD_MAX: i64 = 86_400 * 1_000_000_000;

/// Reads the timestamp that `s` begins with, whatever its shape.
#[inline]
pub(super) fn read(s: &[u8], received: Timestamp) -> Option<Timestamp> {
    match s.first()? {
        b'0'..=b'9' => digits_first(s, received),
        b'A'..=b'Z' | b'a'..=b'z' => letter_first(s, received),
        _ => None,
    }
}

#[inline]
fn digits_first(s: &[u8], received: Timestamp) -> Option<Timestamp> {
    let head: &[u8; 8] = s.first_chunk()?;
    match head {
        [_, _, _, _, b'-' | b'/' | b'.', ..] => Moment::numeric(s)?.timestamp(),
        [_, _, b'/' | b'-' | b' ', b'A'..=b'Z' | b'a'..=b'z', ..] => day_first(s),
        [_, _, b'/', _, _, b'/', _, _] => year_of_two(s, [0, 3, 6], 8),
        [_, _, b'-', _, _, b' ', ..] => month_day(s, received),
        [_, b' ', b'A'..=b'Z' | b'a'..=b'z', ..] => day_first(s),
        [_, _, _, _, _, _, b' ', _] => year_of_two(s, [0, 2, 4], 6),
        _ => compact(s).or_else(|| unix(s)),
    }
}

/// The month a three-letter name stands for, in any case.
#[inline]
pub(super) fn month(name: [u8; 3]) -> Option<u32> {
    Some(match [name[0] | 32, name[1] | 32, name[2] | 32] {
        [b'j', b'a', b'n'] => 1,
        [b'f', b'e', b'b'] => 2,
        [b'm', b'a', b'r'] => 3,
        [b'a', b'p', b'r'] => 4,
        [b'm', b'a', b'y'] => 5,
        [b'j', b'u', b'n'] => 6,
        [b'j', b'u', b'l'] => 7,
        [b'a', b'u', b'g'] => 8,
        [b's', b'e', b'p'] => 9,
        [b'o', b'c', b't'] => 10,
        [b'n', b'o', b'v'] => 11,
        [b'd', b'e', b'c'] => 12,
        _ => return None,
    })
}

/// `20/Nov/2026:10:11:12 +0000`, `20-Nov-2026 10:11:12`, `20 Nov 2026 10:11:12.123`, `9 Nov 2026 …`.
#[inline]
pub(super) fn day_first(s: &[u8]) -> Option<Timestamp> {
    let (day, name) = if s.get(1)?.is_ascii_digit() { (two(s[0], s[1]), 3) } else { (two(b'0', s[0]), 2) };
    let &[m1, m2, m3, separator, y1, y2, y3, y4] = s.get(name..)?.first_chunk()?;
    if separator != s[name - 1] {
        return None;
    }
    let year = four(y1, y2, y3, y4)?;
    let days = days_of(year, month([m1, m2, m3])?, day)?;
    Moment::join(s, days, name + 8)?.timestamp()
}

fn four(y1: u8, y2: u8, y3: u8, y4: u8) -> Option<u32> {
    let (century, of_century) = (two(y1, y2), two(y3, y4));
    (century <= 99 && of_century <= 99).then_some(century * 100 + of_century)
}

/// `17/06/09 20:10:40` (Spark) and `081109 203615` (HDFS; MySQL writes colons): year, month, day in that
/// order, the year 1969 to 2068 as POSIX has it. Other orders are not guessed at.
fn year_of_two(s: &[u8], at: [usize; 3], len: usize) -> Option<Timestamp> {
    let [year, month, day] = at.map(|i| two(s[i], s[i + 1]));
    if year > 99 {
        return None;
    }
    let days = days_of(if year < 69 { 2000 + year } else { 1900 + year }, month, day)?;
    if let Some(moment) = Moment::join(s, days, len) {
        return moment.timestamp();
    }
    let &[b' ', h1, h2, m1, m2, s1, s2] = s.get(len..)?.first_chunk()? else { return None };
    packed_clock(days, [h1, h2, m1, m2, s1, s2], &s[len + 7..])
}

/// `hhmmss` without separators, then a fraction and a zone.
fn packed_clock(days: i64, d: [u8; 6], rest: &[u8]) -> Option<Timestamp> {
    let (hour, minute, second) = (two(d[0], d[1]), two(d[2], d[3]), two(d[4], d[5]));
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (nanos, len) = fraction(rest)?;
    let (east, _) = super::civil::zone(&rest[len..]);
    let second = i64::from(hour * 3600 + minute * 60 + second.min(59));
    Timestamp::from_parts(days * 86_400 + second - i64::from(east), nanos)
}

/// `20261120T101112Z` (ISO 8601, basic form).
fn compact(s: &[u8]) -> Option<Timestamp> {
    let d: &[u8; 15] = s.first_chunk()?;
    if d[8] != b'T' {
        return None;
    }
    let days = days_of(four(d[0], d[1], d[2], d[3])?, two(d[4], d[5]), two(d[6], d[7]))?;
    packed_clock(days, [d[9], d[10], d[11], d[12], d[13], d[14]], &s[15..])
}

/// `11-20 10:11:12.123` (Android's logcat), the year inferred.
fn month_day(s: &[u8], received: Timestamp) -> Option<Timestamp> {
    let clock = Clock::read(s.get(6..)?, b':')?;
    infer_year(two(s[0], s[1]), two(s[3], s[4]), clock, received)
}

/// Seconds, milliseconds, microseconds or nanoseconds since the epoch, told apart by having 10, 13, 16 or 19
/// digits (so from 2001 on); seconds may have a fraction. A letter or digit must not follow.
pub(super) fn unix(s: &[u8]) -> Option<Timestamp> {
    let len = s.iter().take(20).take_while(|b| b.is_ascii_digit()).count();
    let per_second: u64 = match len {
        10 => 1,
        13 => 1000,
        16 => 1_000_000,
        19 => 1_000_000_000,
        _ => return None,
    };
    let value = s[..len].iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    let (mut nanos, more) = fraction(&s[len..])?;
    if matches!(s.get(len + more), Some(b'_' | b'-' | b'.' | b'a'..=b'z' | b'A'..=b'Z')) {
        return None;
    }
    if len > 10 {
        nanos = (value % per_second * (1_000_000_000 / per_second)) as u32;
    }
    Timestamp::from_parts((value / per_second) as i64, nanos)
}

fn letter_first(s: &[u8], received: Timestamp) -> Option<Timestamp> {
    let head: &[u8; 5] = s.first_chunk()?;
    match head {
        // klog and glog: severity, month and day as one word.
        [b'I' | b'W' | b'E' | b'F' | b'D', m1, m2 @ b'0'..=b'9', d1, d2] => {
            let clock = Clock::read(s.get(6..)?, b':').filter(|_| s[5] == b' ')?;
            infer_year(two(*m1, *m2), two(*d1, *d2), clock, received)
        }
        [a, b, c, b' ', ..] => match month([*a, *b, *c]) {
            Some(month) => month_first(s, month, received),
            None if weekday([*a, *b, *c]) => weekday_first(&s[4..], received),
            None => None,
        },
        [a, b, c, b',', b' '] if weekday([*a, *b, *c]) => day_first(s.get(5..)?),
        _ => None,
    }
}

fn weekday(name: [u8; 3]) -> bool {
    let lower = [name[0] | 32, name[1] | 32, name[2] | 32];
    [*b"mon", *b"tue", *b"wed", *b"thu", *b"fri", *b"sat", *b"sun"].contains(&lower)
}

/// The day of the month after a month's name, one digit or two, padded or not, and the bytes up to its end.
#[inline]
fn day_after(s: &[u8], from: usize) -> Option<(u32, usize)> {
    match *s.get(from..)?.first_chunk::<3>()? {
        [b' ', ones, _] => Some((two(b'0', ones), from + 2)),
        [tens, ones @ b'0'..=b'9', _] => Some((two(tens, ones), from + 2)),
        [ones, _, _] => Some((two(b'0', ones), from + 1)),
    }
}

/// `Jun 14 15:16:01` (RFC 3164), `Nov 20 2026 10:11:12` (Cisco), `Nov 20, 2026 10:11:12 AM`
/// (java.util.logging).
#[inline]
fn month_first(s: &[u8], month: u32, received: Timestamp) -> Option<Timestamp> {
    let (day, end) = day_after(s, 4)?;
    let end = if s.get(end) == Some(&b',') { end + 1 } else { end };
    let rest = s.get(end..)?;
    if let [b' ', y1, y2, y3, y4, b' ', clock @ ..] = rest
        && let Some(year) = four(*y1, *y2, *y3, *y4)
    {
        return half_day(days_of(year, month, day)?, clock);
    }
    let clock = Clock::read(rest.get(1..)?, b':').filter(|_| rest[0] == b' ')?;
    infer_year(month, day, clock, received)
}

/// A clock with an optional ` AM` or ` PM` and zone; hours 1 to 12 then.
fn half_day(days: i64, s: &[u8]) -> Option<Timestamp> {
    // Without the leading zero: `9:11:12 AM`.
    let mut padded = [b'0'; 24];
    let s = if s.get(1) == Some(&b':') {
        let len = s.len().min(23);
        padded[1..=len].copy_from_slice(&s[..len]);
        &padded[..=len]
    } else {
        s
    };
    let clock = Clock::read(s, b':')?;
    let rest = &s[clock.len..];
    let second = match rest {
        [b' ', half @ (b'A' | b'P' | b'a' | b'p'), b'M' | b'm', ..] => {
            let pm = if half | 32 == b'p' { 43_200 } else { 0 };
            (clock.second < 46_800).then_some(clock.second % 43_200 + pm)?
        }
        _ => clock.second,
    };
    let (east, _) = super::civil::zone(rest);
    Timestamp::from_parts(days * 86_400 + i64::from(second) - i64::from(east), clock.nanos)
}

/// `Dec 04 04:47:44 2005`, after a weekday (Apache's error log, `ctime`, `date`, which has a zone's name
/// before the year). Without a year it is inferred.
fn weekday_first(s: &[u8], received: Timestamp) -> Option<Timestamp> {
    let &[a, b, c, b' '] = s.first_chunk()? else { return None };
    let month = month([a, b, c])?;
    let (day, end) = day_after(s, 4)?;
    let clock = Clock::read(s.get(end + 1..)?, b':').filter(|_| s[end] == b' ')?;
    let mut rest = &s[end + 1 + clock.len..];
    if let [b' ', name @ ..] = rest
        && let letters @ 2..=5 = name.iter().take_while(|b| b.is_ascii_uppercase()).count()
    {
        rest = &name[letters..];
    }
    let Some(&[b' ', y1, y2, y3, y4]) = rest.first_chunk() else {
        return infer_year(month, day, clock, received);
    };
    let days = days_of(four(y1, y2, y3, y4)?, month, day)?;
    Timestamp::from_parts(days * 86_400 + i64::from(clock.second), clock.nanos)
}

/// The last year in which the time is at most a day after `received`: the nearest that is not in the future,
/// with a day's grace for clocks and zones. 29 February goes back to a leap year.
fn infer_year(month: u32, day: u32, clock: Clock, received: Timestamp) -> Option<Timestamp> {
    let latest = received.0.saturating_add(AHEAD_MAX);
    let next = received.year() + 1;
    (next - 9..=next).rev().find_map(|year| {
        let days = days_of(year, month, day)?;
        Timestamp::from_parts(days * 86_400 + i64::from(clock.second), clock.nanos)
            .filter(|at| at.0 <= latest)
    })
}
