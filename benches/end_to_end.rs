//! A whole run: the engine reads a file of 64 MiB and writes it to a file, untouched, filtered, and as JSON.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use logweir::base::shutdown::Shutdown;
use logweir::config::{Diagnostics, Node, Origin};
use logweir::engine::{self, Services};
use logweir::flow::Shared;
use serde_json::{Value, json};

const INPUT_BYTES: usize = 64 << 20;

/// Writes application log lines of about 110 bytes; returns how many bytes.
fn write_input(path: &Path) -> u64 {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).expect("writable"));
    let (mut n, mut bytes) = (0u64, 0);
    while bytes < INPUT_BYTES {
        let level = ["INFO", "INFO", "INFO", "DEBUG", "ERROR"][n as usize % 5];
        let line = format!(
            "2026-11-20 10:11:12.{:03} {level} [cart-3] cart - request completed id={n} ip=10.1.2.3 took={}ms\n",
            n % 1000,
            n % 3000
        );
        file.write_all(line.as_bytes()).expect("writable");
        bytes += line.len();
        n += 1;
    }
    file.flush().expect("writable");
    bytes as u64
}

/// Runs one pipeline over the input until all of it has been read, and drains it.
fn run(dir: &Path, expected: u64, filters: &Value, format: &str) {
    let out = dir.join("out.log");
    drop(std::fs::remove_file(&out));
    let config = json!({
        "server": {"enabled": false},
        "pipelines": [{
            "name": "bench",
            "sources": [{"type": "file", "path": dir.join("in.log")}],
            "filters": filters,
            "sinks": [{"type": "file", "path": out, "format": {"type": format}}],
        }],
    });
    let mut diagnostics = Diagnostics::new();
    let tree = Node::from_json(&config, &Origin::Default).expect("an object");
    let plan = engine::plan(&tree, &mut diagnostics).expect("a plan");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (shared, shutdown) = (Arc::new(Shared::default()), Shutdown::new());
    let services = Services {
        shared: shared.clone(),
        // An empty state directory keeps no checkpoints: every run reads from the start.
        state_dir: Path::new("").into(),
        serve: Box::new(|_, _| Box::pin(std::future::ready(()))),
        load: None,
    };
    runtime.block_on(async {
        let stop = shutdown.clone();
        let watch = logweir::base::task::spawn(async move {
            let board = shared.get::<logweir::flow::Board>();
            let read = || board.pipeline("bench").map_or(0, |p| p.meter.snapshot().received_bytes);
            while read() < expected {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stop.drain();
        });
        engine::run(plan, services, shutdown, |_| {}).await.expect("a run");
        watch.await.expect("the watcher ends");
    });
}

fn end_to_end(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let bytes = write_input(&dir.path().join("in.log"));
    let newlines =
        std::fs::read(dir.path().join("in.log")).expect("readable").iter().filter(|b| **b == b'\n').count();
    let expected = bytes - newlines as u64;
    let include = json!([{"type": "include", "patterns": ["ERROR|WARN"]}]);
    let mut group = c.benchmark_group("file_to_file");
    group.throughput(Throughput::Bytes(bytes)).sample_size(10);
    group.bench_function("raw", |b| b.iter(|| run(dir.path(), expected, &json!([]), "raw")));
    group.bench_function("include", |b| b.iter(|| run(dir.path(), expected, &include, "raw")));
    group.bench_function("json", |b| b.iter(|| run(dir.path(), expected, &json!([]), "json")));
    group.finish();
}

criterion_group!(benches, end_to_end);
criterion_main!(benches);
