//! Bound listeners by address. A component that is started anew, after a fault or by a reload, takes over the
//! socket that is there, so that no client finds the port closed meanwhile, and those who wait in its queue are kept.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;

use crate::flow::Site;

/// The listeners of a process, found in [`Shared`](crate::flow::Shared).
#[derive(Debug, Default)]
pub struct Listeners {
    held: Mutex<Vec<Held>>,
    /// Reloads under way.
    keepers: AtomicUsize,
}

/// While it lives, listeners stay bound although their components have ended.
#[derive(Debug)]
pub struct Keeping(Arc<Listeners>);

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.keepers.fetch_sub(1, Relaxed);
        self.0.release_unused(|_| false);
    }
}

#[derive(Debug)]
struct Held {
    /// Who bound it or took it last, by site id.
    owner: String,
    /// The address as it is configured.
    address: String,
    listener: Arc<TcpListener>,
}

impl Listeners {
    /// The listener on `address` (`host:port`) for the component `site`: its own of before, or one that nobody uses
    /// any more, or a new one. It stays bound, also while its component is started again, until
    /// [`Listeners::release_unused`] finds it without a user.
    ///
    /// # Errors
    /// As [`bind`](super::bind): with the address and a hint.
    pub async fn bind(&self, site: &Site, address: &str) -> io::Result<Arc<TcpListener>> {
        let owner = site.id();
        {
            let mut held = self.lock();
            let free = |h: &Held| h.address == address && Arc::strong_count(&h.listener) == 1;
            let at = held.iter().position(|h| free(h) && h.owner == owner);
            if let Some(at) = at.or_else(|| held.iter().position(free)) {
                held[at].owner = owner;
                return Ok(held[at].listener.clone());
            }
        }
        let listener = Arc::new(super::bind(address).await?);
        self.lock().push(Held { owner, address: address.to_owned(), listener: listener.clone() });
        Ok(listener)
    }

    /// Keeps listeners bound between the end of one component and the start of the next.
    pub fn keep(self: &Arc<Listeners>) -> Keeping {
        self.keepers.fetch_add(1, Relaxed);
        Keeping(self.clone())
    }

    /// The component `site` has ended: nobody is to wait in its queue for an answer that never comes.
    pub fn component_ended(&self, site: &Site) {
        if self.keepers.load(Relaxed) == 0 {
            let owner = site.id();
            self.lock().retain(|held| held.owner != owner || Arc::strong_count(&held.listener) > 1);
        }
    }

    /// Closes those that no component uses, except on addresses that `keep` wants for one that is about to start.
    pub fn release_unused(&self, keep: impl Fn(&str) -> bool) {
        self.lock().retain(|held| Arc::strong_count(&held.listener) > 1 || keep(&held.address));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
