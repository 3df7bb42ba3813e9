//! The house's rule: a row never imports a higher one, and siblings in a component folder do not import each
//! other. Read from the `use` lines and paths in the code itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rows from the ground up; folders in one row may import each other only where `LATERAL` says so.
const ROWS: &[&[&str]] = &[
    &["base"],
    &["batch"],
    &["query", "config"],
    &["flow"],
    &["codec", "net", "store", "tail", "files", "trace"],
    &["sources", "filters", "sinks", "alerts"],
    &["registry"],
    &["engine"],
    &["web"],
    &["cli"],
];

/// Imports within a row that are part of the plan: whoever frames or writes rows uses the codecs.
const LATERAL: &[(&str, &str)] = &[("net", "codec"), ("tail", "codec"), ("files", "codec")];

/// Folders with one component per file, which know nothing of each other.
const COMPONENT_FOLDERS: &[&str] = &["sources", "filters", "sinks"];

const LINES_MAX: usize = 600;

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    files.sort();
    // Test modules may reach for the harness and for components, which see everything.
    files.retain(|p| {
        !p.components().any(|c| c.as_os_str().to_string_lossy().trim_end_matches(".rs").ends_with("tests"))
    });
    let name = |p: &Path| p.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
    files.iter().map(|p| (name(p), fs::read_to_string(p).expect("readable"))).collect()
}

fn row_of(folder: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&folder))
}

/// The top-level modules that a file names after `crate::`, including `use crate::{a::…, b}` groups.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        // `$crate::` in a macro names the same modules.
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let end = group.find(|c| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                depth < 0
            });
            let mut depth = 0;
            for part in group[..end.unwrap_or(group.len())].split_inclusive(['{', '}', ',']) {
                if depth == 0 {
                    let name: String =
                        part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    found.push(name);
                }
                depth += i32::from(part.ends_with('{')) - i32::from(part.ends_with('}'));
            }
        } else {
            found.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found
}

#[test]
fn a_row_never_imports_a_higher_one() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let folder = file.split(['/', '.']).next().unwrap_or_default();
        // Tests inside a file may reach for the harness, which sees everything.
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(&text);
        let Some(row) = row_of(folder) else {
            assert!(["lib", "main", "testing"].contains(&folder), "{file}: folder {folder} is in no row");
            continue;
        };
        for import in imports(code) {
            let Some(other) = row_of(&import) else { continue };
            let lateral = other == row && import != folder && !LATERAL.contains(&(folder, import.as_str()));
            if other > row || lateral {
                wrong.push(format!("{file} imports crate::{import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "layers are crossed:\n{}", wrong.join("\n"));
}

#[test]
fn components_do_not_import_each_other() {
    for (file, text) in sources() {
        let Some((folder, _)) = file.split_once('/') else { continue };
        if !COMPONENT_FOLDERS.contains(&folder) || file.ends_with("/mod.rs") {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(&text);
        for other in COMPONENT_FOLDERS {
            assert!(
                !code.contains(&format!("crate::{other}::")),
                "{file} imports another component of {other}"
            );
        }
        // A module within the file sees the file itself by `super`.
        assert!(!code.lines().any(|line| line.starts_with("use super::")), "{file} imports a sibling");
    }
}

#[test]
fn rooms_are_small() {
    let sizes: BTreeMap<String, usize> = sources().into_iter().map(|(f, t)| (f, t.lines().count())).collect();
    let long: Vec<_> = sizes.iter().filter(|(_, n)| **n > LINES_MAX).collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:?}");
    let mut counts: Vec<usize> = sizes.values().copied().collect();
    counts.sort_unstable();
    let median = counts[counts.len() / 2];
    assert!(median < 260, "the median file has {median} lines");
}

#[test]
fn every_file_opens_with_its_purpose() {
    let silent: Vec<_> =
        sources().into_iter().filter(|(_, t)| !t.starts_with("//!")).map(|(f, _)| f).collect();
    assert!(silent.is_empty(), "no module comment: {silent:?}");
}
