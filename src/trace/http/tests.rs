//! Pairing on records as the kernel writes them: a recorded session, and conversations made by hand, whole, in pieces,
//! and with parts missing.

use std::path::Path;

use proptest::prelude::*;

use super::pairing::{HELD_MAX, Pairing, Wanted};
use crate::trace::event::{Change, Ending, Exchange, Role, TraceEvent};
use crate::trace::records::{
    ConnectionKind, ConnectionRecord, DataRecord, Head, Malformed, Owner, Record, Tuple,
};
use crate::trace::row;

/// python's http.server and curl, plain and within TLS, as `tests/ebpf.rs` recorded them.
const SESSION: &[u8] = include_bytes!("../testdata/session.bin");

fn session() -> Vec<&'static [u8]> {
    let (mut records, mut rest) = (Vec::new(), SESSION);
    while let Some((len, bytes)) = rest.split_first_chunk::<4>() {
        let (record, after) = bytes.split_at(u32::from_le_bytes(*len) as usize);
        records.push(record);
        rest = after;
    }
    records
}

fn pairing() -> Pairing {
    Pairing::new(Wanted { tcp: true, query: true }, Path::new("/nonexistent"), 4096)
}

fn exchanges(events: &[TraceEvent]) -> Vec<&Exchange> {
    let exchanges = events.iter().filter_map(|event| match event {
        TraceEvent::Exchange(exchange) => Some(exchange),
        _ => None,
    });
    exchanges.collect()
}

