//! Config in, graph or diagnostics out, without any I/O: `check`, `run` and (later) reload share it, so what
//! `check` accepts is what `run` builds.

use std::sync::Arc;

use super::buffers::BufferPlan;
use super::claims;
use super::trial::{self, Trial};
use crate::config::{
    ComponentKind, Diagnostics, FormatOptions, FromNode, Node, Options, Path, RateLimitOptions, RootOptions,
    Section, Table,
};
use crate::filters::query::QueryFilter;
use crate::flow::{
    Build, BuildCx, Claim, Descriptor, FilterFactory, Placement, QueryOption, SinkFactory, SinkOptions, Site,
    SourceFactory,
};
use crate::net::EntranceConfig;
use crate::registry;

/// A whole configuration, ready to be wired.
pub struct Plan {
    /// The options of the process.
    pub root: RootOptions,
    /// What was written of them: the tree without its pipelines, to tell what a reload would change.
    pub written: Node,
    /// The way in to the shared router, unless it is switched off.
    pub server: Option<EntranceConfig>,
    /// The pipelines, in the order of the config.
    pub pipelines: Vec<PipelinePlan>,
    /// The tests, for `weir test`.
    pub trials: Vec<Trial>,
}

/// One pipeline.
#[derive(Clone)]
pub struct PipelinePlan {
    /// Its name.
    pub name: Arc<str>,
    /// What is written of its limit; nothing where it has none.
    pub limit_written: Node,
    /// Its limit.
    pub rate_limit: Option<RateLimitOptions>,
    /// Where rows enter.
    pub sources: Vec<Planned<SourceFactory>>,
    /// What they pass, in order.
    pub filters: Vec<Planned<FilterFactory>>,
    /// Where they leave.
    pub sinks: Vec<PlannedSink>,
    /// How many `pipeline` sinks of other pipelines feed this one.
    pub fed_by: usize,
}

/// One component: who it is and how to make it.
#[derive(Clone)]
pub struct Planned<F> {
    /// Who it is.
    pub site: Arc<Site>,
    /// All that decides how it works: its own options as they are written, and what it inherits. Two components with
    /// equal nodes are the same component.
    pub config: Arc<Node>,
    /// What it alone may have: an address, a route, a file, each as kind and key.
    pub claims: Arc<[(&'static str, String)]>,
    /// Where it runs.
    pub placement: Placement,
    /// Makes a fresh one.
    pub make: F,
}

/// One sink, with what lies before it.
#[derive(Clone)]
pub struct PlannedSink {
    /// The sink.
    pub sink: Planned<SinkFactory>,
    /// Its own filters.
    pub filters: Vec<Planned<FilterFactory>>,
    /// Its buffer.
    pub buffer: BufferPlan,
}

/// What building the components of one config collects.
struct Planner<'a> {
    diagnostics: &'a mut Diagnostics,
    claims: Vec<Claim>,
}

/// Where a component of a pipeline is built.
struct Place<'a> {
    pipeline: &'a Arc<str>,
    format: Option<&'a FormatOptions>,
    /// The same as it is written.
    format_written: Option<&'a Node>,
    kind: ComponentKind,
    index: usize,
}

/// The plan of a loaded configuration, or `None` after errors; all of them are reported, not only the first.
pub fn plan(tree: &Node, diagnostics: &mut Diagnostics) -> Option<Plan> {
    let root = RootOptions::from_tree(tree, diagnostics);
    let mut planner = Planner { diagnostics, claims: Vec::new() };
    let pipelines = tree.get("pipelines");
    let written = pipelines.and_then(Node::as_array).unwrap_or_default();
    // Something that is no array was complained about already.
    let none = pipelines.is_none_or(|node| node.as_array().is_some_and(<[Node]>::is_empty));
    // An option that there is not may be what was meant to be the pipelines.
    let keys = tree.as_table().map(Table::entries).unwrap_or_default().iter().map(|entry| &entry.key);
    let strange = keys.clone().any(|key| RootOptions::fields().iter().all(|field| field.name != key));
    if none && !strange && !planner.diagnostics.is_incomplete(&tree.origin) {
        planner
            .diagnostics
            .error(&tree.origin, "no pipelines: there is nothing to run")
            .path(&Path::root().key("pipelines"))
            .hint("add a [[pipelines]] table with a source and a sink, or try `weir demo`");
    }
    // The server is read by itself where the root has a mistake elsewhere, so that its own is not hidden.
    let server = root.as_ref().map(|root| root.server.clone()).or_else(|| again(tree, "server"));
    let server = server
        .filter(|server| server.enabled)
        .and_then(|server| claims::server(&server, tree, &mut planner.claims, planner.diagnostics));
    // Each pipeline is read from its own node, so that a mistake elsewhere hides none of its components' mistakes.
    let mut pipelines: Vec<_> =
        written.iter().enumerate().map(|(i, node)| planner.pipeline(i, node)).collect();
    claims::conflicts(&planner.claims, planner.diagnostics);
    claims::links(&planner.claims, &mut pipelines, planner.diagnostics);
    claims::feedback(tree, &planner.claims, &pipelines, planner.diagnostics);
    let tests = root.as_ref().map(|root| root.tests.clone()).or_else(|| again(tree, "tests"));
    let trials = trial::compile::compile(&tests.unwrap_or_default(), tree, planner.diagnostics);
    planner.diagnostics.drop_consequences();
    if planner.diagnostics.has_errors() {
        return None;
    }
    Some(Plan { root: root?, written: without(tree, &["pipelines", "tests"]), server, pipelines, trials })
}

