//! The options of `[[tests]]`, which `weir test` runs: lines that go in somewhere, and what has to come out, or be
//! dropped, at any point. What `at` names is checked by the engine, which knows the pipelines.

use std::time::Duration;

use super::diagnostics::Diagnostics;
use super::field::Shape;
use super::from_node::{FromNode, wrong_form, wrong_type};
use super::node::{Node, Value};
use super::options;
use super::path::{Path, quote_string};
use super::types::Located;

options! {
    /// A test of the pipelines, run by `weir test`. Nothing is read or sent: `inputs` enter the real filters, under
    /// a clock of the test's own.
    pub struct TestOptions {
        /// What it shows, in a few words.
        pub name: Located<String>,
        /// The time when it begins, such as `2026-11-21T10:00:00Z`. It passes only where an input says `after`.
        pub now: TestTime = TestTime::default(),
        /// The lines that go in, in this order.
        pub inputs: Located<Vec<TestInputOptions>>,
        /// What comes out at some point.
        pub outputs: Vec<TestOutputOptions> = Vec::new(),
        /// What is dropped or filtered away at some point.
        pub drops: Vec<TestDropOptions> = Vec::new(),
    }
}

options! {
    /// Lines that go into a pipeline.
    pub struct TestInputOptions {
        /// Where: a pipeline (`app`), a source (`app.sources.0`), or straight before a filter (`app.filters.1`,
        /// `app.filters.level`, `app.sinks.0.filters.0`) or a sink (`app.sinks.0`). Default: the only pipeline.
        pub at: Option<Located<String>> = None,
        /// The lines; each is one event, also one that holds line breaks.
        pub lines: Option<Located<Vec<String>>> = None,
        /// The same as one text, with a line break after each.
        pub text: Option<String> = None,
        /// The same from a file; a relative path begins at the directory of the configuration.
        pub file: Option<Located<String>> = None,
        /// What the events have as `source`. Default: the type of the source.
        pub source: Option<String> = None,
        /// How much time passes before these lines.
        #[range(Duration::ZERO..=Duration::from_secs(365 * 86_400))]
        pub after: Duration = Duration::ZERO,
    }
}

options! {
    /// What comes out at some point; everything that is given has to hold.
    pub struct TestOutputOptions {
        /// Where: behind a filter, or at a sink, where lines are as the sink writes them; a pipeline's name stands
        /// for what its filters let through, `app.rate_limit` for what its limit does. Default: the only sink.
        pub at: Option<Located<String>> = None,
        /// Exactly these lines, in this order.
        pub lines: Option<Vec<String>> = None,
        /// The same as one text, with a line break after each.
        pub text: Option<String> = None,
        /// The same from a file; a relative path begins at the directory of the configuration.
        pub file: Option<Located<String>> = None,
        /// As many lines as these tables, each a JSON object that has these members, and maybe others.
        pub json: Option<Vec<Node>> = None,
        /// Each of these texts is in some line.
        pub contains: Vec<String> = Vec::new(),
        /// None of these texts is in any line.
        pub lacks: Vec<String> = Vec::new(),
        /// Each of these regular expressions matches some line.
        pub matches: Vec<Located<String>> = Vec::new(),
        /// How many lines.
        #[range(0..=10_000_000)]
        pub count: Option<u64> = None,
        /// Nothing comes out.
        pub none: bool = false,
    }
}

options! {
    /// What is dropped or filtered away at some point; everything that is given has to hold.
    pub struct TestDropOptions {
        /// Where: a filter, `app.rate_limit`, a sink (its `when` and its own filters), or a pipeline (its limit and its
        /// filters). Default: the only pipeline.
        pub at: Option<Located<String>> = None,
        /// Exactly these lines, in this order, as they came in.
        pub lines: Option<Vec<String>> = None,
        /// Each of these texts is in some line.
        pub contains: Vec<String> = Vec::new(),
        /// How many lines.
        #[range(0..=10_000_000)]
        pub count: Option<u64> = None,
        /// Nothing is dropped there.
        pub none: bool = false,
        /// Only those that go for this reason: `filtered`, `throttled`, `rate_limit`, `oversize` or `fault`.
        pub reason: Option<Located<String>> = None,
    }
}

/// A point of time, written as a string or as TOML's own form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestTime(pub jiff::Timestamp);

/// When tests begin that do not say it: always the same moment, 2026-01-01T00:00:00Z.
impl Default for TestTime {
    fn default() -> TestTime {
        TestTime(jiff::Timestamp::constant(1_767_225_600, 0))
    }
}

impl FromNode for TestTime {
    fn shape() -> Shape {
        Shape::Text("a time like \"2026-11-21T10:00:00Z\"")
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<TestTime> {
        let (Value::String(text) | Value::Datetime(text)) = &node.value else {
            wrong_type(node, at, &Self::shape().expected(), diags);
            return None;
        };
        match text.parse() {
            Ok(time) => Some(TestTime(time)),
            Err(_) => {
                let why = format!("{text:?} is not a time with its offset from UTC");
                wrong_form(node, at, &why, &Self::shape().expected(), diags);
                None
            }
        }
    }

    fn display(&self) -> String {
        quote_string(&self.0.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RootOptions, Source, toml_file::parse_file};

    fn read(text: &str) -> (Option<RootOptions>, Vec<String>) {
        let mut diags = Diagnostics::new();
        let tree = parse_file(&Source::file("t.toml", text), &mut diags);
        let root = RootOptions::from_tree(&tree, &mut diags);
        (root, diags.items().iter().map(|d| format!("{} {}", d.origin, d.message)).collect())
    }

    #[test]
    fn a_test_is_read_with_its_defaults() {
        let (root, errors) = read(
            "[[tests]]\nname = \"n\"\nnow = 2026-11-21T10:00:00Z\ninputs = [{ lines = [\"a\"], after = \"30s\" }]\n\
             [[tests]]\nname = \"m\"\ninputs = []\n[[tests.outputs]]\nat = \"app\"\njson = [{ level = \"x\" }]\n",
        );
        assert_eq!(errors, [""; 0]);
        let tests = root.unwrap().tests;
        assert_eq!(tests[0].now.0.to_string(), "2026-11-21T10:00:00Z");
        assert_eq!(tests[0].inputs[0].after, Duration::from_secs(30));
        assert_eq!(tests[1].now.display(), "\"2026-01-01T00:00:00Z\"");
        assert_eq!(tests[1].outputs[0].json.as_ref().unwrap().len(), 1);
    }

    #[test]
    fn times_and_unknown_options_are_complained_about() {
        let (root, errors) =
            read("[[tests]]\nname = \"n\"\nnow = \"10:00\"\ninputs = [{ line = [\"a\"] }]\n");
        assert!(root.is_none());
        assert!(errors[0].starts_with("t.toml:3:7 ") && errors[0].contains("is not a time"), "{errors:?}");
        assert!(errors[1].starts_with("t.toml:4:13 unknown option `line`"), "{errors:?}");
    }
}
