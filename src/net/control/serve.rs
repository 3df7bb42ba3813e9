//! Answers HTTP/1.1 on a control socket. Who connects must be the user that weir runs as, or root, whatever the file
//! modes say; connections, heads and pauses are bounded as on every other listener.

use std::convert::Infallible;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::base::shutdown::Shutdown;
use crate::base::task;

/// Most connections at a time; more wait.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send a request's head, and be idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long connections may take to end once weir does.
const FAREWELL: Duration = Duration::from_millis(200);
/// Pause after a connection that could not be accepted: what lacks is not there at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The body of an answer, which may come bit by bit.
pub type ControlBody = UnsyncBoxBody<Bytes, Infallible>;

/// Answers requests on a control socket.
#[async_trait]
pub trait ControlHandler: Send + Sync + 'static {
    /// The response to a request of the user `uid`. Dropped, body included, when the client goes away.
    async fn answer(&self, request: Request<Incoming>, uid: u32) -> Response<ControlBody>;
}

/// Serves until `shutdown` drains, then gives connections a moment to end.
pub async fn serve(listener: UnixListener, handler: Arc<dyn ControlHandler>, shutdown: Shutdown) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => return tracing::warn!("the control socket cannot be served: {e}"),
    };
    let (slots, connections) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), TaskTracker::new());
    let owner = rustix::process::geteuid().as_raw();
    loop {
        let accepted = async {
            // Nobody closes it.
            let slot = slots.clone().acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.draining() => break,
        };
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Some(uid) = admitted(&socket, owner) else { continue };
        let (handler, shutdown) = (handler.clone(), shutdown.clone());
        drop(task::spawn(connections.track_future(async move {
            connection(socket, uid, handler, shutdown).await;
            drop(slot);
        })));
    }
    connections.close();
    tokio::time::timeout(FAREWELL, connections.wait()).await.ok();
}

/// The user at the other end, if it may ask (`SO_PEERCRED`: who it was when it connected).
fn admitted(socket: &UnixStream, owner: u32) -> Option<u32> {
    let uid = socket.peer_cred().ok()?.uid();
    if uid == 0 || uid == owner {
        return Some(uid);
    }
    tracing::warn!(uid, "refused on the control socket: it is for the user that weir runs as, and root");
    None
}

async fn connection(socket: UnixStream, uid: u32, handler: Arc<dyn ControlHandler>, shutdown: Shutdown) {
    let service = service_fn(|request| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(handler.answer(request, uid).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(socket), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.draining() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = tokio::time::sleep(FAREWELL) => return,
            }
        }
    };
    if let Err(e) = ended {
        tracing::debug!("a connection to the control socket ended: {e}");
    }
}
