//! What a server answers when it is asked for a stream: where it leads, whom it lets in, and whether the head is one
//! under which events can flow.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::cures::Fault;
use super::reach::why;
use super::report::Finding;
use super::wire::{self, Head, Response};
use crate::base::clock;
use crate::cli::http_get::Base;

/// The longest wait for a head.
pub(super) const HEAD_MAX: Duration = Duration::from_secs(10);
/// Most of a body that is looked at to say what it is, in bytes.
const BODY_BYTES_MAX: usize = 256 << 10;
/// How often a stream that is refused is asked for again, half a second apart.
const NOTICED_AFTER: usize = 6;
/// Most redirects that are followed.
const REDIRECTS_MAX: usize = 5;

/// A stream that can be asked for.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) base: Base,
    pub(super) address: SocketAddr,
    /// Path and query.
    pub(super) path: String,
}

impl Target {
    /// Asks for the stream as a browser does.
    pub(super) fn ask(&self, more: &[(&str, &str)]) -> io::Result<Response> {
        self.ask_for(&self.path, more)
    }

    pub(super) fn ask_for(&self, path: &str, more: &[(&str, &str)]) -> io::Result<Response> {
        let mut headers = vec![("Accept", "text/event-stream"), ("Cache-Control", "no-cache")];
        if !more.iter().any(|(name, _)| *name == "Accept-Encoding") {
            headers.push(("Accept-Encoding", "identity"));
        }
        headers.extend_from_slice(more);
        wire::ask(&self.base, self.address, path, &headers, HEAD_MAX)
    }

