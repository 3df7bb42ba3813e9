//! Excerpts of configurations, as documentation has them: a component, a table of options, a pipeline without its
//! sinks. What is left out is filled in with what is sure to be right, so that what is there can be checked.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::nearest::nearest;
use crate::config::{
    Catalog, ComponentKind, Diagnostics, Node, Options, Origin, RootOptions, Source, Table, Value, toml_file,
};
use crate::engine;
use crate::registry::Registry;

/// Options by which a table is known as a configuration of weir even if they are misspelt.
const TELLING: [&str; 3] = ["pipelines", "server", "logging"];

/// Whether a parsed text is a configuration of weir, or part of one, and not of something else.
pub(super) fn is_ours(tree: &Node) -> bool {
    is_root(tree) || !as_components(tree).is_empty()
}

/// Whether it is made of options of the root table.
pub(super) fn is_root(tree: &Node) -> bool {
    let known: BTreeSet<&str> = RootOptions::fields().iter().map(|field| field.name).collect();
    let telling = |key: &str| known.contains(key) || nearest(key, TELLING).is_some();
    keys(tree).any(telling) && !keys(tree).any(|key| key == "type" || key == "package")
}

fn keys(node: &Node) -> impl Iterator<Item = &str> {
    node.as_table().map(Table::entries).unwrap_or_default().iter().map(|entry| entry.key.as_str())
}

/// Checks an excerpt; the tree is one of which [`is_ours`] said yes.
pub(super) fn check(tree: &Node, findings: &mut Diagnostics) {
    if is_root(tree) {
        let mut tree = tree.clone();
        complete(&mut tree);
        engine::plan(&tree, findings);
        return;
    }
    // A type may be one of a source and of a sink: what it fits best is what was meant.
    let tried = as_components(tree).into_iter().map(|tree| {
        let mut findings = Diagnostics::new();
        engine::plan(&tree, &mut findings);
        findings
    });
    if let Some(best) = tried.min_by_key(Diagnostics::error_count) {
        findings.append(best);
    }
}

/// The excerpt as a component of each kind that it may be, in a configuration of its own.
fn as_components(tree: &Node) -> Vec<Node> {
    let root = |(kind, section): (ComponentKind, Node)| {
        let pipeline = Node::table([(kind.plural(), Node::array([section]))]);
        let mut root = Node::table([("pipelines", Node::array([pipeline]))]);
        complete(&mut root);
        feed(&mut root);
        root
    };
    let kinds = ComponentKind::ALL.into_iter();
    kinds.filter_map(|kind| Some((kind, typed(tree, kind)?))).map(root).collect()
}

/// The section with a type: its own, or else one that has all of its options, with the rest of that one's example.
fn typed(section: &Node, kind: ComponentKind) -> Option<Node> {
    let table = section.as_table().filter(|table| !table.is_empty())?;
    let names = Registry.names(kind);
    if let Some(given) = section.get("type") {
        return given.as_str().is_some_and(|given| names.contains(&given)).then(|| section.clone());
    }
    let fits = |name: &&str| {
        let fields = Registry.component(kind, name).unwrap_or_default();
        table.entries().iter().all(|entry| fields.iter().any(|field| field.name == entry.key))
    };
    let name = names.into_iter().find(fits)?;
    let example = Source::file("example", Registry.example(kind, name)?);
    let mut whole = toml_file::parse_file(&example, &mut Diagnostics::new());
    // An example has one of several ways to say something (`url` or `urls`): what is written here decides.
    let rivals = |key: &str| keys(section).any(|own| own.starts_with(key) || key.starts_with(own));
    whole.as_table_mut()?.entries_mut().retain(|entry| !rivals(&entry.key));
    for entry in table.entries() {
        whole.as_table_mut()?.insert(entry.key.clone(), entry.key_origin.clone(), entry.node.clone());
    }
    Some(Node { origin: section.origin.clone(), ..whole })
}

/// `[pipelines.sinks.buffer]` alone is TOML for tables where weir has lists: each becomes a list of one.
fn listed(node: &mut Node) {
    if node.as_table().is_some() {
        let origin = node.origin.clone();
        let one = std::mem::replace(node, Node::empty());
        *node = Node::new(Value::Array(vec![one]), origin);
    }
}

fn items<'a>(table: &'a mut Table, key: &str) -> impl Iterator<Item = &'a mut Node> {
    let found = table.get_mut(key).map(|node| &mut node.value);
    match found {
        Some(Value::Array(items)) => items.iter_mut(),
        _ => [].iter_mut(),
    }
}

/// A text that goes on where another may have ended: the part that belongs to the pipeline before, and, from
/// `[[pipelines]]` on, the part after. Each is a source of its own with the places of the whole.
pub(super) fn parts(source: &Arc<Source>) -> Option<[Arc<Source>; 2]> {
    let (mut at, mut continues) = (0, false);
    for line in source.text.split_inclusive('\n') {
        let text = line.trim_start();
        if text.starts_with("[[pipelines]]") {
            break;
        }
        continues |= text.starts_with("[[pipelines.") || text.starts_with("[pipelines.");
        at += line.len();
    }
    if !continues || at == source.text.len() {
        return None;
    }
    let (before, after) = source.text.split_at(at);
    let blank: String = before.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    Some([before.to_owned(), blank + after].map(|text| Source::file(source.name.clone(), text)))
}

