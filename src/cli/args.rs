//! The command line, declared once: parsing, `--help`, completions and the man page come from these types.
//! Options of the configuration (`--logging.level debug`) are not declared here; see `overrides`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::control::SocketArgs;
use super::login::AskArgs;
pub use super::subcommands::{BufferCommand, Generate, Tls, TlsFiles};
use super::tail::args::{Output, TailArgs};
use super::terminal::ColorWhen;
use crate::base::units::parse_duration;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const TOP_EXAMPLES: &str = "\
Examples:
  app | weir                                   watch a program's output in the browser
  weir demo                                    see it at work, with sample logs
  weir -c pipelines.toml                       run a configuration
  weir --input-file '/var/log/*.log' --include ERROR --output-stdout
  weir run -- ./server --port 80               run a program and route what it prints

Any option of the configuration can be a flag: --logging.level debug, --pipelines.0.name=app, or a \
variable: WEIR_LOGGING_LEVEL=debug. Without -c, the configuration is WEIR_CONFIG, ./pipelines.toml, \
$XDG_CONFIG_HOME/weir/pipelines.toml or /etc/weir/pipelines.toml.

Exit codes: 0 done, 1 a check failed, 64 usage, 66 no input, 69 unavailable, 70 internal error, \
73 cannot create, 74 I/O, 78 configuration.";

/// Stream, filter and route logs: from files, programs and the network to files, programs and the browser.
#[derive(Debug, Parser)]
#[command(name = "weir", version, styles = STYLES, max_term_width = 100, after_help = TOP_EXAMPLES)]
#[command(disable_help_subcommand = true, subcommand_negates_reqs = true)]
pub struct Cli {
    #[command(flatten)]
    #[expect(missing_docs, reason = "the docs of flattened arguments would become help text")]
    pub global: GlobalArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub run: RunArgs,
    /// What to do; running pipelines if left out
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Arguments of every command.
#[derive(Debug, Args)]
pub struct GlobalArgs {
    /// Configuration file, or a directory whose *.toml are merged; may be repeated
    #[arg(short, long = "config", value_name = "FILE|DIR", global = true)]
    pub config: Vec<PathBuf>,
    /// When to colour output: auto, always or never; NO_COLOR is honoured
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto", hide_possible_values = true)]
    pub color: ColorWhen,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "the docs of flattened arguments would become help text")]
    pub quick: QuickArgs,
    /// Run this program and route what it prints; it reads weir's input, weir exits with its code
    #[arg(last = true, value_name = "CMD", help_heading = "Arguments")]
    pub program: Vec<OsString>,
}

