//! What `at` can name in a test: a pipeline, its limit, a component. Every way to write a name is listed once, from
//! the tree as it was written, so that names are checked even where a component has mistakes of its own.

use std::collections::BTreeMap;

use crate::config::{ComponentKind, Diagnostics, Located, Node};

/// A place in a plan; numbers are positions in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Which pipeline.
    pub pipeline: usize,
    /// Where in it.
    pub spot: Spot,
}

/// A place in a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// The pipeline as a whole.
    Whole,
    /// Its rate limit.
    RateLimit,
    /// One of its sources.
    Source(usize),
    /// One of its filters.
    Filter(usize),
    /// One of its sinks.
    Sink(usize),
    /// A sink's `when`.
    When(usize),
    /// A sink's own filter: which sink, which filter.
    SinkFilter(usize, usize),
}

impl Spot {
    /// The unmistakable name of this place in a pipeline.
    pub fn within(self, pipeline: &str) -> String {
        match self {
            Spot::Whole => pipeline.to_owned(),
            Spot::RateLimit => format!("{pipeline}.rate_limit"),
            Spot::Source(i) => format!("{pipeline}.sources.{i}"),
            Spot::Filter(i) => format!("{pipeline}.filters.{i}"),
            Spot::Sink(j) => format!("{pipeline}.sinks.{j}"),
            Spot::When(j) => format!("{pipeline}.sinks.{j}.when"),
            Spot::SinkFilter(j, i) => format!("{pipeline}.sinks.{j}.filters.{i}"),
        }
    }
}

/// A name that is in use.
#[derive(Debug, Clone)]
enum Named {
    One(Point),
    /// A type that several have, each with its unmistakable name.
    Several(Vec<String>),
}

/// All names of a configuration.
#[derive(Debug, Default)]
pub(super) struct Points {
    names: BTreeMap<String, Named>,
    /// The unmistakable names, in the order of the flow.
    canonical: Vec<(String, Point)>,
}

/// The components of a kind in a table, each by its type.
fn types(node: &Node, kind: ComponentKind) -> Vec<&str> {
    let written = node.get(kind.plural()).and_then(Node::as_array).unwrap_or_default();
    written.iter().map(|node| node.get("type").and_then(Node::as_str).unwrap_or("?")).collect()
}

impl Points {
    /// The names in a loaded configuration.
    pub(super) fn of(tree: &Node) -> Points {
        let mut points = Points::default();
        let written = tree.get("pipelines").and_then(Node::as_array).unwrap_or_default();
        for (pipeline, node) in written.iter().enumerate() {
            let Some(name) = node.get("name").and_then(Node::as_str) else { continue };
            let at = |spot| Point { pipeline, spot };
            points.add(name.to_owned(), at(Spot::Whole));
            points.components(name, &types(node, ComponentKind::Source), ComponentKind::Source, |i| {
                at(Spot::Source(i))
            });
            if node.get("rate_limit").is_some() {
                points.add(format!("{name}.rate_limit"), at(Spot::RateLimit));
            }
            let filters = types(node, ComponentKind::Filter);
            points.components(name, &filters, ComponentKind::Filter, |i| at(Spot::Filter(i)));
            let sinks = types(node, ComponentKind::Sink);
            points.components(name, &sinks, ComponentKind::Sink, |i| at(Spot::Sink(i)));
            // In logs and metrics the sinks' own filters are counted on from the pipeline's.
            let mut number = filters.len();
            let tables = node.get("sinks").and_then(Node::as_array).unwrap_or_default();
            for (j, table) in tables.iter().enumerate() {
                let own = types(table, ComponentKind::Filter);
                let mut prefixes = vec![j.to_string(), format!("{j}.{}", sinks[j])];
                prefixes.extend(
                    (sinks.iter().filter(|s| *s == &sinks[j]).count() == 1).then(|| sinks[j].to_owned()),
                );
                for (prefix, sink) in prefixes.iter().flat_map(|p| [(p, "sinks"), (p, "sink")]) {
                    let prefix = format!("{name}.{sink}.{prefix}");
                    if table.get("when").is_some() {
                        points.add(format!("{prefix}.when"), at(Spot::When(j)));
                    }
                    let spot = |i| at(Spot::SinkFilter(j, i));
                    points.components(&prefix, &own, ComponentKind::Filter, spot);
                }
                let mut numbered = |type_name: &str, spot: Spot| {
                    for kind in ["filters", "filter"] {
                        points.alias(format!("{name}.{kind}.{number}"), at(spot));
                        points.alias(format!("{name}.{kind}.{number}.{type_name}"), at(spot));
                    }
                    number += 1;
                };
                if table.get("when").is_some() {
                    numbered("when", Spot::When(j));
                }
                own.iter().enumerate().for_each(|(i, type_name)| numbered(type_name, Spot::SinkFilter(j, i)));
            }
        }
        points
    }

    fn add(&mut self, name: String, point: Point) {
        if !self.canonical.iter().any(|(_, known)| *known == point) {
            self.canonical.push((name.clone(), point));
        }
        self.alias(name, point);
    }

    fn alias(&mut self, name: String, point: Point) {
        self.names.entry(name).or_insert(Named::One(point));
    }

