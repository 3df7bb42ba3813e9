//! Finds the severity of a line in one pass over its first bytes: a table says which bytes can begin
//! something that matters, and only there is anything compared.

use memchr::{memchr, memchr_iter};

use super::json::{Members, Value};
use super::{WINDOW, priority, trim_start};
use crate::batch::Level;

/// Bytes from the start in which `<error>` and one-letter brackets count; later they are more likely text.
const EARLY: usize = 64;
/// Bytes of an access line's request that are searched for its end.
const REQUEST_MAX: usize = 8192;
/// So many digits before a line's first word make it a timestamp, after which a lower-case level counts.
const TIME_DIGITS: usize = 6;

/// The severity a line states for itself; `None` when it states none. Never panics, allocates nothing.
///
/// In this order:
/// 1. A JSON object: the first of the top-level keys `level`, `severity`, `lvl`, `log.level`, `@l`,
///    `levelname`, `loglevel` and their kin within 64 KiB, a word or a number (see [`Level::from_number`]).
///    Nothing else in it counts.
/// 2. A syslog priority `<165>`: its severity, whatever the message says.
/// 3. klog's and glog's `I0102 15:04:05`, logcat's `E/Tag`.
/// 4. Whatever of these comes first in the first 160 bytes:
///    - a first word that is a level, in any case: at the very start before a colon (`error: …`), after a
///      timestamp before anything;
///    - a bracketed level in any case: `[error]`, `[core:error]`, `[ WARN ]`, and early in the line `<E>`,
///      `[E]`;
///    - an upper-case word of its own: ` INFO `, `ERROR:`, `WARNING:root:`, `[main/WARN]`,
///      Postgres' `LOG:  `; not inside double quotes (`"GET INFO"`), not part of a name (`ERROR_CODE`,
///      `NON-FATAL`, `DEBUG=1`);
///    - a key: `level=`, `lvl=`, `severity=`, `levelname=`, `loglevel=`;
///    - a level between colons (`sshd[1]: error: …`), syslog's `daemon.err`, the kernel's `BUG:`, `Oops:` and
///      `Kernel panic`, a JSON object behind a prefix;
///    - the status of an access line (common and combined format): 5xx is an error, 4xx a warning, the rest
///      info.
///
/// A lower-case word in the middle of a message ("no error found") is no level.
pub fn detect_level(line: &[u8]) -> Option<Level> {
    let line = trim_start(line);
    match line.first()? {
        b'{' => {
            if let Some(members) = Members::open(line) {
                return under_key(members);
            }
        }
        b'<' => {
            if let Some((priority, _)) = priority(line) {
                return Some(Level::from_syslog(priority));
            }
        }
        b'A'..=b'Z' => {
            if let Some(level) = lettered(line) {
                return Some(level);
            }
        }
        _ => {}
    }
    let window = &line[..line.len().min(WINDOW)];
    match leading(line, window) {
        Leading::Level(level) => Some(level),
        Leading::Other(at) => scan(line, window, at),
    }
}

/// `I0102 15:04:05.123456` (klog) and `E/Tag(123): …` (logcat).
fn lettered(line: &[u8]) -> Option<Level> {
    match line {
        [c @ (b'I' | b'W' | b'E' | b'F' | b'D'), m1, m2, d1, d2, b' ', ..]
            if [m1, m2, d1, d2].iter().all(|b| b.is_ascii_digit()) =>
        {
            Level::parse(&[*c])
        }
        [c @ (b'V' | b'D' | b'I' | b'W' | b'E' | b'F' | b'A'), b'/', tag, ..]
            if tag.is_ascii_alphanumeric() =>
        {
            Level::parse(&[*c])
        }
        _ => None,
    }
}

/// What a line's first word is.
enum Leading {
    /// A level, or an opening bracket with one in it.
    Level(Level),
    /// Something else; the search goes on here.
    Other(usize),
}

