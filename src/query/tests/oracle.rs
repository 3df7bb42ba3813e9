//! A second reading of the rules, as plain as it can be: lines are split into characters and words, JSON goes through
//! serde, every row is looked at alone, and nothing is compiled or searched for. What streams must agree with it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use regex_automata::meta::Regex;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::batch::{Batch, BatchBuilder, Level, Origin, Receipt, Timestamp, detect};
use crate::query::Query;
use crate::query::ast::{Expr, Leaf, Op, Operand, Test};
use crate::query::time::Moment;

const NOW: i64 = 1_795_262_400_000_000_000;

/// A row as the oracle sees it.
struct Line<'a> {
    text: &'a [u8],
    level: Option<Level>,
    time: i64,
}

fn holds(expr: &Expr, line: &Line<'_>) -> bool {
    match expr {
        Expr::All => true,
        Expr::Not(inner) => !holds(inner, line),
        Expr::And(parts) => parts.iter().all(|part| holds(part, line)),
        Expr::Or(parts) => parts.iter().any(|part| holds(part, line)),
        Expr::Leaf(leaf) => leaf_holds(leaf, line),
    }
}

fn leaf_holds(leaf: &Leaf, line: &Line<'_>) -> bool {
    match leaf.field.as_deref() {
        None => has(&leaf.test, line.text),
        Some("level") => line.level.is_some_and(|level| level_holds(&leaf.test, level)),
        Some("timestamp") => time_holds(&leaf.test, line.time),
        Some("source") => value_holds(&leaf.test, b"/var/log/app.log", false),
        Some("pipeline") => value_holds(&leaf.test, b"app", false),
        Some("message") => match values(line.text, "message") {
            found if found.is_empty() => value_holds(&leaf.test, line.text, false),
            found => found.iter().any(|(text, null)| value_holds(&leaf.test, text, *null)),
        },
        Some(name) => {
            let name = name.strip_prefix('.').unwrap_or(name);
            values(line.text, name).iter().any(|(text, null)| value_holds(&leaf.test, text, *null))
        }
    }
}

fn level_holds(test: &Test, level: Level) -> bool {
    let of = |operand: &Operand| {
        let text = operand.text.as_bytes();
        Level::parse(text).or_else(|| Level::from_number(text)).unwrap()
    };
    match test {
        Test::Present => true,
        Test::Compare(op, bound) => compare(*op, level.cmp(&of(bound))),
        Test::Between { low, low_included, high, high_included } => {
            low.as_ref().is_none_or(|b| level > of(b) || *low_included && level == of(b))
                && high.as_ref().is_none_or(|b| level < of(b) || *high_included && level == of(b))
        }
        Test::Text(operand) if !operand.text.contains(['*', '?']) => level == of(operand),
        Test::Phrase(operand) => level == of(operand),
        test => has(test, level.as_str().as_bytes()),
    }
}

fn compare(op: Op, order: std::cmp::Ordering) -> bool {
    match op {
        Op::Less => order.is_lt(),
        Op::AtMost => order.is_le(),
        Op::Greater => order.is_gt(),
        Op::AtLeast => order.is_ge(),
    }
}

fn time_holds(test: &Test, at: i64) -> bool {
    let of = |operand: &Operand| Moment::parse(&operand.text, true).unwrap().resolve(Timestamp(NOW));
    match test {
        Test::Present => true,
        Test::Text(operand) | Test::Phrase(operand) => (of(operand).0..of(operand).1).contains(&at),
        Test::Compare(Op::Less, bound) => at < of(bound).0,
        Test::Compare(Op::AtMost, bound) => at < of(bound).1,
        Test::Compare(Op::Greater, bound) => at >= of(bound).1,
        Test::Compare(Op::AtLeast, bound) => at >= of(bound).0,
        Test::Between { low, low_included, high, high_included } => {
            low.as_ref().is_none_or(|b| at >= if *low_included { of(b).0 } else { of(b).1 })
                && high.as_ref().is_none_or(|b| at < if *high_included { of(b).1 } else { of(b).0 })
        }
        Test::Regex { .. } => unreachable!("refused"),
    }
}

fn number(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    let digits = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && !text.contains(|c: char| c.is_ascii_alphabetic() && !"eE".contains(c));
    if digits { text.parse().ok() } else { None }
}

