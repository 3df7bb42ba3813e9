//! Hostile and mistaken requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::harness::{Plain, Server, bounds, options};
use crate::net::Policy;

async fn response(server: &Server, target: &str, headers: &str) -> String {
    server.get(target, &format!("{headers}connection: close\r\n")).await.finish().await
}

async fn raw(server: &Server, request: &str) -> String {
    let mut client = server.connect().await;
    client.send(request).await;
    client.finish().await
}

#[tokio::test]
async fn mistakes_are_answered_with_problems_that_help() {
    let mut server = Server::start(Policy::default()).await;
    for name in ["app", "billing"] {
        server.mount(name, bounds(10), options(), Arc::new(Plain));
    }
    for (target, status, says) in [
        ("/app/stream?levle=warn", 400, "did you mean `level`?"),
        ("/app/stream?q=error+AND", 400, "invalid parameter `q`: nothing follows `AND`"),
        ("/app/stream?include=(", 400, "invalid parameter `include`"),
        ("/app/stream?tail=x", 400, "whole number"),
        ("/_stream", 400, "ask for /_stream?p=app,billing"),
        ("/_stream?p=app,biling", 404, "did you mean `billing`?"),
        ("/nothing", 404, "nothing here"),
        ("/../app/stream", 400, "broken path"),
        ("/%2e%2e/app/stream", 400, "broken path"),
        ("/app%2fstream", 400, "broken path"),
        ("/app/stream%00", 400, "NUL"),
    ] {
        let text = response(&server, target, "").await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {text}");
        assert!(
            text.contains("content-type: application/problem+json") && text.contains(says),
            "{target}: {text}"
        );
        let body = text.split("\r\n\r\n").nth(1).unwrap();
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["status"], status);
    }
}

#[tokio::test]
async fn targets_without_a_path_are_answered() {
    let (server, _ring) = Server::with_app(10).await;
    for (request, status) in [
        ("GET localhost", 400),
        ("GET localhost:80", 400),
        ("CONNECT localhost:80", 400),
        ("GET *", 400),
        ("OPTIONS *", 204),
        ("GET http://localhost", 404),
    ] {
        let text = raw(&server, &format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {text}");
    }
}

#[tokio::test]
async fn methods_are_held_to() {
    let (server, _ring) = Server::with_app(10).await;
    let text = raw(
        &server,
        "POST /app/stream HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(text.starts_with("HTTP/1.1 405") && text.contains("allow: GET, HEAD, OPTIONS"), "{text}");
    let text = raw(&server, "HEAD /app/stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains("text/event-stream") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
    let text = raw(&server, "OPTIONS /app/stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(
        text.starts_with("HTTP/1.1 204") && text.contains("allow: GET") && !text.contains("access-control"),
        "{text}"
    );
    let old = raw(&server, "GET /app/stream?tail=1&limit=0 HTTP/1.0\r\n\r\n").await;
    assert!(
        old.starts_with("HTTP/1.0 200") && !old.contains("chunked") && old.contains("event: bye"),
        "{old}"
    );
}

#[tokio::test]
async fn web_pages_of_others_are_kept_out() {
    let policy = Policy { cors_origins: vec!["https://ops.example.com".into()], ..Policy::default() };
    let mut server = Server::start(policy).await;
    server.mount("app", bounds(10), options(), Arc::new(Plain));
    let foreign =
        raw(&server, "GET /app/stream HTTP/1.1\r\nhost: evil.example:80\r\nconnection: close\r\n\r\n").await;
    assert!(foreign.starts_with("HTTP/1.1 403") && foreign.contains("foreign host"), "{foreign}");
    let configured = raw(&server, "GET /app/stream?limit=0 HTTP/1.1\r\nhost: ops.example.com\r\n\r\n").await;
    assert!(configured.starts_with("HTTP/1.1 200"), "{configured}");
    let two =
        raw(&server, "GET /x HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\nconnection: close\r\n\r\n")
            .await;
    assert!(two.starts_with("HTTP/1.1 400"), "{two}");
    let other = response(&server, "/app/stream?limit=0", "origin: https://evil.example\r\n").await;
    assert!(!other.contains("access-control"), "{other}");
    for target in ["/app/stream?limit=0", "/nothing"] {
        let allowed = response(&server, target, "origin: https://ops.example.com\r\n").await;
        assert!(allowed.contains("access-control-allow-origin: https://ops.example.com"), "{allowed}");
    }
}

#[tokio::test]
async fn heads_are_bounded_in_size_number_and_time() {
    let policy = Policy { header_timeout: Duration::from_millis(200), ..Policy::default() };
    let mut server = Server::start(policy).await;
    server.mount("app", bounds(10), options(), Arc::new(Plain));
    let mut large = server.connect().await;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(1 << 20));
    // The server hangs up in the middle of it.
    large.socket.write_all(head.as_bytes()).await.ok();
    let text = large.finish().await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    let mut many = server.connect().await;
    many.socket
        .write_all(format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100_000)).as_bytes())
        .await
        .ok();
    let text = many.finish().await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    let mut silent = server.connect().await;
    assert_eq!(silent.finish().await, "", "a client that says nothing is let go");
    let mut lingering = server.get("/nothing", "").await;
    assert!(lingering.finish().await.starts_with("HTTP/1.1 404"), "and one that has no more to say");
    let mut slow = server.connect().await;
    let writing = async {
        for byte in "GET /app/stream HTTP/1.1\r\nhost: localhost\r\n".chars() {
            if slow.socket.write_all(byte.to_string().as_bytes()).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        slow.finish().await
    };
    let text = tokio::time::timeout(Duration::from_secs(3), writing).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("did not come within 200ms"), "{text}");
}