/// Passes over digits and punctuation (a timestamp, a process id) to the first word or bracket.
#[inline]
fn leading(line: &[u8], window: &[u8]) -> Leading {
    // `2026-11-20 10:11:12`: by far the most common beginning.
    let dated = matches!(
        window,
        [
            b'0'..=b'9',
            _,
            _,
            _,
            b'-' | b'/',
            _,
            _,
            b'-' | b'/',
            _,
            _,
            b' ' | b'T',
            _,
            _,
            b':',
            _,
            _,
            b':',
            _,
            _,
            ..
        ]
    );
    let (mut at, mut digits) = if dated { (19, 14) } else { (0, 0) };
    while let Some(&byte) = window.get(at) {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'[' | b'<' => {
                if let Some(level) = bracketed(line, at) {
                    return Leading::Level(level);
                }
            }
            // ISO 8601's own letters.
            b'T' | b'Z' if at > 0 && window[at - 1].is_ascii_digit() => {}
            0x1B => at = colour_end(window, at),
            b'A'..=b'Z' | b'a'..=b'z' => {
                let word = letters(&window[at..]);
                if word == b"UTC" || word == b"GMT" {
                    at += 3;
                    continue;
                }
                return match first_word(word, line.get(at + word.len()), digits) {
                    Some(level) => Leading::Level(level),
                    None => Leading::Other(at),
                };
            }
            b'=' | b'"' | b'{' | b'_' | 0x80.. => return Leading::Other(at),
            _ => {}
        }
        at += 1;
    }
    Leading::Other(at)
}

/// The level a line's first word stands for, given what follows it and how many digits came before.
fn first_word(word: &[u8], next: Option<&u8>, digits: usize) -> Option<Level> {
    let fits = match next {
        Some(b':') => word.len() > 1,
        Some(b' ') => digits >= TIME_DIGITS && (word.len() > 1 || is_severity_letter(word)),
        Some(b'\t' | b'|' | b',' | b')') | None => digits >= TIME_DIGITS && word.len() > 1,
        _ => false,
    };
    if fits { Level::parse(word) } else { None }
}

/// The letters that logcat, glog and MongoDB write for a level.
fn is_severity_letter(word: &[u8]) -> bool {
    matches!(word, [b'V' | b'D' | b'I' | b'W' | b'E' | b'F'])
}

/// The run of ASCII letters at the start.
#[inline]
fn letters(s: &[u8]) -> &[u8] {
    let len = s.iter().position(|b| !b.is_ascii_alphabetic()).unwrap_or(s.len());
    &s[..len]
}

/// The last byte (`m`) of the escape sequence at `at`, or `at`.
fn colour_end(window: &[u8], at: usize) -> usize {
    window[at..].iter().take(12).position(|b| *b == b'm').map_or(at, |m| at + m)
}

/// What a byte may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Mark {
    Nothing,
    /// A capital that some level starts with.
    Capital,
    /// `[` or `<`.
    Bracket,
    /// The end of a key: `=`.
    Equals,
    /// `:`, before a level that stands between colons.
    Colon,
    /// `.`, between a syslog facility and its severity.
    Dot,
    /// `{`, perhaps JSON behind a prefix.
    Brace,
}

const MARKS: [Mark; 256] = {
    let mut marks = [Mark::Nothing; 256];
    let capitals = b"ABCDEFIKLNOPSTVW";
    let mut i = 0;
    while i < capitals.len() {
        marks[capitals[i] as usize] = Mark::Capital;
        i += 1;
    }
    marks[b'[' as usize] = Mark::Bracket;
    marks[b'<' as usize] = Mark::Bracket;
    marks[b'=' as usize] = Mark::Equals;
    marks[b':' as usize] = Mark::Colon;
    marks[b'.' as usize] = Mark::Dot;
    marks[b'{' as usize] = Mark::Brace;
    marks
};

/// The search proper, from `at` on.
fn scan(line: &[u8], window: &[u8], mut at: usize) -> Option<Level> {
    // Only the first object is walked, so that a line of braces costs no more than one.
    let mut walked = false;
    // Lines without a level are passed over whole: this inner loop is what they cost.
    while let Some(skipped) =
        window.get(at..)?.iter().position(|b| !matches!(MARKS[usize::from(*b)], Mark::Nothing))
    {
        at += skipped;
        let found = match MARKS[usize::from(window[at])] {
            Mark::Nothing => None,
            Mark::Capital => {
                let word = capitals(&window[at..]);
                let found = if word.len() >= 3 { upper_case(line, at, word) } else { None };
                at += word.len() - 1;
                found
            }
            Mark::Bracket => bracketed(line, at),
            Mark::Equals => keyed(line, at),
            Mark::Colon => between_colons(line, at),
            Mark::Dot => facility(line, at),
            Mark::Brace if walked => None,
            Mark::Brace => Members::open(&line[at..]).and_then(|members| {
                walked = true;
                under_key(members)
            }),
        };
        if found.is_some() {
            return found;
        }
        at += 1;
    }
    None
}

