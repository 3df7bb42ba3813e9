//! The options of the configuration file itself: the root table, the shared HTTP server and a pipeline.
//! Components stay opaque sections here; the engine gives each to the component its `type` names.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::access::{AccessOptions, AuthOptions};
use super::component::{ComponentKind, Section};
use super::diagnostics::Diagnostics;
use super::field::Shape;
use super::from_node::{FromNode, read_table, wrong_form, wrong_type};
use super::logging::LoggingOptions;
use super::node::Node;
use super::path::{Path, quote_string};
use super::tls::TlsServerOptions;
use super::trial::TestOptions;
use super::types::{Listen, Located};
use super::{choices, defaults, options};
use crate::base::units::ByteCount;

options! {
    /// The root table of the configuration.
    pub struct RootOptions {
        /// How long to wait at shutdown until everything in flight is delivered; what is left then is dropped
        /// and counted.
        #[range(Duration::ZERO..=Duration::from_secs(86_400))]
        pub shutdown_timeout: Duration = Duration::from_secs(10),
        /// Whether the configuration is read again when one of its files has changed, as it is on SIGHUP. A
        /// configuration with errors, or one that cannot be started, changes nothing.
        pub config_auto_reload: bool = false,
        /// Most memory that rows may keep: in buffers and histories, and all that the process holds. Beyond it
        /// sources wait until sinks have caught up. Default: nine tenths of the limit that the control group
        /// sets, if it sets one; otherwise none.
        #[range(ByteCount::mib(16)..=ByteCount(1 << 50))]
        pub max_memory: Option<ByteCount> = None,
        /// Directory for what must survive a restart, such as how far files were read; one process each. Default:
        /// `$XDG_STATE_HOME/weir`, or `~/.local/state/weir`; for root `/var/lib/weir`.
        pub state_dir: Option<String> = None,
        /// The shared HTTP router.
        pub server: ServerOptions = defaults(),
        /// The control socket.
        pub control: ControlOptions = defaults(),
        /// weir's own log.
        pub logging: LoggingOptions = defaults(),
        /// The pipelines; each is independent of the others.
        pub pipelines: Vec<PipelineOptions> = Vec::new(),
        /// Tests of the pipelines, run by `weir test`; a run only checks how they are written.
        pub tests: Vec<TestOptions> = Vec::new(),
    }
}

options! {
    /// The shared HTTP router, which serves every pipeline at `/<pipeline>/stream`.
    pub struct ServerOptions {
        /// Whether to listen at all.
        pub enabled: bool = true,
        /// Address to listen on.
        pub listen: Listen = Listen { host: "127.0.0.1".to_owned(), port: 8080 },
        /// Encryption; clients then use `https://`, with HTTP/2 where they can.
        pub tls: Option<TlsServerOptions> = None,
        /// Who may connect, and how much one may ask.
        pub access: Option<AccessOptions> = None,
        /// Who one has to be.
        pub auth: Option<AuthOptions> = None,
        /// Origins of web pages that may read from it, such as `https://logs.example.com`; `*` allows all. Pages of
        /// other origins can neither read anything nor hold a stream.
        pub cors_origins: Vec<String> = Vec::new(),
        /// Allows listening beyond this machine without any guard: whoever reaches the port reads every log.
        pub insecure_public: bool = false,
    }
}

options! {
    /// The Unix socket by which `weir top`, `weir tap` and `weir status` look into this process, and `weir reload` has it
    /// read its configuration again. Only the user that weir runs as, and root, can connect.
    pub struct ControlOptions {
        /// Whether to listen on it.
        pub enabled: bool = true,
        /// Path of the socket; one process each. Default: `weir/<pid>.sock` in `$XDG_RUNTIME_DIR`, or in `/run` for root,
        /// where the commands find it by themselves.
        pub socket: Option<String> = None,
    }
}

options! {
    /// A pipeline: sources, an ordered chain of filters, and sinks.
    pub struct PipelineOptions {
        /// Its name, unique, as it appears in URLs and metrics.
        pub name: Located<PipelineName>,
        /// Limits how many events the pipeline takes in.
        pub rate_limit: Option<RateLimitOptions> = None,
        /// How its sinks write events, unless they say otherwise.
        pub format: Option<FormatOptions> = None,
        /// Where events come from.
        #[shape(sections(ComponentKind::Source))]
        pub sources: Vec<Section> = Vec::new(),
        /// What every event passes through, in this order.
        #[shape(sections(ComponentKind::Filter))]
        pub filters: Vec<Section> = Vec::new(),
        /// Where events go.
        #[shape(sections(ComponentKind::Sink))]
        pub sinks: Vec<Section> = Vec::new(),
    }
}

options! {
    /// A limit on the events that a pipeline takes in.
    pub struct RateLimitOptions {
        /// How many events per second pass in the long run.
        #[range(0.001..=1e9)]
        pub events_per_second: f64,
        /// How many events may come at once after a quiet time. Default: one second's worth.
        #[range(1..=1_000_000_000)]
        pub burst: Option<u64> = None,
        /// What happens to events beyond the limit.
        pub policy: RateLimitPolicy = RateLimitPolicy::Drop,
        /// Longer events are dropped and counted. Default: no limit of its own.
        #[range(ByteCount(1)..=ByteCount::gib(1))]
        pub max_event_size: Option<ByteCount> = None,
    }
}

choices! {
    /// What happens to events beyond a limit.
    pub enum RateLimitPolicy {
        /// They are dropped and counted.
        Drop = "drop",
        /// They wait, and so does the source.
        Block = "block",
    }
}

