//! What every body kind yields and refuses, by tables, and by properties against an independent JSON parser.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn rows(kind: BodyKind, body: impl AsRef<[u8]>) -> Result<Vec<String>, String> {
    let events = decode(kind, Bytes::copy_from_slice(body.as_ref())).map_err(|e| e.to_string())?;
    check_shape(&events);
    Ok(events.iter().map(|row| String::from_utf8_lossy(row).into_owned()).collect())
}

/// What an arena demands of its text.
fn check_shape(events: &Events) {
    assert!(events.spans.windows(2).all(|w| w[0].end() <= w[1].start()));
    if events.framing == Framing::Lines {
        for (row, span) in events.iter().zip(&events.spans) {
            assert!(!row.contains(&b'\n'));
            assert!(span.end() == events.text.len() || events.text[span.end()] == b'\n');
        }
        assert!(events.spans.windows(2).all(|w| w[0].end() + 1 == w[1].start()), "neighbours");
    }
}

fn why(kind: BodyKind, body: impl AsRef<[u8]>) -> String {
    rows(kind, body).expect_err("the body is refused")
}

#[test]
fn every_kind_yields_its_events() {
    use BodyKind::{Json, Lines, Ndjson, Unsaid};
    let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
    let table: &[(BodyKind, &str, &[&str])] = &[
        (Json, r#"{"a":1}"#, &[r#"{"a":1}"#]),
        (Json, " {\"a\":1}\r\n", &[r#"{"a":1}"#]),
        (Json, "{\n  \"a b\": [1, 2],\r\n\t\"c\": \" x \\\" y \"\n}", &[r#"{"a b":[1,2],"c":" x \" y "}"#]),
        (Json, "\u{feff}{}", &["{}"]),
        (Json, "[]", &[]),
        (Json, " [ ] \n", &[]),
        (
            Json,
            r#"[{"a":1}, {"b": 2},"plain \"line\" é \ud83d\ude00"]"#,
            &[r#"{"a":1}"#, r#"{"b":2}"#, "plain \"line\" é 😀"],
        ),
        (Json, r#"["two\nlines",{"a":1}]"#, &["two\nlines", r#"{"a":1}"#]),
        (Json, "{\"a\":1}\n{\"b\":2}\n", &[r#"{"a":1}"#, r#"{"b":2}"#]),
        (Json, r#"{"a":1}{"b":2}"#, &[r#"{"a":1}"#, r#"{"b":2}"#]),
        (Json, &deep, &[&deep]),
        (Ndjson, "{\"a\": 1}\n{\"b\":2}", &[r#"{"a": 1}"#, r#"{"b":2}"#]),
        (Ndjson, "\r\n{\"a\":1}\r\n\n \t{\"b\":2}  \n", &[r#"{"a":1}"#, r#"{"b":2}"#]),
        (Ndjson, "", &[]),
        (Ndjson, "\n\n", &[]),
        (Lines, "a\nb", &["a", "b"]),
        (Lines, "a\n\nb\r\n", &["a", "", "b\r"]),
        (Lines, "", &[]),
        (Lines, "\n", &[""]),
        (Lines, "{not json\n[nor this", &["{not json", "[nor this"]),
        (Unsaid, "hello world", &["hello world"]),
        (Unsaid, "  {\"a\": 1}", &[r#"{"a":1}"#]),
        (Unsaid, "[{}, {}]", &["{}", "{}"]),
        (Unsaid, "[2026-11-21] error\n[info] fine", &["[2026-11-21] error", "[info] fine"]),
        (Unsaid, "", &[]),
    ];
    for (kind, body, expected) in table {
        assert_eq!(rows(*kind, body).as_deref(), Ok(&expected.map_to_strings()[..]), "{kind:?} {body:?}");
    }
}

trait MapToStrings {
    fn map_to_strings(&self) -> Vec<String>;
}

impl MapToStrings for &[&str] {
    fn map_to_strings(&self) -> Vec<String> {
        self.iter().map(|s| (*s).to_owned()).collect()
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    use BodyKind::{Json, Ndjson, Unsaid};
    for (kind, body, expected) in [
        (Json, "", "line 1, column 1: expected a JSON object or an array of them, found the end"),
        (Json, "42", "line 1, column 1: expected a JSON object or an array of them, found `4`"),
        (Json, r#"{"a":}"#, "line 1, column 6: expected a value, found `}`"),
        (Json, "{\"a\":1,\n \"é\" 2}", "line 2, column 6: expected `:`, found `2`"),
        (Json, r#"{"a":1,}"#, "line 1, column 8: expected a key in double quotes, found `}`"),
        (Json, r#"{"a":[1,]}"#, "line 1, column 9: expected a value, found `]`"),
        (Json, r#"{"a":[1}"#, "line 1, column 8: expected `,` or `]`, found `}`"),
        (Json, r#"{"a":1"#, "line 1, column 7: expected `,` or `}`, found the end"),
        (Json, r#"{"a":"x"#, "line 1, column 8: expected the closing quote of a string, found the end"),
        (
            Json,
            r#"{"a":"\x"}"#,
            r#"line 1, column 8: expected an escape: one of " \ / b f n r t u, found `x`"#,
        ),
        (
            Json,
            r#"{"a":"\u12g4"}"#,
            r"line 1, column 11: expected four hexadecimal digits after `\u`, found `g`",
        ),
        (
            Json,
            "{\"a\":\"\u{1}\"}",
            "line 1, column 7: expected a character of a string, or an escape, found U+0001",
        ),
        (Json, r#"{"a":01}"#, "line 1, column 7: expected `,` or `}`, found `1`"),
        (Json, r#"{"a":1.}"#, "line 1, column 8: expected a digit, found `}`"),
        (Json, r#"{"a":NaN}"#, "line 1, column 6: expected a value, found `N`"),
        (Json, r#"{"a":nul}"#, "line 1, column 6: expected `null`, found `n`"),
        (Json, r#"{"a":1} x"#, "line 1, column 9: expected another JSON object, or the end, found `x`"),
        (
            Json,
            "[{},\n{},\n7]",
            "line 3, column 1, element 2 of the array (counted from 0): expected an object or a string, found `7`",
        ),
        (
            Json,
            "[{},",
            "line 1, column 5, element 1 of the array (counted from 0): expected an object or a string, found the end",
        ),
        (
            Json,
            "[{} {}]",
            "line 1, column 5, element 0 of the array (counted from 0): expected `,` or `]`, found `{`",
        ),
        (
            Json,
            "[{\"a\"}]",
            "line 1, column 6, element 0 of the array (counted from 0): expected `:`, found `}`",
        ),
        (Json, "[{}] {}", "line 1, column 6: expected the end after the array, found `{`"),
        (Ndjson, "{\"a\":1}\n{\"a\":\n1}", "line 2, column 6: expected a value, found the end"),
        (Ndjson, "{} {}", "line 1, column 4: expected the end of the line after the object, found `{`"),
        (Ndjson, "{}\nplain", "line 2, column 1: expected a JSON object on each line, found `p`"),
        (Unsaid, "{ 'a': 1 }", "line 1, column 3: expected a key in double quotes, found `'`"),
    ] {
        assert_eq!(why(kind, body), expected, "{body:?}");
    }
    let broken = [&b"{\"a\":1,\n\"b\":\""[..], b"\xff\"}"].concat();
    assert_eq!(why(BodyKind::Json, broken), "line 2, column 6: not UTF-8, which JSON is written in");
}

#[test]
fn nesting_is_bounded_however_deep_it_goes() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| format!("{{\"a\":{}1{}}}", open.repeat(depth), close.repeat(depth));
        assert!(rows(BodyKind::Json, nested(127)).is_ok());
        let said = why(BodyKind::Json, nested(128));
        assert!(said.ends_with("nested more than 128 deep"), "{said}");
        assert!(why(BodyKind::Ndjson, nested(1_000_000)).ends_with("nested more than 128 deep"));
        // Never closed.
        assert!(why(BodyKind::Json, format!("[{}", open.repeat(1_000_000))).contains("column"));
    }
}

#[test]
fn invalid_utf8_and_nul_pass_byte_for_byte_in_plain_lines() {
    let body = Bytes::from_static(b"caf\xe9 \x00 \xff\xfe\nnext\x80");
    for kind in [BodyKind::Lines, BodyKind::Unsaid] {
        let events = decode(kind, body.clone()).unwrap();
        let rows: Vec<&[u8]> = events.iter().collect();
        assert_eq!(rows, [&b"caf\xe9 \x00 \xff\xfe"[..], b"next\x80"]);
        assert_eq!(events.text.as_ptr(), body.as_ptr(), "not copied");
    }
}

#[test]
fn huge_numbers_and_odd_escapes_are_not_touched() {
    let object = format!(r#"{{"n":{}e+999,"m":-0.0,"s":"\ud800 \u0000\/"}}"#, "9".repeat(5000));
    assert_eq!(rows(BodyKind::Json, &object), Ok(vec![object]));
}

#[test]
fn an_object_that_needs_no_change_is_not_copied() {
    let body = Bytes::from_static(b"{\"a\":\"b c\"}\n");
    let events = decode(BodyKind::Json, body.clone()).unwrap();
    assert_eq!(events.text.as_ptr(), body.as_ptr());
    assert!(!events.spans.spilled());
}

#[test]
fn a_body_of_line_breaks_does_not_become_an_index_larger_than_allowed() {
    let said = why(BodyKind::Lines, vec![b'\n'; EVENTS_MAX + 1]);
    assert!(said.contains("more than 1000000 events"), "{said}");
    assert_eq!(rows(BodyKind::Lines, vec![b'\n'; EVENTS_MAX]).unwrap().len(), EVENTS_MAX);
    assert!(why(BodyKind::Json, format!("[{}{{}}]", "{},".repeat(EVENTS_MAX))).contains("more than"));
    assert!(why(BodyKind::Json, "{}".repeat(EVENTS_MAX + 1)).contains("more than"));
    assert!(why(BodyKind::Ndjson, "{}\n".repeat(EVENTS_MAX + 1)).contains("more than"));
}

#[test]
fn content_types_are_recognised() {
    for (value, kind) in [
        ("application/json", Some(BodyKind::Json)),
        ("Application/JSON; charset=utf-8", Some(BodyKind::Json)),
        ("application/cloudevents+json", Some(BodyKind::Json)),
        ("application/x-ndjson", Some(BodyKind::Ndjson)),
        ("text/plain;charset=iso-8859-1", Some(BodyKind::Lines)),
        ("application/x-www-form-urlencoded", Some(BodyKind::Unsaid)),
        ("", Some(BodyKind::Unsaid)),
        ("application/xml", None),
        ("multipart/form-data; boundary=x", None),
        ("json", None),
    ] {
        assert_eq!(BodyKind::from_content_type(value), kind, "{value}");
    }
    for name in BodyKind::TYPES {
        assert!(BodyKind::from_content_type(name).is_some());
    }
}

fn schema() -> Schema {
    let types = [("n", FieldType::Number), ("req.ok", FieldType::Bool), ("ts", FieldType::Timestamp)];
    Schema {
        required: vec!["msg".to_owned()],
        types: types.map(|(name, kind)| (name.to_owned(), kind)).to_vec(),
    }
}

#[test]
fn a_schema_names_the_first_event_that_does_not_fit() {
    for (kind, body, expected) in [
        (
            BodyKind::Json,
            r#"[{"msg":1},  {"m":1}]"#,
            "line 1, column 14, element 1 of the array (counted from 0): the required field `msg` is missing",
        ),
        (
            BodyKind::Ndjson,
            "{\"msg\":1}\n\n {\"msg\":null}",
            "line 3, column 2: the required field `msg` is missing",
        ),
        (
            BodyKind::Json,
            r#"{"msg":1,"n":"1"}"#,
            "line 1, column 1: the field `n` must be a number, it is \"1\"",
        ),
        (
            BodyKind::Json,
            "{\"msg\":1}\n{\"msg\":1,\"req\":{\"ok\":0}}",
            "line 2, column 1: the field `req.ok` must be true or false, it is 0",
        ),
        (
            BodyKind::Json,
            r#"{"msg":1,"ts":"yesterday"}"#,
            "line 1, column 1: the field `ts` must be a timestamp (RFC 3339 or a number), it is \"yesterday\"",
        ),
        (
            BodyKind::Lines,
            "msg=1",
            "line 1, column 1: expected a JSON object: the schema of this source asks for fields",
        ),
    ] {
        let body = Bytes::from(body);
        let events = decode(kind, body.clone()).unwrap();
        assert_eq!(schema().check(&events, &body).unwrap_err().to_string(), expected);
    }
    let fits = Bytes::from(
        r#"[{"msg":"","n":-1.5,"req":{"ok":true},"ts":"2026-11-21T06:00:00+01:00"},{"msg":[],"n":null,"ts":1}]"#,
    );
    assert_eq!(schema().check(&decode(BodyKind::Json, fits.clone()).unwrap(), &fits), Ok(()));
}

#[test]
fn every_type_of_a_schema_tells_its_values() {
    use FieldType::{Array, Bool, Number, Object, String, Timestamp};
    let values = [r#""x""#, "-1", "true", r#"{"b":1}"#, "[1]", r#""2026-11-21T06:00:00Z""#];
    for (kind, fits) in [
        (String, [true, false, false, false, false, true]),
        (Number, [false, true, false, false, false, false]),
        (Bool, [false, false, true, false, false, false]),
        (Object, [false, false, false, true, false, false]),
        (Array, [false, false, false, false, true, false]),
        (Timestamp, [false, true, false, false, false, true]),
    ] {
        let schema = Schema { required: Vec::new(), types: vec![("a".to_owned(), kind)] };
        for (value, fits) in values.iter().zip(fits) {
            let body = Bytes::from(format!("{{\"a\":{value}}}"));
            let events = decode(BodyKind::Json, body.clone()).unwrap();
            assert_eq!(schema.check(&events, &body).is_ok(), fits, "{kind:?} {value}");
        }
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((".{0,6}", inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Value> {
    proptest::collection::vec((".{0,6}", any_value()), 0..5)
        .prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
}

proptest! {
    #[test]
    fn what_another_writer_wrote_comes_back_compact(
        objects in proptest::collection::vec(any_object(), 1..5), crlf in any::<bool>(),
    ) {
        let compact: Vec<String> = objects.iter().map(Value::to_string).collect();
        let ends = |text: String| if crlf { text.replace('\n', "\r\n") } else { text };
        let pretty: Vec<String> = objects.iter().map(|o| ends(format!("{o:#}"))).collect();
        let expected = Ok(compact.clone());
        prop_assert_eq!(&rows(BodyKind::Json, pretty.join("\n")), &expected);
        prop_assert_eq!(&rows(BodyKind::Json, ends(format!("{:#}", Value::from(objects)))), &expected);
        prop_assert_eq!(&rows(BodyKind::Ndjson, ends(compact.join("\n"))), &expected);
        prop_assert_eq!(&rows(BodyKind::Lines, compact.join("\n")), &expected);
    }

    #[test]
    fn strings_of_an_array_come_back_as_they_were(lines in proptest::collection::vec("(?s).{0,20}", 0..8)) {
        let body = Value::from(lines.clone()).to_string();
        prop_assert_eq!(rows(BodyKind::Json, body), Ok(lines));
    }

    #[test]
    fn agrees_with_another_parser_on_what_is_json(
        object in any_object(), at in any::<prop::sample::Index>(), with in prop_oneof![
            Just(""), Just("\""), Just("\\"), Just(","), Just("{"), Just("}"), Just("["), Just("]"), Just(":"),
            Just("0"), Just("-"), Just("."), Just("e"), Just("n"), Just(" "), Just("\n"), Just("\u{1}"),
        ],
    ) {
        let mut text: Vec<char> = object.to_string().chars().collect();
        let at = at.index(text.len());
        text.splice(at..=at, with.chars());
        let text: String = text.into_iter().collect();
        let valid = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok() && text.trim_start().starts_with('{');
        // Several objects in a row are a body, too, and what is left of an object after a cut may be just that.
        let ours = rows(BodyKind::Json, &text);
        prop_assert_eq!(ours.as_ref().is_ok_and(|rows| rows.len() == 1), valid, "{} {:?}", text, ours);
    }

    #[test]
    fn nothing_panics_and_nothing_grows(body in proptest::collection::vec(prop_oneof![
        3 => prop::sample::select(&b"{}[]\",:\\u0123eE+-.truefalsn \n\r\t"[..]), 1 => any::<u8>(),
    ], 0..200)) {
        for kind in [BodyKind::Json, BodyKind::Ndjson, BodyKind::Lines, BodyKind::Unsaid] {
            if let Ok(events) = decode(kind, Bytes::from(body.clone())) {
                check_shape(&events);
                prop_assert!(events.bytes() <= body.len());
            }
        }
    }

    #[test]
    fn plain_lines_joined_again_are_the_body(body in proptest::collection::vec(prop_oneof![1 => Just(b'\n'), 3 => any::<u8>()], 0..200)) {
        let events = decode(BodyKind::Lines, Bytes::from(body.clone())).unwrap();
        let mut joined = events.iter().collect::<Vec<_>>().join(&b'\n');
        if body.ends_with(b"\n") {
            joined.push(b'\n');
        }
        prop_assert_eq!(joined, body);
    }
}