    /// The same, once the server has noticed that streams before this one have ended: until then they count.
    pub(super) fn ask_again(&self, path: &str, more: &[(&str, &str)]) -> io::Result<Response> {
        for _ in 0..NOTICED_AFTER {
            let response = self.ask_for(path, more)?;
            if !matches!(response.head.status, 429 | 503) {
                return Ok(response);
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        self.ask_for(path, more)
    }

    /// The path with another parameter.
    pub(super) fn with(&self, parameter: &str) -> String {
        let mark = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{mark}{parameter}", self.path)
    }
}

/// What asking came to.
pub(super) enum Asked {
    /// A stream.
    Stream(Box<Response>),
    /// It leads elsewhere: another path of the same server, or another URL.
    Path(String),
    Elsewhere(String),
    /// No stream, which the findings explain.
    Nothing,
}

/// Asks for the stream and explains what is no stream. `tried`: how often it led elsewhere.
pub(super) fn ask(target: &Target, tried: usize, findings: &mut Vec<Finding>) -> Asked {
    let mut response = match target.ask(&[]) {
        Ok(response) => response,
        Err(e) => {
            findings.push(no_answer(target, &e));
            return Asked::Nothing;
        }
    };
    let head = &response.head;
    let kind = head.header("content-type").unwrap_or("no content type").to_owned();
    let status = head.status;
    match status {
        200 if kind.starts_with("text/event-stream") => {
            let said = format!("200 {kind} over {}, in {} ms", head.version, head.after.as_millis());
            findings.push(Finding::ok("answer", said));
            return Asked::Stream(Box::new(response));
        }
        301 | 302 | 303 | 307 | 308 => return redirect(head, &target.path, tried, findings),
        _ => {}
    }
    let body = response.body.all(BODY_BYTES_MAX, clock::now() + HEAD_MAX);
    let text = String::from_utf8_lossy(&body).into_owned();
    let problem: Value = serde_json::from_str(&text).unwrap_or_default();
    let detail = problem["detail"].as_str().map(|detail| format!(": {detail}")).unwrap_or_default();
    let finding = match status {
        200 if is_login(&text) && !text.contains(OWN_PAGE) => {
            Finding::fail("login", "a login page is shown instead of the stream")
                .cause("something in between wants a session, which programs do not have")
                .hint("let the stream's path through, or send credentials: --token-file")
        }
        200 if kind.starts_with("text/html") && tried < REDIRECTS_MAX => {
            return Asked::Path(beside(&target.path));
        }
        200 => Finding::fail("answer", format!("200 {kind}: that is no event stream"))
            .hint("ask for a path that ends with /stream, such as http://HOST/app/stream"),
        401 => Finding::fail("credentials", format!("401: who asks must say who they are{detail}"))
            .hint("--token-file FILE, --cert and --key, or http://USER:PASSWORD@HOST"),
        403 => Finding::fail("credentials", format!("403: it is not allowed{detail}"))
            .hint("look at `access`, `auth` and, behind a proxy, at the Host it sends (docs/GUARDS.md)"),
        404 if tried < REDIRECTS_MAX => {
            if let Some(name) = problem["pipelines"].as_array().and_then(|all| all.first()?.as_str()) {
                return Asked::Path(format!("{}/{name}/stream", target.base.path()));
            }
            Finding::fail("answer", format!("404: nothing is there{detail}"))
                .hint("give the URL of a stream, such as http://HOST/app/stream")
        }
        429 | 503 => Finding::fail("limits", format!("{status}: it takes no more{detail}"))
            .hint("look at `access` and `max_connections`, and at the limits of what lies before it"),
        502 | 504 => Finding::fail("answer", format!("{status}: the proxy does not reach the server"))
            .cause("it answers itself, because what lies behind it does not")
            .hint("is weir running where the proxy looks for it?"),
        _ => Finding::fail("answer", format!("{status} {kind}{detail}")),
    };
    findings.push(finding);
    Asked::Nothing
}

/// How weir's own page says whose it is. It holds a form for tokens, which it shows only where they are asked for.
const OWN_PAGE: &str = "<meta name=\"generator\" content=\"weir\">";

/// `/app/stream` beside the page `/app/`; below `/` any pipeline will do.
fn beside(path: &str) -> String {
    let page = path.split('?').next().unwrap_or_default().trim_end_matches('/');
    format!("{page}/stream")
}

fn is_login(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.contains("type=\"password\"")
        || lower.contains("type='password'")
        || lower.contains("type=password")
}

/// A reference as a path or as a URL (RFC 3986, 5.2, without `..`): one without a slash in front is beside the path that
/// was asked for.
fn resolved(to: &str, asked: &str) -> String {
    if to.contains("://") || to.starts_with('/') {
        return to.to_owned();
    }
    let path = asked.split('?').next().unwrap_or_default();
    let above = path.rfind('/').map_or("/", |at| &path[..=at]);
    format!("{above}{}", to.trim_start_matches("./"))
}

fn redirect(response: &Head, asked: &str, tried: usize, findings: &mut Vec<Finding>) -> Asked {
    let status = response.status;
    let Some(to) = response.header("location").map(|to| resolved(to, asked)) else {
        findings.push(Finding::fail("redirect", format!("{status} that does not say where to")));
        return Asked::Nothing;
    };
    let words = ["login", "signin", "sign-in", "sign_in", "sso", "saml", "oauth", "auth"];
    let place = to.split('?').next().unwrap_or_default().to_ascii_lowercase();
    let to_login = place.split(['/', '.', ':']).any(|part| words.contains(&part));
    if to_login {
        let failed = Finding::fail("login", format!("{status}: it is redirected to a login page, {to}"));
        let cause = "something in between wants a session, which programs do not have";
        findings.push(
            failed.cause(cause).hint("let the stream's path through, or send credentials: --token-file"),
        );
        return Asked::Nothing;
    }
    if tried >= REDIRECTS_MAX {
        findings
            .push(Finding::fail("redirect", format!("{status} to {to}, and so on: it leads in a circle")));
        return Asked::Nothing;
    }
    // The page of a pipeline ends with a slash, which nobody has to know.
    if to.strip_suffix('/') == asked.split('?').next() {
        return Asked::Path(to);
    }
    let warning = Finding::warn("redirect", format!("{status} to {to}"));
    let cause = "some clients do not follow, and none takes its credentials along to another host";
    findings.push(warning.cause(cause).hint("use that URL"));
    if to.starts_with('/') { Asked::Path(to) } else { Asked::Elsewhere(to) }
}

/// Nothing came, not even a head. What does not last is answered by the same server, if it is there at all.
fn no_answer(target: &Target, e: &io::Error) -> Finding {
    let timed_out = matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock);
    let short = target.ask_for(&target.with("doctor=1"), &[]);
    if timed_out && short.is_ok_and(|short| short.head.status >= 400) {
        return Finding::fail(
            "buffering",
            format!("no head in {} s, though short answers come at once", HEAD_MAX.as_secs()),
        )
        .cause("something in between waits for the end of the answer, and a stream has none")
        .fault(Fault::Buffering);
    }
    Finding::fail("answer", why(e))
}

/// The head under which events flow.
pub(super) fn head(response: &Head, is_weir: bool, has_proxy: bool, findings: &mut Vec<Finding>) {
    if response.version == "HTTP/1.0" {
        let warning = Finding::warn("version", "the answer is HTTP/1.0");
        let cause = "no chunks, and no connection that is used again: some clients wait for the end";
        findings.push(warning.cause(cause).fault(Fault::OldHttp));
    } else {
        findings.push(Finding::ok("version", response.version.clone()));
    }
    let before = findings.len();
    if let Some(length) = response.header("content-length") {
        let failed = Finding::fail("headers", format!("Content-Length: {length}, and a stream has no end"));
        findings.push(failed.cause("something in between has read the whole answer").fault(Fault::Buffering));
    }
    if let Some(coding) = response.header("content-encoding") {
        let failed =
            Finding::fail("compression", format!("it is packed ({coding}), though that was not asked for"));
        findings.push(failed.fault(Fault::Compression));
    }
    let cached = !response.lists("cache-control", "no-cache") && !response.lists("cache-control", "no-store");
    if cached || (is_weir && !response.lists("cache-control", "no-transform")) {
        let value = response.header("cache-control").unwrap_or("missing");
        let warning =
            Finding::warn("headers", format!("Cache-Control is {value}, not no-cache, no-transform"));
        let cause = "what lies in between may keep the answer, pack it or change it";
        findings.push(warning.cause(cause).fault(Fault::Headers));
    }
    // A proxy that obeys this header takes it away; one that gathers all the same shows below.
    let lost = response.header("x-accel-buffering").is_none_or(|value| value != "no");
    if !is_weir && lost && !has_proxy {
        let warning = Finding::warn("headers", "X-Accel-Buffering: no is missing");
        findings.push(warning.cause("nginx, if it stands before this server, gathers the stream"));
    }
    if findings.len() == before {
        findings.push(Finding::ok("headers", "nothing in them holds a stream back"));
    }
}

/// Whether pages of `origin` may read the stream.
pub(super) fn cors(target: &Target, origin: Option<&str>) -> Finding {
    let Some(origin) = origin else {
        return Finding::skipped(
            "cors",
            "not asked for; --origin https://PAGE tells whether a page may read it",
        );
    };
    let response = match target.ask_again(&target.path, &[("Origin", origin)]) {
        Ok(response) => response.head,
        Err(e) => return Finding::fail("cors", why(&e)),
    };
    let allowed = response.header("access-control-allow-origin");
    match allowed {
        Some(allowed) if allowed == "*" || allowed == origin => {
            Finding::ok("cors", format!("pages of {origin} may read it"))
        }
        _ => {
            let said = allowed.map_or("none".to_owned(), |allowed| format!("`{allowed}`"));
            let text =
                format!("pages of {origin} may not read it: {}, allowed origin: {said}", response.status);
            let hint = format!("[server] cors_origins = [\"{origin}\"]");
            Finding::fail("cors", text).cause("browsers keep it from them").hint(hint)
        }
    }
}

/// The server's clock against ours.
pub(super) fn time(response: &Head) -> Finding {
    const TOLERATED: i64 = 5;
    let date = response.header("date").and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let Some(date) = date else { return Finding::skipped("clock", "the server does not say its time") };
    let off = clock::unix_nanos() / 1_000_000_000 - date.timestamp().as_second();
    if off.abs() <= TOLERATED {
        return Finding::ok("clock", "the same as here");
    }
    let which = if off > 0 { "behind" } else { "ahead" };
    Finding::warn("clock", format!("the server's clock is {} s {which} of this one", off.abs()))
        .cause("times of events, `since` and credentials that expire are off by that")
        .hint("let both follow a time server: timedatectl set-ntp true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_where_browsers_go() {
        for (to, asked, path) in [
            ("app/", "/app", "/app/"),
            ("./stream", "/logs/app?x=/y", "/logs/stream"),
            ("/x", "/logs/app", "/x"),
            ("https://h/x", "/logs/app", "https://h/x"),
        ] {
            assert_eq!(resolved(to, asked), path);
        }
        assert_eq!(beside("/app/?x"), "/app/stream");
    }
}
