//! Loading from real files: search order, directories, and what the user sees when something is wrong.

use super::*;
use crate::config::RootOptions;
use crate::config::tests::TestCatalog;

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Files(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Loads and types; the messages have the directory's name left out.
    fn load(&self, mut request: LoadRequest, vars: &[(&str, &str)]) -> (Option<Loaded>, String, u8) {
        for path in &mut request.files {
            *path = self.0.path().join(&*path);
        }
        let dir = self.0.path().to_str().unwrap();
        let vars = vars.iter().map(|(name, value)| (*name, value.replace("DIR", dir)));
        request.environment = Environment::from_pairs(vars);
        let mut diags = Diagnostics::new();
        let loaded = load(&request, &TestCatalog, &mut diags);
        if let Some(loaded) = &loaded {
            RootOptions::from_tree(&loaded.tree, &mut diags);
        }
        (loaded, diags.render_human(false).replace(&format!("{dir}/"), ""), diags.exit_code())
    }
}

fn files(names: &[&str]) -> LoadRequest {
    LoadRequest { files: names.iter().map(PathBuf::from).collect(), ..LoadRequest::default() }
}

#[test]
fn every_error_in_one_run() {
    let dir = Files::new(&[(
        "p.toml",
        r#"shutdown_timeout = 10
[server]
listen = ":8080"
prot = 1
[logging]
level = "debgu"
output = "syslog"
[[pipelines]]
name = "app"
rate_limit = { events_per_second = 0, burst = "${N}" }
[[pipelines.sources]]
path = "${NONE}"
[[pipelines]]
name = "app"
format = { type = "jsn" }
"#,
    )]);
    let vars = [("N", "many"), ("WEIR_SERVER_ENABLED", "yes"), ("WEIR_LOGING_FORMAT", "json")];
    let overrides = vec![Override { path: "logging.status_interval".into(), value: "1 parsec".into() }];
    let (_, shown, code) = dir.load(LoadRequest { overrides, ..files(&["p.toml"]) }, &vars);
    insta::assert_snapshot!(shown);
    assert_eq!(code, 78);
}

#[test]
fn syntax_errors_do_not_hide_the_others() {
    let dir = Files::new(&[(
        "p.toml",
        "shutdown_timeout = \n[logging]\nlevl = \"info\"\n[[pipelines]]\nname = app\n[[pipelines.sources]]\ntype = \"file\n",
    )]);
    let (_, shown, _) = dir.load(files(&["p.toml"]), &[]);
    insta::assert_snapshot!(shown);
}

#[test]
fn layers_in_their_order() {
    let dir = Files::new(&[(
        "p.toml",
        "shutdown_timeout = \"${T}\"\n[logging]\nlevel = \"warn\"\nformat = \"json\"\n",
    )]);
    let overrides = vec![Override { path: "logging.level".into(), value: "trace".into() }];
    let vars = [("WEIR_LOGGING_LEVEL", "debug"), ("WEIR_LOGGING_OUTPUT", "none"), ("T", "3s")];
    let (loaded, shown, code) = dir.load(LoadRequest { overrides, ..files(&["p.toml"]) }, &vars);
    assert_eq!((shown.as_str(), code), ("", 0));
    let root = RootOptions::from_tree(&loaded.unwrap().tree, &mut Diagnostics::new()).unwrap();
    assert_eq!(root.logging.level.to_string(), "trace");
    assert_eq!(root.logging.format.as_str(), "json");
    assert_eq!(root.logging.output.as_str(), "none");
    assert_eq!(root.shutdown_timeout.as_secs(), 3);
}

#[test]
fn a_directory_is_merged_in_name_order() {
    let dir = Files::new(&[
        ("d/20.toml", "[[pipelines]]\nname = \"b\"\n"),
        ("d/10.toml", "[[pipelines]]\nname = \"a\"\n[logging]\nlevel = \"info\"\n"),
        ("d/.hidden.toml", "not toml"),
        ("d/README", "not toml"),
        ("e/1.toml", "[logging]\nlevel = \"info\"\n"),
        ("e/2.toml", "[logging]\nlevel = \"warn\"\n[[pipelines]]\nname = \"a\"\n"),
    ]);
    let (loaded, shown, _) = dir.load(files(&["d"]), &[]);
    assert_eq!(shown, "");
    let loaded = loaded.unwrap();
    assert_eq!(
        loaded.tree.get("pipelines").unwrap().to_json(),
        serde_json::json!([{"name": "a"}, {"name": "b"}])
    );
    assert_eq!((loaded.files.len(), loaded.sources.len()), (3, 2));
    let (_, shown, _) = dir.load(files(&["d", "e"]), &[]);
    insta::assert_snapshot!(shown);
}

