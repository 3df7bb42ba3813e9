//! Which configuration a command is about: files, the demo, or one made from quick flags, with the environment
//! and dotted overrides on top.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::exit::{Exit, Failure};
use super::quick::Quick;
use crate::config::load::search_path;
use crate::config::{
    Diagnostics, Environment, Listen, LoadRequest, Loaded, Node, Origin, Override, load, toml_file,
};
use crate::registry::Registry;

/// The demo's configuration, as a user would write it.
const DEMO: &str = include_str!("demo.toml");

/// What a run was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Configuration files.
    Files,
    /// Quick flags, a program, or standard input alone: one pipeline for as long as its input lasts.
    Quick,
    /// The demo.
    Demo,
}

/// Where a command's configuration comes from.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    request: LoadRequest,
    mode: Mode,
    has_fallback: bool,
    /// Files that quick flags want written.
    outputs: Vec<String>,
}

impl ConfigSource {
    /// Files, or the search for them; where none is found, nothing.
    pub fn files(files: Vec<PathBuf>, overrides: Vec<Override>, environment: Environment) -> ConfigSource {
        let request = LoadRequest { files, overrides, environment, base: None, fallback: None };
        ConfigSource { request, mode: Mode::Files, has_fallback: false, outputs: Vec::new() }
    }

    /// The same, but for a run: quick flags make the configuration, and without any, standard input is one when
    /// something is piped into it.
    ///
    /// # Errors
    /// When the quick flags make no sense.
    pub fn or_quick(mut self, quick: &Quick) -> Result<ConfigSource, Failure> {
        if quick.is_asked_for() {
            if !self.request.files.is_empty() {
                return Err(Failure::usage("`-c` and the flags for one pipeline exclude each other")
                    .hint("put the pipeline into the file, or leave `-c` out"));
            }
            self.request.base = Some(quick.tree()?);
            self.outputs.clone_from(&quick.flags.output_file);
            self.mode = Mode::Quick;
        } else if quick.stdin_is_piped {
            self.request.fallback = Some(quick.tree()?);
            self.has_fallback = true;
        }
        Ok(self)
    }

    /// The same, but the demo.
    #[must_use]
    pub fn demo(mut self) -> ConfigSource {
        // Its text is part of the program and a test reads it; what is wrong with it shows when it is planned.
        let text = crate::config::Source::file("demo.toml", DEMO);
        self.request.base = Some(toml_file::parse_file(&text, &mut Diagnostics::new()));
        self.mode = Mode::Demo;
        self
    }

    /// Loads it. What is wrong with it is in `findings`; `None` if that is so bad that nothing was read.
    ///
    /// # Errors
    /// With exit code 66 when there is no configuration at all.
    pub fn load(&self, findings: &mut Diagnostics) -> Result<Option<Loaded>, Failure> {
        let loaded = load(&self.request, &Registry, findings);
        let nothing_found =
            loaded.as_ref().is_some_and(|l| l.files.is_empty() && l.tree.get("pipelines").is_none());
        if nothing_found && !findings.has_errors() {
            return Err(self.no_config());
        }
        Ok(loaded)
    }

    fn no_config(&self) -> Failure {
        let places: Vec<String> =
            search_path(&self.request.environment).iter().map(|p| p.display().to_string()).collect();
        Failure::new(Exit::NO_INPUT, format!("no configuration: none of {} exists", places.join(", ")))
            .hint("three things to try:\n    weir demo                        see it at work with sample logs\n    app | weir                       watch a program's output in the browser\n    weir -c pipelines.toml           run a configuration; `weir list` shows what it can hold")
    }

    /// What the loaded configuration turned out to be.
    pub fn mode(&self, loaded: &Loaded) -> Mode {
        if self.has_fallback && loaded.files.is_empty() { Mode::Quick } else { self.mode }
    }

    /// Creates the files that quick flags name, as a shell would: a file that cannot be written ends the run before
    /// it begins. Names that depend on the events are left to the sink.
    ///
    /// # Errors
    /// With exit code 73 when one cannot be created.
    pub fn create_outputs(&self) -> Result<(), Failure> {
        for path in self.outputs.iter().map(Path::new).filter(|path| !path.to_string_lossy().contains('{')) {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            parent
                .map_or(Ok(()), std::fs::create_dir_all)
                .and_then(|()| std::fs::OpenOptions::new().create(true).append(true).open(path))
                .map_err(|e| {
                    let path = path.display();
                    Failure::new(Exit::CANNOT_CREATE, format!("cannot write `--output-file {path}`: {e}"))
                })?;
        }
        Ok(())
    }

