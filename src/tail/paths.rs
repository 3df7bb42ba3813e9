//! Finding files: globs are split into path components, so that only directories that can hold a match are read,
//! and `**` walks without following symbolic links. Errors of single directories are skipped: a scan finds what
//! it can.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use regex_automata::meta::Regex;

/// Most files one source follows; a glob that matches more is a mistake.
const FILES_MAX: usize = 200_000;
/// Most directories one scan reads.
const DIRS_MAX: usize = 100_000;
const DEPTH_MAX: usize = 64;

/// One component of a pattern.
#[derive(Debug, Clone)]
enum Part {
    Literal(PathBuf),
    Glob(GlobMatcher),
    Name(Arc<Regex>),
    /// `**`: any number of directories, none too.
    Any,
}

impl Part {
    fn matches(&self, name: &OsStr) -> bool {
        match self {
            Part::Literal(literal) => literal.as_os_str() == name,
            Part::Glob(glob) => glob.is_match(Path::new(name)),
            Part::Name(regex) => regex.is_match(name.as_encoded_bytes()),
            Part::Any => true,
        }
    }
}

/// What a source reads: patterns and exceptions.
#[derive(Debug, Clone)]
pub struct Patterns {
    patterns: Vec<Vec<Part>>,
    exclude: GlobSet,
    written: String,
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Found {
    /// Matching paths that are not directories, each once, in name order within a directory.
    pub files: Vec<PathBuf>,
    /// The directories that were read: where new files would appear.
    pub dirs: Vec<PathBuf>,
    /// Some limit was reached.
    pub partial: bool,
}

impl Patterns {
    /// Parses globs. The error says which of `globs` is wrong, and why.
    pub fn globs(globs: &[String]) -> Result<Patterns, (usize, String)> {
        let mut patterns = Vec::new();
        for (index, glob) in globs.iter().enumerate() {
            for plain in expand_braces(glob) {
                patterns.push(parse(&plain).map_err(|why| (index, why))?);
            }
        }
        Ok(Patterns { patterns, exclude: GlobSet::empty(), written: globs.join(", ") })
    }

    /// What was asked for, as it was written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The files of `dir` whose name matches `pattern`, a glob or a `/regex/`; also of the directories below.
    ///
    /// # Errors
    /// What is wrong with the pattern.
    pub fn directory(dir: &str, pattern: &str, recursive: bool) -> Result<Patterns, String> {
        let mut parts = vec![Part::Literal(PathBuf::from(dir))];
        if recursive {
            parts.push(Part::Any);
        }
        let regex = pattern.strip_prefix('/').and_then(|p| p.strip_suffix('/')).filter(|p| !p.is_empty());
        parts.push(match regex {
            Some(regex) => Part::Name(Arc::new(Regex::new(regex).map_err(|e| e.to_string())?)),
            None if pattern.contains('/') => {
                return Err(
                    "the pattern is for file names and may not hold `/`, except around a regex".to_owned()
                );
            }
            None => Part::Glob(glob(pattern)?),
        });
        let written = format!("{pattern} in {dir}");
        Ok(Patterns { patterns: vec![parts], exclude: GlobSet::empty(), written })
    }

    /// The same patterns, except for what matches one of `globs`: on the whole path, or on the file name if the
    /// glob holds no `/`. The error says which of `globs` is wrong, and why.
    pub fn except(mut self, globs: &[String]) -> Result<Patterns, (usize, String)> {
        let mut set = GlobSetBuilder::new();
        for (index, text) in globs.iter().enumerate() {
            let anywhere = if text.contains('/') { text.clone() } else { format!("**/{text}") };
            let built = GlobBuilder::new(&anywhere).literal_separator(true).build();
            set.add(built.map_err(|e| (index, e.kind().to_string()))?);
        }
        self.exclude = set.build().map_err(|e| (0, e.kind().to_string()))?;
        Ok(self)
    }

    /// Whether a path is excepted.
    pub fn is_excluded(&self, path: &Path) -> bool {
        !self.exclude.is_empty() && self.exclude.is_match(path)
    }

    /// Whether a path, absolute or as it was written, is one that a scan could find.
    pub fn matches(&self, path: &Path) -> bool {
        let names = |path: &Path| path.components().map(|c| c.as_os_str().to_owned()).collect::<Vec<_>>();
        let path = names(path);
        self.patterns.iter().any(|parts| {
            let relative = matches!(parts.first(), Some(Part::Literal(l)) if !l.is_absolute())
                || !matches!(parts.first(), Some(Part::Literal(_)));
            // Checkpoints are by absolute path; what lies before a relative pattern is the working directory.
            let starts = if relative { path.len() } else { 1 };
            (0..starts).any(|from| fits(parts, &path[from..]))
        })
    }

