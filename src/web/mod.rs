//! Row 8: what the shared router answers besides streams.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::base::shutdown::Shutdown;
use crate::flow::{Board, Shared};
use crate::net::problem::{Body, Problem, respond};
use crate::net::{self, Handler, Policy, Router};

struct Api {
    board: Arc<Board>,
}

#[async_trait::async_trait]
impl Handler for Api {
    async fn handle(&self, path: &str, _: http::Request<hyper::body::Incoming>) -> http::Response<Body> {
        if path == "/readyz" && self.board.not_ready().is_empty() {
            return respond(http::StatusCode::OK, "text/plain", "ok".to_string());
        }
        Problem::new(http::StatusCode::NOT_FOUND, "there is nothing here").into_response()
    }
}

/// Serves `listener` until `shutdown` drains.
pub fn serve(
    listener: tokio::net::TcpListener,
    shared: Arc<Shared>,
    shutdown: Shutdown,
) -> BoxFuture<'static, ()> {
    let api = Api { board: shared.get::<Board>() };
    async move {
        net::serve(listener, shared.get::<Router>(), Arc::new(api), Policy::default(), shutdown).await.ok();
    }
    .boxed()
}
