//! TOML text into nodes, with the byte range of every key and value. A text with several syntax errors gives
//! them all; what could be understood is returned nevertheless, so that its options are checked as well.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::diagnostics::Diagnostics;
use super::habits;
use super::node::{Entry, Node, Table, Value};
use super::origin::{Origin, Source};

/// Most syntax errors reported of one text: those after them are likely consequences.
const SYNTAX_ERRORS_MAX: usize = 20;

/// Parses a whole file. Always gives a table; whether there were errors, the diagnostics say.
pub fn parse_file(source: &Arc<Source>, diags: &mut Diagnostics) -> Node {
    let (document, mut errors) = DeTable::parse_recoverable(&source.text);
    let start = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    errors.sort_by_key(start);
    if !errors.is_empty()
        && let Some((language, beginning)) = habits::language(&source.text)
    {
        // What is wrong with each of its lines as TOML says nothing.
        diags.error(&source.at(0..0), format!("invalid TOML: this is {language} syntax")).hint(beginning);
        diags.incomplete(source);
        return Node::new(Value::Table(Table::default()), source.at(0..0));
    }
    for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
        let span = error.span().unwrap_or(0..0);
        let line = source.text.lines().nth(source.line_column(span.start).0.saturating_sub(1));
        let remedy = line.and_then(|line| habits::remedy(line, error.message()));
        let message = match &remedy {
            // The parser guesses what the text was to be: a boolean, for `type = file`.
            Some(remedy) if remedy.contains("quotes: ") => "text without quotes".to_owned(),
            _ => plain(error.message()),
        };
        let found = diags.error(&source.at(span), format!("invalid TOML: {message}"));
        if let Some(remedy) = remedy {
            found.hint(remedy);
        }
    }
    if !errors.is_empty() {
        diags.incomplete(source);
    }
    let broken_lines = errors.iter().map(|e| source.line_column(start(e)).0).collect();
    let mut reading = Reading { source, base: 0, broken_lines, diags };
    let table = reading.table(document.into_inner());
    Node::new(Value::Table(table), source.at(0..0))
}

/// Parses the text at `origin`, such as a variable's value, as one TOML value; `None` if it is none.
pub fn parse_value(text: &str, origin: &Origin) -> Option<Node> {
    let source = origin.source()?;
    let value = DeValue::parse(text).ok()?;
    let mut diags = Diagnostics::new();
    let mut reading =
        Reading { source, base: origin.span().start, broken_lines: Vec::new(), diags: &mut diags };
    let node = reading.node(value);
    (!diags.has_errors()).then_some(node)
}

/// Whether the text is a boolean or a number in TOML.
pub fn is_scalar(text: &str) -> bool {
    use DeValue::{Boolean, Float, Integer};
    DeValue::parse(text).is_ok_and(|value| matches!(value.get_ref(), Boolean(_) | Float(_) | Integer(_)))
}

/// The parser's message as ours are: lower case, one line.
fn plain(message: &str) -> String {
    message.trim().replace('\n', ", ")
}

struct Reading<'a> {
    source: &'a Arc<Source>,
    base: usize,
    /// Lines with a syntax error: what the parser made of them is a guess, and left out.
    broken_lines: Vec<usize>,
    diags: &'a mut Diagnostics,
}

