//! weir's own log, as `[logging]` says: levels per target, text or JSON, to standard error, standard output, a
//! file or nowhere. One event is one line and one write; it never passes through a pipeline. systemd's journal is
//! given the level of each line as it wants it, and no time, which it has itself.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::exit::{Exit, Failure};
use crate::base::clock;
use crate::config::{Environment, LogFormat, LogLevels, LogOutput, LoggingOptions};

/// The crate's own modules, by which targets are named without the crate's name.
const OUR_MODULES: [&str; 14] = [
    "base", "batch", "cli", "codec", "config", "engine", "filters", "flow", "net", "query", "sinks",
    "sources", "store", "web",
];

/// Where lines go, and how to begin anew after the log file was moved away.
#[derive(Clone)]
pub struct LogFile(Option<Arc<Reopenable>>);

struct Reopenable {
    path: PathBuf,
    file: ArcSwap<File>,
}

impl LogFile {
    /// Opens the log file again under its name, if the log goes to a file (SIGUSR1, after a rotation). On an
    /// error the old one stays in use.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn reopen(&self) -> io::Result<()> {
        if let Some(log) = &self.0 {
            log.file.store(Arc::new(open(&log.path)?));
        }
        Ok(())
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Starts the log of this process, panics included: they are lines of it like everything else. Only the first
/// call has an effect.
///
/// # Errors
/// When the log file cannot be opened (73).
pub fn start(options: &LoggingOptions, color: bool, environment: &Environment) -> Result<LogFile, Failure> {
    let (output, file) = match options.output {
        LogOutput::None => return Ok(LogFile(None)),
        LogOutput::Stderr => (Output::Stderr, LogFile(None)),
        LogOutput::Stdout => (Output::Stdout, LogFile(None)),
        LogOutput::File => {
            // The configuration demands a file's name with this output.
            let path = PathBuf::from(options.file.as_deref().unwrap_or("weir.log"));
            let file = open(&path).map_err(|e| {
                Failure::new(Exit::CANNOT_CREATE, format!("cannot open the log file {}: {e}", path.display()))
            })?;
            let log = Arc::new(Reopenable { path, file: ArcSwap::from_pointee(file) });
            (Output::File(Arc::clone(&log)), LogFile(Some(log)))
        }
    };
    let color = color && matches!(output, Output::Stderr) && options.format == LogFormat::Text;
    let journal = match output {
        Output::Stderr => is_journal(io::stderr(), environment),
        Output::Stdout => is_journal(io::stdout(), environment),
        Output::File(_) => false,
    };
    let lines = Lines { format: options.format, output, color, journal };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(targets(&options.level)));
    // A second call is a second run within one process, as in tests; the first log stays.
    tracing::subscriber::set_global_default(subscriber).ok();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!("bug at {place}: {}", panic.payload_as_str().unwrap_or("panic without a message"));
    }));
    Ok(file)
}

/// Whether what is written there goes to systemd's journal: `JOURNAL_STREAM` has the device and inode of the socket
/// (`systemd.exec(5)`).
fn is_journal(stream: impl AsFd, environment: &Environment) -> bool {
    let id = rustix::fs::fstat(stream).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    environment.get("JOURNAL_STREAM").is_some_and(|journal| id.is_ok_and(|id| id == journal))
}

/// The filter. What the libraries below say is only written from `warn` on, unless they are named.
fn targets(levels: &LogLevels) -> Targets {
    let level = |name: &str| name.parse().unwrap_or(LevelFilter::INFO);
    let all = level(levels.all);
    let mut targets = Targets::new()
        .with_default(all.min(LevelFilter::WARN))
        .with_target("logweir", all)
        .with_target("weir::audit", all);
    for (target, name) in &levels.targets {
        let first = target.split("::").next().unwrap_or_default();
        let ours = OUR_MODULES.contains(&first);
        let full = if ours { format!("logweir::{target}") } else { target.clone() };
        targets = targets.with_target(full, level(name));
    }
    targets
}

enum Output {
    Stderr,
    Stdout,
    File(Arc<Reopenable>),
}

struct Lines {
    format: LogFormat,
    output: Output,
    color: bool,
    journal: bool,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let meta = event.metadata();
        let target = meta.target().strip_prefix("logweir::").unwrap_or(meta.target());
        let line = Line { time: timestamp(clock::unix_nanos()), level: *meta.level(), target, fields };
        let mut text = match (self.format, self.journal) {
            (LogFormat::Text, false) => line.text(self.color),
            (LogFormat::Text, true) => line.journal(),
            (LogFormat::Json, false) => line.json(),
            (LogFormat::Json, true) => format!("{}{}", line.priority(), line.json()),
        };
        text.push('\n');
        // A log that cannot be written has nobody to tell.
        match &self.output {
            Output::Stderr => io::stderr().lock().write_all(text.as_bytes()),
            Output::Stdout => io::stdout().lock().write_all(text.as_bytes()),
            Output::File(log) => (&**log.file.load()).write_all(text.as_bytes()),
        }
        .ok();
    }
}

/// RFC 3339 in UTC with whole seconds.
fn timestamp(unix_nanos: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(unix_nanos)).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// One line of the log before it is written.
struct Line<'a> {
    time: String,
    level: tracing::Level,
    target: &'a str,
    fields: Fields,
}

