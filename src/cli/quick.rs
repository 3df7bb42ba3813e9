//! Configurations of one pipeline that no file holds: from quick flags, from standard input alone, or from a
//! program's output. Each value keeps the flag it came from, so that errors can point at it.

use super::args::QuickArgs;
use super::exit::Failure;
use crate::config::root::PipelineName;
use crate::config::{Node, Source};

/// A line beyond the usual limit would be cut, and what passes through is to stay as it is.
const LINE_SIZE: &str = "64MiB";

/// What a quick configuration is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quick {
    /// The flags.
    pub flags: QuickArgs,
    /// A program and its arguments; none if empty.
    pub program: Vec<String>,
    /// Whether standard input is piped into weir.
    pub stdin_is_piped: bool,
}

impl Quick {
    /// Whether flags or a program ask for a pipeline without a configuration file.
    pub fn is_asked_for(&self) -> bool {
        self.flags != QuickArgs::default() || !self.program.is_empty()
    }

    /// The configuration. Without an output, lines pass to standard output as they came. The live page is
    /// always there. Logging is quiet, because a person or a pipe reads along.
    ///
    /// # Errors
    /// A usage failure when there is no input, or the name is not allowed.
    pub fn tree(&self) -> Result<Node, Failure> {
        let sources = self.sources();
        if sources.is_empty() {
            return Err(Failure::usage("no input: the flags name no place to read from")
                .hint("add `--input-file GLOB`, `--input-tcp ADDR` or `--input-stdin`, or pipe a program's output into weir"));
        }
        let pipeline = Node::table([
            ("name", self.name()?),
            ("sources", Node::array(sources)),
            ("filters", Node::array(self.filters())),
            ("sinks", Node::array(self.sinks())),
        ]);
        Ok(Node::table([
            ("logging", Node::table([("level", Node::from("warn"))])),
            ("pipelines", Node::array([pipeline])),
        ]))
    }

    fn reads_stdin(&self) -> bool {
        let QuickArgs { input_file, input_tcp, ebpf_tcp, ebpf_http_tracing, .. } = &self.flags;
        let other_input = !input_file.is_empty()
            || !input_tcp.is_empty()
            || !self.program.is_empty()
            || *ebpf_tcp
            || *ebpf_http_tracing;
        self.flags.input_stdin || (self.stdin_is_piped && !other_input)
    }

    fn name(&self) -> Result<Node, Failure> {
        if let Some(name) = &self.flags.name {
            PipelineName::parse(name).map_err(|why| Failure::usage(format!("invalid `--name`: {why}")))?;
            return Ok(flag("--name", name));
        }
        let program = self.program.first().and_then(|path| std::path::Path::new(path).file_stem()?.to_str());
        let program = program.map(str::to_lowercase).filter(|name| PipelineName::parse(name).is_ok());
        Ok(match (program, self.reads_stdin()) {
            (Some(name), _) => name.into(),
            (None, _) if !self.program.is_empty() => "exec".into(),
            (None, true) => "stdin".into(),
            (None, false) if !self.flags.input_file.is_empty() => "file".into(),
            (None, false) if !self.flags.input_tcp.is_empty() => "tcp".into(),
            (None, false) => "ebpf".into(),
        })
    }

    fn sources(&self) -> Vec<Node> {
        let mut sources = Vec::new();
        if !self.program.is_empty() {
            // As without weir, unless weir itself was told to read it.
            let stdin = if self.reads_stdin() { "null" } else { "inherit" };
            sources.push(component(
                "exec",
                [
                    ("stdin", stdin.into()),
                    ("command", Node::from(self.program.clone())),
                    ("stream", "both".into()),
                    ("restart", "never".into()),
                    ("max_line_size", LINE_SIZE.into()),
                ],
            ));
        }
        if !self.flags.input_file.is_empty() {
            sources.push(component("file", [("path", flags("--input-file", &self.flags.input_file))]));
        }
        sources.extend(self.flags.input_tcp.iter().map(|address| {
            component("tcp", [("listen", flag("--input-tcp", address)), ("max_line_size", LINE_SIZE.into())])
        }));
        let captures = [("tcp", self.flags.ebpf_tcp), ("http", self.flags.ebpf_http_tracing)];
        let captures: Vec<_> =
            captures.into_iter().filter(|(_, wanted)| *wanted).map(|(what, _)| what.to_owned()).collect();
        if !captures.is_empty() {
            sources.push(component("ebpf", [("capture", Node::from(captures))]));
        }
        if self.reads_stdin() {
            sources.push(component("stdin", [("max_line_size", LINE_SIZE.into())]));
        }
        sources
    }

    fn filters(&self) -> Vec<Node> {
        let patterns =
            [("include", "--include", &self.flags.include), ("exclude", "--exclude", &self.flags.exclude)]
                .into_iter()
                .filter(|(_, _, patterns)| !patterns.is_empty())
                .map(|(kind, name, patterns)| component(kind, [("patterns", flags(name, patterns))]));
        let queries = self.flags.query.iter();
        patterns.chain(queries.map(|query| component("query", [("query", flag("--query", query))]))).collect()
    }

