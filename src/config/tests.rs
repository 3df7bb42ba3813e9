//! The declaration macros in use: what components rely on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::base::units::ByteCount;

choices! {
    /// Where reading starts in a file seen for the first time.
    pub enum StartAt {
        /// The first byte.
        Beginning = "beginning",
        /// The end: only what is written from now on.
        End = "end",
    }
}

options! {
    /// Joins lines.
    pub struct MultilineOptions {
        /// Starts an event.
        pub start: String,
        /// Waits.
        #[range(1..=10)]
        pub lines: Option<u32> = None,
    }
}

options! {
    /// Options of the `file` source.
    pub struct FileOptions {
        /// Globs to read; `**` crosses directories.
        pub path: OneOrMany,
        /// Globs to leave out.
        pub exclude: Vec<String> = Vec::new(),
        /// Where to start.
        pub start_at: StartAt = StartAt::Beginning,
        /// Longest line.
        #[range(ByteCount(64)..=ByteCount::mib(64))]
        pub max_line_size: ByteCount = ByteCount::kib(256),
        /// How often to look.
        #[range(Duration::from_millis(10)..=Duration::from_secs(60))]
        pub poll_interval: Duration = Duration::from_millis(250),
        /// Joins lines.
        pub multiline: Option<MultilineOptions> = None,
        /// A keyword.
        pub r#type: Option<String> = None,
        /// Free keys.
        pub labels: BTreeMap<String, i64> = BTreeMap::new(),
        /// On or off.
        pub on: bool = true,
        /// How much.
        pub ratio: f64 = 0.5,
    }
}

options! {
    /// Options that several components share.
    pub struct Shared {
        /// A secret.
        pub token: Option<Secret> = None,
    }
}

fn read(node: &Node) -> (Option<FileOptions>, Diagnostics) {
    let mut diags = Diagnostics::new();
    let path = Path::root().key("s").index(0);
    let value = FileOptions::from_node(node, &path, &mut diags);
    (value, diags)
}

fn messages(diags: &Diagnostics) -> Vec<String> {
    diags
        .items()
        .iter()
        .map(|d| {
            let path = d.path.as_ref().map_or("", Path::as_str);
            format!("{path}: {} [{}]", d.message, d.hint.as_deref().unwrap_or_default())
        })
        .collect()
}

