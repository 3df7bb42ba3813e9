//! The two layers above the files: environment variables and dotted flags. Both name one option each and are
//! applied to the merged tree; a name that means nothing is an error with the nearest one that does.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::component::Catalog;
use super::diagnostics::Diagnostics;
use super::environment::Environment;
use super::macros::Options;
use super::nearest::nearest;
use super::node::{Node, Value};
use super::origin::Source;
use super::root::RootOptions;
use super::target::{Names, NoSuchOption, Target, assign, value};

/// What every variable of ours starts with.
pub const PREFIX: &str = "WEIR_";

/// Variables that start with the prefix and are no options.
pub const NOT_OPTIONS: [&str; 2] = [
    // Names the configuration file.
    "WEIR_CONFIG",
    // Read by the tests, which start weir in their environment: fail, not skip, where the machine lacks something.
    "WEIR_REQUIRE_ALL",
];

/// An option given on the command line as `--path value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The dotted path, such as `pipelines.0.name`.
    pub path: String,
    /// The value's text.
    pub value: String,
}

/// Whether a flag without its dashes can only be an option of the configuration: it has a dot, or is the name of
/// an option of the root table.
pub fn is_option_path(flag: &str) -> bool {
    let name = flag.replace('-', "_");
    flag.contains('.') || RootOptions::fields().iter().any(|field| field.name == name)
}

/// Applies the variables to the tree. `referenced` are those that the files mention: they may have any name.
pub fn apply_environment(
    tree: &mut Node,
    environment: &Environment,
    referenced: &BTreeSet<String>,
    catalog: &dyn Catalog,
    diags: &mut Diagnostics,
) {
    let ours = environment.iter().filter(|(name, _)| {
        name.starts_with(PREFIX)
            && !NOT_OPTIONS.contains(name)
            && !is_service_link(name)
            && !referenced.contains(*name)
    });
    let mut ours: Vec<(&str, &str)> = ours.collect();
    ours.sort_by(|(a, _), (b, _)| in_order(a, b, '_'));
    for (name, text) in ours {
        let source = Source::variable(name, text);
        let names = Names { tree, catalog };
        match names.variable(&name[PREFIX.len()..]) {
            Some(target) => set(tree, &target, text, &source, diags),
            None => {
                // What it was meant to be is unknown, so it may be a secret.
                diags.mask(&source.whole());
                let known = names.all_variables();
                let close = nearest_variable(&name[PREFIX.len()..], &known);
                let found = diags.error(
                    &source.name_origin(),
                    format!("unknown variable `{name}`: no option has this name"),
                );
                found.hint(match close {
                    Some(close) => format!("did you mean `{PREFIX}{close}`?"),
                    None => "every variable that starts with `WEIR_` names an option, as in `WEIR_LOGGING_LEVEL` or `WEIR_PIPELINES_0_NAME`".to_owned(),
                });
            }
        }
    }
}

/// Applies the dotted flags to the tree; of two for one option the later wins.
pub fn apply_overrides(
    tree: &mut Node,
    overrides: &[Override],
    catalog: &dyn Catalog,
    diags: &mut Diagnostics,
) {
    let mut ordered: Vec<&Override> = overrides.iter().collect();
    ordered.sort_by(|a, b| in_order(&a.path, &b.path, '.'));
    for Override { path, value: text } in ordered {
        let source = Source::flag(&format!("--{path}"), text);
        match (Names { tree, catalog }).dotted(path) {
            Ok(target) => set(tree, &target, text, &source, diags),
            Err(wrong) => report(path, &wrong, &source, diags),
        }
    }
}

/// The nearest name, close also when only the parts that differ are compared: long names are alike by what they
/// begin with.
fn nearest_variable<'a>(given: &str, known: &'a [String]) -> Option<&'a str> {
    let close = nearest(given, known.iter().map(String::as_str))?;
    let common = given.char_indices().zip(close.chars()).take_while(|((_, a), b)| a == b);
    let parted = common.filter(|((_, a), _)| *a == '_').last().map_or(0, |((i, _), _)| i + 1);
    nearest(&given[parted..], [&close[parted..]]).or_else(|| (given.starts_with(close)).then_some(close))?;
    Some(close)
}

