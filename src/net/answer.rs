//! From a request to its answer: refuses what a web page has no business asking, finds the route, negotiates what
//! a stream looks like, and seats its subscriber.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use serde_json::json;

use super::body::discard;
use super::gate::{Gate, Purpose, TICKET_METHODS, TICKET_PATH, Unrecognised, strip_ticket};
use super::guard::origin::allowed_origin;
use super::listener::Server;
use super::notes::{HeartbeatStyle, NoteStyle};
use super::params::{StreamParams, Wire};
use super::problem::{Body, Problem, respond};
use super::pump::PumpOptions;
use super::query_string;
use super::ring::Start;
use super::router::{Route, StreamRoute};
use super::segment::{Content, Form, Framing};
use super::socket::Peer;
use super::subscriber::{Seat, Subscriber, Wish};
use crate::base::clock;
use crate::batch::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// The path that serves several streams on one connection.
pub const MANY_PATH: &str = "/_stream";
const READ_METHODS: &str = "GET, HEAD, OPTIONS";
const ALL_METHODS: &str = "GET, HEAD, POST, OPTIONS";
/// What of a body that nobody wants is read under HTTP/2 before the answer: clients (curl 7.88) take the reset of a
/// stream on which they are still sending for a failure, and show no answer.
const UNREAD_BYTES_MAX: usize = 64 << 10;
const UNREAD_TIME_MAX: Duration = Duration::from_millis(500);

/// What becomes of a request.
pub(super) enum Reply {
    /// A response.
    Response(Response<Body>),
    /// A stream: the socket is the subscriber's from now on.
    Stream(Box<Taken>),
}

/// A stream about to begin.
pub(super) struct Taken {
    wire: Wire,
    cors: Option<HeaderValue>,
    pub(super) subscriber: Subscriber,
    pub(super) options: PumpOptions,
}

impl Taken {
    /// The head of the response under HTTP/1, for a writer that has the socket to itself.
    pub(super) fn head(&self) -> Bytes {
        response_head(self.wire, self.options.chunked, self.cors.as_ref())
    }

