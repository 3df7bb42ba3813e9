//! Options that every source of files shares, and what they mean once they are checked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use encoding_rs::Encoding;

use super::identity::{FileId, Fingerprint};
use super::multiline::Multiline;
use super::paths::Patterns;
use crate::base::units::ByteCount;
use crate::codec::framing::Oversize;
use crate::config::{Diagnostics, Field, Located, Node, OneOrMany, Options, Reader, choices, options};
use crate::flow::BuildCx;

choices! {
    /// Where reading starts in files that are there when weir starts and that it has no checkpoint of. Files that
    /// appear later are read from their beginning.
    pub enum StartAt {
        /// At the first line.
        Beginning = "beginning",
        /// Behind the last complete line.
        End = "end",
    }
}

choices! {
    /// What happens to a line longer than `max_line_size`.
    pub enum OversizePolicy {
        /// Its first bytes pass, the rest is skipped.
        Truncate = "truncate",
        /// It is dropped and counted.
        Drop = "drop",
        /// It passes in pieces.
        Split = "split",
    }
}

options! {
    /// Joins lines that belong together, such as stack traces, into one event. Give `start` or `continue`.
    pub struct MultilineOptions {
        /// A regex: a line that matches begins an event, the others continue it.
        pub start: Option<Located<String>> = None,
        /// A regex: a line that matches continues the event before it.
        pub r#continue: Option<Located<String>> = None,
        /// Most lines of an event; the next line begins another one.
        #[range(1..=100_000)]
        pub max_lines: u64 = 500,
        /// Most bytes of an event; the line that would exceed it begins another one.
        #[range(ByteCount(64)..=ByteCount::mib(64))]
        pub max_bytes: ByteCount = ByteCount::mib(1),
        /// How long an event waits for its next line.
        #[range(Duration::from_millis(10)..=Duration::from_secs(3600))]
        pub timeout: Duration = Duration::from_secs(1),
    }
}

options! {
    /// How a file's content is recognised, besides its device and inode.
    pub struct FingerprintOptions {
        /// How many first bytes identify it. Raise it when files begin with the same long header.
        #[range(ByteCount(16)..=ByteCount::kib(64))]
        pub bytes: ByteCount = ByteCount::kib(1),
    }
}

options! {
    /// How files are read.
    pub struct TailOptions {
        /// Globs of files that are left out: of the whole path, or of the name if they hold no `/`.
        pub exclude: Option<OneOrMany> = None,
        /// Where reading starts in files that are there when weir starts and that it has no checkpoint of.
        pub start_at: StartAt = StartAt::Beginning,
        /// How often active files are looked at where the system does not report changes, such as on a network.
        #[range(Duration::from_millis(10)..=Duration::from_secs(60))]
        pub poll_interval: Duration = Duration::from_millis(250),
        /// Longest line; see `oversize` for longer ones.
        #[range(ByteCount(1)..=ByteCount::mib(64))]
        pub max_line_size: ByteCount = ByteCount::kib(256),
        /// What happens to a line longer than `max_line_size`.
        pub oversize: OversizePolicy = OversizePolicy::Truncate,
        /// How the text is encoded: `utf-8` passes bytes untouched, others (`utf-16le`, `latin-1`, `shift_jis`, … any
        /// label of the WHATWG encoding standard) become UTF-8. A byte order mark is honoured and removed.
        pub encoding: Located<String> = Located::from("utf-8".to_owned()),
        /// Joins lines that belong together into one event.
        pub multiline: Option<MultilineOptions> = None,
        /// How long a file that was rotated away or deleted is still read after its last growth.
        #[range(Duration::ZERO..=Duration::from_secs(86_400))]
        pub rotate_wait: Duration = Duration::from_secs(5),
        /// How long a last line without a newline waits for the rest of it before it passes as it is; `0s`: for ever.
        #[range(Duration::ZERO..=Duration::from_secs(86_400))]
        pub partial_line_timeout: Duration = Duration::from_secs(5),
        /// Of files not seen before that were last written longer ago, only new lines are read.
        pub ignore_older: Option<Duration> = None,
        /// How a file is known again after it was renamed, rotated or compressed.
        pub fingerprint: FingerprintOptions = crate::config::defaults(),
    }
}

/// Two tables of options that are written as one.
#[derive(Debug, Clone)]
pub struct Joined<A, B>(pub A, pub B);

impl<A: Options, B: Options> Options for Joined<A, B> {
    const NAME: &'static str = A::NAME;
    const DOC: &'static str = A::DOC;

    fn fields() -> Vec<Field> {
        let mut fields = A::fields();
        fields.extend(B::fields());
        fields
    }

    fn read(reader: &mut Reader<'_>, diags: &mut Diagnostics) -> Option<Self> {
        let (a, b) = (A::read(reader, diags), B::read(reader, diags));
        Some(Joined(a?, b?))
    }
}

