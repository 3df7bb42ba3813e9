//! What `deploy/` holds, held to its word: agents and collectors run against each other with the configurations that
//! are shipped, every metric that an alert or the dashboard asks for exists, and systemd's, Prometheus' and
//! Kubernetes' own tools accept the rest.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::weir::{Place, Weir};
use support::{eventually, free_port, installed, skip};

const LINE: &str = "2026-11-21T10:00:00Z ERROR disk is full";

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Runs a program to its end; fails with what it printed unless it ends with 0.
#[track_caller]
fn passes(command: &mut Command) -> String {
    let run = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{command:?} failed:\n{text}");
    text
}

/// An agent and the one it sends to, as shipped; only directories and addresses are those of this test.
fn hand_over(agent: &str, collector: &str, moves: &[(&str, &str)], input: &str, stream: &str, output: &str) {
    let place = Place::new();
    let made = place.command(&["hash", "--token"]).output().unwrap();
    let made = String::from_utf8(made.stdout).unwrap();
    let value = |key: &str| {
        let line = made.lines().find_map(|l| l.strip_prefix(&format!("{key} = \"")));
        line.and_then(|l| l.strip_suffix('"')).unwrap_or_else(|| panic!("no {key} in {made}")).to_owned()
    };
    place.write("token", value("token"));
    place.write("hash", value("token_hash"));
    let [public, ingest, own] = [free_port(), free_port(), free_port()];
    let root = place.dir().display().to_string();
    let moved = |text: String, server: u16| {
        let text = text.replace("0.0.0.0:8080", &format!("127.0.0.1:{server}"));
        let text = text.replace("0.0.0.0:8081", &format!("127.0.0.1:{ingest}"));
        moves.iter().fold(text, |text, (from, to)| {
            text.replace(from, &to.replace("ROOT", &root).replace("INGEST", &format!("127.0.0.1:{ingest}")))
        })
    };
    place.write("collector.toml", moved(read(collector), public));
    place.write("agent.toml", moved(read(agent), own));
    let start = |name: &str, port: u16| -> Weir {
        let (config, state) = (format!("{name}.toml"), format!("state-{name}"));
        place.spawn(&mut place.command(&["run", "-c", &config, "--state_dir", &state]), port)
    };
    let mut collector = start("collector", public);
    collector.wait_ready();
    place.write(input, format!("{LINE}\n"));
    let agent = start("agent", own);
    let mut rows = collector.stream(&format!("/{stream}/stream?tail=10"));
    // What the agent sends is an object; here it is the line.
    let sent: Value = serde_json::from_str(&rows.row().message()).unwrap();
    assert_eq!((sent["level"].as_str(), sent["message"].as_str()), (Some("error"), Some(LINE)));
    eventually("the collector's file", || {
        let today = std::fs::read_dir(place.path(output)).ok()?.next()?.ok()?.path();
        std::fs::read_to_string(today).ok()?.contains("disk is full").then_some(())
    });
    agent.stop();
    collector.stop();
}

#[test]
fn composed_agent_and_collector_work_together() {
    let moves = [
        ("/logs/*.log", "ROOT/logs/*.log"),
        ("http://collector:8081", "http://INGEST"),
        ("/run/secrets/agent.token", "ROOT/token"),
        ("/run/secrets/collector.hash", "ROOT/hash"),
        ("/var/lib/weir/all", "ROOT/all"),
    ];
    hand_over("docker/agent.toml", "docker/collector.toml", &moves, "logs/app.log", "all", "all");
}

#[test]
fn kubernetes_agent_and_aggregator_work_together() {
    let moves = [
        ("/var/log/pods/*", "ROOT/pods/*"),
        ("http://weir-aggregator:8081", "http://INGEST"),
        ("/etc/weir-token/token", "ROOT/token"),
        ("/etc/weir-hash/hash", "ROOT/hash"),
        ("/var/lib/weir/cluster", "ROOT/cluster"),
    ];
    let input = "pods/shop_api-0_1f/api/0.log";
    hand_over("kubernetes/agent.toml", "kubernetes/aggregator.toml", &moves, input, "cluster", "cluster");
}