    /// The response under HTTP/2, with a body that the pump feeds.
    pub(super) fn response<B>(&self, body: B) -> Response<B> {
        let (mut parts, _) = head_only(self.wire).into_parts();
        if let Some(origin) = &self.cors {
            parts.headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            parts.headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        Response::from_parts(parts, body)
    }
}

/// Answers one request; `peer` is among its extensions for the services, and who was recognised.
pub(super) async fn answer(server: &Server, mut request: Request<Incoming>, peer: &Peer) -> Reply {
    // For services that want to know who sends.
    request.extensions_mut().insert(peer.clone());
    let cors = allowed_origin(request.headers(), &server.policy.cors_origins);
    let reply = match route(server, &mut request, peer, cors.as_ref()).await {
        Ok(reply) => reply,
        Err(problem) => Reply::Response(problem.into_response()),
    };
    // Under HTTP/1 the connection itself sees to that.
    if request.version() == Version::HTTP_2 && matches!(reply, Reply::Response(_)) {
        discard(request.body_mut(), UNREAD_BYTES_MAX, UNREAD_TIME_MAX).await;
    }
    match (reply, cors) {
        (Reply::Response(mut response), Some(origin)) => {
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
            Reply::Response(response)
        }
        (reply, _) => reply,
    }
}

async fn route(
    server: &Server,
    request: &mut Request<Incoming>,
    peer: &Peer,
    cors: Option<&HeaderValue>,
) -> Result<Reply, Problem> {
    let target = match request.uri().path() {
        // `OPTIONS *` asks about the server as a whole.
        "*" if *request.method() == Method::OPTIONS => "/",
        path => path,
    };
    let path =
        query_string::path(target).map_err(|why| Problem::bad_request(format!("broken path: {why}")))?;
    let own = matches!(path.as_str(), MANY_PATH | TICKET_PATH);
    let route = if own { None } else { server.router.find(&path) };
    let purpose = match &route {
        Some(Route::Stream(_)) => Purpose::Stream,
        None if path == MANY_PATH => Purpose::Stream,
        None if !own && server.handler.is_open(&path) => Purpose::Open,
        None if !own && server.handler.is_shell(&path) => Purpose::Shell,
        // As if one were there: what a stranger hears must not tell.
        None if !own && path.ends_with("/stream") => Purpose::Stream,
        _ => Purpose::Other,
    };
    let gate =
        Gate { guard: &server.guard, loopback: server.loopback, cors_origins: &server.policy.cors_origins };
    let identity = gate.pass(request.method(), request.uri(), request.headers(), peer, purpose).await?;
    strip_ticket(request);
    request.extensions_mut().insert(identity.clone());
    let is_stranger = identity.name().is_none() && server.guard.wants_credentials();
    if *request.method() == Method::OPTIONS {
        let allow = match &route {
            // Nor this, where it is asked on behalf of somebody who is not known yet.
            _ if is_stranger && !own => ALL_METHODS,
            Some(Route::Service(service)) => service.methods(&path),
            Some(_) => READ_METHODS,
            None if path == MANY_PATH => READ_METHODS,
            None if path == TICKET_PATH => TICKET_METHODS,
            None => server.handler.methods(&path),
        };
        return Ok(Reply::Response(preflight(allow, cors.is_some())));
    }
    if is_stranger {
        request.extensions_mut().insert(Unrecognised);
    }
    match route {
        Some(Route::Stream(stream)) => subscribe(request, &[stream], false, cors),
        Some(Route::Status(stream)) => {
            only_read(request.method())?;
            Ok(Reply::Response(stream_status(&stream)))
        }
        Some(Route::Service(service)) => {
            if identity.name().is_some() {
                request.extensions_mut().insert(identity);
            }
            Ok(Reply::Response(service.handle(&path, request).await))
        }
        None if path == MANY_PATH => {
            let streams = named_streams(server, request.uri().query())?;
            subscribe(request, &streams, true, cors)
        }
        None if path == TICKET_PATH => Ok(Reply::Response(gate.ticket(request.method(), &identity)?)),
        None => Ok(Reply::Response(server.handler.handle(&path, request).await)),
    }
}

fn preflight(allow: &'static str, cors: bool) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    if cors {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(allow));
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("last-event-id, authorization, content-type"),
        );
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    response
}

/// Refuses every method but GET and HEAD.
///
/// # Errors
/// 405 with `Allow`.
pub fn only_read(method: &Method) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("method not allowed: {method}"))
        .hint(format!("allowed: {READ_METHODS}"))
        .header(header::ALLOW, HeaderValue::from_static(READ_METHODS)))
}

fn named_streams(server: &Server, query: Option<&str>) -> Result<Vec<Arc<StreamRoute>>, Problem> {
    let names = StreamParams::parse(query, true, Timestamp(0))?.pipelines;
    let known = || {
        let mut known: Vec<String> =
            server.router.streams().iter().map(|(_, s)| s.site.pipeline.to_string()).collect();
        known.dedup();
        known
    };
    if names.is_empty() {
        let known = known();
        let example = if known.is_empty() { "a,b".to_owned() } else { known.join(",") };
        return Err(Problem::bad_request("missing parameter `p`: which pipelines")
            .with("pipelines", known)
            .hint(format!("ask for {MANY_PATH}?p={example}")));
    }
    names
        .iter()
        .map(|name| server.router.stream_of(name).ok_or_else(|| Problem::unknown_pipeline(name, &known())))
        .collect()
}

