//! Severity and time of a line, read off its bytes: what it costs to look at every line of a busy stream, so
//! no regular expressions, no allocation and no copy. The rules for ambiguous lines stand at the two
//! functions.

pub(crate) mod civil;
mod json;
mod level;
#[cfg(test)]
mod level_table;
#[cfg(test)]
mod real_samples;
mod shape;
mod timestamp;
#[cfg(test)]
mod timestamp_table;

pub use level::detect_level;
pub use timestamp::{detect_timestamp, is_time_key};

/// Bytes from the start of a line in which words, brackets and keys are looked for.
const WINDOW: usize = 160;

/// The start of a line after blanks and a byte order mark.
#[inline]
fn trim_start(mut line: &[u8]) -> &[u8] {
    while let [0xEF, 0xBB, 0xBF, rest @ ..] | [b' ' | b'\t', rest @ ..] = line {
        line = rest;
    }
    line
}

/// Reads a syslog priority, `<0>` to `<191>`, at the start of a line: the number and the bytes taken.
#[inline]
fn priority(line: &[u8]) -> Option<(u8, usize)> {
    let [b'<', rest @ ..] = line else { return None };
    let len = rest.iter().take(4).position(|b| *b == b'>')?;
    let digits = &rest[..len];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
    (value <= 191).then_some((value as u8, len + 2))
}