#[test]
fn defaults_fill_in_what_is_absent() {
    let (options, diags) = read(&Node::table([("path", "a")].map(|(k, v)| (k, Node::from(v)))));
    let options = options.unwrap();
    assert!(diags.is_empty());
    assert_eq!(&options.path[..], ["a"]);
    assert_eq!((options.start_at, options.max_line_size.0), (StartAt::Beginning, 262_144));
    assert_eq!((options.poll_interval, options.on), (Duration::from_millis(250), true));
    assert!(options.multiline.is_none() && options.r#type.is_none());
}

#[test]
fn every_option_is_read() {
    let (options, diags) = read(&Node::table([
        ("path", Node::from(vec!["a", "b"])),
        ("exclude", vec!["c"].into()),
        ("start_at", "end".into()),
        ("max_line_size", "1KiB".into()),
        ("poll_interval", "1s".into()),
        ("multiline", Node::table([("start", Node::from("^x")), ("lines", 3.into())])),
        ("type", "t".into()),
        ("labels", Node::table([("k", Node::from(1))])),
        ("on", false.into()),
        ("ratio", 1.into()),
    ]));
    assert_eq!(messages(&diags), [""; 0]);
    let options = options.unwrap();
    assert_eq!(options.start_at, StartAt::End);
    assert_eq!(options.multiline.unwrap().lines, Some(3));
    assert_eq!((options.labels["k"], options.ratio, options.r#type.as_deref()), (1, 1.0, Some("t")));
}

#[test]
fn all_errors_are_reported_at_once() {
    let (options, diags) = read(&Node::table([
        ("exclude", Node::array([1.into(), "x".into(), true.into()])),
        ("start_at", "begining".into()),
        ("max_line_size", "1B".into()),
        ("poll_interval", 5.into()),
        ("multiline", Node::table([("start", Node::from("^x")), ("lines", 11.into()), ("stat", 1.into())])),
        ("labels", Node::table([("k", Node::from("v"))])),
        ("on", "true".into()),
        ("ratio", f64::NAN.into()),
        ("pth", "x".into()),
    ]));
    assert!(options.is_none());
    assert_eq!(
        messages(&diags),
        [
            "s[0].path: missing option `path`: it has no default [set `path` to a string or an array of such]",
            "s[0].exclude[0]: wrong type: expected a string, found an integer []",
            "s[0].exclude[2]: wrong type: expected a string, found a boolean []",
            "s[0].start_at: invalid value: `begining` is not allowed [did you mean `beginning`?]",
            "s[0].max_line_size: `max_line_size` is out of range: 64B to 64MiB is allowed []",
            "s[0].poll_interval: invalid value: a duration needs its unit [write \"5s\" or \"5ms\"]",
            "s[0].multiline.lines: `lines` is out of range: 1 to 10 is allowed []",
            "s[0].multiline.stat: unknown option `stat` [did you mean `start`?]",
            "s[0].labels.k: wrong type: expected a whole number, found a string []",
            "s[0].on: wrong type: expected true or false, found a string []",
            "s[0].ratio: invalid value: nan is not a number []",
            "s[0].pth: unknown option `pth` [did you mean `path`?]",
        ]
    );
}

#[test]
fn several_structs_read_from_one_table() {
    let node = Node::table([("path", Node::from("a")), ("token", "x".into()), ("tokn", "y".into())]);
    let mut diags = Diagnostics::new();
    let mut reader = Reader::new(&node, &Path::root(), "the `file` source", &mut diags).unwrap();
    let own: Option<FileOptions> = reader.read(&mut diags);
    let shared: Option<Shared> = reader.read(&mut diags);
    reader.finish(&mut diags);
    assert!(own.is_some() && shared.unwrap().token.is_some());
    assert_eq!(messages(&diags), ["tokn: unknown option `tokn` [did you mean `token`?]"]);
}

#[test]
fn strings_stand_for_numbers_only_where_nothing_else_can_be_written() {
    let number = |node: Node| u16::from_node(&node, &Path::root(), &mut Diagnostics::new());
    assert_eq!(number(Node::loose("80", Origin::Default)), Some(80));
    assert_eq!(number(Node::loose("99999", Origin::Default)), None);
    assert_eq!(number(Node::loose("x", Origin::Default)), None);
    assert_eq!(number(Node::from("80")), None);
    assert_eq!(number(Node::from(-1)), None);
}

#[test]
fn fields_describe_the_declaration() {
    let fields = FileOptions::fields();
    let line: Vec<String> = fields
        .iter()
        .map(|f| {
            let default = f.default.as_deref().unwrap_or(if f.required { "required" } else { "-" });
            format!("{} {} {default} {}", f.name, f.shape.type_name(), f.range.as_deref().unwrap_or("-"))
        })
        .collect();
    assert_eq!(
        line,
        [
            "path string or array of string required -",
            "exclude array of string [] -",
            "start_at `\"beginning\"`, `\"end\"` \"beginning\" -",
            "max_line_size size \"256KiB\" 64B to 64MiB",
            "poll_interval duration \"250ms\" 10ms to 1m",
            "multiline table - -",
            "type string - -",
            "labels table of integer {} -",
            "on boolean true -",
            "ratio number 0.5 -",
        ]
    );
    assert_eq!(fields[0].doc, "Globs to read; `**` crosses directories.");
    assert_eq!(FileOptions::DOC.trim(), "Options of the `file` source.");
}

#[test]
fn declarations_are_checked() {
    use super::field::declaration_faults;
    assert_eq!(declaration_faults(&RootOptions::fields()), [""; 0]);
    assert_eq!(declaration_faults(&PipelineOptions::fields()), [""; 0]);
    let mut fields = vec![Field::new::<u32>("Bad", "", Some(1)), Field::new::<u32>("Bad", " Doc.", None)];
    fields[1].default = Some("= 1".to_owned());
    assert_eq!(declaration_faults(&fields).len(), 5);
}

#[test]
fn values_display_as_toml() {
    let multiline = MultilineOptions { start: "a\"b".into(), lines: Some(2) };
    assert_eq!(multiline.display(), r#"{ start = "a\"b", lines = 2 }"#);
    assert_eq!(defaults::<Shared>().display(), "{}");
    assert_eq!(StartAt::End.display(), "\"end\"");
    assert_eq!(BTreeMap::from([("a b".to_owned(), 1i64)]).display(), "{ \"a b\" = 1 }");
}

options! {
    /// Options of the `http` sink.
    pub struct HttpOptions {
        /// Who may read.
        pub token: Option<Secret> = None,
        /// Filters of its own.
        #[shape(root::sections(ComponentKind::Filter))]
        pub filters: Vec<Section> = Vec::new(),
    }
}

options! {
    /// Options of the `include` filter.
    pub struct IncludeOptions {
        /// Patterns, of which one has to match.
        pub patterns: Vec<Located<String>>,
    }
}

/// Three components to test with.
pub(super) struct TestCatalog;

impl Catalog for TestCatalog {
    fn names(&self, kind: ComponentKind) -> Vec<&'static str> {
        match kind {
            ComponentKind::Source => vec!["file"],
            ComponentKind::Filter => vec!["include"],
            ComponentKind::Sink => vec!["http"],
        }
    }

    fn component(&self, kind: ComponentKind, type_name: &str) -> Option<Vec<Field>> {
        match (kind, type_name) {
            (ComponentKind::Source, "file") => {
                Some(FileOptions::fields().into_iter().filter(|f| f.name != "type").collect())
            }
            (ComponentKind::Filter, "include") => Some(IncludeOptions::fields()),
            (ComponentKind::Sink, "http") => Some(HttpOptions::fields()),
            _ => None,
        }
    }

    fn summary(&self, _: ComponentKind, type_name: &str) -> Option<String> {
        Some(format!("The `{type_name}` component."))
    }

    fn example(&self, kind: ComponentKind, type_name: &str) -> Option<String> {
        Some(format!("[[pipelines.{}]]\ntype = \"{type_name}\"\n", kind.plural()))
    }
}