impl Reading<'_> {
    fn origin(&self, span: &Range<usize>) -> Origin {
        self.source.at(self.base + span.start..self.base + span.end)
    }

    fn is_broken(&self, span: &Range<usize>) -> bool {
        !self.broken_lines.is_empty() && self.broken_lines.contains(&self.source.line_column(span.start).0)
    }

    fn table(&mut self, table: DeTable<'_>) -> Table {
        // The parser sorts by key; the order of the text says more to the user.
        let mut entries: Vec<(Spanned<DeString<'_>>, Spanned<DeValue<'_>>)> = table.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut out = Table::default();
        for (key, value) in entries {
            let key_origin = self.origin(&key.span());
            if self.is_broken(&key.span()) || self.is_broken(&value.span()) {
                continue;
            }
            let node = self.node(value);
            // Not `insert`: the parser has seen to it that keys are distinct.
            out.entries_mut().push(Entry { key: key.into_inner().into_owned(), key_origin, node });
        }
        out
    }

    fn node(&mut self, value: Spanned<DeValue<'_>>) -> Node {
        let origin = self.origin(&value.span());
        let value = match value.into_inner() {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Integer(n) => {
                let parsed = i64::from_str_radix(n.as_str(), n.radix());
                if parsed.is_err() {
                    let why = "integer out of range: 64 bits with a sign is the most";
                    self.diags.error(&origin, format!("invalid TOML: {why}"));
                }
                Value::Int(parsed.unwrap_or_default())
            }
            DeValue::Float(x) => Value::Float(x.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(b) => Value::Bool(b),
            DeValue::Datetime(date) => Value::Datetime(date.to_string()),
            DeValue::Array(items) => Value::Array(items.into_iter().map(|item| self.node(item)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node::new(value, origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Node, Vec<String>) {
        let mut diags = Diagnostics::new();
        let node = parse_file(&Source::file("t.toml", text), &mut diags);
        (node, diags.items().iter().map(|d| format!("{}: {}", d.origin, d.message)).collect())
    }

    #[test]
    fn keys_and_values_know_their_place() {
        let text = "b = 1\na = \"x\"\n\n[server]\nlisten = \"h:1\"\n[[pipelines]]\nname = 'p'\n[[pipelines.sources]]\ntype = \"f\"\n[[pipelines]]\nf = [1, 2.5]\n";
        let (node, errors) = parse(text);
        assert_eq!(errors, [""; 0]);
        let keys: Vec<_> = node.as_table().unwrap().entries().iter().map(|e| e.key.as_str()).collect();
        assert_eq!(keys, ["b", "a", "server", "pipelines"]);
        assert_eq!(node.get("a").unwrap().origin.to_string(), "t.toml:2:5");
        let pipelines = node.get("pipelines").unwrap().as_array().unwrap();
        let quoted = |node: &Node| text[node.origin.span()].to_owned();
        assert_eq!(quoted(node.get("server").unwrap()), "[server]");
        assert_eq!(quoted(&pipelines[0]), "[[pipelines]]");
        assert_eq!(pipelines[1].origin.to_string(), "t.toml:10:1");
        let source = &pipelines[0].get("sources").unwrap().as_array().unwrap()[0];
        assert_eq!(quoted(source), "[[pipelines.sources]]");
        assert_eq!(quoted(&pipelines[1].get("f").unwrap().as_array().unwrap()[1]), "2.5");
    }

    #[test]
    fn all_syntax_errors_are_reported() {
        let (node, errors) = parse("a = \nb = 1\nc = [1, \nd = \"x\n");
        assert!(errors.len() >= 2, "{errors:?}");
        assert_eq!(
            errors[0],
            "t.toml:1:5: invalid TOML: string values must be quoted, expected literal string"
        );
        assert_eq!(node.get("b"), Some(&Node::from(1)));
    }

    #[test]
    fn numbers_in_every_notation() {
        let (node, errors) = parse("a = 0xff\nb = 1_000\nc = -0b1\nd = 1e3\ne = inf\nf = -5\ng = 1979-05-27");
        drop(errors);
        assert_eq!(node.get("a"), Some(&Node::from(255)));
        assert_eq!(node.get("b"), Some(&Node::from(1000)));
        assert_eq!(node.get("d"), Some(&Node::from(1000.0)));
        assert_eq!(node.get("e"), Some(&Node::from(f64::INFINITY)));
        assert_eq!(node.get("f"), Some(&Node::from(-5)));
        assert_eq!(node.get("g").unwrap().kind(), "a date");
        let (_, errors) = parse("a = 99999999999999999999");
        assert_eq!(errors.len(), 1, "{errors:?}");
    }

    #[test]
    fn one_value_within_a_variable() {
        let variable = Source::variable("WEIR_X", "[1, \"b\"]");
        let node = parse_value("[1, \"b\"]", &variable.whole()).unwrap();
        assert_eq!(node.as_array().unwrap()[1].origin.span(), 11..14);
        assert_eq!(parse_value("a b", &variable.whole()), None);
    }

    #[test]
    fn hostile_depth_is_an_error() {
        for text in [
            format!("a = {}", "[".repeat(100_000)),
            format!("a = {}", "{a=".repeat(100_000)),
            format!("{}a = 1", "a.".repeat(100_000)),
            format!("[{}a]", "a.".repeat(100_000)),
            format!("x = {{ {}a = 1 }}", "a.".repeat(100_000)),
        ] {
            let (_, errors) = parse(&text);
            assert!(!errors.is_empty() && errors.len() <= SYNTAX_ERRORS_MAX, "{errors:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC*", toml in "([a-c\\[\\]{}=.\",'\n #0-9\\\\é-]|\"\"\"|= 1\n|\\[\\[){0,60}") {
            for text in [text, toml] {
                let (node, _) = parse(&text);
                crate::config::RootOptions::from_tree(&node, &mut Diagnostics::new());
            }
        }
    }
}
