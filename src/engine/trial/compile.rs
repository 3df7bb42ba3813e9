//! `[[tests]]` as they are written, checked and made ready to run: names become places, patterns are compiled,
//! and what contradicts itself is complained about. No I/O; files are read when a test runs.

use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use regex_automata::{meta, util::syntax};

use super::point::{Point, Points, Spot};
use crate::config::{
    Diagnostics, Located, Node, Origin, Path, TestDropOptions, TestInputOptions, TestOptions,
    TestOutputOptions,
};

/// Why a line may be gone, as `reason` has it.
pub(super) const REASONS: [&str; 5] = ["filtered", "throttled", "rate_limit", "oversize", "fault"];

/// Largest compiled pattern, in bytes.
const PROGRAM_BYTES_MAX: usize = 8 << 20;

/// A test, ready to run.
#[derive(Debug, Clone)]
pub struct Trial {
    /// What it shows.
    pub name: String,
    /// Where it is written.
    pub origin: Origin,
    /// Wall time when it begins, in nanoseconds since the Unix epoch.
    pub(super) begins: i64,
    pub(super) inputs: Vec<Input>,
    pub(super) expected: Vec<Expected>,
}

/// Lines that go in.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) point: Point,
    pub(super) lines: Lines,
    pub(super) source: Option<String>,
    pub(super) after: Duration,
}

/// Lines, or where they are.
#[derive(Debug, Clone)]
pub(super) enum Lines {
    Inline(Vec<Vec<u8>>),
    File(PathBuf, Origin),
}

/// What has to be at some point.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) at: String,
    pub(super) point: Point,
    pub(super) origin: Origin,
    pub(super) flow: Flow,
    pub(super) lines: Option<Lines>,
    pub(super) json: Option<Vec<serde_json::Value>>,
    pub(super) contains: Vec<String>,
    pub(super) lacks: Vec<String>,
    pub(super) matches: Vec<(String, meta::Regex)>,
    pub(super) count: Option<u64>,
}

/// Which lines of a point are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flow {
    /// Those that come out.
    Out,
    /// Those that are dropped, for one reason or for any.
    Dropped(Option<String>),
}

/// Compiles the tests of a configuration. Those with mistakes are left out, after complaints.
pub(in crate::engine) fn compile(
    tests: &[TestOptions],
    tree: &Node,
    diagnostics: &mut Diagnostics,
) -> Vec<Trial> {
    let points = Points::of(tree);
    let nodes = tree.get("tests").and_then(Node::as_array).unwrap_or_default();
    let read = |(i, test): (usize, &TestOptions)| {
        let origin = nodes.get(i).map_or_else(|| test.name.origin.clone(), |node| node.origin.clone());
        Compiler { points: &points, at: Path::root().key("tests").index(i), origin, diagnostics }.test(test)
    };
    tests.iter().enumerate().filter_map(read).collect()
}

struct Compiler<'a> {
    points: &'a Points,
    at: Path,
    origin: Origin,
    diagnostics: &'a mut Diagnostics,
}

