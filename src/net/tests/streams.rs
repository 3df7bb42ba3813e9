//! Streams: order, resume, replay to live, selection, forms.

use std::sync::Arc;

use super::harness::{Event, Plain, RawOwn, Server, body, bounds, dechunk, options, say};
use crate::batch::Batch;
use crate::net::Policy;

fn messages(events: &[Event]) -> Vec<String> {
    events.iter().map(Event::message).collect()
}

#[tokio::test]
async fn begins_with_retry_heartbeat_and_hello_then_live_rows() {
    let (server, ring) = Server::with_app(10).await;
    say(&ring, ["before"]);
    let mut client = server.get("/app/stream", "").await;
    let head = client.until_has("hello").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"), "{head}");
    for line in [
        "cache-control: no-cache, no-transform",
        "x-accel-buffering: no",
        "transfer-encoding: chunked",
        "date: ",
    ] {
        assert!(head.contains(line), "{line} is missing: {head}");
    }
    assert!(!head.contains("access-control"), "{head}");
    assert!(
        dechunk(body(head.as_bytes())).starts_with(b"retry: 3000\n:hb\n\nevent: hello\ndata: {"),
        "{head}"
    );
    say(&ring, ["one", "two"]);
    let rows = client.until_rows(2).await;
    assert_eq!(messages(&rows), ["one", "two"]);
    assert_eq!((rows[0].seq(), rows[1].seq()), (2, 3));
    assert_eq!(server.meter.snapshot().clients, 1);
}

