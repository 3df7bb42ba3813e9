//! The endpoint that takes in events over HTTP: checks a request's head before its body is read, decodes the body
//! as a whole, hands its events to the committer, and answers once it is known what became of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use super::body::{BodyError, BodyLimits, Budget, Share, discard, read_body};
use super::commit::{Committer, Sender, Verdict};
use super::guard::Identity;
use super::problem::{Body, Problem, respond};
use super::router::Handler;
use super::socket::Peer;
use crate::batch::Outcome;
use crate::codec::compression::{Compression, DecompressError};
use crate::codec::decode::{BodyKind, Events, Malformed, Schema, decode};
use crate::flow::Outlet;

const METHODS: &str = "POST, OPTIONS";
/// Bodies from this size on are decoded on a thread where that delays no other connection; compressed ones, which
/// may hold a thousand times as much, from the second on, and where they turn out to be as large as the first.
const HEAVY_BYTES: usize = 256 << 10;
const HEAVY_COMPRESSED_BYTES: usize = 4 << 10;
/// Heavy bodies that are decoded at a time: each may need `max_decompressed_size` of memory while it is.
const HEAVY_MAX: usize = 2;
/// What of a refused body is read and thrown away, so that the client, still sending, hears why.
const DISCARD_BYTES_MAX: usize = 16 << 20;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(2);

/// How an endpoint treats its requests.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// Size and pace of a body as it is sent.
    pub body: BodyLimits,
    /// Most bytes of a body once it is decompressed.
    pub decompressed_bytes_max: usize,
    /// What all bodies may hold in memory together, from their first byte until their events are in the pipeline.
    pub memory_bytes_max: usize,
    /// How long the answer may wait for what becomes of the events.
    pub settle_timeout: Duration,
    /// What every event must have.
    pub schema: Option<Schema>,
}

/// See the module.
#[derive(Debug)]
pub struct Ingest {
    options: IngestOptions,
    /// Shared with work that may outlive the request that asked for it.
    schema: Option<Arc<Schema>>,
    committer: Arc<Committer>,
    out: Outlet,
    budget: Arc<Budget>,
    heavy: Arc<Semaphore>,
}

/// How long a request waits for memory before it is refused.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);

/// What the head of a request says of its body.
#[derive(Debug, Clone, Copy)]
struct BodyForm {
    kind: BodyKind,
    coding: Option<Compression>,
}

/// Why a body yields no events.
enum Undecoded {
    Compressed(Compression, DecompressError),
    Malformed(Malformed),
}

impl Ingest {
    /// An endpoint that hands events to `committer`, which sends them to `out`.
    pub fn new(options: IngestOptions, committer: Arc<Committer>, out: Outlet) -> Ingest {
        let (budget, heavy) = (Budget::new(options.memory_bytes_max), Arc::new(Semaphore::new(HEAVY_MAX)));
        let schema = options.schema.clone().map(Arc::new);
        Ingest { options, schema, committer, out, budget, heavy }
    }

    async fn ingest(&self, request: &mut Request<Incoming>) -> Result<Response<Body>, Problem> {
        let form = body_form(request)?;
        let sender = sender(request);
        let http1 = request.version() < Version::HTTP_2;
        let expects = request.headers().contains_key(header::EXPECT);
        let body = request.body_mut();
        if !self.out.has_room(ROOM_PATIENCE).await {
            return Err(turned_away(overfull(), true, body, expects, http1).await);
        }
        let (text, mut share) = match read_body(body, self.options.body, &self.budget).await {
            Ok(read) => read,
            Err(why) => return Err(self.unread(why, body, expects, http1).await),
        };
        let events = self.decoded(form, text, &mut share).await?;
        if events.is_empty() {
            return Ok(accepted(0, 0, Outcome::Delivered));
        }
        let count = events.len() as u64;
        let ticket = self.committer.submit(&sender, events, self.out.event_bytes_max(), share);
        let Some(ticket) = ticket else {
            return Err(unavailable("nothing was taken in: this endpoint is shutting down", "5"));
        };
        let verdict = ticket.verdict().await;
        self.answer(count, verdict)
    }