fn report(path: &str, wrong: &NoSuchOption, source: &Arc<Source>, diags: &mut Diagnostics) {
    diags.mask(&source.whole());
    let NoSuchOption { step, at, known } = wrong;
    let place = if at.is_root() { "the configuration".to_owned() } else { format!("`{at}`") };
    let found =
        diags.error(&source.name_origin(), format!("unknown option `{path}`: {place} has no `{step}`"));
    let close = nearest(step, known.iter().copied());
    if let Some(close) = close {
        found.hint(format!("did you mean `--{}`?", replace_last(path, step, close)));
    } else if !known.is_empty() {
        found.hint(format!("the options are {}", known.join(", ")));
    }
}

fn replace_last(path: &str, step: &str, with: &str) -> String {
    match path.rfind(step) {
        Some(i) => format!("{}{with}{}", &path[..i], &path[i + step.len()..]),
        None => with.to_owned(),
    }
}

fn set(tree: &mut Node, target: &Target, text: &str, source: &Arc<Source>, diags: &mut Diagnostics) {
    let node = value(text, &target.shape, source);
    assign(tree, target, node, &source.name_origin(), diags);
}

/// Whether Kubernetes set it: for a service called `weir` it gives every pod of the namespace `WEIR_PORT`,
/// `WEIR_SERVICE_HOST` and the like.
fn is_service_link(name: &str) -> bool {
    let rest = &name[PREFIX.len()..];
    let port = rest.strip_prefix("PORT_").is_some_and(|r| {
        let (number, protocol) = r.split_once('_').unwrap_or((r, ""));
        number.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].iter().any(|p| protocol.starts_with(p))
    });
    rest == "PORT" || rest == "SERVICE_HOST" || rest.starts_with("SERVICE_PORT") || port
}

/// The order in which names apply: what holds others before what it holds, indices by number, and a `type` before
/// its siblings, because it decides what they mean.
fn in_order(a: &str, b: &str, separator: char) -> Ordering {
    let key = |part: &str| match part.parse::<u64>() {
        Ok(n) => (1, n, String::new()),
        Err(_) if part.eq_ignore_ascii_case("type") => (0, 0, String::new()),
        Err(_) => (2, 0, part.to_lowercase()),
    };
    let parts = |name: &str| name.split(separator).filter(|p| !p.is_empty()).map(key).collect::<Vec<_>>();
    parts(a).cmp(&parts(b))
}

