//! Searching many rows together finds what searching each alone finds.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::batch::{Arena, Origin, Receipt, Timestamp};
use crate::codec::framing::{LineFramer, Oversize};

/// Patterns that look at ends of lines, at nothing at all, or at everything.
const AWKWARD: &[&str] = &[
    "^",
    "$",
    "",
    r"\s",
    "[^a]",
    "(?i)error",
    "a|",
    r"\b",
    r"\B",
    "x*",
    "^$",
    r"\A",
    r"\z",
    r"a\z",
    "(?-m)^a",
    "(?-m)b$",
    "(?R)b$",
    "(?s)a.b",
    "(?s).",
    r"\W+",
    "a$|^b",
    "$^",
    "(^a)+",
    r"\r",
    r"\r$",
    "[ab]{2,3}$",
    r"é",
    r"(?-u)\xff",
    r"[[:^alpha:]]",
    r"^\s*$",
    "a.*b",
    "b+a?$",
    r"\D",
    r"(a|b|)$",
];

fn batch(text: &[u8]) -> Batch {
    let framed = LineFramer::new(1000, Oversize::Split).finish(text);
    let origin = Arc::new(Origin::new("t", "t"));
    Batch::new(
        Arena::new(text.to_vec().into(), framed.spans, framed.framing, origin, Timestamp(0)),
        Receipt::none(),
    )
}

fn matcher(patterns: &[&str], logic: Logic) -> Patterns {
    Patterns::new(patterns, logic, Field::Line).unwrap_or_else(|bad| panic!("{patterns:?}: {bad:?}"))
}

/// The live rows that match when each is looked at alone.
fn one_by_one(matcher: &mut Patterns, batch: &Batch) -> Vec<u32> {
    batch.live().iter().filter(|&row| matcher.matches_row(batch, row)).collect()
}

fn together(matcher: &mut Patterns, batch: &Batch) -> Vec<u32> {
    let mask = matcher.matches(batch);
    let found: Vec<u32> = (0..batch.arena().spans().len() as u32).filter(|&row| mask.has(row)).collect();
    assert!(found.iter().all(|&row| batch.live().has(row)), "only live rows match");
    found
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => proptest::sample::select(vec!["a", "b", "x", " ", "1", "é", "ERROR", "error"])
            .prop_map(|s| s.as_bytes().to_vec()),
        3 => Just(b"\n".to_vec()),
        2 => Just(b"\r\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => any::<u8>().prop_map(|b| vec![b]),
    ];
    proptest::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn together_is_one_by_one(text in text(), keep in proptest::collection::vec(any::<bool>(), 200), all in any::<bool>()) {
        for pattern in AWKWARD {
            let mut batch = batch(&text);
            if !all {
                batch.retain(|_, row| keep[row as usize]);
            }
            let mut m = matcher(&[pattern], Logic::Or);
            prop_assert_eq!(together(&mut m, &batch), one_by_one(&mut m, &batch), "{}", pattern);
        }
    }

    #[test]
    fn several_patterns_combine(text in text(), a in 0..AWKWARD.len(), b in 0..AWKWARD.len()) {
        let (batch, pair) = (batch(&text), [AWKWARD[a], AWKWARD[b]]);
        let [mut first, mut second] = pair.map(|p| matcher(&[p], Logic::Or));
        let (left, right) = (one_by_one(&mut first, &batch), one_by_one(&mut second, &batch));
        let rows = 0..batch.arena().spans().len() as u32;
        let any: Vec<u32> = rows.clone().filter(|r| left.contains(r) || right.contains(r)).collect();
        let all: Vec<u32> = rows.filter(|r| left.contains(r) && right.contains(r)).collect();
        prop_assert_eq!(together(&mut matcher(&pair, Logic::Or), &batch), any);
        prop_assert_eq!(together(&mut matcher(&pair, Logic::And), &batch), all);
    }
}