/// An option of a pipeline that the root has read (and complained about) already.
fn again<T: FromNode>(node: &Node, key: &str) -> Option<T> {
    T::from_node(node.get(key)?, &Path::root(), &mut Diagnostics::new())
}

/// A table without some of its keys.
fn without(node: &Node, keys: &[&str]) -> Node {
    let entries = node.as_table().map(Table::entries).unwrap_or_default();
    let kept = entries.iter().filter(|e| !keys.contains(&e.key.as_str()));
    Node::table(kept.map(|e| (e.key.clone(), e.node.clone())))
}

/// A pipeline's sections of one kind; those without a type were complained about already.
fn sections(node: &Node, at: &Path, kind: ComponentKind) -> Vec<Section> {
    let written = node.get(kind.plural()).and_then(Node::as_array).unwrap_or_default();
    let at = at.key(kind.plural());
    let read = |(i, node)| Section::from_node(node, &at.index(i), &mut Diagnostics::new());
    written.iter().enumerate().filter_map(read).collect()
}

/// What decides how a component works. A sink's buffer, filters and `when` lie before it and are compared by themselves.
fn config_of(section: &Section, place: &Place<'_>) -> Node {
    if place.kind != ComponentKind::Sink {
        return section.node.clone();
    }
    let own = without(&section.node, &["buffer", "filters", "when"]);
    match place.format_written.filter(|_| own.get("format").is_none()) {
        None => own,
        Some(format) => {
            let entries = own.as_table().map(Table::entries).unwrap_or_default();
            let all = entries.iter().map(|e| (e.key.clone(), e.node.clone()));
            Node::table(all.chain([("format".to_owned(), format.clone())]))
        }
    }
}

/// A sink's `when` is a filter before its others, and counts as one.
fn when_filter(
    when: &QueryOption,
    section: &Section,
    index: usize,
    place: &Place<'_>,
) -> Planned<FilterFactory> {
    let filter = QueryFilter::new(&when.0);
    let site =
        Site { pipeline: place.pipeline.clone(), kind: ComponentKind::Filter, index, type_name: "when" };
    Planned {
        site: Arc::new(site),
        config: Arc::new(section.node.get("when").cloned().unwrap_or_else(Node::empty)),
        claims: Arc::new([]),
        placement: Placement::Task,
        make: Arc::new(move || Box::new(filter.clone())),
    }
}