    async fn decoded(&self, form: BodyForm, text: Bytes, share: &mut Share) -> Result<Events, Problem> {
        let (bytes_max, schema) = (self.options.decompressed_bytes_max, self.schema.clone());
        let decoded = if let Some(decoded) = decode_at_once(form, &text, bytes_max, schema.as_deref()) {
            decoded
        } else {
            // The semaphore is never closed, and what a panic of the decoder means is the connection's to say.
            let permit = self.heavy.clone().acquire_owned().await;
            let work = tokio::task::spawn_blocking(move || {
                let decoded = decode_body(form, text, bytes_max, schema.as_deref());
                drop(permit);
                decoded
            });
            work.await.map_err(|e| {
                tracing::error!("decoding a body failed: {e}");
                Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the body could not be decoded: a bug in weir",
                )
            })?
        };
        let events = decoded.map_err(refused)?;
        // What it takes from now on, index included.
        let room = share.resize(events.text.len() + events.len() * 8);
        if room { Ok(events) } else { Err(crowded()) }
    }

    fn answer(&self, count: u64, verdict: Verdict) -> Result<Response<Body>, Problem> {
        match verdict {
            Verdict::Settled { outcome: Outcome::Lost, .. } => {
                Err(unavailable("the events were lost on their way; send them again", "1"))
            }
            Verdict::Settled { rate_limited, .. } if rate_limited == count => Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("over the rate limit: the pipeline refused all {count} events"),
            )
            .header(header::RETRY_AFTER, HeaderValue::from_static("1"))),
            Verdict::Settled { outcome, rate_limited, oversize } => {
                let dropped = rate_limited + oversize;
                let further =
                    if dropped > 0 && outcome == Outcome::Dropped { Outcome::Delivered } else { outcome };
                Ok(accepted(count - dropped, dropped, further))
            }
            Verdict::Refused => Err(unavailable("nothing was taken in: the pipeline is full", "1")),
            Verdict::Unsettled => {
                let waited = crate::base::units::format_duration(self.options.settle_timeout);
                let why =
                    format!("taken in, but not delivered within {waited}: the events still wait for a sink");
                Err(unavailable(&why, "5").hint("sending them again may deliver them twice"))
            }
        }
    }

    async fn unread(&self, why: BodyError, body: &mut Incoming, expects: bool, http1: bool) -> Problem {
        let problem = match &why {
            BodyError::TooLarge => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is too large: at most {} bytes are taken", self.options.body.bytes_max),
            )
            .hint("send it in parts, or compressed"),
            BodyError::TooSlow => {
                Problem::new(StatusCode::REQUEST_TIMEOUT, "the body came too slowly: nothing was taken in")
            }
            BodyError::NoRoom => crowded(),
            // Nobody is there to hear it, or what came is not HTTP.
            BodyError::Broken(e) => Problem::bad_request(format!("the body broke off: {e}")),
        };
        let sends_on = matches!(why, BodyError::TooLarge | BodyError::NoRoom);
        turned_away(problem, sends_on, body, expects, http1).await
    }
}

/// Says so to a client whose body was not read to its end; one that `sends_on` hears it when it has sent some more.
async fn turned_away(
    problem: Problem,
    sends_on: bool,
    body: &mut Incoming,
    expects: bool,
    http1: bool,
) -> Problem {
    // Who waits to be told to go on has sent nothing yet.
    if sends_on && !expects {
        discard(body, DISCARD_BYTES_MAX, DISCARD_TIME_MAX).await;
    }
    // The rest of the body would be taken for the next request.
    if http1 { problem.header(header::CONNECTION, HeaderValue::from_static("close")) } else { problem }
}

#[async_trait]
impl Handler for Ingest {
    async fn handle(&self, _path: &str, request: &mut Request<Incoming>) -> Response<Body> {
        self.ingest(request).await.unwrap_or_else(Problem::into_response)
    }

    fn methods(&self, _path: &str) -> &'static str {
        METHODS
    }
}

/// Checks everything that can be refused before the body is read, and so before a client that waits for
/// `100 Continue` sends it.
fn body_form(request: &Request<Incoming>) -> Result<BodyForm, Problem> {
    if *request.method() != Method::POST {
        let why = format!("method not allowed: {}", request.method());
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, why)
            .hint("send events with POST")
            .header(header::ALLOW, HeaderValue::from_static(METHODS)));
    }
    let headers = request.headers();
    let kind = match headers.get(header::CONTENT_TYPE) {
        None => BodyKind::Unsaid,
        Some(value) => value
            .to_str()
            .ok()
            .and_then(BodyKind::from_content_type)
            .ok_or_else(|| unsupported("content-type", value, BodyKind::TYPES.to_vec()))?,
    };
    Ok(BodyForm { kind, coding: coding(headers)? })
}

/// How the body is compressed. Several lines say the same as one with commas (RFC 9110, section 5.3): one coding upon
/// another, of which only one is undone here.
fn coding(headers: &HeaderMap) -> Result<Option<Compression>, Problem> {
    let known = || Compression::ALL.map(Compression::token).to_vec();
    let mut found = None;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let token = value.to_str().unwrap_or("unreadable").trim();
        if token.is_empty() || token.eq_ignore_ascii_case("identity") {
            continue;
        }
        let coding = Compression::from_token(token).filter(|_| found.is_none());
        found = Some(coding.ok_or_else(|| unsupported("content-encoding", value, known()))?);
    }
    Ok(found)
}

fn unsupported(header: &str, value: &HeaderValue, known: Vec<&'static str>) -> Problem {
    let shown: String = String::from_utf8_lossy(value.as_bytes()).chars().take(64).collect();
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("unsupported {header}: `{shown}`"))
        .hint(format!("one of {}", known.join(", ")))
        .with("supported", known)
}

/// Who rows name as their source: the user, else the name in the certificate, else the address.
fn sender(request: &Request<Incoming>) -> Sender {
    const UNKNOWN: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    let user = request.extensions().get::<Identity>().and_then(Identity::name);
    let (address, name) = match request.extensions().get::<Peer>() {
        Some(peer) => (peer.address.ip().to_canonical(), peer.name.clone()),
        None => (UNKNOWN, None),
    };
    Sender { address, name: user.map(Arc::from).or(name) }
}

