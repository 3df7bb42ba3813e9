//! The configuration tree before it is typed: ordered tables, arrays and scalars, where every value and every
//! key knows where it was written. Layers are merged and references filled in on this form.

use super::origin::Origin;

/// A value and where it was written. Two nodes are equal when their values are, wherever they came from.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where the value was written.
    pub origin: Origin,
    /// Whether a string may stand for a number or a boolean, because it came from a variable, a flag or an
    /// interpolation, where nothing else can be written.
    pub loose: bool,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// A string.
    String(String),
    /// A TOML date, time or both, as it was written.
    Datetime(String),
    /// A list.
    Array(Vec<Node>),
    /// A table.
    Table(Table),
}

/// Keys and values in the order they were written; a key occurs once.
#[derive(Debug, Clone, Default)]
pub struct Table {
    entries: Vec<Entry>,
}

/// One key of a table with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub key_origin: Origin,
    /// The value.
    pub node: Node,
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.value == other.value
    }
}

/// Order of keys does not matter.
impl PartialEq for Table {
    fn eq(&self, other: &Table) -> bool {
        self.entries.len() == other.entries.len()
            && self.entries.iter().all(|e| other.get(&e.key).is_some_and(|node| *node == e.node))
    }
}

impl Table {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.node)
    }

    /// The value of a key, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.iter_mut().find(|e| e.key == key).map(|e| &mut e.node)
    }

    /// The key with its origin and its value.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key)
    }

    /// Sets a key, replacing an earlier value in place.
    pub fn insert(&mut self, key: impl Into<String>, key_origin: Origin, node: Node) {
        let entry = Entry { key: key.into(), key_origin, node };
        match self.entries.iter_mut().find(|e| e.key == entry.key) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    /// All entries in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All entries in order, to change; keys must stay distinct.
    pub fn entries_mut(&mut self) -> &mut Vec<Entry> {
        &mut self.entries
    }

    /// All entries in order, given away.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Node {
    /// A node from its parts.
    pub fn new(value: Value, origin: Origin) -> Node {
        Node { value, origin, loose: false }
    }

    /// A string that may stand for a number or a boolean.
    pub fn loose(text: impl Into<String>, origin: Origin) -> Node {
        Node { value: Value::String(text.into()), origin, loose: true }
    }

    /// An empty table that nobody wrote.
    pub fn empty() -> Node {
        Node::new(Value::Table(Table::default()), Origin::Default)
    }

    /// A table that nobody wrote, for quick flags and tests: `Node::table([("type", "file".into())])`.
    pub fn table<K: Into<String>>(entries: impl IntoIterator<Item = (K, Node)>) -> Node {
        let mut table = Table::default();
        for (key, node) in entries {
            let origin = node.origin.clone();
            table.insert(key, origin, node);
        }
        Node::new(Value::Table(table), Origin::Default)
    }

    /// An array that nobody wrote, for quick flags and tests.
    pub fn array(nodes: impl IntoIterator<Item = Node>) -> Node {
        Node::new(Value::Array(nodes.into_iter().collect()), Origin::Default)
    }

    /// The same value, said to come from `origin`.
    #[must_use]
    pub fn with_origin(mut self, origin: Origin) -> Node {
        self.origin = origin;
        self
    }

    /// What the value is, with an article, for messages: "a string".
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::String(_) => "a string",
            Value::Datetime(_) => "a date",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
        }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The table, if it is one.
    pub fn as_table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The table, if it is one, to change.
    pub fn as_table_mut(&mut self) -> Option<&mut Table> {
        match &mut self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Array(nodes) => Some(nodes),
            _ => None,
        }
    }

    /// The value of a key, if this is a table that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_table()?.get(key)
    }

    /// The value as JSON, for opaque options; a date becomes a string, a number that JSON lacks becomes null.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Bool(b) => (*b).into(),
            Value::Int(n) => (*n).into(),
            Value::Float(x) => (*x).into(),
            Value::String(text) | Value::Datetime(text) => text.as_str().into(),
            Value::Array(nodes) => nodes.iter().map(Node::to_json).collect(),
            Value::Table(table) => serde_json::Value::Object(
                table.entries().iter().map(|e| (e.key.clone(), e.node.to_json())).collect(),
            ),
        }
    }

    /// A node that came as JSON, all of it from one origin; null is left out of tables and arrays. A number
    /// beyond 64 bits becomes a float.
    pub fn from_json(json: &serde_json::Value, origin: &Origin) -> Option<Node> {
        let value = match json {
            serde_json::Value::Null => return None,
            serde_json::Value::Bool(b) => Value::Bool(*b),
            serde_json::Value::Number(n) => match n.as_i64() {
                Some(n) => Value::Int(n),
                None => Value::Float(n.as_f64()?),
            },
            serde_json::Value::String(text) => Value::String(text.clone()),
            serde_json::Value::Array(items) => {
                Value::Array(items.iter().filter_map(|item| Node::from_json(item, origin)).collect())
            }
            serde_json::Value::Object(map) => {
                let mut table = Table::default();
                for (key, item) in map {
                    if let Some(node) = Node::from_json(item, origin) {
                        table.insert(key.as_str(), origin.clone(), node);
                    }
                }
                Value::Table(table)
            }
        };
        Some(Node::new(value, origin.clone()))
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Node {
        Node::new(Value::String(text.to_owned()), Origin::Default)
    }
}

impl From<String> for Node {
    fn from(text: String) -> Node {
        Node::new(Value::String(text), Origin::Default)
    }
}

impl From<bool> for Node {
    fn from(b: bool) -> Node {
        Node::new(Value::Bool(b), Origin::Default)
    }
}

impl From<i64> for Node {
    fn from(n: i64) -> Node {
        Node::new(Value::Int(n), Origin::Default)
    }
}

impl From<f64> for Node {
    fn from(x: f64) -> Node {
        Node::new(Value::Float(x), Origin::Default)
    }
}

impl<T: Into<Node>> From<Vec<T>> for Node {
    fn from(items: Vec<T>) -> Node {
        Node::array(items.into_iter().map(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_order_and_replace_in_place() {
        let mut table = Table::default();
        for (key, n) in [("b", 1), ("a", 2), ("b", 3)] {
            table.insert(key, Origin::Default, Node::from(n));
        }
        let seen: Vec<_> = table.entries().iter().map(|e| (e.key.as_str(), e.node.clone())).collect();
        assert_eq!(seen, [("b", Node::from(3)), ("a", Node::from(2))]);
    }

    #[test]
    fn json_and_back() {
        let json = serde_json::json!({"a": [1, 2.5, "x", true, {"b": {}}], "c": null});
        let node = Node::from_json(&json, &Origin::Default).unwrap();
        assert_eq!(node.to_json(), serde_json::json!({"a": [1, 2.5, "x", true, {"b": {}}]}));
        assert_eq!(Node::from_json(&serde_json::Value::Null, &Origin::Default), None);
    }

    #[test]
    fn equality_is_of_values() {
        let here = crate::config::Source::file("a", "1").at(0..1);
        assert_eq!(Node::from(1).with_origin(here), Node::from(1));
        assert_eq!(
            Node::table([("a", Node::from(1)), ("b", "x".into())]),
            Node::table([("b", Node::from("x")), ("a", 1.into())])
        );
        assert_ne!(Node::table([("a", Node::from(1))]), Node::table([("a", Node::from(1)), ("b", 1.into())]));
    }
}
