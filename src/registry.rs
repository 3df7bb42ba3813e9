//! Row 6: every component of this build, one line each. The list drives the config parser, the schema, the
//! reference, `weir list` and the conformance test.

use crate::config::{Catalog, ComponentKind, Field, Options};
use crate::flow::{Descriptor, SinkOptions};
use crate::{filters, sinks, sources};

/// All components, in the order they are documented.
pub static COMPONENTS: &[Descriptor] = &[
    Descriptor::source::<sources::stdin::Stdin>(),
    Descriptor::source::<sources::exec::Exec>(),
    Descriptor::source::<sources::file::File>(),
    Descriptor::source::<sources::directory::Directory>(),
    Descriptor::source::<sources::http::HttpSource>(),
    Descriptor::source::<sources::tcp::TcpSource>(),
    Descriptor::source::<sources::udp::Udp>(),
    Descriptor::source::<sources::unix::Unix>(),
    Descriptor::source::<sources::ebpf::EbpfSource>(),
    Descriptor::source::<sources::generate::Generate>(),
    Descriptor::source::<sources::pipeline::PipelineSource>(),
    Descriptor::filter::<filters::include::Include>(),
    Descriptor::filter::<filters::exclude::Exclude>(),
    Descriptor::filter::<filters::level::LevelFilter>(),
    Descriptor::filter::<filters::query::QueryFilter>(),
    Descriptor::filter::<filters::sample::Sample>(),
    Descriptor::filter::<filters::throttle::Throttle>(),
    Descriptor::filter::<filters::dedupe::Dedupe>(),
    Descriptor::filter::<filters::correlate::Correlate>(),
    Descriptor::sink::<sinks::console::Console>(),
    Descriptor::sink::<sinks::http::Http>(),
    Descriptor::sink::<sinks::tcp::Tcp>(),
    Descriptor::sink::<sinks::http_client::HttpClient>(),
    Descriptor::sink::<sinks::tcp_client::TcpClient>(),
    Descriptor::sink::<sinks::file::FileSink>(),
    Descriptor::sink::<sinks::pipeline::PipelineSink>(),
    Descriptor::sink::<sinks::null::Null>(),
];

/// The component of that kind and name.
pub fn find(kind: ComponentKind, name: &str) -> Option<&'static Descriptor> {
    of_kind(kind).find(|d| d.name == name)
}

/// The components of a kind.
pub fn of_kind(kind: ComponentKind) -> impl Iterator<Item = &'static Descriptor> {
    COMPONENTS.iter().filter(move |d| d.kind() == kind)
}

/// The registry as the configuration asks for it.
#[derive(Debug, Clone, Copy)]
pub struct Registry;

impl Catalog for Registry {
    fn names(&self, kind: ComponentKind) -> Vec<&'static str> {
        of_kind(kind).map(|d| d.name).collect()
    }

    fn component(&self, kind: ComponentKind, type_name: &str) -> Option<Vec<Field>> {
        let mut fields = (find(kind, type_name)?.fields)();
        if kind == ComponentKind::Sink {
            fields.extend(SinkOptions::fields());
        }
        Some(fields)
    }

    fn summary(&self, kind: ComponentKind, type_name: &str) -> Option<String> {
        Some(find(kind, type_name)?.summary.to_owned())
    }

    fn example(&self, kind: ComponentKind, type_name: &str) -> Option<String> {
        Some(find(kind, type_name)?.example.to_owned())
    }
}
