//! Fields of a line, found where they stand: a key of a JSON object or of logfmt pairs, looked up without parsing
//! the rest of the line. Works on any bytes; garbage has no fields.

use std::borrow::Cow;
use std::ops::Range;

use crate::batch::Batch;

/// Deepest object that a name can go into.
const DEPTH_MAX: usize = 32;

/// Which part of a row is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// The raw line.
    Line,
    /// The severity's name.
    Level,
    /// Where the row came from.
    Source,
    /// The event's time, RFC 3339.
    Timestamp,
    /// A JSON key (dots go into objects) or a logfmt key.
    Named(String),
}

impl Field {
    /// The field of that name; `message` is the raw line too.
    pub fn parse(name: &str) -> Field {
        match name {
            "" | "message" => Field::Line,
            "level" => Field::Level,
            "source" => Field::Source,
            "timestamp" => Field::Timestamp,
            name => Field::Named(name.to_owned()),
        }
    }

    /// Its value in a row, if the row has it.
    pub fn of<'a>(&self, batch: &'a Batch, row: u32) -> Option<Cow<'a, [u8]>> {
        match self {
            Field::Line => Some(Cow::Borrowed(batch.line(row))),
            Field::Level => batch.level(row).map(|level| Cow::Borrowed(level.as_str().as_bytes())),
            Field::Source => Some(Cow::Borrowed(batch.arena().origin().label().as_bytes())),
            Field::Timestamp => {
                let mut text = Vec::with_capacity(32);
                batch.timestamp(row).write_rfc3339(&mut text);
                Some(Cow::Owned(text))
            }
            Field::Named(name) => lookup(batch.line(row), name),
        }
    }
}

/// The value of `name` in a line that is a JSON object, holds logfmt pairs, or ends in a JSON object. Strings come
/// without quotes and escapes, other values as they are written; of a key that occurs twice, the first counts.
pub fn lookup<'a>(line: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    let name = name.as_bytes();
    let text = line.trim_ascii_start();
    if text.first() == Some(&b'{') {
        return in_object(text, name).map(value);
    }
    in_pairs(line, name).or_else(|| {
        let object = memchr::memmem::find(line, b"{\"")?;
        in_object(&line[object..], name).map(value)
    })
}

/// The value of `name` in a line that is a JSON object, as it is written there: with its quotes, escapes and white
/// space.
pub fn lookup_json<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let text = line.trim_ascii_start();
    if text.first() == Some(&b'{') { in_object(text, name.as_bytes()) } else { None }
}

/// `name` in the object that `text` starts with: as a key of its own, or with its first parts as keys of objects.
fn in_object<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (mut text, mut name) = (text, name);
    for _ in 0..DEPTH_MAX {
        let mut at = 1;
        let mut inside = None;
        loop {
            at = skip_space(text, at);
            match text.get(at)? {
                b',' => at += 1,
                b'"' => {
                    let key_end = string_end(text, at)?;
                    let key = unescaped(&text[at + 1..key_end - 1]);
                    at = skip_space(text, key_end);
                    if text.get(at) != Some(&b':') {
                        return None;
                    }
                    let start = skip_space(text, at + 1);
                    if *key == *name {
                        let end = value_end(text, start)?;
                        return Some(&text[start..end]);
                    }
                    let rest = name.strip_prefix(&*key).and_then(|rest| rest.strip_prefix(b"."));
                    if let Some(rest) = rest
                        && inside.is_none()
                        && text.get(start) == Some(&b'{')
                    {
                        inside = Some((start, rest));
                    }
                    at = value_end(text, start)?;
                }
                _ => break,
            }
        }
        let (start, rest) = inside?;
        (text, name) = (&text[start..], rest);
    }
    None
}

pub(super) fn skip_space(text: &[u8], from: usize) -> usize {
    from + text.get(from..).map_or(0, |t| t.iter().take_while(|b| b.is_ascii_whitespace()).count())
}

