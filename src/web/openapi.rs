//! The description of the interface, in OpenAPI 3.1. Written by hand and short; a test holds its paths against
//! what is really answered.

use http::{Response, StatusCode};

use crate::net::problem::{Body, respond};

const TEXT: &str = include_str!("assets/openapi.json");

/// The document, with this build's version.
pub(super) fn response() -> Response<Body> {
    respond(StatusCode::OK, "application/json", TEXT.replace("{version}", env!("CARGO_PKG_VERSION")))
}
