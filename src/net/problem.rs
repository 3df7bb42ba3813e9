//! Errors as `application/problem+json` (RFC 9457): what is wrong, why, and a hint.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Map, Value};

/// A whole response body.
pub type Body = Full<Bytes>;

/// One error of the HTTP interface.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    members: Map<String, Value>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with the status' standard title; `detail` is lower case, "what: why".
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let mut members = Map::new();
        members.insert("type".into(), "about:blank".into());
        members.insert("title".into(), status.canonical_reason().unwrap_or("Error").into());
        members.insert("status".into(), status.as_u16().into());
        members.insert("detail".into(), detail.into().into());
        Problem { status, members, headers: Vec::new() }
    }

    /// 400.
    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404 for a pipeline that does not exist, with those that do and the nearest name.
    pub fn unknown_pipeline(name: &str, known: &[String]) -> Problem {
        let near = crate::config::nearest::nearest(name, known.iter().map(String::as_str));
        let shown: String = name.chars().take(64).collect();
        let problem = Problem::new(StatusCode::NOT_FOUND, format!("unknown pipeline: `{shown}`"));
        let problem = problem.with("pipelines", known.to_vec());
        match near {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None if known.is_empty() => problem.hint("no pipeline runs"),
            None => problem.hint(format!("pipelines: {}", known.join(", "))),
        }
    }

    /// Says what to do.
    pub fn hint(self, hint: impl Into<String>) -> Problem {
        self.with("hint", hint.into())
    }

    /// Adds a member.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Problem {
        self.members.insert(key.into(), value.into());
        self
    }

    /// Adds a response header.
    pub fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong.
    pub fn detail(&self) -> &str {
        self.members.get("detail").and_then(Value::as_str).unwrap_or_default()
    }

    /// The response as HTTP/1.1 writes it, for a connection that ends with it.
    pub fn into_last_words(self) -> Bytes {
        let body = Value::Object(self.members.clone()).to_string();
        let (parts, _) = self.into_response().into_parts();
        let reason = parts.status.canonical_reason().unwrap_or("Refused");
        let mut out = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_u16()).into_bytes();
        for (name, value) in &parts.headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(
            format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes(),
        );
        out.extend_from_slice(body.as_bytes());
        out.into()
    }

    /// The response.
    pub fn into_response(self) -> Response<Body> {
        let mut response =
            respond(self.status, "application/problem+json", Value::Object(self.members).to_string());
        response.headers_mut().extend(self.headers);
        response
    }
}

/// A response with a body that no cache keeps and no browser sniffs.
pub fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