impl Compiler<'_> {
    fn test(&mut self, test: &TestOptions) -> Option<Trial> {
        let before = self.diagnostics.error_count();
        if test.inputs.is_empty() {
            self.error(&test.inputs.origin.clone(), "nothing goes in: `inputs` is empty", "inputs")
                .hint("add inputs = [{ lines = [\"…\"] }]");
        }
        if test.outputs.is_empty() && test.drops.is_empty() {
            let origin = self.origin.clone();
            self.error(&origin, "the test expects nothing: it has neither `outputs` nor `drops`", "outputs")
                .hint("add outputs = [{ lines = [\"…\"] }]");
        }
        let inputs = test.inputs.iter().map(|input| self.input(input)).collect::<Vec<_>>();
        let mut expected: Vec<_> = test.outputs.iter().map(|output| self.output(output)).collect();
        expected.extend(test.drops.iter().map(|dropped| self.dropped(dropped)));
        if self.diagnostics.error_count() > before {
            return None;
        }
        Some(Trial {
            name: test.name.value.clone(),
            origin: self.origin.clone(),
            begins: i64::try_from(test.now.0.as_nanosecond()).unwrap_or(i64::MAX),
            inputs: inputs.into_iter().collect::<Option<_>>()?,
            expected: expected.into_iter().collect::<Option<_>>()?,
        })
    }

    fn error(
        &mut self,
        origin: &Origin,
        message: impl Into<String>,
        key: &str,
    ) -> &mut crate::config::Diagnostic {
        let path = self.at.key(key);
        self.diagnostics.error(origin, message).path(&path)
    }

    fn input(&mut self, input: &TestInputOptions) -> Option<Input> {
        let point = self.point(input.at.as_ref(), self.points.only_pipeline(), "inputs", "pipelines");
        let lines = input.lines.as_ref().map(|lines| &lines.value);
        let lines = self.lines(lines, input.text.as_ref(), input.file.as_ref(), "inputs");
        let Some(lines) = lines else {
            let origin = input.at.as_ref().map_or_else(|| self.origin.clone(), |at| at.origin.clone());
            self.error(&origin, "no lines go in: none of `lines`, `text` and `file` is given", "inputs");
            return None;
        };
        Some(Input { point: point?, lines, source: input.source.clone(), after: input.after })
    }

    fn output(&mut self, output: &TestOutputOptions) -> Option<Expected> {
        let point = self.point(output.at.as_ref(), self.points.only_sink(), "outputs", "sinks");
        let origin = output.at.as_ref().map_or_else(|| self.origin.clone(), |at| at.origin.clone());
        let lines = self.lines(output.lines.as_ref(), output.text.as_ref(), output.file.as_ref(), "outputs");
        let json = output.json.as_ref().map(|nodes| nodes.iter().map(Node::to_json).collect::<Vec<_>>());
        for node in output.json.iter().flatten().filter(|node| node.as_table().is_none()) {
            self.error(&node.origin, "`json` takes tables: each is held against one line", "outputs");
        }
        let matches = output.matches.iter().filter_map(|pattern| self.pattern(pattern)).collect();
        let some = !(output.contains.is_empty() && output.lacks.is_empty() && output.matches.is_empty());
        let exact = usize::from(lines.is_some()) + usize::from(json.is_some());
        self.agree(&origin, "outputs", exact, some, output.count, output.none);
        Some(Expected {
            at: self.points.name(point?),
            point: point?,
            origin,
            flow: Flow::Out,
            lines,
            json,
            contains: output.contains.clone(),
            lacks: output.lacks.clone(),
            matches,
            count: output.count.or(output.none.then_some(0)),
        })
    }

    fn dropped(&mut self, dropped: &TestDropOptions) -> Option<Expected> {
        let point = self.point(dropped.at.as_ref(), self.points.only_pipeline(), "drops", "pipelines");
        let origin = dropped.at.as_ref().map_or_else(|| self.origin.clone(), |at| at.origin.clone());
        if let Some(Point { spot: Spot::Source(_), .. }) = point {
            self.error(&origin, "a source drops nothing in a test: lines enter behind it", "drops");
        }
        if let Some(reason) = dropped.reason.as_ref().filter(|r| !REASONS.contains(&r.value.as_str())) {
            self.error(&reason.origin, format!("unknown reason `{reason}`"), "drops")
                .choices(reason, REASONS);
        }
        let exact = usize::from(dropped.lines.is_some());
        self.agree(&origin, "drops", exact, !dropped.contains.is_empty(), dropped.count, dropped.none);
        Some(Expected {
            at: self.points.name(point?),
            point: point?,
            origin,
            flow: Flow::Dropped(dropped.reason.as_ref().map(|r| r.value.clone())),
            lines: dropped.lines.as_ref().map(|lines| Lines::Inline(bytes(lines))),
            json: None,
            contains: dropped.contains.clone(),
            lacks: Vec::new(),
            matches: Vec::new(),
            count: dropped.count.or(dropped.none.then_some(0)),
        })
    }

    fn point(
        &mut self,
        at: Option<&Located<String>>,
        only: Option<Point>,
        key: &str,
        of: &str,
    ) -> Option<Point> {
        if let Some(at) = at {
            return self.points.find(at, self.diagnostics);
        }
        if only.is_none() {
            let origin = self.origin.clone();
            self.error(&origin, format!("`at` is missing in `{key}`: there are several {of}"), key)
                .hint("say where, as in at = \"app.sinks.0\"");
        }
        only
    }

    /// At most one of the three.
    fn lines(
        &mut self,
        lines: Option<&Vec<String>>,
        text: Option<&String>,
        file: Option<&Located<String>>,
        key: &str,
    ) -> Option<Lines> {
        let given = [lines.is_some(), text.is_some(), file.is_some()].iter().filter(|given| **given).count();
        if given > 1 {
            let origin = self.origin.clone();
            self.error(&origin, format!("`lines`, `text` and `file` exclude each other in `{key}`"), key);
        }
        let inline = lines.map(|lines| bytes(lines)).or_else(|| text.map(|text| split(text.as_bytes())));
        let file = || file.map(|file| Lines::File(beside(&file.origin, &file.value), file.origin.clone()));
        inline.map(Lines::Inline).or_else(file)
    }

    fn pattern(&mut self, pattern: &Located<String>) -> Option<(String, meta::Regex)> {
        let syntax = syntax::Config::new().utf8(false);
        let config = meta::Config::new().utf8_empty(false).nfa_size_limit(Some(PROGRAM_BYTES_MAX));
        match meta::Builder::new().syntax(syntax).configure(config).build(&pattern.value) {
            Ok(regex) => Some((pattern.value.clone(), regex)),
            Err(e) => {
                let why = match e.syntax_error() {
                    Some(regex_syntax::Error::Parse(e)) => e.kind().to_string(),
                    Some(regex_syntax::Error::Translate(e)) => e.kind().to_string(),
                    _ => e.to_string(),
                };
                self.error(&pattern.origin, format!("invalid regular expression: {why}"), "outputs");
                None
            }
        }
    }

    /// An expectation expects something, and not two things that cannot both be.
    fn agree(
        &mut self,
        origin: &Origin,
        key: &str,
        exact: usize,
        some: bool,
        count: Option<u64>,
        none: bool,
    ) {
        if exact == 0 && !some && count.is_none() && !none {
            self.error(origin, format!("nothing is expected here: `{key}` says only where"), key)
                .hint("add lines, contains, count or none = true");
        }
        if exact > 1 {
            self.error(origin, "`json` and `lines` exclude each other: both say all that comes out", key);
        }
        if none && (exact > 0 || some || count.is_some_and(|n| n > 0)) {
            self.error(origin, "`none` excludes all else: nothing is there to be looked at", key);
        }
    }
}

fn bytes(lines: &[String]) -> Vec<Vec<u8>> {
    lines.iter().map(|line| line.clone().into_bytes()).collect()
}

/// The lines of a text; a last line break ends the last line.
pub(super) fn split(text: &[u8]) -> Vec<Vec<u8>> {
    if text.is_empty() {
        return Vec::new();
    }
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    body.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec()).collect()
}

/// A path as the file that names it means it.
fn beside(origin: &Origin, path: &str) -> PathBuf {
    let parent =
        origin.file_position().and_then(|(file, _, _)| FilePath::new(file).parent().map(FilePath::to_owned));
    parent.unwrap_or_default().join(path)
}
