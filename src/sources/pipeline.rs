//! The `pipeline` source: takes in what the `pipeline` sinks of other pipelines send to this one. It ends when the
//! last of them has ended.

use async_trait::async_trait;

use crate::config::options;
use crate::flow::{BuildCx, Component, Fault, Links, Outlet, Source, TaskCx};

options! {
    /// Options of the `pipeline` source.
    pub struct PipelineSourceOptions {}
}

/// See the module.
#[derive(Debug, Clone)]
pub struct PipelineSource;

impl Component for PipelineSource {
    const NAME: &'static str = "pipeline";
    const SUMMARY: &'static str = "what other pipelines send to this one";
    const EXAMPLE: &'static str = "type = \"pipeline\"\n";
    type Options = PipelineSourceOptions;

    fn build(_: PipelineSourceOptions, cx: &mut BuildCx<'_>) -> Option<PipelineSource> {
        // A second one would take the first one's place.
        let pipeline = cx.site.pipeline.to_string();
        cx.claim("entrance of the pipeline", pipeline, "type");
        Some(PipelineSource)
    }
}

#[async_trait]
impl Source for PipelineSource {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        cx.ready();
        // A shutdown begins with the sources that feed the senders; their last rows still pass through here.
        cx.shared.get::<Links>().receive(&cx.site.pipeline, out.clone()).await;
        Ok(())
    }
}