    /// Walks the file system.
    pub fn scan(&self) -> Found {
        let mut walk =
            Walk { patterns: self, found: Found::default(), files: HashSet::new(), dirs: HashSet::new() };
        for parts in &self.patterns {
            walk.descend(PathBuf::new(), parts, 0);
        }
        walk.found
    }
}

/// Whether the components of a path are those of a pattern.
fn fits(parts: &[Part], path: &[std::ffi::OsString]) -> bool {
    match parts.split_first() {
        None => path.is_empty(),
        Some((Part::Any, rest)) => (0..=path.len()).any(|skip| fits(rest, &path[skip..])),
        Some((Part::Literal(literal), rest)) => {
            let own: Vec<&OsStr> = literal.components().map(|c| c.as_os_str()).collect();
            path.len() >= own.len()
                && own.iter().zip(path).all(|(a, b)| *a == b.as_os_str())
                && fits(rest, &path[own.len()..])
        }
        Some((part, rest)) => {
            path.split_first().is_some_and(|(name, below)| part.matches(name) && fits(rest, below))
        }
    }
}

struct Walk<'a> {
    patterns: &'a Patterns,
    found: Found,
    files: HashSet<PathBuf>,
    dirs: HashSet<PathBuf>,
}

impl Walk<'_> {
    fn descend(&mut self, at: PathBuf, parts: &[Part], depth: usize) {
        let Some((first, rest)) = parts.split_first() else { return };
        if depth > DEPTH_MAX || self.found.dirs.len() > DIRS_MAX || self.found.files.len() >= FILES_MAX {
            self.found.partial = true;
            return;
        }
        if let Part::Literal(literal) = first {
            let path = at.join(literal);
            if rest.is_empty() {
                let parent = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
                self.watch(&parent);
                if std::fs::metadata(&path).is_ok_and(|m| !m.is_dir()) {
                    self.file(path);
                }
            } else {
                self.descend(path, rest, depth);
            }
            return;
        }
        if matches!(first, Part::Any) {
            self.descend(at.clone(), rest, depth);
        }
        self.watch(&at);
        let here = if at.as_os_str().is_empty() { Path::new(".") } else { &at };
        let Ok(entries) = std::fs::read_dir(here) else { return };
        let mut entries: Vec<_> = entries.flatten().filter(|e| first.matches(&e.file_name())).collect();
        entries.sort_unstable_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let Ok(kind) = entry.file_type() else { continue };
            let path = at.join(entry.file_name());
            if matches!(first, Part::Any) {
                if kind.is_dir() {
                    self.descend(path, parts, depth + 1);
                }
            } else if rest.is_empty() {
                let is_dir = kind.is_dir() || (kind.is_symlink() && path.is_dir());
                if !is_dir {
                    self.file(path);
                }
            } else if kind.is_dir() || kind.is_symlink() {
                self.descend(path, rest, depth + 1);
            }
        }
    }

    fn file(&mut self, path: PathBuf) {
        if self.found.files.len() >= FILES_MAX {
            self.found.partial = true;
        } else if !self.patterns.is_excluded(&path) && self.files.insert(path.clone()) {
            self.found.files.push(path);
        }
    }

    fn watch(&mut self, dir: &Path) {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        if self.dirs.insert(dir.to_path_buf()) {
            self.found.dirs.push(dir.to_path_buf());
        }
    }
}

fn glob(text: &str) -> Result<GlobMatcher, String> {
    let built = GlobBuilder::new(text).literal_separator(true).build();
    built.map(|g| g.compile_matcher()).map_err(|e| e.kind().to_string())
}

/// Splits a glob into its components; neighbouring literals are one.
fn parse(text: &str) -> Result<Vec<Part>, String> {
    if text.is_empty() {
        return Err("the path is empty".to_owned());
    }
    if text.ends_with('/') {
        return Err("the path names a directory; add `*`, or use the `directory` source".to_owned());
    }
    let mut parts: Vec<Part> = Vec::new();
    if text.starts_with('/') {
        parts.push(Part::Literal(PathBuf::from("/")));
    }
    for component in text.split('/').filter(|c| !c.is_empty()) {
        let part = if component == "**" {
            Part::Any
        } else if component.contains(['*', '?', '[', '{', '\\']) {
            Part::Glob(glob(component)?)
        } else {
            Part::Literal(PathBuf::from(component))
        };
        match (parts.last_mut(), part) {
            (Some(Part::Literal(before)), Part::Literal(more)) => before.push(more),
            (Some(Part::Any), Part::Any) => {}
            (_, part) => parts.push(part),
        }
    }
    if matches!(parts.last(), Some(Part::Any)) {
        parts.push(Part::Glob(glob("*")?));
    }
    Ok(parts)
}