#[tokio::test]
async fn heads_that_cannot_be_served_are_answered_with_a_reason() {
    let server = Server::start(Policy::default()).await;
    let chunked = "transfer-encoding: chunked\r\n";
    let cases = [
        ("\x00\x01\x02\r\n\r\n".to_owned(), 400, "its head is not HTTP/1.1"),
        (
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n".to_owned(),
            400,
            "a head line or length is broken",
        ),
        (
            "GET /app/stream?q=\"a b\" HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
            400,
            "percent-encoded (curl -G --data-urlencode 'q=…')",
        ),
        (
            format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200)),
            431,
            "at most 32KiB in 100 lines",
        ),
        // Within what hyper reads at once, and longer than what is promised.
        (format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(34 << 10)), 431, "too large"),
        (
            format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n{chunked}\r\n0\r\n\r\n"),
            400,
            "and so two ends",
        ),
        (
            format!("POST / HTTP/1.1\r\nhost: x\r\n{chunked}content-length: 5\r\n\r\n0\r\n\r\n"),
            400,
            "and so two ends",
        ),
    ];
    for (request, status, says) in cases {
        let text = raw(&server, &request).await;
        let shown = &request[..request.len().min(80)];
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {text}");
        assert!(text.contains("connection: close\r\n") && text.contains(says), "{shown:?}: {text}");
        let body = text.split("\r\n\r\n").nth(1).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["status"], status);
    }
    // Behind requests that are served, and what follows it is not served.
    let get = "GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let both = format!("POST / HTTP/1.1\r\nhost: x\r\n{chunked}content-length: 3\r\n\r\n0\r\n\r\n");
    let text = raw(&server, &[get, &both, get].concat()).await;
    let answers: Vec<_> = text.match_indices("HTTP/1.1 ").map(|(at, _)| &text[at + 9..at + 12]).collect();
    assert_eq!(answers, ["404", "400"], "{text}");
}

#[tokio::test]
async fn who_says_no_more_still_hears_the_answer() {
    let server = Server::start(Policy::default()).await;
    let mut client = server.get("/slow", "").await;
    client.socket.shutdown().await.unwrap();
    assert!(client.finish().await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_is_let_go() {
    let policy = Policy { write_timeout: Duration::from_millis(200), ..Policy::default() };
    let server = Server::start(policy).await;
    let mut client = server.connect().await;
    let asking = async {
        loop {
            if client.socket.write_all(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n").await.is_err() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking).await.expect("the server hangs up");
}

#[tokio::test]
async fn a_client_that_talks_while_it_listens_is_let_go() {
    let (server, ring) = Server::with_app(10).await;
    let mut client = server.get("/app/stream", "").await;
    client.until_has("hello").await;
    client.socket.write_all(&vec![b'x'; 1 << 20]).await.ok();
    client.finish().await;
    for _ in 0..100 {
        if ring.followers() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still there");
}

#[tokio::test]
async fn ten_thousand_come_and_go() {
    let (server, ring) = Server::with_app(10).await;
    let mut following = server.get("/app/stream", "").await;
    following.until_has("hello").await;
    for round in 0..100 {
        let mut clients = Vec::new();
        for n in 0..100 {
            clients.push(if n % 4 == 0 {
                server.connect().await
            } else {
                server.get("/app/stream", "").await
            });
        }
        super::harness::say(&ring, [round.to_string()]);
    }
    let rows = following.until_rows(100).await;
    assert!(rows.iter().enumerate().all(|(n, row)| row.message() == n.to_string()));
    for _ in 0..500 {
        if ring.followers() == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} still there", ring.followers());
}

#[tokio::test]
async fn an_address_in_use_is_named_with_a_hint() {
    let taken = crate::net::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let e = crate::net::bind(&address).await.unwrap_err().to_string();
    assert!(e.starts_with(&format!("cannot listen on {address}: address in use; hint: ")), "{e}");
}
