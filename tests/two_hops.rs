//! weir to weir over HTTP: a file, an `http_client` sink, an `http` source, a file. Either end is killed again and
//! again while lines are written, and every line arrives at least once.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use logweir::base::rng::Rng;
use support::weir::{Place, Weir};
use support::{eventually, free_port};

const ROUNDS: u64 = 8;
const LINES_PER_ROUND: u64 = 1500;

/// The first hop reads a file and sends it on.
fn sender(place: &Place, to: u16, more: &str) -> Weir {
    place.start(&format!(
        r#"
        shutdown_timeout = "20s"
        [[pipelines]]
        name = "first"
        [[pipelines.sources]]
        type = "file"
        path = "DIR/in.log"
        [[pipelines.sinks]]
        type = "http_client"
        url = "http://127.0.0.1:{to}/ingest"
        format = {{ type = "raw" }}
        batch = {{ max_events = 200, max_wait = "20ms" }}
        retry = {{ max_delay = "500ms" }}
        {more}
        "#
    ))
}

/// The second takes it in and writes it down.
fn receiver(place: &Place, port: u16) -> Weir {
    place.start(&format!(
        r#"
        shutdown_timeout = "20s"
        [[pipelines]]
        name = "second"
        [[pipelines.sources]]
        type = "http"
        listen = "127.0.0.1:{port}"
        [[pipelines.sinks]]
        type = "file"
        path = "DIR/out.log"
        "#
    ))
}

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|n| format!("line {n:08} with some text to look like a log, end\n")).collect()
}

/// How often each line arrived, whole.
fn arrived(place: &Place) -> HashMap<u64, u64> {
    let mut seen = HashMap::new();
    for line in String::from_utf8_lossy(&place.read("out.log")).lines() {
        let number =
            line.strip_prefix("line ").filter(|l| l.ends_with("log, end")).and_then(|l| l[..8].parse().ok());
        if let Some(number) = number {
            *seen.entry(number).or_insert(0) += 1;
        }
    }
    seen
}

#[test]
fn nothing_is_lost_when_either_end_is_killed() {
    let (first, second, port) = (Place::new(), Place::new(), free_port());
    let mut rng = Rng::from_entropy();
    let mut ends = (sender(&first, port, "compression = \"zstd\""), receiver(&second, port));
    for round in 0..ROUNDS {
        // In three pieces, so that something is on its way whenever the blow falls.
        for piece in 0..3 {
            let from = round * LINES_PER_ROUND + piece * LINES_PER_ROUND / 3;
            first.append("in.log", lines(from..from + LINES_PER_ROUND / 3));
            std::thread::sleep(Duration::from_millis(rng.below(150)));
        }
        if round % 2 == 0 {
            ends.1.signal("KILL");
            ends.1.wait();
            std::thread::sleep(Duration::from_millis(rng.below(300)));
            ends.1 = receiver(&second, port);
        } else {
            ends.0.signal("KILL");
            ends.0.wait();
            ends.0 = sender(&first, port, "compression = \"gzip\"\nconcurrency = 4");
        }
    }
    let total = ROUNDS * LINES_PER_ROUND;
    let seen = eventually("every line arrives", || {
        let seen = arrived(&second);
        (seen.len() as u64 == total).then_some(seen)
    });
    let repeats: u64 = seen.values().map(|n| n - 1).sum();
    println!("{total} lines over {ROUNDS} kills, {repeats} repeated");
    ends.0.stop();
    ends.1.stop();
    assert_eq!(arrived(&second).len() as u64, total);
}

#[test]
fn an_orderly_end_of_either_repeats_nothing() {
    let (first, second, port) = (Place::new(), Place::new(), free_port());
    let mut there = receiver(&second, port);
    there.wait_ready();
    for round in 0..3 {
        let here = sender(&first, port, "concurrency = 1");
        first.append("in.log", lines(round * 1000..(round + 1) * 1000));
        eventually("the lines arrive", || {
            (arrived(&second).len() as u64 == (round + 1) * 1000).then_some(())
        });
        here.stop();
        there.stop();
        there = receiver(&second, port);
        there.wait_ready();
    }
    let text = second.read("out.log");
    assert_eq!(String::from_utf8_lossy(&text), lines(0..3000), "in order, once each");
}
