//! Control: heartbeats, drops, byes, deadlines, bounds on subscribers.

use std::sync::Arc;
use std::time::Duration;

use super::harness::{Plain, Server, body, bounds, dechunk, options, say};
use crate::net::notes::HeartbeatStyle;
use crate::net::ring::RingBounds;
use crate::net::{Policy, StreamOptions};

async fn beating(style: HeartbeatStyle, stats: bool) -> Server {
    let mut server = Server::start(Policy::default()).await;
    let options = StreamOptions {
        heartbeat: Some(Duration::from_millis(20)),
        heartbeat_style: style,
        heartbeat_stats: stats,
        ..options()
    };
    server.mount("app", bounds(10), options, Arc::new(Plain));
    server
}

#[tokio::test]
async fn heartbeats_come_while_idle_in_the_chosen_style() {
    use HeartbeatStyle::{Comment, Event, Json};
    for (style, stats, target, expected) in [
        (Comment, false, "/app/stream", ":hb\n\n"),
        (Comment, true, "/app/stream", ":hb {\"streams\":[{\"pipeline\":\"app\",\"next\":"),
        (Event, false, "/app/stream", "event: ping\ndata: {}\n\n"),
        (Comment, false, "/app/stream?ping=event", "event: ping\ndata: {}\n\n"),
        (Json, false, "/app/stream", "data: {\"weir\":\"heartbeat\"}\n\n"),
        (Json, false, "/app/stream?format=ndjson", "{\"weir\":\"heartbeat\"}\n"),
    ] {
        let server = beating(style, stats).await;
        let mut client = server.get(target, "").await;
        client
            .until(|read| {
                let text = String::from_utf8(dechunk(body(read.as_bytes()))).unwrap();
                let greeting = text.find("hello").unwrap_or(0);
                text[greeting..].matches(expected).count() >= 2
            })
            .await;
    }
}

#[tokio::test]
async fn a_reader_of_lines_gets_lines_only() {
    let server = beating(HeartbeatStyle::Comment, false).await;
    for format in ["raw", "ndjson"] {
        let mut client = server.get(&format!("/app/stream?format={format}"), "").await;
        client.until_has("\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(80)).await;
        say(&server.router.stream_of("app").unwrap().ring, ["a row"]);
        let text = client.until_has("a row").await;
        assert_eq!(dechunk(body(text.as_bytes())).iter().filter(|b| **b == b'\n').count(), 1, "{text}");
    }
}

#[tokio::test]
async fn draining_ends_streams_with_all_rows_and_a_bye() {
    let (mut server, ring) = Server::with_app(10).await;
    let mut client = server.get("/app/stream", "").await;
    let mut idle = server.connect().await;
    client.until_has("hello").await;
    server.shutdown.drain();
    // The sink is still emptying its buffer.
    tokio::time::sleep(Duration::from_millis(30)).await;
    say(&ring, ["last words"]);
    server.attached.clear();
    let text = client.finish().await;
    assert!(
        text.find("last words").unwrap() < text.find("event: bye\ndata: {\"reason\":\"shutdown\"}").unwrap()
    );
    assert!(text.ends_with("0\r\n\r\n"));
    idle.finish().await;
    tokio::time::timeout(Duration::from_secs(5), server.served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_removed_pipeline_says_bye_and_is_gone() {
    let (server, ring) = Server::with_app(10).await;
    let mut client = server.get("/app/stream", "").await;
    client.until_has("hello").await;
    say(&ring, ["x"]);
    server.router.retain(|site| site.starts_with("other."));
    let text = client.finish().await;
    assert!(text.contains("event: bye") && text.contains("\"x\""), "{text}");
    assert!(
        server.get("/app/stream", "connection: close\r\n").await.finish().await.starts_with("HTTP/1.1 404")
    );
}

#[tokio::test]
async fn a_slow_reader_is_told_exactly_what_it_lost_and_disturbs_nobody() {
    let mut server = Server::start(Policy::default()).await;
    let small = RingBounds {
        history_events: 10,
        history_bytes: 1 << 20,
        live_bytes: 1 << 20,
        ..RingBounds::default()
    };
    let ring = server.mount("app", small, options(), Arc::new(Plain));
    let mut slow = server.get("/app/stream", "").await;
    let mut quick = server.get("/app/stream", "").await;
    slow.until_has("hello").await;
    quick.until_has("hello").await;
    let line = "z".repeat(1000);
    let (batches, rows) = (400, 100);
    for batch in 0..batches {
        say(&ring, vec![&line; rows]);
        let upto = (batch + 1) * rows;
        // The quick one keeps up, whatever the slow one does.
        quick.until(|read| read.contains(&format!("-{upto}\n"))).await;
        quick.read.clear();
    }
    say(&ring, ["the end"]);
    slow.until_has("the end").await;
    let (mut next, mut missed) = (1, 0);
    for event in slow.events() {
        match event.kind.as_str() {
            "" => {
                assert_eq!(event.seq(), next);
                next += 1;
            }
            "drop" => {
                let drop = event.json();
                let count = drop["missed"].as_u64().unwrap();
                assert_eq!(drop["from"], ring.epoch().id(next));
                assert_eq!(drop["to"], ring.epoch().id(next + count - 1));
                (next, missed) = (next + count, missed + count);
            }
            _ => assert_eq!(event.kind, "hello"),
        }
    }
    assert_eq!(next, (batches * rows) as u64 + 2);
    assert!(missed > 0, "the sockets' buffers took it all");
    assert_eq!(server.meter.snapshot().client_drops, missed);
}

#[tokio::test]
async fn a_reader_that_stopped_is_let_go_after_the_deadline() {
    let mut server = Server::start(Policy::default()).await;
    let options = StreamOptions { write_timeout: Duration::from_millis(200), ..options() };
    let ring = server.mount("app", bounds(10), options, Arc::new(Plain));
    let mut stuck = server.get("/app/stream", "").await;
    stuck.until_has("hello").await;
    let line = "z".repeat(10_000);
    for _ in 0..100 {
        if ring.followers() == 0 {
            break;
        }
        say(&ring, vec![&line; 100]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let meter = server.meter.snapshot();
    assert_eq!((ring.followers(), meter.clients), (0, 0));
    assert!(meter.client_drops > 0, "what it did not get is counted");
}

#[tokio::test]
async fn one_more_subscriber_than_allowed_is_told_to_come_back() {
    let mut server = Server::start(Policy::default()).await;
    let ring =
        server.mount("app", bounds(10), StreamOptions { connections_max: 2, ..options() }, Arc::new(Plain));
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = server.get("/app/stream", "").await;
        client.until_has("hello").await;
        clients.push(client);
    }
    let text = server.get("/app/stream", "connection: close\r\n").await.finish().await;
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("retry-after: 5"), "{text}");
    clients.pop();
    // A client that left is noticed without a write.
    for _ in 0..200 {
        if ring.followers() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.get("/app/stream", "").await.until_has("hello").await;
}

#[tokio::test]
async fn a_restarted_sink_keeps_its_stream_and_history() {
    let (mut server, ring) = Server::with_app(10).await;
    say(&ring, ["before"]);
    let mut client = server.get("/app/stream?tail=1", "").await;
    client.until_rows(1).await;
    server.attached.clear();
    let again = server.mount("app", bounds(10), options(), Arc::new(Plain));
    assert!(Arc::ptr_eq(&ring, &again));
    say(&again, ["after"]);
    assert_eq!(client.until_rows(2).await[1].seq(), 2);
}
