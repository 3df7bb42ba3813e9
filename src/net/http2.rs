//! Connections that agreed on HTTP/2 in their TLS handshake: many requests at a time, streams among them, within
//! bounds on headers, open requests and idle time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::task::TaskTracker;

use super::answer::{Reply, Taken, answer};
use super::listener::Server;
use super::pump::pump;
use super::socket::{Peer, Socket};
use super::stream_body::{self, Outgoings};
use super::timed::TimedSocket;
use crate::base::clock::{self, Instant};
use crate::base::task;

/// Requests that may be open at a time on one connection; streams stay open.
const REQUESTS_MAX: u32 = 128;
/// How often the client is asked whether it is still there, and how long its answer may take.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// A connection without a request for one to two of these is told to go.
const IDLE_LOOK: Duration = Duration::from_secs(30);
/// Bytes of responses that may wait for the client's windows, per request.
const SEND_BYTES_MAX: usize = 128 << 10;

/// What happens on one connection.
#[derive(Debug, Default)]
struct Activity {
    open: AtomicUsize,
    ever: AtomicUsize,
    /// When whole responses were given to the engine that has not taken their bodies yet, ascending. As many as
    /// requests may be open.
    unread: Mutex<BTreeMap<usize, Instant>>,
}

impl Activity {
    fn unread(&self) -> MutexGuard<'_, BTreeMap<usize, Instant>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open request: counted until its response's body is gone.
#[derive(Debug)]
struct Open {
    activity: Arc<Activity>,
    number: usize,
}

impl Open {
    fn new(activity: &Arc<Activity>) -> Open {
        activity.open.fetch_add(1, Ordering::Relaxed);
        let number = activity.ever.fetch_add(1, Ordering::Relaxed);
        Open { activity: activity.clone(), number }
    }

    /// All of the response is there, and the client's to read.
    fn answered(&self) {
        self.activity.unread().insert(self.number, clock::now());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.activity.open.fetch_sub(1, Ordering::Relaxed);
        self.activity.unread().remove(&self.number);
    }
}

/// Answers the requests of one connection until it ends.
pub(super) async fn serve(server: &Arc<Server>, socket: Socket, peer: Peer) {
    // A stream may stand still for as long as its sink allows, and holds up the socket then.
    let patience = server.router.streams().iter().map(|(_, s)| s.options.write_timeout).max();
    let write_timeout = server.policy.write_timeout.max(patience.unwrap_or_default());
    let activity = Arc::<Activity>::default();
    let address = peer.address;
    let service = service_fn(|request: Request<Incoming>| {
        let (server, peer, open) = (server.clone(), peer.clone(), Open::new(&activity));
        async move { Ok::<_, Infallible>(respond(&server, request, &peer, open).await) }
    });
    let connection = http2::Builder::new(Tasks(server.connections.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(REQUESTS_MAX)
        .max_header_list_size(u32::try_from(server.policy.header_bytes_max).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(TimedSocket::new(socket, write_timeout)), service);
    let mut connection = pin!(connection);
    let mut idle = pin!(idle(&activity, server.policy.header_timeout));
    let mut ending = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(e) = ended {
                    tracing::debug!(peer = %address, "connection ended: {e}");
                }
                return;
            }
            () = &mut idle, if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = server.shutdown.draining(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            // Its windows stay shut, while it may well answer pings.
            () = unread(&activity, write_timeout) => {
                return tracing::debug!(peer = %address, "connection ended: the client stopped reading");
            }
            () = abandoned(&activity, server.policy.header_timeout), if ending => return,
            () = server.shutdown.aborted() => return,
        }
    }
}

/// Waits until nothing has happened for a while: soon, where nothing ever has.
async fn idle(activity: &Activity, first: Duration) {
    tokio::time::sleep(first).await;
    let mut before = 0;
    loop {
        let ever = activity.ever.load(Ordering::Relaxed);
        if ever == before && activity.open.load(Ordering::Relaxed) == 0 {
            return;
        }
        before = ever;
        tokio::time::sleep(IDLE_LOOK).await;
    }
}

/// Waits until the client has not begun to read a response for `limit`.
async fn unread(activity: &Activity, limit: Duration) {
    loop {
        let oldest = activity.unread().first_key_value().map(|(_, since)| *since);
        let deadline = oldest.unwrap_or_else(clock::now) + limit;
        tokio::time::sleep_until(deadline).await;
        if activity.unread().first_key_value().is_some_and(|(_, since)| Some(*since) == oldest) {
            return;
        }
    }
}

/// Waits until no request has been open for `grace`, on a connection that was told to end.
async fn abandoned(activity: &Activity, grace: Duration) {
    loop {
        tokio::time::sleep(grace).await;
        if activity.open.load(Ordering::Relaxed) == 0 {
            return;
        }
    }
}

async fn respond(
    server: &Arc<Server>,
    request: Request<Incoming>,
    peer: &Peer,
    open: Open,
) -> Response<Counted> {
    match answer(server, request, peer).await {
        Reply::Response(response) => {
            open.answered();
            response.map(|body| Counted { body: Outgoings::Whole(body), _open: open })
        }
        Reply::Stream(taken) => {
            let (feed, body) = stream_body::stream(taken.options.write_timeout);
            let response = taken.response(Counted { body: Outgoings::Stream(body), _open: open });
            let pumping = pump_into(server.clone(), feed, taken, peer.clone());
            drop(task::spawn(server.connections.track_future(pumping)));
            response
        }
    }
}

async fn pump_into(server: Arc<Server>, mut feed: stream_body::Feed, mut taken: Box<Taken>, peer: Peer) {
    let Taken { subscriber, options, .. } = &mut *taken;
    let pumped = pump(&mut feed, Bytes::new(), subscriber, options, &server.shutdown);
    match AssertUnwindSafe(pumped).catch_unwind().await {
        Ok(Ok(())) => feed.finish(),
        Ok(Err(e)) => tracing::debug!(peer = %peer.address, "stream ended: {e}"),
        Err(payload) => {
            tracing::error!(peer = %peer.address, "a stream failed: {}", task::panic_text(payload.as_ref()));
        }
    }
}

/// Runs what a connection's requests need, as tasks that the listener waits for.
#[derive(Debug, Clone)]
struct Tasks(TaskTracker);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        drop(task::spawn(self.0.track_future(future)));
    }
}

/// A body whose request is open as long as it is.
#[derive(Debug)]
struct Counted {
    body: Outgoings,
    _open: Open,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
