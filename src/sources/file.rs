//! The `file` source: follows every file that a list of globs matches.

use std::sync::Arc;

use async_trait::async_trait;

use crate::config::{OneOrMany, options};
use crate::flow::{BuildCx, Component, Fault, Outlet, Placement, Source, TaskCx};
use crate::tail::{self, Joined, Patterns, Settings, TailOptions};

options! {
    /// Options of the `file` source.
    pub struct FileOptions {
        /// Globs of the files to follow; `*` stays within a directory, `**` goes through all below.
        /// A copy that `copytruncate` makes is a file of its own and is read as one if a glob matches it.
        pub path: OneOrMany,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct File(pub(crate) Arc<Settings>);

impl Component for File {
    const NAME: &'static str = "file";
    const SUMMARY: &'static str = "lines of files, followed through rotation and restarts";
    const EXAMPLE: &'static str =
        "type = \"file\"\npath = [\"/var/log/*.log\", \"/srv/**/app.log\"]\nexclude = \"*.gz\"\n";
    const PLACEMENT: Placement = Placement::Thread;
    type Options = Joined<FileOptions, TailOptions>;

    fn build(Joined(own, options): Self::Options, cx: &mut BuildCx<'_>) -> Option<File> {
        if let Some(index) = own.path.iter().position(|path| path.starts_with("~/")) {
            cx.error_at("path", index, "invalid glob: nobody puts your home in the place of `~` here")
                .hint("write `${HOME}/…`");
            return None;
        }
        let patterns = Patterns::globs(&own.path).map_err(|(index, why)| {
            cx.error_at("path", index, format!("invalid glob: {why}"));
        });
        Settings::new(patterns.ok()?, options, cx).map(|settings| File(Arc::new(settings)))
    }
}

#[async_trait]
impl Source for File {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        tail::run(&self.0, out, cx).await
    }
}
