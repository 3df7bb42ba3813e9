//! What every HTTP request passes before its route is served: hosts that make sense, the rate limits, no page of a
//! foreign origin where it could change something or hold a stream, and authentication. Also the exchange of
//! credentials for a ticket, for browsers, whose `EventSource` cannot send a header.

use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use serde_json::json;

use super::guard::origin::{self, Wrong};
use super::guard::{Guard, Identity, Reason, TICKET_PARAMETER, without_ticket};
use super::problem::{Body, Problem, respond};
use super::socket::Peer;

/// Where credentials are exchanged for a ticket.
pub const TICKET_PATH: &str = "/_ticket";
/// The methods of [`TICKET_PATH`].
pub(super) const TICKET_METHODS: &str = "POST, OPTIONS";

/// What a request is for, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Something that everybody may know who may connect.
    Open,
    /// The page as it is before it knows anything: for everybody where a token is what is missing, since a browser can
    /// ask for one only from there.
    Shell,
    /// A stream: it holds a place for long, and takes tickets.
    Stream,
    /// Everything else.
    Other,
}

/// Marks a request that was let through without credentials where others need them: its answer says little.
#[derive(Debug, Clone, Copy)]
pub struct Unrecognised;

/// What a listener's requests pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gate<'a> {
    pub(super) guard: &'a Guard,
    /// Whether only this machine reaches the listener.
    pub(super) loopback: bool,
    /// Origins whose pages may read and ask.
    pub(super) cors_origins: &'a [String],
}

impl Gate<'_> {
    /// Lets a request pass, and tells who sends it.
    ///
    /// # Errors
    /// The answer to whoever may not.
    pub(super) async fn pass(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        peer: &Peer,
        purpose: Purpose,
    ) -> Result<Identity, Problem> {
        let address = peer.address.ip();
        match origin::check_host(headers, uri, self.loopback, self.cors_origins) {
            Ok(()) => {}
            Err(Wrong::TwoHosts) => return Err(Problem::bad_request("more than one host header")),
            Err(Wrong::ForeignHost(name)) => {
                let detail = format!("foreign host: `{name}` is not a name of this machine");
                let problem = self.guard.refuse(address, Reason::ForeignHost, detail).into_problem();
                return Err(
                    problem.hint("use 127.0.0.1 or localhost, or add the origin to `server.cors_origins`")
                );
            }
        }
        self.guard.request(address).map_err(super::guard::Refusal::into_problem)?;
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let matters = purpose == Purpose::Stream || !reads;
        if matters && *method != Method::OPTIONS && origin::from_foreign_page(headers, uri, self.cors_origins)
        {
            let refusal = self.guard.refuse(
                address,
                Reason::ForeignOrigin,
                "a page of another origin may not ask for this",
            );
            return Err(refusal.into_problem().hint("add its origin to `server.cors_origins` if it may"));
        }
        // Browsers send no credentials when they ask whether they may ask.
        if purpose == Purpose::Open || is_preflight(method, headers) {
            return Ok(Identity::anybody());
        }
        if purpose == Purpose::Shell && reads && self.guard.lacks_only_a_token(headers, peer) {
            return Ok(Identity::anybody());
        }
        // Tickets are for streams: elsewhere the query is not looked at.
        let bare = Uri::default();
        let uri = if purpose == Purpose::Stream { uri } else { &bare };
        self.guard.authenticate(headers, uri, peer).await.map_err(super::guard::Refusal::into_problem)
    }

    /// Answers a request for a ticket of somebody who was recognised.
    ///
    /// # Errors
    /// 404 where nobody needs one.
    pub(super) fn ticket(&self, method: &Method, identity: &Identity) -> Result<Response<Body>, Problem> {
        if *method != Method::POST {
            return Err(Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("method not allowed: {method}"),
            )
            .hint(format!("allowed: {TICKET_METHODS}"))
            .header(header::ALLOW, http::HeaderValue::from_static(TICKET_METHODS)));
        }
        let Some((ticket, lifetime)) = self.guard.ticket(identity) else {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "no tickets: this listener asks for no credentials",
            ));
        };
        let body = json!({ TICKET_PARAMETER: ticket, "expires_in": lifetime.as_secs() });
        Ok(respond(StatusCode::OK, "application/json", body.to_string()))
    }
}

fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Takes the ticket out of a request's target: it is used, and what follows reads the other parameters.
pub(super) fn strip_ticket<B>(request: &mut Request<B>) {
    let Some(query) = request.uri().query().filter(|query| query.contains(TICKET_PARAMETER)) else { return };
    let (path, rest) = (request.uri().path(), without_ticket(query));
    let target = if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") };
    // What was a target without its ticket still is one.
    if let Ok(uri) = target.parse() {
        *request.uri_mut() = uri;
    }
}
