//! The command line from outside: help, usage errors, lists, and what is generated. Runs the real binary in an
//! empty directory with an empty environment.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::weir::Place;

const COMMANDS: [&[&str]; 13] = [
    &[],
    &["run"],
    &["check"],
    &["config"],
    &["demo"],
    &["status"],
    &["health"],
    &["list"],
    &["generate"],
    &["generate", "completions"],
    &["generate", "man"],
    &["generate", "schema"],
    &["generate", "reference"],
];

#[test]
fn every_command_has_help_with_an_example() {
    let place = Place::new();
    for command in COMMANDS {
        let mut args = command.to_vec();
        args.push("--help");
        let run = place.run(&args);
        assert_eq!(run.code, 0, "{command:?}");
        assert!(run.stdout.contains("Examples:\n  "), "{command:?}: {}", run.stdout);
        assert!(run.stdout.contains("Usage: weir"), "{command:?}");
        assert_eq!(run.stderr, "", "{command:?}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let run = Place::new().run(&["--version"]);
    assert_eq!((run.code, run.stdout), (0, format!("weir {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn usage_errors_exit_with_64_and_name_the_nearest() {
    let place = Place::new().with("x.toml", "").with("x.log", "");
    for (args, expected) in [
        (&["chek"][..], "did you mean `weir check`?"),
        (&["x.toml"], "to run this configuration, write `weir -c x.toml`"),
        (&["run", "missing.toml"], "to run this configuration, write `weir -c missing.toml`"),
        (&["x.log"], "to look at this file, write `weir tail x.log`"),
        (&["help"], "`weir COMMAND --help`"),
        (&["tls", "sever"], "did you mean `weir tls server`?"),
        (&["generate", "docs"], "commands of `weir generate`: completions, man, schema, reference"),
        (&["tail", "-5", "x.log"], "`weir tail -n 100`"),
        (&["tail", "-100f", "x.log"], "`weir tail -n 100`"),
        (&["tail", "--tls"], "unknown option `--tls`\n  hint: `weir --help`"),
        (&["check", "--formt", "json"], "unknown option `--formt`\n  hint: did you mean `--format`?"),
        (&["check", "--format", "jsn"], "invalid value `jsn`"),
        (&["--shutdown_timeot", "5s"], "did you mean `--shutdown_timeout`?"),
        (&["--logging.level"], "option `--logging.level` needs a value"),
        (&["--querry", "x"], "did you mean `--query`?"),
        (&["--query", "x"], "no input"),
        (&["config", "--input-stdin"], "it belongs to another command"),
        (&["--output-stdout"], "no input"),
        (&["--input-stdin", "--name", "A B"], "invalid `--name`"),
        (&["--input-stdin", "-c", "x.toml"], "exclude each other"),
        (&["--input-stdin", "check"], "are for `weir run`"),
        (&["list", "-c", "x.toml"], "`-c` has no effect"),
        (&["list", "--logging.level", "debug"], "`--logging.level` has no effect"),
        (&["list", "sinks", "nul"], "did you mean `null`?"),
        (&["list", "filters", "null"], "`weir list sinks null`"),
        (&["generate"], "weir generate"),
        (&["generate", "completions", "tcsh"], "invalid value `tcsh`"),
        (&["status", "ftp://x"], "the scheme `ftp` is not supported"),
        (&["status", "a", "b"], "unexpected argument `b`"),
    ] {
        let run = place.run(args);
        assert_eq!(run.code, 64, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{args:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{args:?}");
    }
}

#[test]
fn tail_takes_what_fingers_are_used_to() {
    let place = Place::new().with("x.log", "DEBUG one\nINFO two\nINFO three\n");
    let run = place.run(&["tail", "--no-follow", "--tail", "1", "x.log"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "INFO three\n"), "{}", run.stderr);
    let run = place.run(&["tail", "--no-follow", "-q", "-level:debug -three", "x.log"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "INFO two\n"), "{}", run.stderr);
    // An option in the place of the query is no query.
    let run = place.run(&["tail", "-q", "--no-follow", "x.log"]);
    assert_eq!(run.code, 64, "{}", run.stderr);
}

#[test]
fn help_wraps_where_the_terminal_ends() {
    use clap::CommandFactory;
    // A paragraph is one line, so that it wraps once, whatever the width.
    let mut commands = vec![logweir::cli::args::Cli::command()];
    let mut seen = 0;
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().cloned());
        let Some(help) = command.get_after_help() else { continue };
        let lines: Vec<String> = help.to_string().lines().map(str::to_owned).collect();
        for pair in lines.windows(2) {
            let text = |line: &String| !line.is_empty() && !line.starts_with(' ');
            let broken = text(&pair[0]) && text(&pair[1]) && !pair[0].ends_with(':');
            assert!(!broken, "{}: {pair:?}", command.get_name());
        }
        seen += 1;
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn without_a_configuration_three_things_to_try_are_shown() {
    let run = Place::new().run(&[]);
    assert_eq!(run.code, 66);
    for expected in ["no configuration", "weir demo", "app | weir", "weir -c pipelines.toml"] {
        assert!(run.stderr.contains(expected), "{}", run.stderr);
    }
}

#[test]
fn colour_is_for_terminals_and_those_who_ask() {
    let place = Place::new();
    assert!(!place.run(&["chek"]).stderr.contains('\x1b'));
    assert!(place.run(&["chek", "--color", "always"]).stderr.contains("\x1b[1;31merror"));
    assert!(place.run(&["--color=always", "--help"]).stdout.contains("\x1b["));
    assert!(!place.run(&["--color=never", "--help"]).stdout.contains('\x1b'));
}

#[test]
fn lists_show_kinds_components_and_options() {
    let place = Place::new();
    let all = place.run(&["list"]);
    assert_eq!(all.code, 0);
    for expected in ["sources:\n", "filters:\n", "sinks:\n", "  generate", "  null"] {
        assert!(all.stdout.contains(expected), "{}", all.stdout);
    }
    let sources = place.run(&["list", "sources"]).stdout;
    assert!(sources.contains("generate  ") && !sources.contains("null"));
    let options = place.run(&["list", "sources", "generate"]).stdout;
    for expected in [
        "source generate: sample logs",
        "\nevents_per_second  (number; default 10.0;",
        "    What the lines look like.",
        "      json: One JSON object per line.",
        "Example:\n\n  [[pipelines.sources]]\n  type = \"generate\"",
    ] {
        assert!(options.contains(expected), "{expected}: {options}");
    }
    let sink = place.run(&["list", "sinks", "null"]).stdout;
    assert!(sink.contains("\nbuffer.max_events  (integer;"), "{sink}");
}

#[test]
fn completions_know_every_command() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let run = place.run(&["generate", "completions", shell]);
        assert_eq!(run.code, 0, "{shell}");
        for name in ["check", "demo", "health", "input-file"] {
            assert!(run.stdout.contains(name), "{shell} {name}");
        }
    }
}

#[test]
fn the_man_page_has_every_command() {
    let page = Place::new().run(&["generate", "man"]).stdout;
    assert!(page.contains(".TH weir 1"), "{page}");
    for name in ["WEIR RUN", "WEIR CHECK", "WEIR STATUS", "WEIR GENERATE COMPLETIONS"] {
        assert!(page.contains(&format!(".SH \"{name}\"")), "{name}");
    }
}

#[test]
fn every_command_has_a_man_page_of_its_own() {
    let place = Place::new().with("file", "");
    let run = place.run(&["generate", "man", "--dir", "man"]);
    assert_eq!((run.code, &*run.stdout, &*run.stderr), (0, "", ""));
    for (page, words) in [("weir", "PIPELINE"), ("weir-run", "Examples"), ("weir-tls-server", "certificate")]
    {
        let text = std::fs::read_to_string(place.path(&format!("man/{page}.1"))).unwrap();
        assert!(text.contains(&format!(".TH {page} 1")) && text.contains(words), "{page}: {text}");
    }
    let run = place.run(&["generate", "man", "--dir", "file/man"]);
    assert_eq!(run.code, 73);
    assert!(run.stderr.contains("cannot write man pages to file/man"), "{}", run.stderr);
}

#[test]
fn schema_and_reference_name_the_options() {
    let place = Place::new();
    let schema = place.run(&["generate", "schema"]).stdout;
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert!(schema.pointer("/properties/pipelines").is_some());
    let reference = place.run(&["generate", "reference"]).stdout;
    assert!(reference.contains("shutdown_timeout") && reference.contains("`generate` source"));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let place = Place::new();
    let mut child =
        place.command(&["generate", "reference"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn nobody_to_ask_is_69() {
    let place = Place::new();
    let port = support::free_port();
    for command in ["status", "health"] {
        let run = place.run(&[command, &format!("http://127.0.0.1:{port}")]);
        assert_eq!(run.code, 69, "{}", run.stderr);
        assert!(run.stderr.contains("nothing listens there"), "{}", run.stderr);
        let listen = format!("127.0.0.1:{port}");
        let run = place.run(&[command, "--server.listen", &listen]);
        assert!(run.code == 69 && run.stderr.contains(&listen), "{}", run.stderr);
    }
}

#[test]
fn what_answers_but_is_not_ready_is_1_and_not_http_is_69() {
    let place = Place::new();
    let answer = |bytes: &'static str| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let n = stream.read(&mut request).unwrap();
            stream.write_all(bytes.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        (url, server)
    };
    let (url, server) = answer("HTTP/1.1 503 x\r\nContent-Length: 26\r\n\r\n{\"detail\":\"app: starting\"}");
    let run = place.run(&["health", &url]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("not ready: app: starting (status 503)"), "{}", run.stderr);
    assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1"));
    let (url, _server) = answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(place.run(&["health", &url]).code, 0);
    let (url, _server) = answer("SSH-2.0-OpenSSH\r\n\r\n");
    assert_eq!(place.run(&["health", &url]).code, 69);
    let (url, _server) = answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let run = place.run(&["status", &url]);
    assert!(run.code == 69 && run.stderr.contains("did not answer as a weir does"), "{}", run.stderr);
}