    /// `app.filters.0`, `app.filters.0.level`, `app.filters.level` and the same with `filter`, as logs write it.
    fn components(
        &mut self,
        prefix: &str,
        types: &[&str],
        kind: ComponentKind,
        point: impl Fn(usize) -> Point,
    ) {
        for (i, type_name) in types.iter().enumerate() {
            for kind in [kind.plural(), kind.as_str()] {
                self.add(format!("{prefix}.{kind}.{i}"), point(i));
                self.alias(format!("{prefix}.{kind}.{i}.{type_name}"), point(i));
                let same = types.iter().enumerate().filter(|(_, t)| *t == type_name);
                let same: Vec<String> = same.map(|(i, _)| format!("{prefix}.{kind}.{i}")).collect();
                let named = if same.len() == 1 { Named::One(point(i)) } else { Named::Several(same) };
                self.names.entry(format!("{prefix}.{kind}.{type_name}")).or_insert(named);
            }
        }
    }

    /// What a test names, or `None` after a complaint.
    pub(super) fn find(&self, at: &Located<String>, diagnostics: &mut Diagnostics) -> Option<Point> {
        let given = at.value.as_str();
        match self.names.get(given) {
            Some(Named::One(point)) => return Some(*point),
            Some(Named::Several(names)) => {
                diagnostics
                    .error(&at.origin, format!("`{given}` is not one component: several are of this type"))
                    .path(&at.path)
                    .hint(format!("write {}", crate::config::diagnostics::join_or(&quoted(names))));
            }
            None => {
                let pipeline = given.split('.').next().unwrap_or_default();
                let within = |name: &&String| name.split('.').next() == Some(pipeline);
                let names: Vec<&String> = self.canonical.iter().map(|(name, _)| name).collect();
                let near: Vec<&String> = names.iter().copied().filter(within).collect();
                let shown = if near.is_empty() { names } else { near };
                diagnostics
                    .error(&at.origin, format!("nothing is called `{given}`"))
                    .path(&at.path)
                    .choices(given, shown.iter().map(|name| name.as_str()));
            }
        }
        None
    }

    /// The only pipeline.
    pub(super) fn only_pipeline(&self) -> Option<Point> {
        self.only(|spot| spot == Spot::Whole)
    }

    /// The only sink.
    pub(super) fn only_sink(&self) -> Option<Point> {
        self.only(|spot| matches!(spot, Spot::Sink(_)))
    }

    fn only(&self, wanted: impl Fn(Spot) -> bool) -> Option<Point> {
        let mut found = self.canonical.iter().map(|(_, point)| *point).filter(|point| wanted(point.spot));
        let first = found.next();
        first.filter(|_| found.next().is_none())
    }

    /// A place by its unmistakable name.
    pub(super) fn name(&self, point: Point) -> String {
        let found = self.canonical.iter().find(|(_, known)| *known == point);
        found.map_or_else(String::new, |(name, _)| name.clone())
    }
}

fn quoted(names: &[String]) -> Vec<String> {
    names.iter().map(|name| format!("`{name}`")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Path, Source, toml_file::parse_file};

    const CONFIG: &str = "
        [[pipelines]]
        name = 'app'
        rate_limit = { events_per_second = 5 }
        sources = [{ type = 'stdin' }]
        filters = [{ type = 'level' }, { type = 'sample' }, { type = 'level' }]
        sinks = [{ type = 'null' }, { type = 'file', when = 'x', filters = [{ type = 'include' }, { type = 'level' }] }]";

    fn find(name: &str) -> Result<Spot, String> {
        let mut diags = Diagnostics::new();
        let tree = parse_file(&Source::file("t", CONFIG), &mut diags);
        let at =
            Located { value: name.to_owned(), origin: Source::file("n", name).at(0..3), path: Path::root() };
        let found = Points::of(&tree).find(&at, &mut diags);
        found.map(|point| point.spot).ok_or_else(|| {
            let item = &diags.items()[0];
            format!("{}; {}", item.message, item.hint.clone().or(item.label.clone()).unwrap_or_default())
        })
    }

    #[test]
    fn every_way_to_write_a_name_is_known() {
        for (name, spot) in [
            ("app", Spot::Whole),
            ("app.rate_limit", Spot::RateLimit),
            ("app.source.0", Spot::Source(0)),
            ("app.sources.stdin", Spot::Source(0)),
            ("app.filters.2", Spot::Filter(2)),
            ("app.filter.1.sample", Spot::Filter(1)),
            ("app.filters.sample", Spot::Filter(1)),
            ("app.sinks.file", Spot::Sink(1)),
            ("app.sinks.1.filters.0", Spot::SinkFilter(1, 0)),
            ("app.sinks.file.filters.level", Spot::SinkFilter(1, 1)),
            ("app.filter.5.level", Spot::SinkFilter(1, 1)),
            ("app.sinks.file.when", Spot::When(1)),
            ("app.filter.3.when", Spot::When(1)),
        ] {
            assert_eq!(find(name), Ok(spot), "{name}");
        }
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        assert_eq!(
            find("app.filters.level").unwrap_err(),
            "`app.filters.level` is not one component: several are of this type; write `app.filters.0` or `app.filters.2`"
        );
        assert_eq!(
            find("app.filters.3.sample").unwrap_err(),
            "nothing is called `app.filters.3.sample`; expected `app`, `app.sources.0`, `app.rate_limit`, `app.filters.0`, `app.filters.1`, `app.filters.2`, `app.sinks.0`, `app.sinks.1`, `app.sinks.1.when`, `app.sinks.1.filters.0` or `app.sinks.1.filters.1`"
        );
        assert_eq!(
            find("app.sink.2").unwrap_err(),
            "nothing is called `app.sink.2`; did you mean `app.sinks.0`?"
        );
        assert_eq!(find("ap").unwrap_err(), "nothing is called `ap`; did you mean `app`?");
    }
}
