//! Lanes against a simulated network under paused time: receivers that refuse, hang, reset, close and crawl.

mod hostile;
mod network;
mod single;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::network::Network;
use super::{LaneLimits, Lanes};
use crate::base::rng::Rng;
use crate::base::task;
use crate::batch::{Batch, Outcome, Receipt};
use crate::codec::encode::Format;
use crate::codec::framing::Scheme;
use crate::codec::outgoing::Outgoing;
use crate::config::ComponentKind;
use crate::flow::{Bounds, Inlet, Meter, Queue, TaskCx, WhenFull};
use crate::net::dial::{Dial, Endpoint};
use crate::net::upstream::{BreakerPolicy, Strategy, Trials, Upstreams};
use crate::testing;

const LIMITS: LaneLimits = LaneLimits {
    window_bytes_max: 16 << 10,
    write_timeout: Duration::from_secs(30),
    reconnect_after: None,
    attempts_max: None,
};

/// Lanes at work on a queue.
struct Subject {
    queue: Arc<Queue>,
    cx: TaskCx,
    /// Lets another sink take the queue over.
    release: CancellationToken,
    running: JoinHandle<()>,
}

impl Subject {
    fn start(network: &Arc<Network>, strategy: Strategy, limits: LaneLimits, seed: u64) -> Subject {
        let bounds = Bounds { events_max: 500, bytes_max: 64 << 10, when_full: WhenFull::Block };
        let queue = Queue::new(bounds, Arc::new(Meter::default()));
        let release = CancellationToken::new();
        let mut inlet = Inlet::releasable(queue.clone(), release.clone());
        let cx = testing::task_cx(ComponentKind::Sink, "tcp_client", std::path::Path::new("/nowhere"));
        let endpoints = (0..network.receivers()).map(|i| Endpoint::new("sim", 1 + i as u16)).collect();
        let policy = BreakerPolicy { trials: Trials::Probe, ..BreakerPolicy::default() };
        let upstreams = Upstreams::new(endpoints, strategy, policy, Rng::seeded(seed));
        let dial: Arc<dyn Dial> = network.clone();
        let running = task::spawn({
            let cx = cx.clone();
            async move {
                let outgoing = Outgoing::new(Format::Raw, Scheme::Newline, "p".into());
                Lanes::new(upstreams, &dial, outgoing, limits).run(&mut inlet, &cx).await;
            }
        });
        Subject { queue, cx, release, running }
    }

    async fn push(&self, rows: &[&str]) {
        self.queue.push(Batch::from_lines("t", rows)).await;
    }

    /// Pushes rows and returns how they ended, once they have.
    async fn ending(&self, rows: &[&str]) -> Outcome {
        let (tell, hear) = tokio::sync::oneshot::channel();
        let mut builder = crate::batch::BatchBuilder::new(Arc::new(crate::batch::Origin::new("t", "t")));
        rows.iter().for_each(|row| builder.push(row.as_bytes()));
        self.queue.push(builder.finish(Receipt::new(move |o| tell.send(o).unwrap_or_default()))).await;
        hear.await.unwrap()
    }

    async fn finish(self) {
        self.queue.close();
        self.running.await.unwrap();
        assert!(self.queue.meter().snapshot().balances());
    }
}
