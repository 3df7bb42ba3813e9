//! The shapes that the highlighter knows, each read at the start of some bytes and bounded in how far it looks.

use std::net::Ipv6Addr;

use crate::batch::Level;

/// Letters, digits, `_`, and whatever is not ASCII.
#[inline]
pub(super) fn is_ident(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[inline]
fn digits(s: &[u8], from: usize, count: usize) -> bool {
    s.get(from..from + count).is_some_and(|d| d.iter().all(u8::is_ascii_digit))
}

/// The time that `s` begins with: a date, a clock or both, with fraction and zone.
pub(super) fn time(s: &[u8]) -> Option<usize> {
    let &[_, _, c, _, e, ..] = s.first_chunk::<8>()?;
    if c == b':' {
        return clock(s, 0).map(|at| zone(s, at));
    }
    // 2026-11-20, 2026/11/20, 2026.11.20
    let date = if matches!(e, b'-' | b'/' | b'.') && digits(s, 0, 4) && digits(s, 5, 2) && digits(s, 8, 2) {
        (s[7] == e).then_some(10)?
    } else if matches!(c, b'/' | b'-') && digits(s, 0, 2) {
        if s[3].is_ascii_alphabetic() {
            // 20/Nov/2026, 20-Nov-2026
            (s.get(6) == Some(&c) && digits(s, 7, 4)).then_some(11)?
        } else {
            // 17/06/09
            (c == b'/' && digits(s, 3, 2) && s[5] == b'/' && digits(s, 6, 2)).then_some(8)?
        }
    } else {
        return None;
    };
    let joined = matches!(s.get(date), Some(b'T' | b' ' | b':' | b't' | b'_' | b'-'));
    match joined.then(|| clock_of_date(s, date + 1)).flatten() {
        Some(at) => Some(zone(s, at)),
        None => s.get(date).is_none_or(|b| !is_ident(*b)).then_some(date),
    }
}

/// After a date, hours and minutes may be all, and dots may stand for colons.
fn clock_of_date(s: &[u8], at: usize) -> Option<usize> {
    let short = |between| digits(s, at, 2) && s.get(at + 2) == Some(&between) && digits(s, at + 3, 2);
    if short(b'.') && s.get(at + 5) == Some(&b'.') && digits(s, at + 6, 2) {
        let fraction = s[at + 8..].iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
        return Some(at + 8 + fraction);
    }
    clock(s, at).or_else(|| short(b':').then_some(at + 5))
}

/// `081109 203615`: date and time without anything between their parts, as HDFS writes them.
pub(super) fn bare_time(s: &[u8]) -> Option<usize> {
    (digits(s, 0, 6) && s.get(6) == Some(&b' ') && digits(s, 7, 6) && s.get(13) == Some(&b' ')).then_some(13)
}

/// One past `hh:mm:ss` at `at`, with its fraction.
fn clock(s: &[u8], at: usize) -> Option<usize> {
    let colon = |i: usize| matches!(s.get(i), Some(b':' | b'.'));
    let fits = digits(s, at, 2)
        && s.get(at + 2) == Some(&b':')
        && digits(s, at + 3, 2)
        && colon(at + 5)
        && digits(s, at + 6, 2);
    if !fits {
        return None;
    }
    let end = at + 8;
    if matches!(s.get(end), Some(b'.' | b',' | b':')) && s.get(end + 1).is_some_and(u8::is_ascii_digit) {
        return Some(end + 1 + s[end + 1..].iter().take_while(|b| b.is_ascii_digit()).count());
    }
    Some(end).filter(|end| s.get(*end).is_none_or(|b| !b.is_ascii_digit()))
}

/// One past a zone at `at`: `Z`, `+02:00`, ` +0000`, ` UTC`.
fn zone(s: &[u8], at: usize) -> usize {
    let sign = |b: Option<&u8>| matches!(b, Some(b'+' | b'-'));
    match s.get(at) {
        Some(b'Z' | b'z') => return at + 1,
        Some(b' ') if s[at..].starts_with(b" UTC") || s[at..].starts_with(b" GMT") => return at + 4,
        _ => {}
    }
    let from = if s.get(at) == Some(&b' ') { at + 1 } else { at };
    if sign(s.get(from)) && digits(s, from + 1, 2) {
        let colon = usize::from(s.get(from + 3) == Some(&b':'));
        if digits(s, from + 3 + colon, 2) {
            return from + 5 + colon;
        }
    }
    at
}

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const DAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];

