//! What every component of the registry owes, whoever wrote it: its example passes `check`, it becomes ready,
//! it drains in order, its accounts balance, and it survives a forced end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use logweir::base::shutdown::Shutdown;
use logweir::config::{ComponentKind, Diagnostics, Node, Origin};
use logweir::engine::{self, Plan, RunReport, Services};
use logweir::flow::{Board, Descriptor, Shared};
use logweir::registry::COMPONENTS;
use serde_json::{Value, json};

/// Somebody who takes every HTTP request, for as long as the test runs.
fn http_receiver() -> SocketAddr {
    fn take(stream: TcpStream) -> std::io::Result<()> {
        let (mut answers, mut requests) = (stream.try_clone()?, BufReader::new(stream));
        loop {
            let mut length = 0;
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if requests.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = n.trim().parse().expect("a length");
                }
            }
            std::io::copy(&mut requests.by_ref().take(length), &mut std::io::sink())?;
            answers.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        }
    }
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || take(stream));
            }
        });
        address
    })
}

/// The component's example as a section, with paths moved below `dir` and ports freed.
fn section(descriptor: &Descriptor, dir: &Path) -> Value {
    let table: toml::Table = toml::from_str(descriptor.example)
        .unwrap_or_else(|e| panic!("{descriptor:?}: the example is not TOML: {e}"));
    let mut value = serde_json::to_value(table).expect("TOML fits into JSON");
    contain(&mut value, dir);
    value
}

/// Somebody who takes what clients send, for as long as the tests run.
fn tcp_receiver() -> String {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    let listen = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                std::thread::spawn(move || std::io::copy(&mut connection, &mut std::io::sink()));
            }
        });
        address
    };
    ADDRESS.get_or_init(listen).clone()
}

fn contain(value: &mut Value, dir: &Path) {
    match value {
        Value::String(text) if text.starts_with('/') && !text.ends_with('/') => {
            *text = format!("{}{text}", dir.display());
        }
        Value::Array(items) => items.iter_mut().for_each(|v| contain(v, dir)),
        Value::Object(map) => {
            if let Some(listen) = map.get_mut("listen") {
                *listen = json!("127.0.0.1:0");
            }
            if let Some(url) = map.get_mut("url") {
                *url = json!(format!("http://{}/", http_receiver()));
            }
            if let Some(address) = map.get_mut("address") {
                *address = json!(tcp_receiver());
            }
            for (key, item) in map.iter_mut() {
                // Routes are not paths of this machine.
                if !key.ends_with("_path") && key != "pattern" {
                    contain(item, dir);
                }
            }
        }
        _ => {}
    }
}

/// A pipeline around the component, with whatever makes it whole.
fn config(descriptor: &Descriptor, dir: &Path) -> Value {
    let own = section(descriptor, dir);
    let rows = json!({"type": "generate", "events_per_second": 0.0, "count": 5000});
    let null = json!({"type": "null"});
    let (source, filters, sink) = match descriptor.kind() {
        ComponentKind::Source => (own, json!([]), null.clone()),
        ComponentKind::Filter => (rows, json!([own]), null.clone()),
        ComponentKind::Sink => (rows, json!([]), own),
    };
    let mut pipelines =
        vec![json!({"name": "subject", "sources": [source], "filters": filters, "sinks": [sink]})];
    if descriptor.name == "pipeline" {
        let other = match descriptor.kind() {
            ComponentKind::Source => json!({"name": "feeder",
                "sources": [{"type": "generate", "count": 100, "events_per_second": 0.0}],
                "sinks": [{"type": "pipeline", "name": "subject"}]}),
            _ => {
                json!({"name": pipelines[0]["sinks"][0]["name"], "sources": [{"type": "pipeline"}], "sinks": [{"type": "null"}]})
            }
        };
        pipelines.push(other);
    }
    json!({"server": {"enabled": false}, "shutdown_timeout": "5s", "pipelines": pipelines})
}

fn plan(descriptor: &Descriptor, dir: &Path) -> Plan {
    let tree = Node::from_json(&config(descriptor, dir), &Origin::Default).expect("an object");
    let mut diagnostics = Diagnostics::new();
    let plan = engine::plan(&tree, &mut diagnostics);
    plan.unwrap_or_else(|| panic!("{descriptor:?}: {:#?}", diagnostics.items()))
}

/// Runs the component's pipeline and stops it by `stop` once it has started.
fn run(descriptor: &'static Descriptor, stop: fn(&Shutdown)) -> (RunReport, Arc<Shared>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir_all(dir.path().join("var/log")).expect("writable");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (shared, shutdown) = (Arc::new(Shared::default()), Shutdown::new());
    let services = Services {
        shared: shared.clone(),
        state_dir: dir.path().join("state").as_path().into(),
        serve: Box::new(|_, _| Box::pin(std::future::ready(()))),
        load: None,
    };
    let plan = plan(descriptor, dir.path());
    let report = runtime.block_on(async {
        let stopper = shutdown.clone();
        let running = engine::run(plan, services, shutdown, move |_| {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(150));
                stop(&stopper);
            });
        });
        let ended = tokio::time::timeout(Duration::from_secs(20), running).await;
        ended.unwrap_or_else(|_| panic!("{descriptor:?}: did not end"))
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    (report.unwrap_or_else(|e| panic!("{descriptor:?}: {}", e.message)), shared)
}

fn assert_balanced(descriptor: &Descriptor, shared: &Shared) {
    for pipeline in shared.get::<Board>().pipelines().iter() {
        assert!(pipeline.meter.snapshot().balances(), "{descriptor:?}: {:#?}", pipeline.meter.snapshot());
        for component in &pipeline.components {
            let counts = component.meter.snapshot();
            assert!(counts.balances(), "{descriptor:?}, {}: {counts:#?}", component.site.id());
        }
    }
}

#[test]
fn every_component_drains_in_order_and_balances() {
    for descriptor in COMPONENTS {
        let (report, shared) = run(descriptor, Shutdown::drain);
        assert!(!report.forced, "{descriptor:?} did not drain within the deadline");
        assert_eq!(report.undelivered_events, 0, "{descriptor:?}");
        assert_balanced(descriptor, &shared);
        let failed: Vec<_> = shared.get::<Board>().not_ready();
        assert!(failed.is_empty(), "{descriptor:?}: {failed:?}");
    }
}

#[test]
fn every_component_survives_a_forced_end() {
    for descriptor in COMPONENTS {
        let (_, shared) = run(descriptor, Shutdown::abort);
        assert_balanced(descriptor, &shared);
    }
}

#[test]
fn names_are_unique_and_summaries_are_lines() {
    for (i, descriptor) in COMPONENTS.iter().enumerate() {
        let twin = COMPONENTS[..i].iter().any(|d| (d.name, d.kind()) == (descriptor.name, descriptor.kind()));
        assert!(!twin, "{descriptor:?} is there twice");
        let summary = descriptor.summary;
        assert!(
            !summary.is_empty() && !summary.contains('\n') && !summary.ends_with('.'),
            "{descriptor:?}: {summary:?}"
        );
    }
}
