//! Queries as options: parsed where the configuration is read, so that a mistake is shown at its place inside the
//! string.

use crate::config::from_node::wrong_type;
use crate::config::{Diagnostics, FromNode, Located, Node, Path, Shape};
use crate::query::Query;

/// An option that holds a query.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryOption(pub Query);

impl FromNode for QueryOption {
    fn shape() -> Shape {
        String::shape()
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<QueryOption> {
        let Some(text) = node.as_str() else {
            wrong_type(node, at, "a query in quotes", diags);
            return None;
        };
        let place = Located { value: text.to_owned(), origin: node.origin.clone(), path: at.clone() };
        let query = match Query::parse(text) {
            Ok(query) => query,
            Err(wrong) => {
                let message = format!("invalid query: {}", wrong.message);
                let found = diags.error(&place.origin_of(wrong.span), message).path(at);
                if let Some(expected) = wrong.expected {
                    found.label(format!("expected {expected}"));
                }
                if let Some(hint) = wrong.hint {
                    found.hint(hint);
                }
                return None;
            }
        };
        for note in query.notes() {
            diags.warning(&place.origin_of(note.span.clone()), note.message.clone()).path(at);
        }
        Some(QueryOption(query))
    }

    fn display(&self) -> String {
        self.0.text().to_owned().display()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    #[test]
    fn a_mistake_is_shown_inside_the_string() {
        for (text, column) in [
            ("query = 'level:loud'", 16),
            (r#"query = "level:loud""#, 16),
            (r#"query = "\"é \\ b\" level:loud""#, 27),
            ("query = \"\"\"\nlevel:loud\"\"\"", 7),
        ] {
            let mut diags = Diagnostics::new();
            let tree = crate::config::toml_file::parse_file(&Source::file("f.toml", text), &mut diags);
            let at = Path::root().key("query");
            let read = QueryOption::from_node(tree.get("query").unwrap(), &at, &mut diags);
            assert_eq!(read, None);
            let found = &diags.items()[0];
            assert_eq!(found.message, "invalid query: unknown level: `loud`");
            assert_eq!(found.origin.file_position().map(|(_, _, column)| column), Some(column), "{text}");
            assert_eq!(found.origin.span().len(), 4, "{text}");
        }
    }

    #[test]
    fn oddities_are_warnings() {
        let mut diags = Diagnostics::new();
        let query = QueryOption::from_node(&"a and b".into(), &Path::root(), &mut diags).unwrap();
        assert_eq!(query.display(), "\"a and b\"");
        assert!(!diags.has_errors() && diags.items()[0].message.contains("the operator is `AND`"));
        assert_eq!(QueryOption::from_node(&Node::from(5), &Path::root(), &mut diags), None);
    }
}
