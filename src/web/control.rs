//! What the control socket answers: all that the shared listener does besides streams, without credentials, since only
//! weir's own user gets that far; and taps.

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Api, tap};
use crate::base::shutdown::Shutdown;
use crate::flow::Shared;
use crate::net::control::{self, ControlBody, ControlHandler};
use crate::net::guard::Identity;
use crate::net::problem::Problem;
use crate::net::{Handler, only_read, query_string};

/// Serves the control socket `listener` until `shutdown` drains.
pub fn control(
    listener: UnixListener,
    shared: &Arc<Shared>,
    draining: Shutdown,
    shutdown: Shutdown,
) -> BoxFuture<'static, ()> {
    let taps = tap::Taps { board: shared.get(), shutdown: shutdown.clone() };
    let handler = Control { api: Api::new(shared, draining), taps };
    control::serve(listener, Arc::new(handler), shutdown).boxed()
}

struct Control {
    api: Api,
    taps: tap::Taps,
}

impl Control {
    async fn reply(
        &self,
        mut request: Request<Incoming>,
        uid: u32,
    ) -> Result<Response<ControlBody>, Problem> {
        let path = query_string::path(request.uri().path())
            .map_err(|why| Problem::bad_request(format!("broken path: {why}")))?;
        if path == tap::PATH {
            only_read(request.method())?;
            return self.taps.answer(request.uri().query());
        }
        request.extensions_mut().insert(Identity::of_user(uid));
        Ok(self.api.handle(&path, &mut request).await.map(BodyExt::boxed_unsync))
    }
}

#[async_trait]
impl ControlHandler for Control {
    async fn answer(&self, request: Request<Incoming>, uid: u32) -> Response<ControlBody> {
        let reply = self.reply(request, uid).await;
        reply.unwrap_or_else(|problem| problem.into_response().map(BodyExt::boxed_unsync))
    }
}
