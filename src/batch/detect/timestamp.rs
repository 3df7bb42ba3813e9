//! Finds the timestamp of a line: at its start in nearly all logs, else behind the usual prefixes, in an
//! access log's brackets, or under a key. What a shape looks like is known in `shape`.

use memchr::{memchr, memchr_iter, memchr2};

use super::json::{Members, Value};
use super::{WINDOW, priority, shape, trim_start};
use crate::batch::{Level, Timestamp};

/// Words that may stand before the time when each is a level, bracketed or mere punctuation.
const WORDS_MAX: usize = 3;
/// Prefixes (brackets, priorities, dashes) that are looked through.
const PREFIXES_MAX: usize = 6;

/// The time a line states for itself; `None` when it states none. Never panics, allocates nothing.
///
/// Read at the line's start, after `<pri>`, `<pri>1 `, brackets, quotes, dashes and terminal colours, or
/// after one leading word (which levels, brackets and bars may follow):
/// - ISO 8601 and RFC 3339 in their usual variants, also with `/` or `.` in the date and `,` before the
///   fraction;
/// - syslog (RFC 3164), Apache, nginx, Go, log4j, klog, logcat, `ctime`, Spark, HDFS, BGL, RFC 2822;
/// - Unix time of 10, 13, 16 or 19 digits (s, ms, µs, ns);
///
/// and anywhere near the start: `[20/Nov/2026:10:11:12 +0000]` of access logs, `audit(1364481363.243:…)`,
/// logfmt keys (`time=`, `ts=` and others), and top-level JSON keys of the same names within 64 KiB.
///
/// Decisions where a line is ambiguous:
/// - No zone means UTC, and so does a zone's name.
/// - A year left out is the one that puts the time nearest before `received`, at most one day after it.
/// - Two-digit years are 1969 to 2068, and numbers of two digits are always year, month, day: `17/06/09` is
///   9 June 2017 and `081109` is 9 November 2008. Orders such as `11/20/2026` are not read at all.
/// - `:60` is clamped to `:59`; a date that is not on the calendar is no timestamp.
/// - A number after a leading word is only a time when a date follows it, as in BGL
///   (`KERNDTLB 1117838570 2005.06.03`), where it wins over the local time further on, since it is UTC for certain.
/// - Years outside 1677 to 2262 do not fit and are `None`.
pub fn detect_timestamp(line: &[u8], received: Timestamp) -> Option<Timestamp> {
    let mut rest = trim_start(line);
    if let Some(found) = shape::read(rest, received) {
        return Some(found);
    }
    for _ in 0..PREFIXES_MAX {
        let after = match rest {
            [b'{', ..] => match Members::open(rest) {
                Some(members) => return under_key(members, received),
                None => &rest[1..],
            },
            [b'<', ..] => after_priority(rest),
            [0x1B, b'[', ..] => after_colour(rest),
            [b'[' | b'(' | b'"' | b'-' | b'|' | b'*' | b'#', after @ ..] => after,
            _ => break,
        };
        rest = trim_start(after);
        if let Some(found) = shape::read(rest, received) {
            return Some(found);
        }
    }
    let head = &rest[..rest.len().min(WINDOW)];
    match memchr2(b' ', b'=', head) {
        Some(at) if head[at] == b'=' => keyed(rest, head, received),
        _ => after_words(rest, received)
            .or_else(|| in_access_line(rest))
            .or_else(|| keyed(rest, head, received)),
    }
}

/// What follows `<pri>` and RFC 5424's version, or just the `<`.
fn after_priority(s: &[u8]) -> &[u8] {
    let rest = &s[priority(s).map_or(1, |(_, len)| len)..];
    rest.strip_prefix(b"1 ").unwrap_or(rest)
}

/// What follows one escape sequence `ESC [ … m`.
fn after_colour(s: &[u8]) -> &[u8] {
    let end = s.iter().take(12).position(|b| *b == b'm').map_or(2, |m| m + 1);
    &s[end..]
}

