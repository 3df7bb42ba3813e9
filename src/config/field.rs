//! What a declared option looks like from outside: its name, meaning, shape, default and bounds. The reference,
//! the JSON schema, `weir list` and the matching of variables and flags are all driven by these.

use std::fmt::Write;
use std::ops::{Bound, RangeBounds};

use super::component::ComponentKind;
use super::diagnostics::join_or;
use super::from_node::FromNode;

/// One option of a table.
#[derive(Debug, Clone)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// What it means, in Markdown; one or more lines.
    pub doc: String,
    /// What values it takes.
    pub shape: Shape,
    /// The default as a TOML literal; `None` if the option is required or is simply absent by default.
    pub default: Option<String>,
    /// Whether it must be given.
    pub required: bool,
    /// The allowed values as text, "64B to 64MiB".
    pub range: Option<String>,
    /// The least allowed value as a TOML literal.
    pub min: Option<String>,
    /// The greatest allowed value as a TOML literal.
    pub max: Option<String>,
}

impl Field {
    /// A field of type `T`; without a default it is required.
    pub fn new<T: FromNode>(name: &'static str, doc: &str, default: Option<T>) -> Field {
        Field {
            name: name.trim_start_matches("r#"),
            doc: doc_text(doc),
            shape: T::shape(),
            required: default.is_none(),
            default: default.map(|value| value.display()).filter(|text| !text.is_empty()),
            range: None,
            min: None,
            max: None,
        }
    }

    /// The same field, said to allow only values in `range`.
    #[must_use]
    pub fn ranged<T: Ranged<X>, X: FromNode>(mut self, range: &impl RangeBounds<X>) -> Field {
        let limit = |bound: Bound<&X>| match bound {
            Bound::Included(x) | Bound::Excluded(x) => Some(x.display()),
            Bound::Unbounded => None,
        };
        (self.min, self.max) = (limit(range.start_bound()), limit(range.end_bound()));
        self.range = Some(range_text(range));
        self
    }

    /// The same field with another shape, where its type says too little.
    #[must_use]
    pub fn shaped(mut self, shape: Shape) -> Field {
        self.shape = shape;
        self
    }
}

/// A type whose values can be held against bounds of type `X`: `X` itself, or an option of it.
pub trait Ranged<X> {
    /// Whether the value, if there is one, is within `range`.
    fn within(&self, range: &impl RangeBounds<X>) -> bool;
}

impl<X: PartialOrd> Ranged<X> for X {
    fn within(&self, range: &impl RangeBounds<X>) -> bool {
        range.contains(self)
    }
}

impl<X: PartialOrd> Ranged<X> for Option<X> {
    fn within(&self, range: &impl RangeBounds<X>) -> bool {
        self.as_ref().is_none_or(|value| range.contains(value))
    }
}

/// "1 to 10", "at least 1", "at most 10".
pub fn range_text<X: FromNode>(range: &impl RangeBounds<X>) -> String {
    let plain = |x: &X| x.display().trim_matches('"').trim_end_matches(".0").to_owned();
    match (range.start_bound(), range.end_bound()) {
        (Bound::Unbounded, Bound::Unbounded) => "any".to_owned(),
        (Bound::Included(a), Bound::Unbounded) => format!("at least {}", plain(a)),
        (Bound::Excluded(a), Bound::Unbounded) => format!("more than {}", plain(a)),
        (Bound::Unbounded, Bound::Included(b)) => format!("at most {}", plain(b)),
        (Bound::Unbounded, Bound::Excluded(b)) => format!("less than {}", plain(b)),
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b)) => {
            format!("{} to {}", plain(a), plain(b))
        }
        (Bound::Included(a) | Bound::Excluded(a), Bound::Excluded(b)) => {
            format!("{} to less than {}", plain(a), plain(b))
        }
    }
}

/// What is wrong with a declaration: for the tests that go over every component.
pub fn declaration_faults(fields: &[Field]) -> Vec<String> {
    let mut faults = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let name = field.name;
        if fields[..i].iter().any(|f| f.name == name) {
            faults.push(format!("`{name}` is declared twice"));
        }
        if !name.starts_with(|c: char| c.is_ascii_lowercase())
            || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            faults.push(format!("`{name}` is not in snake case"));
        }
        if field.doc.is_empty() {
            faults.push(format!("`{name}` has no doc comment"));
        }
        let readable = |text: &String| toml::de::DeValue::parse(text).is_ok();
        if !field.default.iter().chain(&field.min).chain(&field.max).all(readable) {
            faults.push(format!("`{name}` has a default or a bound that is not TOML"));
        }
        if let Shape::Table(table) = &field.shape {
            let inner = declaration_faults(&(table.fields)());
            faults.extend(inner.into_iter().map(|fault| format!("in `{name}`: {fault}")));
        }
    }
    faults
}

/// One value of a `choices!` enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The value as written in the configuration.
    pub name: &'static str,
    /// What it means, as the doc comment spells it; see [`doc_text`].
    pub doc: &'static str,
}