/// Seats a subscriber.
fn subscribe(
    request: &Request<Incoming>,
    streams: &[Arc<StreamRoute>],
    many: bool,
    cors: Option<&HeaderValue>,
) -> Result<Reply, Problem> {
    only_read(request.method())?;
    let mut params = StreamParams::parse(request.uri().query(), many, Timestamp(clock::unix_nanos()))?;
    let wire = match params.wire {
        Some(wire) => wire,
        None => negotiate(request.headers())?,
    };
    if wire == Wire::Raw && (params.fields.is_some() || params.ping_event) {
        let name = if params.fields.is_some() { "fields" } else { "ping" };
        return Err(Problem::bad_request(format!(
            "invalid parameter `{name}`: raw lines have neither fields nor events"
        ))
        .hint("ask for format=sse or format=ndjson"));
    }
    let chunked = request.version() == Version::HTTP_11;
    if *request.method() == Method::HEAD {
        return Ok(Reply::Response(head_only(wire)));
    }
    for stream in streams {
        if stream.ring.followers() >= stream.options.connections_max {
            let most = stream.options.connections_max;
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "too many subscribers: the stream of `{}` serves at most {most}",
                    stream.site.pipeline
                ),
            )
            .header(header::RETRY_AFTER, HeaderValue::from_static("5")));
        }
    }
    let last_id = last_event_id(request.headers(), &params);
    let framing = if wire == Wire::Sse { Framing::Sse } else { Framing::Lines };
    let notes = match wire {
        Wire::Sse => NoteStyle::Events,
        Wire::Ndjson => NoteStyle::JsonLines,
        Wire::Raw => NoteStyle::Silent,
    };
    let resumes = |id: &String| streams.iter().any(|s| matches!(resume(s, id, many), Start::After(_)));
    if last_id.as_ref().is_some_and(resumes) {
        // A client that comes back asks with the `since` it began with, and must miss nothing that came meanwhile.
        params.select.since = None;
    }
    let (tail, since) = (params.tail, params.select.since);
    let mut subscriber = Subscriber::new(Wish { notes, select: params.select, limit: params.limit, many });
    for stream in streams {
        let content = match wire {
            _ if params.fields.is_some() && !stream.options.own_is_json => Content::Json,
            Wire::Ndjson if !stream.options.own_is_json => Content::Json,
            Wire::Raw => Content::Raw,
            _ => Content::Own,
        };
        let form = Form { framing, content, fields: params.fields.clone() };
        let seat = Seat::take(stream.meter.clone());
        match (&last_id, tail) {
            (Some(id), _) => subscriber.join(&stream.ring, resume(stream, id, many), form, seat),
            (None, Some(count)) => subscriber.join_tail(&stream.ring, count, form, seat),
            (None, None) if since.is_some() => subscriber.join(&stream.ring, Start::Oldest, form, seat),
            (None, None) => subscriber.join(&stream.ring, Start::Live, form, seat),
        }
    }
    let options = pump_options(streams, params.ping_event, wire, chunked);
    Ok(Reply::Stream(Box::new(Taken { wire, cors: cors.cloned(), subscriber, options })))
}

fn pump_options(streams: &[Arc<StreamRoute>], ping_event: bool, wire: Wire, chunked: bool) -> PumpOptions {
    let options = streams.iter().map(|s| &s.options);
    let first = options.clone().next();
    let style = match first {
        _ if ping_event => HeartbeatStyle::Event,
        Some(options) => options.heartbeat_style,
        None => HeartbeatStyle::Comment,
    };
    // Lines have no comments, and a reader of lines takes an empty one for a row: only what was asked for is sent.
    let silent = wire == Wire::Raw || wire == Wire::Ndjson && style == HeartbeatStyle::Comment;
    PumpOptions {
        chunked,
        write_timeout: options.clone().map(|o| o.write_timeout).min().unwrap_or_default(),
        heartbeat: options.filter_map(|o| o.heartbeat).min().filter(|_| !silent),
        heartbeat_style: style,
        heartbeat_stats: first.is_some_and(|o| o.heartbeat_stats),
    }
}

/// The id to resume behind: the header, which a reconnecting client keeps up to date, before the parameter.
fn last_event_id(headers: &HeaderMap, params: &StreamParams) -> Option<String> {
    let header =
        headers.get("last-event-id").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    header.or_else(|| params.last_event_id.clone()).filter(|id| !id.is_empty())
}

fn resume(stream: &StreamRoute, id: &str, many: bool) -> Start {
    let (epoch, name) = (stream.ring.epoch(), stream.ring.name());
    let seq = if many { epoch.parse_composite(id, name) } else { epoch.parse(id) };
    seq.map_or(Start::Unknown, Start::After)
}

/// The forms of a stream, the preferred one first, with the types that ask for them.
const FORMS: [(Wire, &[&str]); 3] = [
    (Wire::Sse, &["text/event-stream"]),
    (Wire::Ndjson, &["application/x-ndjson", "application/ndjson", "application/jsonl", "application/json"]),
    (Wire::Raw, &["text/plain"]),
];