fn value_holds(test: &Test, text: &[u8], null: bool) -> bool {
    let text_number = number(text);
    let between = |low: Option<(&Operand, bool)>, high: Option<(&Operand, bool)>| {
        let Some(n) = text_number else { return false };
        let bound = |operand: &Operand| number(operand.text.as_bytes()).unwrap();
        low.is_none_or(|(b, included)| n > bound(b) || included && n == bound(b))
            && high.is_none_or(|(b, included)| n < bound(b) || included && n == bound(b))
    };
    match test {
        Test::Present | Test::Between { low: None, high: None, .. } => !null,
        Test::Compare(Op::Less, b) => between(None, Some((b, false))),
        Test::Compare(Op::AtMost, b) => between(None, Some((b, true))),
        Test::Compare(Op::Greater, b) => between(Some((b, false)), None),
        Test::Compare(Op::AtLeast, b) => between(Some((b, true)), None),
        Test::Between { low, low_included, high, high_included } => {
            between(low.as_ref().map(|b| (b, *low_included)), high.as_ref().map(|b| (b, *high_included)))
        }
        Test::Text(operand) | Test::Phrase(operand) => match (number(operand.text.as_bytes()), text_number) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => has(test, text),
        },
        Test::Regex { .. } => has(test, text),
    }
}

/// Characters with invalid UTF-8 as `None`.
fn characters(text: &[u8]) -> Vec<Option<char>> {
    let chunks = text.utf8_chunks();
    chunks
        .flat_map(|chunk| {
            let invalid = (!chunk.invalid().is_empty()).then_some(None);
            chunk.valid().chars().map(Some).chain(invalid).collect::<Vec<_>>()
        })
        .collect()
}

fn is_word(c: char) -> bool {
    static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\w$").unwrap());
    WORD.is_match(c.encode_utf8(&mut [0; 4]).as_bytes())
}

/// The scripts of the tests that are written without spaces.
fn alone(c: char) -> bool {
    ('\u{3040}'..='\u{9fff}').contains(&c)
}

fn words(text: &[Option<char>]) -> Vec<Vec<char>> {
    let (mut words, mut word) = (Vec::new(), Vec::new());
    for c in text.iter().copied().chain([None]) {
        match c {
            Some(c) if is_word(c) && !alone(c) => word.push(c),
            other => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
                words.extend(other.filter(|c| is_word(*c)).map(|c| vec![c]));
            }
        }
    }
    words
}

fn fold(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    // Enough for the letters of these tests, sigma's two forms included.
    let upper: Vec<char> = c.to_uppercase().collect();
    let lower: Vec<char> = if upper.len() == 1 { upper[0].to_lowercase().collect() } else { vec![c] };
    if lower.len() == 1 && !lower[0].is_ascii() { lower[0] } else { c }
}

fn glob(pattern: &[char], word: &[char]) -> bool {
    match pattern.split_first() {
        None => word.is_empty(),
        Some(('*', rest)) => (0..=word.len()).any(|n| glob(rest, &word[n..])),
        Some(('?', rest)) => !word.is_empty() && glob(rest, &word[1..]),
        Some((c, rest)) => word.first().is_some_and(|w| fold(*w) == fold(*c)) && glob(rest, &word[1..]),
    }
}

fn has(test: &Test, text: &[u8]) -> bool {
    match test {
        Test::Regex { pattern, ignore_case, .. } => {
            let flags = if *ignore_case { "(?im)" } else { "(?m)" };
            Regex::new(&format!("{flags}{pattern}")).unwrap().is_match(text)
        }
        Test::Text(operand) => {
            // The queries of these tests have no escapes; wildcards belong to words.
            let mut wanted: Vec<Vec<char>> = vec![Vec::new()];
            for c in operand.text.chars() {
                match c {
                    '*' | '?' => wanted.last_mut().unwrap().push(c),
                    c if is_word(c) && !alone(c) => wanted.last_mut().unwrap().push(c),
                    c if is_word(c) => wanted.extend([vec![c], vec![]]),
                    _ => wanted.push(vec![]),
                }
            }
            wanted.retain(|word| !word.is_empty());
            consecutive(&wanted, text)
        }
        Test::Phrase(operand) => {
            let wanted = words(&operand.text.chars().map(Some).collect::<Vec<_>>());
            if wanted.is_empty() {
                return memchr::memmem::find(text, operand.text.as_bytes()).is_some();
            }
            consecutive(&wanted, text)
        }
        _ => unreachable!("not on the line"),
    }
}

fn consecutive(wanted: &[Vec<char>], text: &[u8]) -> bool {
    let words = words(&characters(text));
    words.windows(wanted.len()).any(|window| window.iter().zip(wanted).all(|(word, want)| glob(want, word)))
}

/// The values of a field, and whether each is null. The lines of these tests are whole JSON objects or logfmt.
fn values(line: &[u8], name: &str) -> Vec<(Vec<u8>, bool)> {
    let mut found = Vec::new();
    if line.trim_ascii_start().first() == Some(&b'{') {
        let json: &RawValue = serde_json::from_slice(line.trim_ascii()).unwrap();
        under(json, name, &mut found);
        return found;
    }
    for pair in String::from_utf8_lossy(line).split(' ') {
        if let Some((key, value)) = pair.split_once('=')
            && key == name
        {
            found.push((value.as_bytes().to_vec(), value == "null"));
        }
    }
    found
}