/// One past the closing quote of the string that opens at `open`.
pub(super) fn string_end(text: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// One past the value that starts at `start`; brackets are only counted, so no depth can hurt.
pub(super) fn value_end(text: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut depth) = (start, 0usize);
    loop {
        match text.get(at)? {
            b'"' => at = string_end(text, at)?,
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' => (at, depth) = (at + 1, depth.checked_sub(1)?),
            _ if depth > 0 => at += 1,
            _ => {
                let rest = &text[at..];
                let ends = |b: &u8| matches!(b, b',' | b'}' | b']' | b'"' | b':') || b.is_ascii_whitespace();
                let len = rest.iter().position(ends).unwrap_or(rest.len());
                return (len > 0).then_some(at + len);
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

fn value(text: &[u8]) -> Cow<'_, [u8]> {
    match text {
        [b'"', inner @ .., b'"'] => unescaped(inner),
        other => Cow::Borrowed(other),
    }
}

/// The inside of a JSON string (RFC 8259, section 7). Unknown escapes stay as they are, lone surrogates become
/// U+FFFD.
pub fn unescaped(inner: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    unescape_into(inner, &mut out);
    Cow::Owned(out)
}

/// Appends what [`unescaped`] gives.
pub fn unescape_into(inner: &[u8], out: &mut Vec<u8>) {
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let Some(&escape) = rest.get(at + 1) else {
            rest = &rest[at..];
            break;
        };
        rest = &rest[at + 2..];
        match escape {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'"' | b'\\' | b'/' => out.push(escape),
            b'u' => {
                let (character, taken) = unicode_escape(rest);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[taken..];
            }
            other => out.extend_from_slice(&[b'\\', other]),
        }
    }
    out.extend_from_slice(rest);
}

/// The character whose four digits follow (and its second half, if it is a surrogate pair), and the bytes taken.
fn unicode_escape(rest: &[u8]) -> (char, usize) {
    let unit = |at: usize| -> Option<u32> {
        let digits = std::str::from_utf8(rest.get(at..at + 4)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(high) = unit(0) else { return (char::REPLACEMENT_CHARACTER, 0) };
    if let Some(character) = char::from_u32(high) {
        return (character, 4);
    }
    let low = if rest.get(4..6) == Some(b"\\u") { unit(6) } else { None };
    match low {
        Some(low @ 0xdc00..=0xdfff) if high < 0xdc00 => {
            let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 10)
        }
        _ => (char::REPLACEMENT_CHARACTER, 4),
    }
}

/// `name` among `key=value` and `key="quoted value"` pairs, which any other text may surround.
fn in_pairs<'a>(line: &'a [u8], name: &[u8]) -> Option<Cow<'a, [u8]>> {
    // Nearly every line that lacks the key is done here.
    memchr::memmem::find(line, name)?;
    let mut at = 0;
    while let Some(pair) = pair_at(line, at) {
        if line[pair.key] == *name {
            return Some(value(&line[pair.value]));
        }
        at = pair.next;
    }
    None
}

/// Where the parts of a `key=value` pair stand; a quoted value with its quotes.
pub(super) struct Pair {
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
    /// Where the next pair may start.
    pub(super) next: usize,
}

/// The first pair at or behind `from`.
pub(super) fn pair_at(line: &[u8], from: usize) -> Option<Pair> {
    let equals = memchr::memchr(b'=', line.get(from..)?).map(|i| from + i)?;
    let key_start =
        line[from..equals].iter().rposition(|b| is_pair_edge(*b)).map_or(from, |edge| from + edge + 1);
    let start = equals + 1;
    let (end, next) = pair_value_end(line, start);
    Some(Pair { key: key_start..equals, value: start..end, next })
}

/// Where the value that starts at `start` ends, and where the next pair may start.
pub(super) fn pair_value_end(line: &[u8], start: usize) -> (usize, usize) {
    if line.get(start) != Some(&b'"') {
        let end = word_end(line, start);
        return (end, end);
    }
    match string_end(line, start) {
        Some(end) => (end, end),
        // An open quote: what follows is ordinary text.
        None => (word_end(line, start), start + 1),
    }
}

fn is_pair_edge(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b';' | b'(' | b'[' | b'{' | b'|')
}

