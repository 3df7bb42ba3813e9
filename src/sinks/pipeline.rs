//! The `pipeline` sink: sends its rows into another pipeline, straight through that one's filters into its
//! sinks' buffers. The other pipeline's receipt is the source's receipt.

use async_trait::async_trait;

use crate::base::task;
use crate::config::options;
use crate::flow::{BuildCx, Component, Fault, Inlet, Links, Sink, TaskCx};

options! {
    /// Options of the `pipeline` sink.
    pub struct PipelineSinkOptions {
        /// The pipeline that is fed; it needs a source of type `pipeline`.
        pub name: String,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct PipelineSink {
    name: String,
}

impl Component for PipelineSink {
    const NAME: &'static str = "pipeline";
    const SUMMARY: &'static str = "feeds another pipeline";
    const EXAMPLE: &'static str = "type = \"pipeline\"\nname = \"audit\"\n";
    type Options = PipelineSinkOptions;

    fn build(options: PipelineSinkOptions, cx: &mut BuildCx<'_>) -> Option<PipelineSink> {
        cx.claim("feeds pipeline", options.name.clone(), "name");
        Some(PipelineSink { name: options.name })
    }
}

#[async_trait]
impl Sink for PipelineSink {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        // Ready before the other pipeline is, which may start later; until then rows wait in the buffer.
        cx.ready();
        let (links, name) = (cx.shared.get::<Links>(), &self.name);
        let link = links.link(name);
        while let Some(lease) = inlet.recv().await {
            // Asked for each batch: a reload may have given the other pipeline another entrance.
            let entered = async { (link.turn().await, link.entrance().await) };
            let (turn, entrance) = tokio::select! {
                entered = entered => entered,
                () = inlet.released() => return Ok(()),
            };
            let Some(entrance) = entrance else {
                return Err(Fault::fatal(format!("pipeline {name}: it is gone")));
            };
            let Some(batch) = lease.forward() else { continue };
            let mut sent = Box::pin(async move {
                entrance.send(batch).await;
                drop(turn);
            });
            tokio::select! {
                biased;
                () = &mut sent => {}
                () = inlet.released() => {
                    // It goes on by itself, before all that its successor sends: part of it may be there already.
                    links.sender_starts(name);
                    let (links, name, stop) = (links.clone(), name.clone(), cx.shutdown.clone());
                    drop(task::spawn(async move {
                        tokio::select! {
                            () = sent => {}
                            () = stop.aborted() => {}
                        }
                        links.sender_ended(&name);
                    }));
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::batch::Batch;
    use crate::config::ComponentKind;
    use crate::testing;

    #[tokio::test]
    async fn rows_pass_from_two_senders_and_the_receiver_ends_after_both() {
        let shared = Arc::new(crate::flow::Shared::default());
        let links = shared.get::<Links>();
        links.sender_starts("audit");
        links.sender_starts("audit");
        let mut senders = Vec::new();
        for _ in 0..2 {
            let mut sink =
                testing::build::<PipelineSink>(ComponentKind::Sink, json!({ "name": "audit" })).unwrap();
            let (queue, mut inlet) = testing::queue();
            let mut cx = testing::task_cx(ComponentKind::Sink, "pipeline", std::path::Path::new("/none"));
            cx.shared = shared.clone();
            let links = links.clone();
            let done = task::spawn(async move {
                let ended = sink.run(&mut inlet, &cx).await;
                links.sender_ended("audit");
                ended
            });
            senders.push((queue, done));
        }
        senders[0].0.push(Batch::from_lines("t", ["early"])).await;
        let (out, mut inlet) = testing::pipeline();
        let receiving = task::spawn({
            let links = links.clone();
            async move { links.receive("audit", out).await }
        });
        assert_eq!(testing::wait_lines(&mut inlet, 1).await, [b"early"]);
        let (queue, done) = senders.remove(0);
        queue.close();
        done.await.unwrap().unwrap();
        assert!(!receiving.is_finished());
        let (queue, done) = senders.remove(0);
        queue.push(Batch::from_lines("t", ["late"])).await;
        queue.close();
        done.await.unwrap().unwrap();
        receiving.await.unwrap();
        assert_eq!(testing::take_lines(&mut inlet), [b"late"]);
        let counts = queue.meter().snapshot();
        assert_eq!((counts.delivered_events, counts.balances()), (1, true));
    }
}