/// The run of capitals at the start.
#[inline]
fn capitals(s: &[u8]) -> &[u8] {
    let len = s.iter().position(|b| !b.is_ascii_uppercase()).unwrap_or(s.len());
    &s[..len]
}

/// An upper-case word at `at` that stands on its own.
fn upper_case(line: &[u8], at: usize, word: &[u8]) -> Option<Level> {
    let after = &line[at + word.len()..];
    let level = match Level::parse(word) {
        // These are words of their own in English: only a label counts.
        Some(_) if matches!(word, b"FINE" | b"FINER" | b"FINEST" | b"NOTE") && !after.starts_with(b":") => {
            return None;
        }
        Some(level) => level,
        None => match word {
            b"LOG" if after.starts_with(b":  ") => Level::Info,
            b"BUG" if after.starts_with(b":") => Level::Error,
            _ => return None,
        },
    };
    let ends = match after {
        [] => true,
        // Postgres has DEBUG1 to DEBUG5.
        [b'1'..=b'5', b':', ..] => word == b"DEBUG",
        [b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'=' | b'(' | 0x80.., ..] => false,
        _ => true,
    };
    (ends && begins(&line[..at], after) && !quoted(&line[..at], after)).then_some(level)
}

/// Whether a word may begin after `before`.
fn begins(before: &[u8], after: &[u8]) -> bool {
    match before {
        [] => true,
        [.., b'/'] => after.starts_with(b"]"),
        // The end of a terminal colour is no letter of the word's.
        [.., b'm'] => before.iter().rev().take(12).any(|b| *b == 0x1B),
        [.., b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'=' | b'\\' | 0x80..] => false,
        _ => true,
    }
}

/// Whether a word stands inside double quotes, other than as a whole field of a CSV line.
fn quoted(before: &[u8], after: &[u8]) -> bool {
    let field = matches!(before, [b'"'] | [.., b',', b'"']) && after.starts_with(b"\"");
    !field && memchr_iter(b'"', before).count() % 2 == 1
}

/// What the bracket at `at` holds, when that is a level or the date of an access line.
fn bracketed(line: &[u8], at: usize) -> Option<Level> {
    let inside = &line[at + 1..];
    if let [_, _, b'/', _, _, _, b'/', _, _, _, _, b':', ..] = inside {
        return access_status(inside);
    }
    let (open, close) = if line[at] == b'[' { (true, b']') } else { (false, b'>') };
    if !open && at >= EARLY {
        return None;
    }
    let inside = trim_start(&inside[..inside.len().min(40)]);
    let word = letters(inside);
    let rest = &inside[word.len()..];
    match (word.len(), rest) {
        (0, _) => None,
        // `[E]`, `<E>`, and Jupyter's `[I 10:11:12.123 App]`.
        (1, [next, ..]) if *next == close => Level::parse(word).filter(|_| at < EARLY),
        (1, [b' ', b'0'..=b'9', ..]) if open && is_severity_letter(word) => {
            Level::parse(word).filter(|_| at < EARLY)
        }
        (1, _) => None,
        _ if trim_start(rest).first() == Some(&close) => Level::parse(word),
        (_, [b':' | b'_' | b'0'..=b'9', ..]) if open => module_level(inside),
        _ => None,
    }
}

/// Apache 2.4's `[module:level]`, from after the bracket.
fn module_level(inside: &[u8]) -> Option<Level> {
    let colon = inside.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_')?;
    let word = letters(inside[colon..].strip_prefix(b":")?);
    (inside.get(colon + 1 + word.len()) == Some(&b']') && word.len() > 1).then(|| Level::parse(word))?
}

/// The level of an access line's status, from after the bracket of its date: `…] "GET / HTTP/1.1" 404 …`.
fn access_status(inside: &[u8]) -> Option<Level> {
    let date_end = memchr(b']', &inside[..inside.len().min(40)])?;
    let request = inside[date_end..].strip_prefix(b"] \"")?;
    let request = &request[..request.len().min(REQUEST_MAX)];
    let close = memchr_iter(b'"', request).find(|&quote| quote == 0 || request[quote - 1] != b'\\')?;
    match request[close + 1..] {
        [b' ', class @ b'1'..=b'5', b'0'..=b'9', b'0'..=b'9', b' ', ..]
        | [b' ', class @ b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] => Some(match class {
            b'5' => Level::Error,
            b'4' => Level::Warn,
            _ => Level::Info,
        }),
        _ => None,
    }
}