    fn sinks(&self) -> Vec<Node> {
        let mut sinks = Vec::new();
        let QuickArgs { output_stdout, output_file, output_http, output_tcp, .. } = &self.flags;
        let elsewhere = !output_file.is_empty() || !output_http.is_empty() || !output_tcp.is_empty();
        if *output_stdout || !elsewhere {
            sinks.push(component("console", []));
        }
        sinks.extend(
            output_file.iter().map(|path| component("file", [("path", flag("--output-file", path))])),
        );
        let urls = output_http.iter();
        sinks.extend(urls.map(|url| component("http_client", [("url", flag("--output-http", url))])));
        let addresses = output_tcp.iter();
        sinks.extend(addresses.map(|to| component("tcp_client", [("address", flag("--output-tcp", to))])));
        sinks.push(component("http", []));
        sinks
    }
}

fn component<const N: usize>(kind: &str, options: [(&str, Node); N]) -> Node {
    Node::table([("type", Node::from(kind))].into_iter().chain(options))
}

fn flag(name: &str, value: &str) -> Node {
    Node::from(value).with_origin(Source::flag(name, value).whole())
}

fn flags(name: &str, values: &[String]) -> Node {
    Node::array(values.iter().map(|value| flag(name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pipeline(quick: &Quick) -> serde_json::Value {
        quick.tree().unwrap().to_json()["pipelines"][0].clone()
    }

    #[test]
    fn standard_input_alone_passes_through_and_is_served() {
        let quick = Quick { stdin_is_piped: true, ..Quick::default() };
        assert!(!quick.is_asked_for());
        assert_eq!(
            pipeline(&quick),
            json!({
                "name": "stdin", "sources": [{"type": "stdin", "max_line_size": "64MiB"}], "filters": [],
                "sinks": [{"type": "console"}, {"type": "http"}],
            })
        );
    }

    #[test]
    fn flags_combine() {
        let flags = QuickArgs {
            input_file: vec!["a*".into(), "b".into()],
            input_stdin: true,
            include: vec!["x".into()],
            exclude: vec!["y".into(), "z".into()],
            query: vec!["level:error".into(), "q".into()],
            output_file: vec!["o".into()],
            output_http: vec!["http://h/".into()],
            output_tcp: vec!["h:1".into()],
            name: Some("app".into()),
            ..QuickArgs::default()
        };
        let made = pipeline(&Quick { flags, ..Quick::default() });
        assert_eq!(
            made["sources"],
            json!([{"type": "file", "path": ["a*", "b"]}, {"type": "stdin", "max_line_size": "64MiB"}])
        );
        assert_eq!(
            made["filters"],
            json!([
                {"type": "include", "patterns": ["x"]}, {"type": "exclude", "patterns": ["y", "z"]},
                {"type": "query", "query": "level:error"}, {"type": "query", "query": "q"},
            ])
        );
        assert_eq!(
            made["sinks"],
            json!([
                {"type": "file", "path": "o"}, {"type": "http_client", "url": "http://h/"},
                {"type": "tcp_client", "address": "h:1"}, {"type": "http"}
            ])
        );
    }

    #[test]
    fn addresses_are_listened_on_and_keep_standard_input_out() {
        let flags = QuickArgs { input_tcp: vec!["127.0.0.1:1".into()], ..QuickArgs::default() };
        let made = pipeline(&Quick { flags, stdin_is_piped: true, ..Quick::default() });
        assert_eq!(made["name"], "tcp");
        assert_eq!(
            made["sources"],
            json!([{"type": "tcp", "listen": "127.0.0.1:1", "max_line_size": "64MiB"}])
        );
    }

    #[test]
    fn what_the_kernel_sees_is_one_source() {
        let flags = QuickArgs { ebpf_tcp: true, ebpf_http_tracing: true, ..QuickArgs::default() };
        let made = pipeline(&Quick { flags, stdin_is_piped: true, ..Quick::default() });
        assert_eq!(
            (&made["name"], &made["sources"]),
            (&json!("ebpf"), &json!([{"type": "ebpf", "capture": ["tcp", "http"]}]))
        );
        let flags = QuickArgs { ebpf_http_tracing: true, ..QuickArgs::default() };
        let made = pipeline(&Quick { flags, ..Quick::default() });
        assert_eq!(made["sources"], json!([{"type": "ebpf", "capture": ["http"]}]));
    }

    #[test]
    fn a_program_names_its_pipeline() {
        let named = |program: &str| {
            pipeline(&Quick { program: vec![program.into()], ..Quick::default() })["name"].clone()
        };
        assert_eq!(named("/usr/bin/Ping"), "ping");
        assert_eq!(named("./a b.sh"), "exec");
        assert_eq!(named("status"), "exec");
    }

    #[test]
    fn an_input_is_needed_and_a_name_checked() {
        let flags = QuickArgs { output_stdout: true, ..QuickArgs::default() };
        assert!(Quick { flags: flags.clone(), ..Quick::default() }.tree().is_err());
        let quick = Quick {
            flags: QuickArgs { name: Some("A b".into()), ..flags },
            stdin_is_piped: true,
            ..Quick::default()
        };
        assert!(quick.tree().unwrap_err().to_string().contains("--name"));
    }
}