/// What values an option takes.
#[derive(Debug, Clone)]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// A whole number within the bounds of its type.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// A whole number from 1, or a word that stands for one to be found.
    CountOr {
        /// The greatest.
        max: i64,
        /// The word.
        word: &'static str,
    },
    /// A number, with or without a fraction.
    Number,
    /// Any string.
    String,
    /// A string of a certain form, described with an article: "a name of a-z, 0-9, `_` and `-`".
    Text(&'static str),
    /// A size with its unit.
    ByteCount,
    /// A duration with its unit.
    Duration,
    /// A string that is never shown, or where to find it.
    Secret,
    /// A socket address to listen on.
    Listen,
    /// Anything.
    Any,
    /// One of a fixed list.
    Choice(&'static [Choice]),
    /// An array.
    List(Box<Shape>),
    /// One, or an array.
    OneOrMany(Box<Shape>),
    /// A table with free keys.
    Map(Box<Shape>),
    /// A table with declared keys.
    Table(TableShape),
    /// A component: a table whose `type` says which other keys it takes.
    Section(ComponentKind),
}

/// A table with declared keys.
#[derive(Debug, Clone, Copy)]
pub struct TableShape {
    /// The name of the Rust type, by which the reference tells shared tables apart.
    pub name: &'static str,
    /// What it is for, as the doc comment spells it; see [`doc_text`].
    pub doc: &'static str,
    /// Its options.
    pub fields: fn() -> Vec<Field>,
}

impl Shape {
    /// What is expected, with an article, for messages.
    pub fn expected(&self) -> String {
        match self {
            Shape::Bool => "true or false".to_owned(),
            Shape::Integer { min: 0, .. } => "a whole number, 0 or more".to_owned(),
            Shape::Integer { .. } => "a whole number".to_owned(),
            Shape::CountOr { max, word } => format!("a number from 1 to {max}, or \"{word}\""),
            Shape::Number => "a number".to_owned(),
            Shape::String => "a string".to_owned(),
            Shape::Text(what) => (*what).to_owned(),
            Shape::ByteCount => "a size like \"64KiB\"".to_owned(),
            Shape::Duration => "a duration like \"250ms\" or \"10s\"".to_owned(),
            Shape::Secret => "a string, { file = \"…\" } or { env = \"…\" }".to_owned(),
            Shape::Listen => "an address like \"127.0.0.1:8080\"".to_owned(),
            Shape::Any => "any value".to_owned(),
            Shape::Choice(choices) => {
                join_or(&choices.iter().map(|c| format!("\"{}\"", c.name)).collect::<Vec<_>>())
            }
            Shape::List(_) => "an array".to_owned(),
            Shape::OneOrMany(item) => format!("{} or an array of such", item.expected()),
            Shape::Map(_) | Shape::Table(_) => "a table".to_owned(),
            Shape::Section(kind) => format!("a table with the `type` of a {}", kind.as_str()),
        }
    }

    /// The type as the reference names it.
    pub fn type_name(&self) -> String {
        match self {
            Shape::Bool => "boolean".to_owned(),
            Shape::Integer { .. } => "integer".to_owned(),
            Shape::CountOr { word, .. } => format!("integer or `\"{word}\"`"),
            Shape::Number => "number".to_owned(),
            Shape::String | Shape::Text(_) => "string".to_owned(),
            Shape::ByteCount => "size".to_owned(),
            Shape::Duration => "duration".to_owned(),
            Shape::Secret => "secret".to_owned(),
            Shape::Listen => "address".to_owned(),
            Shape::Any => "any".to_owned(),
            Shape::Choice(choices) => {
                let mut out = String::new();
                for (i, choice) in choices.iter().enumerate() {
                    let bar = if i == 0 { "" } else { ", " };
                    write!(out, "{bar}`\"{}\"`", choice.name).expect("writing to a string cannot fail");
                }
                out
            }
            Shape::List(item) => format!("array of {}", item.type_name()),
            Shape::OneOrMany(item) => format!("{0} or array of {0}", item.type_name()),
            Shape::Map(item) => format!("table of {}", item.type_name()),
            Shape::Table(_) => "table".to_owned(),
            Shape::Section(kind) => kind.as_str().to_owned(),
        }
    }
}

/// A doc comment as text: without the space that each line starts with, and without blank ends.
pub fn doc_text(doc: &str) -> String {
    let lines: Vec<&str> =
        doc.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    lines.join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::ByteCount;

    #[test]
    fn ranges_read_as_text() {
        assert_eq!(range_text(&(1u32..=10)), "1 to 10");
        assert_eq!(range_text(&(1u32..)), "at least 1");
        assert_eq!(range_text(&(..=ByteCount::kib(1))), "at most 1KiB");
        assert_eq!(range_text(&(0.5..2.0)), "0.5 to less than 2");
    }

    #[test]
    fn options_are_ranged_by_what_they_hold() {
        assert!(None::<u32>.within(&(1u32..=10)) && Some(3u32).within(&(1u32..=10)));
        assert!(!Some(11u32).within(&(1u32..=10)) && !0u32.within(&(1u32..)));
    }

    #[test]
    fn doc_comments_lose_their_leading_space() {
        assert_eq!(doc_text(" One line.\n  - item\n\n"), "One line.\n - item");
    }
}
