//! The JSON schema as an editor uses it: a validator that nobody here wrote accepts every configuration that weir ships
//! or documents, and refuses mistakes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::Command;

use support::skip;
use support::weir::Place;

/// Prints `file: path: message` for every violation of the schema in the first argument.
const VALIDATE: &str = "
import sys, json, tomllib, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for name in sys.argv[2:]:
    for error in validator.iter_errors(tomllib.load(open(name, 'rb'))):
        print(name, '/'.join(map(str, error.absolute_path)), error.message[:300], sep=': ')
";

/// What the validator says of these files; nothing where it is not installed.
fn violations(place: &Place, files: &[&Path]) -> Option<String> {
    let there = Command::new("python3").args(["-c", "import jsonschema, tomllib"]).output();
    if !there.is_ok_and(|run| run.status.success()) {
        skip("schema", "python3 with jsonschema (python3-jsonschema) and tomllib is not installed");
        return None;
    }
    place.write("schema.json", place.run(&["generate", "schema"]).stdout);
    let mut command = Command::new("python3");
    let run = command.args(["-c", VALIDATE]).arg(place.path("schema.json")).args(files).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(String::from_utf8(run.stdout).unwrap())
}

fn root(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn what_is_shipped_fits_the_schema() {
    let place = Place::new();
    let example = std::fs::read_to_string(root("pipelines.toml.example")).unwrap();
    // `#option = …` and `#[table]` are options that are not set, `# text` is prose.
    let set = |line: &str| match line.strip_prefix('#') {
        Some(option) if option.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            format!("{option}\n")
        }
        _ => format!("{line}\n"),
    };
    place.write("all.toml", example.lines().map(set).collect::<String>());
    let shipped = [
        "pipelines.toml.example",
        "src/cli/demo.toml",
        "deploy/debian/pipelines.toml",
        "deploy/docker/agent.toml",
        "deploy/docker/collector.toml",
        "deploy/kubernetes/agent.toml",
        "deploy/kubernetes/aggregator.toml",
    ];
    let mut files: Vec<_> = shipped.iter().map(|path| root(path)).collect();
    files.push(place.path("all.toml"));
    let files: Vec<&Path> = files.iter().map(|path| &**path).collect();
    assert_eq!(violations(&place, &files).unwrap_or_default(), "");
}

#[test]
fn mistakes_do_not_fit_it() {
    let place = Place::new();
    let mistakes = [
        ("an unknown option", "shutdwn_timeout = \"1s\""),
        ("a wrong type", "config_auto_reload = \"yes\""),
        ("an unknown component", "[[pipelines]]\nname = \"a\"\nsources = [{ type = \"fiel\" }]"),
        (
            "an option of another component",
            "[[pipelines]]\nname = \"a\"\nsources = [{ type = \"stdin\", path = \"x\" }]",
        ),
        ("a missing option", "[[pipelines]]\nname = \"a\"\nsources = [{ type = \"file\" }]"),
        (
            "an unknown choice",
            "[[pipelines]]\nname = \"a\"\nfilters = [{ type = \"include\", patterns = \"a\", logic = \"xor\" }]",
        ),
    ];
    let names: Vec<_> = (0..mistakes.len()).map(|at| place.path(&format!("{at}.toml"))).collect();
    for (name, (_, text)) in names.iter().zip(mistakes) {
        std::fs::write(name, text).unwrap();
    }
    let files: Vec<&Path> = names.iter().map(|name| &**name).collect();
    let Some(said) = violations(&place, &files) else { return };
    for (name, (what, _)) in names.iter().zip(mistakes) {
        assert!(said.contains(name.to_str().unwrap()), "{what} is accepted");
    }
}
