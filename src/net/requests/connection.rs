//! One HTTP connection as a client sees it, HTTP/1.1 or HTTP/2 as the TLS handshake decided, with the task that
//! drives it. Dropping the connection ends the task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::task::AbortHandle;

use super::payload::PayloadBody;
use crate::base::clock::{self, Instant};
use crate::base::task;
use crate::net::dial::Connection as Dialed;

/// The most bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// What waits to be written, in bytes: room for a few pieces of a body.
const WRITE_BUFFER_BYTES: usize = 256 << 10;
/// A silent HTTP/2 connection is asked for a sign of life at this interval, and given up without one.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection that requests can be sent on.
#[derive(Debug)]
pub(super) struct Connection {
    way: Way,
    /// When it was made.
    pub(super) born: Instant,
    /// Whether a request was answered on it before.
    pub(super) used: bool,
}

#[derive(Debug)]
enum Way {
    /// One request at a time.
    One(http1::SendRequest<PayloadBody>, #[expect(dead_code, reason = "dropping it ends the task")] Driver),
    /// Many at a time; clones share the connection.
    Many(http2::SendRequest<PayloadBody>, Arc<Driver>),
}

/// The task that moves a connection's bytes; ends when dropped.
#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Driver {
    /// Why a connection ended is told by the request that was on it.
    fn start(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Driver {
        Driver(task::spawn(async move { connection.await.ok() }).abort_handle())
    }
}

impl Connection {
    /// Speaks HTTP over what was dialed.
    pub(super) async fn open(dialed: Dialed) -> io::Result<Connection> {
        let io = TokioIo::new(dialed.io);
        let way = if dialed.alpn_h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT);
            builder.max_header_list_size(HEAD_BYTES_MAX as u32);
            let (sender, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
            Way::Many(sender, Arc::new(Driver::start(connection)))
        } else {
            let mut builder = http1::Builder::new();
            builder.max_buf_size(WRITE_BUFFER_BYTES.max(HEAD_BYTES_MAX));
            let (sender, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
            Way::One(sender, Driver::start(connection))
        };
        Ok(Connection { way, born: clock::now(), used: false })
    }

    /// Another handle to the same connection, where it carries many requests at a time.
    pub(super) fn share(&self) -> Option<Connection> {
        match &self.way {
            Way::One(..) => None,
            Way::Many(sender, driver) => {
                let way = Way::Many(sender.clone(), driver.clone());
                Some(Connection { way, born: self.born, used: self.used })
            }
        }
    }

    /// Whether it carries many requests at a time; these name the host in the request line.
    pub(super) fn is_h2(&self) -> bool {
        matches!(self.way, Way::Many(..))
    }

    /// Whether nothing can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        match &self.way {
            Way::One(sender, _) => sender.is_closed(),
            Way::Many(sender, _) => sender.is_closed(),
        }
    }

    /// Waits until the next request can be sent; false if there is no such time.
    pub(super) async fn ready(&mut self) -> bool {
        match &mut self.way {
            Way::One(sender, _) => sender.ready().await.is_ok(),
            Way::Many(sender, _) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Request<PayloadBody>) -> hyper::Result<Response<Incoming>> {
        match &mut self.way {
            Way::One(sender, _) => sender.send_request(request).await,
            Way::Many(sender, _) => sender.send_request(request).await,
        }
    }
}
