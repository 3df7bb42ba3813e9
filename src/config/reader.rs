//! Reading a table key by key: options structs take their keys, several may share one table, and what nobody
//! took is reported as unknown with the nearest of all the keys that were asked for.

use std::ops::RangeBounds;

use super::diagnostics::Diagnostics;
use super::field::{Ranged, Shape, range_text};
use super::from_node::FromNode;
use super::habits;
use super::macros::Options;
use super::nearest::nearest;
use super::node::{Node, Table};
use super::origin::Origin;
use super::path::Path;

/// A table being read.
#[derive(Debug)]
pub struct Reader<'a> {
    node: &'a Node,
    table: &'a Table,
    path: Path,
    what: String,
    known: Vec<(&'static str, bool)>,
}

impl<'a> Reader<'a> {
    /// A reader over `node`, or an error if that is no table. `what` names the table in messages, with an
    /// article: "the `file` source".
    pub fn new(
        node: &'a Node,
        path: &Path,
        what: impl Into<String>,
        diags: &mut Diagnostics,
    ) -> Option<Reader<'a>> {
        let Some(table) = node.as_table() else {
            super::from_node::wrong_type(node, path, "a table", diags);
            return None;
        };
        Some(Reader { node, table, path: path.clone(), what: what.into(), known: Vec::new() })
    }

    /// Lets an options struct take its keys.
    pub fn read<T: Options>(&mut self, diags: &mut Diagnostics) -> Option<T> {
        T::read(self, diags)
    }

    /// Takes one key. Absent, it is the default, or an error if there is none; `None` only after an error.
    pub fn field<T: FromNode>(
        &mut self,
        name: &'static str,
        default: Option<fn() -> T>,
        diags: &mut Diagnostics,
    ) -> Option<T> {
        let name = name.trim_start_matches("r#");
        self.known.push((name, matches!(T::shape(), Shape::Secret)));
        match (self.table.get(name), default) {
            (Some(node), _) => T::from_node(node, &self.path.key(name), diags),
            (None, Some(default)) => Some(default()),
            // An error elsewhere in the file may be why it is missing.
            (None, None) if diags.is_incomplete(&self.node.origin) => None,
            (None, None) => {
                diags
                    .error(&self.node.origin, format!("missing option `{name}`: it has no default"))
                    .label(format!("needed by {}", self.what))
                    .path(&self.path.key(name))
                    .hint(format!("set `{name}` to {}", T::shape().expected()));
                None
            }
        }
    }

    /// Holds a value that was just taken against its bounds. A default is not checked, only what was written.
    pub fn within<T: Ranged<X>, X: FromNode>(
        &self,
        name: &'static str,
        value: Option<T>,
        range: &impl RangeBounds<X>,
        diags: &mut Diagnostics,
    ) -> Option<T> {
        let name = name.trim_start_matches("r#");
        let value = value?;
        let Some(node) = self.table.get(name).filter(|_| !value.within(range)) else {
            return Some(value);
        };
        let allowed = range_text(range);
        diags
            .error(&node.origin, format!("`{name}` is out of range: {allowed} is allowed"))
            .label(format!("expected {allowed}"))
            .path(&self.path.key(name));
        None
    }

    /// Whether the key was written.
    pub fn has(&self, name: &str) -> bool {
        self.table.get(name).is_some()
    }

    /// Marks a key as known without reading it.
    pub fn skip(&mut self, name: &'static str) {
        self.known.push((name, false));
    }

    /// Where the key's value was written, or else the table itself: for errors found after reading.
    pub fn origin(&self, name: &str) -> &'a Origin {
        self.table.get(name).map_or(&self.node.origin, |node| &node.origin)
    }

    /// The table's node.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// The table's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reports every key that nobody took.
    pub fn finish(self, diags: &mut Diagnostics) {
        for entry in self.table.entries() {
            if self.known.iter().any(|(name, _)| *name == entry.key) {
                continue;
            }
            // `token` where `token_hash` is meant: the secret itself, which must not be shown.
            let begun = |(name, secret): &&(&'static str, bool)| *secret && name.starts_with(&entry.key);
            let begun = self.known.iter().find(begun).map(|(name, _)| *name);
            let names = self.known.iter().map(|(name, _)| *name);
            let close = habits::option(&entry.key, names.clone());
            let place = if close.is_none() { habits::place(&entry.key, &self.path) } else { None };
            let close = close.or_else(|| nearest(&entry.key, names)).or(begun);
            if begun.is_some() || self.known.iter().any(|(name, secret)| *secret && Some(*name) == close) {
                diags.mask(&entry.node.origin);
            }
            let found = diags
                .error(&entry.key_origin, format!("unknown option `{}`", entry.key))
                .label(format!("not an option of {}", self.what))
                .path(&self.path.key(&entry.key));
            match close {
                _ if place.is_some() => found.hint(place.unwrap_or_default()),
                Some(name) => found.hint(format!("did you mean `{name}`?")),
                None if self.known.is_empty() => found.hint(format!("{} has no options", self.what)),
                None => found.hint(format!("the options are {}", self.known_names())),
            };
        }
    }

    fn known_names(&self) -> String {
        let mut names: Vec<&str> = self.known.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    }
}