/// Puts the pipeline of the first part before those of the second.
pub(super) fn joined(mut first: Node, second: Node) -> Node {
    let Some(root) = first.as_table_mut() else { return second };
    if let Some(pipelines) = root.get_mut("pipelines") {
        listed(pipelines);
    }
    for entry in second.as_table().map(Table::entries).unwrap_or_default() {
        match (root.get_mut(&entry.key).map(|node| &mut node.value), &entry.node.value) {
            (Some(Value::Array(items)), Value::Array(more)) => items.extend(more.iter().cloned()),
            _ => root.insert(entry.key.clone(), entry.key_origin.clone(), entry.node.clone()),
        }
    }
    first
}

/// Adds what an excerpt of the root table leaves out: a pipeline, its name, a source, a sink, types.
pub(super) fn complete(tree: &mut Node) {
    let Some(root) = tree.as_table_mut() else { return };
    if root.get("pipelines").is_none() {
        root.insert("pipelines", Origin::Default, Node::array([Node::empty()]));
    }
    if let Some(pipelines) = root.get_mut("pipelines") {
        listed(pipelines);
    }
    let pipelines = items(root, "pipelines").enumerate();
    for (i, pipeline) in pipelines {
        let Some(table) = pipeline.as_table_mut() else { continue };
        if table.get("name").is_none() {
            table.insert("name", Origin::Default, format!("excerpt-{i}").as_str().into());
        }
        for (kind, usual) in [(ComponentKind::Source, "stdin"), (ComponentKind::Sink, "null")] {
            let usual = if i == 0 || kind == ComponentKind::Sink { usual } else { "pipeline" };
            if table.get(kind.plural()).is_none() {
                let section = Node::table([("type", usual.into())]);
                table.insert(kind.plural(), Origin::Default, Node::array([section]));
            }
        }
        for kind in ComponentKind::ALL {
            if let Some(sections) = table.get_mut(kind.plural()) {
                listed(sections);
            }
            items(table, kind.plural()).for_each(|section| complete_section(section, kind));
        }
    }
}

fn complete_section(section: &mut Node, kind: ComponentKind) {
    if section.get("type").is_none()
        && let Some(typed) = typed(section, kind)
    {
        *section = typed;
    }
    let Some(table) = section.as_table_mut() else { return };
    if let Some(filters) = table.get_mut("filters").filter(|_| kind == ComponentKind::Sink) {
        listed(filters);
        items(table, "filters").for_each(|filter| complete_section(filter, ComponentKind::Filter));
    }
}

/// Adds the pipeline that a lone `pipeline` sink feeds.
fn feed(tree: &mut Node) {
    let Some(root) = tree.as_table_mut() else { return };
    let Some(Value::Array(pipelines)) = root.get_mut("pipelines").map(|node| &mut node.value) else { return };
    let sinks = pipelines.iter().flat_map(|p| p.get("sinks").and_then(Node::as_array).unwrap_or_default());
    let fed = sinks.filter(|sink| sink.get("type").and_then(Node::as_str) == Some("pipeline"));
    let names: Vec<String> =
        fed.filter_map(|sink| sink.get("name").and_then(Node::as_str).map(str::to_owned)).collect();
    for name in names {
        let list = |type_name: &str| Node::array([Node::table([("type", type_name.into())])]);
        let fed = [("name", name.as_str().into()), ("sources", list("pipeline")), ("sinks", list("null"))];
        pipelines.push(Node::table(fed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Option<Vec<String>> {
        let mut findings = Diagnostics::new();
        let tree = toml_file::parse_file(&Source::file("f", text), &mut findings);
        is_ours(&tree).then(|| {
            check(&tree, &mut findings);
            findings.items().iter().map(|d| format!("{} {}", d.origin, d.message)).collect()
        })
    }

    #[test]
    fn parts_of_a_configuration_are_checked_for_what_they_say() {
        for good in [
            "[server]\nlisten = '127.0.0.1:1'",
            "shutdown_timeout = '5s'",
            "[[pipelines]]\nname = 'a'\n[[pipelines.filters]]\ntype = 'level'\nmin = 'warn'",
            "[[pipelines]]\nname = 'a'\n[[pipelines]]\nname = 'b'",
            "[pipelines.sources.multiline]\nstart = 'x'",
            "[pipelines.sinks.buffer]\ntype = 'disk'\nmax_bytes = '10GiB'",
            "[[pipelines.sinks]]\ntype = 'console'\n[[pipelines.sinks.filters]]\ntype = 'level'\nmin = 'warn'",
            "type = 'tcp'\nlisten = '127.0.0.1:1'\nframing = 'auto'",
            "type = 'pipeline'\nname = 'audit'",
            "buffer = { type = 'disk' }",
            "rotate = { max_size = '10MiB' }",
        ] {
            assert_eq!(checked(good), Some(vec![]), "{good}");
        }
        for (bad, error) in [
            ("[servr]\nlisten = 'x'", "f:1:2 unknown option `servr`"),
            ("[pipelines.sinks.buffer]\ntype = 'dsk'", "f:2:8 "),
            ("type = 'tcp'\nlistn = '127.0.0.1:1'", "f:2:1 unknown option `listn`"),
            ("[[pipeline]]\nname = 'a'", "f:1:3 unknown option `pipeline`"),
        ] {
            let errors = checked(bad).unwrap_or_default();
            assert!(errors.iter().any(|e| e.starts_with(error)), "{bad}: {errors:?}");
        }
    }

    #[test]
    fn what_belongs_to_others_is_left_alone() {
        for other in [
            "[package]\nname = 'x'\n[dependencies]\nserde = '1'",
            "max_width = 110",
            "",
            "[tool.black]\nx = 1",
        ] {
            assert_eq!(checked(other), None, "{other}");
        }
    }
}
