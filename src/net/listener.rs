//! The listener: accepts, parses requests with hyper within bounds of time and size, and answers them. Once a
//! request turns out to be for a stream, hyper lets go of the socket and the pump takes it, so that a subscriber
//! costs a cursor and not an HTTP engine.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::answer::{Reply, Taken, answer};
use super::entrance::{Arrival, Entrance, Visitor};
use super::guard::Guard;
use super::head_watch::{Fault, HeadWatch};
use super::http2;
use super::problem::{Body, Problem};
use super::pump::pump_socket;
use super::router::{Handler, Router};
use super::socket::{Peer, Socket};
use super::timed::{TimedSocket, too_large};
use crate::base::shutdown::Shutdown;
use crate::base::task;

/// What a listener allows.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Origins whose pages may read responses ("https://ops.example.com"); none by default.
    pub cors_origins: Vec<String>,
    /// Most connections at a time, streams included. More wait in the kernel's queue.
    pub connections_max: usize,
    /// How long a client may take to send a request's head, and be idle between requests.
    pub header_timeout: Duration,
    /// How long a response may make no progress; streams have their own.
    pub write_timeout: Duration,
    /// Most bytes of a request's head.
    pub header_bytes_max: usize,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            cors_origins: Vec::new(),
            connections_max: 20_000,
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            header_bytes_max: 32 << 10,
        }
    }
}

/// The origins whose pages may read and ask, said once for the shared server and every component's own listener.
#[derive(Debug, Default)]
pub struct CorsOrigins(OnceLock<Vec<String>>);

impl CorsOrigins {
    /// Says which; once, before anything listens.
    pub fn set(&self, origins: Vec<String>) {
        self.0.set(origins).ok();
    }

    /// What a listener allows, with these origins.
    pub fn policy(&self) -> Policy {
        Policy { cors_origins: self.0.get().cloned().unwrap_or_default(), ..Policy::default() }
    }
}

/// What the connections of a listener share.
pub(super) struct Server {
    pub(super) router: Arc<Router>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) policy: Policy,
    pub(super) shutdown: Shutdown,
    /// Who may ask.
    pub(super) guard: Arc<Guard>,
    /// Whether the listener is reachable from this machine only; then a name that is not this machine's own is
    /// some web page's attempt to read it.
    pub(super) loopback: bool,
    /// Its connections and what runs for them.
    pub(super) connections: TaskTracker,
}

/// Connections that may wait to be accepted; the kernel's own bound (`somaxconn`) applies too. The usual 128 are
/// overrun when a thousand browsers reconnect at once, and who is turned away comes back only a second later.
const BACKLOG: u32 = 4096;

/// How long the last words to a client may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Listens on `host:port`, with room for a crowd to wait.
///
/// # Errors
/// What the system says.
pub async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for resolved in tokio::net::lookup_host(address).await? {
        match listen_at(resolved) {
            Ok(listener) => return Ok(listener),
            Err(e) => failed = e,
        }
    }
    Err(failed)
}

/// Listens on `host:port` like [`listen`], for a message to the operator.
///
/// # Errors
/// With the address and a hint.
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    listen(address).await.map_err(|e| {
        let (why, hint) = match e.kind() {
            io::ErrorKind::AddrInUse => {
                ("address in use".to_owned(), "; hint: another process listens there, choose another port")
            }
            io::ErrorKind::PermissionDenied => {
                ("permission denied".to_owned(), "; hint: ports below 1024 need a privilege")
            }
            io::ErrorKind::AddrNotAvailable => {
                ("no interface has this address".to_owned(), "; hint: listen on 127.0.0.1 or 0.0.0.0")
            }
            _ => (e.to_string(), ""),
        };
        io::Error::new(e.kind(), format!("cannot listen on {address}: {why}{hint}"))
    })
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As the standard library does: a restart must not wait for old connections to be forgotten.
    socket.set_reuseaddr(cfg!(unix))?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves what comes in by `entrance` until `shutdown` drains and every connection has ended, or it aborts. Streams are served from
/// `router`, everything else by `handler`.
///
/// Dropped, it accepts nobody any more; those who are connected are served on.
///
/// # Errors
/// When the listener itself fails.
pub async fn serve(
    entrance: Entrance,
    router: Arc<Router>,
    handler: Arc<dyn Handler>,
    policy: Policy,
    shutdown: Shutdown,
) -> io::Result<()> {
    entrance.offer_http();
    let loopback = entrance.local_addr().ip().to_canonical().is_loopback();
    let slots = Arc::new(Semaphore::new(policy.connections_max));
    let connections = TaskTracker::new();
    let (shutdown_too, guard) = (shutdown.clone(), entrance.guard().clone());
    let server = Server { router, handler, policy, shutdown: shutdown_too, guard, loopback, connections };
    let server = Arc::new(server);
    while let Some((arrival, slot)) = arrive(&entrance, &slots, &shutdown).await {
        let (served, peer) = (server.clone(), arrival.peer);
        let served = server.connections.track_future(async move {
            let outcome = AssertUnwindSafe(connection(&served, arrival)).catch_unwind().await;
            if let Err(payload) = outcome {
                tracing::error!(%peer, "a connection failed: {}", task::panic_text(payload.as_ref()));
            }
            drop(slot);
        });
        drop(task::spawn(served));
    }
    drop(entrance);
    server.connections.close();
    tokio::select! {
        () = server.connections.wait() => {}
        () = shutdown.aborted() => {}
    }
    Ok(())
}

