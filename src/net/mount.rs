//! Paths that components serve: which ones may be configured, and what a listener of one component says everywhere
//! else.

use async_trait::async_trait;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::problem::{Body, Problem};
use super::router::Handler;
use crate::flow::BuildCx;

/// Paths that belong to the shared server itself.
const RESERVED: [&str; 6] = ["/", "/status", "/metrics", "/healthz", "/readyz", "/openapi.json"];

/// Complains about the option `key` when `path` is not one that a component may serve; `own` if it has a listener
/// of its own.
pub fn check_path(key: &str, path: &str, own: bool, cx: &mut BuildCx<'_>) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
    let wrong = if !path.starts_with('/') || path.len() < 2 {
        Some("it must start with `/` and name something")
    } else if !path.chars().all(plain) {
        Some("letters, digits and `/-_.~` are allowed")
    } else if path.split('/').any(|segment| segment == ".." || segment == ".") {
        Some("it must not hold `.` or `..`")
    } else if !own && (RESERVED.contains(&path) || path.starts_with("/_")) {
        Some("the server keeps this path for itself")
    } else {
        None
    };
    if let Some(why) = wrong {
        cx.error(key, format!("invalid path: `{path}`: {why}"));
    }
    wrong.is_none()
}

/// What a listener of one component says to every other path: which paths there are.
#[derive(Debug)]
pub struct NothingElse(pub Vec<String>);

#[async_trait]
impl Handler for NothingElse {
    async fn handle(&self, path: &str, _request: &mut Request<Incoming>) -> Response<Body> {
        let shown: String = path.chars().take(64).collect();
        Problem::new(StatusCode::NOT_FOUND, format!("nothing at `{shown}`"))
            .with("paths", self.0.clone())
            .hint(format!("paths: {}", self.0.join(", ")))
            .into_response()
    }
}
