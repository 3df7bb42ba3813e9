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

/// The way into one pipeline.
#[derive(Debug)]
pub struct Link {
    entrance: watch::Sender<Option<Outlet>>,
    senders: watch::Sender<usize>,
    /// Senders enter in turn, so that what a sender leaves under way is not overtaken by its successor.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Links {
    /// A sink that feeds the pipeline `name` is about to be started; said before its source starts, and before a
    /// sender that this one replaces has ended.
    pub fn sender_starts(&self, name: &str) {
        self.link(name).senders.send_modify(|n| *n += 1);
    }

    /// One sender has sent all it ever will.
    pub fn sender_ended(&self, name: &str) {
        self.link(name).senders.send_modify(|n| *n = n.saturating_sub(1));
    }

    /// Lets senders into `entrance`, and waits until the last sender has ended. Cancel-safe; after a cancellation
    /// the entrance stays until it is replaced.
    pub async fn receive(&self, name: &str, entrance: Outlet) {
        let link = self.link(name);
        link.entrance.send_replace(Some(entrance));
        // The sender lives in `link`, so waiting cannot fail.
        link.senders.subscribe().wait_for(|n| *n == 0).await.ok();
    }

    /// The way into the pipeline `name`, whether or not it has started.
    pub fn link(&self, name: &str) -> Arc<Link> {
        let mut links = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let (entrance, senders) = (|| watch::Sender::new(None), || watch::Sender::new(0));
        let new = || Arc::new(Link { entrance: entrance(), senders: senders(), turn: Arc::default() });
        links.entry(name.to_owned()).or_insert_with(new).clone()
    }

    /// Forgets the pipelines that are no longer there.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| keep(name));
    }
}

impl Link {
    /// The way in as it is now; waits until the pipeline's source has started. Cancel-safe.
    pub async fn entrance(&self) -> Option<Outlet> {
        if let Some(there) = &*self.entrance.borrow() {
            return Some(there.clone());
        }
        let mut entrance = self.entrance.subscribe();
        let there = entrance.wait_for(Option::is_some).await.ok()?;
        there.clone()
    }

    /// Waits for this sender's turn, which it has until it drops it. Cancel-safe.
    pub async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }
}
