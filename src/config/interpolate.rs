//! References to variables in the strings of a file: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, and `$$`
//! for a dollar sign. They are filled in after parsing, so a value can never change the structure of the file.

use std::collections::BTreeSet;

use super::diagnostics::Diagnostics;
use super::environment::Environment;
use super::node::{Node, Value};
use super::origin::Origin;
use super::path::Path;

/// Fills in every string of the tree; keys are left alone. `referenced` gets the names of all variables mentioned,
/// set or not.
pub fn interpolate(
    node: &mut Node,
    environment: &Environment,
    referenced: &mut BTreeSet<String>,
    diags: &mut Diagnostics,
) {
    Interpolation { environment, referenced, diags }.node(node, &Path::root());
}

/// The inverse for every string of the tree: what would be read as a reference or as an escaped dollar sign is
/// written so that it is read as itself.
pub fn escape(node: &mut Node) {
    match &mut node.value {
        Value::String(text) if text.contains("${") || text.contains("$$") => {
            let mut escaped = String::with_capacity(text.len() + 2);
            for (i, c) in text.char_indices() {
                escaped.push(c);
                if c == '$' && text[i + 1..].starts_with(['$', '{']) {
                    escaped.push('$');
                }
            }
            *text = escaped;
        }
        Value::Array(items) => items.iter_mut().for_each(escape),
        Value::Table(table) => table.entries_mut().iter_mut().for_each(|entry| escape(&mut entry.node)),
        _ => {}
    }
}

struct Interpolation<'a> {
    environment: &'a Environment,
    referenced: &'a mut BTreeSet<String>,
    diags: &'a mut Diagnostics,
}

impl Interpolation<'_> {
    fn node(&mut self, node: &mut Node, at: &Path) {
        match &mut node.value {
            Value::String(text) if text.contains('$') => {
                let filled = self.text(text, &node.origin, at);
                // A pattern such as "foo$" is no reference: the string stays what it was.
                node.loose |= filled.references;
                *text = filled.text;
            }
            Value::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.node(item, &at.index(i));
                }
            }
            Value::Table(table) => {
                for entry in table.entries_mut() {
                    self.node(&mut entry.node, &at.key(&entry.key));
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, origin: &Origin, at: &Path) -> Filled {
        let mut filled = Filled { text: String::with_capacity(text.len()), references: false };
        let mut place = Place { origin, from: 0 };
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            filled.text.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                filled.text.push('$');
                place.skip("$$");
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                filled.references = true;
                let end = after.find('}');
                let body = &after[..end.unwrap_or(after.len())];
                let here = place.next(&if end.is_some() { format!("${{{body}}}") } else { "${".to_owned() });
                match end {
                    Some(_) => filled.text.push_str(&self.reference(body, &here, at)),
                    None => {
                        self.diags
                            .error(&here, "unfinished reference: `${` without `}`")
                            .path(at)
                            .hint("write `$${` for these two characters");
                    }
                }
                rest = end.map_or("", |end| &after[end + 1..]);
            } else {
                filled.text.push('$');
                place.skip("$");
            }
        }
        filled.text.push_str(rest);
        filled
    }

    /// The value of what stands between the braces.
    fn reference(&mut self, body: &str, here: &Origin, at: &Path) -> String {
        let end = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(body.len());
        let (name, rest) = body.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return self.malformed(body, here, at);
        }
        self.referenced.insert(name.to_owned());
        let value = self.environment.get(name);
        let filled = value.filter(|v| !v.is_empty());
        if rest.is_empty() {
            return value.map(str::to_owned).unwrap_or_else(|| {
                self.diags
                    .error(here, format!("variable `{name}` is not set: `${{{name}}}` has no default"))
                    .path(at)
                    .unread()
                    .hint(format!("set it, or write `${{{name}:-default}}`; `$$` is a dollar sign"));
                String::new()
            });
        }
        if let Some(default) = rest.strip_prefix(":-") {
            return filled.unwrap_or(default).to_owned();
        }
        if let Some(message) = rest.strip_prefix(":?") {
            return filled.map(str::to_owned).unwrap_or_else(|| {
                let message = if message.is_empty() { "it is required" } else { message };
                self.diags.error(here, format!("variable `{name}` is not set: {message}")).path(at).unread();
                String::new()
            });
        }
        self.malformed(body, here, at)
    }

    fn malformed(&mut self, body: &str, here: &Origin, at: &Path) -> String {
        self.diags
            .error(here, format!("invalid reference `${{{body}}}`: not a variable's name"))
            .label("expected `${NAME}`, `${NAME:-default}` or `${NAME:?message}`")
            .path(at)
            .hint("write `$${` for a dollar sign and a brace");
        String::new()
    }
}

