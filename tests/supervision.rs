//! Faults at the start and later, from outside: said once, with the right exit code, and seen in status and metrics.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::weir::Place;
use support::{eventually, http};

#[test]
fn a_taken_port_of_a_sink_ends_the_start_and_is_said_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for kind in ["tcp", "http"] {
        let place = Place::new();
        place.write(
            "pipelines.toml",
            format!(
                "server.enabled = false\n[[pipelines]]\nname = \"app\"\n[[pipelines.sources]]\ntype = \"generate\"\n[[pipelines.sinks]]\ntype = \"{kind}\"\nlisten = \"{address}\"\n"
            ),
        );
        let end = place.run(&["run"]);
        assert_eq!(end.code, 69, "{end:?}");
        assert_eq!(end.stderr.matches(&address).count(), 1, "said once: {}", end.stderr);
        assert!(end.stderr.contains("address in use"), "{}", end.stderr);
    }
}

#[test]
fn restarts_and_the_last_error_are_in_status_and_metrics() {
    let place = Place::new();
    let weir = place.start(
        "[[pipelines]]\nname = \"app\"\n[[pipelines.sources]]\ntype = \"directory\"\npath = \"DIR/missing\"\n[[pipelines.sinks]]\ntype = \"null\"\n",
    );
    let id = "app.source.0.directory";
    let failed = eventually("it was started again", || {
        let (code, _) = http::get(&weir.authority(), "/status")?;
        let status = (code == 200).then(|| weir.component("app", id))?;
        (status["restarts"].as_u64().unwrap() >= 1).then_some(status)
    });
    assert!(failed["last_error"]["why"].as_str().unwrap().contains("cannot read the directory"), "{failed}");
    std::fs::create_dir(place.path("missing")).unwrap();
    let mended = eventually("it is at work", || {
        let status = weir.component("app", id);
        (status["state"] == "ready").then_some(status)
    });
    assert!(mended["last_error"]["at"].as_str().unwrap().starts_with("20"), "it stays known: {mended}");
    let (_, metrics) = http::get(&weir.authority(), "/metrics").unwrap();
    let value = |name: &str| {
        let line = metrics.lines().find(|l| l.starts_with(name) && l.contains(id));
        line.and_then(|l| l.rsplit_once(' ')).map(|(_, n)| n.parse::<f64>().unwrap())
    };
    assert!(value("weir_restarts_total").unwrap() >= 1.0);
    assert!(value("weir_component_last_error_timestamp_seconds").unwrap() > 1e9);
    let said = weir.errors().matches("cannot read the directory").count();
    assert!(said <= 2, "the same reason once a minute: {}", weir.errors());
    weir.stop();
}