    /// Its files in words.
    pub fn shown(&self, files: &[PathBuf]) -> String {
        match (self.mode, files) {
            (Mode::Demo, _) => "the demo".to_owned(),
            (_, []) => "no file".to_owned(),
            (_, files) => files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", "),
        }
    }

    /// Whether `-c` names it.
    pub fn is_named(&self) -> bool {
        !self.request.files.is_empty()
    }

    /// The environment.
    pub fn environment(&self) -> &Environment {
        &self.request.environment
    }

    /// The address the configuration's server listens on, and the file of its certificate where it is encrypted.
    /// What is wrong elsewhere in it does not matter here, so that health checks go on while somebody edits the file.
    pub fn listen(&self) -> (Listen, Option<PathBuf>) {
        let loaded = load(&self.request, &Registry, &mut Diagnostics::new());
        let server = loaded.as_ref().and_then(|loaded| loaded.tree.get("server"));
        let listen = server.and_then(|server| Listen::parse(server.get("listen")?.as_str()?).ok());
        let usual = || crate::config::defaults::<crate::config::ServerOptions>().listen;
        let certificate = server.and_then(|server| server.get("tls")?.get("cert_file")?.as_str());
        (listen.unwrap_or_else(usual), certificate.map(PathBuf::from))
    }
}

impl ConfigSource {
    /// Whether the configuration says where its server listens, so that no other weir can be meant.
    pub fn names_server(&self) -> bool {
        let loaded = load(&self.request, &Registry, &mut Diagnostics::new());
        let server = loaded.as_ref().and_then(|loaded| loaded.tree.get("server"));
        server.is_some_and(|server| server.get("listen").is_some() && !is_off(server))
    }
}

/// Whether a server is switched off, in a file or by a flag.
fn is_off(server: &Node) -> bool {
    use crate::config::Value;
    server.get("enabled").is_some_and(|enabled| match &enabled.value {
        Value::Bool(on) => !on,
        Value::String(text) => enabled.loose && text == "false",
        _ => false,
    })
}

/// Makes the configuration take a free port, if nobody has chosen one and the usual one is taken; returns whether
/// it did. Another program may still take the port in the meantime: then the start fails as it would have.
pub fn avoid_taken_port(tree: &mut Node) -> bool {
    if tree.get("server").is_some_and(|s| s.get("listen").is_some()) {
        return false;
    }
    let usual = crate::config::defaults::<crate::config::ServerOptions>().listen;
    match std::net::TcpListener::bind((usual.host.as_str(), usual.port)) {
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {}
        _ => return false,
    }
    let Some(root) = tree.as_table_mut() else { return false };
    if root.get("server").is_none() {
        root.insert("server", Origin::Default, Node::empty());
    }
    let server = root.get_mut("server").and_then(Node::as_table_mut);
    let free = Listen { port: 0, ..usual };
    server.is_some_and(|server| {
        server.insert("listen", Origin::Default, free.to_string().into());
        true
    })
}

/// Takes the `http` sinks out of a quick configuration whose server was switched off: they were not asked for.
pub fn without_server(tree: &mut Node) {
    use crate::config::Value;
    let off = tree.get("server").is_some_and(is_off);
    let pipelines = tree.as_table_mut().and_then(|root| root.get_mut("pipelines"));
    let Some(Value::Array(pipelines)) = pipelines.filter(|_| off).map(|p| &mut p.value) else { return };
    for pipeline in pipelines.iter_mut().filter_map(Node::as_table_mut) {
        if let Some(Value::Array(sinks)) = pipeline.get_mut("sinks").map(|s| &mut s.value) {
            sinks.retain(|sink| sink.get("type").and_then(Node::as_str) != Some("http"));
        }
    }
}

/// Whether something is piped into standard input: a pipe, a socket or a file. A terminal is not, and neither is
/// `/dev/null`, which is what services get.
pub fn stdin_is_piped() -> bool {
    use rustix::fs::FileType;
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return false;
    }
    let kind = rustix::fs::fstat(&stdin).map(|stat| FileType::from_raw_mode(stat.st_mode));
    kind.is_ok_and(|kind| matches!(kind, FileType::Fifo | FileType::Socket | FileType::RegularFile))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_a_configuration_without_findings() {
        let environment = Environment::from_pairs::<String, String>([]);
        let source = ConfigSource::files(vec![], vec![], environment).demo();
        let mut findings = Diagnostics::new();
        let loaded = source.load(&mut findings).unwrap().unwrap();
        let plan = crate::engine::plan(&loaded.tree, &mut findings);
        assert!(findings.is_empty(), "{}", findings.render_human(false));
        assert_eq!(plan.unwrap().pipelines.len(), 3);
    }

    #[test]
    fn a_chosen_address_is_left_alone() {
        let mut tree = Node::table([("server", Node::table([("listen", Node::from("127.0.0.1:1"))]))]);
        assert!(!avoid_taken_port(&mut tree));
    }

    #[test]
    fn a_server_switched_off_takes_the_live_page_along() {
        let quick = Quick { stdin_is_piped: true, ..Quick::default() };
        let mut tree = quick.tree().unwrap();
        without_server(&mut tree);
        assert_eq!(tree.to_json()["pipelines"][0]["sinks"].as_array().unwrap().len(), 2);
        let server = Node::table([("enabled", Node::loose("false", Origin::Default))]);
        tree.as_table_mut().unwrap().insert("server", Origin::Default, server);
        without_server(&mut tree);
        assert_eq!(tree.to_json()["pipelines"][0]["sinks"].as_array().unwrap().len(), 1);
    }
}
