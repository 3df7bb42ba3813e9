//! Bodies of requests: compressed, then JSON or lines, then held against a schema.

use bytes::Bytes;
use logweir::batch::Framing;
use logweir::codec::compression::{Compression, Compressor, DecompressError};
use logweir::codec::decode::{BodyKind, DEPTH_MAX, Events, FieldType, Schema, decode};
use serde_json::Value;
use serde_json::value::RawValue;

/// `gzip`: see [`coding`].
pub fn gzip(data: &[u8]) {
    coding(Compression::Gzip, data);
}

/// `zstd`.
pub fn zstd(data: &[u8]) {
    coding(Compression::Zstd, data);
}

/// `deflate`, with or without a zlib header.
pub fn deflate(data: &[u8]) {
    coding(Compression::Deflate, data);
}

/// `snappy`, as a block or framed.
pub fn snappy(data: &[u8]) {
    coding(Compression::Snappy, data);
}

/// A body becomes no larger than the cap, and what is compressed comes back.
fn coding(coding: Compression, data: &[u8]) {
    let [cap, body @ ..] = data else { return };
    let cap = usize::from(*cap) * 16;
    if let Ok(plain) = coding.decompress(body, cap) {
        assert!(plain.len() <= cap);
        assert_eq!(coding.decompress(body, plain.len()).as_ref(), Ok(&plain));
        assert!(plain.is_empty() || coding.decompress(body, plain.len() - 1).is_err());
        assert_eq!(coding.decompress(&packed(coding, &plain), plain.len()), Ok(plain));
    }
    let packed = packed(coding, body);
    assert_eq!(coding.decompress(&packed, body.len()).as_deref(), Ok(body));
    if let Some(less) = body.len().checked_sub(1) {
        assert_eq!(coding.decompress(&packed, less), Err(DecompressError::TooLarge(less)));
    }
}

fn packed(coding: Compression, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut compressor = Compressor::new(coding, Some(1)).expect("memory");
    compressor.compress(plain, &mut out).expect("small");
    out
}

/// Rows as an arena wants them.
fn check_shape(events: &Events, body: &[u8]) {
    assert!(events.bytes() <= body.len(), "nothing grows");
    assert!(events.spans.windows(2).all(|w| w[0].end() <= w[1].start()));
    if events.framing == Framing::Lines {
        for (row, span) in events.iter().zip(&events.spans) {
            assert!(!row.contains(&b'\n'));
            assert!(span.end() == events.text.len() || events.text[span.end()] == b'\n');
        }
        assert!(events.spans.windows(2).all(|w| w[0].end() + 1 == w[1].start()), "neighbours");
    }
}

/// JSON without the space between its tokens.
fn compact(json: &str) -> String {
    let (mut out, mut within, mut escaped) = (String::new(), false, false);
    for c in json.chars() {
        if within {
            (within, escaped) = (escaped || c != '"', !escaped && c == '\\');
        } else if matches!(c, ' ' | '\t' | '\r' | '\n') {
            continue;
        } else {
            within = c == '"';
        }
        out.push(c);
    }
    out
}

/// What another parser finds in a JSON body: the rows, unless it is none.
fn expected(body: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(body).ok()?;
    let values: Vec<&RawValue> =
        serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().ok()?;
    let one = |value: &RawValue| match value.get().as_bytes()[0] {
        b'{' => Some(compact(value.get())),
        _ => None,
    };
    match values[..] {
        [array] if array.get().starts_with('[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(array.get()).ok()?;
            elements.into_iter().map(|e| one(e).or_else(|| serde_json::from_str(e.get()).ok())).collect()
        }
        _ => values.into_iter().map(one).collect(),
    }
}