#[tokio::test]
async fn resumes_without_loss_or_repeat_while_rows_keep_coming() {
    let (server, ring) = Server::with_app(100_000).await;
    let writer = crate::base::task::spawn({
        let ring = ring.clone();
        async move {
            for n in 0..2000u32 {
                say(&ring, (0..n % 7).map(|i| format!("{n}.{i}")));
                if n % 16 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    let total: usize = (0..2000).map(|n| n % 7).sum();
    let (mut seqs, mut last) = (Vec::new(), None);
    // Leaves after some rows and comes back where it was, again and again.
    for round in 0.. {
        let headers = match &last {
            None => String::new(),
            Some(id) if round % 2 == 0 => format!("last-event-id: {id}\r\n"),
            Some(_) => String::new(),
        };
        let target = match &last {
            None => "/app/stream?tail=100000".to_owned(),
            Some(id) if round % 2 == 1 => format!("/app/stream?last_event_id={id}"),
            Some(_) => "/app/stream".to_owned(),
        };
        let mut client = server.get(&target, &headers).await;
        let rows = client.until_rows(400.min(total - seqs.len())).await;
        assert!(client.events().iter().all(|e| e.kind.is_empty() || e.kind == "hello"));
        seqs.extend(rows.iter().map(Event::seq));
        last = rows.last().map(|e| e.id.clone());
        if seqs.len() >= total {
            break;
        }
    }
    writer.await.unwrap();
    assert_eq!(seqs, (1..=total as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_learns_how_far_history_goes_and_when_it_is_behind_it() {
    let mut server = Server::start(Policy::default()).await;
    let [app, web] = ["app", "web"].map(|name| server.mount(name, bounds(10), options(), Arc::new(Plain)));
    let hello = async |target: &str| {
        let mut client = server.get(target, "").await;
        client.until_has("newest").await;
        let hello = client.events().into_iter().find(|e| e.kind == "hello").unwrap().json();
        let id = |key: &str| hello[key].as_str().unwrap().split_once('-').unwrap().1.to_owned();
        (client, id("next"), id("newest"))
    };
    let at = |next: &str, newest: &str| (next.to_owned(), newest.to_owned());
    let (_none, next, newest) = hello("/app/stream?tail=5").await;
    assert_eq!((next, newest), at("1", "0"));
    say(&app, (1..=20).map(|n| if n == 17 { "wanted".to_owned() } else { n.to_string() }));
    say(&web, ["one"]);
    let (_live, next, newest) = hello("/app/stream").await;
    assert_eq!((next, newest), at("21", "20"));
    // Its last row is no longer the newest there is: what stands behind it says so, once.
    let (mut filtered, next, newest) = hello("/app/stream?tail=5&q=wanted").await;
    assert_eq!((next, newest), at("17", "20"));
    let position = format!("\nid: {}\n\n", app.epoch().id(20));
    filtered.until_has(&position).await;
    let (mut whole, next, newest) = hello("/_stream?p=app,web&tail=2").await;
    assert_eq!((next, newest), at("app:19,web:1", "app:20,web:1"));
    let (mut none, ..) = hello("/_stream?p=app,web&tail=9&q=nothing+OR+wanted").await;
    none.until_has(&format!("\nid: {}-app:20,web:1\n\n", app.epoch())).await;
    say(&app, ["wanted"]);
    say(&web, ["wanted"]);
    for (client, rows, positions) in [(&mut filtered, 2, 1), (&mut whole, 5, 0), (&mut none, 3, 1)] {
        client.until(|text| text.matches("\"message\"").count() == rows).await;
        let text = String::from_utf8_lossy(&dechunk(body(&client.read))).into_owned();
        let alone = text.split("\n\n").filter(|event| event.starts_with("id: ") && !event.contains("data"));
        assert_eq!(alone.count(), positions, "{text}");
    }
}

#[tokio::test]
async fn what_history_lacks_is_announced_exactly() {
    let (server, ring) = Server::with_app(10).await;
    say(&ring, (1..=100).map(|n| n.to_string()));
    let epoch = ring.epoch().clone();
    let mut client = server.get("/app/stream", &format!("last-event-id: {}\r\n", epoch.id(5))).await;
    let rows = client.until_rows(10).await;
    assert_eq!((rows[0].seq(), rows[0].message()), (91, "91".to_owned()));
    let gap = client.events().into_iter().find(|e| e.kind == "gap").unwrap().json();
    let expected = (85, epoch.id(6), epoch.id(90));
    assert_eq!(
        (&gap["missed"], &gap["from"], &gap["to"]),
        (&expected.0.into(), &expected.1.into(), &expected.2.into())
    );
    // The newest event, and one just within history: nothing is missing.
    for (after, rows) in [(90, 10), (100, 1)] {
        let mut client = server.get("/app/stream", &format!("last-event-id: {}\r\n", epoch.id(after))).await;
        if after == 100 {
            client.until_has("hello").await;
            say(&ring, ["101"]);
        }
        client.until_rows(rows).await;
        assert!(client.events().iter().all(|e| e.kind != "gap"), "{after}");
    }
}

#[tokio::test]
async fn ids_nobody_gave_out_are_a_gap_of_unknown_size() {
    let (server, ring) = Server::with_app(10).await;
    say(&ring, ["a", "b"]);
    let ahead = ring.epoch().id(99);
    for id in ["zzz-1", "17", "nonsense \u{e9}", "-", &ahead] {
        let mut client = server.get("/app/stream", &format!("last-event-id: {id}\r\n")).await;
        assert_eq!(messages(&client.until_rows(2).await), ["a", "b"], "{id}");
        let gap = client.events().into_iter().find(|e| e.kind == "gap").unwrap().json();
        assert!(gap["missed"].is_null(), "{gap}");
    }
    let mut client = server.get("/app/stream?tail=1&last_event_id=%0d%0aevent:x", "").await;
    let rows = client.until_rows(2).await;
    assert_eq!(messages(&rows), ["a", "b"]);
    let mut client = server.get("/app/stream?tail=1", "last-event-id: \r\n").await;
    assert_eq!(messages(&client.until_rows(1).await), ["b"], "an empty id is none");
}

#[tokio::test]
async fn a_resumed_stream_is_whole_whatever_it_started_with() {
    let (server, ring) = Server::with_app(1000).await;
    // Old by what the lines say: a client that comes back after an outage finds all of them behind its `since`.
    say(&ring, (0..5).map(|n| format!("2001-01-01T00:00:0{n}Z row")));
    let mut client =
        server.get("/app/stream?since=1h", &format!("last-event-id: {}\r\n", ring.epoch().id(2))).await;
    let seqs: Vec<u64> = client.until_rows(3).await.iter().map(Event::seq).collect();
    assert_eq!(seqs, [3, 4, 5]);
    let mut client = server.get("/app/stream?since=1h", "last-event-id: other-2\r\n").await;
    client.until_has("event: gap").await;
    say(&ring, ["live"]);
    assert_eq!(client.until_rows(1).await[0].seq(), 6, "of an earlier run nothing but the time is known");
}

#[tokio::test]
async fn tail_since_limit_and_patterns_select() {
    let (server, ring) = Server::with_app(1000).await;
    say(&ring, (0..50).map(|n| format!("row {n} {}", if n % 10 == 3 { "odd" } else { "even" })));
    for (query, expected) in [
        ("tail=2&limit=2", vec!["row 48 even", "row 49 even"]),
        ("tail=2&include=odd&limit=2", vec!["row 33 odd", "row 43 odd"]),
        ("since=1h&include=%5Erow%201%5B0-2%5D&exclude=11", vec!["row 10 even", "row 12 even"]),
        ("since=1h&include=%20odd$&exclude=1&exclude=2&limit=2", vec!["row 3 odd", "row 33 odd"]),
        ("tail=1000&include=row+0%20&include=row+7%20", vec!["row 0 even", "row 7 even"]),
    ] {
        let mut client = server.get(&format!("/app/stream?{query}"), "").await;
        assert_eq!(messages(&client.until_rows(expected.len()).await), expected, "{query}");
    }
    let mut client = server.get("/app/stream?tail=3&limit=2", "").await;
    let text = client.finish().await;
    assert!(
        text.contains("event: bye\ndata: {\"reason\":\"limit\"}") && text.ends_with("0\r\n\r\n"),
        "{text}"
    );
    let none = server.get("/app/stream?tail=3&limit=0", "").await.finish().await;
    assert!(!none.contains("message"), "{none}");
}

#[tokio::test]
async fn a_filtered_subscriber_resumes_from_what_it_passed_over() {
    let mut server = Server::start(Policy::default()).await;
    let options =
        crate::net::StreamOptions { heartbeat: Some(std::time::Duration::from_millis(50)), ..options() };
    let ring = server.mount("app", bounds(10), options, Arc::new(Plain));
    let mut client = server.get("/app/stream?include=never", "").await;
    client.until_has("hello").await;
    say(&ring, ["a", "b", "c"]);
    client.until_has(&format!(":hb\nid: {}\n\n", ring.epoch().id(3))).await;
}

#[tokio::test]
async fn a_line_cannot_forge_fields_or_events() {
    let mut server = Server::start(Policy::default()).await;
    let ring = server.mount("app", bounds(10), options(), Arc::new(RawOwn));
    let hostile = "x\r\n\r\nevent: bye\rdata: forged\nid: forged\n\n";
    say(&ring, [hostile, "next"]);
    let mut client = server.get("/app/stream?tail=9", "").await;
    let rows = client.until_rows(2).await;
    assert_eq!(rows[0].data, "x\n\nevent: bye\ndata: forged\nid: forged\n\n");
    assert_eq!((rows[1].data.as_str(), rows[1].seq()), ("next", 2));
    assert_eq!(client.events().iter().filter(|e| e.kind == "bye").count(), 0);
}

#[tokio::test]
async fn negotiates_and_lets_format_override() {
    let (server, ring) = Server::with_app(10).await;
    say(&ring, ["a \"b\"", "c"]);
    let sse = "text/event-stream";
    for (accept, query, expected) in [
        ("", "", sse),
        ("accept: */*\r\n", "", sse),
        ("accept: text/html, */*;q=0.8\r\n", "", sse),
        ("accept: application/x-ndjson\r\n", "", "application/x-ndjson"),
        ("accept: text/plain\r\n", "", "text/plain"),
        ("accept: text/plain;q=0.5, application/x-ndjson\r\n", "", "application/x-ndjson"),
        ("accept: */*, application/x-ndjson\r\n", "", "application/x-ndjson"),
        ("accept: */*, text/plain;q=0.1\r\n", "", sse),
        ("accept: text/event-stream;q=0, */*\r\n", "", "application/x-ndjson"),
        ("accept: text/event-stream; Q=0.2, text/*;q=0.3\r\n", "", "text/plain"),
        ("accept: application/json;q=0.9\r\naccept: text/event-stream\r\n", "", sse),
        ("accept: \r\n", "", sse),
        ("accept: text/event-stream\r\n", "&format=raw", "text/plain"),
        ("accept: image/png\r\n", "&format=ndjson", "application/x-ndjson"),
    ] {
        let mut client = server.get(&format!("/app/stream?tail=2&limit=2{query}"), accept).await;
        let text = client.finish().await;
        assert!(text.contains(&format!("content-type: {expected}")), "{accept}{query}: {text}");
        let rows = String::from_utf8(dechunk(body(text.as_bytes()))).unwrap();
        match expected {
            "text/plain" => assert_eq!(rows, "a \"b\"\nc\n"),
            "application/x-ndjson" => {
                assert_eq!(rows, "{\"n\":0,\"message\":\"a \\\"b\\\"\"}\n{\"n\":1,\"message\":\"c\"}\n");
            }
            _ => assert!(rows.starts_with("retry: 3000\n:hb\n\n"), "{rows}"),
        }
    }
    let refused =
        server.get("/app/stream", "accept: image/png\r\nconnection: close\r\n").await.finish().await;
    assert!(refused.starts_with("HTTP/1.1 406") && refused.contains("problem+json"), "{refused}");
}

#[tokio::test]
async fn fields_choose_keys_in_the_asked_order() {
    let (server, ring) = Server::with_app(10).await;
    say(&ring, ["a", "b"]);
    let text =
        server.get("/app/stream?tail=2&limit=2&format=ndjson&fields=message,nope,n", "").await.finish().await;
    assert_eq!(dechunk(body(text.as_bytes())), b"{\"message\":\"a\",\"n\":0}\n{\"message\":\"b\",\"n\":1}\n");
    let text = server.get("/app/stream?tail=1&limit=1&format=ndjson&fields=nope", "").await.finish().await;
    assert_eq!(dechunk(body(text.as_bytes())), b"{}\n");
}

#[tokio::test]
async fn several_streams_on_one_connection_resume_together() {
    let mut server = Server::start(Policy::default()).await;
    let rings = ["a", "b"].map(|name| server.mount(name, bounds(100), options(), Arc::new(Plain)));
    for (n, ring) in rings.iter().cycle().take(20).enumerate() {
        say(ring, [format!("{n}.0"), format!("{n}.1")]);
    }
    let (mut last, mut seen) = (String::new(), Vec::new());
    for round in 0..5 {
        let headers = if round == 0 { String::new() } else { format!("last-event-id: {last}\r\n") };
        let mut client = server.get("/_stream?p=a,b&tail=100&limit=8", &headers).await;
        client.finish().await;
        for event in client.events().into_iter().filter(|e| e.kind.is_empty()) {
            let row = event.json();
            seen.push((
                row["pipeline"].as_str().unwrap().to_owned(),
                row["message"].as_str().unwrap().to_owned(),
            ));
            last = event.id;
        }
        assert!(client.events().iter().all(|e| e.kind != "gap"));
    }
    assert_eq!(seen.len(), 40);
    for (start, name) in ["a", "b"].iter().enumerate() {
        let of: Vec<_> = seen.iter().filter(|(p, _)| p == name).map(|(_, m)| m.clone()).collect();
        let expected: Vec<_> =
            (start..20).step_by(2).flat_map(|n| [format!("{n}.0"), format!("{n}.1")]).collect();
        assert_eq!(of, expected);
    }
    let text = server.get("/_stream?p=b,a&tail=1&limit=2&format=ndjson&fields=nope", "").await.finish().await;
    assert_eq!(dechunk(body(text.as_bytes())), b"{\"pipeline\":\"b\"}\n{\"pipeline\":\"a\"}\n");
}

#[tokio::test]
async fn a_thousand_subscribers_share_one_encoding() {
    let (server, ring) = Server::with_app(10).await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(server.get("/app/stream", "").await);
    }
    for client in &mut clients {
        client.until_has("hello").await;
    }
    for batch in 0..20 {
        ring.append(&Batch::from_lines("t", (0..50).map(|n| format!("{batch}.{n}"))));
    }
    for client in &mut clients {
        let rows = client.until_rows(1000).await;
        assert!(rows.iter().map(Event::seq).eq(1..=1000));
    }
    assert_eq!(ring.encoded_batches(), 20);
}
