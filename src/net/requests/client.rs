//! Requests to one target: sends a body, reads the answer within one deadline, and says what it means. A request
//! that fails on a connection that waited too long is sent again on a fresh one, which is no failure yet.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::payload::Payload;
use super::pool::Pool;
use super::url::Target;
use super::verdict::{Verdict, retry_after};
use crate::net::dial::Dial;

/// Most bytes of an answer's body that are read; what is longer ends its connection.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Most bytes of an answer's body that are quoted.
const QUOTE_BYTES_MAX: usize = 200;

/// A client of one target.
#[derive(Debug)]
pub struct Client {
    target: Target,
    host: HeaderValue,
    method: Method,
    timeout: Duration,
    pool: Pool,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// What that means for the rows.
    pub verdict: Verdict,
    /// How long the receiver asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The beginning of the body, on one line.
    pub quote: String,
}

/// Why no whole answer came back.
#[derive(Debug)]
pub struct NoAnswer {
    /// In words, without the target.
    pub why: String,
    /// It took too long.
    pub timed_out: bool,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if self.quote.is_empty() { Ok(()) } else { write!(f, ": {}", self.quote) }
    }
}

impl NoAnswer {
    fn new(why: impl Into<String>) -> NoAnswer {
        NoAnswer { why: why.into(), timed_out: false }
    }
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> NoAnswer {
        NoAnswer { timed_out: error.kind() == io::ErrorKind::TimedOut, ..NoAnswer::new(chain(&error)) }
    }
}

/// An error and what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

impl Client {
    /// A client that connects by `dial` and gives each request `timeout`, from connecting to the answer's end.
    pub fn new(target: Target, method: Method, timeout: Duration, dial: Arc<dyn Dial>) -> Client {
        let host = HeaderValue::from_str(target.host()).expect("the authority of a URL is visible ASCII");
        let pool = Pool::new(dial, target.endpoint.clone());
        Client { target, host, method, timeout, pool }
    }

    /// Where the requests go.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Sends `payload` with `headers`, and the field that names it, if any, and reads the answer, within the
    /// client's timeout and `at_most`. Cancel-safe: dropped, it takes its connection with it.
    ///
    /// # Errors
    /// When no whole answer came back in time.
    pub async fn send(
        &self,
        headers: &HeaderMap,
        id: Option<(HeaderName, HeaderValue)>,
        payload: &Payload,
        at_most: Duration,
    ) -> Result<Answer, NoAnswer> {
        let limit = self.timeout.min(at_most);
        match tokio::time::timeout(limit, self.exchange(headers, id, payload)).await {
            Ok(answered) => answered,
            Err(_) => {
                let why = format!("no answer within {limit:?}");
                Err(NoAnswer { timed_out: true, ..NoAnswer::new(why) })
            }
        }
    }

    async fn exchange(
        &self,
        headers: &HeaderMap,
        id: Option<(HeaderName, HeaderValue)>,
        payload: &Payload,
    ) -> Result<Answer, NoAnswer> {
        let mut fresh = false;
        loop {
            let mut connection = self.pool.take(fresh).await?;
            let (body, taken) = payload.body();
            let mut request = self.request(headers, body, connection.is_h2());
            if let Some((name, value)) = &id {
                request.headers_mut().insert(name, value.clone());
            }
            let response = match connection.send(request).await {
                Ok(response) => response,
                // The receiver may have closed it just before: the other end of every kept connection.
                Err(_) if connection.used && !fresh => {
                    fresh = true;
                    continue;
                }
                Err(error) => return Err(NoAnswer::new(chain(&error))),
            };
            let whole = || taken.load(Relaxed);
            let (status, wait) = (response.status(), retry_after(response.headers()));
            let (quote, at_end) = read(response.into_body()).await?;
            let verdict = Verdict::of(status);
            if verdict == Verdict::Taken && !whole() {
                return Err(NoAnswer::new(format!("answered {status} before it had the whole request")));
            }
            // A receiver that has not read the whole request would take the rest for the next one.
            if at_end && whole() {
                self.pool.give_back(connection);
            }
            return Ok(Answer { status, verdict, retry_after: wait, quote });
        }
    }

    fn request<B: http_body::Body>(&self, headers: &HeaderMap, body: B, h2: bool) -> Request<B> {
        let length = body.size_hint().exact().unwrap_or_default();
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        request.headers_mut().extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        if self.method != Method::GET {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        if h2 {
            *request.uri_mut() = self.target.uri.clone();
        } else {
            *request.uri_mut() = self.target.path.clone();
            // The configuration may name another host.
            request.headers_mut().entry(HOST).or_insert_with(|| self.host.clone());
        }
        request
    }

    /// Connections that wait, for tests.
    #[cfg(test)]
    pub(super) fn waiting_connections(&self) -> usize {
        self.pool.waiting_connections()
    }
}

/// Reads an answer's body, not beyond [`ANSWER_BYTES_MAX`]: its beginning, and whether its end was reached.
async fn read(mut body: Incoming) -> Result<(String, bool), NoAnswer> {
    let (mut quote, mut bytes) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| NoAnswer::new(format!("the answer broke off: {}", chain(&e))))?;
        let Some(data) = frame.data_ref() else { continue };
        bytes += data.len();
        let wanted = QUOTE_BYTES_MAX.saturating_sub(quote.len()).min(data.len());
        quote.extend_from_slice(&data[..wanted]);
        if bytes > ANSWER_BYTES_MAX {
            return Ok((one_line(&quote), false));
        }
    }
    Ok((one_line(&quote), true))
}

/// Text that is safe to log.
fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}
