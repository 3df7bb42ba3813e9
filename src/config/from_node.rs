//! Typed values out of nodes: the scalar and collection types options are declared with. A value of the wrong
//! type or form is reported with what was expected; the rest of the table is still read.

use std::collections::BTreeMap;
use std::time::Duration;

use super::diagnostics::Diagnostics;
use super::field::{Choice, Shape};
use super::macros::Options;
use super::node::{Node, Value};
use super::path::{Path, quote_key, quote_string};
use super::reader::Reader;
use crate::base::units::{ByteCount, format_duration, parse_duration};

/// A type that options can be declared with.
pub trait FromNode: Sized + Clone {
    /// What values it takes.
    fn shape() -> Shape;

    /// The value at `at`; `None` only after an error was added.
    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<Self>;

    /// The value as a TOML literal, as the reference and `weir config` show it; empty if there is nothing to
    /// show.
    fn display(&self) -> String;
}

/// Reports that `node` is not what was expected.
pub fn wrong_type(node: &Node, at: &Path, expected: &str, diags: &mut Diagnostics) {
    diags
        .error(&node.origin, format!("wrong type: expected {expected}, found {}", node.kind()))
        .label(format!("expected {expected}"))
        .path(at);
    if node.loose && node.as_str().is_some() {
        match expected {
            "an array" => diags.hint_last("write an array as JSON, as in [\"a\", \"b\"]"),
            "a table" => diags.hint_last("write a table as JSON, as in {\"key\": \"value\"}"),
            _ => {}
        }
    }
}

/// Reports that `node` has the right type but not the right form.
pub fn wrong_form(node: &Node, at: &Path, why: &str, expected: &str, diags: &mut Diagnostics) {
    diags.error(&node.origin, format!("invalid value: {why}")).label(format!("expected {expected}")).path(at);
}