/// The value after the `=` at `at`, when the key before it is one for the level.
fn keyed(line: &[u8], at: usize) -> Option<Level> {
    if at < 3 || !matches!(line[at - 1] | 32, b'l' | b'y' | b'e') {
        return None;
    }
    let name =
        line[..at].iter().rev().take(16).take_while(|b| b.is_ascii_alphanumeric() || b"._@".contains(b));
    let len = name.count();
    if !is_level_key(&line[at - len..at]) {
        return None;
    }
    let value = &line[at + 1..];
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    value_level(value)
}

/// The level at the start of a value, a word or a number that ends there.
fn value_level(value: &[u8]) -> Option<Level> {
    let value = &value[..value.len().min(16)];
    let len = value.iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(value.len());
    Level::parse(&value[..len]).or_else(|| Level::from_number(&value[..len]))
}

/// Whether a key names the level.
fn is_level_key(key: &[u8]) -> bool {
    const KEYS: [&[u8]; 12] = [
        b"level",
        b"lvl",
        b"severity",
        b"levelname",
        b"loglevel",
        b"log.level",
        b"log_level",
        b"@l",
        b"log.severity",
        b"severitytext",
        b"severity_text",
        b"level_name",
    ];
    matches!(key.len(), 2..=13) && KEYS.iter().any(|known| key.eq_ignore_ascii_case(known))
}

/// A level between the colon at `at` and the next (`sshd[24324]: error: …`), or the kernel's `Oops:`.
fn between_colons(line: &[u8], at: usize) -> Option<Level> {
    let [b' ', after @ ..] = &line[at + 1..] else { return None };
    let word = letters(&after[..after.len().min(16)]);
    match after[word.len()..] {
        [b':', ..] if word == b"Oops" => Some(Level::Error),
        [b':', ..] if word.len() > 1 => Level::parse(word),
        [b' ', ref rest @ ..] if word == b"Kernel" && rest.starts_with(b"panic") => Some(Level::Fatal),
        _ => None,
    }
}

/// `daemon.err` and its kind: the word after the dot at `at` when the one before is a syslog facility.
fn facility(line: &[u8], at: usize) -> Option<Level> {
    const FACILITIES: [&[u8]; 13] = [
        b"kern",
        b"user",
        b"mail",
        b"daemon",
        b"auth",
        b"syslog",
        b"lpr",
        b"news",
        b"uucp",
        b"cron",
        b"authpriv",
        b"ftp",
        b"local",
    ];
    if !line.get(at + 1).is_some_and(u8::is_ascii_lowercase) || at < 3 {
        return None;
    }
    let before = match line[..at] {
        // local0 to local7
        [.., b'0'..=b'7'] => &line[..at - 1],
        _ => &line[..at],
    };
    let len = before.iter().rev().take(9).take_while(|b| b.is_ascii_lowercase()).count();
    let (outer, name) = before.split_at(before.len() - len);
    if !FACILITIES.contains(&name) || !matches!(outer, [] | [.., b' ' | b'<' | b'[' | b'\t']) {
        return None;
    }
    let word = letters(&line[at + 1..line.len().min(at + 12)]);
    let ends = matches!(line.get(at + 1 + word.len()), None | Some(b' ' | b':' | b'>' | b']'));
    (ends && word.len() > 2).then(|| Level::parse(word))?
}

/// The level in an object's members, by key.
fn under_key(members: Members<'_>) -> Option<Level> {
    for (key, value) in members {
        let found = match value {
            Value::Text(text) | Value::Bare(text) if is_level_key(key) => {
                Level::parse(text).or_else(|| Level::from_number(text))
            }
            // journald exports and MongoDB's own log.
            Value::Text([digit @ b'0'..=b'7']) if key == b"PRIORITY" => {
                Some(Level::from_syslog(digit - b'0'))
            }
            Value::Text(text) if key == b"s" && is_severity_letter(text) => Level::parse(text),
            // ECS, unflattened: {"log":{"level":"warn"}}
            Value::Nested(inner) if key == b"log" => Members::open(inner)
                .and_then(|mut inner| inner.find(|(key, _)| *key == b"level"))
                .and_then(|(_, value)| if let Value::Text(text) = value { Level::parse(text) } else { None }),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}