/// Looks behind one leading word, then behind further words that can only be decoration.
fn after_words(s: &[u8], received: Timestamp) -> Option<Timestamp> {
    let mut rest = s;
    for nth in 0..WORDS_MAX {
        let end = memchr2(b' ', b'\t', &rest[..rest.len().min(WINDOW)])?;
        if nth > 0 && !is_decoration(&rest[..end]) {
            return None;
        }
        rest = trim_start(&rest[end..]);
        let bare = match rest {
            [b'[' | b'(', after @ ..] => after,
            _ => rest,
        };
        // A lone number behind a word is as likely a count as a time: see the decision on BGL.
        let number = bare.iter().take(10).all(u8::is_ascii_digit);
        if number && !bare.get(11..).is_some_and(|next| matches!(next, [_, _, _, _, b'.', _, _, b'.', ..])) {
            continue;
        }
        if let Some(found) = shape::read(bare, received) {
            return Some(found);
        }
    }
    None
}

/// Whether a word carries no text of its own: bracketed, punctuation, or a level.
fn is_decoration(word: &[u8]) -> bool {
    let bare = word.strip_suffix(b":").unwrap_or(word);
    matches!(word, [b'[' | b'(', ..])
        || !word.iter().any(u8::is_ascii_alphanumeric)
        || Level::parse(bare).is_some()
}

/// `host ident user [20/Nov/2026:10:11:12 +0000] "…`, and audit's `audit(seconds.millis:serial)`.
fn in_access_line(s: &[u8]) -> Option<Timestamp> {
    let head = &s[..s.len().min(2 * WINDOW)];
    if let Some(found) = memchr_iter(b'[', head)
        .take(4)
        .find_map(|at| matches!(s[at..], [_, _, _, b'/', ..]).then(|| shape::day_first(&s[at + 1..]))?)
    {
        return Some(found);
    }
    let open = memchr(b'(', head)?;
    if s[..open].ends_with(b"audit") { shape::unix(&s[open + 1..]) } else { None }
}

/// Whether a key names the time of the event, in any case of its letters.
pub fn is_time_key(key: &[u8]) -> bool {
    const KEYS: [&[u8]; 12] = [
        b"time",
        b"timestamp",
        b"ts",
        b"@timestamp",
        b"@t",
        b"t",
        b"datetime",
        b"date",
        b"asctime",
        b"eventtime",
        b"_time",
        b"__realtime_timestamp",
    ];
    KEYS.iter().any(|known| key.eq_ignore_ascii_case(known))
}

/// logfmt: `time=2026-11-20T10:11:12Z level=…`, quoted or not; `head` is the part of `s` that is searched.
fn keyed(s: &[u8], head: &[u8], received: Timestamp) -> Option<Timestamp> {
    memchr_iter(b'=', head).find_map(|at| {
        let name =
            head[..at].iter().rev().take(24).take_while(|b| b.is_ascii_alphanumeric() || b"@_".contains(b));
        let key = &head[at - name.count()..at];
        if !is_time_key(key) {
            // audit writes `msg=audit(…)`, where the value is what is recognised.
            return if key == b"msg" { in_access_line(s.get(at..at + 40)?) } else { None };
        }
        let value = &s[at + 1..];
        shape::read(value.strip_prefix(b"\"").unwrap_or(value), received)
    })
}

/// The first member under a key for the time whose value is one.
fn under_key(members: Members<'_>, received: Timestamp) -> Option<Timestamp> {
    members.filter(|(key, _)| is_time_key(key)).find_map(|(_, value)| match value {
        Value::Text(text) | Value::Bare(text) => shape::read(text, received),
        // MongoDB: {"t":{"$date":"…"}}
        Value::Nested(inner) => match Members::open(inner)?.next()? {
            (b"$date", Value::Text(text)) => shape::read(text, received),
            _ => None,
        },
    })
}
