//! Configuration: options declared once, next to the component that uses them, and loaded in layers (command
//! line, environment, files, defaults) where every value keeps the exact place it was written. Errors are
//! collected, never thrown, and point at that place.

pub mod access;
pub mod component;
pub mod delivery;
pub mod diagnostics;
pub mod effective;
pub mod environment;
pub mod field;
pub mod from_node;
pub mod habits;
pub mod interpolate;
pub mod layers;
pub mod load;
pub mod logging;
pub mod macros;
pub mod merge;
pub mod nearest;
pub mod node;
pub mod origin;
pub mod path;
pub mod reader;
pub mod reference;
pub mod render;
pub mod root;
pub mod schema;
pub mod secret;
pub mod shared;
pub mod target;
pub mod tls;
pub mod tls_client;
pub mod toml_file;
pub mod trial;
pub mod types;

pub use access::{AccessOptions, AuthOptions, Cidr, Hash};
pub use component::{Catalog, ComponentKind, Section};
pub use delivery::{
    BatchOptions, ClientAuthOptions, ClientBasicOptions, ConcurrencyOption, RetryBackoff, RetryOptions,
};
pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use effective::render_effective;
pub use environment::Environment;
pub use field::{Choice, Field, Shape, TableShape};
pub use from_node::FromNode;
pub use layers::{Override, is_option_path};
pub use load::{LoadRequest, Loaded, load};
pub use logging::{LogFormat, LogLevels, LogOutput, LoggingOptions};
pub use macros::{Options, defaults};
pub(crate) use macros::{choices, options};
pub use node::{Node, Table, Value};
pub use origin::{Origin, Source, SourceKind};
pub use path::Path;
pub use reader::Reader;
pub use reference::{component_markdown, reference_markdown};
pub use root::{
    ControlOptions, FormatOptions, FormatType, PipelineName, PipelineOptions, RateLimitOptions,
    RateLimitPolicy, RootOptions, ServerOptions, sections,
};
pub use schema::json_schema;
pub use secret::{Secret, SecretText};
pub use shared::{BufferCompression, BufferFull, BufferOptions, BufferType};
pub use tls::{TlsServerOptions, TlsVersion};
pub use tls_client::TlsClientOptions;
pub use trial::{TestDropOptions, TestInputOptions, TestOptions, TestOutputOptions, TestTime};
pub use types::{Listen, Located, OneOrMany};

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macros declare public structs, which this module keeps to itself")]
mod tests;
