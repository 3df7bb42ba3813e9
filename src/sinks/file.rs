//! The `file` sink: appends lines to files, one or many by what rows hold, with rotation, retention and a choice
//! of how much survives a power cut.

use std::path::{self, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::units::ByteCount;
use crate::batch::Batch;
use crate::codec::encode::Format;
use crate::config::{FormatOptions, FormatType, choices, options};
use crate::files::{self, Compression, FileWriter, Limits, PathTemplate, Retention, Tidier};
use crate::flow::{BuildCx, Component, Fault, Inlet, Placement, ReopenSignal, Sink, TaskCx};

choices! {
    /// How rotated files are compressed.
    pub enum Compress {
        /// Not at all.
        None = "none",
        /// As `.gz`.
        Gzip = "gzip",
        /// As `.zst`.
        Zstd = "zstd",
    }
}

choices! {
    /// When what was written is brought to the disk itself.
    pub enum Fsync {
        /// When the system sees fit; a power cut may lose the last seconds, a crash of weir loses nothing.
        Never = "never",
        /// At intervals.
        Interval = "interval",
        /// Before a batch counts as delivered.
        Always = "always",
    }
}

options! {
    /// When files are rotated and what becomes of them. A rotated file is named after the time:
    /// `app.log.20261121T031500.000`. Limits count per path.
    pub struct RotateOptions {
        /// A file is rotated before it would become larger. One line alone may be larger.
        #[range(ByteCount::kib(1)..=ByteCount::gib(1024))]
        pub max_size: Option<ByteCount> = None,
        /// A file is rotated when a period of this length has passed, aligned to UTC: "1h" at every full hour,
        /// "1d" at midnight.
        #[range(Duration::from_secs(1)..=Duration::from_secs(366 * 86_400))]
        pub every: Option<Duration> = None,
        /// Most rotated files; the oldest are removed.
        #[range(0..=100_000)]
        pub keep: Option<usize> = None,
        /// Most bytes in the file and its rotated ones; the oldest are removed.
        pub max_total_size: Option<ByteCount> = None,
        /// Rotated files older than this are removed.
        pub max_age: Option<Duration> = None,
        /// When less than this is free on the disk, writing waits, with a warning; nothing is lost.
        pub min_disk_free: Option<ByteCount> = None,
        /// How rotated files are compressed.
        pub compress: Compress = Compress::None,
    }
}

options! {
    /// Options of the `file` sink.
    pub struct FileOptions {
        /// Where lines go. May hold `{pipeline}`, `{source}`, `{host}`, `{level}`, `{date}`, `{hour}` (of the
        /// event, in UTC) and `{field:NAME}`; values never leave their place in the path. Directories are made.
        pub path: String,
        /// When files are rotated and what becomes of them.
        pub rotate: Option<RotateOptions> = None,
        /// When what was written is brought to the disk itself.
        pub fsync: Fsync = Fsync::Never,
        /// The interval for `fsync = "interval"`.
        #[range(Duration::from_millis(10)..=Duration::from_secs(3600))]
        pub fsync_interval: Duration = Duration::from_secs(1),
        /// Most files open at once; the one longest unused is closed.
        #[range(1..=100_000)]
        pub max_open_files: usize = 256,
        /// How events are written; by default as the pipeline says, or as they came.
        pub format: Option<FormatOptions> = None,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct FileSink {
    template: PathTemplate,
    format: Format,
    limits: Limits,
    retention: Retention,
    fsync: Fsync,
    fsync_interval: Duration,
}

impl Component for FileSink {
    const NAME: &'static str = "file";
    const SUMMARY: &'static str = "files, with rotation";
    const EXAMPLE: &'static str = "type = \"file\"\npath = \"/var/log/weir/{pipeline}.log\"\n\
        rotate = { max_size = \"100MiB\", keep = 5, compress = \"zstd\" }\n";
    const PLACEMENT: Placement = Placement::Thread;
    type Options = FileOptions;

    fn build(options: FileOptions, cx: &mut BuildCx<'_>) -> Option<FileSink> {
        let format = Format::build(options.format.as_ref(), FormatType::Raw, cx);
        let template = match PathTemplate::parse(&options.path) {
            Ok(template) => template,
            Err(why) => {
                cx.error("path", format!("invalid path: {why}"));
                return None;
            }
        };
        if options.path.starts_with("~/") {
            cx.error("path", "invalid path: nobody puts your home in the place of `~` here")
                .hint("write `${HOME}/…`");
            return None;
        }
        // However it is spelled: `./a//b` is `a/b`. What only the file system knows, such as links, is not asked.
        let written = options.path.replace("{pipeline}", &cx.site.pipeline);
        let parts = path::Path::new(&written).components().filter(|part| *part != path::Component::CurDir);
        cx.claim("output file", parts.collect::<PathBuf>().to_string_lossy(), "path");
        let rotate = options.rotate.as_ref();
        let limits = Limits {
            size_max: rotate.and_then(|r| r.max_size).map(|size| size.0),
            every: rotate.and_then(|r| r.every),
            disk_free_min: rotate.and_then(|r| r.min_disk_free).map(|size| size.0),
            open_max: options.max_open_files,
        };
        let compress = match rotate.map_or(Compress::None, |r| r.compress) {
            Compress::None => Compression::None,
            Compress::Gzip => Compression::Gzip,
            Compress::Zstd => Compression::Zstd,
        };
        let retention = Retention {
            compress,
            keep: rotate.and_then(|r| r.keep),
            total_bytes_max: rotate.and_then(|r| r.max_total_size).map(|size| size.0),
            age_max: rotate.and_then(|r| r.max_age),
        };
        let (fsync, fsync_interval) = (options.fsync, options.fsync_interval);
        Some(FileSink { template, format: format?, limits, retention, fsync, fsync_interval })
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        let mut writer = FileWriter::new(
            self.template.clone(),
            files::names(&cx.site.pipeline),
            self.format.clone(),
            self.limits.clone(),
            Tidier::new(self.retention.clone()),
        );
        writer.open_early()?;
        let mut reopen = cx.shared.get::<ReopenSignal>().subscribe();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let mut sync = tokio::time::interval(self.fsync_interval);
        cx.ready();
        loop {
            tokio::select! {
                biased;
                // The signal's sender lives in `shared`, so waiting cannot fail.
                Ok(()) = reopen.changed() => writer.close()?,
                _ = sync.tick(), if self.fsync == Fsync::Interval => writer.sync()?,
                _ = tick.tick() => writer.tick(),
                lease = inlet.recv() => {
                    let Some(lease) = lease else { break };
                    writer.write(lease.batch(), cx).await?;
                    if self.fsync == Fsync::Always {
                        writer.sync()?;
                    }
                    lease.delivered();
                }
            }
        }
        writer.finish().await
    }

    fn written(&self, batch: &Batch, pipeline: &Arc<str>) -> Vec<Vec<u8>> {
        self.format.each(batch, pipeline)
    }
}
