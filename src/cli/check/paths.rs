//! Files and directories given to `weir check`: each file is checked by itself, as it is written, without the
//! variables and flags that a run would add; Markdown is searched for its TOML blocks.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{excerpt, markdown};
use crate::config::{Diagnostic, Diagnostics, Environment, Origin, Source, interpolate, toml_file};
use crate::engine;

/// The most bytes of one file.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// The most files that are looked for, and how deep.
const FILES_MAX: usize = 10_000;
const DEPTH_MAX: usize = 32;
/// Directories with what programs have made.
const LEFT_OUT: [&str; 2] = ["target", "node_modules"];

/// What was found in one file.
#[derive(Debug)]
pub(super) struct Checked {
    /// Its path.
    pub(super) path: PathBuf,
    /// TOML blocks that were checked, for Markdown.
    pub(super) blocks: Option<usize>,
    /// What was not checked, and why.
    pub(super) skipped: Vec<&'static str>,
    /// How many errors are in it.
    pub(super) errors: usize,
    /// What is wrong with it.
    pub(super) findings: Diagnostics,
}

/// Checks all files below these paths. What cannot be read is among the findings.
pub(super) fn check(paths: &[PathBuf], environment: &Environment) -> Vec<Checked> {
    let mut all = Vec::new();
    for path in paths {
        let named = Source::flag("check", &path.to_string_lossy()).whole();
        if !path.is_dir() {
            all.push(file(path, true, &named, environment));
            continue;
        }
        let mut files = Vec::new();
        match walk(path, 0, &mut files) {
            Ok(()) => {
                files.sort();
                let found = files.iter().map(|path| file(path, false, &named, environment));
                // Nobody asked for a page without a block in it.
                all.extend(found.filter(|f| f.blocks != Some(0) || !f.skipped.is_empty() || f.errors > 0));
            }
            Err(e) => all.push(unreadable(path, &named, &e.to_string())),
        }
    }
    all
}

fn is_markdown(path: &Path) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    ending.is_some_and(|ending| ["md", "markdown", "mdx"].contains(&ending.as_str()))
}

/// The `*.toml` and Markdown files below a directory; nothing hidden, no links to directories.
fn walk(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let kind = entry.file_type()?;
        if name.starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            if depth < DEPTH_MAX && !LEFT_OUT.contains(&name.as_str()) {
                walk(&path, depth + 1, files)?;
            }
        } else if path.is_file() && (is_markdown(&path) || path.extension().is_some_and(|e| e == "toml")) {
            if files.len() == FILES_MAX {
                return Err(io::Error::other(format!("it holds more than {FILES_MAX} files")));
            }
            files.push(path);
        }
    }
    Ok(())
}

fn unreadable(path: &Path, named: &Origin, why: &str) -> Checked {
    let mut findings = Diagnostics::new();
    findings.error(named, format!("cannot read {}: {why}", path.display())).no_input();
    Checked { path: path.to_owned(), blocks: None, skipped: Vec::new(), errors: 1, findings }
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let opened = fs::File::open(path).map_err(|e| e.to_string())?;
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("it is too long: 16MiB is the most".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|e| format!("it is not UTF-8: {}", e.utf8_error()))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// `asked`: the file was named, and is not merely one that lies in a directory.
fn file(path: &Path, asked: bool, named: &Origin, environment: &Environment) -> Checked {
    let text = match read(path) {
        Ok(text) => text,
        Err(why) => return unreadable(path, named, &why),
    };
    let name = path.to_string_lossy();
    let (mut findings, mut skipped, mut blocks) = (Diagnostics::new(), Vec::new(), None);
    if is_markdown(path) {
        let mut checked = 0;
        for fence in markdown::fences(&name, &text) {
            let skip = if fence.is_ignored {
                Some("ignored")
            } else {
                block(&fence.source, environment, &mut findings)
            };
            checked += usize::from(skip.is_none());
            skipped.extend(skip);
        }
        blocks = Some(checked);
    } else {
        let source = Source::file(name, text);
        let mut own = Diagnostics::new();
        let mut tree = toml_file::parse_file(&source, &mut own);
        if asked || own.has_errors() || excerpt::is_root(&tree) {
            interpolate::interpolate(&mut tree, environment, &mut BTreeSet::new(), &mut own);
            if !asked && tree.get("pipelines").is_none() {
                // One of several files that make up a configuration.
                excerpt::complete(&mut tree);
            }
            engine::plan(&tree, &mut own);
            findings.append(own);
        } else {
            skipped.push("not a configuration of weir");
        }
    }
    Checked { path: path.to_owned(), blocks, skipped, errors: findings.error_count(), findings }
}

/// Checks a block of Markdown, or says why not.
fn block(
    source: &std::sync::Arc<Source>,
    environment: &Environment,
    findings: &mut Diagnostics,
) -> Option<&'static str> {
    let mut own = Diagnostics::new();
    let mut tree = match excerpt::parts(source) {
        None => toml_file::parse_file(source, &mut own),
        Some(parts) => {
            let [first, second] = parts.map(|part| toml_file::parse_file(&part, &mut own));
            excerpt::joined(first, second)
        }
    };
    if !own.has_errors() {
        if !excerpt::is_ours(&tree) {
            return Some("not a configuration of weir");
        }
        interpolate::interpolate(&mut tree, environment, &mut BTreeSet::new(), &mut own);
        excerpt::check(&tree, &mut own);
        // What a variable would hold is nobody's mistake here.
        own.retain(|finding| !is_about_a_variable(finding));
    }
    findings.append(own);
    None
}

fn is_about_a_variable(finding: &Diagnostic) -> bool {
    let span = finding.origin.span();
    let text = finding.origin.source().and_then(|source| source.text.get(span));
    text.is_some_and(|text| text.contains("${"))
}
