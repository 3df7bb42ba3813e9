//! Several files as one configuration: tables are merged, lists of pipelines and tests are joined, and a value
//! that two files set differently is an error that names both places.

use super::diagnostics::Diagnostics;
use super::node::{Node, Value};
use super::path::Path;

/// The root's arrays that are joined; every other array is a value like any other.
const JOINED: [&str; 2] = ["pipelines", "tests"];

/// Merges `from` into `into`, which was read before it.
pub fn merge(into: &mut Node, from: Node, diags: &mut Diagnostics) {
    merge_at(into, from, &Path::root(), diags);
}

fn merge_at(into: &mut Node, from: Node, at: &Path, diags: &mut Diagnostics) {
    match (&mut into.value, from.value) {
        // Also the common case of a single file, which need not be searched key by key.
        (Value::Table(table), Value::Table(more)) if table.is_empty() => *table = more,
        (Value::Table(table), Value::Table(more)) => {
            for entry in more.into_entries() {
                match table.get_mut(&entry.key) {
                    Some(node) => merge_at(node, entry.node, &at.key(&entry.key), diags),
                    None => table.entries_mut().push(entry),
                }
            }
        }
        (Value::Array(items), Value::Array(more)) if JOINED.contains(&at.as_str()) => items.extend(more),
        (old, new) if *old == new => {}
        _ => {
            diags
                .error(&from.origin, format!("`{at}` is set twice: the files do not agree on its value"))
                .label("set again here")
                .also(&into.origin, "first set here")
                .path(at)
                .hint("remove one of the two");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::config::toml_file::parse_file;

    fn merged(texts: &[&str]) -> (serde_json::Value, Vec<String>) {
        let mut diags = Diagnostics::new();
        let mut tree = Node::empty();
        for (i, text) in texts.iter().enumerate() {
            let file = parse_file(&Source::file(format!("{i}.toml"), *text), &mut diags);
            merge(&mut tree, file, &mut diags);
        }
        let shown =
            diags.items().iter().map(|d| format!("{} {} {:?}", d.origin, d.message, d.secondary[0].0));
        (tree.to_json(), shown.collect())
    }

    #[test]
    fn tables_merge_and_pipelines_append() {
        let (tree, errors) = merged(&[
            "a = 1\n[logging]\nlevel = \"info\"\n[[pipelines]]\nname = \"x\"",
            "a = 1\n[logging]\nformat = \"json\"\n[[pipelines]]\nname = \"y\"\n[[tests]]\nn = 1",
        ]);
        assert_eq!(errors, [""; 0]);
        assert_eq!(
            tree,
            serde_json::json!({"a": 1, "logging": {"level": "info", "format": "json"},
                "pipelines": [{"name": "x"}, {"name": "y"}], "tests": [{"n": 1}]})
        );
    }

    #[test]
    fn a_value_set_twice_differently_names_both_places() {
        let (tree, errors) = merged(&["a = 1\nc = [1]\n[t]\nb = 2", "\na = 2\nc = [2]\n[t]\nb = 2", "t = 5"]);
        assert_eq!(
            errors,
            [
                "1.toml:2:5 `a` is set twice: the files do not agree on its value 0.toml:1:5",
                "1.toml:3:5 `c` is set twice: the files do not agree on its value 0.toml:2:5",
                "2.toml:1:5 `t` is set twice: the files do not agree on its value 0.toml:3:1",
            ]
        );
        assert_eq!(tree["a"], 1);
    }
}