fn under(json: &RawValue, name: &str, found: &mut Vec<(Vec<u8>, bool)>) {
    let text = json.get();
    if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) {
        items.iter().for_each(|item| under(item, name, found));
    } else if let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
        for (key, value) in members {
            if key == name {
                leaves(value, found);
            } else if let Some(rest) = name.strip_prefix(&key).and_then(|rest| rest.strip_prefix('.')) {
                under(value, rest, found);
            }
        }
    }
}

fn leaves(json: &RawValue, found: &mut Vec<(Vec<u8>, bool)>) {
    let text = json.get();
    if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) {
        items.iter().for_each(|item| leaves(item, found));
    } else {
        let value = serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned());
        found.push((value.into_bytes(), text == "null"));
    }
}

fn word() -> impl Strategy<Value = String> {
    proptest::sample::select(vec![
        "a", "B", "ab", "a_b", "Error", "time", "timeout", "5", "50", "4.5", "É", "Σας", "ΣΑΣ", "错误", "k",
        "ſ", "x1",
    ])
    .prop_map(str::to_owned)
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        4 => (word(), word()).prop_map(|(a, b)| Json::from(format!("{a} {b}"))),
        2 => word().prop_map(Json::from),
        2 => (0i64..60).prop_map(Json::from),
        1 => Just(Json::from(4.5)),
        1 => Just(Json::from("a\n\"\\b\u{1}é")),
        1 => Just(Json::Null),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            proptest::collection::vec((key(), inner), 0..3)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["a", "b", "a.b", "message", "é", "q\"k", "aa"]).prop_map(str::to_owned)
}

/// A JSON object as strange writers write it: spaces, letters of keys and values escaped.
fn odd(object: &Json, spaces: bool, escapes: bool) -> String {
    let text = object.to_string();
    let text = if escapes { text.replace('b', "\\u0062").replace('é', "\\u00e9") } else { text };
    if spaces { text.replacen(':', " : ", 3).replacen('{', " { ", 1) } else { text }
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let text = proptest::collection::vec(
        prop_oneof![
            6 => word().prop_map(String::into_bytes),
            4 => proptest::sample::select(vec![" ", "  ", "-", ".", "=>", ","]).prop_map(|s| s.as_bytes().to_vec()),
            1 => Just(vec![0xff]),
            1 => Just(b"\xe9\x94".to_vec()),
        ],
        0..12,
    )
    .prop_map(|parts| parts.concat());
    let object = (proptest::collection::vec((key(), json()), 0..5), any::<bool>(), any::<bool>()).prop_map(
        |(members, spaces, escapes)| {
            odd(&Json::Object(members.into_iter().collect()), spaces, escapes).into_bytes()
        },
    );
    let logfmt =
        proptest::collection::vec((proptest::sample::select(vec!["a", "b", "a.b", "é", "aa"]), word()), 1..5)
            .prop_map(|pairs| {
                let pairs: Vec<String> = pairs.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
                pairs.join(" ").into_bytes()
            });
    let dated = (0i64..40, proptest::sample::select(vec!["ERROR", "WARN", "INFO", "nothing"])).prop_map(
        |(m, level)| {
            let mut line = Vec::new();
            Timestamp(NOW - m * 60_000_000_000).write_rfc3339(&mut line);
            line.extend_from_slice(format!(" {level} x").as_bytes());
            line
        },
    );
    prop_oneof![4 => text, 4 => object, 3 => logfmt, 1 => dated]
}