/// `Jun 14 15:16:01`, `Sun Dec 04 04:47:44 2005`, `Nov 20, 2026 10:11:12`.
pub(super) fn named_time(s: &[u8]) -> Option<usize> {
    let name: &[u8; 3] = s.first_chunk()?;
    let mut at = 0;
    if DAYS.contains(&name) {
        at = if s.get(3) == Some(&b',') { 5 } else { 4 };
        if s.get(at).is_some_and(u8::is_ascii_digit) {
            // Fri, 20 Nov 2026 10:11:12 +0000
            return (digits(s, at, 2) && digits(s, at + 7, 4) && s.get(at + 11) == Some(&b' '))
                .then(|| clock(s, at + 12).map(|end| zone(s, end)))?;
        }
    }
    let month: &[u8; 3] = s.get(at..)?.first_chunk()?;
    if !MONTHS.contains(&month) || s.get(at + 3) != Some(&b' ') {
        return None;
    }
    at += 4 + s[at + 4..].iter().take(1).take_while(|b| **b == b' ').count();
    let day = s[at..].iter().take(2).take_while(|b| b.is_ascii_digit()).count();
    at += day;
    if day == 0 {
        return None;
    }
    at += usize::from(s.get(at) == Some(&b','));
    if s.get(at) == Some(&b' ') && digits(s, at + 1, 4) && s.get(at + 5) == Some(&b' ') {
        at += 5;
    }
    if s.get(at) != Some(&b' ') {
        return None;
    }
    let end = zone(s, clock(s, at + 1)?);
    let year =
        s.get(end) == Some(&b' ') && digits(s, end + 1, 4) && s.get(end + 5).is_none_or(|b| !is_ident(*b));
    Some(if year { end + 5 } else { end })
}

/// `I1120 10:11:12.123456`: the level, and one past the time.
pub(super) fn klog(s: &[u8]) -> Option<(Level, usize)> {
    let level = match s.first()? {
        b'I' => Level::Info,
        b'W' => Level::Warn,
        b'E' => Level::Error,
        b'F' => Level::Fatal,
        b'D' => Level::Debug,
        _ => return None,
    };
    (digits(s, 1, 4) && s.get(5) == Some(&b' ')).then(|| clock(s, 6).map(|end| (level, end)))?
}

