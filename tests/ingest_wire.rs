//! Events posted by clients that misbehave on the wire: raw sockets that stand still, break off, or say one thing and
//! mean another.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use support::PATIENCE;
use support::curl::Answer;
use support::ingest::{out, started};
use support::weir::{Place, Weir};

/// A connection that sends what it is told to.
fn raw(weir: &Weir) -> TcpStream {
    let stream = TcpStream::connect(weir.authority()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn head(weir: &Weir, more: &str) -> String {
    format!(
        "POST /app/ingest HTTP/1.1\r\nhost: {}\r\ncontent-type: text/plain\r\n{more}\r\n",
        weir.authority()
    )
}

fn read_all(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).ok();
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn requests_in_a_row_are_answered_in_order_on_one_connection() {
    let place = Place::new();
    let weir = started(&place, "");
    let mut stream = raw(&weir);
    let mut requests = String::new();
    for line in ["one", "two", "three"] {
        requests.push_str(&head(&weir, &format!("content-length: {}\r\n", line.len())));
        requests.push_str(line);
    }
    requests.push_str(&head(&weir, "connection: close\r\ncontent-length: 4\r\n"));
    requests.push_str("last");
    stream.write_all(requests.as_bytes()).unwrap();
    let answers = read_all(stream);
    assert_eq!(answers.matches("{\"accepted\":1,\"dropped\":0}").count(), 4, "{answers}");
    assert_eq!(out(&place), "one\ntwo\nthree\nlast\n");
}

#[test]
fn a_client_that_waits_to_be_told_is_told_to_go_on() {
    let place = Place::new();
    let weir = started(&place, "");
    let mut stream = raw(&weir);
    let request = head(&weir, "expect: 100-continue\r\nconnection: close\r\ncontent-length: 5\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut said = [0; 25];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    assert_eq!(Answer::parse(&read_all(stream)).code, 200);
    // One whose body is too large is not asked for it.
    let mut stream = raw(&weir);
    let request = head(&weir, "expect: 100-continue\r\ncontent-length: 99999999999\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let answer = read_all(stream);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(out(&place), "hello\n");
}

#[test]
fn a_body_that_stands_still_or_trickles_is_ended() {
    let place = Place::new();
    let weir = started(&place, "read_timeout = \"300ms\"");
    // Stands still.
    let mut still = raw(&weir);
    still.write_all(head(&weir, "content-length: 100\r\n").as_bytes()).unwrap();
    still.write_all(b"half").unwrap();
    assert_eq!(Answer::parse(&read_all(still)).code, 408);
    // A byte every 50 ms is progress, but no pace.
    let mut slow = raw(&weir);
    slow.write_all(head(&weir, "content-length: 100000\r\n").as_bytes()).unwrap();
    let mut sent = 0;
    while slow.write_all(b"x").is_ok() {
        sent += 1;
        assert!(sent < 400, "it goes on for ever");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(out(&place), "");
    assert_eq!(weir.component("app", "app.source.0.http")["received"], 0);
}

#[test]
fn clients_that_break_off_leave_nothing_and_hold_nobody_up() {
    let place = Place::new();
    let weir = started(&place, "");
    for _ in 0..50 {
        let mut stream = raw(&weir);
        stream.write_all(head(&weir, "content-length: 1000\r\n").as_bytes()).unwrap();
        stream.write_all(b"half a line\nand a ha").unwrap();
    }
    let mut whole = raw(&weir);
    whole.write_all(head(&weir, "connection: close\r\ncontent-length: 5\r\n").as_bytes()).unwrap();
    whole.write_all(b"whole").unwrap();
    assert_eq!(Answer::parse(&read_all(whole)).code, 200);
    assert_eq!(out(&place), "whole\n");
    assert_eq!(weir.stop().matches("ERROR").count(), 0);
}

#[test]
fn a_client_that_ends_its_side_or_leaves_once_its_request_is_out_has_posted_all_the_same() {
    let place = Place::new();
    let weir = started(&place, "");
    // As `nc -N` does.
    let mut ended = raw(&weir);
    ended.write_all(format!("{}one", head(&weir, "content-length: 3\r\n")).as_bytes()).unwrap();
    ended.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(Answer::parse(&read_all(ended)).code, 200);
    // As loggers do that do not care for the answer.
    for _ in 0..50 {
        let mut left = raw(&weir);
        left.write_all(format!("{}two", head(&weir, "content-length: 3\r\n")).as_bytes()).unwrap();
    }
    let text = format!("one\n{}", "two\n".repeat(50));
    support::eventually("all of it is taken in", || (out(&place) == text).then_some(()));
    weir.stop();
}

#[test]
fn smuggled_requests_are_not_taken_for_two() {
    let place = Place::new();
    let weir = started(&place, "");
    let inner = format!(
        "POST /app/ingest HTTP/1.1\r\nhost: {}\r\ncontent-length: 8\r\n\r\nsmuggled",
        weir.authority()
    );
    for headers in [
        "content-length: 5\r\ncontent-length: 6\r\n".to_owned(),
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".to_owned(),
        "content-length: -1\r\n".to_owned(),
        "content-length: 5, 5\r\ntransfer-encoding: xchunked\r\n".to_owned(),
        "transfer-encoding : chunked\r\n".to_owned(),
    ] {
        let mut stream = raw(&weir);
        stream.write_all(head(&weir, &headers).as_bytes()).unwrap();
        stream.write_all(b"0\r\n\r\n").ok();
        stream.write_all(inner.as_bytes()).ok();
        let answers = read_all(stream);
        assert!(answers.starts_with("HTTP/1.1 4") || answers.is_empty(), "{headers:?}: {answers}");
    }
    // Both a length and chunks, whichever comes first: whoever stands before us may see another end.
    let chunked = "transfer-encoding: chunked\r\n";
    for headers in [format!("content-length: 3\r\n{chunked}"), format!("{chunked}content-length: 3\r\n")] {
        let mut stream = raw(&weir);
        stream.write_all(head(&weir, &headers).as_bytes()).unwrap();
        stream.write_all(format!("5\r\nabcde\r\n0\r\n\r\n{inner}").as_bytes()).ok();
        let answers = read_all(stream);
        assert!(answers.starts_with("HTTP/1.1 400") && answers.contains("two ends"), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    }
    assert_eq!(out(&place), "");
}

#[test]
fn pages_that_the_server_allows_may_post_to_a_listener_of_its_own() {
    let place = Place::new();
    let port = support::free_port();
    let weir = place.started(&format!(
        "server.cors_origins = [\"https://ops.example\"]\n[[pipelines]]\nname = \"app\"\n\
         sources = [{{ type = \"http\", listen = \"127.0.0.1:{port}\" }}]\nsinks = [{{ type = \"null\" }}]\n"
    ));
    for (origin, code) in [("https://ops.example", 200), ("https://evil.example", 403)] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let more = format!("origin: {origin}\r\nconnection: close\r\ncontent-length: 1\r\n");
        stream.write_all(format!("{}x", head(&weir, &more)).as_bytes()).unwrap();
        let answer = Answer::parse(&read_all(stream));
        assert_eq!(answer.code, code, "{answer:?}");
        assert_eq!(answer.head.contains("access-control-allow-origin"), code == 200, "{answer:?}");
    }
    weir.stop();
}

#[test]
fn who_waits_at_the_end_hears_what_became_of_it_on_every_listener() {
    let place = Place::new();
    let port = support::free_port();
    let mut weir = place.start(&format!(
        "shutdown_timeout = \"500ms\"\n[[pipelines]]\nname = \"app\"\n\
         sources = [{{ type = \"http\" }}, {{ type = \"http\", listen = \"127.0.0.1:{port}\" }}]\n\
         sinks = [{{ type = \"tcp_client\", address = \"127.0.0.1:1\" }}]\n"
    ));
    weir.wait_listening("/healthz", 200);
    let listening = || TcpStream::connect(("127.0.0.1", port)).ok();
    let own = support::eventually("its own listener is there", listening);
    let mut waiting = [raw(&weir), own];
    for stream in &mut waiting {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{}lost", head(&weir, "content-length: 4\r\n")).as_bytes()).unwrap();
    }
    support::eventually("both are on their way", || {
        (weir.component("app", "app.sink.0.tcp_client")["queued"] == 2).then_some(())
    });
    weir.signal("TERM");
    for stream in waiting {
        let answer = Answer::parse(&read_all(stream));
        assert_eq!(answer.code, 503, "{answer:?}");
        assert!(answer.body.contains("send them again"), "{answer:?}");
    }
    assert_eq!(weir.wait(), 74);
}
