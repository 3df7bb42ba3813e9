//! Documentation that cannot go stale: the reference and the schema are generated and compared, and the
//! example names every option there is. The TOML blocks of the docs are checked by `weir check` in `tests/cli_check.rs`.
//! `WEIR_REWRITE_DOCS=1 cargo test --test docs` writes the generated files anew.

use std::fs;
use std::path::{Path, PathBuf};

use logweir::config::{self, Catalog, ComponentKind, Diagnostics, Environment, LoadRequest};
use logweir::engine;
use logweir::registry::Registry;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a generated file with what is committed, or writes it when asked to.
fn generated(path: &str, text: &str) {
    let path = root().join(path);
    if std::env::var_os("WEIR_REWRITE_DOCS").is_some() {
        fs::write(&path, text).expect("writable");
        return;
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "{} is stale; run: WEIR_REWRITE_DOCS=1 cargo test --test docs",
        path.strip_prefix(root()).unwrap_or(&path).display()
    );
}

/// What `check` says of a file: nothing, or the rendered errors.
fn check(file: &Path) -> Result<(), String> {
    let request = LoadRequest {
        files: vec![file.to_owned()],
        environment: Environment::from_pairs([("HOSTNAME", "node-1")]),
        ..LoadRequest::default()
    };
    let mut diagnostics = Diagnostics::new();
    if let Some(loaded) = config::load(&request, &Registry, &mut diagnostics) {
        engine::plan(&loaded.tree, &mut diagnostics);
    }
    if diagnostics.has_errors() { Err(diagnostics.render_human(false)) } else { Ok(()) }
}

#[test]
fn the_reference_is_what_the_code_declares() {
    generated("docs/REFERENCE.md", &config::reference_markdown(&Registry));
}

#[test]
fn the_schema_is_what_the_code_declares() {
    let schema = serde_json::to_string_pretty(&config::json_schema(&Registry)).expect("JSON");
    generated("docs/weir.schema.json", &(schema + "\n"));
}

#[test]
fn the_example_is_accepted() {
    check(&root().join("pipelines.toml.example")).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn the_example_is_accepted_with_every_option_set() {
    let example = fs::read_to_string(root().join("pipelines.toml.example")).expect("the example is there");
    // `#option = …` and `#[table]` are options that are not set, `# text` is prose.
    let set = |line: &str| match line.strip_prefix('#') {
        Some(option) if option.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => option.to_owned(),
        _ => line.to_owned(),
    };
    let all: Vec<String> = example.lines().map(set).collect();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("all.toml");
    fs::write(&path, all.join("\n")).expect("writable");
    check(&path).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn the_example_names_every_component_and_option() {
    let example = fs::read_to_string(root().join("pipelines.toml.example")).expect("the example is there");
    let has = |word: &str| {
        example.lines().any(|l| l.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word))
    };
    let mut missing = Vec::new();
    for kind in ComponentKind::ALL {
        for name in Registry.names(kind) {
            if !example.contains(&format!("type = \"{name}\"")) {
                missing.push(format!("{} {name}", kind.as_str()));
            }
            for field in Registry.component(kind, name).unwrap_or_default() {
                if !has(field.name) {
                    missing.push(format!("{} {name}: {}", kind.as_str(), field.name));
                }
            }
        }
    }
    assert!(missing.is_empty(), "pipelines.toml.example lacks:\n{}", missing.join("\n"));
}

#[test]
fn both_readmes_have_the_same_commands_and_links() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    // Comments are in the language of the text, everything before them is not.
    let commands = |text: &str| {
        let mut inside = false;
        let mut found = Vec::new();
        for line in text.lines() {
            if line.starts_with("```") {
                inside = !inside;
            } else if inside {
                found.push(line.split('#').next().unwrap().trim_end().to_owned());
            }
        }
        found
    };
    let links = |text: &str| {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        let mut targets: Vec<_> = targets.map(|(target, _)| target.to_owned()).collect();
        targets.retain(|target| !target.starts_with("README"));
        targets.sort();
        targets
    };
    let (english, chinese) = (read("README.md"), read("README.zh-CN.md"));
    assert_eq!(commands(&english), commands(&chinese));
    assert!(commands(&english).len() > 30);
    assert_eq!(links(&english), links(&chinese));
}
