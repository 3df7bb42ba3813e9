//! Links between pipelines: a `pipeline` source lays its outlet out under its pipeline's name, `pipeline` sinks
//! pick it up and push into it directly, so a link has no queue of its own. The source ends after its last sender.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::outlet::Outlet;

/// All links of a process, found in [`Shared`](super::Shared).
#[derive(Debug, Default)]
pub struct Links {
    by_name: Mutex<HashMap<String, Arc<Link>>>,
}

#[derive(Debug)]
struct Link {
    entrance: watch::Sender<Option<Outlet>>,
    senders: watch::Sender<usize>,
}

impl Links {
    /// Says how many sinks feed the pipeline `name`; called before any of them or its source starts.
    pub fn expect(&self, name: &str, senders: usize) {
        self.link(name).senders.send_replace(senders);
    }

    /// Lets senders into `entrance`, and waits until the last expected sender has ended. Cancel-safe; after a
    /// cancellation the entrance stays until it is replaced.
    pub async fn receive(&self, name: &str, entrance: Outlet) {
        let link = self.link(name);
        link.entrance.send_replace(Some(entrance));
        // The sender lives in `link`, so waiting cannot fail.
        link.senders.subscribe().wait_for(|n| *n == 0).await.ok();
    }

    /// The way into the pipeline `name`; waits until its source has started. Cancel-safe.
    pub async fn entrance(&self, name: &str) -> Option<Outlet> {
        let link = self.link(name);
        let mut entrance = link.entrance.subscribe();
        let there = entrance.wait_for(Option::is_some).await.ok()?;
        there.clone()
    }

    /// One sender has sent all it ever will.
    pub fn sender_ended(&self, name: &str) {
        self.link(name).senders.send_modify(|n| *n = n.saturating_sub(1));
    }

    fn link(&self, name: &str) -> Arc<Link> {
        let mut links = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Link { entrance: watch::Sender::new(None), senders: watch::Sender::new(0) });
        links.entry(name.to_owned()).or_insert_with(new).clone()
    }
}
