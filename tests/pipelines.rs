//! Runs the examples in `tests/pipelines/*.md`, which are documentation and tests at once: each holds a
//! configuration, an input, and what the real binary makes of it.
//!
//! A fenced block is known by the first word of its info string. `toml` is the configuration. `input [FILE]` is
//! written to `{dir}/in.log` or another file there, or to standard input where the configuration has a `stdin`
//! source. `output [FILE]` is what `{dir}/out.log` or another file holds in the end; `stdout` is standard output.
//! With the word `escaped` a block may hold `\r`, `\t`, `\\` and `\xNN`. `{dir}` is a directory made for the run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use logweir::base::clock;
use support::signal;
use support::weir::{Place, wait};

/// How long the output may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Examples that run at a time.
const LANES: usize = 4;

/// One file of `tests/pipelines`.
#[derive(Debug, Default)]
struct Example {
    title: String,
    config: String,
    inputs: BTreeMap<String, Vec<u8>>,
    outputs: BTreeMap<String, Vec<u8>>,
}

impl Example {
    /// Reads the Markdown text of an example; errors say what it lacks.
    fn parse(text: &str) -> Result<Example, String> {
        let mut example = Example::default();
        let mut lines = text.split_inclusive('\n');
        example.title = lines.next().and_then(|l| l.strip_prefix("# ")).unwrap_or_default().trim().to_owned();
        while let Some(line) = lines.next() {
            let Some(info) = line.strip_prefix("```").filter(|info| !info.trim().is_empty()) else {
                continue;
            };
            let block: String = lines.by_ref().take_while(|line| line.trim_end() != "```").collect();
            example.block(info, block)?;
        }
        let parts = [
            ("a title", example.title.is_empty()),
            ("a `toml` block", example.config.is_empty()),
            ("an `input` block", example.inputs.is_empty()),
            ("an `output` block", example.outputs.is_empty()),
        ];
        let missing: Vec<&str> =
            parts.into_iter().filter(|(_, lacks)| *lacks).map(|(what, _)| what).collect();
        if missing.is_empty() { Ok(example) } else { Err(format!("lacks {}", missing.join(", "))) }
    }

    fn block(&mut self, info: &str, text: String) -> Result<(), String> {
        let mut words: Vec<&str> = info.split_whitespace().collect();
        let escaped = words.contains(&"escaped");
        words.retain(|word| *word != "escaped");
        let bytes = if escaped { unescape(&text)? } else { text.clone().into_bytes() };
        let taken = match *words.as_slice() {
            ["toml"] => !std::mem::replace(&mut self.config, text).is_empty(),
            ["input"] => self.inputs.insert("in.log".to_owned(), bytes).is_some(),
            ["input", name] => self.inputs.insert(name.to_owned(), bytes).is_some(),
            ["output"] => self.outputs.insert("out.log".to_owned(), bytes).is_some(),
            ["output", name] => self.outputs.insert(name.to_owned(), bytes).is_some(),
            _ => return Err(format!("unknown block `{}`", info.trim())),
        };
        if taken { Err(format!("a second block `{}`", info.trim())) } else { Ok(()) }
    }
}