impl Planner<'_> {
    fn pipeline(&mut self, index: usize, node: &Node) -> PipelinePlan {
        let at = Path::root().key("pipelines").index(index);
        let name: Arc<str> = node.get("name").and_then(Node::as_str).unwrap_or("?").into();
        let [sources, filters, sinks] = ComponentKind::ALL.map(|kind| sections(node, &at, kind));
        for kind in [ComponentKind::Source, ComponentKind::Sink] {
            let none = node.get(kind.plural()).is_none_or(|n| n.as_array().is_some_and(<[Node]>::is_empty));
            if none && !self.diagnostics.is_incomplete(&node.origin) {
                self.diagnostics
                    .error(&node.origin, format!("pipeline `{name}` has no {}", kind.plural()))
                    .path(&at.key(kind.plural()))
                    .hint(format!(
                        "add a [[pipelines.{}]] table; `weir list {0}` shows what there is",
                        kind.plural()
                    ));
            }
        }
        let format: Option<FormatOptions> = again(node, "format");
        let format_written = node.get("format");
        let place =
            |kind, index| Place { pipeline: &name, format: format.as_ref(), format_written, kind, index };
        let planned_sources = (sources.iter().enumerate())
            .filter_map(|(i, s)| self.source(s, &place(ComponentKind::Source, i)))
            .collect();
        let planned_filters = self.filters(&filters, 0, &place(ComponentKind::Filter, 0));
        let mut own_filters = filters.len();
        let mut planned_sinks = Vec::new();
        for (i, section) in sinks.iter().enumerate() {
            let Some(sink) = self.sink(section, own_filters, &place(ComponentKind::Sink, i)) else {
                continue;
            };
            own_filters += sink.filters.len();
            planned_sinks.push(sink);
        }
        PipelinePlan {
            name: name.clone(),
            limit_written: node.get("rate_limit").cloned().unwrap_or_else(Node::empty),
            rate_limit: again(node, "rate_limit"),
            sources: planned_sources,
            filters: planned_filters,
            sinks: planned_sinks,
            fed_by: 0,
        }
    }

    fn source(&mut self, section: &Section, place: &Place<'_>) -> Option<Planned<SourceFactory>> {
        let descriptor = self.descriptor(section, place.kind)?;
        let Build::Source(build) = descriptor.build else { return None };
        let (planned, ()) = self.component(section, place, descriptor, build, |_, _| Some(()))?;
        Some(planned)
    }

    fn filters(
        &mut self,
        sections: &[Section],
        first: usize,
        place: &Place<'_>,
    ) -> Vec<Planned<FilterFactory>> {
        let mut filters = Vec::new();
        for (i, section) in sections.iter().enumerate() {
            let kind = ComponentKind::Filter;
            let Some(descriptor) = self.descriptor(section, kind) else { continue };
            let Build::Filter(build) = descriptor.build else { continue };
            let place = Place { kind, index: first + i, ..*place };
            filters
                .extend(self.component(section, &place, descriptor, build, |_, _| Some(())).map(|(p, ())| p));
        }
        filters
    }

    fn sink(&mut self, section: &Section, first_filter: usize, place: &Place<'_>) -> Option<PlannedSink> {
        let descriptor = self.descriptor(section, place.kind)?;
        let Build::Sink(build) = descriptor.build else { return None };
        let (sink, shared) = self.component(section, place, descriptor, build, SinkOptions::read)?;
        let mut filters: Vec<_> =
            shared.when.iter().map(|when| when_filter(when, section, first_filter, place)).collect();
        filters.extend(self.filters(&shared.filters, first_filter + filters.len(), place));
        let buffer = BufferPlan::new(&shared.buffer, section, self.diagnostics)?;
        Some(PlannedSink { sink, filters, buffer })
    }

    fn descriptor(&mut self, section: &Section, kind: ComponentKind) -> Option<&'static Descriptor> {
        let found = registry::find(kind, &section.type_name);
        if found.is_none() {
            let names: Vec<&str> = registry::of_kind(kind).map(|d| d.name).collect();
            section.unknown_type(kind, &names, self.diagnostics);
            let other =
                ComponentKind::ALL.into_iter().find(|&k| registry::find(k, &section.type_name).is_some());
            if let Some(other) = other {
                self.diagnostics.hint_last(format!("`{}` is a {}", section.type_name, other.as_str()));
            }
        }
        found
    }

    /// Reads a component's own options and `shared` ones from its section, then complains about what is left.
    fn component<F, S>(
        &mut self,
        section: &Section,
        place: &Place<'_>,
        descriptor: &'static Descriptor,
        build: fn(&mut crate::config::Reader<'_>, &mut BuildCx<'_>) -> Option<F>,
        shared: impl FnOnce(&mut crate::config::Reader<'_>, &mut Diagnostics) -> Option<S>,
    ) -> Option<(Planned<F>, S)> {
        let mut reader = section.reader(place.kind, self.diagnostics)?;
        let site = Site {
            pipeline: place.pipeline.clone(),
            kind: place.kind,
            index: place.index,
            type_name: descriptor.name,
        };
        let mut cx = BuildCx {
            site: &site,
            pipeline_format: place.format,
            node: &section.node,
            at: &section.path,
            diagnostics: self.diagnostics,
            claims: &mut self.claims,
        };
        let before = cx.claims.len();
        let made = build(&mut reader, &mut cx);
        let claims = self.claims[before..].iter().map(|c| (c.what, c.key.clone())).collect();
        let shared = shared(&mut reader, self.diagnostics);
        reader.finish(self.diagnostics);
        let (site, config) = (Arc::new(site), Arc::new(config_of(section, place)));
        let placement = descriptor.placement;
        Some((Planned { site, config, claims, placement, make: made? }, shared?))
    }
}