/// What the documented rules say, spelled out, so that "together" and "one by one" cannot be wrong alike.
#[test]
fn a_row_is_a_line() {
    let cases: &[(&str, &str, &[u32])] = &[
        ("foo$", "foo\r\nfoo\nfoo bar\nxfoo", &[0, 1, 3]),
        ("^$", "\n\r\na\n\n", &[0, 1, 3]),
        ("^b", "a\nb\nab\nb", &[1, 3]),
        (r"a\s*b", "a\nb\na b\nab\n", &[2, 3]),
        ("[^a]", "a\na\nab\n", &[2]),
        ("(?s)a.b", "a\nb\na.b\n", &[2]),
        (r"\Ab\z", "a\nb\nbb\nb\r\n", &[1, 3]),
        ("", "a\n\nb\n", &[0, 1, 2]),
        ("(?i)error", "Error\nerr\nERROR x\n", &[0, 2]),
        (r"\bfoo\b", "foo\nfoobar\na foo b\n", &[0, 2]),
    ];
    for (pattern, text, expected) in cases {
        // Enough empty rows of padding that the rows are searched together.
        let padded = format!("{text}{}{}", if text.ends_with('\n') { "" } else { "\n" }, "~a~\n".repeat(20));
        let batch = batch(padded.as_bytes());
        let rows = text.trim_end_matches(['\n', '\r']).split('\n').count() as u32;
        let rows = rows.max(expected.iter().max().map_or(0, |r| r + 1));
        let mut m = matcher(&[pattern], Logic::Or);
        let found: Vec<u32> = together(&mut m, &batch).into_iter().filter(|r| *r < rows).collect();
        assert_eq!(found, *expected, "{pattern} in {text:?}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_the_reason() {
    let why = |pattern: &str| Patterns::new(&[pattern], Logic::Or, Field::Line).unwrap_err()[0].why.clone();
    assert_eq!(why("foo(bar"), "unclosed group, at byte 3");
    assert!(why(r"a\nb").contains("can never match"), "{}", why(r"a\nb"));
    assert!(why("(?=a)").contains("look-around"), "{}", why("(?=a)"));
    assert!(why("((a{1000}){1000}){1000}").contains("smaller counted repetitions"));
    assert!(why(&"(".repeat(5000)).contains("nest") || why(&"(".repeat(5000)).contains("unclosed"));
    assert!(why(&format!("{}a{}", "(".repeat(500), ")".repeat(500))).contains("nest"));
    assert!(why(&"a".repeat(PATTERN_LEN + 1)).contains("bytes long"));
    let bad = Patterns::new(&["ok", "*", "["], Logic::And, Field::Line).unwrap_err();
    assert_eq!(bad.iter().map(|b| b.index).collect::<Vec<_>>(), [1, 2]);
}

const PATTERN_LEN: usize = pattern::PATTERN_BYTES_MAX;

/// Nested repetitions that would take backtracking engines forever.
#[test]
fn catastrophic_patterns_take_linear_time() {
    let mut m = matcher(&["(a+)+$", "(a|a)*b", "(.*)*x"], Logic::And);
    let text = format!("{}\n", "a".repeat(500)).repeat(200);
    assert!(together(&mut m, &batch(text.as_bytes())).is_empty());
}

#[test]
fn fields_are_matched_alone() {
    let rows = [r#"{"level":"x","user":"bob","msg":"alice"}"#, "user=alice msg=bob", "bob"];
    let batch = Batch::from_lines("origin", rows);
    let found = |pattern: &str, field: &str| {
        together(&mut Patterns::new(&[pattern], Logic::Or, Field::parse(field)).unwrap(), &batch)
    };
    assert_eq!(found("^bob$", "user"), [0]);
    assert_eq!(found("bob", "message"), [0, 1, 2]);
    assert_eq!(found("bob", "msg"), [1]);
    assert_eq!(found("^origin$", "source"), [0, 1, 2]);
    assert_eq!(found(".", "nothing"), [0; 0]);
}

proptest! {
    /// The rows found are those that another engine finds in plain lines, for patterns without an end of line.
    #[test]
    fn agrees_with_the_textbook_engine(text in text(), which in 0..AWKWARD.len()) {
        let pattern = AWKWARD[which];
        prop_assume!(!pattern.contains(['$', 'z', 'n', 'r', 'R']) && pattern != "(?s).");
        let batch = batch(&text);
        let syntax = regex_automata::util::syntax::Config::new().utf8(false).multi_line(true);
        let textbook = regex_automata::nfa::thompson::pikevm::PikeVM::builder()
            .syntax(syntax)
            .thompson(regex_automata::nfa::thompson::Config::new().utf8(false))
            .build(pattern)
            .unwrap();
        let mut cache = textbook.create_cache();
        let naive: Vec<u32> =
            batch.lines().filter(|(_, line)| textbook.is_match(&mut cache, *line)).map(|(row, _)| row).collect();
        prop_assert_eq!(together(&mut matcher(&[pattern], Logic::Or), &batch), naive, "{}", pattern);
    }
}
