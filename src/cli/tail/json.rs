//! JSON objects as they stand in a line: their members by place, nothing copied. What is not a whole object is said to
//! be none. Depth costs nothing: brackets are counted.

use crate::batch::Span;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string; the span is its inside, and says whether that holds escapes.
    Text { escaped: bool },
    /// A number, `true`, `false` or `null`.
    Bare,
    /// An object.
    Object,
    /// An array.
    Array,
}

/// A key and its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// The inside of the key.
    pub(super) key: Span,
    /// The value; without quotes, with brackets.
    pub(super) value: Span,
    /// What it is.
    pub(super) kind: Kind,
}

impl Member {
    /// The key as it is written.
    pub(super) fn key<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.key.start()..self.key.end()]
    }

    /// The value as it is written.
    pub(super) fn value<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.value.start()..self.value.end()]
    }
}

/// Appends the members of the object that `text[range]` is, by their place in `text`. False if it is none, or holds
/// anything else but blanks; what was appended then means nothing.
pub(super) fn members(text: &[u8], range: std::ops::Range<usize>, out: &mut Vec<Member>) -> bool {
    walk(&text[..range.end], range.start, out).is_some()
}

fn walk(text: &[u8], start: usize, out: &mut Vec<Member>) -> Option<()> {
    let mut at = blanks(text, start);
    if text.get(at) != Some(&b'{') {
        return None;
    }
    at = blanks(text, at + 1);
    if text.get(at) == Some(&b'}') {
        at += 1;
    } else {
        loop {
            let (key, _, after) = string(text, at)?;
            at = blanks(text, after);
            if text.get(at) != Some(&b':') {
                return None;
            }
            at = blanks(text, at + 1);
            let (value, kind, after) = value(text, at)?;
            out.push(Member { key, value, kind });
            at = blanks(text, after);
            match text.get(at)? {
                b',' => at = blanks(text, at + 1),
                b'}' => break,
                _ => return None,
            }
        }
        at += 1;
    }
    (blanks(text, at) == text.len()).then_some(())
}

/// The inside of the string that opens at `open`, whether it holds escapes, and what follows its quote.
fn string(text: &[u8], open: usize) -> Option<(Span, bool, usize)> {
    if text.get(open) != Some(&b'"') {
        return None;
    }
    let (mut at, mut escaped) = (open + 1, false);
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some((Span::new(open + 1, at - open - 1), escaped, at + 1));
        }
        escaped = true;
        at += 2;
    }
}

fn value(text: &[u8], start: usize) -> Option<(Span, Kind, usize)> {
    match text.get(start)? {
        b'"' => {
            let (inside, escaped, after) = string(text, start)?;
            Some((inside, Kind::Text { escaped }, after))
        }
        open @ (b'{' | b'[') => {
            let end = nested_end(text, start)?;
            let kind = if *open == b'{' { Kind::Object } else { Kind::Array };
            Some((Span::new(start, end - start), kind, end))
        }
        _ => {
            let bare = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
            let len = text[start..].iter().take_while(|b| bare(b)).count();
            (len > 0).then(|| (Span::new(start, len), Kind::Bare, start + len))
        }
    }
}

fn nested_end(text: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut depth) = (start, 0usize);
    loop {
        match text.get(at)? {
            b'"' => at = string(text, at)?.2 - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

fn blanks(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Vec<(String, String)>> {
        let mut out = Vec::new();
        let show = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let bytes = text.as_bytes();
        members(bytes, 0..bytes.len(), &mut out)
            .then(|| out.iter().map(|m| (show(m.key(bytes)), show(m.value(bytes)))).collect())
    }

    #[test]
    fn whole_objects_only() {
        let got = read(r#" {"a" : "x\"y", "b":{"c":["}"]} ,"d":-1.5e3,"e":[], "f":null} "#).unwrap();
        let want = [("a", r#"x\"y"#), ("b", r#"{"c":["}"]}"#), ("d", "-1.5e3"), ("e", "[]"), ("f", "null")];
        assert_eq!(got, want.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(read("{}"), Some(vec![]));
        for wrong in [
            "",
            "{",
            "[1]",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1"#,
            r#"{"a":1} x"#,
            r#"{"a":"b}"#,
            r#"{"a":1,}"#,
            "{a:1}",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(read(&format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000))).is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(text in "[{}\\[\\]\",:\\\\a-c0-1 u]{0,60}") {
            read(&text);
            read(&format!("{{\"{text}"));
        }
    }
}
