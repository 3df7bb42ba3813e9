//! Active health checks: a receiver that failed is asked with a small GET whether it is back, so that no rows are
//! risked on finding out.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::client::Client;
use super::headers::Headers;
use super::payload::Payload;
use super::verdict::Verdict;
use crate::base::clock;
use crate::net::upstream::Upstreams;

/// How receivers that failed are asked whether they are back.
#[derive(Debug)]
pub struct Probes {
    /// One client per endpoint, in their order, that sends GET to the path that answers for its health.
    pub clients: Vec<Arc<Client>>,
    /// How often.
    pub interval: Duration,
}

impl Probes {
    /// Asks, for ever. A receiver is back when it answers 2xx. Cancel-safe.
    pub(super) async fn run(&self, upstreams: &Upstreams, headers: &Headers) {
        // Each by itself: one that takes its time to answer keeps no other waiting.
        let ask = async |index| {
            loop {
                tokio::time::sleep(self.interval).await;
                self.ask(index, upstreams, headers).await;
            }
        };
        join_all((0..self.clients.len()).map(ask)).await;
    }

    async fn ask(&self, index: usize, upstreams: &Upstreams, headers: &Headers) {
        // Secrets that cannot be read are complained about where they are needed for rows.
        let Ok(headers) = headers.resolve().await else { return };
        let Some(slot) = upstreams.probe(index, clock::now()) else { return };
        match self.clients[index].send(&headers, None, &Payload::new([]), Duration::MAX).await {
            Ok(answer) if answer.verdict == Verdict::Taken => slot.succeeded(),
            Ok(answer) => slot.failed(&answer.to_string()),
            Err(no_answer) => slot.failed(&no_answer.why),
        }
    }
}
