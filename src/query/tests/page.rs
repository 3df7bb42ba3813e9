//! docs/QUERY.md cannot rot: its queries are queries, and what it calls a mistake is one.

use crate::query::Query;

const PAGE: &str = include_str!("../../../docs/QUERY.md");

fn section(name: &str) -> &'static str {
    let start = PAGE.find(&format!("\n## {name}\n")).unwrap_or_else(|| panic!("no section {name}"));
    let rest = &PAGE[start + 4..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

/// The code spans of the first cells of a section's tables.
fn first_cells(section: &str) -> Vec<String> {
    let rows = section.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    // A pipe within a cell is escaped.
    let cells = rows.map(|line| line.replace("\\|", "\u{1}")[2..].split(" | ").next().unwrap().to_owned());
    cells.flat_map(|cell| spans(&cell)).map(|span| span.replace('\u{1}', "|")).collect()
}

fn spans(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_form_is_a_query() {
    let forms = first_cells(section("Forms"));
    assert!(forms.len() >= 40, "{forms:?}");
    let first = PAGE.split("```text\n").nth(1).unwrap().lines().next().unwrap();
    let mentioned = ["Fields", "Times"].map(section).concat();
    let mentioned = spans(&mentioned).into_iter().filter(|span| span.contains(':') && span.len() > 1);
    for query in forms.into_iter().chain([first.to_owned()]).chain(mentioned) {
        let parsed = Query::parse(&query).unwrap_or_else(|e| panic!("{e}"));
        let again = Query::parse(&parsed.to_string()).unwrap_or_else(|e| panic!("{e}"));
        assert!(parsed == again, "{query} is printed {parsed}");
    }
}

#[test]
fn what_comes_from_elsewhere_is_refused_with_a_hint() {
    let table = section("Mistakes").rsplit("| from elsewhere").next().unwrap();
    let foreign = first_cells(table);
    assert_eq!(foreign.len(), 8, "{foreign:?}");
    for query in foreign {
        let error = Query::parse(&query).err().unwrap_or_else(|| panic!("{query} is accepted"));
        assert!(error.hint.is_some(), "{error}");
    }
}

#[test]
fn the_bounds_are_those_of_the_code() {
    use crate::query::{
        CONDITIONS_MAX, DEPTH_MAX, REGEXES_MAX, TEXT_BYTES_MAX, WILDCARD_CHARS_MAX, WORDS_MAX,
    };
    let text = section("Bounds").replace('\n', " ");
    for bound in [
        format!("at most {} KiB", TEXT_BYTES_MAX >> 10),
        format!("{CONDITIONS_MAX} conditions"),
        format!("{DEPTH_MAX} levels"),
        format!("{WORDS_MAX} words"),
        format!("{WILDCARD_CHARS_MAX} characters"),
        format!("{REGEXES_MAX} regular expressions"),
    ] {
        assert!(text.contains(&bound), "{bound}");
    }
}