#[test]
fn the_packaged_configuration_is_accepted() {
    let path = deploy("debian/pipelines.toml").display().to_string();
    let end = Place::new().run(&["check", "-c", &path]);
    assert_eq!(end.code, 0, "{}", end.stderr);
}

#[test]
fn what_the_package_installs_is_there_or_is_made() {
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let build = read("debian/build");
    let assets = manifest.split_once("\nassets = [").unwrap().1.split_once("\n]").unwrap().0;
    let sources: Vec<&str> =
        assets.lines().filter_map(|l| l.trim().strip_prefix("[\"")?.split('"').next()).collect();
    assert!(sources.len() > 8, "{sources:?}");
    for source in sources {
        let made = source.strip_prefix("target/dist/").map(|name| name.trim_end_matches("/*.1.gz"));
        let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(source).exists();
        let known = there || source == "target/release/weir" || made.is_some_and(|name| build.contains(name));
        assert!(known, "{source} is neither in the repository nor made by deploy/debian/build");
    }
}

/// What the image's first stage copies: names in the repository, and where each comes to lie below the working directory.
fn copied_into_the_image() -> Vec<(String, PathBuf)> {
    let dockerfile = read("docker/Dockerfile");
    let lines =
        dockerfile.lines().filter_map(|l| l.strip_prefix("COPY ")).filter(|l| !l.starts_with("--from"));
    let copied = lines.flat_map(|line| {
        let mut words: Vec<&str> = line.split(' ').collect();
        let to = words.pop().unwrap();
        let lies = move |name: &str| if to.ends_with('/') { Path::new(to).join(name) } else { to.into() };
        words.into_iter().map(|name| (name.to_owned(), lies(name))).collect::<Vec<_>>()
    });
    copied.collect()
}

#[test]
fn the_image_has_every_file_that_its_build_names() {
    let place = Place::new();
    let copied = copied_into_the_image();
    assert!(copied.len() >= 3, "{copied:?}");
    for (name, to) in copied {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(&name);
        assert!(from.exists(), "{name}");
        std::os::unix::fs::symlink(from, place.dir().join(to)).unwrap();
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--offline", "--locked", "--no-deps", "--format-version", "1"]);
    let run = cargo.current_dir(place.dir()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let metadata: Value = serde_json::from_slice(&run.stdout).unwrap();
    let targets = metadata["packages"][0]["targets"].as_array().unwrap();
    for path in targets.iter().map(|target| target["src_path"].as_str().unwrap()) {
        assert!(Path::new(path).exists(), "Cargo.toml names {path}, which the Dockerfile does not copy");
    }
    assert!(targets.iter().any(|target| target["kind"][0] == "custom-build"));
}

/// The control socket is there: without it, `weir health` finds no weir that has no server.
#[test]
fn what_has_a_read_only_root_has_a_tmp() {
    assert!(read("docker/Dockerfile").contains("\nENV XDG_RUNTIME_DIR=/tmp\n"));
    let compose = read("docker/compose.yaml");
    let read_only = compose.matches("    read_only: true\n").count();
    assert_eq!((read_only, compose.matches("read_only: true\n    tmpfs: [/tmp]\n").count()), (2, 2));
    for name in ["kubernetes/agent.yaml", "kubernetes/aggregator.yaml"] {
        let text = read(name);
        assert!(
            text.contains("readOnlyRootFilesystem: true") && text.contains("mountPath: /tmp }"),
            "{name}"
        );
    }
}

/// A metric's names in an expression.
fn metrics(expression: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    expression.split(word).filter(|w| w.starts_with("weir_"))
}

fn expressions(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(table) => {
            out.extend(table.get("expr").and_then(Value::as_str).map(str::to_owned));
            table.values().for_each(|v| expressions(v, out));
        }
        Value::Array(list) => list.iter().for_each(|v| expressions(v, out)),
        _ => {}
    }
}

/// What the dashboard asks Prometheus for.
fn dashboard() -> Vec<String> {
    let mut out = Vec::new();
    expressions(&serde_json::from_str(&read("grafana/weir.json")).unwrap(), &mut out);
    assert!(out.len() > 15);
    out
}

#[test]
fn every_metric_that_is_asked_for_exists() {
    let place = Place::new();
    let mut weir = place.start(
        "[[pipelines]]\nname = \"app\"\nsources = [{ type = \"generate\", events_per_second = 1 }]\n\
         sinks = [{ type = \"null\", buffer = { type = \"disk\" } }, { type = \"http\" }]\n",
    );
    weir.wait_ready();
    let known = support::http::get(&weir.authority(), "/metrics").unwrap().1;
    // Families are declared before they have a series.
    let declared = known.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' '));
    let known: BTreeSet<String> = declared
        .map(|(name, kind)| format!("{name}{}", if kind == "counter" { "_total" } else { "" }))
        .collect();
    let rules = read("prometheus/weir.rules.yml");
    let rules = rules.lines().filter_map(|l| l.trim().strip_prefix("expr: ")).map(str::to_owned);
    let asked: Vec<String> = rules.chain(dashboard()).collect();
    for name in asked.iter().flat_map(|expression| metrics(expression)) {
        assert!(known.contains(name), "{name} is none of {known:?}");
    }
}