/// What the client accepts best (RFC 9110, section 12.5.1): of each form the most specific range counts, then its
/// quality. `*/*` and nothing said mean server-sent events.
fn negotiate(headers: &HeaderMap) -> Result<Wire, Problem> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<(String, u32)> =
        values.flat_map(|v| v.split(',')).filter(|r| !r.trim().is_empty()).map(media_range).collect();
    if ranges.is_empty() {
        return Ok(Wire::Sse);
    }
    let mut best = None;
    for (wire, types) in FORMS {
        let matching = ranges.iter().filter_map(|(range, q)| Some((specificity(range, types)?, *q)));
        let Some((specificity, quality)) = matching.max() else { continue };
        if quality > 0 && best.is_none_or(|(than, _)| (quality, specificity) > than) {
            best = Some(((quality, specificity), wire));
        }
    }
    best.map(|(_, wire)| wire).ok_or_else(|| {
        Problem::new(StatusCode::NOT_ACCEPTABLE, "nothing acceptable: a stream has three forms")
            .with("allowed", vec!["text/event-stream", "application/x-ndjson", "text/plain"])
            .hint("send `accept: text/event-stream`, or ask with `?format=sse`")
    })
}

/// The type of a media range in lower case, and its quality in thousandths.
fn media_range(item: &str) -> (String, u32) {
    let item = item.to_ascii_lowercase();
    let mut parts = item.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default().to_owned();
    let quality = parts.find_map(|p| p.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
    (range, (quality.clamp(0.0, 1.0) * 1000.0) as u32)
}

/// How closely `range` fits one of `types`; `None` when it does not.
fn specificity(range: &str, types: &[&str]) -> Option<u32> {
    let family = |t: &&str| range.strip_suffix('*').is_some_and(|f| f.ends_with('/') && t.starts_with(f));
    match range {
        "*/*" => Some(0),
        _ if types.iter().any(family) => Some(1),
        _ if types.contains(&range) => Some(2),
        _ => None,
    }
}

const STREAM_HEADERS: [(&str, &str); 4] = [
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
    ("x-content-type-options", "nosniff"),
    ("vary", "accept"),
];

fn head_only(wire: Wire) -> Response<Body> {
    let mut response = respond(StatusCode::OK, wire.content_type(), Bytes::new());
    for (name, value) in STREAM_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn response_head(wire: Wire, chunked: bool, cors: Option<&HeaderValue>) -> Bytes {
    let version = if chunked { "1.1" } else { "1.0" };
    let mut head = format!("HTTP/{version} 200 OK\r\ncontent-type: {}\r\n", wire.content_type()).into_bytes();
    for (name, value) in STREAM_HEADERS {
        head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    let now = jiff::Timestamp::from_nanosecond(i128::from(clock::unix_nanos())).unwrap_or_default();
    head.extend_from_slice(now.strftime("date: %a, %d %b %Y %H:%M:%S GMT\r\n").to_string().as_bytes());
    if let Some(origin) = cors {
        head.extend_from_slice(b"access-control-allow-origin: ");
        head.extend_from_slice(origin.as_bytes());
        head.extend_from_slice(b"\r\nvary: origin\r\n");
    }
    head.extend_from_slice(if chunked { b"transfer-encoding: chunked\r\n" } else { b"" });
    head.extend_from_slice(b"connection: close\r\n\r\n");
    head.into()
}

/// How one stream stands, as JSON.
fn stream_status(stream: &StreamRoute) -> Response<Body> {
    let (meter, ring) = (stream.meter.snapshot(), &stream.ring);
    let status = json!({
        "pipeline": &*stream.site.pipeline,
        "component": stream.site.id(),
        "received": meter.received_events,
        "delivered": meter.delivered_events,
        "dropped": meter.dropped_total(),
        "queued": meter.queued_events,
        "clients": meter.clients,
        "client_drops": meter.client_drops,
        "history_events": ring.history_events(),
        "encoded_batches": ring.encoded_batches(),
        "next": ring.epoch().id(ring.head()),
    });
    respond(StatusCode::OK, "application/json", status.to_string())
}
