//! The `directory` source: follows the files of one directory, one stream per file.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::config::options;
use crate::flow::{BuildCx, Component, Fault, Outlet, Placement, Source, TaskCx};
use crate::tail::{self, Joined, Patterns, Settings, TailOptions};

options! {
    /// Options of the `directory` source.
    pub struct DirectoryOptions {
        /// The directory.
        pub path: String,
        /// Which file names: a glob, or a regex between slashes, `"/^app-\\d+\\.log$/"`.
        pub pattern: String = "*".to_owned(),
        /// Whether directories below are read, too.
        pub recursive: bool = false,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Directory(Arc<Settings>);

impl Component for Directory {
    const NAME: &'static str = "directory";
    const SUMMARY: &'static str = "lines of the files in a directory, one stream per file";
    const EXAMPLE: &'static str =
        "type = \"directory\"\npath = \"/var/log/app\"\npattern = \"*.log\"\nrecursive = true\n";
    const PLACEMENT: Placement = Placement::Thread;
    type Options = Joined<DirectoryOptions, TailOptions>;

    fn build(Joined(own, options): Self::Options, cx: &mut BuildCx<'_>) -> Option<Directory> {
        if own.path.is_empty() {
            cx.error("path", "the path is empty");
            return None;
        }
        let patterns = Patterns::directory(&own.path, &own.pattern, own.recursive).map_err(|why| {
            cx.error("pattern", format!("invalid pattern: {why}"));
        });
        let mut settings = Settings::new(patterns.ok()?, options, cx)?;
        settings.required_dir = Some(PathBuf::from(own.path));
        Some(Directory(Arc::new(settings)))
    }
}

#[async_trait]
impl Source for Directory {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        tail::run(&self.0, out, cx).await
    }
}