/// A body of any kind: refused with a place within it, or rows that another parser finds, too.
pub fn bodies(data: &[u8]) {
    let [kind, body @ ..] = data else { return };
    let kinds = [BodyKind::Json, BodyKind::Ndjson, BodyKind::Lines, BodyKind::Unsaid];
    let kind = kinds[usize::from(*kind) % 4];
    let decoded = decode(kind, Bytes::copy_from_slice(body));
    let deep = body.iter().filter(|b| matches!(b, b'{' | b'[')).count() > DEPTH_MAX as usize;
    match &decoded {
        Ok(events) => check_shape(events, body),
        Err(mistake) => {
            assert!(mistake.line >= 1 && mistake.line <= body.len() + 1, "{mistake}");
            assert!(mistake.column >= 1 && mistake.column <= body.len() + 1, "{mistake}");
            assert!(mistake.to_string().len() < 1000, "{mistake}");
        }
    }
    let rows = |events: &Events| -> Vec<Vec<u8>> { events.iter().map(<[u8]>::to_vec).collect() };
    match kind {
        BodyKind::Lines => {
            let mut joined = rows(decoded.as_ref().expect("any bytes are lines")).join(&b'\n');
            if body.ends_with(b"\n") {
                joined.push(b'\n');
            }
            assert_eq!(joined, body);
        }
        BodyKind::Json if !deep => {
            let ours = decoded.as_ref().ok().map(|events| {
                let text = |row: Vec<u8>| String::from_utf8(row).expect("JSON is UTF-8");
                let shown = |text: String| if text.starts_with('{') { compact(&text) } else { text };
                rows(events).into_iter().map(text).map(shown).collect::<Vec<_>>()
            });
            let theirs = expected(body).map(|rows| {
                let shown = |text: String| if text.starts_with('{') { compact(&text) } else { text };
                rows.into_iter().map(shown).collect::<Vec<_>>()
            });
            // No row is no mistake of the other parser.
            if theirs.as_ref().is_none_or(|rows| !rows.is_empty()) {
                assert_eq!(ours, theirs, "{:?}", decoded.map_err(|e| e.to_string()).err());
            }
        }
        BodyKind::Ndjson if !deep => {
            for row in decoded.iter().flat_map(rows) {
                serde_json::from_slice::<&RawValue>(&row).expect("a row is JSON");
            }
        }
        _ => {}
    }
}

/// A schema agrees with another parser on what is there and of which type.
pub fn schema(data: &[u8]) {
    let [kind, body @ ..] = data else { return };
    let kinds = [
        FieldType::String,
        FieldType::Number,
        FieldType::Bool,
        FieldType::Object,
        FieldType::Array,
        FieldType::Timestamp,
    ];
    let kind = kinds[usize::from(*kind) % 6];
    let Ok(events) = decode(BodyKind::Ndjson, Bytes::copy_from_slice(body)) else { return };
    let required = Schema { required: vec!["a".to_owned()], types: Vec::new() };
    let typed = Schema { required: Vec::new(), types: vec![("a".to_owned(), kind)] };
    let (has, fits) = (required.check(&events, body), typed.check(&events, body));
    for mistake in [&has, &fits].into_iter().filter_map(|r| r.as_ref().err()) {
        assert!(mistake.line >= 1 && mistake.line <= body.len() + 1 && mistake.to_string().len() < 1000);
    }
    let (mut all_have, mut all_fit) = (true, true);
    for row in events.iter() {
        // Which of two equal names counts, and how a name may be written, is not the question here.
        if memchr_count(row, b"\"a\"") > 1 || row.contains(&b'\\') {
            return;
        }
        let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(row) else { return };
        let value = object.get("a").filter(|value| !value.is_null());
        all_have &= value.is_some();
        all_fit &= value.is_none_or(|value| match kind {
            FieldType::String => value.is_string(),
            FieldType::Number => value.is_number(),
            FieldType::Bool => value.is_boolean(),
            FieldType::Object => value.is_object(),
            FieldType::Array => value.is_array(),
            FieldType::Timestamp => {
                value.is_number() || value.as_str().is_some_and(|s| s.parse::<jiff::Timestamp>().is_ok())
            }
        });
    }
    assert_eq!((has.is_ok(), fits.is_ok()), (all_have, all_fit));
}

fn memchr_count(text: &[u8], what: &[u8]) -> usize {
    text.windows(what.len()).filter(|window| *window == what).count()
}
