//! Times as a query writes them: a moment relative to now, or a date and time of any precision, which stands for
//! the whole day, hour, minute or second it names. Without a zone they are UTC.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::batch::Timestamp;

const SECOND: i64 = 1_000_000_000;

/// What was expected where a time is none.
pub(super) const EXPECTED: &str = "a time such as `now-15m`, `2026-11-20` or `2026-11-20T10:11:12Z`";

/// A stretch of time, in nanoseconds since the epoch, or since the moment of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// From `start` to before `end`.
    Stretch { start: i64, end: i64 },
    /// That far from now.
    FromNow(i64),
}

impl Moment {
    /// The first nanosecond, and the first one after it.
    pub(super) fn resolve(self, now: Timestamp) -> (i64, i64) {
        match self {
            Moment::Stretch { start, end } => (start, end),
            Moment::FromNow(offset) => {
                let at = now.0.saturating_add(offset);
                (at, at.saturating_add(1))
            }
        }
    }

    /// Reads a time; `years` says whether a number of four digits may be one.
    pub(super) fn parse(text: &str, years: bool) -> Option<Moment> {
        if let Some(offset) = text.strip_prefix("now") {
            return from_now(offset).map(Moment::FromNow);
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return if years { number(text) } else { None };
        }
        let (date, time) = match text.find(['T', 't', ' ']) {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => return day_or_month(text),
        };
        let date: Date = strict_date(date)?;
        let (time, zone_seconds) = zone(time)?;
        let (at, precision) = time_of_day(date, time)?;
        let start = nanos(at)?.checked_sub(zone_seconds.checked_mul(SECOND)?)?;
        Some(Moment::Stretch { start, end: start.checked_add(precision)? })
    }
}

/// `-15m`, `+1h`, `-1d-12h`, or nothing.
fn from_now(mut text: &str) -> Option<i64> {
    let mut total = 0i64;
    while !text.is_empty() {
        let sign = match text.as_bytes()[0] {
            b'-' => -1,
            b'+' => 1,
            _ => return None,
        };
        text = &text[1..];
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = text[..digits].parse().ok()?;
        text = &text[digits..];
        let letters = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
        let unit = match &text[..letters] {
            "ms" => SECOND / 1000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            "d" => 86_400 * SECOND,
            "w" => 7 * 86_400 * SECOND,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?.checked_mul(sign)?)?;
        text = &text[letters..];
    }
    Some(total)
}

/// A year, or Unix time in seconds, milliseconds, microseconds or nanoseconds by its digits.
fn number(text: &str) -> Option<Moment> {
    let value: i64 = text.parse().ok()?;
    let precision = match text.len() {
        4 => {
            let year = i16::try_from(value).ok()?;
            let start = midnight(Date::new(year, 1, 1).ok()?)?;
            return Some(Moment::Stretch {
                start,
                end: midnight(Date::new(year.checked_add(1)?, 1, 1).ok()?)?,
            });
        }
        10 => SECOND,
        13 => SECOND / 1000,
        16 => 1000,
        19 => 1,
        _ => return None,
    };
    let start = value.checked_mul(precision)?;
    Some(Moment::Stretch { start, end: start.checked_add(precision)? })
}

fn day_or_month(text: &str) -> Option<Moment> {
    if let Some(date) = strict_date(text) {
        return Some(Moment::Stretch { start: midnight(date)?, end: midnight(date.tomorrow().ok()?)? });
    }
    let first = strict_date(&format!("{text}-01")).filter(|_| text.len() == 7)?;
    let next = first.last_of_month().tomorrow().ok()?;
    Some(Moment::Stretch { start: midnight(first)?, end: midnight(next)? })
}

/// `2026-11-20`.
fn strict_date(text: &str) -> Option<Date> {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else { return None };
    let digits = |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
        return None;
    }
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

fn midnight(date: Date) -> Option<i64> {
    nanos(date.to_datetime(jiff::civil::Time::midnight()))
}

fn nanos(at: DateTime) -> Option<i64> {
    let at = at.to_zoned(TimeZone::UTC).ok()?.timestamp();
    i64::try_from(at.as_nanosecond()).ok()
}

