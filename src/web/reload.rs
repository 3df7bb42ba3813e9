//! `POST /api/reload`: reads the configuration again, for whoever is on this machine or has shown who they are.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use super::json_response;
use crate::engine::{ReloadOutcome, Reloads};
use crate::net::Peer;
use crate::net::guard::Identity;
use crate::net::problem::{Body, Problem};

/// Where it is.
pub(super) const PATH: &str = "/api/reload";
pub(super) const METHODS: &str = "POST, OPTIONS";

/// Headers by which a proxy says that it asks for somebody else.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// Reloads and answers with the report: 200 when the configuration runs, 422 when it has errors, 409 when it could
/// not be started and what ran before runs again.
pub(super) async fn answer<B>(
    reloads: &Arc<Reloads>,
    request: &Request<B>,
) -> Result<Response<Body>, Problem> {
    if *request.method() != Method::POST {
        let problem =
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("method not allowed: {}", request.method()));
        return Err(problem
            .hint(format!("allowed: {METHODS}"))
            .header(header::ALLOW, HeaderValue::from_static(METHODS)));
    }
    may(request)?;
    let report = reloads.reload().await;
    let status = match report.outcome {
        ReloadOutcome::Applied | ReloadOutcome::Unchanged => {
            return Ok(json_response(StatusCode::OK, &report.to_json()));
        }
        ReloadOutcome::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        ReloadOutcome::RolledBack => StatusCode::CONFLICT,
    };
    Err(Problem::new(status, format!("not reloaded: {}", report.errors.join("; ")))
        .with("report", report.to_json()))
}

/// Whoever has no name must be on this machine, and not be a proxy that speaks for others.
fn may<B>(request: &Request<B>) -> Result<(), Problem> {
    let named = request.extensions().get::<Identity>().is_some_and(|identity| identity.name().is_some());
    let near =
        request.extensions().get::<Peer>().is_some_and(|peer| peer.address.ip().to_canonical().is_loopback());
    let forwarded = FORWARDED.iter().any(|name| request.headers().contains_key(*name));
    if named || (near && !forwarded) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "reload refused: it takes a login, or a request from this machine",
    )
    .hint("set `server.auth`, or ask on the machine itself: `curl -X POST http://127.0.0.1:8080/api/reload`"))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn strangers_and_proxies_may_not() {
        let request = |peer: &str, header: Option<&str>| {
            let address: SocketAddr = peer.parse().unwrap();
            let mut request = Request::new(());
            request.extensions_mut().insert(Peer::at(address));
            if let Some(name) = header {
                let name: header::HeaderName = name.parse().unwrap();
                request.headers_mut().insert(name, HeaderValue::from_static("10.0.0.1"));
            }
            request
        };
        assert!(may(&request("127.0.0.1:9", None)).is_ok());
        assert!(may(&request("[::1]:9", None)).is_ok());
        assert!(may(&request("[::ffff:127.0.0.1]:9", None)).is_ok());
        assert!(may(&request("10.0.0.1:9", None)).is_err());
        assert!(may(&request("127.0.0.1:9", Some("x-forwarded-for"))).is_err());
        assert!(may(&Request::new(())).is_err());
    }
}
