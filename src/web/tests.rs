//! The interface over a real socket, with a board as the engine would publish it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Api;
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::config::ComponentKind;
use crate::flow::{Board, ComponentEntry, Health, Lag, Meter, PipelineEntry, Reason, Shared, Site, State};
use crate::net::{Entrance, Policy, Router, bind, serve};

struct Server {
    address: std::net::SocketAddr,
    board: Arc<Board>,
    shutdown: Shutdown,
}

/// Two pipelines; `app` has a sink that was given 10 rows, delivered 6, filtered 1 and dropped 3.
async fn server() -> Server {
    let shared = Shared::default();
    let board = shared.get::<Board>();
    let meter = Arc::<Meter>::default();
    meter.received(10, 100);
    meter.delivered(6, 60);
    meter.filtered(1);
    meter.dropped(Reason::Oversize, 3);
    let site = Site { pipeline: "app".into(), kind: ComponentKind::Sink, index: 0, type_name: "null" };
    let sink = ComponentEntry {
        site: Arc::new(site),
        meter,
        health: Arc::new(Health::default()),
        buffer: None,
        capacity: None,
    };
    sink.health.set(State::Ready);
    let pipeline =
        |name: &str, components| PipelineEntry { name: name.into(), meter: Arc::default(), components };
    board.publish(vec![pipeline("app", vec![sink]), pipeline("billing", Vec::new())]);
    let (router, shutdown) = (shared.get::<Router>(), Shutdown::new());
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let api = Arc::new(Api::new(&shared, shutdown.clone()));
    drop(task::spawn(serve(
        Entrance::open(listener).unwrap(),
        router,
        api,
        Policy::default(),
        Shutdown::new(),
    )));
    Server { address, board, shutdown }
}

/// Status, headers in lower case, body.
async fn ask(server: &Server, method: &str, target: &str) -> (u16, HashMap<String, String>, String) {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|l| l.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned()));
    (status, headers.collect(), body.to_owned())
}

async fn json(server: &Server, target: &str) -> serde_json::Value {
    serde_json::from_str(&ask(server, "GET", target).await.2).unwrap()
}

#[tokio::test]
async fn status_counts_by_pipeline_and_component() {
    let server = server().await;
    let status = json(&server, "/status").await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["uptime_seconds"].as_f64().unwrap() >= 0.0);
    let component = &status["pipelines"][0]["components"][0];
    for (key, expected) in
        [("received", 10), ("delivered", 6), ("filtered", 1), ("dropped_total", 3), ("queued", 0)]
    {
        assert_eq!(component[key], expected, "{key}");
    }
    assert_eq!(component["dropped"], serde_json::json!({ "oversize": 3 }));
    assert_eq!((&component["id"], &component["state"]), (&"app.sink.0.null".into(), &"ready".into()));
    assert_eq!(json(&server, "/app/status").await, status["pipelines"][0]);
}