/// Cuts the zone off a time: what is left, and the seconds east of UTC.
fn zone(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(sign) = time.find(['+', '-']) else { return Some((time, 0)) };
    let offset = &time[sign + 1..];
    let (hours, minutes) = match offset.len() {
        2 => (offset, "00"),
        4 if offset.is_ascii() => offset.split_at(2),
        5 => offset.split_once(':')?,
        _ => return None,
    };
    let (hours, minutes): (i64, i64) = (two_digits(hours, 23)?.into(), two_digits(minutes, 59)?.into());
    let seconds = hours * 3600 + minutes * 60;
    Some((&time[..sign], if time.as_bytes()[sign] == b'-' { -seconds } else { seconds }))
}

fn two_digits(text: &str, most: i8) -> Option<i8> {
    let value: i8 =
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())??;
    (value <= most).then_some(value)
}

/// `10`, `10:11`, `10:11:12` or `10:11:12.123`, and the nanoseconds it stands for.
fn time_of_day(date: Date, time: &str) -> Option<(DateTime, i64)> {
    let (whole, fraction) = match time.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (time, None),
    };
    let mut parts = whole.split(':');
    let hour = two_digits(parts.next()?, 23)?;
    let (minute, second) = (parts.next(), parts.next());
    if parts.next().is_some() || (fraction.is_some() && second.is_none()) {
        return None;
    }
    let mut precision = match (minute, second) {
        (None, _) => 3600 * SECOND,
        (_, None) => 60 * SECOND,
        _ => SECOND,
    };
    let mut subsecond = 0i32;
    if let Some(fraction) = fraction {
        let digits =
            !fraction.is_empty() && fraction.len() <= 9 && fraction.bytes().all(|b| b.is_ascii_digit());
        let scale = 10i32.pow(9u32.checked_sub(u32::try_from(fraction.len()).ok()?)?);
        subsecond = digits.then(|| fraction.parse::<i32>().ok())??.checked_mul(scale)?;
        precision = scale.into();
    }
    let minute = minute.map_or(Some(0), |m| two_digits(m, 59))?;
    let second = second.map_or(Some(0), |s| two_digits(s, 59))?;
    Some((date.at(hour, minute, second, subsecond), precision))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, i64)> {
        let moment = Moment::parse(text, true)?;
        let (start, end) = moment.resolve(Timestamp(1_000_000 * SECOND));
        let mut out = Vec::new();
        Timestamp(start).write_rfc3339(&mut out);
        Some((String::from_utf8(out).unwrap(), (end - start) / 1_000_000))
    }

    #[test]
    fn a_time_stands_for_all_it_names() {
        for (text, start, millis) in [
            ("2026", "2026-01-01T00:00:00.000Z", 365 * 86_400_000),
            ("2026-02", "2026-02-01T00:00:00.000Z", 28 * 86_400_000),
            ("2026-11-20", "2026-11-20T00:00:00.000Z", 86_400_000),
            ("2026-11-20T10", "2026-11-20T10:00:00.000Z", 3_600_000),
            ("2026-11-20 10:11", "2026-11-20T10:11:00.000Z", 60_000),
            ("2026-11-20T10:11:12", "2026-11-20T10:11:12.000Z", 1000),
            ("2026-11-20T10:11:12.5Z", "2026-11-20T10:11:12.500Z", 100),
            ("2026-11-20T10:11:12+02:30", "2026-11-20T07:41:12.000Z", 1000),
            ("2026-11-20T10-0100", "2026-11-20T11:00:00.000Z", 3_600_000),
            ("1795169472", "2026-11-20T10:11:12.000Z", 1000),
            ("1795169472123", "2026-11-20T10:11:12.123Z", 1),
            ("now", "1970-01-12T13:46:40.000Z", 0),
            ("now-15m", "1970-01-12T13:31:40.000Z", 0),
            ("now-1d+1h", "1970-01-11T14:46:40.000Z", 0),
        ] {
            assert_eq!(read(text), Some((start.to_owned(), millis)), "{text}");
        }
        for text in [
            "",
            "now-",
            "now-5",
            "now15m",
            "now-5x",
            "now-99999999999w",
            "20",
            "2026-13",
            "2026-02-30",
            "2026-1-1",
            "2026-11-20T",
            "2026-11-20T24",
            "2026-11-20T10:60",
            "2026-11-20T10:11:12.",
            "2026-11-20T10.5",
            "2026-11-20T10:11:12.1234567890",
            "2026-11-20T10:11:12+2",
            "9999",
            "9999-01-01",
            "yesterday",
            "é2026-11-20",
            "2026-11-20T10é",
            "-262000-01-01",
            "+2026-01-01",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(Moment::parse("2026", false), None);
    }
}