fn word_end(line: &[u8], from: usize) -> usize {
    let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b',' | b';' | b')' | b']' | b'}' | b'|');
    line[from..].iter().position(ends).map_or(line.len(), |len| from + len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_values_where_they_stand() {
        let cases: &[(&str, &str, Option<&str>)] = &[
            (r#"{"a":1,"b":"x"}"#, "b", Some("x")),
            (r#"  {"a" : {"b" : {"c":"deep"}}, "z":true}"#, "a.b.c", Some("deep")),
            (r#"{"a.b":"dotted","a":{"b":"nested"}}"#, "a.b", Some("dotted")),
            (r#"{"a":{"b":[1,{"x":2}]},"c":null}"#, "a.b", Some(r#"[1,{"x":2}]"#)),
            (r#"{"a":{"b":1},"c":null}"#, "c", Some("null")),
            (r#"{"a":"say \"hi\"\n\u00e9\ud83d\ude00"}"#, "a", Some("say \"hi\"\né😀")),
            (r#"{"msg":"a=5 b=6","b":7}"#, "b", Some("7")),
            (r#"{"a":1"#, "b", None),
            (r#"{"a":"unclosed"#, "a", None),
            (r#"{"a":"}","b":2}"#, "b", Some("2")),
            ("ts=1 level=warn msg=\"a b=3 c\" b=4", "b", Some("4")),
            ("ts=1 level=warn msg=\"a \\\"b\\\" c\"", "msg", Some("a \"b\" c")),
            ("2026-01-01 INFO done id=17 took=3ms", "took", Some("3ms")),
            ("INFO done (id=17, took=3ms)", "id", Some("17")),
            ("did=1 id=2", "id", Some("2")),
            ("id= x", "id", Some("")),
            ("req.path=/x", "req.path", Some("/x")),
            (r#"<14>1 host app: {"user":{"id":"u1"}}"#, "user.id", Some("u1")),
            ("plain words", "words", None),
            ("", "a", None),
        ];
        for (line, name, expected) in cases {
            let found = lookup(line.as_bytes(), name);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{name} in {line}");
        }
    }

    #[test]
    fn nesting_of_any_depth_is_survived() {
        let deep = format!("{{\"a\":{}1{},\"b\":2}}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(lookup(deep.as_bytes(), "b").as_deref(), Some(&b"2"[..]));
        let (open, path) = ("{\"a\":".repeat(100_000), vec!["a"; 100_000].join("."));
        assert_eq!(lookup(open.as_bytes(), &path), None);
    }

    proptest! {
        #[test]
        fn garbage_has_no_fields_and_does_no_harm(
            line in proptest::collection::vec(prop_oneof![
                4 => proptest::sample::select(&b"{}[]\":,=\\ua.d8 \n"[..]), 1 => any::<u8>()], 0..120),
            name in "[a.]{0,6}",
        ) {
            lookup(&line, &name);
            let mut object = b"{\"".to_vec();
            object.extend_from_slice(&line);
            lookup(&object, &name);
        }

        #[test]
        fn agrees_with_serde(
            keys in proptest::collection::vec("[a-c]{1,2}", 1..5),
            texts in proptest::collection::vec(any::<String>(), 5),
            nested in any::<bool>(),
        ) {
            let mut object = serde_json::Map::new();
            for (key, text) in keys.iter().zip(&texts) {
                object.insert(key.clone(), text.clone().into());
            }
            let first = keys[0].clone();
            let expected = object[&first].as_str().unwrap_or_default().to_owned();
            let (whole, name) = if nested {
                (serde_json::json!({ "x": 1, "in": object }), format!("in.{first}"))
            } else {
                (serde_json::Value::Object(object), first)
            };
            let line = whole.to_string();
            let found = lookup(line.as_bytes(), &name);
            prop_assert_eq!(found.as_deref(), Some(expected.as_bytes()));
        }
    }

    proptest::proptest! {
        #[test]
        fn escapes_of_any_bytes_are_survived(text in "[{}\\[\\]\",:\\\\a-c0-1 u]{0,60}") {
            unescape_into(text.as_bytes(), &mut Vec::new());
        }

        #[test]
        fn strings_read_as_serde_reads_them(text in proptest::prelude::any::<String>()) {
            let written = serde_json::to_string(&text).unwrap();
            let inner = &written.as_bytes()[1..written.len() - 1];
            proptest::prop_assert_eq!(unescaped(inner), text.as_bytes());
        }
    }
}
