//! `weir config`: the configuration as it takes effect, defaults included, each value with where it came from.
//! The output is TOML that loads to the same configuration, but for secrets, which are shown as stars.

use std::fmt::Write;

use super::component::Catalog;
use super::field::{Field, Shape};
use super::from_node::{inline, inline_table};
use super::interpolate::escape;
use super::macros::Options;
use super::node::{Node, Value};
use super::origin::{Origin, SourceKind};
use super::path::{quote_key, quote_string};
use super::root::RootOptions;
use super::target::Names;

/// The tree with all defaults as TOML; after each value, where it came from.
pub fn render_effective(tree: &Node, catalog: &dyn Catalog) -> String {
    // What is filled in by now must not be filled in again when the output is loaded.
    let mut tree = tree.clone();
    escape(&mut tree);
    let mut page = Page { out: String::new(), names: Names { tree: &tree, catalog } };
    page.table(&[], &RootOptions::fields(), Some(&tree));
    page.out
}

struct Page<'a> {
    out: String,
    names: Names<'a>,
}

impl Page<'_> {
    /// The scalars of a table, then the tables within it under their own headers.
    fn table(&mut self, at: &[String], fields: &[Field], node: Option<&Node>) {
        let mut below = Vec::new();
        for field in fields {
            let value = node.and_then(|n| n.get(field.name));
            match (value, self.names.fields(&field.shape, value)) {
                (None, Some(inner)) if field.default.is_some() => {
                    below.push((field.name, Below::Table(inner, None)))
                }
                (Some(v), Some(inner)) if v.as_table().is_some() && !matches!(field.shape, Shape::Secret) => {
                    below.push((field.name, Below::Table(inner, Some(v))));
                }
                (Some(v), _) => match (&field.shape, v.as_array()) {
                    (Shape::List(item), Some(items)) if is_section(item) && !items.is_empty() => {
                        below.push((field.name, Below::Array(item, items)));
                    }
                    _ => self.value(field.name, v, &field.shape),
                },
                (None, _) => {
                    if let Some(default) = &field.default {
                        self.line(field.name, default, "default");
                    }
                }
            }
        }
        let known = |key: &str| fields.iter().any(|f| f.name == key);
        for entry in node.and_then(Node::as_table).map(|t| t.entries()).unwrap_or_default() {
            if !known(&entry.key) {
                // It may be a misspelt secret.
                let shape = if looks_secret(&entry.key) { Shape::Secret } else { Shape::Any };
                self.value(&entry.key, &entry.node, &shape);
            }
        }
        for (name, part) in below {
            let mut path = at.to_vec();
            path.push(quote_key(name));
            match part {
                Below::Table(inner, node) => {
                    self.header(&format!("[{}]", path.join(".")), node);
                    self.table(&path, &inner, node);
                }
                Below::Array(item, items) => {
                    for node in items {
                        let inner = self.names.fields(item, Some(node)).unwrap_or_default();
                        self.header(&format!("[[{}]]", path.join(".")), Some(node));
                        self.table(&path, &inner, Some(node));
                    }
                }
            }
        }
    }

    fn header(&mut self, header: &str, node: Option<&Node>) {
        let blank = if self.out.is_empty() { "" } else { "\n" };
        let origin = node.map(origin_text).filter(|text| text != "default");
        let comment = origin.map(|text| format!("  # {text}")).unwrap_or_default();
        writeln!(self.out, "{blank}{header}{comment}").expect("writing to a string cannot fail");
    }

    /// A value on one line; an array whose elements come from several places has one line for each.
    fn value(&mut self, key: &str, node: &Node, shape: &Shape) {
        let item_shape = match shape {
            Shape::List(item) | Shape::OneOrMany(item) => item,
            other => other,
        };
        let items = node.as_array().unwrap_or_default();
        if items.iter().all(|item| same_text(&item.origin, &node.origin)) {
            self.line(key, &literal(node, shape), &origin_text(node));
            return;
        }
        let mut text = format!("{} = [\n", quote_key(key));
        for item in items {
            writeln!(text, "  {},  # {}", literal(item, item_shape), origin_text(item))
                .expect("writing to a string cannot fail");
        }
        text.push_str("]\n");
        self.out.push_str(&text);
    }

    fn line(&mut self, key: &str, value: &str, origin: &str) {
        writeln!(self.out, "{} = {value}  # {origin}", quote_key(key))
            .expect("writing to a string cannot fail");
    }
}

enum Below<'n> {
    Table(Vec<Field>, Option<&'n Node>),
    Array(&'n Shape, &'n [Node]),
}

/// Whether the name of an option that nobody declared suggests a secret.
fn looks_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["secret", "pass", "token", "key", "auth", "cred"].iter().any(|word| key.contains(word))
}

/// Whether an array of such is written with `[[…]]` headers.
fn is_section(shape: &Shape) -> bool {
    matches!(shape, Shape::Section(_) | Shape::Table(_))
}