#[test]
fn files_that_are_not_there_or_not_text() {
    let dir = Files::new(&[("empty/x", ""), ("latin.toml", "")]);
    std::fs::write(dir.path("latin.toml"), b"a = 1\nb = \"\xe9\"\n").unwrap();
    for (request, vars, message, code) in [
        (files(&["none.toml"]), vec![], "cannot read none.toml: no such file or directory", 66),
        (files(&["empty"]), vec![], "no configuration in the directory", 66),
        (files(&["latin.toml"]), vec![], "not UTF-8: latin.toml has an invalid byte at 11", 78),
        (LoadRequest::default(), vec![("WEIR_CONFIG", "DIR/none.toml")], "cannot read none.toml", 66),
    ] {
        let (loaded, shown, exit) = dir.load(request, &vars);
        assert!(loaded.is_none());
        assert!(shown.starts_with(&format!("error: {message}")), "{shown}");
        assert_eq!(exit, code, "{shown}");
    }
    let (_, shown, _) = dir.load(files(&["latin.toml"]), &[]);
    assert!(shown.contains("--> latin.toml:2:6"), "{shown}");
}

#[test]
fn the_search_finds_the_first() {
    let dir =
        Files::new(&[("xdg/weir/pipelines.toml", "state_dir = \"xdg\""), ("c.toml", "state_dir = \"c\"")]);
    let state_dir = |request: LoadRequest, vars: &[(&str, &str)]| {
        let (loaded, shown, _) = dir.load(request, vars);
        assert_eq!(shown, "");
        loaded.unwrap().tree.get("state_dir").and_then(|n| n.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let node = |text: &str| Some(Node::table([("state_dir", Node::from(text))]));
    let xdg = [("XDG_CONFIG_HOME", "DIR/xdg")];
    let both = [("XDG_CONFIG_HOME", "DIR/xdg"), ("WEIR_CONFIG", "DIR/c.toml")];
    assert_eq!(state_dir(LoadRequest::default(), &xdg), "xdg");
    assert_eq!(state_dir(LoadRequest::default(), &both), "c");
    assert_eq!(state_dir(LoadRequest { base: node("base"), ..LoadRequest::default() }, &both), "base");
    assert_eq!(state_dir(LoadRequest { fallback: node("fallback"), ..LoadRequest::default() }, &xdg), "xdg");
    let nowhere = [("XDG_CONFIG_HOME", "DIR/nowhere")];
    assert_eq!(
        state_dir(LoadRequest { fallback: node("fallback"), ..LoadRequest::default() }, &nowhere),
        "fallback"
    );
    let request = LoadRequest { fallback: node("fallback"), ..LoadRequest::default() };
    assert_eq!(state_dir(request, &[nowhere[0], ("WEIR_PIPELINES_0_NAME", "a")]), "");
    let home = Environment::from_pairs([("HOME", "/home/u")]);
    assert_eq!(
        search_path(&home),
        ["pipelines.toml", "/home/u/.config/weir/pipelines.toml", "/etc/weir/pipelines.toml"]
            .map(PathBuf::from)
    );
}

#[test]
fn variables_that_the_file_mentions_are_no_options() {
    let text = "state_dir = \"${WEIR_STATE}\"\n[[pipelines]]\nname = \"a\"\n[[pipelines.sinks]]\ntype = \"http\"\ntoken = { env = \"WEIR_TOKEN\" }\n";
    let dir = Files::new(&[("p.toml", text)]);
    let (_, shown, _) = dir.load(files(&["p.toml"]), &[("WEIR_STATE", "x"), ("WEIR_TOKEN", "y")]);
    assert_eq!(shown, "");
}

#[test]
fn unknown_variables_do_not_show_their_value() {
    let (_, shown, _) = Files::new(&[]).load(
        LoadRequest { base: Some(Node::empty()), ..LoadRequest::default() },
        &[("WEIR_TOKEN", "hunter2")],
    );
    assert!(shown.contains("WEIR_TOKEN=*******") && !shown.contains("hunter2"), "{shown}");
}
