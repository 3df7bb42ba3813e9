//! Requests and responses of one connection: a response belongs to the oldest request that has none. Both halves are
//! read by what the two messages say together, because a response's end depends on its request (HEAD, CONNECT).

use std::collections::VecDeque;
use std::sync::Arc;

use super::half::{Body, Half, Input, Step};
use super::head::{self, Framing};
use crate::trace::event::{Connection, Ending, Exchange, Moment, Request, Role, TraceEvent};
use crate::trace::records::DataRecord;

/// Most requests that wait for their responses on one connection.
const PENDING_MAX: usize = 64;

/// When a call was, and whether records were dropped since the last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) began: Moment,
    pub(super) ended: Moment,
    pub(super) doubt: bool,
}

/// Where results go, and the numbers they get.
#[derive(Debug)]
pub(super) struct Results<'a> {
    pub(super) events: &'a mut Vec<TraceEvent>,
    pub(super) last_id: &'a mut u64,
    pub(super) with_query: bool,
    /// Responses without a request.
    pub(super) unpaired: &'a mut u64,
}

#[derive(Debug)]
struct Pending {
    request: Arc<Request>,
    bytes: u64,
    answer: Option<Answer>,
    response_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    status: u16,
    at: Moment,
    tid: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Conversation {
    connection: Arc<Connection>,
    requests: Half,
    responses: Half,
    /// When the message that each half is in began.
    request_began: Moment,
    response_began: Moment,
    /// Oldest first.
    pending: VecDeque<Pending>,
    /// Whether the newest of them is still being sent.
    sending: bool,
    /// Bytes of interim responses to the oldest.
    interim: u64,
    /// When something was moved last.
    last: Moment,
    /// Records were dropped since something was heard of the requests, and of the responses.
    doubt: [bool; 2],
    /// Bytes of memory of the requests in `pending`.
    pending_bytes: usize,
}

/// Bytes of memory that a request takes while it waits for its response, about.
fn weight(request: &Request) -> usize {
    let texts = [Some(&request.method), Some(&request.path), request.query.as_ref(), request.host.as_ref()];
    size_of::<Pending>()
        + size_of::<Request>()
        + texts.into_iter().flatten().map(|text| text.len()).sum::<usize>()
}

impl Conversation {
    pub(super) fn new(connection: Arc<Connection>, at: Moment) -> Conversation {
        Conversation {
            connection,
            requests: Half::new(true),
            responses: Half::new(false),
            request_began: at,
            response_began: at,
            pending: VecDeque::new(),
            sending: false,
            interim: 0,
            last: at,
            doubt: [false; 2],
            pending_bytes: 0,
        }
    }

    /// Bytes of memory that wait for what comes: of heads that are not complete, and of requests without a response.
    pub(super) fn held(&self) -> usize {
        self.requests.held() + self.responses.held() + self.pending_bytes
    }

    /// When something was moved last.
    pub(super) fn last(&self) -> Moment {
        self.last
    }

    /// Lets go of all that waits: requests are told as they are, heads are lost.
    pub(super) fn give_up(&mut self, results: &mut Results<'_>) {
        self.requests.give_up();
        self.responses.give_up();
        while !self.pending.is_empty() {
            self.finish_oldest(Ending::Unseen, self.last, results);
        }
    }

    /// Goes on with what one call moved.
    pub(super) fn data(&mut self, record: &DataRecord<'_>, call: Call, results: &mut Results<'_>) {
        self.last = call.ended;
        if call.doubt {
            self.doubt = [true; 2];
        }
        let unseen = u64::from(record.total).saturating_sub(record.bytes.len() as u64);
        let mut input = Input { seen: record.bytes, unseen };
        match self.is_request(record) {
            true => self.request_data(record, call, &mut input, results),
            false => self.response_data(record, call, &mut input, results),
        }
    }

    fn is_request(&self, record: &DataRecord<'_>) -> bool {
        match self.connection.role {
            Role::Client => record.sent,
            Role::Server => !record.sent,
            // Nothing has told: by what it looks like.
            Role::Unknown => !record.bytes.starts_with(b"HTTP/"),
        }
    }

    fn request_data(
        &mut self,
        record: &DataRecord<'_>,
        call: Call,
        input: &mut Input<'_>,
        results: &mut Results<'_>,
    ) {
        if self.requests.resume(record.bytes, std::mem::take(&mut self.doubt[0])) {
            self.sending = false;
        }
        if self.requests.is_between() {
            self.request_began = call.began;
        }
        loop {
            match self.requests.step(input) {
                Step::Wait => break,
                Step::Head { bytes, cut } => self.request_head(&bytes, cut, record, results),
                Step::End => self.request_end(),
            }
            if self.requests.is_between() {
                self.request_began = call.began;
            }
        }
        self.count_request();
    }

    fn count_request(&mut self) {
        if let Some(newest) = self.pending.back_mut().filter(|_| self.sending) {
            newest.bytes = self.requests.taken();
        }
    }

    fn request_end(&mut self) {
        self.count_request();
        self.sending = false;
    }