/// Reads a nested table of options, all of whose keys must be known.
pub fn read_table<T: Options>(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<T> {
    let what = if at.is_root() { "the configuration".to_owned() } else { format!("`{at}`") };
    let mut reader = Reader::new(node, at, what, diags)?;
    let value = T::read(&mut reader, diags);
    reader.finish(diags);
    value
}

/// Reads one of a fixed list; returns its index.
pub fn read_choice(node: &Node, choices: &[Choice], at: &Path, diags: &mut Diagnostics) -> Option<usize> {
    let names = choices.iter().map(|c| c.name);
    let Some(text) = node.as_str() else {
        let expected = super::diagnostics::join_or(&names.map(|n| format!("\"{n}\"")).collect::<Vec<_>>());
        wrong_type(node, at, &expected, diags);
        return None;
    };
    let found = choices.iter().position(|c| c.name == text);
    if found.is_none() {
        diags
            .error(&node.origin, format!("invalid value: `{text}` is not allowed"))
            .path(at)
            .choices(text, names);
    }
    found
}

/// `{ a = 1, b = "x" }` without the entries that have nothing to show.
pub fn inline_table(entries: &[(&str, String)]) -> String {
    let shown: Vec<String> = entries
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{} = {value}", quote_key(key.trim_start_matches("r#"))))
        .collect();
    if shown.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", shown.join(", ")) }
}

/// A node as one TOML literal.
pub fn inline(node: &Node) -> String {
    match &node.value {
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(x) => x.display(),
        Value::String(text) => quote_string(text),
        Value::Datetime(text) => text.clone(),
        Value::Array(nodes) => format!("[{}]", nodes.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            let entries: Vec<_> = table.entries().iter().map(|e| (e.key.as_str(), inline(&e.node))).collect();
            inline_table(&entries)
        }
    }
}

impl FromNode for Node {
    fn shape() -> Shape {
        Shape::Any
    }

    fn from_node(node: &Node, _: &Path, _: &mut Diagnostics) -> Option<Node> {
        Some(node.clone())
    }

    fn display(&self) -> String {
        inline(self)
    }
}

impl FromNode for bool {
    fn shape() -> Shape {
        Shape::Bool
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<bool> {
        match &node.value {
            Value::Bool(b) => return Some(*b),
            Value::String(text) if node.loose => match text.trim() {
                "true" => return Some(true),
                "false" => return Some(false),
                _ => wrong_form(node, at, &format!("{text:?} is not a boolean"), "true or false", diags),
            },
            _ => wrong_type(node, at, "true or false", diags),
        }
        None
    }

    fn display(&self) -> String {
        self.to_string()
    }
}

macro_rules! integers {
    ($($ty:ty),+) => { $(
        impl FromNode for $ty {
            fn shape() -> Shape {
                let limit = |n: $ty| i64::try_from(n).unwrap_or(i64::MAX);
                Shape::Integer { min: limit(<$ty>::MIN), max: limit(<$ty>::MAX) }
            }

            fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<$ty> {
                let number = integer(node, at, &Self::shape(), diags)?;
                let converted = <$ty>::try_from(number).ok();
                if converted.is_none() {
                    let (least, most) = (<$ty>::MIN, <$ty>::MAX);
                    let why = format!("{number} is out of range: {least} to {most} is allowed");
                    wrong_form(node, at, &why, &format!("{least} to {most}"), diags);
                }
                converted
            }

            fn display(&self) -> String {
                self.to_string()
            }
        }
    )+ };
}

integers!(u8, u16, u32, u64, usize, i64);

fn integer(node: &Node, at: &Path, shape: &Shape, diags: &mut Diagnostics) -> Option<i64> {
    match &node.value {
        Value::Int(n) => return Some(*n),
        Value::String(text) if node.loose => match text.trim().replace('_', "").parse() {
            Ok(n) => return Some(n),
            Err(_) => {
                wrong_form(node, at, &format!("{text:?} is not a whole number"), &shape.expected(), diags)
            }
        },
        _ => wrong_type(node, at, &shape.expected(), diags),
    }
    None
}

/// Always finite.
impl FromNode for f64 {
    fn shape() -> Shape {
        Shape::Number
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<f64> {
        let number = match &node.value {
            Value::Float(x) => *x,
            Value::Int(n) => *n as f64,
            Value::String(text) if node.loose => text.trim().parse().unwrap_or(f64::NAN),
            _ => {
                wrong_type(node, at, "a number", diags);
                return None;
            }
        };
        if !number.is_finite() {
            wrong_form(node, at, &format!("{} is not a number", inline(node)), "a number", diags);
            return None;
        }
        Some(number)
    }

    fn display(&self) -> String {
        // TOML spells this one in lower case.
        if self.is_nan() { "nan".to_owned() } else { format!("{self:?}") }
    }
}

impl FromNode for String {
    fn shape() -> Shape {
        Shape::String
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<String> {
        let text = node.as_str();
        if text.is_none() {
            wrong_type(node, at, "a string", diags);
        }
        text.map(str::to_owned)
    }

    fn display(&self) -> String {
        quote_string(self)
    }
}

impl FromNode for ByteCount {
    fn shape() -> Shape {
        Shape::ByteCount
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<ByteCount> {
        let expected = Self::shape().expected();
        match &node.value {
            Value::Int(n) if *n >= 0 => return Some(ByteCount(n.unsigned_abs())),
            Value::Int(_) => wrong_form(node, at, "a size cannot be negative", &expected, diags),
            Value::String(text) => match ByteCount::parse(text) {
                Ok(count) => return Some(count),
                Err(why) => wrong_form(node, at, &why, &expected, diags),
            },
            _ => wrong_type(node, at, &expected, diags),
        }
        None
    }

    fn display(&self) -> String {
        format!("\"{self}\"")
    }
}

impl FromNode for Duration {
    fn shape() -> Shape {
        Shape::Duration
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<Duration> {
        let expected = Self::shape().expected();
        match &node.value {
            Value::Int(0) => return Some(Duration::ZERO),
            Value::String(text) => match parse_duration(text) {
                Ok(duration) => return Some(duration),
                Err(why) => wrong_form(node, at, &why, &expected, diags),
            },
            Value::Int(n) => {
                wrong_form(node, at, "a duration needs its unit", &expected, diags);
                if *n > 0 {
                    diags.hint_last(format!("write \"{n}s\" or \"{n}ms\""));
                }
            }
            _ => wrong_type(node, at, &expected, diags),
        }
        None
    }

    fn display(&self) -> String {
        format!("\"{}\"", format_duration(*self))
    }
}

impl<T: FromNode> FromNode for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<Option<T>> {
        T::from_node(node, at, diags).map(Some)
    }

    fn display(&self) -> String {
        self.as_ref().map(T::display).unwrap_or_default()
    }
}

impl<T: FromNode> FromNode for Vec<T> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<Vec<T>> {
        let Some(nodes) = node.as_array() else {
            wrong_type(node, at, "an array", diags);
            if node.as_str().is_some() && !node.loose && matches!(T::shape(), Shape::String | Shape::Text(_))
            {
                diags.hint_last(format!("write [{}]", inline(node)));
            }
            if node.as_table().is_some() {
                // `pipelines[0].sources` is written under the header `[[pipelines.sources]]`.
                let header: String = at.as_str().split('[').flat_map(|p| p.rsplit(']').next()).collect();
                diags.hint_last(format!("write [[{header}]]: there may be several"));
            }
            return None;
        };
        let read = nodes.iter().enumerate().map(|(i, node)| T::from_node(node, &at.index(i), diags));
        // Collected in two steps, so that an error does not hide those after it.
        read.collect::<Vec<_>>().into_iter().collect()
    }

    fn display(&self) -> String {
        format!("[{}]", self.iter().map(T::display).collect::<Vec<_>>().join(", "))
    }
}

impl<T: FromNode> FromNode for BTreeMap<String, T> {
    fn shape() -> Shape {
        Shape::Map(Box::new(T::shape()))
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<BTreeMap<String, T>> {
        let Some(table) = node.as_table() else {
            wrong_type(node, at, "a table", diags);
            return None;
        };
        let read = table.entries().iter();
        let read = read.map(|e| Some((e.key.clone(), T::from_node(&e.node, &at.key(&e.key), diags)?)));
        read.collect::<Vec<_>>().into_iter().collect()
    }

    fn display(&self) -> String {
        let entries: Vec<_> = self.iter().map(|(key, value)| (key.as_str(), value.display())).collect();
        inline_table(&entries)
    }
}
