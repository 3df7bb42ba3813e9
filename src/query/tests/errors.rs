//! What errors say, and where they point.

use crate::query::Query;

/// The marked text and the message of the error of `query`.
fn wrong(query: &str) -> (String, String) {
    let error = Query::parse(query).err().unwrap_or_else(|| panic!("{query} must be refused"));
    (query[error.span.clone()].to_owned(), error.message)
}

#[test]
fn each_points_at_its_place() {
    for (query, place, message) in [
        ("", "", "the query is empty"),
        ("a AND", "", "nothing follows `AND`"),
        ("a OR OR b", "OR", "`OR` follows `OR`"),
        ("AND a", "AND", "nothing stands before `AND`"),
        ("NOT", "", "nothing follows `NOT`"),
        ("(a", "(", "the parenthesis is not closed"),
        ("a)", ")", "this parenthesis closes nothing"),
        ("()", ")", "nothing stands before this parenthesis"),
        ("\"a", "\"", "the quote is not closed"),
        ("a \"\"", "\"\"", "nothing between the quotes"),
        ("/a(b", "/", "the regular expression is not closed"),
        ("/a(b/", "(", "invalid regular expression: unclosed group"),
        (
            "x:/a{2,1}/",
            "{2,1}",
            "invalid regular expression: invalid repetition count range, the start must be <= the end",
        ),
        ("field:", "", "the field `field` has no value"),
        ("field: x", "", "the field `field` has no value"),
        (":x", ":", "the field's name is missing"),
        ("re*:x", "re*", "a wildcard in a field's name"),
        ("status>=500", ">=", "`>=` behind a field's name"),
        ("user=alice", "=", "`=` behind a field's name"),
        ("status:=500", "=", "`=` is no comparison here"),
        (">5", ">", "`>` compares no field"),
        ("a && b", "&&", "`&&` is no operator here"),
        ("a || b", "||", "`||` is no operator here"),
        ("!a", "!", "`!` is no operator here"),
        ("+a", "+", "`+` is no operator here"),
        ("s:[1 TO 2", "[1 TO 2", "the range is not closed"),
        ("s:[1 to 2]", "to", "the range has no `TO`"),
        ("s:[ERROR] x", "]", "the range has no `TO`"),
        ("s:[1 TO now]", "1 TO now", "the ends of the range are of different kinds"),
        ("s:>abc", "abc", "nothing to compare with: `abc`"),
        ("s:>", "", "nothing follows `>`"),
        ("ip:10.0.0.0/33", "33", "invalid network: a prefix of 33 bits"),
        ("ip:10.0.0.256/8", "10.0.0.256", "invalid network: `10.0.0.256` is no address"),
        ("level:loud", "loud", "unknown level: `loud`"),
        ("level:x*", "x*", "no level matches"),
        ("timestamp:>yesterday", "yesterday", "not a time: `yesterday`"),
        ("é =>", "=>", "nothing to search for: `=>` has no letters or digits"),
        ("foo(bar)", "(", "`(` directly behind a condition"),
        ("\"a\"~2", "~", "`~` directly behind a condition"),
        ("roam~0.8", "~0.8", "there is no fuzzy search and no ranking here"),
        ("x:a^4", "^4", "there is no fuzzy search and no ranking here"),
        ("a\\", "\\", "nothing follows the backslash"),
        ("a:(b:c)", "b:", "a field inside another field's parentheses"),
        (
            "/(?=a)/",
            "(?=",
            "invalid regular expression: look-around, including look-ahead and look-behind, is not supported",
        ),
        (
            "/((a{1000}){1000}){1000}/",
            "((a{1000}){1000}){1000}",
            "the regular expressions are too large: more than 1024 KiB once compiled",
        ),
    ] {
        assert_eq!(wrong(query), (place.to_owned(), message.to_owned()), "{query}");
    }
}

#[test]
fn bounds_are_said() {
    assert_eq!(wrong(&"a ".repeat(10_000)).1, "the query is 20000 bytes long, the most is 16384");
    assert_eq!(wrong(&"(".repeat(100)).1, "nested too deeply: 64 levels is the most");
    assert_eq!(wrong(&"NOT ".repeat(100)).1, "nested too deeply: 64 levels is the most");
    assert_eq!(wrong(&"a ".repeat(257)).1, "too many conditions: 256 is the most");
    assert_eq!(wrong(&"/a/ ".repeat(9)).1, "too many regular expressions: 8 is the most");
    assert_eq!(
        wrong(&format!("\"{}\"", "a ".repeat(65))).1,
        "too many words next to each other: 64 is the most"
    );
    assert_eq!(wrong(&"ab*".repeat(50)).1, "too long for a word with wildcards: 128 characters is the most");
    Query::parse(&"/a/ ".repeat(8)).unwrap();
    Query::parse(&format!("{}a{}", "(".repeat(64), ")".repeat(64))).unwrap();
}

#[test]
fn it_is_shown_with_a_caret_and_a_hint() {
    let shown = |query: &str| Query::parse(query).unwrap_err().to_string();
    assert_eq!(
        shown("level:error status>=500"),
        "`>=` behind a field's name\n  level:error status>=500\n                    ^^ expected `:`\nhint: write `status:>=500`, or quote the text to search for it: \"status>=500\""
    );
    assert_eq!(
        shown("level:loud"),
        "unknown level: `loud`\n  level:loud\n        ^^^^ expected trace, debug, info, notice, warn, error, fatal\nhint: `.level:` looks at the line's own key, whatever it holds"
    );
    assert!(shown("level:error,warn").ends_with("hint: several: `level:(error OR warn)`"));
}

#[test]
fn lower_case_operators_are_noted() {
    let notes = |query: &str| {
        Query::parse(query).unwrap().notes().iter().map(|n| (n.span.start, n.span.end)).collect::<Vec<_>>()
    };
    assert_eq!(notes("a and b or c"), [(2, 5), (8, 10)]);
    assert_eq!(notes("not a"), [(0, 3)]);
    assert!(notes("and").is_empty() && notes("a not").is_empty() && notes("\"a and b\"").is_empty());
}