#[test]
fn prometheus_accepts_rules_and_dashboard() {
    if !installed("promtool") {
        return skip("prometheus_accepts_rules_and_dashboard", "promtool (of prometheus) is not installed");
    }
    passes(Command::new("promtool").arg("check").arg("rules").arg(deploy("prometheus/weir.rules.yml")));
    passes(Command::new("promtool").arg("test").arg("rules").arg(deploy("prometheus/weir.rules.test.yml")));
    let place = Place::new();
    let rule = |(at, expression): (usize, String)| {
        let expression = expression.replace("$__rate_interval", "1m");
        format!("      - {{ record: \"d{at}\", expr: {} }}\n", serde_json::to_string(&expression).unwrap())
    };
    let rules: String = dashboard().into_iter().enumerate().map(rule).collect();
    place.write("dashboard.yml", format!("groups:\n  - name: dashboard\n    rules:\n{rules}"));
    passes(Command::new("promtool").arg("check").arg("rules").arg(place.path("dashboard.yml")));
}

#[test]
fn systemd_accepts_the_unit() {
    if !installed("systemd-analyze") {
        return skip("systemd_accepts_the_unit", "systemd-analyze (of systemd) is not installed");
    }
    let place = Place::new();
    // Neither the program nor its man page is installed here.
    let unit = read("systemd/weir.service").replace("/usr/bin/weir", env!("CARGO_BIN_EXE_weir"));
    place.write("weir.service", unit.replace("Documentation=man:weir(1)\n", ""));
    let said = passes(Command::new("systemd-analyze").arg("verify").arg(place.path("weir.service")));
    // systemd 252 says that it goes on with the line before.
    let others: Vec<&str> = said
        .lines()
        .filter(|l| {
            l.contains("weir.service")
                && !l.ends_with("Failed to parse service type, ignoring: notify-reload")
        })
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn kubernetes_accepts_the_manifests() {
    if !installed("kubectl") {
        // Not in every distribution, so never required.
        return println!("SKIP kubernetes_accepts_the_manifests: kubectl is not installed");
    }
    let place = Place::new();
    for entry in std::fs::read_dir(deploy("kubernetes")).unwrap() {
        let path = entry.unwrap().path();
        place.write(path.file_name().unwrap().to_str().unwrap(), std::fs::read(&path).unwrap());
    }
    place.write("agent.token", "token");
    place.write("agent.hash", "hash");
    let text = passes(Command::new("kubectl").arg("kustomize").arg(place.dir()));
    for kind in
        ["Namespace", "DaemonSet", "Deployment", "Service", "PersistentVolumeClaim", "ConfigMap", "Secret"]
    {
        assert!(text.contains(&format!("\nkind: {kind}\n")), "{kind}: {text}");
    }
    // Names with a hash of the content were put in for those of the generators.
    for name in ["weir-agent", "weir-aggregator", "weir-agent-token", "weir-aggregator-hash"] {
        assert!(!text.contains(&format!("name: {name}\n          name: config")), "{name}");
        assert!(
            text.contains(&format!("name: {name}-")) || text.contains(&format!("secretName: {name}-")),
            "{name}"
        );
    }
    assert!(text.contains("image: registry.example.com/weir:0.1.0"));
}