/// An IPv4 address, with a port or a prefix length.
pub(super) fn ipv4(s: &[u8]) -> Option<usize> {
    let mut at = 0;
    for part in 0..4 {
        let len = s[at..].iter().take(4).take_while(|b| b.is_ascii_digit()).count();
        let value = s[at..at + len].iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
        if len == 0 || len > 3 || value > 255 {
            return None;
        }
        at += len;
        if part < 3 {
            if s.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
    }
    if s.get(at).is_some_and(|b| is_ident(*b)) || (s.get(at) == Some(&b'.') && digits(s, at + 1, 1)) {
        return None;
    }
    if matches!(s.get(at), Some(b':' | b'/')) && digits(s, at + 1, 1) {
        at += 1 + s[at + 1..].iter().take(5).take_while(|b| b.is_ascii_digit()).count();
    }
    Some(at)
}

/// An IPv6 address that leaves something out, or leaves nothing out.
pub(super) fn ipv6(s: &[u8]) -> Option<usize> {
    let len = s.iter().take(40).take_while(|b| b.is_ascii_hexdigit() || **b == b':').count();
    let len = if len > 1 && s[len - 1] == b':' && s[len - 2] != b':' { len - 1 } else { len };
    let text = s.get(..len)?;
    let colons = memchr::memchr_iter(b':', text).count();
    if colons < 2 || (colons != 7 && memchr::memmem::find(text, b"::").is_none()) {
        return None;
    }
    let ends = s.get(len).is_none_or(|b| !is_ident(*b));
    (ends && std::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().is_ok()).then_some(len)
}

/// A UUID (RFC 9562), whatever its version.
pub(super) fn uuid(s: &[u8]) -> Option<usize> {
    let text: &[u8; 36] = s.first_chunk()?;
    let fits = text.iter().enumerate().all(|(at, b)| match at {
        8 | 13 | 18 | 23 => *b == b'-',
        _ => b.is_ascii_hexdigit(),
    });
    (fits && s.get(36).is_none_or(|b| !is_ident(*b))).then_some(36)
}

/// A number: decimal with a fraction and a unit of up to three letters, or hexadecimal after `0x`.
pub(super) fn number(s: &[u8]) -> Option<usize> {
    if s.starts_with(b"0x") {
        let len = s[2..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        return (len > 0 && s.get(2 + len).is_none_or(|b| !is_ident(*b))).then_some(2 + len);
    }
    let mut at = s.iter().take_while(|b| b.is_ascii_digit()).count();
    while matches!(s.get(at), Some(b'.')) && s.get(at + 1).is_some_and(u8::is_ascii_digit) {
        at += 1 + s[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
    }
    let unit = s[at..].iter().take(4).take_while(|b| b.is_ascii_alphabetic() || **b >= 0x80).count();
    let end = at + unit;
    if unit > 3 || s.get(end).is_some_and(|b| is_ident(*b)) {
        return None;
    }
    Some(end + usize::from(unit == 0 && s.get(end) == Some(&b'%')))
}

/// Whether a word is an identifier of hexadecimal digits, at least `min` of them.
pub(super) fn is_id(word: &[u8], min: usize) -> bool {
    word.len() >= min && word.iter().all(u8::is_ascii_hexdigit) && word.iter().any(u8::is_ascii_digit)
}

/// One past the URL whose scheme ends before `at`.
pub(super) fn url_end(text: &[u8], at: usize) -> usize {
    let ends = |b: &u8| {
        b.is_ascii_whitespace()
            || matches!(b, b'"' | b'\'' | b'<' | b'>' | b'`' | b'{' | b'}' | b'|' | b'^' | b'\\')
    };
    trimmed(text, at, text[at..].iter().position(ends).map_or(text.len(), |len| at + len))
}

/// One past the path that goes on at `at`.
pub(super) fn path_end(text: &[u8], at: usize) -> usize {
    let ends = |b: &u8| {
        b.is_ascii_whitespace()
            || matches!(
                b,
                b'"' | b'\''
                    | b'<'
                    | b'>'
                    | b'`'
                    | b'{'
                    | b'}'
                    | b'|'
                    | b';'
                    | b','
                    | b'('
                    | b')'
                    | b'['
                    | b']'
            )
    };
    trimmed(text, at, text[at..].iter().position(ends).map_or(text.len(), |len| at + len))
}

/// Without the punctuation of the sentence it stands in.
fn trimmed(text: &[u8], from: usize, mut end: usize) -> usize {
    while end > from && matches!(text[end - 1], b'.' | b',' | b';' | b':' | b'!' | b'?' | b')' | b']') {
        end -= 1;
    }
    end
}

/// Whether a word is an HTTP method.
pub(super) fn is_method(word: &[u8]) -> bool {
    matches!(
        word,
        b"GET" | b"POST" | b"PUT" | b"HEAD" | b"DELETE" | b"PATCH" | b"OPTIONS" | b"CONNECT" | b"TRACE"
    )
}

/// Whether text in quotes is a request line.
pub(super) fn is_request(inner: &[u8]) -> bool {
    let end = inner.iter().take(8).position(|b| *b == b' ');
    end.is_some_and(|end| is_method(&inner[..end]))
}

/// Whether a key names a severity.
pub(super) fn is_level_key(key: &[u8]) -> bool {
    const KEYS: [&[u8]; 12] = [
        b"level",
        b"lvl",
        b"severity",
        b"loglevel",
        b"log.level",
        b"log_level",
        b"levelname",
        b"@l",
        b"@level",
        b"severity_text",
        b"severitytext",
        b"priority",
    ];
    key.len() <= 13 && KEYS.iter().any(|known| key.eq_ignore_ascii_case(known))
}

/// Whether a key names an HTTP status.
pub(super) fn is_status_key(key: &[u8]) -> bool {
    let last = key.rsplit(|b| *b == b'.').next().unwrap_or(key);
    [&b"status"[..], b"status_code", b"statuscode", b"code"]
        .iter()
        .any(|known| last.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_end_where_they_end() {
        for (text, time) in [
            ("2026-11-20T10:11:12.123Z rest", "2026-11-20T10:11:12.123Z"),
            ("2026-11-20 10:11:12,123 INFO", "2026-11-20 10:11:12,123"),
            ("2026-11-20T10:11:12+02:00,x", "2026-11-20T10:11:12+02:00"),
            ("2026/11/20 10:11:12 [error]", "2026/11/20 10:11:12"),
            ("2026-11-20 10:11 x", "2026-11-20 10:11"),
            ("2026-11-20 x", "2026-11-20"),
            ("20/Nov/2026:10:11:12 +0000] \"", "20/Nov/2026:10:11:12 +0000"),
            ("17/06/09 20:10:40 INFO", "17/06/09 20:10:40"),
            ("10:11:12.5 x", "10:11:12.5"),
            ("10:11:12 UTC x", "10:11:12 UTC"),
            ("2017-05-16_13:53:08", "2017-05-16_13:53:08"),
            ("2005-12-27-01.24.58.711345 R37", "2005-12-27-01.24.58.711345"),
        ] {
            assert_eq!(super::time(text.as_bytes()).map(|len| &text[..len]), Some(time), "{text}");
        }
        for text in ["12:34", "2026-1-2 abc", "12345678", "10:11:123", "1.2.3.4.5.6"] {
            assert_eq!(super::time(text.as_bytes()), None, "{text}");
        }
        for (text, time) in [
            ("Jun 14 15:16:01 combo", "Jun 14 15:16:01"),
            ("Jun  4 15:16:01 combo", "Jun  4 15:16:01"),
            ("Sun Dec 04 04:47:44 2005] x", "Sun Dec 04 04:47:44 2005"),
            ("Nov 20, 2026 10:11:12 AM", "Nov 20, 2026 10:11:12"),
            ("Fri, 20 Nov 2026 10:11:12 +0000 x", "Fri, 20 Nov 2026 10:11:12 +0000"),
        ] {
            assert_eq!(named_time(text.as_bytes()).map(|len| &text[..len]), Some(time), "{text}");
        }
        assert_eq!(named_time(b"May I go"), None);
        assert_eq!(named_time(b"Mar"), None);
    }

    #[test]
    fn addresses_numbers_and_identifiers() {
        let of =
            |f: fn(&[u8]) -> Option<usize>, text: &str| f(text.as_bytes()).map(|len| text[..len].to_owned());
        assert_eq!(of(ipv4, "10.0.0.1:8080 x").as_deref(), Some("10.0.0.1:8080"));
        assert_eq!(of(ipv4, "10.0.0.0/8").as_deref(), Some("10.0.0.0/8"));
        assert!(["256.1.1.1", "1.2.3", "1.2.3.4.5", "1.2.3.4a"].iter().all(|t| of(ipv4, t).is_none()));
        assert_eq!(of(ipv6, "fe80::1ff:fe23:4567:890a%eth0").as_deref(), Some("fe80::1ff:fe23:4567:890a"));
        assert_eq!(of(ipv6, "2001:db8::1: x").as_deref(), Some("2001:db8::1"));
        assert!(["10:11:12", "a:b", "::::", "dead:beef"].iter().all(|t| of(ipv6, t).is_none()));
        assert_eq!(of(number, "12.5ms,").as_deref(), Some("12.5ms"));
        assert_eq!(of(number, "50% x").as_deref(), Some("50%"));
        assert_eq!(of(number, "0x1fA ").as_deref(), Some("0x1fA"));
        assert!(["12abcd", "0xg", "3rd_x"].iter().all(|t| of(number, t).is_none()));
        assert_eq!(of(uuid, "f7dbcd25-7ba6-4b1a-9b0a-0123456789ab]").map(|u| u.len()), Some(36));
    }
}
