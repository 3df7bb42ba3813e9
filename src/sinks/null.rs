//! The `null` sink: takes everything and keeps nothing. For measuring what lies before it.

use async_trait::async_trait;

use crate::config::options;
use crate::flow::{BuildCx, Component, Fault, Inlet, Sink, TaskCx};

options! {
    /// Options of the `null` sink.
    pub struct NullOptions {}
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Null;

impl Component for Null {
    const NAME: &'static str = "null";
    const SUMMARY: &'static str = "takes everything and keeps nothing";
    const EXAMPLE: &'static str = "type = \"null\"\n";
    type Options = NullOptions;

    fn build(_: NullOptions, _: &mut BuildCx<'_>) -> Option<Null> {
        Some(Null)
    }
}

#[async_trait]
impl Sink for Null {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        cx.ready();
        while let Some(lease) = inlet.recv().await {
            lease.delivered();
        }
        Ok(())
    }
}