options! {
    /// How events are written.
    pub struct FormatOptions {
        /// The format.
        pub r#type: FormatType,
        /// The line that the `text` format writes, with `{timestamp}`, `{level}`, `{source}`, `{message}` and
        /// `{pipeline}`; `{{` and `}}` are literal braces.
        pub template: Option<String> = None,
        /// How `text` and `json` write the time, in UTC: `rfc3339` (the default), `unix`, `unix_ms`, or strftime
        /// notation such as `%F %T`.
        pub timestamp_format: Option<String> = None,
    }
}

choices! {
    /// A format of events.
    pub enum FormatType {
        /// The line as it was received.
        Raw = "raw",
        /// One JSON object per line.
        Json = "json",
        /// A line made from a template.
        Text = "text",
    }
}

/// The shape of an array of components.
pub fn sections(kind: ComponentKind) -> Shape {
    Shape::List(Box::new(Shape::Section(kind)))
}

/// Names that the shared router uses itself.
const RESERVED_NAMES: [&str; 8] =
    ["api", "assets", "healthz", "metrics", "openapi", "pipelines", "readyz", "status"];

/// The most characters of a pipeline's name: it is a label on every metric.
const NAME_LENGTH_MAX: usize = 64;

/// The name of a pipeline: lower case letters, digits, `_` and `-`, not starting with `_` or `-`, and not a path
/// the router uses itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipelineName(String);

impl PipelineName {
    /// Checks a name. Errors say what is wrong with it.
    pub fn parse(text: &str) -> Result<PipelineName, String> {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if text.len() > NAME_LENGTH_MAX {
            return Err(format!("a pipeline's name has at most {NAME_LENGTH_MAX} characters"));
        }
        if RESERVED_NAMES.contains(&text) {
            return Err(format!("the name `{text}` is reserved: the router answers at /{text} itself"));
        }
        if !text.starts_with(letter) || !text.chars().all(|c| letter(c) || c == '_' || c == '-') {
            return Err(format!(
                "{text:?} is not a pipeline's name: it starts with a-z or 0-9 and goes on with a-z, 0-9, `_` and `-`"
            ));
        }
        Ok(PipelineName(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for PipelineName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PipelineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromNode for PipelineName {
    fn shape() -> Shape {
        Shape::Text("a name like \"app\"")
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<PipelineName> {
        let expected = Self::shape().expected();
        let Some(text) = node.as_str() else {
            wrong_type(node, at, &expected, diags);
            return None;
        };
        match PipelineName::parse(text) {
            Ok(name) => Some(name),
            Err(why) => {
                wrong_form(node, at, &why, &expected, diags);
                if let Ok(name) = PipelineName::parse(&sanitized(text)) {
                    diags.hint_last(format!("write \"{name}\""));
                }
                None
            }
        }
    }

    fn display(&self) -> String {
        quote_string(&self.0)
    }
}

/// The name with what is not allowed replaced, for a hint.
fn sanitized(text: &str) -> String {
    let replaced = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let name: String = replaced.take(NAME_LENGTH_MAX).collect();
    name.trim_matches('-').to_owned()
}

impl RootOptions {
    /// Reads a loaded tree and checks what concerns several options at once: names are unique, a log file is
    /// named where one is asked for.
    pub fn from_tree(tree: &Node, diags: &mut Diagnostics) -> Option<RootOptions> {
        let before = diags.error_count();
        let root: Option<RootOptions> = read_table(tree, &Path::root(), diags);
        names_are_unique(tree, diags);
        if let Some(node) = tree.get("logging") {
            super::logging::check(node, diags);
        }
        root.filter(|_| diags.error_count() == before)
    }
}

fn names_are_unique(tree: &Node, diags: &mut Diagnostics) {
    let pipelines = tree.get("pipelines").and_then(Node::as_array).unwrap_or_default();
    let mut seen: Vec<(&str, &Node)> = Vec::new();
    for (i, pipeline) in pipelines.iter().enumerate() {
        let Some(node) = pipeline.get("name") else { continue };
        let Some(name) = node.as_str() else { continue };
        match seen.iter().find(|(earlier, _)| *earlier == name) {
            Some((_, first)) => {
                diags
                    .error(&node.origin, format!("duplicate pipeline name `{name}`: names are unique"))
                    .label("used again here")
                    .also(&first.origin, "first used here")
                    .path(&Path::root().key("pipelines").index(i).key("name"));
            }
            None => seen.push((name, node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_configuration_has_every_default() {
        let mut diags = Diagnostics::new();
        let root = RootOptions::from_tree(&Node::empty(), &mut diags).unwrap();
        assert_eq!(root.shutdown_timeout, Duration::from_secs(10));
        assert_eq!(root.server.listen.to_string(), "127.0.0.1:8080");
        assert!(root.server.enabled && root.pipelines.is_empty() && diags.is_empty());
    }

    #[test]
    fn pipeline_names() {
        for good in ["app", "a", "0", "a-b_c", "status2"] {
            assert!(PipelineName::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["", "_stream", "-a", "App", "a b", "é", "status", "metrics", "openapi.json", &"a".repeat(65)]
        {
            assert!(PipelineName::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(sanitized("My App!"), "my-app");
    }

    #[test]
    fn duplicate_names_are_found_even_next_to_other_errors() {
        let pipeline = |name: &str| Node::table([("name", Node::from(name)), ("x", 1.into())]);
        let tree = Node::table([("pipelines", Node::array([pipeline("a"), pipeline("b"), pipeline("a")]))]);
        let mut diags = Diagnostics::new();
        assert!(RootOptions::from_tree(&tree, &mut diags).is_none());
        let last = diags.items().last().unwrap();
        assert_eq!(last.message, "duplicate pipeline name `a`: names are unique");
        assert_eq!((last.path.as_ref().unwrap().as_str(), last.secondary.len()), ("pipelines[2].name", 1));
        assert_eq!(diags.error_count(), 4);
    }
}