/// Checked options of a source of files.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which files.
    pub patterns: Patterns,
    /// A directory that has to be there.
    pub required_dir: Option<PathBuf>,
    /// Whether reading starts at the end of files that are there without a checkpoint.
    pub start_at_end: bool,
    /// Where reading starts in files whose beginning was read by somebody else: the offset, of the content of a
    /// compressed file. [`ARCHIVE_DONE`](super::checkpoint::ARCHIVE_DONE): such a file was read to its end.
    pub starts: HashMap<FileId, u64>,
    /// See [`TailOptions`].
    pub poll_interval: Duration,
    /// See [`TailOptions`].
    pub line_bytes_max: usize,
    /// See [`TailOptions`].
    pub oversize: Oversize,
    /// `None`: bytes pass untouched.
    pub encoding: Option<&'static Encoding>,
    /// See [`TailOptions`].
    pub multiline: Option<Multiline>,
    /// See [`TailOptions`].
    pub rotate_wait: Duration,
    /// How long an unfinished last line waits; `None`: for ever.
    pub partial_line_timeout: Option<Duration>,
    /// See [`TailOptions`].
    pub ignore_older: Option<Duration>,
    /// See [`FingerprintOptions`].
    pub fingerprint_bytes: usize,
    /// The component's name in the process.
    pub component: Arc<str>,
    /// The name of its checkpoints.
    pub checkpoints: Arc<str>,
}

impl Settings {
    /// Checks `options`; complaints go to `cx`.
    pub fn new(patterns: Patterns, options: TailOptions, cx: &mut BuildCx<'_>) -> Option<Settings> {
        let exclude: &[String] = options.exclude.as_deref().unwrap_or_default();
        let patterns = match patterns.except(exclude) {
            Ok(patterns) => Some(patterns),
            Err((index, why)) => {
                cx.error_at("exclude", index, format!("invalid glob: {why}"));
                None
            }
        };
        let encoding = encoding(&options.encoding, cx.diagnostics);
        let multiline = match &options.multiline {
            Some(options) => Multiline::new(options, cx).map(Some),
            None => Some(None),
        };
        Some(Settings {
            patterns: patterns?,
            required_dir: None,
            start_at_end: options.start_at == StartAt::End,
            starts: HashMap::new(),
            poll_interval: options.poll_interval,
            line_bytes_max: options.max_line_size.as_usize(),
            oversize: match options.oversize {
                OversizePolicy::Truncate => Oversize::Truncate,
                OversizePolicy::Drop => Oversize::Drop,
                OversizePolicy::Split => Oversize::Split,
            },
            encoding: encoding?,
            multiline: multiline?,
            rotate_wait: options.rotate_wait,
            partial_line_timeout: Some(options.partial_line_timeout).filter(|t| !t.is_zero()),
            ignore_older: options.ignore_older,
            fingerprint_bytes: options.fingerprint.bytes.as_usize(),
            component: cx.site.id().into(),
            checkpoints: checkpoints(cx).into(),
        })
    }

    /// Longest stretch of a file that may have to be in memory at once.
    pub fn stretch_bytes_max(&self) -> usize {
        self.line_bytes_max * 2 + self.multiline.as_ref().map_or(0, Multiline::bytes_max) + 128 * 1024
    }

    /// Whether `path` must not be read.
    pub fn is_excluded(&self, path: &Path) -> bool {
        self.patterns.is_excluded(path)
    }
}

/// What a claim on checkpoints is called; it is no conflict when two sources read the same files.
pub const CHECKPOINTS: &str = "checkpoints";

/// The name of the checkpoints of the source being built: made from what it reads, so that it is the same wherever
/// in its pipeline the source stands. Claimed, so that the engine knows which names are in use.
fn checkpoints(cx: &mut BuildCx<'_>) -> String {
    let mut read: Vec<String> = Vec::new();
    for key in ["path", "pattern", "recursive"] {
        match cx.node.get(key).map(Node::to_json) {
            Some(serde_json::Value::Array(all)) => read.extend(all.iter().map(ToString::to_string)),
            Some(one) => read.push(one.to_string()),
            None => {}
        }
    }
    read.sort();
    let hash = Fingerprint::of(read.join("\n").as_bytes()).hash;
    let name = format!("{}.{}.{hash:016x}", cx.site.pipeline, cx.site.type_name);
    cx.claim(CHECKPOINTS, name.clone(), "path");
    name
}

fn encoding(label: &Located<String>, diags: &mut Diagnostics) -> Option<Option<&'static Encoding>> {
    let plain = label.to_ascii_lowercase().replace("latin-", "latin");
    match Encoding::for_label(plain.as_bytes()) {
        Some(found) if found == encoding_rs::UTF_8 => Some(None),
        Some(found) if found != encoding_rs::REPLACEMENT => Some(Some(found)),
        _ => {
            let allowed = [
                "utf-8",
                "utf-16le",
                "utf-16be",
                "latin-1",
                "shift_jis",
                "euc-jp",
                "gbk",
                "big5",
                "windows-1252",
            ];
            label.error(format!("unknown encoding `{}`", **label), diags).choices(label, allowed);
            None
        }
    }
}
