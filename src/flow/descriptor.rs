//! How a component is named, declared and built. A component implements one of the three `…Component` traits in
//! its own file; `Descriptor::source::<T>()` and its siblings turn that into the one entry the registry lists,
//! which drives parsing, defaults, checks, the JSON schema, the reference and `weir list`.

use std::sync::Arc;

use super::component::{Filter, FilterFactory, Sink, SinkFactory, Source, SourceFactory};
use super::context::Site;
use crate::config::{ComponentKind, Diagnostics, Field, FormatOptions, Node, Options, Path, Reader};

/// Where a component's `run` is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// On the shared runtime: it awaits sockets, timers and channels and never blocks.
    Task,
    /// On a thread of its own: its system calls may block (files, terminals).
    Thread,
}

/// Something only one component may have: an address, a route, a file it writes, standard input.
#[derive(Debug, Clone)]
pub struct Claim {
    /// What it is, in words: "listen address", "route", "output file".
    pub what: &'static str,
    /// Which one.
    pub key: String,
    /// The option that claims it.
    pub at: Path,
    /// Where that option was written.
    pub origin: crate::config::Origin,
}

/// What a component's `build` may use: no I/O, only checks, claims and complaints.
#[derive(Debug)]
pub struct BuildCx<'a> {
    /// Who is built.
    pub site: &'a Site,
    /// The pipeline's `format`, the default for its sinks.
    pub pipeline_format: Option<&'a FormatOptions>,
    /// The component's section as it was written.
    pub node: &'a Node,
    /// The section's path.
    pub at: &'a Path,
    /// Where to complain.
    pub diagnostics: &'a mut Diagnostics,
    /// What was claimed so far.
    pub claims: &'a mut Vec<Claim>,
}

impl BuildCx<'_> {
    /// Complains about the option `key` (or the whole section, where the option was left to its default).
    pub fn error(&mut self, key: &str, message: impl Into<String>) -> &mut crate::config::Diagnostic {
        let (at, origin) = self.place(key);
        self.diagnostics.error(&origin, message).path(&at)
    }

    /// Warns about the option `key` (or the whole section, where the option was left to its default).
    pub fn warning(&mut self, key: &str, message: impl Into<String>) -> &mut crate::config::Diagnostic {
        let (at, origin) = self.place(key);
        self.diagnostics.warning(&origin, message).path(&at)
    }

    /// Complains about element `index` of the list option `key` (or the option, where it is no list).
    pub fn error_at(
        &mut self,
        key: &str,
        index: usize,
        message: impl Into<String>,
    ) -> &mut crate::config::Diagnostic {
        let element = self.node.get(key).and_then(|n| n.as_array()?.get(index)).map(|n| n.origin.clone());
        match element {
            Some(origin) => self.diagnostics.error(&origin, message).path(&self.at.key(key).index(index)),
            None => self.error(key, message),
        }
    }

    /// Claims something for this component alone; a second claim of the same thing is an error that names both.
    pub fn claim(&mut self, what: &'static str, key: impl Into<String>, option: &str) {
        let (at, origin) = self.place(option);
        self.claims.push(Claim { what, key: key.into(), at, origin });
    }

    fn place(&self, key: &str) -> (Path, crate::config::Origin) {
        match self.node.get(key) {
            Some(node) => (self.at.key(key), node.origin.clone()),
            None => (self.at.clone(), self.node.origin.clone()),
        }
    }
}

/// What every component declares about itself.
pub trait Component: Clone + Send + Sync + Sized + 'static {
    /// The `type` in the config.
    const NAME: &'static str;
    /// One line for lists and the reference, lower case, no full stop.
    const SUMMARY: &'static str;
    /// A section as a user would write it (TOML, without the `[[…]]` header), accepted by `check`.
    const EXAMPLE: &'static str;
    /// Where it runs.
    const PLACEMENT: Placement = Placement::Task;
    /// Why this build has the component's name and options only, and how to get the rest.
    const ABSENT: Option<&'static str> = None;
    /// Its options.
    type Options: Options;

    /// The component as configured, or `None` after complaints. No I/O.
    fn build(options: Self::Options, cx: &mut BuildCx<'_>) -> Option<Self>;
}

type BuildFn<F> = fn(&mut Reader<'_>, &mut BuildCx<'_>) -> Option<F>;

/// How a component of some role is built.
#[derive(Clone, Copy)]
pub enum Build {
    /// A source.
    Source(BuildFn<SourceFactory>),
    /// A filter.
    Filter(BuildFn<FilterFactory>),
    /// A sink.
    Sink(BuildFn<SinkFactory>),
}

/// One line of the registry.
#[derive(Clone, Copy)]
pub struct Descriptor {
    /// The `type` in the config.
    pub name: &'static str,
    /// One line, lower case, no full stop.
    pub summary: &'static str,
    /// A section accepted by `check`.
    pub example: &'static str,
    /// Where it runs.
    pub placement: Placement,
    /// Why it cannot run in this build, and how to get it.
    pub absent: Option<&'static str>,
    /// Its own options (the shared ones of its role come on top).
    pub fields: fn() -> Vec<Field>,
    /// How it is built.
    pub build: Build,
}

impl std::fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind().as_str(), self.name)
    }
}

impl Descriptor {
    /// The entry of a source.
    pub const fn source<T: Component + Source>() -> Descriptor {
        Descriptor::of::<T>(Build::Source(|reader, cx| {
            let prototype = built::<T>(reader, cx)?;
            Some(Arc::new(move || Box::new(prototype.clone()) as Box<dyn Source>))
        }))
    }

    /// The entry of a filter.
    pub const fn filter<T: Component + Filter>() -> Descriptor {
        Descriptor::of::<T>(Build::Filter(|reader, cx| {
            let prototype = built::<T>(reader, cx)?;
            Some(Arc::new(move || Box::new(prototype.clone()) as Box<dyn Filter>))
        }))
    }

    /// The entry of a sink.
    pub const fn sink<T: Component + Sink>() -> Descriptor {
        Descriptor::of::<T>(Build::Sink(|reader, cx| {
            let prototype = built::<T>(reader, cx)?;
            Some(Arc::new(move || Box::new(prototype.clone()) as Box<dyn Sink>))
        }))
    }

    const fn of<T: Component>(build: Build) -> Descriptor {
        Descriptor {
            name: T::NAME,
            summary: T::SUMMARY,
            example: T::EXAMPLE,
            placement: T::PLACEMENT,
            absent: T::ABSENT,
            fields: <T::Options as Options>::fields,
            build,
        }
    }

    /// Source, filter or sink.
    pub fn kind(&self) -> ComponentKind {
        match self.build {
            Build::Source(_) => ComponentKind::Source,
            Build::Filter(_) => ComponentKind::Filter,
            Build::Sink(_) => ComponentKind::Sink,
        }
    }
}

fn built<T: Component>(reader: &mut Reader<'_>, cx: &mut BuildCx<'_>) -> Option<T> {
    let options = T::Options::read(reader, cx.diagnostics)?;
    T::build(options, cx)
}