fn same_text(a: &Origin, b: &Origin) -> bool {
    match (a.source(), b.source()) {
        (Some(a), Some(b)) => std::sync::Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// The origin as a comment: on one line, and saying so where a reference was filled in.
fn origin_text(node: &Node) -> String {
    let from_file = node.origin.source().is_some_and(|s| s.kind == SourceKind::File);
    let filled = if node.loose && from_file { ", with variables filled in" } else { "" };
    format!("{}{filled}", node.origin).replace(|c: char| c.is_control(), " ")
}

/// A value as a TOML literal of its shape, secrets hidden.
fn literal(node: &Node, shape: &Shape) -> String {
    match (&node.value, shape) {
        (Value::Table(_), Shape::Secret) => inline(node),
        (_, Shape::Secret) => "\"***\"".to_owned(),
        (
            Value::String(text),
            Shape::Bool | Shape::Integer { .. } | Shape::CountOr { .. } | Shape::Number,
        ) if node.loose => {
            let plain = super::toml_file::is_scalar(text.trim());
            if plain { text.trim().to_owned() } else { quote_string(text) }
        }
        (Value::Array(items), Shape::List(item) | Shape::OneOrMany(item)) => {
            format!("[{}]", items.iter().map(|i| literal(i, item)).collect::<Vec<_>>().join(", "))
        }
        (Value::Table(table), Shape::Table(_) | Shape::Map(_) | Shape::Any | Shape::Section(_)) => {
            let fields = match shape {
                Shape::Table(declared) => (declared.fields)(),
                _ => Vec::new(),
            };
            let shape_of = |key: &str| match shape {
                Shape::Map(item) => (**item).clone(),
                _ => fields.iter().find(|f| f.name == key).map_or(Shape::Any, |f| f.shape.clone()),
            };
            let entries =
                table.entries().iter().map(|e| (e.key.as_str(), literal(&e.node, &shape_of(&e.key))));
            inline_table(&entries.collect::<Vec<_>>())
        }
        _ => inline(node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostics::Diagnostics;
    use crate::config::layers::{Override, apply_overrides};
    use crate::config::tests::TestCatalog;
    use crate::config::{Source, toml_file::parse_file};

    const FILE: &str = r#"
state_dir = "x"
unknown = { a = 1 }
[logging]
level = "warn"
[[pipelines]]
name = "a"
rate_limit = { events_per_second = 5 }
[[pipelines.sources]]
type = "file"
path = ["a"]
multiline.start = 'b"'
labels = { "x y" = 1 }
[[pipelines.sinks]]
type = "http"
token = "hunter2"
[[pipelines.sinks.filters]]
type = "include"
patterns = ["x"]
[[pipelines.sinks]]
type = "http"
token = { file = "/run/x" }
[[pipelines.sinks]]
type = "nothing"
extra = [{ b = 2 }]
api_token = "hunter2"
"#;

    fn tree(text: &str, overrides: &[(&str, &str)]) -> Node {
        let mut diags = Diagnostics::new();
        let mut tree = parse_file(&Source::file("p.toml", text), &mut diags);
        let overrides = overrides.iter().map(|(p, v)| Override { path: (*p).into(), value: (*v).into() });
        apply_overrides(&mut tree, &overrides.collect::<Vec<_>>(), &TestCatalog, &mut diags);
        assert!(!diags.has_errors(), "{}", diags.render_human(false));
        tree
    }

    #[test]
    fn every_value_says_where_it_came_from() {
        let flags = [
            ("server.enabled", "false"),
            ("pipelines.0.sources.0.path.1", "b"),
            ("pipelines.0.sources.0.ratio", "0.25"),
        ];
        let shown = render_effective(&tree(FILE, &flags), &TestCatalog);
        assert!(!shown.contains("hunter2"));
        insta::assert_snapshot!(shown);
    }

    proptest::proptest! {
        #[test]
        fn whatever_was_loaded_shows_as_toml(text in "((a|name|token|\\[logging\\]\n|\\[\\[pipelines(\\.sinks)?\\]\\]\n)( ?= ?(1|nan|\"\\$\\{A\\}\"|'é\"'|\\[1, \\{ b = -inf \\}\\]|1979-05-27)\n)?){0,8}") {
            let tree = parse_file(&Source::file("a\nb", text), &mut Diagnostics::new());
            let shown = render_effective(&tree, &TestCatalog);
            let mut diags = Diagnostics::new();
            parse_file(&Source::file("shown", shown.as_str()), &mut diags);
            proptest::prop_assert!(!diags.has_errors(), "{}\n{}", shown, diags.render_human(false));
        }
    }

    #[test]
    fn dollars_are_shown_as_they_have_to_be_written() {
        use crate::config::Environment;
        use crate::config::interpolate::interpolate;
        for (written, meant) in [("$${A}", "${A}"), ("$$$$", "$$"), ("a$", "a$"), ("$$$${A}$1", "$${A}$1")] {
            let load = |text: &str| {
                let mut tree = tree(text, &[]);
                let none = Environment::from_pairs::<String, String>([]);
                let mut diags = Diagnostics::new();
                interpolate(&mut tree, &none, &mut Default::default(), &mut diags);
                assert!(!diags.has_errors(), "{text}");
                tree
            };
            let first = load(&format!("state_dir = '{written}'"));
            let again = load(&render_effective(&first, &TestCatalog));
            assert_eq!(first.get("state_dir").and_then(Node::as_str), Some(meant));
            assert_eq!(again.get("state_dir").and_then(Node::as_str), Some(meant));
        }
    }

    #[test]
    fn the_output_loads_to_itself() {
        for text in ["", FILE] {
            let first = render_effective(&tree(text, &[]), &TestCatalog);
            let second = render_effective(&tree(&first, &[]), &TestCatalog);
            let plain = |text: &str| {
                text.lines().map(|l| l.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>()
            };
            assert_eq!(plain(&first), plain(&second));
        }
    }
}