fn query() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        5 => word(),
        1 => (word(), word()).prop_map(|(a, b)| format!("{a}-{b}")),
        2 => (word(), word()).prop_map(|(a, b)| format!("\"{a} {b}\"")),
        2 => proptest::sample::select(vec!["ti*", "*out", "t?me", "*a*", "É*", "Σα?", "*", "a-*", "错*", "\"=>\"", "\"-\""]).prop_map(str::to_owned),
        1 => proptest::sample::select(vec!["/a b/", "/^a/", "/time(out)?$/i", "/[0-9]+/", "/\\bab\\b/"]).prop_map(str::to_owned),
    ];
    let compared = proptest::sample::select(vec![
        ">=5",
        "<5",
        ">4",
        "<=50",
        "[5 TO 50]",
        "{5 TO 50}",
        "[* TO 5]",
        "[5 TO *}",
        "*",
        "5",
        "50",
        "4.5",
    ])
    .prop_map(str::to_owned);
    let field = proptest::sample::select(vec![
        "a",
        "b",
        "a.b",
        "a.b.a",
        "é",
        "\"q\\\"k\"",
        "aa",
        "message",
        "source",
        "pipeline",
        ".message",
    ]);
    let leaf = prop_oneof![
        5 => text.clone(),
        4 => (field.clone(), text.clone().prop_filter("a bare star is presence", |t| t != "*")).prop_map(|(f, t)| format!("{f}:{t}")),
        4 => (field, compared).prop_map(|(f, t)| format!("{f}:{t}")),
        1 => proptest::sample::select(vec!["level:error", "level:>=warn", "level:*", "level:[info TO warn]", "level:w*"]).prop_map(str::to_owned),
        1 => proptest::sample::select(vec!["timestamp:>now-15m", "timestamp:<=now-20m", "timestamp:2026-11-21", "timestamp:{2026-11-21T11:50 TO now]"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" "))),
            proptest::collection::vec(inner.clone(), 2..4)
                .prop_map(|parts| format!("({})", parts.join(" OR "))),
            inner.clone().prop_map(|part| format!("NOT {part}")),
            inner.prop_map(|part| format!("-{part}")),
        ]
    })
}

fn batch(lines: &[Vec<u8>], keep: &[bool]) -> Batch {
    let origin = Arc::new(Origin::new("app.source.0.file", "/var/log/app.log"));
    let mut builder = BatchBuilder::new(origin);
    builder.received(Timestamp(NOW));
    lines.iter().for_each(|line| builder.push(line));
    let mut batch = builder.finish(Receipt::none());
    batch.retain(|_, row| keep[row as usize]);
    batch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn streaming_is_what_the_rules_say(
        query in query(),
        lines in proptest::collection::vec(line(), 1..40),
        keep in proptest::collection::vec(proptest::bool::weighted(0.8), 40),
    ) {
        // A double negation of a dash is refused on purpose.
        prop_assume!(!query.contains("--"));
        let parsed = Query::parse(&query).unwrap_or_else(|e| panic!("{e}"));
        let mut batch = batch(&lines, &keep);
        let expected: Vec<u32> = batch
            .lines()
            .filter(|(_, text)| {
                let time = detect::detect_timestamp(text, Timestamp(NOW)).map_or(NOW, |t| t.0);
                holds(&parsed.0.expr, &Line { text, level: detect::detect_level(text), time })
            })
            .map(|(row, _)| row)
            .collect();
        let now = jiff::Timestamp::from_nanosecond(NOW.into()).unwrap();
        let mut matcher = parsed.matcher();
        if !query.contains("source") && !query.contains("pipeline") {
            let alone: Vec<u32> =
                batch.lines().filter(|(_, text)| matcher.matches(text, now)).map(|(row, _)| row).collect();
            prop_assert_eq!(&alone, &expected, "{} alone", query);
        }
        // The same matcher again, so that what it keeps from batch to batch does no harm.
        for _ in 0..2 {
            let mask = matcher.mask(&batch, now);
            let found: Vec<u32> = batch.live().iter().filter(|row| mask.has(*row)).collect();
            prop_assert_eq!(&found, &expected, "{}", query);
        }
        matcher.keep(&mut batch, now);
        prop_assert_eq!(batch.live().iter().collect::<Vec<_>>(), expected);
        let printed = parsed.to_string();
        let again = Query::parse(&printed).unwrap_or_else(|e| panic!("{e}"));
        prop_assert!(again == parsed, "{} is printed {}", query, printed);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in proptest::collection::vec(prop_oneof![
        4 => proptest::sample::select(vec!["a", "level", "timestamp", ":", "(", ")", "\"", "/", "[", "]", "{", "}", " TO ", "*", "?",
            "AND", "OR", "NOT", " ", "-", ">", "=", "<", "\\", "now-1h", "10.0.0.1/8", "é", "2026-11-20", "/i", "+", "错", "~", "5", "warn"]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ], 0..20)) {
        let text = text.concat();
        match Query::parse(&text) {
            Ok(query) => {
                let printed = query.to_string();
                let again = Query::parse(&printed).unwrap_or_else(|e| panic!("{text:?} is printed {printed:?}: {e}"));
                prop_assert!(again == query, "{:?} is printed {:?}", text, printed);
                let mut marks = Vec::new();
                query.highlights().ranges(text.as_bytes(), &mut marks);
                prop_assert!(marks.windows(2).all(|w| w[0].end < w[1].start));
            }
            Err(error) => {
                prop_assert!(text.get(error.span.clone()).is_some() && !error.message.is_empty());
                prop_assert!(error.to_string().contains('^'));
            }
        }
    }
}