#[derive(Default)]
struct Fields {
    message: String,
    component: Option<String>,
    others: Vec<(&'static str, serde_json::Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: serde_json::Value) {
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        match field.name() {
            "message" => self.message = text(value),
            "component" => self.component = Some(text(value)),
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

impl Line<'_> {
    /// `2026-11-21T03:05:00Z WARN app.sink.0.http: message key=value`.
    fn text(&self, color: bool) -> String {
        let (before, after) = match (color, self.level) {
            (false, _) => ("", ""),
            (true, tracing::Level::ERROR) => ("\x1b[1;31m", "\x1b[0m"),
            (true, tracing::Level::WARN) => ("\x1b[1;33m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[0m"),
        };
        let mut line = format!("{} {before}{}{after} ", self.time, self.level);
        self.push_rest(&mut line);
        line
    }

    /// The same for the journal, which takes the time by itself and the level from the prefix.
    fn journal(&self) -> String {
        let mut line = format!("{}{} ", self.priority(), self.level);
        self.push_rest(&mut line);
        line
    }

    /// The prefix by which the journal knows the level (`sd-daemon(3)`).
    fn priority(&self) -> &'static str {
        match self.level {
            tracing::Level::ERROR => "<3>",
            tracing::Level::WARN => "<4>",
            tracing::Level::INFO => "<6>",
            _ => "<7>",
        }
    }

    fn push_rest(&self, line: &mut String) {
        let who = self.fields.component.as_deref().unwrap_or(self.target);
        push_plain(who, line);
        line.push_str(": ");
        push_plain(&self.fields.message, line);
        for (name, value) in &self.fields.others {
            line.push_str(&format!(" {name}="));
            match value {
                serde_json::Value::String(text) => push_plain(text, line),
                other => line.push_str(&other.to_string()),
            }
        }
    }

    fn json(&self) -> String {
        let mut map = serde_json::Map::new();
        map.insert("timestamp".into(), self.time.as_str().into());
        map.insert("level".into(), self.level.as_str().to_lowercase().into());
        map.insert("target".into(), self.target.into());
        if let Some(component) = &self.fields.component {
            map.insert("component".into(), component.as_str().into());
        }
        map.insert("message".into(), self.fields.message.as_str().into());
        for (name, value) in &self.fields.others {
            map.entry(*name).or_insert_with(|| value.clone());
        }
        serde_json::Value::Object(map).to_string()
    }
}

/// Appends text with its control characters escaped: what a peer or a path says must not steer a terminal or
/// forge a line.
fn push_plain(text: &str, out: &mut String) {
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line<'static> {
        let fields = Fields {
            message: "cannot open \x1b[2Jx\ny".to_owned(),
            component: Some("app.source.0.file".to_owned()),
            others: vec![("count", 3.into()), ("path", "a b".into())],
        };
        Line {
            time: timestamp(1_795_230_300_000_000_000),
            level: tracing::Level::WARN,
            target: "sources",
            fields,
        }
    }

    #[test]
    fn text_lines_are_compact_and_cannot_steer_a_terminal() {
        assert_eq!(
            line().text(false),
            "2026-11-21T03:05:00Z WARN app.source.0.file: cannot open \\u{1b}[2Jx\\ny count=3 path=a b"
        );
    }

    #[test]
    fn the_journal_gets_the_level_and_no_time() {
        assert_eq!(
            line().journal(),
            "<4>WARN app.source.0.file: cannot open \\u{1b}[2Jx\\ny count=3 path=a b"
        );
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let stream = |text: String| Environment::from_pairs([("JOURNAL_STREAM", text)]);
        assert!(is_journal(&file, &stream(format!("{}:{}", stat.st_dev, stat.st_ino))));
        assert!(!is_journal(&file, &stream(format!("{}:{}", stat.st_dev, stat.st_ino + 1))));
        assert!(!is_journal(&file, &Environment::from_pairs::<&str, &str>([])));
    }

    #[test]
    fn json_lines_parse() {
        let json: serde_json::Value = serde_json::from_str(&line().json()).unwrap();
        assert_eq!((json["level"].as_str(), json["count"].as_u64()), (Some("warn"), Some(3)));
        assert_eq!(json["message"], "cannot open \x1b[2Jx\ny");
    }

    #[test]
    fn targets_may_be_named_without_the_crate() {
        let levels = LogLevels::parse("info,sources::file=trace,hyper=debug").unwrap();
        let filter = targets(&levels);
        for (target, level, enabled) in [
            ("logweir::sources::file", tracing::Level::TRACE, true),
            ("logweir::sources::tcp", tracing::Level::DEBUG, false),
            ("logweir::sinks", tracing::Level::INFO, true),
            ("weir::audit", tracing::Level::INFO, true),
            ("hyper::proto", tracing::Level::DEBUG, true),
            ("mio", tracing::Level::INFO, false),
            ("mio", tracing::Level::WARN, true),
        ] {
            assert_eq!(filter.would_enable(target, &level), enabled, "{target} {level}");
        }
    }

    #[test]
    fn a_moved_log_file_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weir.log");
        let log =
            Arc::new(Reopenable { path: path.clone(), file: ArcSwap::from_pointee(open(&path).unwrap()) });
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        LogFile(Some(Arc::clone(&log))).reopen().unwrap();
        (&**log.file.load()).write_all(b"x").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }
}