struct Filled {
    text: String,
    references: bool,
}

/// Finds references in the quoted source. The string's escapes make offsets differ, so each is searched for in
/// turn; where it is spelt with escapes, the whole string is pointed at.
struct Place<'a> {
    origin: &'a Origin,
    from: usize,
}

impl Place<'_> {
    fn find(&mut self, what: &str) -> Option<usize> {
        let raw = self.origin.source()?.text.get(self.origin.span())?;
        let at = self.from + raw.get(self.from..)?.find(what)?;
        self.from = at + what.len();
        Some(at)
    }

    fn skip(&mut self, what: &str) {
        self.find(what);
    }

    fn next(&mut self, what: &str) -> Origin {
        match self.find(what) {
            Some(at) => self.origin.narrow(at..at + what.len()),
            None => self.origin.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn filled(raw: &str) -> (String, bool, Vec<String>) {
        let source = Source::file("f", raw);
        let mut diags = Diagnostics::new();
        let mut node = Node::new(Value::String(raw.to_owned()), source.at(0..raw.len()));
        let environment = Environment::from_pairs([("A", "1"), ("EMPTY", ""), ("REF", "${A}")]);
        interpolate(&mut node, &environment, &mut BTreeSet::new(), &mut diags);
        let errors = diags.items().iter().map(|d| format!("{}: {}", d.origin, d.message)).collect();
        (node.as_str().unwrap().to_owned(), node.loose, errors)
    }

    #[test]
    fn references_are_filled_in() {
        for (text, expected, loose) in [
            ("${A}", "1", true),
            ("x${A}y${A}", "x1y1", true),
            ("${NONE:-d e}", "d e", true),
            ("${EMPTY:-d}", "d", true),
            ("${EMPTY}", "", true),
            ("${A:-d}", "1", true),
            ("${A:?m}", "1", true),
            ("${NONE:-}", "", true),
            // A value is not looked at again.
            ("${REF}", "${A}", true),
            ("$$", "$", false),
            ("$${A}", "${A}", false),
            ("$$$${A}", "$${A}", false),
            ("^foo$", "^foo$", false),
            ("(a|b$)", "(a|b$)", false),
            ("$A é", "$A é", false),
        ] {
            assert_eq!(filled(text), (expected.to_owned(), loose, vec![]), "{text}");
        }
    }

    #[test]
    fn errors_point_at_the_reference() {
        for (text, expected) in [
            ("x ${NONE}", "f:1:3: variable `NONE` is not set: `${NONE}` has no default"),
            ("$$ ${NONE}", "f:1:4: variable `NONE` is not set: `${NONE}` has no default"),
            ("${NONE:?set it}", "f:1:1: variable `NONE` is not set: set it"),
            ("${NONE:?}", "f:1:1: variable `NONE` is not set: it is required"),
            ("${A} ${", "f:1:6: unfinished reference: `${` without `}`"),
            ("${A", "f:1:1: unfinished reference: `${` without `}`"),
            ("${}", "f:1:1: invalid reference `${}`: not a variable's name"),
            ("${1A}", "f:1:1: invalid reference `${1A}`: not a variable's name"),
            ("${A:=x}", "f:1:1: invalid reference `${A:=x}`: not a variable's name"),
        ] {
            assert_eq!(filled(text).2, [expected], "{text}");
        }
        assert_eq!(filled("${X} ${Y}").2.len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_strings_never_panic(text in "[$\\{\\}:?A-Cé-]{0,30}") {
            let (out, _, errors) = filled(&text);
            if !text.contains('$') {
                proptest::prop_assert_eq!((out, errors.len()), (text, 0));
            }
        }
    }
}
