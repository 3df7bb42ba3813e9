//! Components as the configuration sees them: a table with a `type`, kept opaque until the engine hands it to
//! the component of that name, and the catalog that knows which options each type takes.

use super::diagnostics::Diagnostics;
use super::field::{Field, Shape};
use super::from_node::FromNode;
use super::habits;
use super::node::Node;
use super::path::Path;
use super::reader::Reader;

/// The three kinds of component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ComponentKind {
    /// Where events come from.
    Source,
    /// What changes or narrows them.
    Filter,
    /// Where they go.
    Sink,
}

impl ComponentKind {
    /// All kinds, in the order of the flow.
    pub const ALL: [ComponentKind; 3] = [ComponentKind::Source, ComponentKind::Filter, ComponentKind::Sink];

    /// "source", "filter" or "sink".
    pub const fn as_str(self) -> &'static str {
        match self {
            ComponentKind::Source => "source",
            ComponentKind::Filter => "filter",
            ComponentKind::Sink => "sink",
        }
    }

    /// "sources", "filters" or "sinks".
    pub const fn plural(self) -> &'static str {
        match self {
            ComponentKind::Source => "sources",
            ComponentKind::Filter => "filters",
            ComponentKind::Sink => "sinks",
        }
    }
}

/// What this build's components are called and which options they take. The registry implements it.
pub trait Catalog {
    /// The names of all components of a kind, in the order they are documented.
    fn names(&self, kind: ComponentKind) -> Vec<&'static str>;

    /// All options of a component, shared ones included, without `type`; `None` if there is no such component.
    fn component(&self, kind: ComponentKind, type_name: &str) -> Option<Vec<Field>>;

    /// One sentence on what the component does.
    fn summary(&self, kind: ComponentKind, type_name: &str) -> Option<String>;

    /// A commented TOML example of the component's table, which `check` accepts.
    fn example(&self, kind: ComponentKind, type_name: &str) -> Option<String>;
}

/// A component's table, not yet typed. `type` is there and is a string; whether such a type exists is for the
/// one that builds it to say, see [`Section::unknown_type`].
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// The value of `type`.
    pub type_name: String,
    /// The whole table.
    pub node: Node,
    /// The table's path.
    pub path: Path,
}

impl Section {
    /// A reader over the table that has taken `type` already. `kind` is for messages.
    pub fn reader(&self, kind: ComponentKind, diags: &mut Diagnostics) -> Option<Reader<'_>> {
        let what = format!("the `{}` {}", self.type_name, kind.as_str());
        let mut reader = Reader::new(&self.node, &self.path, what, diags)?;
        reader.skip("type");
        Some(reader)
    }

    /// Reports that no component has this type, with those that there are.
    pub fn unknown_type(&self, kind: ComponentKind, names: &[&str], diags: &mut Diagnostics) {
        let origin = self.node.get("type").map_or(&self.node.origin, |node| &node.origin);
        diags
            .error(origin, format!("unknown {} type `{}`", kind.as_str(), self.type_name))
            .path(&self.path.key("type"))
            .choices(&self.type_name, names.iter().copied());
        if let Some(name) = habits::component(&self.type_name, names.iter().copied()) {
            diags.hint_last(format!("did you mean `{name}`?"));
        }
    }
}

impl FromNode for Section {
    /// The option that holds sections should say of which kind, with `#[shape(…)]`.
    fn shape() -> Shape {
        Shape::Any
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<Section> {
        let mut reader = Reader::new(node, at, format!("`{at}`"), diags)?;
        let type_name = reader.field("type", None, diags)?;
        Some(Section { type_name, node: node.clone(), path: at.clone() })
    }

    fn display(&self) -> String {
        super::from_node::inline(&self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_needs_a_type() {
        let mut diags = Diagnostics::new();
        assert_eq!(Section::from_node(&Node::table([("path", "x".into())]), &Path::root(), &mut diags), None);
        assert_eq!(diags.items()[0].message, "missing option `type`: it has no default");
        let section = Section::from_node(&Node::table([("type", "fiel".into())]), &Path::root(), &mut diags);
        section.unwrap().unknown_type(ComponentKind::Source, &["file", "tcp"], &mut diags);
        assert_eq!(diags.items()[1].message, "unknown source type `fiel`");
        assert_eq!(diags.items()[1].hint.as_deref(), Some("did you mean `file`?"));
    }
}