/// Writes out alternatives that hold a `/`, which no single component can: `a/{b/c,d}` is `a/b/c` and `a/d`.
fn expand_braces(text: &str) -> Vec<String> {
    let mut todo = vec![text.to_owned()];
    let mut done = Vec::new();
    while let Some(text) = todo.pop() {
        match brace_with_slash(&text) {
            // A glob with that many alternatives is left to fail as it stands.
            Some((open, commas, close)) if todo.len() + done.len() < 1000 => {
                let starts = std::iter::once(open).chain(commas.iter().copied());
                let ends = commas.iter().copied().chain([close]);
                for (start, end) in starts.zip(ends) {
                    todo.push(format!("{}{}{}", &text[..open], &text[start + 1..end], &text[close + 1..]));
                }
            }
            _ => done.push(text),
        }
    }
    done
}

/// The outermost `{…}` that holds a `/`: where it opens, its commas, and where it closes.
fn brace_with_slash(text: &str) -> Option<(usize, Vec<usize>, usize)> {
    let (mut open, mut depth, mut commas, mut slash) = (0, 0u32, Vec::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            '{' => {
                if depth == 0 {
                    (open, slash) = (at, false);
                    commas.clear();
                }
                depth += 1;
            }
            '}' if depth > 0 => {
                depth -= 1;
                if depth == 0 && slash {
                    return Some((open, commas, at));
                }
            }
            ',' if depth == 1 => commas.push(at),
            '/' if depth > 0 => slash = true,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a.log", "b.txt", "x/c.log", "x/y/d.log", "x/y/d.log.gz", "z/e.log"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("x/loop")).unwrap();
        dir
    }

    fn scan(dir: &Path, globs: &[&str], exclude: &[&str]) -> Vec<String> {
        let globs: Vec<String> = globs.iter().map(|g| format!("{}/{g}", dir.display())).collect();
        let exclude: Vec<String> = exclude.iter().map(|&g| g.to_owned()).collect();
        let mut files: Vec<String> = Patterns::globs(&globs)
            .unwrap()
            .except(&exclude)
            .unwrap()
            .scan()
            .files
            .iter()
            .map(|f| f.strip_prefix(dir).unwrap().display().to_string())
            .collect();
        files.sort();
        files
    }

    #[test]
    fn globs_find_what_they_say() {
        let dir = tree();
        for (globs, exclude, expected) in [
            (&["*.log"][..], &[][..], &["a.log"][..]),
            (&["**/*.log"], &[], &["a.log", "x/c.log", "x/y/d.log", "z/e.log"]),
            (&["**"], &["*.gz", "*.txt"], &["a.log", "x/c.log", "x/y/d.log", "z/e.log"]),
            (&["*/*.log", "x/c.log", "a.log"], &[], &["a.log", "x/c.log", "z/e.log"]),
            (&["{x/y,z}/*.log"], &[], &["x/y/d.log", "z/e.log"]),
            (&["x/**/d.log*"], &["**/y/*.gz"], &["x/y/d.log"]),
            (&["[ab].*"], &[], &["a.log", "b.txt"]),
            (&["nothing/*.log"], &[], &[]),
        ] {
            assert_eq!(scan(dir.path(), globs, exclude), expected, "{globs:?}");
        }
    }

    #[test]
    fn a_directory_takes_names_by_glob_or_regex() {
        let dir = tree();
        let scan = |pattern: &str, recursive| {
            let at = dir.path().to_str().unwrap();
            Patterns::directory(at, pattern, recursive).unwrap().scan().files.len()
        };
        assert_eq!((scan("*.log", false), scan("*.log", true), scan("/^[cd][.]log$/", true)), (1, 4, 2));
        assert!(Patterns::directory("x", "/(/", false).is_err());
        assert!(Patterns::directory("x", "a/b", false).is_err());
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |g: &str| Patterns::globs(&["ok".to_owned(), g.to_owned()]).unwrap_err().0;
        assert_eq!((wrong("/var/log/"), wrong("a[b"), wrong("")), (1, 1, 1));
    }
}
