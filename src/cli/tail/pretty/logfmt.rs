//! Lines that are `key=value` pairs from end to end, by place.

use crate::batch::Span;
use crate::cli::tail::json::{Kind, Member};

/// Fewest pairs that make a line logfmt.
const PAIRS_MIN: usize = 2;
/// The longest key.
const KEY_MAX: usize = 128;

/// Appends the pairs of `text`; false if it is anything but pairs.
pub(super) fn pairs(text: &[u8], out: &mut Vec<Member>) -> bool {
    let from = out.len();
    let mut at = 0;
    loop {
        at += text[at..].iter().take_while(|b| **b == b' ').count();
        if at >= text.len() {
            return out.len() - from >= PAIRS_MIN;
        }
        let key = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'@' | b'/');
        let len = text[at..].iter().take(KEY_MAX).take_while(|b| key(b)).count();
        if len == 0 || text.get(at + len) != Some(&b'=') {
            return false;
        }
        let key = Span::new(at, len);
        at += len + 1;
        if text.get(at) == Some(&b'"') {
            let (start, mut escaped) = (at + 1, false);
            at = start;
            loop {
                let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) else {
                    return false;
                };
                at += found;
                if text[at] == b'"' {
                    break;
                }
                escaped = true;
                at += 2;
            }
            out.push(Member { key, value: Span::new(start, at - start), kind: Kind::Text { escaped } });
            at += 1;
            if text.get(at).is_some_and(|b| *b != b' ') {
                return false;
            }
        } else {
            let len = memchr::memchr(b' ', &text[at..]).unwrap_or(text.len() - at);
            let value = &text[at..at + len];
            let number = matches!(value, [b'0'..=b'9' | b'-', rest @ ..] if rest.iter().all(|b| b.is_ascii_digit() || *b == b'.'));
            let bare = number || matches!(value, b"true" | b"false" | b"null");
            let kind = if bare { Kind::Bare } else { Kind::Text { escaped: false } };
            out.push(Member { key, value: Span::new(at, len), kind });
            at += len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<(&str, &str)>> {
        let mut out = Vec::new();
        let show = |s: Span| &text[s.start()..s.end()];
        pairs(text.as_bytes(), &mut out).then(|| out.iter().map(|m| (show(m.key), show(m.value))).collect())
    }

    #[test]
    fn pairs_from_end_to_end_or_nothing() {
        assert_eq!(
            read("ts=1 level=warn msg=\"a \\\"b\\\" c=d\" took=3ms empty= q=\"\""),
            Some(vec![
                ("ts", "1"),
                ("level", "warn"),
                ("msg", "a \\\"b\\\" c=d"),
                ("took", "3ms"),
                ("empty", ""),
                ("q", "")
            ])
        );
        for other in [
            "",
            "a=1",
            "a=1 b",
            "plain words",
            "a=1 b=\"open",
            "a=\"x\"y b=2",
            "=x a=1",
            "2026-11-21 a=1 b=2",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