    fn request_head(&mut self, bytes: &[u8], cut: bool, record: &DataRecord<'_>, results: &mut Results<'_>) {
        let Some(head) = head::request(bytes) else {
            // Whatever it is, it is not HTTP, or the place is lost.
            self.requests.body(Body::Unknown);
            return;
        };
        let body = match head.framing {
            _ if cut => Body::Unknown,
            Framing::Unsaid => Body::None,
            Framing::Length(n) => Body::Length(n),
            Framing::Chunked => Body::Chunked,
            Framing::Unknown => Body::Unknown,
        };
        if self.pending.len() == PENDING_MAX {
            self.finish_oldest(Ending::Unseen, self.last, results);
        }
        *results.last_id += 1;
        let request = Arc::new(Request {
            id: *results.last_id,
            connection: self.connection.clone(),
            tls: record.tls,
            connection_inferred: record.inferred,
            began: self.request_began,
            tid: record.tid,
            method: head.method,
            path: head.path,
            query: head.query.filter(|_| results.with_query),
            host: head.host,
            trace: head.trace,
        });
        results.events.push(TraceEvent::Request(request.clone()));
        self.pending_bytes += weight(&request);
        self.pending.push_back(Pending { request, bytes: 0, answer: None, response_bytes: 0 });
        self.sending = true;
        self.count_request();
        if self.requests.body(body) {
            self.sending = false;
        }
    }

    fn response_data(
        &mut self,
        record: &DataRecord<'_>,
        call: Call,
        input: &mut Input<'_>,
        results: &mut Results<'_>,
    ) {
        let before = self.last_answered();
        if self.responses.resume(record.bytes, std::mem::take(&mut self.doubt[1])) && before {
            self.finish_oldest(Ending::Unseen, call.ended, results);
        }
        if self.responses.is_between() {
            self.response_began = call.began;
        }
        loop {
            match self.responses.step(input) {
                Step::Wait => break,
                Step::Head { bytes, cut } => self.response_head(&bytes, cut, record, call, results),
                Step::End => self.response_end(call.ended, results),
            }
            if self.responses.is_between() {
                self.response_began = call.began;
            }
        }
        self.count_response();
    }

    /// Whether the oldest request has its response's head.
    fn last_answered(&self) -> bool {
        self.pending.front().is_some_and(|oldest| oldest.answer.is_some())
    }

    fn count_response(&mut self) {
        let bytes = self.interim + self.responses.taken();
        if let Some(oldest) = self.pending.front_mut().filter(|oldest| oldest.answer.is_some()) {
            oldest.response_bytes = bytes;
        }
    }

    fn response_end(&mut self, at: Moment, results: &mut Results<'_>) {
        self.count_response();
        if self.last_answered() {
            self.finish_oldest(Ending::Complete, at, results);
        }
    }

    fn response_head(
        &mut self,
        bytes: &[u8],
        cut: bool,
        record: &DataRecord<'_>,
        call: Call,
        results: &mut Results<'_>,
    ) {
        let Some(head) = head::response(bytes) else {
            self.responses.body(Body::Unknown);
            return;
        };
        let Some(oldest) = self.pending.front_mut() else {
            *results.unpaired += 1;
            let ended = self.responses.body(if cut { Body::Unknown } else { body_of(head, "GET") });
            debug_assert!(!ended || self.responses.is_between());
            return;
        };
        let method = oldest.request.method.clone();
        let is_interim = (100..200).contains(&head.status) && head.status != 101;
        if is_interim && !cut {
            self.interim += self.responses.taken();
            self.responses.body(Body::None);
            return;
        }
        oldest.answer = Some(Answer { status: head.status, at: self.response_began, tid: record.tid });
        let body = if cut { Body::Unknown } else { body_of(head, &method) };
        self.count_response();
        if body == Body::Opaque {
            self.finish_oldest(Ending::Switched, call.ended, results);
            self.requests.close();
        }
        if self.responses.body(body) {
            self.response_end(call.ended, results);
        }
    }

    fn finish_oldest(&mut self, ending: Ending, ended: Moment, results: &mut Results<'_>) {
        let Some(oldest) = self.pending.pop_front() else { return };
        self.pending_bytes -= weight(&oldest.request);
        if self.pending.is_empty() {
            self.sending = false;
        }
        self.interim = 0;
        results.events.push(TraceEvent::Exchange(Exchange {
            status: oldest.answer.map(|answer| answer.status),
            answered: oldest.answer.map(|answer| answer.at),
            response_tid: oldest.answer.map(|answer| answer.tid),
            ended,
            request_bytes: oldest.bytes,
            response_bytes: oldest.response_bytes,
            ending,
            request: oldest.request,
        }));
    }

    /// A response whose end is not seen, and that does not go on, is told after a while.
    pub(super) fn settle(&mut self, now: Moment, after: std::time::Duration, results: &mut Results<'_>) {
        if self.responses.is_lost() && self.last_answered() && now.since(self.last) >= after {
            self.finish_oldest(Ending::Unseen, self.last, results);
        }
    }

    /// The connection ended.
    pub(super) fn close(&mut self, at: Moment, results: &mut Results<'_>) {
        while let Some(oldest) = self.pending.front() {
            let ending = match &oldest.answer {
                None => Ending::Unanswered,
                Some(_) if self.responses.ends_with_connection() => Ending::Complete,
                Some(_) if self.responses.is_lost() => Ending::Unseen,
                Some(_) => Ending::Cut,
            };
            // The connection may have stayed open long after the last byte.
            let ended = if oldest.answer.is_some() { self.last } else { at };
            self.finish_oldest(ending, ended, results);
        }
    }
}

/// Where the body of a final response ends (RFC 9112, 6.3).
fn body_of(head: head::ResponseHead, method: &str) -> Body {
    match (head.status, head.framing) {
        (101, _) => Body::Opaque,
        (200..300, _) if method == "CONNECT" => Body::Opaque,
        (100..200 | 204 | 304, _) => Body::None,
        _ if method == "HEAD" => Body::None,
        (_, Framing::Chunked) => Body::Chunked,
        (_, Framing::Length(n)) => Body::Length(n),
        (_, Framing::Unsaid) => Body::UntilClose,
        (_, Framing::Unknown) => Body::Unknown,
    }
}