/// `\r`, `\t`, `\\` and `\xNN` as the bytes they stand for.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let hex = after.strip_prefix('x').and_then(|hex| hex.get(..2));
        let (byte, length) =
            match (after.chars().next(), hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
                (_, Some(byte)) => (byte, 3),
                (Some('r'), _) => (b'\r', 1),
                (Some('t'), _) => (b'\t', 1),
                (Some('\\'), _) => (b'\\', 1),
                _ => return Err(format!("unknown escape `\\{}`", after.chars().take(3).collect::<String>())),
            };
        bytes.push(byte);
        rest = &after[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// A run of the binary on an example.
struct Trial {
    place: Place,
    dir: String,
}

impl Trial {
    fn new() -> Trial {
        let place = Place::new();
        let dir = place.path("").to_str().unwrap().trim_end_matches('/').to_owned();
        Trial { place, dir }
    }

    fn here(&self, text: &str) -> String {
        text.replace("{dir}", &self.dir)
    }

    /// What a file holds now; standard output is kept in a file, too.
    fn found(&self, name: &str) -> Vec<u8> {
        fs::read(self.place.path(name)).unwrap_or_default()
    }

    fn expected(&self, bytes: &[u8]) -> Vec<u8> {
        // Only text holds the placeholder.
        std::str::from_utf8(bytes).map_or(bytes.to_vec(), |text| self.here(text).into_bytes())
    }

    fn start(&self, example: &Example) -> Child {
        fs::write(self.place.path("weir.toml"), self.here(&example.config)).unwrap();
        let from_stdin = example.config.contains("type = \"stdin\"");
        for (name, bytes) in example.inputs.iter().filter(|_| !from_stdin) {
            fs::write(self.place.path(name), bytes).unwrap();
        }
        let args = ["run", "-c", "weir.toml", "--server.enabled=false", "--state_dir", "state"];
        let mut command = self.place.command(&args);
        let stdout = fs::File::create(self.place.path("stdout")).unwrap();
        command.stdin(if from_stdin { Stdio::piped() } else { Stdio::null() });
        let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(mut stdin) = child.stdin.take() {
            // A refused configuration ends it before it reads; its message is reported below.
            example.inputs.values().for_each(|bytes| drop(stdin.write_all(bytes)));
        }
        child
    }

    /// Runs the example to its end; errors show what was written and what weir said.
    fn run(&self, example: &Example, patience: Duration) -> Result<(), String> {
        let mut child = self.start(example);
        let deadline = clock::now() + patience;
        let is_there =
            || example.outputs.iter().all(|(name, bytes)| self.found(name) == self.expected(bytes));
        while child.try_wait().unwrap().is_none() && !is_there() && clock::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        if child.try_wait().unwrap().is_none() {
            signal(child.id(), "TERM");
        }
        let run = wait(child);
        // Once more at the end: nothing may have come in addition.
        let mut wrong = String::new();
        for (name, bytes) in &example.outputs {
            let (expected, found) = (self.expected(bytes), self.found(name));
            if expected != found {
                let (expected, found) = (expected.escape_ascii(), found.escape_ascii());
                wrong += &format!("{name}: expected\n  {expected}\nfound\n  {found}\n");
            }
        }
        if run.code != 0 {
            wrong += &format!("exit code {}\n", run.code);
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong}weir said:\n{}", run.stderr)) }
    }
}

fn examples() -> Vec<(PathBuf, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pipelines");
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "md"));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_example_does_what_it_says() {
    let examples = examples();
    assert!(examples.len() >= 12, "the examples are gone: {}", examples.len());
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some((path, text)) =
                    examples.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let outcome =
                        Example::parse(text).and_then(|example| Trial::new().run(&example, PATIENCE));
                    if let Err(why) = outcome {
                        let name = path.file_name().unwrap().to_string_lossy();
                        wrong.lock().unwrap().push(format!("== {name}\n{why}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_example_is_noticed() {
    let (_, text) = examples().swap_remove(0);
    let mut example = Example::parse(&text).unwrap();
    let output = example.outputs.values_mut().next().unwrap();
    output.extend_from_slice(b"a line that nobody wrote\n");
    let why = Trial::new().run(&example, Duration::from_millis(500)).unwrap_err();
    assert!(why.contains("a line that nobody wrote"), "{why}");
    example.config.push_str("\nno_such_option = 1\n");
    let why = Trial::new().run(&example, PATIENCE).unwrap_err();
    assert!(why.contains("exit code 78") && why.contains("no_such_option"), "{why}");
}

#[test]
fn what_an_example_lacks_is_named() {
    let whole = "# T\n```toml\na\n```\n```input escaped\nx\\x41\\r\\\\\n```\n```output b.log\ny\n```\n";
    let example = Example::parse(whole).unwrap();
    assert_eq!(example.inputs["in.log"], b"xA\r\\\n");
    assert_eq!(example.outputs["b.log"], b"y\n");
    assert_eq!(
        Example::parse("text").unwrap_err(),
        "lacks a title, a `toml` block, an `input` block, an `output` block"
    );
    assert_eq!(Example::parse("# T\n```sh\n```\n").unwrap_err(), "unknown block `sh`");
    assert_eq!(Example::parse(&(whole.to_owned() + "```toml\n```\n")).unwrap_err(), "a second block `toml`");
}