/// Decodes a body where it delays no other connection for long; `None` if that takes a thread of its own.
fn decode_at_once(
    form: BodyForm,
    text: &Bytes,
    bytes_max: usize,
    schema: Option<&Schema>,
) -> Option<Result<Events, Undecoded>> {
    let heavy = if form.coding.is_some() { HEAVY_COMPRESSED_BYTES } else { HEAVY_BYTES };
    if text.len() >= heavy {
        return None;
    }
    // Some codings hold a hundred thousand times as much.
    let light_max = bytes_max.min(HEAVY_BYTES);
    match decode_body(form, text.clone(), light_max, schema) {
        Err(Undecoded::Compressed(_, DecompressError::TooLarge(_))) if light_max < bytes_max => None,
        decoded => Some(decoded),
    }
}

fn decode_body(
    form: BodyForm,
    text: Bytes,
    bytes_max: usize,
    schema: Option<&Schema>,
) -> Result<Events, Undecoded> {
    let body = match form.coding {
        None => text,
        Some(coding) => {
            coding.decompress(&text, bytes_max).map_err(|e| Undecoded::Compressed(coding, e))?.into()
        }
    };
    let Some(schema) = schema else { return decode(form.kind, body).map_err(Undecoded::Malformed) };
    let events = decode(form.kind, body.clone()).map_err(Undecoded::Malformed)?;
    schema.check(&events, &body).map_err(Undecoded::Malformed)?;
    Ok(events)
}

fn refused(why: Undecoded) -> Problem {
    match why {
        Undecoded::Compressed(_, DecompressError::TooLarge(max)) => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is too large: at most {max} bytes are taken once decompressed"),
        )
        .hint("send it in parts"),
        Undecoded::Compressed(coding, DecompressError::Broken(why)) => {
            Problem::bad_request(format!("the body is not {coding}: {why}"))
        }
        Undecoded::Malformed(at) => {
            let problem = Problem::bad_request(format!("malformed body: {at}; nothing of it was taken in"))
                .with("line", at.line)
                .with("column", at.column);
            match at.element {
                Some(element) => problem.with("element", element),
                None => problem,
            }
        }
    }
}

fn overfull() -> Problem {
    unavailable("nothing was taken in: max_memory is reached, and the sinks are behind", "1")
}

fn crowded() -> Problem {
    unavailable("nothing was taken in: the bodies of other requests fill the memory set aside for them", "1")
}

fn unavailable(why: &str, retry_after_seconds: &'static str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
        .header(header::RETRY_AFTER, HeaderValue::from_static(retry_after_seconds))
}

/// 200 with the counts. `further` is what befell events of the batch past the entrance of the pipeline, which are
/// not necessarily those of this request.
fn accepted(accepted: u64, dropped: u64, further: Outcome) -> Response<Body> {
    let note = match further {
        Outcome::Dropped => {
            r#","note":"a filter or a full buffer dropped events that were taken in with these""#
        }
        Outcome::Rejected => r#","note":"a receiver refused events that were taken in with these""#,
        Outcome::Delivered | Outcome::Lost => "",
    };
    let body = match (accepted, dropped) {
        (1, 0) if note.is_empty() => Bytes::from_static(br#"{"accepted":1,"dropped":0}"#),
        _ => format!(r#"{{"accepted":{accepted},"dropped":{dropped}{note}}}"#).into(),
    };
    respond(StatusCode::OK, "application/json", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_bodies_that_turn_out_to_be_large_are_decoded_elsewhere() {
        let zeros = |len: usize| Bytes::from(zstd::bulk::compress(&vec![0; len], 3).unwrap());
        let form = BodyForm { kind: BodyKind::Lines, coding: Some(Compression::Zstd) };
        let events = |len: usize, max: usize| {
            let body = zeros(len);
            assert!(body.len() < HEAVY_COMPRESSED_BYTES);
            decode_at_once(form, &body, max, None).map(|decoded| decoded.map(|e| e.bytes()).ok())
        };
        assert_eq!(events(1000, 1 << 20), Some(Some(1000)));
        assert_eq!(events(32 << 20, 64 << 20), None);
        assert_eq!(events(2000, 1000), Some(None), "too large wherever it is decoded");
    }

    #[test]
    fn codings_are_told_apart() {
        let all = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            coding(&headers).ok()
        };
        let test_coding = |value| all(&[value]);
        assert_eq!(all(&[]), Some(None));
        assert_eq!(all(&["identity", "gzip", ""]), Some(Some(Compression::Gzip)));
        assert_eq!(all(&["gzip", "gzip"]), None, "as in one line");
        assert_eq!(test_coding("identity"), Some(None));
        assert_eq!(test_coding(" GZIP "), Some(Some(Compression::Gzip)));
        assert_eq!(test_coding("br"), None);
        assert_eq!(test_coding("gzip, gzip"), None);
    }
}
