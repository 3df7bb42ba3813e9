//! Walks the members of a JSON object without parsing it: strings are skipped with `memchr`, nested values by
//! counting brackets. Made for finding one key; malformed or truncated text just ends the walk.

use memchr::memchr2;

/// Bytes of an object that are looked at; a key that stands later is not found.
const OBJECT_MAX: usize = 64 * 1024;

/// A member's value, still raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A string, without its quotes; escapes are left as they are.
    Text(&'a [u8]),
    /// A number or a literal.
    Bare(&'a [u8]),
    /// An object or an array, with its brackets.
    Nested(&'a [u8]),
}

/// The members of one object, outermost level only, in order.
#[derive(Debug)]
pub(super) struct Members<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    /// Starts at the `{` that `text` begins with; `None` when no key follows it.
    pub(super) fn open(text: &'a [u8]) -> Option<Members<'a>> {
        let text = &text[..text.len().min(OBJECT_MAX)];
        let at = blanks(text, 1);
        (text.first() == Some(&b'{') && text.get(at) == Some(&b'"')).then_some(Members { text, at })
    }

    fn string(&self, open: usize) -> Option<(&'a [u8], usize)> {
        if self.text.get(open) != Some(&b'"') {
            return None;
        }
        let close = string_end(self.text, open + 1)?;
        Some((&self.text[open + 1..close], close + 1))
    }

    fn member(&mut self) -> Option<(&'a [u8], Value<'a>)> {
        let (key, after) = self.string(self.at)?;
        let colon = blanks(self.text, after);
        if self.text.get(colon) != Some(&b':') {
            return None;
        }
        let start = blanks(self.text, colon + 1);
        let (value, end) = match self.text.get(start)? {
            b'"' => self.string(start).map(|(text, end)| (Value::Text(text), end))?,
            b'{' | b'[' => {
                let end = nested_end(self.text, start)?;
                (Value::Nested(&self.text[start..end]), end)
            }
            _ => {
                let bare = self.text[start..].iter().position(|b| matches!(b, b',' | b'}' | b' ' | b'\t'))?;
                (Value::Bare(&self.text[start..start + bare]), start + bare)
            }
        };
        let comma = blanks(self.text, end);
        // Past the last member the position is no quote, which ends the walk at the next step.
        self.at =
            if self.text.get(comma) == Some(&b',') { blanks(self.text, comma + 1) } else { self.text.len() };
        Some((key, value))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let member = self.member();
        if member.is_none() {
            self.at = self.text.len();
        }
        member
    }
}

#[inline]
fn blanks(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    at
}

/// Where the string that starts at `at` (after its quote) is closed.
fn string_end(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// The first byte after the nested value that opens at `at`.
fn nested_end(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match text.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b'"' => at = string_end(text, at + 1)?,
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walk(text: &str) -> Vec<(String, String)> {
        let Some(members) = Members::open(text.as_bytes()) else { return Vec::new() };
        let show = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        members
            .map(|(key, value)| match value {
                Value::Text(t) | Value::Bare(t) | Value::Nested(t) => (show(key), show(t)),
            })
            .collect()
    }

    #[test]
    fn members_in_order() {
        let got = walk(r#"{ "a" : "x\"y\\", "b":{"c":["}",{}]} ,"d":12,"e":true, "f": [] }"#);
        let want = [("a", r#"x\"y\\"#), ("b", r#"{"c":["}",{}]}"#), ("d", "12"), ("e", "true"), ("f", "[]")];
        assert_eq!(got, want.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn broken_text_ends_the_walk() {
        for (text, members) in [
            ("", 0),
            ("{", 0),
            ("{}", 0),
            ("[1]", 0),
            (r#"{"a""#, 0),
            (r#"{"a":"#, 0),
            (r#"{"a":"x"#, 0),
            (r#"{"a":1"#, 0),
            (r#"{"a":1,"b":"\"#, 1),
            (r#"{"a":1,"b":[{"c":2}"#, 1),
            (r#"{"a":1 "b":2}"#, 1),
        ] {
            assert_eq!(walk(text).len(), members, "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde(keys in prop::collection::vec(("\\PC{0,8}", "\\PC{0,12}", any::<i32>()), 1..6)) {
            let mut object = serde_json::Map::new();
            for (key, text, number) in keys {
                object.insert(key, serde_json::json!({ "t": [text, {}], "n": number }));
            }
            let text = serde_json::Value::Object(object.clone()).to_string();
            let got: Vec<_> = Members::open(text.as_bytes()).into_iter().flatten().collect();
            prop_assert_eq!(got.len(), object.len());
            for ((key, value), (name, theirs)) in got.into_iter().zip(&object) {
                prop_assert_eq!([b"\"", key, b"\""].concat(), serde_json::to_vec(name).unwrap());
                let Value::Nested(raw) = value else { panic!("not nested") };
                prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(raw).unwrap(), theirs.clone());
            }
        }
    }
}
