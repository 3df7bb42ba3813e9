//! The live page: three embedded files, served under a policy that lets the page load and reach nothing but this
//! server. Log lines are text in it, never markup.

use http::{HeaderValue, Response, StatusCode, header};

use crate::net::problem::{Body, respond};

const HTML: &str = include_str!("assets/index.html");
const SCRIPT: &str = include_str!("assets/app.js");
const STYLE: &str = include_str!("assets/app.css");
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page of `/` and of every pipeline.
pub(super) fn html() -> Response<Body> {
    guarded("text/html; charset=utf-8", HTML)
}

/// One of the page's files.
pub(super) fn asset(name: &str) -> Option<Response<Body>> {
    match name {
        "app.js" => Some(guarded("text/javascript; charset=utf-8", SCRIPT)),
        "app.css" => Some(guarded("text/css; charset=utf-8", STYLE)),
        _ => None,
    }
}

fn guarded(content_type: &'static str, text: &'static str) -> Response<Body> {
    let mut response = respond(StatusCode::OK, content_type, text);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}
