//! Row 8: what the shared listener answers besides streams: the live page, status, metrics, health and the
//! description of all that. It reads the board and writes nothing; it may ask the engine to
//! reload.

mod control;
mod metrics;
mod openapi;
mod page;
mod reload;
mod status;
mod tap;
#[cfg(test)]
mod tests;

pub use control::control;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::base::shutdown::Shutdown;
use crate::config::PipelineName;
use crate::engine::Reloads;
use crate::flow::{Board, Memory, Shared};
use crate::net::guard::GuardBoard;
use crate::net::problem::{Body, Problem, respond};
use crate::net::{self, Entrance, Handler, Policy, Router, Unrecognised, only_read};

/// Below it lie the page's files.
const ASSETS: &str = "/_assets/";

/// Serves streams, status and pages to who comes in by `entrance`, under `policy` until `shutdown` drains.
pub fn serve(
    entrance: Entrance,
    shared: Arc<Shared>,
    policy: Policy,
    shutdown: Shutdown,
) -> BoxFuture<'static, ()> {
    let router = shared.get::<Router>();
    let api = Api::new(&shared, shutdown.clone());
    async move {
        if let Err(e) = net::serve(entrance, router, Arc::new(api), policy, shutdown).await {
            tracing::error!("the shared router failed: {e}");
        }
    }
    .boxed()
}

/// The web interface of a process.
#[derive(Debug)]
pub struct Api {
    board: Arc<Board>,
    router: Arc<Router>,
    reloads: Arc<Reloads>,
    memory: Arc<Memory>,
    guards: Arc<GuardBoard>,
    shutdown: Shutdown,
}

impl Api {
    /// An interface to the board, the streams, the guards and the memory in `shared`, that asks its [`Reloads`] to
    /// reload; `shutdown` tells when readiness ends.
    pub fn new(shared: &Shared, shutdown: Shutdown) -> Api {
        Api {
            board: shared.get::<Board>(),
            router: shared.get::<Router>(),
            reloads: shared.get::<Reloads>(),
            memory: shared.get::<Memory>(),
            guards: shared.get::<GuardBoard>(),
            shutdown,
        }
    }

    /// `recognised` is whether readiness may name components and their faults, and pages tell what there is.
    fn answer(&self, path: &str, headers: &HeaderMap, recognised: bool) -> Result<Response<Body>, Problem> {
        match path {
            "/" => return Ok(page::html(0, headers)),
            "/status" => {
                return Ok(json_response(
                    StatusCode::OK,
                    &status::process(
                        &self.board,
                        &self.memory,
                        &self.router.streams(),
                        &self.guards,
                        self.unready().is_empty(),
                    ),
                ));
            }
            "/metrics" => return metrics::response(&self.board, &self.memory, &self.guards),
            "/healthz" => return Ok(json_response(StatusCode::OK, &json!({ "status": "ok" }))),
            "/readyz" => return Ok(self.ready(recognised)),
            "/openapi.json" => return Ok(openapi::response()),
            _ => {}
        }
        if let Some(asset) = path.strip_prefix(ASSETS) {
            return page::asset(asset, headers).ok_or_else(|| nothing_at(path));
        }
        let (name, rest) =
            path[1..].split_once('/').map_or((&path[1..], None), |(name, rest)| (name, Some(rest)));
        // The pages of all names are the same: which of them there are is told to who may know.
        if !recognised {
            return page_of(name, rest, headers).ok_or_else(|| nothing_at(path));
        }
        let Some(pipeline) = self.board.pipeline(name) else {
            return Err(self.unknown(name));
        };
        match rest {
            Some("status") => {
                Ok(json_response(StatusCode::OK, &status::pipeline(&pipeline, &self.router.streams())))
            }
            Some("stream") => Err(Problem::new(
                StatusCode::NOT_FOUND,
                format!("no stream: pipeline `{name}` has no `http` sink on this listener"),
            )
            .hint("add [[pipelines.sinks]] with type = \"http\"")),
            _ => page_of(name, rest, headers).ok_or_else(|| nothing_at(path)),
        }
    }

    /// 404 with the names there are, or, where the first segment is near one of the fixed paths, with that.
    fn unknown(&self, name: &str) -> Problem {
        let known: Vec<String> = self.board.pipelines().iter().map(|p| p.name.to_string()).collect();
        Problem::unknown_pipeline(name, &known)
    }

    /// Why it is not ready; empty when it is.
    fn unready(&self) -> Vec<Value> {
        let mut reasons: Vec<_> = self
            .board
            .not_ready()
            .iter()
            .map(|n| json!({ "component": n.component, "state": n.state.as_str(), "why": status::why(&n.state) }))
            .collect();
        if self.board.pipelines().is_empty() {
            reasons.push(json!({ "why": "no pipeline runs" }));
        }
        if self.shutdown.is_draining() {
            reasons.push(json!({ "why": "shutting down" }));
        }
        reasons
    }

    fn ready(&self, says_why: bool) -> Response<Body> {
        let reasons = self.unready();
        if reasons.is_empty() {
            return json_response(StatusCode::OK, &json!({ "status": "ready" }));
        }
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not ready");
        if says_why { problem.with("reasons", reasons) } else { problem }.into_response()
    }
}

#[async_trait]
impl Handler for Api {
    async fn handle(&self, path: &str, request: &mut Request<Incoming>) -> Response<Body> {
        if path == reload::PATH {
            return reload::answer(&self.reloads, request).await.unwrap_or_else(Problem::into_response);
        }
        let recognised = request.extensions().get::<Unrecognised>().is_none();
        only_read(request.method())
            .and_then(|()| self.answer(path, request.headers(), recognised))
            .unwrap_or_else(Problem::into_response)
    }

    fn methods(&self, path: &str) -> &'static str {
        if path == reload::PATH { reload::METHODS } else { "GET, HEAD, OPTIONS" }
    }

    fn is_open(&self, path: &str) -> bool {
        matches!(path, "/healthz" | "/readyz")
    }

    fn is_shell(&self, path: &str) -> bool {
        let name = path[1..].strip_suffix('/').unwrap_or(&path[1..]);
        path == "/" || path.starts_with(ASSETS) || PipelineName::parse(name).is_ok()
    }
}

/// The page of a pipeline, or the way to it where the slash is missing: relative, so that it also leads there below the
/// prefix of a proxy. `None` for what lies below.
fn page_of(name: &str, rest: Option<&str>, headers: &HeaderMap) -> Option<Response<Body>> {
    match rest {
        None => Some(redirect(&format!("{name}/"))),
        Some("") => Some(page::html(1, headers)),
        Some(_) => None,
    }
}

fn nothing_at(path: &str) -> Problem {
    let shown: String = path.chars().take(64).collect();
    Problem::new(StatusCode::NOT_FOUND, format!("nothing at `{shown}`")).hint("see /openapi.json")
}

fn json_response(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    respond(status, "application/json", body.to_string())
}

fn redirect(to: &str) -> Response<Body> {
    let mut response = respond(StatusCode::PERMANENT_REDIRECT, "text/plain; charset=utf-8", "");
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}