/// Flags that build a configuration of one pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "One pipeline without a configuration file")]
pub struct QuickArgs {
    /// Follow the files that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub input_file: Vec<String>,
    /// Take lines from whoever connects to this address; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub input_tcp: Vec<String>,
    /// Read standard input
    #[arg(long)]
    pub input_stdin: bool,
    /// Follow TCP connections of all processes, as the kernel sees them (needs the feature `ebpf`)
    #[arg(long)]
    pub ebpf_tcp: bool,
    /// Follow HTTP requests and responses of all processes, as the kernel sees them (needs the feature `ebpf`)
    #[arg(long)]
    pub ebpf_http_tracing: bool,
    /// Keep only lines that match; repeated, any of them
    #[arg(long, value_name = "REGEX")]
    pub include: Vec<String>,
    /// Drop lines that match; repeated, any of them
    #[arg(long, value_name = "REGEX")]
    pub exclude: Vec<String>,
    /// Keep only lines that a query finds, such as 'level:error service:api'; repeated, all of them
    #[arg(long, value_name = "QUERY")]
    pub query: Vec<String>,
    /// Write the lines to standard output
    #[arg(long)]
    pub output_stdout: bool,
    /// Append the lines to a file; may be repeated
    #[arg(long, value_name = "PATH")]
    pub output_file: Vec<String>,
    /// Send the lines, as JSON, to an HTTP receiver; may be repeated
    #[arg(long, value_name = "URL")]
    pub output_http: Vec<String>,
    /// Send the lines to a receiver over TCP, as JSON; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub output_tcp: Vec<String>,
    /// Name of the pipeline, as it appears in its URLs
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the help is the doc comment of each command and argument")]
pub enum Command {
    /// Run pipelines (the default command)
    #[command(after_help = "\
Examples:
  weir run -c pipelines.toml
  weir run -c /etc/weir.d --logging.level debug
  weir run --input-file '/var/log/nginx/*.log' --exclude healthz --output-stdout
  weir run -- ./server --port 80")]
    Run(RunArgs),
    /// Report everything that is wrong with a configuration, without starting anything
    #[command(after_help = "\
Examples:
  weir check
  weir check -c pipelines.toml -c /etc/weir.d
  weir check staging.toml production.toml  each by itself
  weir check docs README.md                the TOML blocks of Markdown, at their own lines
  weir check --format github               annotations in a pull request

-c merges what it names, as a run does, with variables and flags on top. PATHs are checked as they are written: a \
directory with all *.toml and Markdown files below it, a file of a directory also if it is only part of a \
configuration. A block of Markdown may be an excerpt; one that begins with ```toml,ignore is left out.

Exits with 0 if there are no errors, with 1 if there are.")]
    Check {
        /// Files and directories to check, each file by itself, instead of the configuration
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// How findings are written
        #[arg(long, value_name = "FORMAT", default_value = "human")]
        format: CheckFormat,
    },
    /// Run the [[tests]] of a configuration: lines in, and what has to come out
    #[command(after_help = "\
Examples:
  weir test
  weir test -c /etc/weir.d --filter errors --verbose
  weir test --format junit > weir-tests.xml

A test in the configuration:
  [[tests]]
  name = \"errors reach the alert sink\"
  inputs = [{ at = \"app\", lines = [\"ERROR disk full\", \"INFO started\"] }]
  outputs = [{ at = \"app.sinks.1\", lines = [\"ERROR disk full\"] }]
  drops = [{ at = \"app.sinks.1.filters.0\", count = 1 }]

Nothing is read or sent: lines enter the real filters, under a clock of the test's own. Exits with 0 if all \
tests pass, with 1 if one fails, with 78 if the configuration is wrong, with 66 if it holds no test.")]
    Test {
        /// Only tests whose name holds this text; may be repeated
        #[arg(long, value_name = "NAME")]
        filter: Vec<String>,
        /// How results are written
        #[arg(long, value_name = "FORMAT", default_value = "human")]
        format: TestFormat,
        /// Show what each stage did for tests that pass, too
        #[arg(short, long)]
        verbose: bool,
    },
    /// Show the effective configuration, each value with where it came from
    #[command(after_help = "\
Examples:
  weir config
  WEIR_LOGGING_LEVEL=debug weir config -c pipelines.toml --shutdown_timeout 5s")]
    Config,
    /// Run sample pipelines with a built-in generator and the live page
    #[command(after_help = "\
Examples:
  weir demo
  weir demo --server.listen 127.0.0.1:9000")]
    Demo,
    /// Look at logs: files, streams of a running weir, whatever is piped in; follows what is new
    #[command(after_help = "\
Examples:
  weir tail app.log                            follow a file, through rotation
  weir tail '/var/log/nginx/*.log' -l warn     several, in the order of time
  weir tail localhost:8080/app -n 100          a pipeline's stream; localhost:8080 is all of them
  weir tail --since 1h -q 'status:>=500 -path:/health*' access.log
  kubectl logs deploy/api | weir tail          JSON and logfmt laid out for reading
  weir tail --no-follow -n all --color always app.log | less -R

Lines of several inputs are merged in the order of time; what comes while you watch is held \
for 100 ms for that. With -l, -q and -i, the lines of a stack trace come along with the line \
they belong to, and -n counts lines that match. --since reads a file backwards until lines are \
older; with `-n all` it looks at all of it.

Control sequences in logs never reach a terminal. NO_COLOR is honoured, --color always keeps \
colours in a pipe. Ctrl-C ends it as it ends `tail -f`: 130 for a shell.

Exit codes: 0 the inputs ended or the reader went, 64 usage, 66 no such file, 69 no answer from \
a weir, 74 I/O.")]
    Tail(Box<TailArgs>),
    /// Show what a running weir is doing
    #[command(after_help = "\
Examples:
  weir status
  weir status --json http://127.0.0.1:8080 | jq .
  weir status --token-file token https://logs.example.com
  weir status --cert ops.pem --key ops.key https://logs.example.com

Without URL, asks the address that the configuration listens on; where it names none, the weir that runs on \
this machine, by its control socket, and where none runs, http://127.0.0.1:8080.")]
    Status {
        /// Print the status as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Have a running weir read its configuration again, and say what came of it
    #[command(after_help = "\
Examples:
  weir reload
  weir reload --pid 1234
  weir reload https://ann:secret@logs.example.com

Without URL, finds the weir that runs on this machine by its control socket. A mistake changes nothing: it is \
told, and what ran before runs on.

Exits with 0 when the configuration runs, with 1 when it does not, with 69 if there is no answer.")]
    Reload {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Watch a running weir: pipelines and components with their rates, drops, queues and errors
    #[command(after_help = "\
Examples:
  weir top
  weir top --pid 1234
  weir top https://ann:secret@logs.example.com
  weir top --once                        one frame, as text

Without URL, finds the weir that runs on this machine by its control socket. Keys: arrows or j k move, \
enter opens, t shows what passes the component, s sorts, p pauses, ? helps, q quits.")]
    Top(TopArgs),
    /// Show what a component of a running weir puts out, live, without touching its flow
    #[command(after_help = "\
Examples:
  weir tap                               what passes the filters of each pipeline
  weir tap app                           what passes the filters of pipeline `app`
  weir tap app.source.0                  what its first source reads
  weir tap app.filter.1 -n 20            twenty rows behind its second filter
  weir tap 'app.sink.*' --rate all       what its sinks receive, all of it
  weir tap app.filter.0 -q 'level:>=warn -path:/health*'
  weir tap '*.source.*' -o json | jq .message

COMPONENT is named as in `weir status`, to the last part or not, or by wildcards. Rows beyond the rate \
are counted and told on standard error.")]
    Tap(TapArgs),
    /// Exit with 0 if a running weir is ready, for container health checks
    #[command(after_help = "\
Examples:
  weir health
  weir health http://127.0.0.1:8080
  HEALTHCHECK CMD [\"weir\", \"health\"]

Exits with 1 if it is not ready, with 69 if there is no answer.")]
    Health {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Find what breaks a stream between a server and its clients
    #[command(after_help = "\
Examples:
  weir doctor https://logs.example.com/app/stream
  weir doctor --token-file token --duration 2m https://logs.example.com/app/stream
  weir doctor --origin https://dashboard.example.com https://logs.example.com
  weir doctor                            what a weir that is started here would meet

Asks as a browser does, several times, and tells from what comes, and when: proxies that hold events back, pack \
them, or end what is silent; redirects to a login; certificates; limits; clocks; Last-Event-ID that is lost. \
Each fault comes with its cure for nginx, Apache, Caddy, HAProxy or Cloudflare. Takes up to a minute, unless \
--duration says otherwise. Exits with 0 if streams get through, with 1 if something breaks them.")]
    Doctor {
        /// How long to watch a stream, to find what ends it; by default until two signs of life have come
        #[arg(long, value_name = "TIME", value_parser = duration)]
        duration: Option<Duration>,
        /// Whether pages from there may read it, such as https://dashboard.example.com
        #[arg(long, value_name = "ORIGIN")]
        origin: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Look into disk buffers, verify or repair them
    #[command(after_help = "\
Examples:
  weir buffer inspect
  weir buffer verify -c pipelines.toml
  weir buffer repair /var/lib/weir/buffers/app/http_client-0")]
    Buffer {
        #[command(subcommand)]
        what: BufferCommand,
    },
    /// List the components of this build and their options
    #[command(after_help = "\
Examples:
  weir list
  weir list sources
  weir list sinks http")]
    List {
        /// Which kind; all if left out
        kind: Option<ListKind>,
        /// Show the options of this component
        name: Option<String>,
    },
    /// Make certificates for encrypted connections
    #[command(after_help = "\
Examples:
  weir tls ca && weir tls server && weir tls client --name shipper-1")]
    Tls {
        #[command(subcommand)]
        what: Tls,
    },
    /// Write a commented configuration to begin with
    #[command(after_help = "\
Examples:
  weir init                              pipelines.toml: read files, filter, watch live
  weir init --list                       what else there is
  weir init forward -o /etc/weir/pipelines.toml
  weir init split -o - | less            only look at it

Every recipe passes `weir check`, runs as it is and holds tests for `weir test`. A file that exists is left as it \
is, with exit code 73, unless --force is given.")]
    Init {
        /// Which one; --list shows them [default: start]
        #[arg(conflicts_with = "list")]
        recipe: Option<String>,
        /// Where it is written; - is standard output
        #[arg(short, long, value_name = "FILE", default_value = "pipelines.toml")]
        output: PathBuf,
        /// Replace the file if it exists
        #[arg(long)]
        force: bool,
        /// Show the recipes
        #[arg(long)]
        list: bool,
    },
    /// Hash a password or make a token, for the option `auth`
    #[command(after_help = "\
Examples:
  weir hash                                        asks for the password, twice
  printf %s \"$PASSWORD\" | weir hash --algorithm bcrypt
  weir hash --token                                a new random token and its hash

Put the hash into the configuration:
  auth = { basic = [{ user = \"ann\", password_hash = \"$argon2id$...\" }] }
  auth = { bearer = [{ name = \"agent\", token_hash = \"sha256:...\" }] }")]
    Hash {
        /// How to hash; argon2id for passwords, bcrypt for what other programs read too, sha256 only for random tokens
        #[arg(long, value_name = "NAME", default_value = "argon2id")]
        algorithm: HashAlgorithm,
        /// Make a random token and print it with its hash
        #[arg(long, conflicts_with = "algorithm")]
        token: bool,
    },
    /// Generate shell completions, the man page, the configuration's JSON schema or its reference
    #[command(after_help = "\
Examples:
  weir generate completions bash > /etc/bash_completion.d/weir
  weir generate man > weir.1
  weir generate schema > pipelines.schema.json")]
    Generate {
        #[command(subcommand)]
        what: Generate,
    },
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Print one frame and end
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the docs of flattened arguments would become help text")]
    pub ask: AskArgs,
}

/// Arguments of `tap`.
#[derive(Debug, Args)]
pub struct TapArgs {
    /// Which components, such as app, app.source.0, app.filter.1.level or 'app.*'; left out, all pipelines
    #[arg(value_name = "COMPONENT", default_value = "*", hide_default_value = true)]
    pub components: Vec<String>,
    /// Most rows a second, or `all` for as many as can be read
    #[arg(long, value_name = "N", default_value = "100", value_parser = super::tap::rate)]
    pub rate: String,
    /// End after that many rows
    #[arg(short = 'n', long = "limit", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Only rows that match this query, such as 'level:error service:api "connection reset"'
    #[arg(short, long, value_name = "QUERY", allow_hyphen_values = true)]
    pub query: Option<String>,
    /// How rows are written: for people, as they are, or as JSON objects [default: pretty on a terminal, else raw]
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the docs of flattened arguments would become help text")]
    pub local: SocketArgs,
}

/// A duration with its unit, at most a day.
fn duration(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time > Duration::from_secs(86_400) { Err("at most a day".to_owned()) } else { Ok(time) }
}

/// How `check` writes its findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// With the source line and a caret
    Human,
    /// One JSON array
    Json,
    /// Workflow commands, which GitHub shows at the line
    Github,
}

/// How `test` writes its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TestFormat {
    /// A line for each; of those that fail, what came and what each stage did
    Human,
    /// One JSON object
    Json,
    /// The XML of JUnit's reports
    Junit,
}

/// How `hash` hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HashAlgorithm {
    /// argon2id, with 19 MiB and two passes
    Argon2id,
    /// bcrypt, as htpasswd writes it
    Bcrypt,
    /// SHA-256, for tokens that nobody can guess
    Sha256,
}

/// The kinds of component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ListKind {
    Sources,
    Filters,
    Sinks,
}

impl Cli {
    /// Parses a command line without its overrides.
    ///
    /// # Errors
    /// Also when help or the version is asked for; see `usage`.
    pub fn parse_args(args: &[OsString]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(args)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_declaration_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        fn visit(command: &clap::Command) {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.contains("Examples:\n  "), "{} has no example", command.get_name());
            assert!(command.get_about().is_some(), "{} has no summary", command.get_name());
            for argument in
                command.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str()))
            {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }
}