#[test]
fn a_recorded_session_is_what_happened() {
    let (mut pairing, mut events) = (pairing(), Vec::new());
    for record in session() {
        pairing.record(&Record::parse(record).unwrap(), &mut events);
    }
    for (path, query, status, tls) in
        [("/a", Some("b=1"), 200, false), ("/missing", None, 404, false), ("/tls", None, 200, true)]
    {
        let all = exchanges(&events);
        let both: Vec<_> = all.iter().filter(|e| &*e.request.path == path).collect();
        assert_eq!(both.len(), 2, "{path}: {events:#?}");
        for exchange in both {
            let request = &exchange.request;
            assert_eq!(
                (exchange.status, request.tls, exchange.ending),
                (Some(status), tls, Ending::Complete)
            );
            assert_eq!(request.query.as_deref(), query);
            assert_eq!(request.trace.unwrap().trace_id[0], 0x0a);
            assert!(exchange.latency() <= exchange.duration() && !exchange.latency().is_zero());
            assert!(exchange.response_bytes > 1000 && exchange.request_bytes > 80);
        }
    }
    let closed = events.iter().filter_map(|event| match event {
        TraceEvent::Connection(event) => match &event.change {
            Change::Closed(totals) => Some((event.connection.clone(), *totals)),
            _ => None,
        },
        _ => None,
    });
    let closed: Vec<_> = closed.collect();
    assert_eq!(closed.len(), 4);
    for (connection, totals) in closed {
        let of_it = |e: &&&Exchange| e.request.connection.id == connection.id && !e.request.tls;
        let all = exchanges(&events);
        let plain: u64 = all.iter().filter(of_it).map(|e| e.request_bytes).sum();
        let requests =
            if connection.role == Role::Client { totals.bytes_sent } else { totals.bytes_received };
        assert!(plain == 0 || plain == requests, "{plain} of {requests}");
    }
    let mut rows = Vec::new();
    events.iter().for_each(|event| {
        row::write(event, &mut rows);
        rows.push(b'\n');
    });
    let text = String::from_utf8(rows).unwrap();
    assert!(!text.contains("c2VjcmV0"), "a secret got out");
    for line in text.lines().filter(|line| !line.is_empty()) {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert!(text.contains(r#""event":"stdout","message":"handling /a?b=1""#), "{text}");
}

#[test]
fn a_record_that_is_cut_anywhere_is_no_record() {
    for record in session() {
        assert!(Record::parse(record).is_ok());
        for len in 0..record.len().min(184) {
            let parsed = Record::parse(&record[..len]);
            // The ring pads records: what lies behind the captured bytes may be missing.
            assert!(parsed.is_err() || len >= 64, "{len} of {}", record.len());
        }
        let mut other = record.to_vec();
        other[2] = 99;
        assert_eq!(Record::parse(&other), Err(Malformed::Layout));
        other[2] = record[2];
        other[0] = 99;
        assert_eq!(Record::parse(&other), Err(Malformed::Kind));
    }
}

/// A connection of a server, and what passes it.
struct Talk {
    pairing: Pairing,
    events: Vec<TraceEvent>,
    now: u64,
}

const OWNER: Owner = Owner {
    pid: 7,
    tid: 8,
    uid: 0,
    pid_inner: 7,
    cgroup: 1,
    started_ns: 1,
    pid_namespace: 1,
    comm: *b"server\0\0\0\0\0\0\0\0\0\0",
    group: 0,
};

impl Talk {
    fn new() -> Talk {
        let mut talk = Talk { pairing: pairing(), events: Vec::new(), now: 1_000_000 };
        talk.connection(ConnectionKind::Accepted);
        talk
    }

    fn head(&mut self) -> Head {
        self.now += 1_000_000;
        Head { cpu: 0, sequence: self.now, time_ns: self.now }
    }

    fn connection(&mut self, event: ConnectionKind) {
        self.connection_of(1, event);
    }

    fn connection_of(&mut self, id: u64, event: ConnectionKind) {
        let mut tuple = Tuple {
            local: [0; 16],
            remote: [0; 16],
            local_port: 80,
            remote_port: 40_000,
            family: 2,
            role: 2,
        };
        tuple.local[..4].copy_from_slice(&[127, 0, 0, 1]);
        tuple.remote[..4].copy_from_slice(&[10, 0, 0, 9]);
        let record = ConnectionRecord {
            head: self.head(),
            id,
            owner: OWNER,
            tuple,
            opened_ns: 1,
            bytes_sent: 0,
            bytes_received: 0,
            rtt_us: 0,
            retransmits: 0,
            error: 0,
            event,
            before: false,
            owner_guessed: false,
        };
        self.pairing.record(&Record::Connection(record), &mut self.events);
    }

    fn moved(&mut self, sent: bool, bytes: &[u8], unseen: usize) -> &mut Talk {
        self.moved_on(1, sent, bytes, unseen)
    }

    fn moved_on(&mut self, connection: u64, sent: bool, bytes: &[u8], unseen: usize) -> &mut Talk {
        let record = DataRecord {
            head: self.head(),
            connection,
            began_ns: 0,
            pid: 7,
            tid: 8,
            total: u32::try_from(bytes.len() + unseen).unwrap(),
            sent,
            tls: false,
            inferred: false,
            bytes,
        };
        self.pairing.record(&Record::Data(record), &mut self.events);
        self
    }

    fn request(&mut self, text: &str) -> &mut Talk {
        self.moved(false, text.as_bytes(), 0)
    }

    fn response(&mut self, text: &str) -> &mut Talk {
        self.moved(true, text.as_bytes(), 0)
    }

    /// Path, status and ending of every exchange so far.
    fn told(&self) -> Vec<(String, Option<u16>, Ending)> {
        let told = |e: &Exchange| (e.request.path.to_string(), e.status, e.ending);
        exchanges(&self.events).into_iter().map(told).collect()
    }
}

fn told(path: &str, status: u16, ending: Ending) -> (String, Option<u16>, Ending) {
    (path.to_owned(), (status != 0).then_some(status), ending)
}

/// Thousands of clients that never finish their heads: memory stays bounded, those heard of last are still read.
#[test]
fn half_received_heads_share_a_budget() {
    const CLIENTS: u64 = 12_000;
    let mut talk = Talk::new();
    let half = format!("GET /half HTTP/1.1\r\nX: {}", "x".repeat(7000));
    for id in 2..2 + CLIENTS {
        talk.connection_of(id, ConnectionKind::Accepted);
        talk.moved_on(id, false, half.as_bytes(), 0);
        assert!(talk.pairing.held() <= HELD_MAX, "{id}: {}", talk.pairing.held());
    }
    let given_up = talk.pairing.counts().given_up;
    assert!(given_up > 1000 && given_up < CLIENTS / 2, "{given_up}");
    let mut end = |id: u64| {
        talk.moved_on(id, false, b"\r\n\r\n", 0).moved_on(id, true, b"HTTP/1.1 204 No\r\n\r\n", 0);
        talk.told().len()
    };
    assert_eq!(end(2), 0, "the oldest was given up");
    assert_eq!(end(1 + CLIENTS), 1, "the newest was not");
    // One that was given up is read again from its next request on.
    talk.moved_on(2, false, b"GET /again HTTP/1.1\r\n\r\n", 0).moved_on(
        2,
        true,
        b"HTTP/1.1 204 No\r\n\r\n",
        0,
    );
    assert_eq!(talk.told().last(), Some(&told("/again", 204, Ending::Complete)));
    (2..2 + CLIENTS).for_each(|id| talk.connection_of(id, ConnectionKind::Closed));
    assert_eq!(talk.pairing.held(), 0, "what is over holds nothing");
}

/// Pipelined requests that are never answered: the same budget, and each is told.
#[test]
fn requests_without_responses_share_it() {
    const CLIENTS: u64 = 700;
    let mut talk = Talk::new();
    let mut endings = Vec::new();
    let requests = format!("GET /{} HTTP/1.1\r\n\r\n", "p".repeat(2000)).repeat(2);
    for id in 2..2 + CLIENTS {
        talk.connection_of(id, ConnectionKind::Accepted);
        for _ in 0..32 {
            talk.moved_on(id, false, requests.as_bytes(), 0);
        }
        assert!(talk.pairing.held() <= HELD_MAX, "{}", talk.pairing.held());
        endings.extend(talk.told().into_iter().map(|(_, _, ending)| ending));
        talk.events.clear();
    }
    assert!(talk.pairing.counts().given_up > 200, "{:?}", talk.pairing.counts());
    assert_eq!(endings.len() as u64, 64 * talk.pairing.counts().given_up);
    assert!(endings.iter().all(|ending| *ending == Ending::Unseen));
    (2..2 + CLIENTS).for_each(|id| talk.connection_of(id, ConnectionKind::Closed));
    assert_eq!(talk.pairing.held(), 0, "what is over holds nothing");
    assert_eq!((endings.len() + talk.told().len()) as u64, 64 * CLIENTS, "none is lost silently");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut talk = Talk::new();
    talk.request("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nHEAD /3 HTTP/1.1\r\n\r\n");
    talk.response("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n");
    talk.response("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n");
    let ends =
        [("/1", 200), ("/2", 304), ("/3", 200)].map(|(path, status)| told(path, status, Ending::Complete));
    assert_eq!(talk.told(), ends);
    let sizes: Vec<_> = exchanges(&talk.events).iter().map(|e| (e.request_bytes, e.response_bytes)).collect();
    assert_eq!(sizes, [(19, 40), (19, 48), (20, 40)]);
}

#[test]
fn interim_responses_and_bodies_of_every_kind() {
    let mut talk = Talk::new();
    talk.request("POST /up HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    talk.response("HTTP/1.1 100 Continue\r\n\r\n").request("hello");
    talk.response("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
    talk.request("POST /chunks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /next HTTP/1.1\r\n\r\n");
    talk.response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .response("0\r\n\r\n");
    talk.response("HTTP/1.0 200 OK\r\n\r\nuntil the end").connection(ConnectionKind::Closed);
    let ends = [("/up", 204), ("/chunks", 200), ("/next", 200)].map(|(p, s)| told(p, s, Ending::Complete));
    assert_eq!(talk.told(), ends);
    let up = exchanges(&talk.events)[0];
    assert_eq!((up.request_bytes, up.response_bytes), (67, 25 + 37 + 27));
}

#[test]
fn how_exchanges_end_that_are_not_complete() {
    let mut talk = Talk::new();
    talk.request("GET /cut HTTP/1.1\r\n\r\nGET /silence HTTP/1.1\r\n\r\n");
    talk.response("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").connection(ConnectionKind::Closed);
    assert_eq!(talk.told(), [told("/cut", 200, Ending::Cut), told("/silence", 0, Ending::Unanswered)]);

    let mut talk = Talk::new();
    talk.request("GET /socket HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    talk.response("HTTP/1.1 101 Switching Protocols\r\n\r\n").response("GET /no HTTP/1.1\r\n\r\n");
    talk.request("GET /neither HTTP/1.1\r\n\r\n").connection(ConnectionKind::Closed);
    assert_eq!(talk.told(), [told("/socket", 101, Ending::Switched)]);

    let mut talk = Talk::new();
    talk.request("CONNECT h:443 HTTP/1.1\r\n\r\n")
        .response("HTTP/1.1 200 OK\r\n\r\n")
        .request("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(talk.told(), [told("h:443", 200, Ending::Switched)]);

    // The end of the response is not among what was captured: it is told after a while, and the next is right.
    let mut talk = Talk::new();
    talk.request("GET /unseen HTTP/1.1\r\n\r\n");
    talk.moved(true, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nab", 5000);
    assert_eq!(talk.told(), []);
    let (now, events) = (talk.now + 2_000_000_000, &mut talk.events);
    talk.pairing.tick(now, events);
    talk.request("GET /next HTTP/1.1\r\n\r\n").response("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(talk.told(), [told("/unseen", 200, Ending::Unseen), told("/next", 200, Ending::Complete)]);
}

#[test]
fn what_was_dropped_does_not_mix_exchanges() {
    // The second half of a response's body, and the next request, were dropped.
    let mut talk = Talk::new();
    talk.request("GET /1 HTTP/1.1\r\n\r\n").response("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    talk.pairing.records_were_lost();
    talk.request("GET /3 HTTP/1.1\r\n\r\n").response("HTTP/1.1 203 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(talk.told(), [told("/1", 200, Ending::Unseen), told("/3", 203, Ending::Complete)]);
    // Data of a connection that nothing is known of.
    let mut talk = Talk::new();
    talk.connection(ConnectionKind::Closed);
    talk.request("GET / HTTP/1.1\r\n\r\n");
    assert_eq!((talk.told().len(), talk.pairing.counts().orphans), (0, 1));
    // A response without its request.
    let mut talk = Talk::new();
    talk.response("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").request("GET /x HTTP/1.1\r\n\r\n");
    talk.response("HTTP/1.1 404 no\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((talk.told(), talk.pairing.counts().unpaired), (vec![told("/x", 404, Ending::Complete)], 1));
}

#[test]
fn what_a_peer_can_make_it_keep_is_bounded() {
    let mut talk = Talk::new();
    for n in 0..10_000 {
        talk.request(&format!("GET /{n} HTTP/1.1\r\n\r\n"));
    }
    // The oldest give way.
    assert_eq!(talk.told().len(), 10_000 - 64);
    assert!(talk.told().iter().all(|(_, status, ending)| status.is_none() && *ending == Ending::Unseen));
    let mut talk = Talk::new();
    for _ in 0..1000 {
        talk.request("GET /endless-head HTTP/1.1 and-so-on\r\nX: y\r\n");
    }
    assert_eq!(talk.told(), []);
}

#[test]
fn rows_hold_what_happened_and_nothing_else() {
    let mut talk = Talk::new();
    talk.request("GET /a?token=x HTTP/1.1\r\nHost: h\r\nCookie: secret\r\n\r\n");
    talk.response("HTTP/1.1 503 no\r\nSet-Cookie: secret\r\nContent-Length: 6\r\n\r\nsecret");
    let mut out = Vec::new();
    let exchange = talk.events.iter().find(|e| matches!(e, TraceEvent::Exchange(_))).unwrap();
    assert!(row::write(exchange, &mut out));
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let row: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&row["level"], &row["message"]), (&"error".into(), &"GET /a 503 1.000 ms".into()));
    assert_eq!((&row["client"], &row["server"]), (&"10.0.0.9:40000".into(), &"127.0.0.1:80".into()));
    assert_eq!((&row["pid"], &row["tid"], &row["comm"]), (&7.into(), &8.into(), &"server".into()));
    assert!(row.get("trace_id").is_none() && row.get("container_id").is_none());
}

proptest! {
    /// However a conversation is cut into calls, the same exchanges are told.
    #[test]
    fn calls_may_be_cut_anywhere(cuts in prop::collection::vec(1usize..40, 1..60)) {
        let requests = "GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\n\r\n";
        let responses = "HTTP/1.1 200 a\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 201 b\r\nTransfer-Encoding: chunked\r\n\r\n\
            1\r\nx\r\n0\r\n\r\nHTTP/1.1 202 c\r\nContent-Length: 0\r\n\r\n";
        let mut talk = Talk::new();
        let mut sizes = cuts.iter().cycle();
        for (sent, mut rest) in [(false, requests.as_bytes()), (true, responses.as_bytes())] {
            while !rest.is_empty() {
                let (some, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                talk.moved(sent, some, 0);
                rest = after;
            }
        }
        let ends = [("/1", 200), ("/2", 201), ("/3", 202)].map(|(p, s)| told(p, s, Ending::Complete));
        prop_assert_eq!(talk.told(), ends);
    }

    /// Whatever the bytes and whatever is missing, nothing panics, and every request is told at most once.
    #[test]
    fn anything_may_come(
        calls in prop::collection::vec((any::<bool>(), "[GETPOSHTP/1. 2045\r\n:aChunkedLength-]{0,60}", 0usize..5000), 0..40)
    ) {
        let mut talk = Talk::new();
        for (sent, text, unseen) in &calls {
            talk.moved(*sent, text.as_bytes(), *unseen);
        }
        talk.connection(ConnectionKind::Closed);
        let requests = talk.events.iter().filter(|e| matches!(e, TraceEvent::Request(_))).count();
        prop_assert_eq!(talk.told().len(), requests);
    }
}
