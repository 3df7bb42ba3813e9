//! The connections to one endpoint: kept while they are young and alive, so that most requests find one waiting,
//! and made anew now and then, so that a name that moves to another address is followed.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::Connection;
use crate::net::dial::{Dial, Endpoint};

/// A connection takes no further request at this age: the name is looked up again with the next one.
const AGE_MAX: Duration = Duration::from_secs(300);
/// How long a connection may take to be ready again after an answer: it is at once, unless the receiver does not
/// read the rest of the request.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Pool {
    dial: Arc<dyn Dial>,
    endpoint: Endpoint,
    /// The latest last; never more than there were requests at a time. A shared connection is alone in it.
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// No connection yet.
    pub(super) fn new(dial: Arc<dyn Dial>, endpoint: Endpoint) -> Pool {
        Pool { dial, endpoint, idle: Mutex::default() }
    }

    /// A connection that is ready: one that waits here, else (and if only a `fresh` one will do) a new one.
    pub(super) async fn take(&self, fresh: bool) -> io::Result<Connection> {
        if fresh {
            // What broke one has broken all that are as old.
            self.lock().clear();
        }
        while let Some(mut connection) = self.waiting() {
            let ready = tokio::time::timeout(READY_WITHIN, connection.ready()).await;
            if ready.unwrap_or(false) {
                return Ok(connection);
            }
        }
        let connection = Connection::open(self.dial.dial(&self.endpoint).await?).await?;
        if let Some(shared) = connection.share() {
            let mut idle = self.lock();
            idle.clear();
            idle.push(shared);
        }
        Ok(connection)
    }

    fn waiting(&self) -> Option<Connection> {
        let mut idle = self.lock();
        idle.retain(|c| !c.is_closed() && c.born.elapsed() < AGE_MAX);
        match idle.last().and_then(Connection::share) {
            Some(shared) => Some(shared),
            None => idle.pop(),
        }
    }

    /// Gives a connection back after an answer that was read to its end.
    pub(super) fn give_back(&self, mut connection: Connection) {
        connection.used = true;
        if connection.is_closed() {
            return;
        }
        let mut idle = self.lock();
        if connection.is_h2() {
            // Its other handle waits here, unless it was replaced; either way it is known from now on as used.
            idle.clear();
        }
        idle.push(connection);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections that wait, for tests.
    #[cfg(test)]
    pub(super) fn waiting_connections(&self) -> usize {
        self.lock().len()
    }
}