/// All variables named by `{ env = "X" }` in the tree.
pub fn referenced_secrets(node: &Node, out: &mut BTreeSet<String>) {
    match &node.value {
        Value::Array(items) => items.iter().for_each(|item| referenced_secrets(item, out)),
        Value::Table(table) => {
            for entry in table.entries() {
                if entry.key == "env" {
                    out.extend(entry.node.as_str().map(str::to_owned));
                }
                referenced_secrets(&entry.node, out);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::TestCatalog;
    use crate::config::toml_file::parse_file;

    const FILE: &str = "[[pipelines]]\nname = \"a\"\n[[pipelines.sources]]\ntype = \"file\"\npath = \"x\"\n";

    fn with(vars: &[(&str, &str)], flags: &[(&str, &str)]) -> (serde_json::Value, Vec<String>) {
        let mut diags = Diagnostics::new();
        let mut tree = parse_file(&Source::file("f", FILE), &mut diags);
        let environment = Environment::from_pairs(vars.iter().copied());
        apply_environment(&mut tree, &environment, &BTreeSet::new(), &TestCatalog, &mut diags);
        let flags = flags.iter().map(|(p, v)| Override { path: (*p).into(), value: (*v).into() });
        apply_overrides(&mut tree, &flags.collect::<Vec<_>>(), &TestCatalog, &mut diags);
        let message =
            |d: &crate::config::Diagnostic| format!("{} [{}]", d.message, d.hint.clone().unwrap_or_default());
        (tree.to_json(), diags.items().iter().map(message).collect())
    }

    #[test]
    fn variables_find_their_options() {
        for (name, text, pointer, expected) in [
            ("WEIR_LOGGING_LEVEL", "debug", "/logging/level", "\"debug\""),
            ("WEIR_SHUTDOWN_TIMEOUT", "5s", "/shutdown_timeout", "\"5s\""),
            ("WEIR_LOGGING__STATUS_INTERVAL", "1s", "/logging/status_interval", "\"1s\""),
            ("WEIR_PIPELINES_0_NAME", "b", "/pipelines/0/name", "\"b\""),
            (
                "WEIR_PIPELINES_0_RATE_LIMIT_EVENTS_PER_SECOND",
                "5",
                "/pipelines/0/rate_limit/events_per_second",
                "\"5\"",
            ),
            ("WEIR_PIPELINES__0__RATE_LIMIT__BURST", "5", "/pipelines/0/rate_limit/burst", "\"5\""),
            (
                "WEIR_PIPELINES_0_SOURCES_0_MAX_LINE_SIZE",
                "1KiB",
                "/pipelines/0/sources/0/max_line_size",
                "\"1KiB\"",
            ),
            (
                "WEIR_PIPELINES_0_SOURCES_0_PATH",
                "[\"a\", \"b\"]",
                "/pipelines/0/sources/0/path",
                "[\"a\",\"b\"]",
            ),
            ("WEIR_PIPELINES_0_SOURCES_0_PATH_1", "b", "/pipelines/0/sources/0/path", "[\"x\",\"b\"]"),
            (
                "WEIR_PIPELINES_0_SOURCES_0_MULTILINE",
                "{\"start\": \"x\"}",
                "/pipelines/0/sources/0/multiline/start",
                "\"x\"",
            ),
            (
                "WEIR_PIPELINES_0_SOURCES_0_LABELS_TEAM_NAME",
                "5",
                "/pipelines/0/sources/0/labels/team_name",
                "\"5\"",
            ),
            ("WEIR_PIPELINES_0_SINKS_0_TYPE", "http", "/pipelines/0/sinks/0/type", "\"http\""),
            ("WEIR_PIPELINES_1_NAME", "c", "/pipelines/1/name", "\"c\""),
            ("WEIR_PIPELINES", "[{name = \"z\"}]", "/pipelines/0/name", "\"z\""),
            ("WEIR_SERVER_CORS_ORIGINS_0", "*", "/server/cors_origins", "[\"*\"]"),
        ] {
            let (tree, errors) = with(&[(name, text)], &[]);
            assert_eq!(errors, [""; 0], "{name}");
            assert_eq!(tree.pointer(pointer).unwrap().to_string(), expected, "{name}");
        }
    }

    #[test]
    fn a_pipeline_from_variables_alone() {
        let (tree, errors) = with(
            &[
                ("WEIR_PIPELINES_1_NAME", "b"),
                ("WEIR_PIPELINES_1_SINKS_0_TYPE", "http"),
                ("WEIR_PIPELINES_1_SINKS_0_TOKEN_FILE", "/run/t"),
                ("WEIR_PIPELINES_1_SOURCES_0_PATH", "y"),
                ("WEIR_PIPELINES_1_SOURCES_0_TYPE", "file"),
                ("WEIR_PIPELINES_2_NAME", "c"),
            ],
            &[],
        );
        assert_eq!(errors, [""; 0]);
        assert_eq!(tree["pipelines"][1]["sources"][0], serde_json::json!({"type": "file", "path": "y"}));
        assert_eq!(tree["pipelines"][1]["sinks"][0]["token"]["file"], "/run/t");
        assert_eq!(tree["pipelines"][2]["name"], "c");
    }

    #[test]
    fn wrong_variables_are_errors_with_the_nearest_name() {
        for (name, expected) in [
            ("WEIR_LOGING_LEVEL", "did you mean `WEIR_LOGGING_LEVEL`?"),
            ("WEIR_PIPELINES_0_SOURCES_0_PTH", "did you mean `WEIR_PIPELINES_0_SOURCES_0_PATH`?"),
            ("WEIR_PIPELINES_0_SOURCES_0_TOKEN", "names an option"),
            ("WEIR_PIPELINES_X_NAME", "did you mean `WEIR_PIPELINES_0_NAME`?"),
            ("WEIR_", "names an option"),
            ("WEIR_LOGGING_", "did you mean `WEIR_LOGGING`?"),
            ("WEIR_LOGGING_LEVEL_X", "did you mean `WEIR_LOGGING_LEVEL`?"),
        ] {
            let (_, errors) = with(&[(name, "hunter2")], &[]);
            assert_eq!(errors.len(), 1, "{name}");
            assert!(errors[0].contains(&format!("unknown variable `{name}`")), "{errors:?}");
            assert!(errors[0].contains(expected), "{errors:?}");
        }
        let (_, errors) = with(&[("WEIR_PIPELINES_5_NAME", "x")], &[]);
        assert_eq!(errors, ["index 5 is beyond the end: the array has 1 elements [the next index is 1]"]);
        let others = [
            "WEIR_CONFIG",
            "WEIR_PORT",
            "WEIR_SERVICE_HOST",
            "WEIR_SERVICE_PORT_HTTP",
            "WEIR_PORT_80_TCP_ADDR",
            "HOME",
        ];
        assert_eq!(with(&others.map(|name| (name, "x")), &[]).1, [""; 0]);
    }

    #[test]
    fn flags_win_over_variables_and_later_over_earlier() {
        let (tree, errors) = with(
            &[("WEIR_LOGGING_LEVEL", "warn"), ("WEIR_LOGGING_FORMAT", "json")],
            &[
                ("logging.level", "debug"),
                ("pipelines[0].sources.0.max-line-size", "2KiB"),
                ("logging.level", "trace"),
                ("pipelines.0.sinks.0.token", "{ env = \"X\" }"),
                ("pipelines.0.sinks.0.type", "http"),
                ("pipelines.0.sources.0.labels.a-b", "1"),
            ],
        );
        assert_eq!(errors, [""; 0]);
        assert_eq!(tree["logging"], serde_json::json!({"level": "trace", "format": "json"}));
        assert_eq!(tree["pipelines"][0]["sources"][0]["max_line_size"], "2KiB");
        assert_eq!(tree["pipelines"][0]["sources"][0]["labels"]["a-b"], "1");
        assert_eq!(tree["pipelines"][0]["sinks"][0]["token"]["env"], "X");
    }

    #[test]
    fn flags_that_are_options() {
        for (flag, expected) in
            [("logging.level", true), ("state_dir", true), ("shutdown-timeout", true), ("version", false)]
        {
            assert_eq!(is_option_path(flag), expected, "{flag}");
        }
    }

    #[test]
    fn structures_that_do_not_parse_say_how_to_write_them() {
        let mut diags = Diagnostics::new();
        let mut tree = Node::empty();
        let vars =
            Environment::from_pairs([("WEIR_SERVER_CORS_ORIGINS", "a,b"), ("WEIR_LOGGING", "{level:")]);
        apply_environment(&mut tree, &vars, &BTreeSet::new(), &TestCatalog, &mut diags);
        RootOptions::from_tree(&tree, &mut diags);
        let hints: Vec<_> = diags.items().iter().filter_map(|d| d.hint.as_deref()).collect();
        assert_eq!(
            hints,
            [
                "write an array as JSON, as in [\"a\", \"b\"]",
                "write a table as JSON, as in {\"key\": \"value\"}"
            ]
        );
    }

    #[test]
    fn wrong_flags_are_errors_with_the_nearest_name() {
        for (path, expected) in [
            ("loging.level", "the configuration has no `loging` [did you mean `--logging.level`?]"),
            ("logging.levl", "`logging` has no `levl` [did you mean `--logging.level`?]"),
            (
                "logging.colour",
                "`logging` has no `colour` [the options are level, format, output, file, status_interval]",
            ),
            ("logging.level.x", "`logging.level` has no `x` []"),
            ("pipelines.first.name", "`pipelines` has no `first` []"),
            (
                "pipelines.0.sources.0.pth",
                "`pipelines[0].sources[0]` has no `pth` [did you mean `--pipelines.0.sources.0.path`?]",
            ),
            (
                "",
                "the configuration has no `` [the options are shutdown_timeout, config_auto_reload, max_memory, state_dir, server, control, logging, pipelines, tests]",
            ),
        ] {
            let (_, errors) = with(&[], &[(path, "x")]);
            assert_eq!(errors, [format!("unknown option `{path}`: {expected}")]);
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_names_never_panic(name in "WEIR_[A-Z0-9_é]{0,30}", path in "[a-z0-9.\\[\\]é-]{0,30}", text in "\\PC{0,20}") {
            with(&[(&name, &text), ("WEIR_PIPELINES_0_SOURCES_0_LABELS", &text)], &[(&path, &text)]);
        }
    }
}