#[tokio::test]
async fn how_far_a_source_is_behind_its_files_is_said_where_it_follows_any() {
    let server = server().await;
    let before = ask(&server, "GET", "/metrics").await.2;
    assert!(before.contains("# TYPE weir_files_behind_bytes gauge") && !before.contains("weir_files_open{"));
    assert!(json(&server, "/app/status").await["components"][0].get("files").is_none());
    let lag = Lag { behind_bytes: 4711, files: 3, open: 2 };
    server.board.pipelines()[0].components[0].meter.set_lag(lag);
    let files = json(&server, "/app/status").await["components"][0]["files"].clone();
    assert_eq!(files, serde_json::json!({ "followed": 3, "open": 2, "behind_bytes": 4711 }));
    let text = ask(&server, "GET", "/metrics").await.2;
    for (name, value) in [("behind_bytes", 4711), ("followed", 3), ("open", 2)] {
        let labels = r#"{pipeline="app",component="app.sink.0.null",type="null"}"#;
        let line = format!("weir_files_{name}{labels} {value}");
        assert!(text.lines().any(|l| l == line), "{line} is missing: {text}");
    }
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let server = server().await;
    let (status, headers, text) = ask(&server, "GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(headers["content-type"].starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(text.ends_with("# EOF\n"), "{text}");
    let labels = r#"{pipeline="app",component="app.sink.0.null",type="null""#;
    for line in [
        "# TYPE weir_received_events counter".to_owned(),
        format!("weir_received_events_total{labels}}} 10"),
        format!("weir_dropped_events_total{labels},reason=\"oversize\"}} 3"),
        format!("weir_dropped_events_total{labels},reason=\"fault\"}} 0"),
        format!("weir_queued_events{labels}}} 0"),
        format!("weir_component_ready{labels}}} 1"),
        format!("weir_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing: {text}");
    }
}

#[tokio::test]
async fn readiness_tells_why_not() {
    let server = server().await;
    assert_eq!(ask(&server, "GET", "/readyz").await.0, 200);
    let component = server.board.pipeline("app").unwrap().components[0].clone();
    component.health.set(State::Restarting { why: "no such host".into() });
    let (status, _, body) = ask(&server, "GET", "/readyz").await;
    assert!(status == 503 && body.contains("no such host") && body.contains("app.sink.0.null"), "{body}");
    assert_eq!(ask(&server, "GET", "/healthz").await.0, 200);
    component.health.set(State::Ready);
    server.shutdown.drain();
    let (status, _, body) = ask(&server, "GET", "/readyz").await;
    assert!(status == 503 && body.contains("shutting down"), "{body}");
    assert_eq!(json(&server, "/status").await["ready"], false, "both say the same");
}

#[tokio::test]
async fn unknown_names_are_answered_with_known_ones() {
    let server = server().await;
    let (status, headers, body) = ask(&server, "GET", "/biling/stream").await;
    assert_eq!((status, headers["content-type"].as_str()), (404, "application/problem+json"));
    let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["pipelines"], serde_json::json!(["app", "billing"]));
    assert_eq!(problem["hint"], "did you mean `billing`?");
    for (method, target, expected) in [
        ("GET", "/app/nothing", 404),
        ("GET", "/app/stream", 404),
        ("GET", "/_assets/../status", 400),
        ("GET", "/_assets/nothing.js", 404),
        ("POST", "/status", 405),
        ("DELETE", "/", 405),
        ("HEAD", "/", 200),
        ("OPTIONS", "/status", 204),
    ] {
        assert_eq!(ask(&server, method, target).await.0, expected, "{method} {target}");
    }
    let (status, headers, _) = ask(&server, "GET", "/app").await;
    assert_eq!((status, headers["location"].as_str()), (308, "app/"));
}

#[tokio::test]
async fn pages_are_served_under_a_strict_policy() {
    let server = server().await;
    let (_, _, page) = ask(&server, "GET", "/").await;
    let assets = page.split("\"./").nth(1).unwrap().split("/app.css").next().unwrap();
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/assets")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| !name.ends_with(".json") && !name.ends_with(".html"));
    let mut targets: Vec<String> = names.map(|name| format!("/{assets}/{name}")).collect();
    assert!(targets.len() > 20, "{targets:?}");
    targets.extend(["/".to_owned(), "/app/".to_owned()]);
    for target in targets {
        let target = target.as_str();
        let (status, headers, body) = ask(&server, "GET", target).await;
        assert_eq!(status, 200, "{target}");
        assert!(headers["content-security-policy"].starts_with("default-src 'none'; script-src 'self'"));
        assert_eq!(
            (headers["x-content-type-options"].as_str(), headers["referrer-policy"].as_str()),
            ("nosniff", "no-referrer")
        );
        // What the policy would block, and what would make markup of a log line.
        for forbidden in [
            "http://www.",
            "https://",
            "innerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            " style=",
            " onclick=",
        ] {
            assert!(
                !body.replace("http://www.w3.org/2000/svg", "").contains(forbidden),
                "{target}: {forbidden}"
            );
        }
    }
}

#[tokio::test]
async fn the_description_is_true() {
    let server = server().await;
    let document = json(&server, "/openapi.json").await;
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (path, item) in document["paths"].as_object().unwrap() {
        let method = if item["get"].is_null() { "post" } else { "get" };
        let target = path.replace("{pipeline}", "app");
        let (status, headers, _) = ask(&server, &method.to_uppercase(), &target).await;
        let answers = &item[method]["responses"];
        let answer = &answers[status.to_string()];
        assert!(!answer.is_null(), "{path}: {status}");
        if status == 200 {
            let kind = headers["content-type"].split(';').next().unwrap();
            assert!(!answer["content"][kind].is_null(), "{path}: {kind}");
        }
    }
}
