//! The engine on small plans: what is refused, what runs, how it ends, and that the accounts balance.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::base::shutdown::Shutdown;
use crate::config::{Diagnostics, Node, Origin};
use crate::flow::{Board, Shared};

pub(super) fn planned(config: &serde_json::Value) -> Result<Plan, Vec<String>> {
    let tree = Node::from_json(config, &Origin::Default).unwrap();
    let mut diagnostics = Diagnostics::new();
    plan(&tree, &mut diagnostics)
        .ok_or_else(|| diagnostics.items().iter().map(|d| d.message.clone()).collect())
}

pub(super) fn services(shared: &Arc<Shared>) -> Services {
    let state_dir = std::env::temp_dir().as_path().into();
    let serve =
        Box::new(|_, _| Box::pin(std::future::ready(())) as futures_util::future::BoxFuture<'static, ()>);
    Services { shared: shared.clone(), state_dir, serve, load: None }
}

fn generate(count: u64) -> serde_json::Value {
    json!({"type": "generate", "events_per_second": 0.0, "count": count})
}

#[tokio::test]
async fn a_plan_runs_to_its_end_and_balances() {
    let config = json!({
        "server": {"enabled": false},
        "pipelines": [{
            "name": "a",
            "rate_limit": {"events_per_second": 1000.0, "burst": 5000, "policy": "drop"},
            "sources": [generate(10_000), generate(7_000)],
            "filters": [{"type": "sample", "one_in": 3}],
            "sinks": [{"type": "null"}, {"type": "null", "filters": [{"type": "sample", "one_in": 2}]}],
        }],
    });
    let shared = Arc::new(Shared::default());
    let report =
        run(planned(&config).ok().unwrap(), services(&shared), Shutdown::new(), |_| {}).await.unwrap();
    assert_eq!(report, RunReport::default());
    let board = shared.get::<Board>();
    let pipeline = board.pipeline("a").unwrap();
    let entrance = pipeline.meter.snapshot();
    assert_eq!(entrance.received_events, 17_000);
    assert!(entrance.dropped_total() > 0 && entrance.balances());
    for component in &pipeline.components {
        assert!(component.meter.snapshot().balances(), "{}", component.site.id());
    }
    let sinks: Vec<u64> =
        pipeline.components.iter().rev().take(2).map(|c| c.meter.snapshot().delivered_events).collect();
    assert_eq!((sinks[1], sinks[0]), (entrance.delivered_events, entrance.delivered_events.div_ceil(2)));
}

#[tokio::test]
async fn shutdown_stops_endless_sources_and_empties_the_flow() {
    let endless = json!({"type": "generate", "events_per_second": 0.0});
    let config = json!({
        "server": {"enabled": false},
        "pipelines": [{"name": "a", "sources": [endless], "sinks": [{"type": "null"}]}],
    });
    let (shared, shutdown) = (Arc::new(Shared::default()), Shutdown::new());
    let stop = shutdown.clone();
    let run = run(planned(&config).ok().unwrap(), services(&shared), shutdown, move |_| {
        crate::base::task::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            stop.drain();
        });
    });
    let report = tokio::time::timeout(Duration::from_secs(5), run).await.unwrap().unwrap();
    assert!(!report.forced);
    let entrance = shared.get::<Board>().pipeline("a").unwrap().meter.snapshot();
    assert!(entrance.received_events > 0 && entrance.balances() && entrance.dropped_total() == 0);
}

#[test]
fn what_cannot_run_is_refused_with_every_reason() {
    let why = |config| planned(&config).err().unwrap_or_default().join("\n");
    assert!(why(json!({})).contains("no pipelines"));
    assert!(
        !why(json!({"pipelines": {"name": "a"}})).contains("no pipelines"),
        "they are there, but no array"
    );
    let text = why(json!({"pipelines": [
        {"name": "a", "sources": [{"type": "genrate"}], "sinks": []},
        {"name": "a", "sources": [{"type": "generate", "kindd": "app"}], "sinks": [{"type": "null"}]},
    ]}));
    for part in ["unknown source type `genrate`", "has no sinks", "kindd", "`a`"] {
        assert!(text.contains(part), "{part} missing in\n{text}");
    }
    assert!(why(json!({"server": {"listen": "0.0.0.0:80"}, "pipelines": []})).contains("without a guard"));
}

#[tokio::test]
async fn a_taken_port_is_a_clear_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = json!({
        "server": {"listen": address},
        "pipelines": [{"name": "a", "sources": [generate(1)], "sinks": [{"type": "null"}]}],
    });
    let shared = Arc::new(Shared::default());
    let error =
        run(planned(&config).ok().unwrap(), services(&shared), Shutdown::new(), |_| {}).await.unwrap_err();
    assert_eq!((error.exit_code, error.message), (69, format!("cannot listen on {address}: address in use")));
    assert!(error.hint.is_some());
}