/// The next connection, once there is a free slot for it; `None` when draining.
pub(super) async fn arrive(
    entrance: &Entrance,
    slots: &Arc<Semaphore>,
    shutdown: &Shutdown,
) -> Option<(Arrival, OwnedSemaphorePermit)> {
    let slot = tokio::select! {
        // Nobody closes it.
        slot = slots.clone().acquire_owned() => slot.ok()?,
        () = shutdown.draining() => return None,
    };
    Some((entrance.accept(shutdown).await?, slot))
}

async fn connection(server: &Arc<Server>, arrival: Arrival) {
    let address = arrival.peer;
    let Visitor { socket, peer, admission } = match arrival.open(&server.shutdown).await {
        Ok(visitor) => visitor,
        Err(e) => return tracing::debug!(peer = %address, "handshake failed: {e}"),
    };
    if socket.speaks_h2() {
        Box::pin(http2::serve(server, socket, peer)).await;
        return drop(admission);
    }
    // Boxed, so that its memory is gone once a stream has begun.
    let Some((mut socket, mut taken)) = Box::pin(requests(server, socket, peer)).await else { return };
    let head = taken.head();
    let Taken { subscriber, options, .. } = &mut *taken;
    if let Err(e) = pump_socket(&mut socket, head, subscriber, options, &server.shutdown).await {
        tracing::debug!(peer = %address, "stream ended: {e}");
    }
    drop(admission);
}

/// What the requests of one connection share.
struct Exchange {
    heads: Arc<Mutex<HeadWatch>>,
    /// Requests so far.
    requests: AtomicU64,
    /// The stream that the connection is to become.
    taken: Mutex<Option<Box<Taken>>>,
}

impl Exchange {
    /// Refuses the request that comes now if something is wrong with its head that hyper lets pass.
    fn check(&self) -> Result<(), Problem> {
        let request = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let fault = self.heads.lock().unwrap_or_else(PoisonError::into_inner).fault_of(request);
        let problem = match fault {
            None => return Ok(()),
            Some(Fault::TooLong) => too_large(),
            Some(Fault::TwoLengths) => Problem::bad_request(
                "malformed request: it has both `content-length` and `transfer-encoding`, and so two ends",
            )
            .hint("send one of them"),
        };
        Err(problem.header(header::CONNECTION, HeaderValue::from_static("close")))
    }

    fn take(&self) -> Option<Box<Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Answers requests until the connection ends or turns into a stream.
async fn requests(server: &Arc<Server>, socket: Socket, peer: Peer) -> Option<(Socket, Box<Taken>)> {
    let heads = Arc::new(Mutex::new(HeadWatch::new(server.policy.header_bytes_max)));
    let exchange =
        Arc::new(Exchange { heads: heads.clone(), requests: AtomicU64::new(0), taken: Mutex::default() });
    let service = service_fn(|request: Request<Incoming>| {
        let (server, exchange, peer) = (server.clone(), exchange.clone(), peer.clone());
        let response: Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>> =
            Box::pin(async move {
                if let Err(problem) = exchange.check() {
                    return Ok(problem.into_response());
                }
                match answer(&server, request, &peer).await {
                    Reply::Response(response) => Ok(response),
                    Reply::Stream(taken) => {
                        *exchange.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
                        std::future::pending().await
                    }
                }
            });
        response
    });
    let socket = TimedSocket::new(socket, server.policy.write_timeout).watched_by(heads);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.policy.header_timeout)
        .max_buf_size(server.policy.header_bytes_max)
        // Who shuts its sending side after a request still hears the answer, as `nc` does.
        .half_close(true)
        .serve_connection(TokioIo::new(socket), service);
    let mut draining = false;
    let ended = loop {
        let step = poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            match exchange.take() {
                Some(taken) => std::task::Poll::Ready(Ok(taken)),
                None => polled.map(Err),
            }
        });
        tokio::select! {
            step = step => match step {
                Ok(taken) => return Some((connection.into_parts().io.into_inner().into_inner(), taken)),
                Err(ended) => break ended,
            },
            () = server.shutdown.draining(), if !draining => {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = server.shutdown.aborted() => return None,
        }
    };
    let half = exchange.heads.lock().unwrap_or_else(PoisonError::into_inner).in_head();
    if ended.is_err_and(|e| e.is_timeout()) && half {
        let mut socket = connection.into_parts().io.into_inner().into_inner();
        let words = too_slow(server.policy.header_timeout).into_last_words();
        let said = async {
            socket.write_all(&words).await?;
            socket.shutdown().await
        };
        tokio::time::timeout(LAST_WORDS, said).await.ok();
    }
    None
}

fn too_slow(limit: Duration) -> Problem {
    let limit = crate::base::units::format_duration(limit);
    Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the head of the request did not come within {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tests::Nothing;

    #[tokio::test]
    async fn a_connection_costs_little_while_it_listens() {
        let entrance = Entrance::open(listen("127.0.0.1:0").await.unwrap()).unwrap();
        let client = tokio::net::TcpStream::connect(entrance.local_addr()).await.unwrap();
        let shutdown = Shutdown::new();
        let arrival = entrance.accept(&shutdown).await.unwrap();
        let server = Arc::new(Server {
            router: Arc::default(),
            handler: Arc::new(Nothing),
            policy: Policy::default(),
            shutdown,
            guard: entrance.guard().clone(),
            loopback: true,
            connections: TaskTracker::new(),
        });
        let size = size_of_val(&connection(&server, arrival));
        assert!(size < 1400, "every subscriber's task has {size} bytes");
        drop(client);
    }
}
