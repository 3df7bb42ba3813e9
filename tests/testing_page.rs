//! docs/TESTING.md cannot rot: every test it names is in the file it names, and is a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/TESTING.md")).expect("docs/TESTING.md")
}

/// The code spans of the page.
fn spans(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Whether `name` is a test function of `code`: below an attribute that makes it one, or among those of `proptest!`.
fn is_test(code: &str, name: &str) -> bool {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let declared = |line: &&str| line.trim_start_matches("async ").starts_with(&format!("fn {name}("));
    lines.iter().position(declared).is_some_and(|at| {
        let attributes = lines[..at].iter().rev().take_while(|line| !line.is_empty() && **line != "}");
        attributes.into_iter().any(|line| line.starts_with("#[") && line.contains("test"))
    })
}

#[test]
fn every_test_the_page_names_exists() {
    let page = page();
    let (mut named, mut missing) = (BTreeSet::new(), Vec::new());
    for (file, name) in spans(&page).filter_map(|span| span.split_once("::")) {
        let code = fs::read_to_string(root().join(file)).unwrap_or_default();
        if !is_test(&code, name) {
            missing.push(format!("{file}::{name}"));
        }
        named.insert((file, name));
    }
    assert!(missing.is_empty(), "docs/TESTING.md names tests that are not there:\n{}", missing.join("\n"));
    assert!(named.len() > 80, "only {} tests are named", named.len());
}

#[test]
fn every_file_the_page_names_exists_and_every_line_of_what_must_be_survived_has_a_test() {
    let page = page();
    let paths = spans(&page).filter(|span| !span.contains([':', '*', ' ']));
    for path in paths.filter(|span| ["src/", "tests/", "fuzz/"].iter().any(|dir| span.starts_with(dir))) {
        assert!(root().join(path).exists(), "docs/TESTING.md names {path}, which is not there");
    }
    let (_, survived) = page.split_once("## What it must survive").expect("the section");
    for group in ["Files", "Content", "Restart", "Disk buffer", "Flow", "Hostile input"] {
        assert!(survived.contains(&format!("### {group}\n")), "the group {group}");
    }
    let rows = survived.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what"));
    let untested: Vec<&str> = rows.filter(|row| !row.contains(".rs::")).collect();
    assert!(untested.is_empty(), "without a test:\n{}", untested.join("\n"));
}

/// What a hunk of a patch expects to find.
fn expected(hunk: &str) -> String {
    let lines = hunk.lines().skip(1).filter_map(|line| line.strip_prefix([' ', '-']));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_planted_bug_still_fits_the_code() {
    let mut patches = 0;
    for entry in fs::read_dir(root().join("tests/simulation/planted")).expect("planted bugs") {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let patch = fs::read_to_string(&path).expect("a patch");
        for file in patch.split("diff --git ").skip(1) {
            let name = file.lines().find_map(|line| line.strip_prefix("+++ b/")).expect("what it changes");
            let code = fs::read_to_string(root().join(name)).unwrap_or_default();
            for hunk in file.split("\n@@ ").skip(1) {
                assert!(code.contains(&expected(hunk)), "{} does not fit {name} any more", path.display());
            }
        }
        patches += 1;
    }
    assert!(patches >= 13, "{patches} planted bugs");
}
